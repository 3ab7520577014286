"""What leaves the event loop, from wherever an app can run code. ``HOW`` says by which of the ways it does."""

import asyncio
import atexit
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from adapter import BlockingResponseStream, ResponseStream, StreamingAdapter, streamify
from record import record

HOW = os.environ.get("HOW", "exit")
loops: list[asyncio.AbstractEventLoop] = []
released = threading.Event()


def leave() -> None:
    match HOW:
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "stop":
            loops[0].call_soon_threadsafe(loops[0].stop)
            time.sleep(0.05)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    loops.append(asyncio.get_running_loop())
    await anyio.to_thread.run_sync(int)
    if os.environ.get("AT") == "startup":
        leave()
    jobs: asyncio.Queue[None] = asyncio.Queue()

    async def consumer() -> None:
        await jobs.get()
        leave()

    task = asyncio.create_task(consumer())
    yield {"jobs": jobs}
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def in_a_task_of_its_own(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """By BaseHTTPMiddleware, which runs what is beneath it in a task group."""
    return await call(request)


bare = FastAPI(lifespan=lifespan)


@app.get("/fine")
@bare.get("/fine")
def fine() -> str:
    return "fine"


@app.get("/thread")
@bare.get("/thread")
def thread() -> None:
    leave()


@app.get("/after-a-thread")
@bare.get("/after-a-thread")
async def after_a_thread() -> None:
    await anyio.to_thread.run_sync(int)
    leave()
    await asyncio.sleep(10)


@app.get("/background")
@bare.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(leave)
    return "answered"


@app.get("/task")
@bare.get("/task")
async def task() -> None:
    async def leaves() -> None:
        await asyncio.sleep(0)
        leave()

    leaving = asyncio.create_task(leaves())
    await asyncio.sleep(10)
    await leaving


@app.get("/generator")
@bare.get("/generator")
async def generator() -> StreamingResponse:
    def pieces() -> Iterator[str]:
        yield "part"
        leave()
        yield "more"

    return StreamingResponse(pieces())


@app.get("/consumer")
@bare.get("/consumer")
async def consumer(request: Request) -> None:
    request.state.jobs.put_nowait(None)
    await asyncio.sleep(10)


@app.get("/beside-a-thread")
@bare.get("/beside-a-thread")
async def beside_a_thread() -> None:
    """The thread waits for what never comes."""
    asyncio.get_running_loop().run_in_executor(None, released.wait)
    leave()
    await asyncio.sleep(10)


@app.get("/closes")
@bare.get("/closes")
async def closes_all_files() -> None:
    """Also those of the event loop."""
    os.closerange(3, 256)
    await asyncio.sleep(10)


@app.get("/waits")
@bare.get("/waits")
def waits() -> None:
    record("waiting")
    released.wait(30)


@app.get("/blocks")
@bare.get("/blocks")
async def blocks() -> None:
    record("waiting")
    released.wait(30)


@app.get("/goes-on")
@bare.get("/goes-on")
async def goes_on() -> str:
    record("begun")
    await asyncio.to_thread(record, "goes on")
    return "went on"


def slow_goodbye() -> None:
    time.sleep(1)
    record("goodbye")


if os.environ.get("OWN"):
    signal.signal(signal.SIGINT, lambda number, frame: record("own"))
if os.environ.get("GOODBYE"):
    atexit.register(slow_goodbye)

handler = StreamingAdapter(bare)
with_middleware = StreamingAdapter(app)


def on_event(event: Any, context: Any) -> None:
    leave()


events = StreamingAdapter(bare, event_handler=on_event)


@functools.wraps(events)
def decorated_events(event: Any, context: Any) -> Any:
    return events(event, context)


@streamify
def streamed_in_a_thread(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    loops[:] = [events._home.loop]
    response_stream.write("part")
    leave()
    response_stream.write("more")


@streamify
async def streamed(event: Any, response_stream: ResponseStream, context: Any) -> None:
    await response_stream.write("part")
    leave()
    await asyncio.sleep(10)


@streamify
def generated(event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[str]:
    yield "part"
    leave()
    yield "more"


def plain(event: Any, context: Any) -> None:
    leave()
    time.sleep(10)

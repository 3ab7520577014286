"""Work that goes on after the response, begun in every way there is; and apps that take too long."""

import asyncio
import concurrent.futures
import contextvars
import logging
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
from anyio.abc import TaskGroup
from fastapi import BackgroundTasks, FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from adapter import (
    BackgroundFailure,
    Executor,
    StreamingAdapter,
    current_invocation,
    remaining_time,
    streamify,
    wait_until,
)
from record import record

logging.getLogger().setLevel(logging.INFO)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with anyio.create_task_group() as group, asyncio.TaskGroup() as native:
        yield {"group": group, "native": native}


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


app = FastAPI(lifespan=lifespan, middleware=[Middleware(Passing)] if os.environ.get("MIDDLEWARE") else [])
kept: set[asyncio.Task[None]] = set()
executor = Executor(max_workers=2)
pool = concurrent.futures.ThreadPoolExecutor(1)


async def later(name: str = "later") -> None:
    await asyncio.sleep(0.05)
    record(name)


async def endless() -> None:
    await asyncio.Event().wait()


async def failing(delay: float = 0.05) -> None:
    await asyncio.sleep(delay)
    raise LookupError("\udcff nothing there")


async def parent() -> None:
    await asyncio.create_task(later("child"))
    asyncio.get_running_loop().create_task(later("grandchild"))
    record("parent")


@app.get("/pid")
async def pid() -> int:
    return os.getpid()


@app.get("/tasks")
async def tasks() -> str:
    for work in (later("first"), parent()):
        kept.add(asyncio.ensure_future(work))
    return "begun"


@app.get("/endless")
async def starts_endless() -> str:
    for _ in range(2):
        kept.add(asyncio.create_task(endless()))
    return "begun"


released = asyncio.Event()


async def held() -> None:
    await released.wait()
    await asyncio.sleep(0.01)
    record("held")


async def held_and_failing() -> None:
    await released.wait()
    raise LookupError("too late")


@app.get("/held/failing")
async def starts_held_and_failing() -> str:
    kept.add(asyncio.create_task(held_and_failing()))
    return "begun"


@app.get("/let-go")
async def let_go() -> str:
    released.set()
    await asyncio.sleep(0.01)
    kept.clear()
    return "let go"


@app.get("/held")
async def starts_held() -> str:
    kept.add(asyncio.create_task(held()))
    return "begun"


@app.get("/held/several")
async def starts_several_held() -> str:
    kept.update(asyncio.create_task(held()) for _ in range(2))
    return "begun"


@app.get("/release")
async def release(held_too: Annotated[bool, Query(alias="held")] = False) -> str:
    released.set()
    for task in kept:
        wait_until(task)
    kept.clear()
    if held_too:
        kept.add(asyncio.create_task(held()))
    return "released"


@app.get("/lifespan")
async def in_the_groups_of_the_lifespan(request: Request) -> str:
    group: TaskGroup = request.state.group
    native: asyncio.TaskGroup = request.state.native

    async def with_children() -> None:
        async with anyio.create_task_group() as inner:
            inner.start_soon(endless)
            kept.add(asyncio.create_task(endless()))

    group.start_soon(with_children)
    native.create_task(endless())
    await asyncio.sleep(0.01)
    return "begun"


async def with_a_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(later, "grouped")


@app.get("/group")
async def in_a_group_of_its_own() -> str:
    kept.add(asyncio.create_task(with_a_group()))
    return "begun"


@app.get("/until")
async def asked_to_wait() -> str:
    wait_until(later("coroutine"))
    wait_until(asyncio.ensure_future(later("future")))
    wait_until(pool.submit(record, "pool"))
    executor.submit(record, "executor")

    def in_thread() -> None:
        wait_until(later("from-a-thread"))
        wait_until(pool.submit(record, "from-a-thread-pool"))

    await asyncio.to_thread(in_thread)
    return "begun"


async def ended_by(task: asyncio.Task[None]) -> None:
    await asyncio.to_thread(record, "cancelling")
    task.cancel()


@app.get("/cancel")
async def cancels() -> str:
    task = asyncio.create_task(endless())
    kept.add(asyncio.create_task(ended_by(task), context=contextvars.copy_context()))
    kept.add(task)
    return "begun"


async def waits_for(task: asyncio.Task[None]) -> None:
    await task


@app.get("/twice")
async def fails_twice() -> str:
    task = asyncio.create_task(failing())
    wait_until(task)
    wait_until(waits_for(task))
    return "begun"


@app.get("/fail")
async def fails() -> str:
    kept.add(asyncio.create_task(failing()))
    asyncio.create_task(failing(0))
    await asyncio.sleep(0.01)
    wait_until(pool.submit(int, "pool"))
    executor.submit(int, "executor")
    return "begun"


async def refuse() -> None:
    record("background")
    raise ValueError("refused")


@app.get("/background")
async def fails_in_the_background(background: BackgroundTasks) -> str:
    background.add_task(later, "background")
    background.add_task(refuse)
    background.add_task(later, "not-begun")
    return "begun"


@app.get("/several")
async def several_failures(background: BackgroundTasks) -> str:
    kept.add(asyncio.create_task(failing()))
    background.add_task(refuse)
    return "begun"


@app.get("/handled")
async def handles_its_failures() -> str:
    results = await asyncio.gather(failing(0), failing(0), return_exceptions=True)
    return str(len(results))


@app.get("/error")
async def error() -> None:
    raise KeyError("no such thing")


async def long(seconds: float = 30) -> None:
    record("long")
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(0.01)
        record("cleaned")
        await asyncio.sleep(0.01)
        record("cleaned-up")


def long_in_thread() -> None:
    record("thread")
    time.sleep(float(os.environ.get("LONG", "2")))


async def stubborn() -> None:
    record("stubborn")
    while True:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            record("declined")


async def quits() -> None:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        record("quits")


@app.get("/slow/{what}")
async def slow(what: str, background: BackgroundTasks) -> Any:
    match what:
        case "background":
            background.add_task(long)
            background.add_task(later, "after-it")
        case "short":
            background.add_task(record, "short")
        case "thread":
            background.add_task(long_in_thread)
        case "stubborn":
            background.add_task(stubborn)
        case "task":
            kept.add(asyncio.create_task(long()))
        case "quits":
            kept.add(asyncio.create_task(quits()))
        case "until":
            wait_until(long())
            executor.submit(long_in_thread)
        case "route":
            await long()
        case "blocking-route":
            await asyncio.to_thread(long_in_thread)
        case "stream":
            return StreamingResponse(pieces(), background=BackgroundTask(later, "after-it"))
        case "events":
            return StreamingResponse(pieces(), media_type="text/event-stream")
        case "compressed":
            return StreamingResponse(pieces(), media_type="text/event-stream", headers={"content-encoding": "x"})
    return f"{remaining_time():.1f}"


async def pieces() -> AsyncIterator[bytes]:
    yield b"data: one\n\n"
    await long()


@app.get("/remaining")
async def remaining() -> dict[str, float]:
    figures = [remaining_time(), await asyncio.to_thread(remaining_time)]
    thread = threading.Thread(target=lambda: figures.append(remaining_time()))
    thread.start()
    thread.join()
    invocation = current_invocation()
    assert invocation is not None
    figures.append(invocation.context.get_remaining_time_in_millis() / 1000)
    return dict(zip(("here", "copied", "thread", "lambda"), figures, strict=True))


jobs: asyncio.Queue[asyncio.Future[dict[str, Any]]] = asyncio.Queue()


async def consumer() -> None:
    """Lives from the first request on, as an actor of a library does."""
    while True:
        answer = await jobs.get()
        wait_until(later("job"))
        executor.submit(record, "submitted")
        invocation = current_invocation()
        assert invocation is not None
        answer.set_result({"request_id": invocation.request_id, "left": remaining_time()})


@app.get("/consumer")
async def given_to_a_consumer() -> dict[str, Any]:
    if not kept:
        kept.add(asyncio.create_task(consumer()))
    answer = asyncio.get_running_loop().create_future()
    await jobs.put(answer)
    figures: dict[str, Any] = await answer
    return figures


failures: list[str] = []


def in_a_thread() -> None:
    record("hook" if threading.current_thread() is not threading.main_thread() else "hook-on-the-loop")


async def on_the_loop() -> None:
    record("async-hook")


def broken() -> None:
    raise OSError("hook broken")


def note(failure: BackgroundFailure) -> None:
    name = failure.name.replace(" ", "%20")
    record(f"{name}:{type(failure.exception).__name__}:{failure.seconds < 20}:{len(failure.request_id)}")


async def anote(failure: BackgroundFailure) -> None:
    note(failure)
    raise RuntimeError("the hook itself")


async def hanging() -> None:
    record("hanging")
    await asyncio.sleep(30 if remaining_time() < 10 else 0)


handler = StreamingAdapter(app, drain_timeout=0.3)
without = StreamingAdapter(app, drain_timeout=0)
hooked = StreamingAdapter(app, after_response=[in_a_thread, broken, on_the_loop, lambda: on_the_loop()])
hanging_hook = StreamingAdapter(app, after_response=hanging)
noting = StreamingAdapter(app, on_background_error=note)
draining = StreamingAdapter(app, drain_timeout=60, on_background_error=note)
noting_async = StreamingAdapter(app, on_background_error=anote)
raising = StreamingAdapter(app, raise_background_errors=True)
sse = StreamingAdapter(app, sse_deadline_event=True)
buffered = StreamingAdapter(app, stream=())


async def failing_app(scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)
    if scope["type"] == "http":
        raise RuntimeError("after all")


failing_at_last = StreamingAdapter(failing_app, on_background_error=note)


@streamify(drain_timeout=0.3, on_background_error=note, after_response=on_the_loop)
async def streamed(event: Any, response_stream: Any, context: Any) -> Any:
    match event["do"]:
        case "task":
            await response_stream.write("piece")
            kept.add(asyncio.create_task(later()))
        case "fail":
            await response_stream.write("piece")
            await response_stream.close()
            raise ValueError("after the end")
        case "late":
            await long()
        case "late stream":
            await response_stream.write("piece")
            await long()
        case "late background":
            await response_stream.write("piece")
            await response_stream.close()
            await long()
        case "late value":
            try:
                await long()
            except asyncio.CancelledError:
                return "a value"


@streamify
def streamed_in_thread(event: Any, response_stream: Any, context: Any) -> None:
    response_stream.write("piece")
    response_stream.close()
    long_in_thread()


def on_event(event: Any, context: Any) -> Any:
    match event["do"]:
        case "executor":
            executor.submit(record, "executor")
            return "submitted"
        case "coroutine":
            wait_until(later())
        case "fail":
            raise LookupError("nothing there")


async def on_event_async(event: Any, context: Any) -> Any:
    if event["do"] == "task":
        kept.add(asyncio.create_task(later()))
    else:
        await long()
    return "done"


events = StreamingAdapter(app, event_handler=on_event, after_response=on_the_loop)
events_async = StreamingAdapter(app, event_handler=on_event_async)


def decorated(event: Any, context: Any) -> Any:
    return events(event, context)


made: list[StreamingAdapter] = []


def lazy(event: Any, context: Any) -> Any:
    """Builds its adapter with its first event."""
    if not made:
        made.append(StreamingAdapter(app))
    return made[0](event, context)

"""A queue whose consumer, a task of the lifespan, starts each job in its sender's context, HOPS turns after it woke."""

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from fastapi import BackgroundTasks, FastAPI

from adapter import StreamingAdapter, streamify
from record import record

if "UVLOOP" in os.environ:
    asyncio.set_event_loop(uvloop.new_event_loop())

queue: asyncio.Queue[tuple[contextvars.Context, str]] = asyncio.Queue()
jobs: set[asyncio.Task[None]] = set()


async def consume() -> None:
    while True:
        context, name = await queue.get()
        for _ in range(int(os.environ["HOPS"])):
            await asyncio.sleep(0)
        job = context.run(asyncio.create_task, work(name))
        jobs.add(job)
        job.add_done_callback(jobs.discard)


async def work(name: str) -> None:
    await asyncio.sleep(0.1)
    record(f"job-{name}")


async def spin() -> None:
    while True:
        await asyncio.sleep(0)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(consume())]
    if "SPIN" in os.environ:
        tasks.append(asyncio.create_task(spin()))
    yield


app = FastAPI(lifespan=lifespan)


def put(name: str) -> str:
    queue.put_nowait((contextvars.copy_context(), name))
    return name


async def put_later(name: str) -> None:
    await asyncio.sleep(0.05)
    put(name)


@app.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    async def last() -> None:
        put("background")

    tasks.add_task(last)
    return "accepted"


tasks: list[asyncio.Task[None]] = []


@app.get("/task")
async def task() -> str:
    """A task of the request is waited for, and puts something into the queue with its last step."""
    tasks[:] = [asyncio.create_task(put_later("task"))]
    return "accepted"


def put_event(event: Any, context: Any) -> str:
    return put("event")


async def put_event_async(event: Any, context: Any) -> str:
    return put("event")


handler = StreamingAdapter(app)
buffered = StreamingAdapter(app, stream=())
events = StreamingAdapter(app, event_handler=put_event)
events_async = StreamingAdapter(app, event_handler=put_event_async)


@streamify
async def streamed(event: Any, response_stream: Any, context: Any) -> None:
    await response_stream.write("accepted")
    await response_stream.close()
    put("streamed")

"""Handlers that are not async, as they are written for awslambdaric: with loops and threads of their own."""

import asyncio
import contextvars
import decimal
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio.to_process
import anyio.to_thread
from fastapi import FastAPI
from mangum import Mangum

from adapter import BlockingResponseStream, StreamingAdapter, current_invocation, streamify, wait_until
from record import record

decimal.getcontext().prec = 50
bound: contextvars.ContextVar[str] = contextvars.ContextVar("bound", default="nothing")
bound.set("at import")
app = FastAPI()
pool = ThreadPoolExecutor(1)


@app.get("/context")
async def context_of_the_import() -> dict[str, Any]:
    return {"precision": decimal.getcontext().prec, "bound": bound.get()}


local = threading.local()
burst = threading.Barrier(40)


@app.get("/count")
def count() -> int:
    """How often this thread has been here."""
    local.count = getattr(local, "count", 0) + 1
    return int(local.count)


@app.get("/cancels-all")
async def cancels_all() -> list[str]:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.get_name() for task in tasks]


@app.get("/forks")
def forks() -> int | None:
    process = multiprocessing.get_context("fork").Process(target=record, args=["forked"])
    process.start()
    process.join(20)
    return process.exitcode


@app.get("/process")
async def in_another_process() -> list[int]:
    return [os.getpid(), await anyio.to_process.run_sync(os.getpid)]


def meets_the_others() -> None:
    burst.wait(30)


@app.get("/burst")
async def forty_threads() -> int:
    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(anyio.to_thread.run_sync, meets_the_others)
    return threading.active_count()


@app.get("/threads")
def threads() -> int:
    return threading.active_count()


if os.environ.get("MAX_IDLE_TIME"):
    from anyio._backends._asyncio import WorkerThread

    WorkerThread.MAX_IDLE_TIME = 0
if os.environ.get("WITHOUT"):  # as a Python that has another name for it
    delattr(threading, os.environ["WITHOUT"])


async def asynchronous() -> str:
    await asyncio.sleep(0)
    return "from a loop of its own"


def with_a_loop(event: Any, context: Any) -> Any:
    return asyncio.get_event_loop().run_until_complete(asynchronous())


def later() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        record("later")

    if current_invocation() is not None:
        wait_until(work())


handler = StreamingAdapter(app)
off = StreamingAdapter(app, lifespan="off")
without_drain = StreamingAdapter(app, drain_timeout=0)
events = StreamingAdapter(app, event_handler=with_a_loop, after_response=later)
mangum = Mangum(app)


def in_a_thread(event: Any, context: Any) -> Any:
    """As decorators that bound the time do."""
    return pool.submit(handler, event, context).result()


everybody = threading.Barrier(40)


@streamify
def together(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    everybody.wait(30)
    response_stream.write("all")


@streamify
def piping(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield invocation.request_id if (invocation := current_invocation()) else "none"

    response_stream.pipe(pieces())


def meets(event: Any, context: Any) -> Any:
    everybody.wait(30)
    return "all"


meeting = StreamingAdapter(app, event_handler=meets)

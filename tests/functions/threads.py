"""Handlers that are not async, as they are written for awslambdaric: with loops and threads of their own."""

import asyncio
import contextvars
import decimal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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

"""An app with an exception handler of its own on the event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from adapter import BackgroundFailure, StreamingAdapter, wait_until
from record import record

kept: set[asyncio.Task[None]] = set()


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    task = "Task" if isinstance(context.get("future"), asyncio.Task) else None
    record(f"heard:{type(context.get('exception')).__name__}:{task}")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    asyncio.get_running_loop().set_exception_handler(report)
    yield


app = FastAPI(lifespan=lifespan)


async def failing() -> None:
    raise LookupError("no tea")


@app.get("/task")
async def begins_a_task() -> str:
    kept.add(asyncio.create_task(failing()))
    return "begun"


@app.get("/until")
async def has_it_waited_for() -> str:
    wait_until(failing())
    return "begun"


@app.get("/callback")
async def calls_back() -> str:
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
    return "called"


def note(failure: BackgroundFailure) -> None:
    record("noted")


handler = StreamingAdapter(app, on_background_error=note)
raising = StreamingAdapter(app, raise_background_errors=True)

"""Handlers that awslambdaric's workers on Managed Instances share the import of, in some versions."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request

from adapter import ResponseStream, StreamingAdapter, streamify
from record import record

IMPORTED_IN = os.getpid()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    record(f"startup-{os.getpid()}")
    if os.environ.get("FAILS"):
        raise ConnectionError("no database")
    jobs: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue()

    async def consume() -> None:
        while True:
            (await jobs.get()).set_result(os.getpid())

    consumer = asyncio.create_task(consume())
    yield {"jobs": jobs, "loop": asyncio.get_running_loop()}
    consumer.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root(request: Request, background: BackgroundTasks) -> list[int]:
    """Which process is this, and which one does the lifespan's task run in?"""
    loop = asyncio.get_running_loop()
    assert request.state.loop is loop
    done: asyncio.Future[int] = loop.create_future()
    request.state.jobs.put_nowait(done)
    background.add_task(record, "worked")
    return [os.getpid(), await done, IMPORTED_IN]


handler = StreamingAdapter(app)
second = StreamingAdapter(app)


@streamify
async def streamed(event: Any, response_stream: ResponseStream, context: Any) -> None:
    await response_stream.write(f"[{os.getpid()}, {os.getpid()}, {IMPORTED_IN}]")

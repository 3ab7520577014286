"""What is under way when its time is up, or when the process has to end."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

from adapter import BackgroundFailure, ResponseStream, StreamingAdapter, streamify, wait_until
from record import record


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    record("shutdown")


app = FastAPI(lifespan=lifespan)
kept: set[asyncio.Task[None]] = set()


async def item() -> None:
    try:
        await asyncio.sleep(30)
    finally:
        record("cancelled")


async def fan_out(how: str) -> None:
    match how:
        case "TaskGroup":
            async with asyncio.TaskGroup() as group:
                group.create_task(item())
                group.create_task(item())
        case "anyio":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(item)
        case "wait":
            await asyncio.wait([asyncio.create_task(item()), asyncio.create_task(item())])
        case "gather":
            await asyncio.gather(item(), item(), return_exceptions=True)
    record("marked-as-done")  # what blocks is not cancelled: a commit, boto3's put_item


@app.get("/fine")
async def fine() -> str:
    return "fine"


@app.get("/route/{how}")
async def route(how: str) -> str:
    await fan_out(how)
    return "done"


@app.get("/background/{how}")
async def background(how: str, tasks: BackgroundTasks) -> str:
    tasks.add_task(fan_out, how)
    return "begun"


@app.get("/until/{how}")
async def until(how: str) -> str:
    wait_until(fan_out(how))
    return "begun"


@app.get("/gathered")
async def gathered() -> str:
    wait_until(asyncio.gather(item(), item()))
    return "begun"


@app.api_route("/busy/{size}", methods=["GET", "HEAD"])
async def busy(size: int) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        while True:  # and nothing is awaited
            yield b"x" * size
            sum(range(10_000))  # slower than who takes it

    return StreamingResponse(pieces())


@streamify(deadline_margin=0.5)
async def busy_writer(event: Any, response_stream: ResponseStream, context: Any) -> None:
    try:
        while event["is"] == "busy":
            await response_stream.write(b"x")
            sum(range(10_000))
        await response_stream.write(b"fine")
    finally:
        record("closed")


@app.get("/task")
async def task() -> str:
    kept.add(asyncio.create_task(item()))
    return "begun"


async def long_hook() -> None:
    if os.environ.get("HOOK"):
        record("hook")
        await item()


def failed(failure: BackgroundFailure) -> None:
    record(f"hook-{failure.name}")


class Record(dict[str, Any]):
    """Of those that have their keys as attributes, and raise KeyError for others."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    async def work(self) -> None:
        await asyncio.sleep(0.05)
        record("worked")


@app.get("/attributes")
async def attributes() -> str:
    kept.add(asyncio.create_task(Record().work()))
    return "begun"


handler = StreamingAdapter(app, shutdown_on_sigterm=True, after_response=long_hook, on_background_error=failed)

"""Apps with a lifespan, good and bad, chosen by the environment variable APP."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import anyio
import httpx
from fastapi import FastAPI, Request

from adapter import StreamingAdapter
from record import record

dead = asyncio.Event()
connected = asyncio.Event()
released = threading.Semaphore(0)


async def consumer() -> None:
    await dead.wait()
    raise LookupError("the queue is gone")


async def connect() -> None:
    if os.environ["APP"] == "waits":
        await connected.wait()
    if os.environ["APP"] == "blocks":
        released.acquire()


def consuming() -> AbstractAsyncContextManager[Any]:
    match os.environ["APP"]:
        case "asyncio":
            return asyncio.TaskGroup()
        case "anyio":
            return anyio.create_task_group()
    return nullcontext()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    record("startup")
    if os.environ["APP"] == "fails":
        raise ConnectionError("no database")
    if os.environ["APP"] == "exits":
        raise SystemExit(7)
    await connect()
    async with httpx.AsyncClient() as client, consuming() as group:  # bound to the loop it is used on
        if isinstance(group, asyncio.TaskGroup):
            group.create_task(consumer())
        elif group is not None:
            group.start_soon(consumer)
        yield {"client": client, "seen": []}


app = FastAPI(lifespan=lifespan)


@app.get("/state")
async def state(request: Request) -> dict[str, Any]:
    request.state.extra = "of this request"
    request.state.seen.append("shared")
    record("request")
    return {
        "seen": len(request.state.seen),
        "extra": sorted(request.scope["state"]),
        "client": request.state.client.is_closed,
    }


@app.get("/die")
async def die() -> str:
    dead.set()
    await asyncio.sleep(0.05)
    return "served"


handler = StreamingAdapter(app, lifespan="off" if os.environ["APP"] == "off" else "auto")

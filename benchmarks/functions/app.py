"""The same app for every adapter."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"started": "yes"}


app = FastAPI(lifespan=lifespan)


@app.get("/items/{item_id}")
async def item(item_id: int, q: str = "") -> dict[str, object]:
    return {"item_id": item_id, "q": q}


@app.get("/threads/{item_id}")
def item_in_a_thread(item_id: int, q: str = "") -> dict[str, object]:
    return {"item_id": item_id, "q": q}


def work_in_a_thread() -> None:
    pass


@app.get("/background/{item_id}")
async def item_and_background(item_id: int, tasks: BackgroundTasks, q: str = "") -> dict[str, object]:
    tasks.add_task(work_in_a_thread)
    return {"item_id": item_id, "q": q}


async def pieces(count: int, size: int, pause: float) -> AsyncIterator[bytes]:
    piece = b"x" * size
    for index in range(count):
        if pause and index:
            await asyncio.sleep(pause)
        yield piece


@app.get("/pieces/{count}")
async def stream(count: int, size: int, pause: float = 0) -> StreamingResponse:
    return StreamingResponse(pieces(count, size, pause), media_type="application/octet-stream")


@app.get("/sleep")
async def sleep(seconds: float) -> dict[str, float]:
    await asyncio.sleep(seconds)
    return {"slept": seconds}


@app.get("/burn")
async def burn(milliseconds: float) -> dict[str, float]:
    until = time.thread_time() + milliseconds / 1e3
    while time.thread_time() < until:
        pass
    return {"burned": milliseconds}

"""An app that says what becomes of it, under the asyncio runtime."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

from adapter import StreamingAdapter


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    print("startup of", os.getpid())
    yield
    print("shutdown")


app = FastAPI(lifespan=lifespan)


@app.get("/pid")
async def pid() -> int:
    return os.getpid()


@app.get("/stream/{seconds}")
async def stream(seconds: float) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "begun "
        print("streaming")
        await asyncio.sleep(seconds)
        yield "done"

    return StreamingResponse(pieces())


@app.get("/broken")
async def broken() -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "begun "
        await asyncio.sleep(0.1)
        raise ValueError("no tea" * 2000)

    return StreamingResponse(pieces())


@app.get("/background/{seconds}")
async def background(seconds: float, tasks: BackgroundTasks) -> str:
    tasks.add_task(work, seconds)
    return "answered"


async def work(seconds: float) -> None:
    print("working")
    await asyncio.sleep(seconds)
    print("worked")


@app.get("/blocked/{seconds}")
async def blocked(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  # what no deadline can cancel


class Meeting:
    """Goes on when so many have come."""

    def __init__(self) -> None:
        self.present = 0
        self.complete = asyncio.Event()


meeting = Meeting()


@app.get("/meet/{count}")
async def meet(count: int) -> dict[str, Any]:
    meeting.present += 1
    if meeting.present == count:
        meeting.complete.set()
    await meeting.complete.wait()
    return {"pid": os.getpid(), "present": meeting.present}


handler = StreamingAdapter(app)

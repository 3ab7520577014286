"""What can go wrong in an app, a route each."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse

from adapter import StreamingAdapter

app = FastAPI()
orphans: set[asyncio.Task[None]] = set()


class Broken(Exception):
    """What the routes raise."""


@app.get("/well")
async def well() -> dict[str, str]:
    return {"so": "far"}


@app.post("/body")
async def body(request: Request) -> dict[str, int]:
    return {"size": len(await request.body())}


@app.get("/in-thread")
def in_thread() -> dict[str, str]:
    return {"so": "far"}


async def pieces(count: int, breaks: bool) -> AsyncIterator[bytes]:
    for index in range(count):
        yield b"x" * 1000
        if index % 4 == 3:
            await asyncio.sleep(0)
    if breaks:
        raise Broken("in mid-stream")


@app.get("/stream")
async def stream(breaks: bool = False) -> StreamingResponse:
    return StreamingResponse(pieces(20, breaks))


@app.get("/large")
async def large() -> StreamingResponse:
    return StreamingResponse(iter([b"x" * 300_000] * 4))


@app.get("/breaks")
async def breaks() -> None:
    raise Broken("before the response")


async def work(seconds: float, breaks: bool) -> None:
    await asyncio.sleep(seconds)
    if breaks:
        raise Broken("after the response")


def work_in_thread() -> None:
    sum(range(1000))


@app.get("/background")
async def background(tasks: BackgroundTasks, breaks: bool = False) -> dict[str, str]:
    tasks.add_task(work, 0.001, breaks)
    tasks.add_task(work_in_thread)
    return {"so": "far"}


@app.get("/orphan")
async def orphan(breaks: bool = False) -> dict[str, str]:
    task = asyncio.create_task(work(0.005, breaks))
    orphans.add(task)
    task.add_done_callback(orphans.discard)
    return {"so": "far"}


@app.get("/sleep")
async def sleep(seconds: float) -> dict[str, float]:
    await asyncio.sleep(seconds)
    return {"slept": seconds}


@app.get("/sleep-in-stream")
async def sleep_in_stream(seconds: float) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(seconds)
        yield b"y"

    return StreamingResponse(body())


handler = StreamingAdapter(app)

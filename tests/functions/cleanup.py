"""Cleanup that takes its time at the deadline; work that is shielded, that requests share, that nobody waits for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse

from adapter import StreamingAdapter, streamify, wait_until
from record import record

app = FastAPI()
kept: set[asyncio.Task[Any]] = set()


async def slowly(name: str, seconds: float = 1.1) -> None:
    """More than a quarter of the margin, and less than a half."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        record(f"{name}-cut")
        raise
    record(name)


async def work() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await slowly("cleaned")


async def session() -> AsyncIterator[str]:
    try:
        yield "session"
    finally:
        await slowly("cleaned")


async def pieces() -> AsyncIterator[str]:
    yield "one"
    await work()


@app.get("/route")
async def route() -> None:
    await work()


@app.get("/dependency")
async def dependency(given: Annotated[str, Depends(session)]) -> None:
    await asyncio.sleep(60)


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(pieces())


@app.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(work)
    return "begun"


@app.get("/until")
async def until() -> str:
    wait_until(work())
    return "begun"


@app.get("/several")
async def several() -> None:
    """One whose cleanup is done at once does not cut that of another one short."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(work())


async def commit(seconds: float = 1.1) -> None:
    record("commit")
    await slowly("committed", seconds)


@app.get("/shield")
async def shield() -> None:
    task = asyncio.create_task(commit(3.8))
    await asyncio.sleep(0)
    await asyncio.shield(task)


@app.get("/shield/{how}")
async def shield_in_cleanup(how: str, tasks: BackgroundTasks) -> str:
    async def guarded() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            match how:
                case "awaited":
                    await asyncio.shield(commit())
                case "kept":
                    kept.add(asyncio.create_task(commit()))
                case "endless":
                    await asyncio.shield(commit(60))

    tasks.add_task(guarded)
    return "begun"


token: asyncio.Task[str] | None = None


async def fetch() -> str:
    try:
        await asyncio.sleep(3)
    finally:
        record("fetched")
    return "token"


@app.get("/shared/{how}")
async def shared(how: str) -> str:
    global token
    token = token or asyncio.create_task(fetch())
    record("waits")
    return await (asyncio.shield(token) if how == "shield" else token)


async def for_life() -> None:
    await asyncio.Event().wait()


async def left(seconds: float) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(seconds)
        record("left")


@app.get("/left")
async def leaves(late: bool = False) -> int:
    """How many of the tasks that live as long as the process do."""
    if not kept:
        kept.update(asyncio.create_task(for_life()) for _ in range(2))
    if late:
        await asyncio.sleep(60)
    return sum(not task.done() for task in kept)


@app.get("/as-completed")
async def as_completed() -> None:
    for task in asyncio.as_completed([left(60)]):
        await task


@app.get("/fine")
async def fine() -> str:
    return "fine"


handler = StreamingAdapter(app, deadline_margin=3)
short = StreamingAdapter(app)
explicit = StreamingAdapter(app, drain_timeout=60)


@streamify(deadline_margin=3)
async def streamed(event: Any, response_stream: Any, context: Any) -> None:
    await response_stream.write("one")
    await work()

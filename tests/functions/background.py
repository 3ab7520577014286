"""BackgroundTasks from every place an app can start them."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as Several
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from adapter import StreamingAdapter
from record import record


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


MIDDLEWARE = {
    "": [],
    "base": [Middleware(Passing)],
    "cors": [Middleware(CORSMiddleware, allow_origins=["*"])],
    "gzip": [Middleware(GZipMiddleware, minimum_size=1)],
    "all": [
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Middleware(Passing),
        Middleware(GZipMiddleware, minimum_size=1),
        Middleware(Passing),
    ],
}

app = FastAPI(middleware=MIDDLEWARE[os.environ.get("MIDDLEWARE", "")])


async def later(name: str) -> None:
    record(name)
    await asyncio.sleep(0.05)
    record(f"{name}-done")


def later_in_a_thread(name: str) -> None:
    record(name)


@app.get("/async")
async def from_route(background: BackgroundTasks) -> dict[str, str]:
    background.add_task(later, "background")
    return {"a": "b"}


@app.get("/sync")
def from_sync_route(background: BackgroundTasks) -> dict[str, str]:
    background.add_task(later_in_a_thread, "background")
    return {"a": "b"}


@app.get("/several")
async def several(background: BackgroundTasks) -> dict[str, str]:
    background.add_task(later, "one")
    background.add_task(later_in_a_thread, "two")
    background.add_task(later, "three")
    return {"a": "b"}


async def dependency(background: BackgroundTasks) -> AsyncIterator[None]:
    background.add_task(later, "background")
    yield
    record("teardown")


@app.get("/dependency")
async def from_dependency(_: Annotated[None, Depends(dependency)]) -> dict[str, str]:
    return {"a": "b"}


async def tokens() -> AsyncIterator[str]:
    for token in ("one ", "two ", "three"):
        yield token
        await asyncio.sleep(0.01)


def sync_tokens() -> Iterator[bytes]:
    yield from (b"one ", b"two ", b"three")


@app.get("/stream")
async def stream(background: BackgroundTasks) -> StreamingResponse:
    background.add_task(later, "background")
    return StreamingResponse(tokens(), media_type="text/plain")


@app.get("/plain/{kind}")
async def plain(kind: str) -> Response:
    task = BackgroundTask(later, "background")
    match kind:
        case "text":
            return PlainTextResponse("text", background=task)
        case "json":
            return JSONResponse([1], background=Several([task, BackgroundTask(later_in_a_thread, "second")]))
        case _:
            return StreamingResponse(sync_tokens(), background=task)


handler = StreamingAdapter(app)

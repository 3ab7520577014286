"""Replies of any size; and a custom handler that cannot make one of them."""

import resource
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from adapter import StreamingAdapter
from record import record

app = FastAPI()


@app.get("/text/{size}")
async def text(size: int, background: BackgroundTasks) -> PlainTextResponse:
    background.add_task(record, "background")
    return PlainTextResponse("x" * size, background=background)


@app.get("/letters/{size}")
async def letters(size: int) -> PlainTextResponse:
    return PlainTextResponse("я" * size)


@app.get("/binary/{size}")
async def binary(size: int, background: BackgroundTasks) -> Response:
    background.add_task(record, "background")
    return Response(bytes(size), media_type="application/octet-stream", background=background)


@app.get("/stream/{size}")
async def stream(size: int, background: BackgroundTasks) -> StreamingResponse:
    background.add_task(record, "background")

    def pieces() -> Iterator[bytes]:
        for _ in range(size // 1000):
            yield b"x" * 1000

    return StreamingResponse(pieces(), media_type="text/plain", background=background)


@app.get("/pieces/{count}")
async def pieces(count: int, background: BackgroundTasks) -> StreamingResponse:
    """MB by MB."""
    background.add_task(record, "background")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 1_000_000

    return StreamingResponse(pieces(), media_type="text/plain", background=background)


@app.get("/memory")
async def memory() -> int:
    """What the process has had at most, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Custom:
    """mangum's interface."""

    @classmethod
    def infer(cls, event: Any, context: Any, config: Any) -> bool:
        return "custom" in event

    def __init__(self, event: Any, context: Any, config: Any) -> None:
        self.event = event

    @property
    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "method": "GET",
            "path": self.event["custom"],
            "raw_path": None,
            "query_string": b"",
            "headers": [],
            "scheme": "https",
            "server": ("custom", 443),
            "client": None,
            "http_version": "1.1",
            "root_path": "",
        }

    @property
    def body(self) -> bytes:
        return b""

    def __call__(self, response: Any) -> dict[str, Any]:
        raise ValueError("no form for this")


class Compressing(Custom):
    def __call__(self, response: Any) -> dict[str, Any]:
        return {"length": len(response["body"])}


handler = StreamingAdapter(app, lifespan="off")
compressing = StreamingAdapter(app, lifespan="off", custom_handlers=[Compressing])
custom = StreamingAdapter(app, lifespan="off", custom_handlers=[Custom])
streamed = StreamingAdapter(app, lifespan="off", custom_handlers=[Custom], stream=["Custom", "function-url"])

"""Work of objects that say who asks them for an attribute that they do not have."""

import asyncio
from collections.abc import Generator
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from adapter import BackgroundFailure, StreamingAdapter, wait_until
from record import record

# What `inspect` asks whatever is called for, to find out whether it is a coroutine function.
OF_FUNCTIONS = (
    "_is_coroutine",
    "__annotations__",
    "__code__",
    "__defaults__",
    "__kwdefaults__",
    "__name__",
    "__partialmethod__",
)


class Guarded:
    def __getattr__(self, name: str) -> Any:
        if not name.startswith(OF_FUNCTIONS):
            record(f"asked for {name}")
        raise AttributeError(name)

    async def fail(self) -> None:
        raise ValueError("no tea")

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def __call__(self) -> None:
        await self.fail()

    def forget(self, task: object) -> None:
        pass


class Waiting(Guarded):
    def __await__(self) -> Generator[Any, None, None]:
        return self.fail().__await__()


class Hook(Guarded):
    async def __call__(self, *failure: BackgroundFailure) -> None:
        raise ValueError("no tea")


guarded = Guarded()
kept: set[asyncio.Task[None]] = set()


async def begin(request: Request) -> PlainTextResponse:
    task = None
    match request.path_params["what"]:
        case "task":
            kept.add(asyncio.create_task(guarded.fail()))
        case "endless":
            kept.add(asyncio.create_task(guarded.wait()))
        case "until":
            wait_until(Waiting())
        case "late":
            late = asyncio.create_task(guarded.wait())
            late.add_done_callback(guarded.forget)
            wait_until(late)
        case "background":
            task = BackgroundTask(guarded)
        case "method":
            task = BackgroundTask(guarded.fail)
    return PlainTextResponse("begun", background=task)


app = Starlette(routes=[Route("/{what}", begin)])
handler = StreamingAdapter(app, drain_timeout=0.1, after_response=Hook(), on_background_error=Hook())

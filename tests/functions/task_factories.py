"""An app that sets a task factory of its own: at import, in its lifespan, or in a request."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import FastAPI, Request

from adapter import StreamingAdapter
from record import record

WHERE, _, WHICH = os.environ["FACTORY"].partition(" ")


def set_factory(where: str) -> None:
    if where != WHERE:
        return
    loop = asyncio.get_running_loop() if where != "import" else asyncio.get_event_loop()
    if WHICH == "eager":
        loop.set_task_factory(vars(asyncio)["eager_task_factory"])  # from Python 3.12 on
    elif WHICH == "xray":
        from aws_xray_sdk.core.async_context import AsyncContext  # type: ignore[import-untyped]

        AsyncContext()
    else:  # one that builds on the one that is there, and is put back
        former: Any = loop.get_task_factory()
        loop.set_task_factory(lambda *args, **kwargs: former(*args, **kwargs))
        loop.set_task_factory(former)
        loop.set_task_factory(None)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    set_factory("lifespan")
    yield {}


app = FastAPI(lifespan=lifespan)


async def later(name: str) -> None:
    await asyncio.sleep(0.05)
    record(name)


async def failing() -> None:
    await asyncio.sleep(0)
    raise LookupError("nothing there")


@app.get("/")
async def root(request: Request) -> str:
    set_factory("request")
    asyncio.create_task(later("created")).set_name("named")
    asyncio.create_task(failing())
    async with anyio.create_task_group() as group:
        group.start_soon(later, "grouped")
    return "begun"


handler = StreamingAdapter(app)
set_factory("import")

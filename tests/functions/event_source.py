"""sse-starlette, which leaves an endless task behind its first reply; and an app that leaves one behind each."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import FastAPI
from sse_starlette import EventSourceResponse

from adapter import StreamingAdapter
from record import record

app = FastAPI()
tasks: set[asyncio.Task[None]] = set()


async def events() -> AsyncIterator[dict[str, str]]:
    yield {"data": "one"}
    yield {"data": "two"}


@app.get("/events")
async def event_source() -> EventSourceResponse:
    return EventSourceResponse(events())


def start(coroutine: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def poll() -> None:
    while True:
        await asyncio.sleep(3600)


@app.get("/polls")
async def start_poll() -> EventSourceResponse:
    start(poll())
    return EventSourceResponse(events())


async def work() -> None:
    await asyncio.to_thread(record, "work")


@app.get("/work")
async def start_work() -> EventSourceResponse:
    start(work())
    return EventSourceResponse(events())


# What is endless costs the first invocation of its path little; a later one that waited for it would do so to its end.
first = StreamingAdapter(app, drain_timeout=0.1)
later = StreamingAdapter(app, drain_timeout=600)
new = {"/events", "/polls"}


def handler(event: Any, context: Any) -> Any:
    path = event["rawPath"]
    adapter = first if path in new else later
    new.discard(path)
    return adapter(event, context)

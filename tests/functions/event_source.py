"""sse-starlette, which leaves an endless task behind its first reply."""

import asyncio
from collections.abc import AsyncIterator
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


async def work() -> None:
    await asyncio.to_thread(record, "work")


@app.get("/work")
async def start_work() -> EventSourceResponse:
    task = asyncio.create_task(work())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return EventSourceResponse(events())


# The first invocation ends soon in spite of its task; a later one that waited for it would do so to its deadline.
first = StreamingAdapter(app, drain_timeout=0.1)
later = StreamingAdapter(app, drain_timeout=600)
adapters = iter([first])


def handler(event: Any, context: Any) -> Any:
    return next(adapters, later)(event, context)

"""Libraries whose tasks live as long as the process, first used by a request: sse-starlette, psycopg_pool, aiojobs."""

import os
from collections.abc import AsyncIterator

import aiojobs
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool
from sse_starlette import EventSourceResponse

from adapter import StreamingAdapter
from record import record

app = FastAPI()
pools: list[AsyncConnectionPool] = []
schedulers: list[aiojobs.Scheduler] = []


async def events() -> AsyncIterator[dict[str, str]]:
    yield {"data": "one"}


@app.get("/events")
async def event_source() -> EventSourceResponse:
    return EventSourceResponse(events())


@app.get("/query")
async def query() -> int:
    if not pools:
        check = AsyncConnectionPool.check_connection
        pools.append(AsyncConnectionPool(os.environ["DATABASE"], min_size=1, max_size=1, check=check, open=False))
        await pools[0].open()
    async with pools[0].connection(timeout=10) as connection:
        row = await (await connection.execute("select 42")).fetchone()
        assert row is not None
        return int(row[0])


async def job() -> None:
    record("job")


@app.get("/job")
async def spawn() -> str:
    if not schedulers:
        schedulers.append(aiojobs.Scheduler())
    await schedulers[0].spawn(job())
    return "spawned"


handler = StreamingAdapter(app)

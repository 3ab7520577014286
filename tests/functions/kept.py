"""Clients that keep their connections from one invocation to the next; the environment variable CLIENT names one."""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import redis.asyncio
import uvloop
from fastapi import FastAPI

from adapter import StreamingAdapter, streamify
from record import record

if "UVLOOP" in os.environ:
    asyncio.set_event_loop(uvloop.new_event_loop())

Ask = Callable[[], Awaitable[str]]
trust = ssl.create_default_context(cafile=os.environ.get("CA"))


@asynccontextmanager
async def http(upstream: str) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:

        async def ask() -> str:
            async with session.post(upstream, data=b"x") as reply:
                return await reply.text()

        yield ask


@asynccontextmanager
async def postgres(upstream: str) -> AsyncIterator[Ask]:
    async with asyncpg.create_pool(
        upstream,
        min_size=1,
        max_size=1,
        max_inactive_connection_lifetime=0,
        ssl=trust if "CA" in os.environ else None,
        server_settings={"idle_session_timeout": "500"},
    ) as pool:

        async def ask() -> str:
            return str(await pool.fetchval("select pg_backend_pid()"))

        yield ask


@asynccontextmanager
async def key_value_store(upstream: str) -> AsyncIterator[Ask]:
    host, _, port = upstream.partition(":")
    async with redis.asyncio.Redis(host=host, port=int(port)) as client:  # tries again; what from_url makes does not

        async def ask() -> str:
            return str(await client.get("key"))

        yield ask


@asynccontextmanager
async def cache(upstream: str) -> AsyncIterator[Ask]:
    """Nothing but a timer: a value is good for a while."""
    values = ["made at first"]

    async def ask() -> str:
        if not values:
            values.append("made again")
        loop.call_later(0.3, values.clear)
        return values[0]

    loop = asyncio.get_running_loop()
    yield ask


CLIENTS = {"http": http, "postgres": postgres, "redis": key_value_store, "cache": cache}
ask: Ask


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    global ask
    async with CLIENTS[os.environ["CLIENT"]](os.environ.get("UPSTREAM", "")) as ask:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root() -> str:
    return await ask()


@app.get("/blocked")
async def blocked() -> str:
    """Leaves a timer that blocks the loop, when it is due, until after the next invocation's limit."""
    asyncio.get_running_loop().call_later(0.3, block)
    return "left"


@app.get("/cancels")
async def cancels() -> str:
    """Leaves a timer that cancels every task."""
    asyncio.get_running_loop().call_later(0.3, cancel)
    return "left"


def cancel() -> None:
    for task in asyncio.all_tasks():
        task.cancel()


def block() -> None:
    time.sleep(0.8)  # of one second, the deadline margin is the second half


@app.get("/quick")
async def quick() -> str:
    return "done"


@app.get("/awaits")
async def awaits() -> str:
    record("begun")
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        record("cancelled")
        raise
    return "not cancelled"


handler = StreamingAdapter(app)
buffered = StreamingAdapter(app, stream=())


@streamify
async def streamed(event: Any, response_stream: Any, context: Any) -> None:
    await response_stream.write(await ask())

"""A pool that a module connects while it is imported, on an event loop that it has as the variable HOW says."""

import asyncio
import os
import warnings
from typing import Any

import uvloop
from fastapi import FastAPI

from adapter import StreamingAdapter, streamify

HOW = os.environ["HOW"]


class Pool:
    """Keeps the loop on which it was connected, as asyncpg's does."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def query(self) -> str:
        row: asyncio.Future[str] = self._loop.create_future()
        self._loop.call_soon(row.set_result, "row")
        return await row


async def connect() -> Pool:
    await asyncio.sleep(0.01)
    return Pool()


pools: list[Pool] = []
app = FastAPI()


@app.get("/")
async def root() -> str:
    if not pools:
        pools.append(await connect())
    return [await pool.query() for pool in pools][-1]


async def make() -> StreamingAdapter:
    if HOW == "running":
        pools.append(await connect())
    return StreamingAdapter(app, lifespan="off")


def current() -> asyncio.AbstractEventLoop:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, where there is no loop yet
        return asyncio.get_event_loop()


if HOW == "asked for":
    pools.append(current().run_until_complete(connect()))
elif HOW == "asked for, of another policy":
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    pools.append(current().run_until_complete(connect()))
elif HOW in ("set", "set, uvloop's", "set, and closed later"):
    asyncio.set_event_loop(asyncio.new_event_loop() if HOW == "set" else uvloop.new_event_loop())
    pools.append(current().run_until_complete(connect()))
elif HOW == "of a runner":
    runner = asyncio.Runner()
    pools.append(runner.run(connect()))
elif HOW == "closed":
    asyncio.set_event_loop(asyncio.new_event_loop())
    current().run_until_complete(connect())
    current().close()
elif HOW == "of asyncio.run":
    asyncio.run(connect())

if HOW == "running":
    asyncio.set_event_loop(asyncio.new_event_loop())
    handler = current().run_until_complete(make())
elif HOW == "running, of asyncio.run":
    handler = asyncio.run(make())
else:
    handler = StreamingAdapter(app)
    if "AWS_LAMBDA_RUNTIME_API" in os.environ:  # there the process is the adapter's, and so is its loop
        pools.append(current().run_until_complete(connect()))

if HOW == "set, and closed later":
    current().close()
    pools.clear()

second = StreamingAdapter(app)


@streamify
async def streamed(event: Any, response_stream: Any, context: Any) -> None:
    await response_stream.write(await root())


async def asynchronous(event: Any, context: Any) -> str:
    return await root()

"""An app with a lifespan, and routes that are under way for a while."""

import asyncio
import contextvars
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse

from adapter import StreamingAdapter, current_invocation
from kinds import watched
from record import record

logger = logging.getLogger("function")
seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


def the_functions_own(number: int, frame: object) -> None:
    print("the function's own")
    sys.exit(0)


if os.environ.get("FORMER"):  # https://github.com/aws-samples/graceful-shutdown-with-aws-lambda
    signal.signal(signal.SIGTERM, the_functions_own)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    record("startup")
    yield {}
    if os.environ.get("SHUTDOWN") == "fails":
        raise ConnectionError("no goodbye")
    if os.environ.get("SHUTDOWN") == "cancelled":
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task
    if os.environ.get("SHUTDOWN") == "slow":
        await asyncio.sleep(10)
    if os.environ.get("SHUTDOWN") == "in time":  # after the 150 ms at which what is under way would be cancelled
        await asyncio.sleep(0.2)
    record("shutdown")


app = FastAPI(lifespan=lifespan)


@app.get("/ids/{number}")
async def ids(request: Request, number: int, background: BackgroundTasks) -> dict[str, Any]:
    """Every place that says whose this is, before and after others have run; in a thread, and in the background."""
    mine = request.scope["aws.context"].aws_request_id
    logger.warning("begin %d", number)
    seen.set(str(number))
    places = set()
    for _ in range(3):
        await asyncio.sleep(0.001)
        invocation = current_invocation()
        assert invocation is not None and seen.get() == str(number)
        places |= {invocation.request_id, invocation.context.aws_request_id, mine}
    await asyncio.to_thread(logger.warning, "thread %d", number)
    background.add_task(late, number)
    return {"request_id": mine, "places": sorted(places), "number": number}


async def late(number: int) -> None:
    logger.warning("background %d", number)


@app.get("/slow/{seconds}")
async def slow(seconds: float) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "begun "
        await asyncio.sleep(seconds)
        yield "done"

    return StreamingResponse(pieces())


@app.get("/until_sigterm")
async def until_sigterm() -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "begun "
        while signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:  # as it is once the first has come
            await asyncio.sleep(0.005)
        yield "done"

    return StreamingResponse(pieces())


@app.get("/background/{seconds}")
async def in_background(seconds: float, background: BackgroundTasks) -> str:
    background.add_task(work, seconds)
    return "answered"


async def work(seconds: float) -> None:
    record("working")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        record("cancelled")
        raise
    record("worked")


@app.get("/stuck")
def stuck() -> None:
    record("stuck")
    threading.Event().wait()


handler = StreamingAdapter(app, shutdown_on_sigterm=True, startup_after_restore=bool(os.environ.get("AFTER_RESTORE")))


async def hook() -> None:
    record("hooked")
    await asyncio.sleep(10)


hooked = StreamingAdapter(
    app,
    shutdown_on_sigterm=True,
    startup_after_restore=bool(os.environ.get("AFTER_RESTORE")),
    after_response=hook,
)
second = StreamingAdapter(app, startup_after_restore=bool(os.environ.get("AFTER_RESTORE")))
decorated = watched(handler)


def inside(event: Any, context: Any) -> Any:
    """Calls its adapter itself."""
    return handler(json.loads(json.dumps(event)), context)

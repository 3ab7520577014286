"""Exceptions whose reason is another one, or whose own methods fail, raised wherever an app can raise."""

import asyncio
import logging
import logging.config
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.background import BackgroundTask

from adapter import BackgroundFailure, StreamingAdapter, streamify
from record import record

if os.environ.get("CONFIGURED"):  # which disables all loggers that are there
    handlers = {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}
    logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["stdout"]}})
if os.environ.get("DISABLED"):
    logging.getLogger("adapter").disabled = True


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


class Undecided(Exception):
    def __bool__(self) -> bool:
        raise AttributeError("neither true nor false")


class Unprintable(Exception):
    def __repr__(self) -> str:
        raise AttributeError("no words")

    def __str__(self) -> str:
        raise AttributeError("no words")


class Quota(Exception):
    """One that the app has a handler for."""


async def query(reason: str) -> None:
    raise LookupError(reason)


async def fail(kind: str, reason: str) -> None:
    match kind:
        case "cause" | "falsy-with-a-cause" | "undecided-with-a-cause" | "unprintable-with-a-cause":
            made = {"cause": RuntimeError, "falsy": Falsy, "undecided": Undecided, "unprintable": Unprintable}
            try:
                await query(reason)
            except LookupError as exception:
                raise made[kind.partition("-")[0]]("could not load the page") from exception
        case "context":
            try:
                await query(reason)
            finally:
                raise RuntimeError("could not close")
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(query(reason))
        case "group-of-causes":
            try:
                await fail("cause", reason)
            except RuntimeError as exception:
                raise ExceptionGroup("two", [exception, Falsy("the other")]) from None
        case "cause-of-a-falsy-one":
            try:
                await fail("falsy-with-a-cause", reason)
            except Falsy as exception:
                raise RuntimeError("could not load the page") from exception
        case "falsy":
            raise Falsy(reason)
        case "undecided":
            raise Undecided(reason)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    kind, _, reason = os.environ.get("STARTUP", "").partition(":")
    if kind:
        await fail(kind, reason)
    yield


app = FastAPI(lifespan=lifespan)
kept: set[asyncio.Task[None]] = set()


@app.get("/fine")
async def fine() -> str:
    return "fine"


@app.get("/route")
async def in_the_route(kind: str, reason: str) -> None:
    await fail(kind, reason)


@app.get("/stream")
async def in_the_stream(kind: str, reason: str) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "piece"
        await fail(kind, reason)

    return StreamingResponse(pieces())


@app.get("/background")
async def in_the_background(kind: str, reason: str, background: BackgroundTasks) -> str:
    background.add_task(fail, kind, reason)
    return "answered"


@app.get("/task")
async def in_a_task(kind: str, reason: str) -> str:
    kept.add(asyncio.create_task(fail(kind, reason)))
    return "answered"


@app.get("/callback")
async def in_a_callback(kind: str, reason: str) -> str:
    """Of the loop: what is reported to its exception handler."""
    try:
        await fail(kind, reason)
    except Exception as exception:
        context = {"message": f"callback {kind}", "exception": exception}
        asyncio.get_running_loop().call_exception_handler(context)
    asyncio.get_running_loop().call_exception_handler({"message": f"without any {kind}"})
    return "answered"


handler = StreamingAdapter(app)
raising = StreamingAdapter(app, raise_background_errors=True)


@streamify
async def streamed(event: Any, response_stream: Any, context: Any) -> None:
    await fail(event["kind"], event["reason"])


@streamify
def streamed_in_a_thread(event: Any, response_stream: Any, context: Any) -> None:
    asyncio.run(fail(event["kind"], event["reason"]))


async def on_event(event: Any, context: Any) -> None:
    await fail(event["kind"], event["reason"])


events = StreamingAdapter(app, event_handler=on_event)


def inside(event: Any, context: Any) -> Any:
    """Calls its adapter itself."""
    return events(event, context)


caught = FastAPI()


@caught.exception_handler(Quota)
async def quota(request: Request, exception: Quota) -> JSONResponse:
    return JSONResponse({"quota": True}, 429)


@caught.middleware("http")
async def passes(request: Request, call_next: Any) -> Any:
    return await call_next(request)


def plain() -> None:
    raise ValueError("the reason")


def refuse() -> None:
    raise HTTPException(404, "the reason")


async def charge() -> None:
    raise Quota("the reason")


async def rename() -> None:
    try:
        raise Quota("the reason")
    except Quota as exception:
        raise ValueError("another one") from exception


WORKS = {work.__name__: work for work in (plain, refuse, charge, rename)}


@caught.get("/works/{name}")
async def works(name: str, background: BackgroundTasks) -> str:
    background.add_task(WORKS[name])
    return "answered"


@caught.get("/unavailable/{name}")
async def unavailable(name: str) -> JSONResponse:
    return JSONResponse({"retry": 1}, 503, background=BackgroundTask(WORKS[name]))


def note(failure: BackgroundFailure) -> None:
    record(f"{failure.name}:{type(failure.exception).__name__}:{failure!r}".replace(" ", "_"))


class InAGroup:
    """A middleware that runs the app in a task group."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.app(scope, receive, send))


noting = StreamingAdapter(caught, on_background_error=note)
noting_in_a_group = StreamingAdapter(InAGroup(caught), on_background_error=note, lifespan="off")
raising_caught = StreamingAdapter(caught, raise_background_errors=True)


async def slowly(reason: str) -> None:
    async with asyncio.TaskGroup() as group:
        await asyncio.sleep(0.05)
        group.create_task(query(reason))


@app.get("/slowly")
async def in_a_slow_task(reason: str) -> str:
    kept.add(asyncio.create_task(slowly(reason)))
    return "answered"

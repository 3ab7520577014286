"""What seldom goes wrong: exceptions of odd kinds, handlers of odd kinds, work that begins late."""

import asyncio
import functools
import logging.config
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import wrapt
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

from adapter import BackgroundFailure, Executor, StreamingAdapter, streamify, wait_until
from record import record


class Panic(BaseException):
    """As that of Rust extensions, pyo3_runtime.PanicException: none of `Exception`'s."""


class Mute(Exception):
    def __str__(self) -> str:
        raise AttributeError("no words")


class Ошибка(Exception):  # a name that no header can have
    pass


async def clock() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        record("clock-stopped")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    task = asyncio.create_task(clock())
    record("startup")
    yield
    task.cancel()


if os.environ.get("CONFIGURED"):  # which disables all loggers that are there
    handlers = {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}
    logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["stdout"]}})
app = FastAPI()
with_lifespan = FastAPI(lifespan=lifespan)
kept: set[asyncio.Task[None]] = set()
executor = Executor(max_workers=2)


@app.get("/fine")
@with_lifespan.get("/fine")
async def fine() -> str:
    return "fine"


@app.get("/panic")
async def panics() -> None:
    raise Panic("called `Option::unwrap()` on a `None` value")


def panic() -> None:
    raise Panic("index out of bounds")


@app.get("/panic/background")
async def panics_in_the_background(background: BackgroundTasks) -> str:
    background.add_task(panic)
    return "answered"


@app.get("/mute")
async def mute() -> None:
    raise Mute


@app.get("/mute/stream")
async def mute_in_mid_stream() -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "piece"
        await asyncio.sleep(0.03)
        raise Mute

    return StreamingResponse(pieces())


async def cancelled() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()
    await task


async def failing() -> None:
    raise ValueError("no tea")


@app.get("/cancelled")
async def cancelled_in_the_background(background: BackgroundTasks, twice: bool = False) -> str:
    if twice:
        kept.add(asyncio.create_task(failing()))
    background.add_task(cancelled)
    return "answered"


async def notify() -> None:
    await asyncio.sleep(0.05)
    record("notified")


async def job() -> None:
    await asyncio.sleep(0.4)
    kept.add(asyncio.create_task(notify()))


@app.get("/job")
async def begins_a_job() -> str:
    wait_until(job())
    return "begun"


@app.get("/fails")
async def fails_in_the_background(background: BackgroundTasks) -> str:
    background.add_task(failing)
    return "answered"


def watched(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    @functools.wraps(work)
    async def around() -> None:
        await work()

    return around


@watched
async def endless() -> None:
    await asyncio.Event().wait()


@app.get("/endless")
async def begins_what_does_not_end() -> str:
    kept.add(asyncio.ensure_future(endless()))
    return "begun"


@app.get("/short")
async def begins_what_ends() -> str:
    kept.add(asyncio.ensure_future(watched(notify)()))
    return "begun"


@app.get("/closed")
async def raises_generator_exit() -> None:
    raise GeneratorExit


@app.get("/exit")
async def exits() -> None:
    sys.exit(3)


def named(function: str) -> None:
    record(function)


@app.get("/named")
async def submits_by_name() -> str:
    executor.submit(named, function="named")
    return "begun"


@app.get("/surrogate")
async def fails_with_half_a_pair(background: BackgroundTasks) -> str:
    background.add_task(half_a_pair)
    return "answered"


async def half_a_pair() -> None:
    raise ValueError("half a pair \ud83d")


async def mute_later() -> None:
    raise Mute


@app.get("/mute/background")
async def mute_in_the_background(background: BackgroundTasks) -> str:
    background.add_task(mute_later)
    return "answered"


@app.get("/late")
async def runs_into_the_deadline(background: BackgroundTasks) -> str:
    background.add_task(endless)
    return "answered"


@app.get("/stops")
async def stops_in_a_thread() -> str:
    executor.submit(next, iter(()))
    return "begun"


def dead_letter(failure: BackgroundFailure) -> None:
    wait_until(notify())


def stopping(failure: BackgroundFailure) -> None:
    next(iter(()))


def on_event(event: Any, context: Any) -> Any:
    match event["do"]:
        case "stop":
            return next(iter(()))
        case "name":
            raise Ошибка("bad")
        case "mute":
            raise Mute
        case "exit":
            sys.exit(3)
        case "surrogate":
            raise ValueError("half a pair \ud83d")
        case "panic":
            raise Panic("index out of bounds")


async def later(event: Any, context: Any) -> str:
    await asyncio.sleep(0)
    return "awaited"


class Later:
    async def __call__(self, event: Any, context: Any) -> str:
        return await later(event, context)


handler = StreamingAdapter(app, drain_timeout=0.2)
raising = StreamingAdapter(app, raise_background_errors=True)
dead_letters = StreamingAdapter(app, on_background_error=dead_letter)
late_letters = StreamingAdapter(app, after_response=lambda: wait_until(notify()))
stopping_hook = StreamingAdapter(app, on_background_error=stopping)
events = StreamingAdapter(app, event_handler=on_event)
of_an_object = StreamingAdapter(app, event_handler=Later())
of_a_lambda = StreamingAdapter(app, event_handler=lambda event, context: later(event, context))


@streamify
async def streamed(event: Any, response_stream: Any, context: Any) -> Any:
    return on_event(event, context)


def per_call(event: Any, context: Any) -> Any:
    """Mangum's own documented form."""
    return StreamingAdapter(with_lifespan, drain_timeout=0.2)(event, context)


made: list[StreamingAdapter] = []


def lazy(event: Any, context: Any) -> Any:
    if not made:
        made.append(StreamingAdapter(with_lifespan, drain_timeout=0.2))
    return made[0](event, context)


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    record("before")
    try:
        return wrapped(*args, **kwargs)
    finally:
        record("after")


traced = StreamingAdapter(app)
# As tracers do it with the handler that _HANDLER names.
wrapt.wrap_function_wrapper(sys.modules[__name__], "traced", around)


class Delegating:
    def __init__(self, inner: StreamingAdapter) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, event: Any, context: Any) -> Any:
        return around(self.inner, None, (event, context), {})


delegating = Delegating(StreamingAdapter(app))


class Recording(StreamingAdapter):
    def __call__(self, event: Any, context: Any) -> Any:
        record("before")
        try:
            return super().__call__(event, context)
        finally:
            record("after")


of_a_subclass = Recording(app)

"""Handlers of every kind, for the asyncio runtime and for awslambdaric."""

import asyncio
import contextvars
import functools
import gc
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from adapter import current_invocation, streamify
from record import record

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


def plain(event: Any, context: Any) -> Any:
    """What it sees of itself."""
    record("plain")
    invocation = current_invocation()
    found, _ = seen.get(), seen.set("an earlier invocation")
    return {
        "event": event,
        "context": {name: repr(value) for name, value in vars(context).items() if not name.startswith("_epoch")},
        "remaining": 0 < context.get_remaining_time_in_millis() <= 30_000,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "current": [invocation.request_id, invocation.trace_id] if invocation is not None else None,
        "seen": found,
        "task root": os.environ.get("LAMBDA_TASK_ROOT"),
    }


async def asynchronous(event: Any, context: Any) -> Any:
    await asyncio.sleep(0)
    return plain(event, context) | {"thread": threading.current_thread() is threading.main_thread()}


both_are_here = asyncio.Barrier(2)


async def identified(event: Any, context: Any) -> list[Any]:
    """Writes to its context, and finds there what it has written, though another invocation does the same."""
    before = context.identity.cognito_identity_id
    await both_are_here.wait()
    context.identity.cognito_identity_id = event
    await both_are_here.wait()
    return [before, context.identity.cognito_identity_id]


async def on_a_loop(event: Any, context: Any) -> str:
    return type(asyncio.get_running_loop()).__module__


class Object:
    async def __call__(self, event: Any, context: Any) -> Any:
        return await asynchronous(event, context)


an_object = Object()


def shown(event: Any, context: Any) -> str:
    return repr(event)


def path(event: Any, context: Any) -> list[str]:
    return sys.path


def raw(event: Any, context: Any) -> bytes:
    return b"\x00\xff"


def of_a_decorator(event: Any, context: Any) -> Any:
    return asynchronous(event, context)


def unwritable(event: Any, context: Any) -> Any:
    return object()


class OddlyNamed_2(Exception):
    pass


def broken(event: Any, context: Any) -> Any:
    raise {
        "value": ValueError("no\ntea"),
        "named": OddlyNamed_2("odd"),
        "surrogate": ValueError("half a pair \udc80"),
        "stop": StopIteration("enough"),
        "cancelled": asyncio.CancelledError(),
        "exit": SystemExit(3),
        "long": ValueError("x" * 2_000_000),
    }[event["raise"]]


async def broken_async(event: Any, context: Any) -> Any:
    if "wait" in event:
        record("waiting")
        await asyncio.sleep(event["wait"])
        return "waited"
    return broken(event, context)


@streamify
async def streamed(event: Any, response_stream: Any, context: Any) -> Any:
    if event.get("value"):
        return {"value": event["value"]}
    await response_stream.write("streamed")


def watched(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """As Powertools' decorators are."""

    @functools.wraps(handler)
    def around(event: Any, context: Any) -> Any:
        record("before")
        try:
            return handler(event, context)
        finally:
            record("after")

    return around


@streamify
async def failing(event: Any, response_stream: Any, context: Any) -> Any:
    raise ValueError("no tea")


failing_and_watched = watched(failing)
streamed_and_watched = watched(watched(streamed))


def collected(event: Any, context: Any) -> list[bool]:
    return [gc.isenabled(), gc.get_freeze_count() > 0]

"""The invocation that code is run for, at hand without a request: for logs, and for code far from the handler."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from contextvars import Token
    from typing import Any


class CurrentInvocation:
    """The ids of an invocation, as text; "" where there is none.

    ``trace_id`` is X-Ray's header (``Root=1-…;Parent=…;Sampled=0``), ``tenant_id`` that of a function with tenant
    isolation, ``context`` the object that the runtime client has made for the handler:
    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    __slots__ = ("context",)

    def __init__(self, context: Any) -> None:
        self.context = context

    @property
    def request_id(self) -> str:
        return str(getattr(self.context, "aws_request_id", None) or "")

    @property
    def tenant_id(self) -> str:
        return str(getattr(self.context, "tenant_id", None) or "")

    @property
    def trace_id(self) -> str:
        return os.environ.get("_X_AMZN_TRACE_ID", "")  # which awslambdaric sets for each invocation

    def __repr__(self) -> str:
        return f"<CurrentInvocation {self.request_id!a}>"


_current: ContextVar[CurrentInvocation | None] = ContextVar("adapter.current_invocation", default=None)
# For threads that have no copy of their starter's context, as those of `threading` and of executors before Python 3.14:
# the process is at one invocation at a time.
_latest: CurrentInvocation | None = None


def current_invocation() -> CurrentInvocation | None:
    """The invocation that this code is run for; None if there has been none.

    Tasks, background tasks and the threads that Starlette, anyio and `asyncio.to_thread` use have that of the request
    they were started in; any other thread that of the process's latest.
    """
    return _current.get() or _latest


def log_filter(record: logging.LogRecord) -> bool:
    """A filter for a logging handler: gives each record ``aws_request_id``, ``trace_id`` and ``tenant_id``.

    ``logging.getLogger().handlers[0].addFilter(log_filter)``
    """
    invocation = current_invocation()
    record.aws_request_id = invocation.request_id if invocation else ""
    record.trace_id = invocation.trace_id if invocation else ""
    record.tenant_id = invocation.tenant_id if invocation else ""
    return True


def enter(context: object) -> Token[CurrentInvocation | None]:
    """An invocation begins; what `leave` takes when it has ended."""
    global _latest
    _latest = CurrentInvocation(context)
    return _current.set(_latest)


def leave(token: Token[CurrentInvocation | None]) -> None:
    _current.reset(token)

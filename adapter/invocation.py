"""The invocation: what the Runtime API has said of it; at hand wherever code runs for it, without a request."""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from contextvars import Token
    from typing import Any

    from .work import Work


class Invocation:
    """One invocation, as ``/next`` gave it, or, outside Lambda, as its context says. Ids are text, "" where unknown.

    ``invocation_id`` is the attempt's nonce, where the platform sends one: it
    is echoed, so that the answer of a timed-out attempt is not taken for that
    of the next one with the same request id. ``deadline_ms`` is in milliseconds
    since the epoch, None where there is none. ``context`` is the object that the
    runtime client has made for the handler:
    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    answered = False
    work: Work | None = None  # what it has under way

    def __init__(
        self,
        request_id: str,
        invocation_id: str | None = None,
        deadline_ms: int | None = None,
        *,
        trace_id: str | None = None,
        context: Any = None,
    ) -> None:
        self.request_id = request_id
        self.invocation_id = invocation_id
        self.deadline_ms = deadline_ms
        self.context = context
        self._trace_id = trace_id

    def __repr__(self) -> str:
        return f"<Invocation {self.request_id!a}>"

    @property
    def tenant_id(self) -> str:
        """That of a function with tenant isolation."""
        return str(getattr(self.context, "tenant_id", None) or "")

    @property
    def trace_id(self) -> str:
        """X-Ray's header, ``Root=1-…;Parent=…;Sampled=0``."""
        if self._trace_id is None:
            return os.environ.get("_X_AMZN_TRACE_ID", "")  # which awslambdaric sets for each invocation
        return self._trace_id

    @property
    def seconds_left(self) -> float:
        """Until Lambda ends it; infinite where that is not known, or has already passed: then a clock is wrong."""
        if self.deadline_ms is None:
            return float("inf")
        left = self.deadline_ms / 1000 - time.time()
        return left if left > 0 else float("inf")

    def answer(self) -> None:
        """A first byte of our response goes out: from here on the runtime client has nothing to post."""
        self.answered = True


current: ContextVar[Invocation | None] = ContextVar("adapter.current_invocation", default=None)
# For threads that have no copy of their starter's context, as those of `threading` and of executors before Python 3.14:
# where the process is at one invocation at a time.
_latest: Invocation | None = None


def current_invocation() -> Invocation | None:
    """The invocation that this code is run for; None if there has been none.

    Tasks, background tasks and the threads that Starlette, anyio, `asyncio.to_thread` and `adapter.Executor` use have
    that of the request they were started in; any other thread that of the process's latest, and none in a process
    that is at several at a time. A task that outlives its request, such as the consumer of a queue, has the latest
    invocation, too, once its own is over.
    """
    invocation = current.get()
    if invocation is None or invocation.work is None:
        return _latest or invocation
    return invocation


def remaining_time() -> float:
    """Seconds until the work of this invocation is cancelled: its deadline, less ``deadline_margin``.

    Infinite where there is no deadline: outside Lambda, in a lifespan. For any task, and for threads as with
    `current_invocation`. The platform's own figure is ``current_invocation().context.get_remaining_time_in_millis()``.
    """
    invocation = current_invocation()
    if invocation is None or invocation.work is None:
        return float("inf")
    return invocation.work.limit - time.monotonic()


def log_filter(record: logging.LogRecord) -> bool:
    """A filter for a logging handler: gives each record ``aws_request_id``, ``trace_id`` and ``tenant_id``.

    ``logging.getLogger().handlers[0].addFilter(log_filter)``
    """
    invocation = current_invocation()
    record.aws_request_id = invocation.request_id if invocation else ""
    record.trace_id = invocation.trace_id if invocation else ""
    record.tenant_id = invocation.tenant_id if invocation else ""
    return True


def read_deadline(text: str) -> int | None:
    """The header ``Lambda-Runtime-Deadline-Ms``; None if it is no number, or one of more than 15 digits."""
    return int(text) if text.isdecimal() and len(text) <= 15 else None


def enter(invocation: Invocation, *, alone: bool = True) -> Token[Invocation | None]:
    """An invocation begins, ``alone`` in this process; what `leave` takes when it has ended."""
    global _latest
    _latest = invocation if alone else None
    return current.set(invocation)


def leave(token: Token[Invocation | None]) -> None:
    global _latest
    current.reset(token)
    former = current.get()
    if former is not None and _latest is not None:
        _latest = former  # the one that this was called in

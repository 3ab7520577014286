"""`Executor`: a thread pool whose work belongs to the invocation that has asked for it."""

from __future__ import annotations

import concurrent.futures
import contextvars
from typing import TYPE_CHECKING

from .blocking import call
from .invocation import current_invocation
from .work import name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")


class Executor(concurrent.futures.ThreadPoolExecutor):
    """A `concurrent.futures.ThreadPoolExecutor` for work that nobody waits for, and that has to be done all the same.

    What is submitted in an invocation is done before that ends, as by
    `adapter.wait_until`; it runs in a copy of the submitter's context. For
    libraries that take an executor: ``slack_bolt.App(listener_executor=Executor())``.
    Outside an invocation it is an ordinary pool.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """As `concurrent.futures.Executor.submit`."""
        context = contextvars.copy_context()
        future = super().submit(context.run, lambda: call(fn, *args, **kwargs))
        invocation = current_invocation()
        work = invocation.work if invocation is not None else None
        if work is not None and work.state != "over":
            work.futures[future] = name_of(fn)
        return future

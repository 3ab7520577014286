"""Worker threads of anyio, in which Starlette runs `def` routes and background tasks: kept between invocations.

anyio ends its worker threads with the root task of the event loop: the one that `run_until_complete` waits for
(`find_root_task` in https://github.com/agronholm/anyio/blob/master/src/anyio/_backends/_asyncio.py). Under awslambdaric
no such task outlives an invocation. Each `def` route would start a thread, and lose what libraries keep in
thread-locals, such as clients and sessions.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

# Two private names. Where a Python lacks one of them, the threads end with their invocation, as without this module.
_mark: Any = getattr(asyncio.base_events, "_run_until_complete_cb", None)  # anyio looks for it in a task's callbacks
before_join: Any = getattr(threading, "_register_atexit", None)  # calls a function before Python joins the threads

_stops: dict[Callable[[Any], object], None] = {}
"""Methods of worker threads that end them, which anyio wants to be called at the end of the root task."""


class RootTask(asyncio.Task[None]):
    """A task that anyio takes for the root task of the loop. Nothing runs in it.

    When the app cancels all tasks, this one ends, too, since the app may wait for that. The threads outlast it.
    """

    @classmethod
    def start(cls, loop: asyncio.AbstractEventLoop) -> RootTask | None:
        """Start one on this loop; returns None if Python lacks a private name that it needs."""
        if _mark is None or before_join is None:
            return None
        task = cls(_pending(loop), loop=loop, name="adapter.worker_threads")
        task.add_done_callback(_mark)
        return task

    def cancel(self, msg: Any | None = None) -> bool:
        self.remove_done_callback(_mark)  # asyncio would stop the loop by it
        return super().cancel(msg)

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        if isinstance(getattr(fn, "__self__", None), threading.Thread):
            _stops[fn] = None
        else:
            super().add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Callable[[Any], object], /) -> int:
        if fn in _stops:
            del _stops[fn]
            return 1
        return super().remove_done_callback(fn)


async def _pending(loop: asyncio.AbstractEventLoop) -> None:
    await loop.create_future()


def _stop_threads() -> None:
    for stop in list(_stops):
        stop(None)


if before_join is not None:
    before_join(_stop_threads)
    os.register_at_fork(after_in_child=_stops.clear)  # a child process has none of these threads

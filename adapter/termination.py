"""SIGTERM under awslambdaric, by option: what is under way ends in time, then the lifespans do, then the process.

Without it the process of a managed runtime ends without a word; so it does without an extension
(`adapter.extension`), in its own words by SIGKILL. The asyncio runtime always does this.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from .exceptions import RuntimeApiError
from .extension import register
from .log import logger

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType

    from .environment import Environment
    from .ric import RuntimeClient

CANCEL, GIVE_UP, LEAVE, EXIT = 0.15, 0.35, 0.43, 0.47
"""Seconds after SIGTERM: when what is under way is cancelled, when it is given up, when the lifespans are, and when the
process ends however it stands. With an internal extension Lambda gives it 0.5
(https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown)."""

ON_SIGTERM = "as Lambda ends the environment (SIGTERM)"
"""Why something is cancelled, for messages."""


def exit_in(seconds: float, status: int) -> threading.Timer:
    """End the process then, if it has not ended by itself: threads that nobody can end would keep it."""
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()
    return timer


def register_for_sigterm(address: str) -> socket.socket | None:
    """See `register`; None where there are no extensions: then no SIGTERM comes, and all the rest goes on."""
    try:
        return register(address)
    except RuntimeApiError as exception:
        logger.info("There will be no SIGTERM before the end, and no lifespan shutdown: %s", exception)
        return None


def former_handler() -> Callable[[int, FrameType | None], Any] | None:
    """SIGTERM's handler that the function has installed: it is called last."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler if callable(handler) else None


class Termination:
    """SIGTERM's handler, and the wait for ``/next`` that it can end: installed once, in the init phase.

    A handler of Python's runs in the main thread, and awslambdaric's is within native code while it waits, on Python
    3.11: so the wait is in a thread. The event loop does not run meanwhile.
    """

    def __init__(self, home: Environment, client: RuntimeClient, address: str) -> None:
        self._home = home
        self._client = client
        self._extension = register_for_sigterm(address)
        self._ends_at: float | None = None
        self._waiting: queue.SimpleQueue[tuple[Any, BaseException | None]] | None = None
        self._former = former_handler()
        client.fetch = self.fetch
        signal.signal(signal.SIGTERM, self._received)

    def fetch(self, following: Callable[[], Any]) -> Any:
        """What ``following`` returns, which blocks; unless the process has to end."""
        events: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._waiting = events
        if self._ends_at is not None:
            self._end(self._ends_at)

        def wait() -> None:
            try:
                events.put((following(), None))
            except BaseException as exception:
                events.put((None, exception))

        threading.Thread(target=wait, name="next", daemon=True).start()
        event, exception = events.get()
        self._waiting = None
        if exception is not None:
            raise exception
        return event

    def _received(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        self._ends_at = ends_at = time.monotonic() + LEAVE
        exit_in(EXIT, 0)
        waiting = self._waiting
        if waiting is not None and waiting.empty():
            waiting.put((None, SystemExit(0)))  # from Python 3.12 on it is another thread of awslambdaric's that waits
            self._end(ends_at)
        # An invocation is under way: what ends the process is the next call of `fetch`.
        self._home.loop.call_soon_threadsafe(self._foresee)

    def _foresee(self) -> None:
        from . import background  # noqa: F401  # there is time now, and little when it is needed

        self._home.loop.call_later(CANCEL, self._cancel)

    def _cancel(self) -> None:
        current = self._client.current
        if current is not None and current.work is not None:
            current.work.shorten(GIVE_UP - CANCEL, ON_SIGTERM)

    def _end(self, at: float) -> NoReturn:
        self._home.run(self._home.shut_down(at - time.monotonic()))
        if self._former is not None:
            self._former(signal.SIGTERM, None)
        raise SystemExit(0)

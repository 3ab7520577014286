"""ASGI lifespan: startup once per execution environment, in its init phase.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from .exceptions import AppError, LifespanFailure, quoted
from .invocation import current
from .work import is_ending

if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Literal, TypeAlias

    from .types import ASGIApp, LifespanMode, Message
    from .work import Hook

    _State: TypeAlias = Literal[
        "called",  # it has been called, and has received nothing
        "starting up",  # it has received lifespan.startup
        "started",
        "unsupported",  # it does not speak lifespan
        "shutting down",  # it has received lifespan.shutdown
        "stopped",
        "failed",
    ]
    """Where the conversation with the app stands."""

MODES: tuple[LifespanMode, ...] = ("auto", "on", "off")

_PATIENCE = 3.0  # seconds for a startup to answer until it is logged where it is
_LAST_WORDS = 1.0  # seconds for an app to return after it has said that its startup failed


_ON_SEND: dict[tuple[_State, str], _State] = {
    ("starting up", "lifespan.startup.complete"): "started",
    ("starting up", "lifespan.startup.failed"): "failed",
    ("shutting down", "lifespan.shutdown.complete"): "stopped",
    ("shutting down", "lifespan.shutdown.failed"): "failed",
    # Unasked, of one that ends while it serves: Starlette's does, when a task group in it cancels it.
    ("started", "lifespan.shutdown.complete"): "stopped",
    ("started", "lifespan.shutdown.failed"): "failed",
}

_ON_RETURN: dict[_State, _State] = {
    "called": "unsupported",
    "starting up": "unsupported",
    "started": "stopped",
    "shutting down": "stopped",
}

_ON_RAISE: dict[_State, _State] = {
    "called": "unsupported",
    "starting up": "failed",
    "started": "failed",
    "shutting down": "failed",
}


class Lifespan:
    """The lifespan of one app.

    With ``mode`` "auto" an app that raises, returns or sends before it has
    received anything does not speak lifespan, and is served without; so is one
    that sends what is not lifespan's, or returns without a word. With "on"
    that is a failure. With both, an app that fails after it has received
    ``lifespan.startup`` fails its startup.

    ``state`` is what the app has put into ``scope["state"]``: to be copied for each request.
    """

    def __init__(self, app: ASGIApp, mode: LifespanMode) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._phase: _State = "called"
        self._message = ""
        self._answered = asyncio.Event()
        self._shutdown = asyncio.Event()
        self._exception: BaseException | None = None
        self._cancellation = asyncio.CancelledError("the lifespan is over")
        self._is_serving = False
        self.flushes: tuple[Hook, ...] = ()
        """What sends the telemetry of OpenTelemetry providers that the startup has set up."""
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Lifespan {self._phase}>"

    def is_same(self, other: Lifespan) -> bool:
        """Whether it is of the same app, in the same mode."""
        return self._app is other._app and self._mode == other._mode

    async def startup(self) -> None:
        """Run the app's startup; raises what the app raised, or `LifespanFailure`."""
        # The environment's, also where it is begun while an invocation is under way.
        context = contextvars.copy_context()
        context.run(current.set, None)
        self._task = asyncio.Task(self._run(), loop=asyncio.get_running_loop(), name="lifespan", context=context)
        answered = threading.Event()
        known = _providers()
        watched = answered, self._task, threading.get_ident()
        threading.Thread(target=self._watch, args=watched, name="startup", daemon=True).start()
        try:
            await self._answered.wait()
            if self._phase not in ("started", "stopped"):
                # After its verdict the app has to return: it raises what the verdict was about, if there is something.
                await asyncio.wait([self._task], timeout=_LAST_WORDS)
        except asyncio.CancelledError:  # by `Environment.leave`
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            raise
        finally:
            answered.set()
        if self._phase in ("started", "stopped"):
            self._is_serving = True
            # FastAPI makes them then (FASTAPI_OTEL_AUTO_CONFIGURE): no after_response could name them before.
            made = [provider for provider in _providers() if not any(provider is one for one in known)]
            self.flushes = tuple(provider.force_flush for provider in made if hasattr(provider, "force_flush"))
            return
        if self._phase == "failed" or self._mode == "on":
            if isinstance(self._exception, Exception):
                raise self._exception
            if self._exception is not None:
                is_cancelled = isinstance(self._exception, asyncio.CancelledError)
                ended = "was cancelled" if is_cancelled else f"raised {type(self._exception).__name__}"
                raise LifespanFailure(f"the application's startup {ended}") from self._exception
            raise LifespanFailure(self._message or "the application does not speak the lifespan protocol")
        from .log import logger

        logger.info("The application does not speak the lifespan protocol")

    async def shutdown(self) -> None:
        """Run the app's shutdown; raises what the app raised, or `LifespanFailure`."""
        if self._phase == "started" and self._task is not None and not self._task.get_loop().is_closed():
            self._is_serving = False
            self._shutdown.set()
            await asyncio.wait([self._task])
            if self._exception is not None:
                raise self._exception
            if self._message:
                raise LifespanFailure(self._message)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as exception:
            if is_ending(exception, self._task):
                raise
            if exception is not self._cancellation:
                self._exception = exception
            if self._is_serving:
                from .log import log_exception

                log_exception(exception, "The application's lifespan has ended before its shutdown")
            self._advance(_ON_RAISE.get(self._phase, self._phase))
        else:
            if self._is_serving and self._phase == "failed":
                from .log import logger

                logger.error("The application's lifespan has ended before its shutdown: %s", ascii(self._message))
            self._advance(_ON_RETURN.get(self._phase, self._phase))

    def _watch(self, answered: threading.Event, task: asyncio.Task[None], thread: int) -> None:
        """Log, in a thread of its own, where a startup is that does not answer: it may block the event loop.

        Lambda ends the init phase after 10 s, and repeats it with the first invocation, until the function's timeout:
        https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib
        """
        seconds = _PATIENCE
        while not answered.wait(seconds):
            from .log import logger

            logger.warning(
                "The application's lifespan startup has not answered for %g s, and Lambda ends the init phase of an "
                "on-demand function after 10 s. It waits at\n%s",
                seconds,
                _stack(task, thread),
            )
            seconds *= 2

    async def _receive(self) -> Message:
        if self._phase == "called":
            self._advance("starting up")
            return {"type": "lifespan.startup"}
        if self._phase in ("shutting down", "stopped", "failed"):
            raise self._cancellation  # as a server ends an app that asks for more: else one that loops never ends
        await self._shutdown.wait()
        self._advance("shutting down")
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = str(message.get("type"))
        answer = _ON_SEND.get((self._phase, kind))
        if answer is not None:
            self._message = str(message.get("message", ""))
            self._advance(answer)
            return
        state = self._phase
        if state == "called" or (state == "starting up" and not kind.startswith("lifespan.")):
            self._advance("unsupported")
        raise AppError(f"{quoted(kind)} cannot come while the lifespan is {state}")

    def _advance(self, state: _State) -> None:
        self._phase = state
        if state not in ("called", "starting up"):
            self._answered.set()


def _providers() -> list[Any]:
    """OpenTelemetry's global providers, of spans, metrics and logs; those that only stand for one to come, too."""
    getters = {
        "opentelemetry.trace": "get_tracer_provider",
        "opentelemetry.metrics": "get_meter_provider",
        "opentelemetry._logs": "get_logger_provider",
    }
    found = [getattr(sys.modules.get(module), name, None) for module, name in getters.items()]
    return [get() for get in found if get is not None]


def _stack(task: asyncio.Task[None], thread: int) -> str:
    """Where the app is: in its code that this thread runs, or in the await at which its task is suspended."""
    from .background import _NOT_THE_APPLICATION, _frames

    running: list[FrameType] = []
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not Lifespan._run.__code__:
        running.insert(0, frame)
        frame = frame.f_back
    frames = running if frame is not None else _frames(task.get_coro())
    places = ((frame, frame.f_lineno) for frame in frames if not _module(frame).startswith(_NOT_THE_APPLICATION))
    return "".join(traceback.StackSummary.extract(places).format()) or "no line of the application's"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))

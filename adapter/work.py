"""What an invocation has under way: its handler, the tasks born in it, and until when all of that may go on.

This part runs for every invocation; what comes after the response, where
there is something to come, is in `adapter.background`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import sys
import time
from typing import TYPE_CHECKING, Any

from .exceptions import AppError, ConfigurationError, text_of
from .invocation import current

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Coroutine, Sequence
    from types import FrameType
    from typing import Literal, TypeAlias

    from .background import BackgroundFailure
    from .invocation import Invocation
    from .stream import ResponseStream

    Hook: TypeAlias = Callable[[], object]

INFINITE = float("inf")


class Rules:
    """What the invocations of one adapter may do after their responses, and how long; times in seconds."""

    def __init__(
        self,
        *,
        drain_timeout: float = 10.0,
        deadline_margin: float = 1.0,
        after_response: Hook | Sequence[Hook] | None = None,
        on_background_error: Callable[[BackgroundFailure], object] | None = None,
        raise_background_errors: bool = False,
        sse_deadline_event: bool = False,
    ) -> None:
        for name, seconds in (("drain_timeout", drain_timeout), ("deadline_margin", deadline_margin)):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
                raise ConfigurationError(f"{name} must be seconds, 0 or more, not {seconds!r}")
        hooks = () if after_response is None else (after_response,) if callable(after_response) else after_response
        if not isinstance(hooks, tuple | list) or not all(callable(hook) for hook in hooks):
            raise ConfigurationError(f"after_response must be a function or a list of them, not {after_response!r}")
        if on_background_error is not None and not callable(on_background_error):
            raise ConfigurationError(f"on_background_error must be a function, not {on_background_error!r}")
        self.drain_timeout = drain_timeout
        self.deadline_margin = deadline_margin
        self.after_response = tuple(hooks)
        self.on_background_error = on_background_error
        self.raise_background_errors = raise_background_errors
        self.sse_deadline_event = sse_deadline_event


class Run:
    """One BackgroundTask, from its call on."""

    __slots__ = ("begun", "ended", "exception", "function", "in_thread")

    def __init__(self, function: object, in_thread: bool) -> None:
        self.function = function
        self.in_thread = in_thread
        self.begun = time.monotonic()
        self.ended: float | None = None
        self.exception: BaseException | None = None

    @property
    def seconds(self) -> float:
        return (time.monotonic() if self.ended is None else self.ended) - self.begun


class Born(asyncio.Task[Any]):
    """A task that was born in an invocation: whose, of which task, where in the source, and with what context."""

    __slots__ = ("begun", "born_context", "parent", "place", "work")

    work: Work
    born_context: contextvars.Context
    parent: Born | None
    place: tuple[str, int]
    begun: float


class Watch:
    """Has works expire at their limits.

    By one timer for all of them, which is late for none: to set one for each invocation, and to cancel it, would be two
    hundredths of what an invocation costs.
    """

    __slots__ = ("_at", "_timer", "_works", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._works: set[Work] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at = INFINITE  # when the timer goes off, as `time.monotonic`

    def add(self, work: Work) -> None:
        """Watch a work whose limit is set, or has been moved."""
        self._works.add(work)
        if work.limit < self._at:
            self._set(work.limit)

    def discard(self, work: Work) -> None:
        self._works.discard(work)

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        self._timer = self.loop.call_later(at - time.monotonic(), self._look)

    def _look(self) -> None:
        self._timer, self._at = None, INFINITE
        now = time.monotonic()
        for work in [work for work in self._works if work.limit <= now]:
            self._works.discard(work)
            work.expire()
        if self._works:
            self._set(min(work.limit for work in self._works))


class Work:
    """What one invocation does, from its handler's begin to its end.

    ``limit`` is when it is cancelled: the invocation's deadline, less the
    margin; as `time.monotonic`, infinite where there is none.
    """

    state: Literal["under way", "expired", "over"] = "under way"
    stream: ResponseStream | None = None
    is_http = False  # whether a response that has not begun can still be a 504
    is_concluded = False  # whether the handler is done, or has been given up
    drained = 0
    cancelled = 0
    value: Any = None
    error: BaseException | None = None
    logged: BaseException | None = None  # what the application has raised: nobody logs that again
    main: asyncio.Task[None] | None = None
    context: contextvars.Context | None = None
    loop: asyncio.AbstractEventLoop | None = None
    alarm: asyncio.Future[None] | None = None  # for who waits, after the handler, until the limit
    _watch: Watch | None = None
    _over: Callable[[Work], None] | None = None

    def __init__(self, invocation: Invocation, rules: Rules) -> None:
        self.invocation = invocation
        self.rules = rules
        self.tasks: set[Born] = set()
        self.futures: dict[asyncio.Future[Any] | concurrent.futures.Future[Any], str] = {}
        self.runs: list[Run] = []
        self.failed: list[Born] = []
        self.failures: list[BackgroundFailure] = []
        self.begun = time.monotonic()
        left = invocation.seconds_left
        self.margin = min(rules.deadline_margin, left / 2)
        self.limit = self.begun + left - self.margin
        self._outer, invocation.work = invocation.work, self

    def begin(self, watch: Watch, handler: Coroutine[Any, Any, Any], over: Callable[[Work], None]) -> None:
        """Run the handler in a task of its own; ``over`` is called, once, when it is done, or has been given up."""
        self.context = contextvars.copy_context()
        # Not by the task factory: the handler is what others are born in.
        self.main = asyncio.Task(self._conduct(handler), loop=watch.loop, name="invocation", context=self.context)
        self._over = over
        self._watch = watch
        self.loop = watch.loop
        if self.limit != INFINITE:
            watch.add(self)

    @property
    def has_more(self) -> bool:
        """Whether there is something to do after the handler; else `adapter.background` need not be imported."""
        return bool(
            self.tasks or self.failed or self.futures or self.runs or self.failures or self.rules.after_response
        )

    async def finish(self) -> None:
        """What comes after the handler: what it has left, failures, the cost record, hooks."""
        from .background import finish

        await finish(self)

    def end(self) -> None:
        """The invocation goes back to the runtime client."""
        self.state = "over"
        self._over = None  # a handler that was left behind, and ends later, ends nothing
        self.failed.clear()
        self.invocation.work = self._outer
        if self._watch is not None:
            self._watch.discard(self)

    def result(self) -> Any:
        """What the handler has returned; raises what it has raised."""
        error, self.error = self.error, None  # kept, it and its traceback would hold each other, until a collection
        if error is not None:
            raise _ordinary(error, "the handler")
        if self.rules.raise_background_errors and self.failures:
            exceptions = [_ordinary(failure.exception, failure.name) for failure in self.failures]
            if len(exceptions) == 1:
                raise exceptions[0]
            raise ExceptionGroup("background work has failed", exceptions)
        return self.value

    def shorten(self, seconds: float) -> None:
        """The process is about to end: what is under way has no more than ``seconds``, half the margin for cleanup."""
        self.margin = min(self.margin, seconds)
        self.limit = min(self.limit, time.monotonic() + seconds - self.margin)
        if self._watch is not None and self.state == "under way":
            self._watch.add(self)
        if self.alarm is not None and not self.alarm.done():
            self.alarm.set_result(None)

    def fail(self, name: str, exception: BaseException, seconds: float) -> None:
        """Keep a failure of background work for the hook, or for the handler to raise."""
        from .background import BackgroundFailure

        self.failures.append(BackgroundFailure(name, exception, self.invocation.request_id, seconds))

    def blame(self, exception: BaseException) -> tuple[str, float]:
        """Which BackgroundTask has raised it, and how long that ran; "" where it was none."""
        for run in reversed(self.runs):
            if run.exception is exception:
                return name_of(run.function), run.seconds
        return "", time.monotonic() - self.begun

    def done(self, task: Born) -> None:
        self.tasks.discard(task)
        if task._log_traceback and self.state != "over":  # it has failed, and nobody has asked for its exception so far
            self.failed.append(task)

    async def _conduct(self, handler: Coroutine[Any, Any, Any]) -> None:
        try:
            self.value = await handler
        except BaseException as exception:  # a panic in a Rust extension is one, and no Exception
            if is_ending(exception, self.main):
                raise
            self.error = exception
        # In the task's last step, not by a callback of it: that would be a turn of the loop more.
        if self.state == "under way":
            self.conclude()

    def conclude(self) -> None:
        """Nobody waits for the handler any longer."""
        over, self._over = self._over, None
        if over is not None:
            self.is_concluded = True
            over(self)

    def expire(self) -> None:
        """Its limit has come."""
        if self.main is None or self.main.done():
            return  # what follows the handler goes by the limit itself
        from .background import expire

        self.state = "expired"
        task = asyncio.Task(expire(self, self.main), loop=self.main.get_loop(), name="expiry", context=self.context)
        task.add_done_callback(self._expired)

    def _expired(self, task: asyncio.Task[None]) -> None:
        self.conclude()
        task.result()


def is_ending(exception: BaseException, task: asyncio.Task[None] | None) -> bool:
    """Whether it ends the process, or the task's coroutine has been closed: then it is nobody's error."""
    if isinstance(exception, GeneratorExit):
        return asyncio._get_running_loop() is None or asyncio.current_task() is not task
    return isinstance(exception, KeyboardInterrupt | SystemExit)


def _ordinary(error: BaseException, what: str) -> Exception:
    """awslambdaric takes what is no `Exception` for the end of the process."""
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError):
        made = AppError(f"{what} was cancelled")
    else:
        made = AppError(f"{what} raised {type(error).__name__}: {ascii(text_of(error))}")
    made.__cause__ = error
    return made.with_traceback(error.__traceback__)  # awslambdaric does not report causes


def make_task(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
    """The loop's task factory: a task is of the invocation that the code which makes it is run for."""
    invocation = current.get()
    work = invocation.work if invocation is not None else None
    if work is None or work.state == "over":
        return asyncio.Task(coro, loop=loop, **kwargs)
    parent = asyncio.current_task(loop)
    place, host = _origin(sys._getframe(1))
    if host is not None and host is not work.main and getattr(host, "work", None) is not work:
        return asyncio.Task(coro, loop=loop, **kwargs)  # in a task group of somebody else's
    context = kwargs.pop("context", None)
    if context is None:
        context = contextvars.copy_context()
    task = Born(coro, loop=loop, context=context, **kwargs)
    task.work = work
    task.born_context = context
    task.parent = parent if isinstance(parent, Born) else None
    task.place = place
    task.begun = time.monotonic()
    work.tasks.add(task)
    task.add_done_callback(work.done)
    return task


_BENEATH = ("asyncio.", "anyio.", "ddtrace.", "opentelemetry.", "sentry_sdk.")


def _origin(frame: FrameType | None) -> tuple[tuple[str, int], object]:
    """Where the application makes a task, above libraries and tracers; and the host of asyncio's task group, if any."""
    host = None
    while frame is not None and (name := frame.f_globals.get("__name__", "")).startswith(_BENEATH):
        if name == "asyncio.taskgroups":
            host = getattr(frame.f_locals.get("self"), "_parent_task", None)
        frame = frame.f_back
    return ("?", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno), host


def unretrieved(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: asyncio reports tasks whose exceptions nobody has asked for, when they go."""
    task = context.get("future")
    if isinstance(task, Born) and task.done():
        from .background import task_failed

        task_failed(task)
    else:
        loop.default_exception_handler(context)


def name_of(thing: Any) -> str:
    """The name of a function, a coroutine, a partial, an object that is called."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if isinstance(thing, asyncio.Task):
        thing = thing.get_coro()
    name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    module = getattr(thing, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) and module else str(name)


_watched: set[type] = set()


def watch_background_tasks() -> None:
    """See Starlette's BackgroundTasks: which run, how long, and which of them has failed.

    They are called within the application, out of sight: `BackgroundTask.__call__`
    is what all of them go through, FastAPI's too. What it does stays as it is.
    https://www.starlette.io/background/
    """
    module = sys.modules.get("starlette.background")
    task = getattr(module, "BackgroundTask", None)
    call: Any = vars(task).get("__call__") if task is not None else None
    if task is None or task in _watched or not inspect.iscoroutinefunction(call):
        return
    _watched.add(task)

    @functools.wraps(call)
    async def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        invocation = current.get()
        work = invocation.work if invocation is not None else None
        if work is None:
            return await call(self, *args, **kwargs)
        run = Run(getattr(self, "func", self), not getattr(self, "is_async", True))
        work.runs.append(run)
        if work.state == "expired":
            raise asyncio.CancelledError
        try:
            return await call(self, *args, **kwargs)
        except BaseException as exception:
            run.exception = exception
            raise
        finally:
            run.ended = time.monotonic()

    task.__call__ = watched

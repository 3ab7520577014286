"""What an invocation has under way: its handler, the tasks born in it, and until when all of that may go on.

This part runs for every invocation; what comes after the response, where
there is something to come, is in `adapter.background`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import logging
import sys
import time
from collections import deque
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

from .exceptions import AppError, ConfigurationError, has_more_to_say, related, text_of
from .invocation import current

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Coroutine, Sequence, Sized
    from types import FrameType
    from typing import Literal, TypeAlias

    from .background import BackgroundFailure
    from .invocation import Invocation
    from .stream import ResponseStream

    Hook: TypeAlias = Callable[[], object]

INFINITE = float("inf")

DRAIN_TIMEOUT = 10.0
"""Seconds for which the tasks of a request are waited for that nobody has asked for."""

# Turns of the event loop that the adapter waits for, at most, while something is ready. Before the handler: asyncpg
# needs four to notice, over TLS, that its server has closed a connection. After it: the consumer of a queue needs some.
_TURNS_BEFORE, _TURNS_AFTER = 8, 100


class Rules:
    """What the invocations of one adapter may do after their responses, and how long; times in seconds."""

    def __init__(
        self,
        *,
        drain_timeout: float | None = None,
        deadline_margin: float = 1.0,
        after_response: Hook | Sequence[Hook] | None = None,
        on_background_error: Callable[[BackgroundFailure], object] | None = None,
        raise_background_errors: bool = False,
        sse_deadline_event: bool = False,
    ) -> None:
        self.cancels_tasks = drain_timeout is not None
        drain_timeout = DRAIN_TIMEOUT if drain_timeout is None else drain_timeout
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


class TaskRecord:
    """Where a task of an invocation comes from: the work, the line that created it, when, and in which context."""

    __slots__ = ("context", "created_at", "place", "work")

    def __init__(self, work: Work, context: contextvars.Context, place: tuple[str, int]) -> None:
        self.work = work
        self.context = context
        self.place = place
        self.created_at = time.monotonic()


# The attribute of a task that its record is: whichever factory makes the task, it takes attributes.
_RECORD = "adapter_record"


def record_of(future: object) -> TaskRecord | None:
    """The record of a task that an invocation has created; None of any other future."""
    record: TaskRecord | None = getattr(future, _RECORD, None)
    return record


class ReadyQueue:
    """What the event loop calls in its next turn.

    asyncio's loop has a name for it, uvloop none, but one deque. Where there is neither, something is always ready.

    ``unseen`` is the number of turns in which sockets may be heard without a trace in this queue. asyncio's loop puts
    their callbacks here. uvloop calls them while it polls, which ends a turn, and notices the end of a connection in
    the turn after its last data.
    """

    __slots__ = ("_ready", "loop", "unseen")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.unseen = 0 if isinstance(loop, asyncio.BaseEventLoop) else 2
        parts = [loop._ready] if hasattr(loop, "_ready") else gc.get_referents(loop)
        queues = [part for part in parts if isinstance(part, deque)]
        self._ready: Sized = queues[0] if len(queues) == 1 else "something"

    def __bool__(self) -> bool:
        return bool(self._ready)

    async def empty(self, most: int, least: int = 1) -> None:
        """Let the loop turn until nothing is ready; at most, and at least, so many times."""
        for turn in range(1, most + 1):
            await asyncio.sleep(0)
            if turn >= least and not self._ready:
                break


class Watch:
    """Has works expire at their limits.

    By one timer for all of them, which is late for none: to set one for each invocation, and to cancel it, would be two
    hundredths of what an invocation costs.
    """

    __slots__ = ("_at", "_timer", "_works", "is_alone", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, is_alone: bool) -> None:
        self.loop = loop
        self.is_alone = is_alone
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
    is_alone = True  # whether no other invocation is under way in this process
    is_http = False  # whether a response that has not begun can still be a 504
    is_concluded = False  # whether the handler is done, or has been given up
    drained = 0
    cancelled = 0
    cause = ""  # of a limit that comes before the deadline
    value: Any = None
    error: BaseException | None = None
    logged: BaseException | None = None  # what the application has raised: nobody logs that again
    main: asyncio.Task[None] | None = None
    context: contextvars.Context | None = None
    loop: asyncio.AbstractEventLoop | None = None
    alarm: asyncio.Future[None] | None = None  # for who waits, after the handler, until the limit
    ready: ReadyQueue | None = None  # the loop's, where Lambda freezes the process between invocations
    _watch: Watch | None = None
    _over: Callable[[Work], None] | None = None

    def __init__(self, invocation: Invocation, rules: Rules) -> None:
        self.invocation = invocation
        self.rules = rules
        self.tasks: dict[asyncio.Task[Any], TaskRecord] = {}
        self.futures: dict[asyncio.Future[Any] | concurrent.futures.Future[Any], str] = {}
        self.runs: list[Run] = []
        self.failed: list[asyncio.Task[Any]] = []
        self.failures: list[BackgroundFailure] = []
        # Whether the deadline cancels tasks that nobody waits for: where an option says how long they are waited for.
        self.cancels_tasks = rules.cancels_tasks
        self.begun = time.monotonic()
        left = invocation.seconds_left
        self.margin = min(rules.deadline_margin, left / 2)
        self.limit = self.begun + left - self.margin
        self._outer, invocation.work = invocation.work, self

    def begin(self, watch: Watch, handler: Coroutine[Any, Any, Any], over: Callable[[Work], None]) -> None:
        """Run the handler in a task of its own; ``over`` is called, once, when it is done, or has been given up."""
        self.context = contextvars.copy_context()
        # Not by the task factory: the handler is what others are born in.
        self.main = asyncio.Task(
            self._conduct(watch, handler), loop=watch.loop, name="invocation", context=self.context
        )
        self._over = over
        self._watch = watch
        self.loop = watch.loop
        self.is_alone = watch.is_alone

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

    def shorten(self, seconds: float, cause: str = "as the process ends") -> None:
        """The process is about to end: what is under way has no more than ``seconds``, half the margin for cleanup."""
        self.cancels_tasks = True  # nothing needs them any more
        self.margin = min(self.margin, seconds)
        limit = time.monotonic() + seconds - self.margin
        if limit < self.limit:
            self.limit, self.cause = limit, cause
        if self._watch is not None and self.state == "under way":
            self._watch.add(self)
        if self.alarm is not None and not self.alarm.done():
            self.alarm.set_result(None)

    def why(self) -> str:
        """Why it is cancelled at its limit, for messages."""
        return self.cause or f"{self.margin:.1f} s before the function's time is up"

    def fail(self, name: str, exception: BaseException, seconds: float) -> None:
        """Keep a failure of background work for the hook, or for the handler to raise."""
        from .background import BackgroundFailure

        self.failures.append(BackgroundFailure(name, exception, self.invocation.request_id, seconds))

    def blame(self, exception: BaseException) -> tuple[str, BaseException, float]:
        """The BackgroundTask of which it comes: its name, what it has raised, how long it ran; "" where it is none's.

        The application may have raised another one in its place, with it as cause or context, or in a group: Starlette
        does, where it has a handler for it, which comes too late.
        """
        if self.runs:
            for one in related(exception):
                for run in reversed(self.runs):
                    if run.exception is one:
                        return name_of(run.function), one, run.seconds
        return "", exception, time.monotonic() - self.begun

    def done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if task._log_traceback and self.state != "over":  # it has failed, and nobody has asked for its exception so far
            self.failed.append(task)

    async def _conduct(self, watch: Watch, handler: Coroutine[Any, Any, Any]) -> None:
        if self.ready is not None and (self.ready.unseen or self.ready):
            await self._hear_of_pause(self.ready)
        if self.limit != INFINITE:
            watch.add(self)
        try:
            self.value = await handler
        except BaseException as exception:  # a panic in a Rust extension is one, and no Exception
            if is_ending(exception, self.main, self.is_alone):
                raise
            self.error = exception
        # In the task's last step, not by a callback of it: that would be a turn of the loop more.
        if self.state == "under way":
            self.is_concluded = True
            self._conclude_when_idle(_TURNS_AFTER)

    async def _hear_of_pause(self, ready: ReadyQueue) -> None:
        """Have clients hear what happened while the process was frozen: that a server has closed their connection, say.

        The loop's poll knows by now, and has put their callbacks behind the handler's first step.
        """
        try:
            await ready.empty(_TURNS_BEFORE, ready.unseen)
        except asyncio.CancelledError:
            main = cast("asyncio.Task[None]", self.main)
            main.uncancel()
            main.cancel()  # once more: the handler begins, and its first await raises this

    def _conclude_when_idle(self, turns: int) -> None:
        """Conclude when nothing is ready that could start further work of this invocation, or after so many turns."""
        if turns and self.ready:
            self.ready.loop.call_soon(self._conclude_when_idle, turns - 1)
        else:
            self.conclude()

    async def look(self) -> None:
        """Let the loop turn while something is ready that could start further work of this invocation."""
        if self.ready:
            await self.ready.empty(_TURNS_AFTER)

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


def is_ending(exception: BaseException, task: asyncio.Task[None] | None, is_alone: bool = True) -> bool:
    """Whether it ends the process, or the task's coroutine has been closed: then it is nobody's error.

    With other invocations in the process `sys.exit()` fails its own invocation only.
    """
    if isinstance(exception, GeneratorExit):
        return asyncio._get_running_loop() is None or asyncio.current_task() is not task
    return is_alone and isinstance(exception, KeyboardInterrupt | SystemExit)


def _ordinary(error: BaseException, what: str) -> Exception:
    """awslambdaric takes what is no `Exception` for the end of the process."""
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError):
        made = AppError(f"{what} was cancelled")
    elif isinstance(error, SystemExit):
        made = AppError(f"{what} has called sys.exit({error.code!r})")
    else:
        made = AppError(f"{what} raised {type(error).__name__}: {ascii(text_of(error))}")
    made.__cause__ = error if has_more_to_say(error) else None  # else it has nothing that this has not
    return made.with_traceback(error.__traceback__)  # awslambdaric does not report causes


def keep_task_factory(loop: asyncio.AbstractEventLoop) -> None:
    """Have each task of an invocation recorded, whichever task factory the app sets on the loop, and whenever.

    ``asyncio.eager_task_factory`` and X-Ray's ``AsyncContext`` are such factories: they make the tasks, as they would.
    """
    set_factory = loop.set_task_factory

    def set_task_factory(factory: Any) -> None:
        recorded = _recorded(factory)
        # https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.set_task_factory
        set_factory(recorded if recorded is make_task else functools.partial(_call, recorded))
        vars(loop)["get_task_factory"] = lambda: recorded  # anyio goes by what it finds there

    set_task_factory(loop.get_task_factory())
    vars(loop)["set_task_factory"] = set_task_factory


def _call(factory: Any, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
    """Call a task factory with the arguments that are not None: uvloop passes some that not every factory takes."""
    return factory(loop, coro, **{name: value for name, value in kwargs.items() if value is not None})


def _recorded(factory: Any) -> Any:
    """A task factory that makes tasks as this one does, asyncio itself where it is None, and records them."""
    if factory is None:
        return make_task
    if factory is make_task or hasattr(factory, _RECORD):
        return factory  # one of these, which the app has taken for a while and puts back
    recorded: Any = functools.partial(_make_by, factory)
    if sys.version_info >= (3, 12) and getattr(factory, "__code__", None) is asyncio.eager_task_factory.__code__:
        # anyio knows an eager factory by its code, and makes its own tasks with the constructor in its closure.
        construct = factory.__closure__[0].cell_contents
        recorded = asyncio.create_eager_task_factory(functools.partial(_make, construct))
    setattr(recorded, _RECORD, None)
    return recorded


def make_task(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
    """The loop's task factory: a task belongs to the invocation that the code which creates it runs for."""
    work = _current_work()
    if work is None:
        return asyncio.Task(coro, loop=loop, **kwargs)
    if kwargs.get("context") is None:
        kwargs["context"] = contextvars.copy_context()  # which Python 3.11's tasks do not tell
    task = asyncio.Task(coro, loop=loop, **kwargs)
    _record(task, work, kwargs["context"])
    return task


def _make_by(factory: Any, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
    return _make(lambda coro: factory(loop, coro, **kwargs), coro)


def _make(construct: Callable[..., Any], coro: Any, **kwargs: Any) -> Any:
    task, work = construct(coro, **kwargs), _current_work()
    if work is not None and isinstance(task, asyncio.Task) and record_of(task) is None:
        get_context = getattr(task, "get_context", contextvars.copy_context)  # the task's own, from Python 3.12 on
        _record(task, work, get_context())
    return task


def _current_work() -> Work | None:
    invocation = current.get()
    work = invocation.work if invocation is not None else None
    return None if work is None or work.state == "over" else work


def _record(task: asyncio.Task[Any], work: Work, context: contextvars.Context) -> None:
    record = TaskRecord(work, context, _origin(sys._getframe(2)))
    setattr(task, _RECORD, record)
    work.tasks[task] = record
    task.add_done_callback(work.done)


BENEATH = ("adapter.background", "adapter.work", "asyncio.", "anyio.", "ddtrace.", "opentelemetry.", "sentry_sdk.")


def _origin(frame: FrameType | None) -> tuple[str, int]:
    """Where the application creates a task: above libraries and tracers."""
    while frame is not None and frame.f_globals.get("__name__", "").startswith(BENEATH):
        frame = frame.f_back
    return ("?", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def unretrieved(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: asyncio reports tasks whose exceptions nobody has asked for, when they go."""
    task, exception = context.get("future"), context.get("exception")
    if isinstance(task, asyncio.Task) and record_of(task) is not None and task.done():
        from .background import task_failed

        task_failed(task)
    elif exception is None:
        loop.default_exception_handler(context)
    else:
        from .log import log_exception

        # As asyncio's own, but with causes and members where that formats logs as JSON, and without the task's repr(),
        # which calls the exception's.
        name = f": {name_of(task)}" if isinstance(task, asyncio.Task) else ""
        log_exception(exception, "%s%s", context.get("message"), name, to=logging.getLogger("asyncio"))


def attribute_of(thing: Any, name: str) -> Any:
    """An attribute; None if there is none. It does not call a ``__getattr__`` of the application's."""
    try:
        return object.__getattribute__(thing, name)
    except AttributeError:
        return None


def name_of(thing: Any) -> str:
    """The name of a function, a coroutine, a partial, an object that is called."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if isinstance(thing, asyncio.Task):
        thing = thing.get_coro()
    while isinstance(thing, MethodType):
        thing = thing.__func__
    name = attribute_of(thing, "__qualname__")
    if not isinstance(name, str):
        name = type(thing).__qualname__
    module = attribute_of(thing, "__module__")
    return f"{module}.{name}" if isinstance(module, str) and module else name


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

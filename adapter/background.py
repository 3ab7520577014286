"""What comes after the response, where there is something to come: drain, deadline, failures, the cost record, hooks.

Imported when it is first needed. Times are `time.monotonic`'s, in seconds.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import inspect
import time
import weakref
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from .blocking import to_thread
from .exceptions import AppError, DeadlineExceeded, repr_of
from .invocation import current_invocation
from .log import log_exception, logger
from .waiters import group_owners, owned, waiting_tasks
from .watchers import is_watcher
from .work import BENEATH, INFINITE, attribute_of, name_of, record_of, unretrieved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import CodeType, FrameType
    from typing import TypeAlias

    from .work import TaskRecord, Work

    _Future: TypeAlias = asyncio.Future[Any] | concurrent.futures.Future[Any]

_CONSEQUENCES = {
    "idle": "its caller gets a 504",
    "held": "its caller gets a 504",
    "open": "its response ends with an error",
    "lost": "its response did not get through",
}

_in_threads: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()
"""Of the futures that `wait_until` was called with, those of executors."""

_left: dict[object, set[asyncio.Task[Any]]] = {}
"""The tasks that invocations have left to themselves, by `_kind`: while one lives, nobody waits for others of it."""


class BackgroundFailure:
    """What ``on_background_error`` is called with: work whose caller already had its response, and that failed.

    ``name`` is that of the function of a BackgroundTask, or of a task's
    coroutine; ``seconds`` how long it ran; of an executor's work, since the
    invocation began. ``exception`` is `DeadlineExceeded`
    for work that was cancelled since its time was up.
    """

    __slots__ = ("exception", "name", "request_id", "seconds")

    def __init__(self, name: str, exception: BaseException, request_id: str, seconds: float) -> None:
        self.name = name
        self.exception = exception
        self.request_id = request_id
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"<BackgroundFailure of {self.name}: {repr_of(self.exception)}>"


async def finish(work: Work) -> None:
    """All that follows the handler: what it has left under way, failures, the cost record, hooks."""
    work.loop = asyncio.get_running_loop()
    responded = work.stream.ended_at if work.stream is not None and work.stream.ended_at else time.monotonic()
    if work.state == "under way":
        await _drain(work)
    # Also those that are done, and whose callbacks, `Work.done`, come with the next turn of the loop.
    for task in (*work.failed, *(task for task in work.tasks if task.done())):
        if task._log_traceback:  # still: the application does not ask any more
            task_failed(task)
    for failure in work.failures if work.rules.on_background_error is not None else ():
        await _call(work, "on_background_error hook", work.rules.on_background_error, failure)
    await _drain_hooks(work)  # of a failure in that the hook does not hear
    _record(work, responded)
    for hook in work.rules.after_response:
        await _call(work, "after_response hook", hook)
    await _drain_hooks(work)


async def expire(work: Work, main: asyncio.Task[None]) -> None:
    """The invocation has only its margin left: end its response, and cancel what is under way.

    Half of the margin is for the cleanup of what is cancelled. What has not
    ended then is left behind, and the invocation ends without it.
    """
    stream = work.stream
    error = _error(work)
    runs = [run for run in work.runs if run.ended is None]
    state = "idle" if stream is None else stream.state
    is_taken = stream is None or stream.ended_at > 0
    place, in_thread, is_waited_for = _whereabouts(work, main)
    if stream is not None:
        stream.expire(error, http=work.is_http, sse_event=work.rules.sse_deadline_event)
    consequence = _CONSEQUENCES.get(state, "its caller had its response" if is_taken else "its response was on its way")
    if state in ("idle", "held") and not (work.is_http and stream is not None):
        consequence = "its caller gets an invocation error"
    await _end(work, error, consequence, work.limit + work.margin / 2, main, is_background=is_taken)
    left = not main.done()
    in_thread &= left or not is_waited_for
    if runs:
        for run in runs:
            _cancelled(work, error, name_of(run.function), run.seconds, run.in_thread, left, consequence)
    elif state in ("closed", "lost") and is_taken:
        # Also for frameworks whose background work is not Starlette's.
        name, seconds = f"of the application, at {place}", work.limit - work.begun
        _cancelled(work, error, name, seconds, in_thread, left, consequence)
    else:
        _log_cancelled(work, f"The application, at {place},", work.limit - work.begun, in_thread, left, consequence)
    if stream is not None:
        await stream.settle_in(work.limit + work.margin * 0.65 - time.monotonic())
    work.value = None if stream is None else {"statusCode": stream.status}
    work.error = None if work.invocation.answered else error


def task_failed(task: asyncio.Task[Any]) -> None:
    """A task has failed, and nobody has asked how it ended: log it, in its own context."""
    record = _recorded(task)
    file, line = record.place
    seconds = time.monotonic() - record.created_at
    context = record.context.copy()  # tracers go by the context to see an exception once
    context.run(_failed, record.work, task.exception(), f"{_name(task)} ({file}:{line})", _name(task), seconds, task)


def _recorded(task: asyncio.Task[Any]) -> TaskRecord:
    """The record of a task that is known to have one."""
    return cast("TaskRecord", record_of(task))


def _failed(
    work: Work,
    exception: BaseException | None,
    what: str,
    name: str,
    seconds: float,
    task: asyncio.Task[Any] | None = None,
) -> None:
    """Keep, and log, a failure; once, though one exception can come out of several tasks."""
    is_known = exception is work.logged or any(failure.exception is exception for failure in work.failures)
    if exception is None or is_known:
        return
    work.fail(name, exception, seconds)
    if task is not None and task.get_loop().get_exception_handler() not in (None, unretrieved):
        # The app's own, which asyncio calls behind a server when the task goes; in place of the log line, as there.
        message = "Task exception was never retrieved"
        task.get_loop().call_exception_handler({"message": message, "exception": exception, "future": task})
    elif work.state == "over" or not work.rules.raise_background_errors:
        request_id = ascii(work.invocation.request_id)
        log_exception(exception, "Background task %s failed in RequestId %s", what, request_id)


async def _drain(work: Work) -> None:
    """Wait for what the handler has left: tasks until ``drain_timeout``, what it has asked for, until the limit.

    At the limit what it has asked for is cancelled. A task that nobody has asked for is not: a library may need it in
    the next invocation.
    """
    cap = time.monotonic() + work.rules.drain_timeout
    while True:
        await work.look()
        now = time.monotonic()
        asked = _asked(work)
        tasks = _tasks(work) - asked.keys() if now < cap else set()
        waiting: set[asyncio.Future[Any]] = {*asked, *tasks}
        if not waiting:
            return
        left = await _wait(work, waiting, cap if tasks else INFINITE)
        done = waiting - left
        if done & asked.keys():
            cap = max(cap, time.monotonic() + work.rules.drain_timeout)  # what that has left is waited for as well
        for future in sorted(done, key=_created_at):
            work.drained += 1
            _ended(work, future, asked.get(future))
        if time.monotonic() >= work.limit:
            work.state = "expired"
            await _end(work, _error(work), "its handler had returned", work.limit + work.margin / 2)
            return
        _leave(work, tasks & left)


async def _wait(
    work: Work, futures: Iterable[asyncio.Future[Any]], cap: float = INFINITE, share: float = 0.0
) -> set[asyncio.Future[Any]]:
    """Wait for them all, until ``cap``, and until this ``share`` of the margin is gone; those that are not done then.

    `Work.shorten` can move the limit meanwhile.
    """
    left = {future for future in futures if not future.done()}
    # In a loop, as timers of uvloop's can be early, by less than a millisecond.
    while left and (seconds := min(cap, work.limit + work.margin * share) - time.monotonic()) > 0:
        loop = asyncio.get_running_loop()
        work.alarm = alarm = loop.create_future()
        everything = asyncio.Task(asyncio.wait(left), loop=loop)  # none of the invocation's
        timeout = None if seconds == INFINITE else seconds
        await asyncio.wait({everything, alarm}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        everything.cancel()
        await asyncio.wait({everything})
        left = {future for future in left if not future.done()}
    return left


async def _drain_hooks(work: Work) -> None:
    """Wait for what hooks have asked for: where the time is up, as long as they have themselves."""
    if work.futures and work.state == "under way":
        await _drain(work)
    elif asked := _asked(work):
        left = await _wait(work, asked, share=0.75)
        for future in asked.keys() - left:
            _ended(work, future, asked[future])
        await _end(work, _error(work), "its handler had returned", time.monotonic())


def _tasks(work: Work) -> set[asyncio.Future[Any]]:
    """The tasks to be waited for: created in the invocation, and not of a kind that does not end."""
    tasks: set[asyncio.Future[Any]] = {task for task in work.tasks if not task.done()}
    skipped = set(filter(_is_skipped, tasks))
    if not skipped and not _left:
        return tasks
    # With a task goes what is in its task groups, and what nobody else waits for.
    owners, waiters = group_owners(), {task: waiting_tasks(task) for task in tasks}
    skipped |= set(filter(_is_skipped, {waiter for found in waiters.values() for waiter in found}))
    while more := {
        task
        for task in tasks - skipped
        if owners.get(id(task)) in {id(one) for one in skipped} or (waiters[task] and waiters[task].keys() <= skipped)
    }:
        skipped |= more
    return tasks - skipped


def _is_skipped(task: Any) -> bool:
    """Whether a task is a library's watcher, or of a kind of which one has been left."""
    return _kind(task) in _left or is_watcher(_inner(task.get_coro()))


def _asked(work: Work) -> dict[asyncio.Future[Any], str]:
    """What `wait_until` was called with and has not been reported, as futures of the loop, with their names."""
    asked = {}
    for future, name in list(work.futures.items()):
        if isinstance(future, concurrent.futures.Future):
            del work.futures[future]
            future = asyncio.wrap_future(future)
            _in_threads.add(future)
            work.futures[future] = name
        asked[future] = name
    return asked


def _ended(work: Work, future: asyncio.Future[Any], name: str | None) -> None:
    """A future is done: how did it end?"""
    work.futures.pop(future, None)
    if future.cancelled():
        work.cancelled += 1
    elif isinstance(future, asyncio.Task) and record_of(future) is not None:
        if name is not None or future._log_traceback:  # else the application has asked how it ended: a task group has
            task_failed(future)
    else:
        name = name or _name(future)
        _failed(work, future.exception(), name, name, time.monotonic() - work.begun)


def _leave(work: Work, tasks: Iterable[Any]) -> None:
    """Leave tasks that have not ended to themselves, and name them: each kind once, while one of it lives."""
    for task in sorted(tasks, key=_created_at):
        kind = _kind(task)
        is_named = kind in _left
        _left.setdefault(kind, set()).add(task)
        task.add_done_callback(functools.partial(_forget, kind))
        if is_named:
            continue
        request_id = ascii(work.invocation.request_id)
        logger.warning(
            "Task %s, created at %s:%d, is still running %s: the adapter leaves it to itself. Lambda freezes it "
            "between invocations, and while it lives the adapter waits for no task of its kind. drain_timeout is how "
            "long the adapter waits; wait_until() is for work that has to be done",
            _name(task),
            *_recorded(task).place,
            f"at the deadline of RequestId {request_id}"
            if work.state == "expired"
            else f"{work.rules.drain_timeout:g} s after the end of RequestId {request_id}'s handler",
        )


def _forget(kind: object, task: asyncio.Task[Any]) -> None:
    tasks = _left[kind]
    tasks.discard(task)
    if not tasks:
        del _left[kind]


async def _end(
    work: Work,
    error: DeadlineExceeded,
    consequence: str,
    cleanup: float,
    *main: asyncio.Future[Any],
    is_background: bool = True,
) -> None:
    """Cancel the invocation's own work: the handler, what `wait_until` was called with, and what those wait for.

    Until ``cleanup`` each is cancelled once, and has that time for its cleanup. What is shielded, and what the cleanup
    starts, may end by itself until then. At last all of it is cancelled that has not ended. What nobody waits for is
    left to itself.

    Where the caller has no response yet, it is no background work: the request's failure tells of it.
    """
    asked = _asked(work)
    roots, owners = {*main, *asked}, group_owners()
    if work.cancels_tasks:
        roots |= {task for task in _tasks(work) if owners.get(id(task)) is None and not waiting_tasks(task)}
    before, started = set(work.tasks), time.monotonic()
    plain, shielded = owned(before, roots)
    await _cancel(roots | plain, cleanup)
    while (unended := _pending(shielded | _tasks(work) - before)) and (seconds := cleanup - time.monotonic()) > 0:
        await asyncio.wait(unended, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    owners |= group_owners()
    begun, hidden = owned(work.tasks, _pending(roots))
    own = roots | plain | _pending(shielded | begun | hidden)
    await _cancel_at_last(own, cleanup + work.margin * 0.1)
    for future in sorted(own - {*main}, key=_created_at):
        work.futures.pop(future, None)
        if owners.get(id(future)) is not None and future.done():
            continue  # the task that has opened its group is named
        in_thread, is_left = future in _in_threads, not future.done()
        if not (in_thread or is_left or future.cancelled() or future.exception() is not None):
            continue
        name, seconds = asked.get(future) or _name(future), started - (_created_at(future) or work.begun)
        if is_background or future in asked:
            _cancelled(work, error, name, seconds, in_thread, is_left, consequence)
        else:
            _log_cancelled(work, f"Task {name}", seconds, in_thread, is_left, consequence)
    _leave(work, _tasks(work) - own)


def _name(future: asyncio.Future[Any]) -> str:
    return name_of(_inner(future.get_coro()) if isinstance(future, asyncio.Task) else future)


async def _cancel(own: set[asyncio.Future[Any]], until: float) -> None:
    """Cancel, each once, and wait until all have ended, or ``until``.

    Those first that others wait for, and of the tasks of anyio's task groups one at a time, the oldest first: when one
    is cancelled, or its host is, anyio cancels the others of the group, again at each await, and what they have to
    clean up is not done. The oldest is taken for the one that does the work; the others watch over it.

    Who waits for one by a task group, `asyncio.wait` or a `gather` that returns exceptions takes a cancelled one for
    done, and goes on: to mark it as done, say. That is cancelled before it does.
    """
    told: set[asyncio.Future[Any]] = set()

    def tell(future: asyncio.Future[Any]) -> None:
        if future not in told:
            told.add(future)
            _cancel_one(future, own)

    def ended(_: asyncio.Future[Any]) -> None:
        # Who has waited for it is woken in the next turn of the loop.
        for future in filter(_is_woken, own):
            tell(future)

    for future in own:
        future.add_done_callback(ended)
    while (pending := _pending(own)) and (seconds := until - time.monotonic()) > 0:
        owners = group_owners()
        waiters = {waiter for future in pending for waiter in waiting_tasks(future)}
        awaited = {*owners.values(), *map(id, waiters)}
        leaves = [future for future in pending - told if id(future) not in awaited]
        batch = [future for future in leaves if owners.get(id(future)) is None]
        if not batch and leaves and not any(owners.get(id(future)) is not None for future in pending & told):
            batch = [min(leaves, key=_created_at)]
        for future in batch or (() if pending & told else pending):
            tell(future)
        await asyncio.wait(pending, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


async def _cancel_at_last(own: set[asyncio.Future[Any]], until: float) -> None:
    """Cancel what has not ended, in whatever order, once more or for the first time, and wait until ``until``."""
    pending = _pending(own)
    for future in pending:
        _cancel_one(future, own)
    if pending:
        await asyncio.wait(pending, timeout=max(until - time.monotonic(), 0))


def _cancel_one(future: asyncio.Future[Any], own: set[asyncio.Future[Any]]) -> None:
    """Cancel a future, and with it what it awaits; but no task that another request awaits, too."""
    awaited = getattr(future, "_fut_waiter", None)
    if isinstance(awaited, asyncio.Task) and awaited not in own and waiting_tasks(awaited).keys() - own:
        awaited.add_done_callback(lambda _: future.cancel())
    else:
        future.cancel()


def _pending(futures: Iterable[asyncio.Future[Any]]) -> set[asyncio.Future[Any]]:
    return {future for future in futures if not future.done()}


def _is_woken(future: asyncio.Future[Any]) -> bool:
    """Whether what a task waits for, asyncio's own note of it, is done."""
    awaited: asyncio.Future[Any] | None = getattr(future, "_fut_waiter", None)
    return awaited is not None and awaited.done()


def _created_at(future: asyncio.Future[Any]) -> float:
    record = record_of(future)
    return 0.0 if record is None else record.created_at


def _cancelled(
    work: Work, error: DeadlineExceeded, name: str, seconds: float, in_thread: bool, is_left: bool, consequence: str
) -> None:
    """Background work was cancelled: its failure is kept, and logged."""
    work.cancelled += 1
    work.fail(name, error, seconds)
    if not work.rules.raise_background_errors:
        _log_cancelled(work, f"Background task {name}", seconds, in_thread, is_left, consequence)


def _log_cancelled(work: Work, what: str, seconds: float, in_thread: bool, is_left: bool, consequence: str) -> None:
    outcome = (
        "runs in a thread, which cannot be cancelled: it goes on beside the next invocations, and ends with the process"
        if in_thread
        else "was cancelled, and has not ended in the time for its cleanup: it is left behind"
        if is_left
        else "was cancelled"
    )
    logger.error(
        "%s %s; after %.1f s, %s, in RequestId %s; %s",
        what,
        outcome,
        seconds,
        work.why(),
        ascii(work.invocation.request_id),
        consequence,
    )


def _error(work: Work) -> DeadlineExceeded:
    return DeadlineExceeded(f"not done after {time.monotonic() - work.begun:.1f} s, {work.why()}")


def _inner(coroutine: Any) -> Any:
    """What anyio or a tracer has wrapped: such a wrapper has the coroutine as its ``coro``, or its ``self`` has."""
    frame: FrameType | None = attribute_of(coroutine, "cr_frame")
    while frame is not None:
        inner = frame.f_locals.get("coro")
        if type(inner) is not CoroutineType and frame.f_globals.get("__name__", "").startswith(BENEATH):
            inner = getattr(frame.f_locals.get("self"), "coro", None)
        if type(inner) is not CoroutineType:
            break
        coroutine, frame = inner, inner.cr_frame
    return coroutine


def _kind(task: asyncio.Task[Any]) -> tuple[CodeType, str] | type:
    """By which tasks of one coroutine function are known."""
    coroutine = _inner(task.get_coro())
    # By name, too: all that one decorator has wrapped is one and the same code.
    code = attribute_of(coroutine, "cr_code")
    return type(coroutine) if code is None else (code, coroutine.__qualname__)


_NOT_THE_APPLICATION = ("adapter.", "anyio.", "asyncio.", "contextlib", "fastapi.", "starlette.")
# By which code a thread is waited for; and whether to the end, also when that is cancelled.
_IN_THREAD = {"in_thread": True, "run_sync_in_worker_thread": False, "to_thread": False}


def _whereabouts(work: Work, main: asyncio.Task[None]) -> tuple[str, bool, bool]:
    """The line that the application is at; whether a thread is what it waits for, and whether it will to the end."""
    place, threads = "?", set()
    owners = group_owners()
    parts = sorted((part for part in work.tasks if owners.get(id(part)) is not None), key=_created_at, reverse=True)
    for frame in (frame for part in (main, *parts) for frame in _frames(part.get_coro())):
        threads.add(_IN_THREAD.get(frame.f_code.co_name))
        if not frame.f_globals.get("__name__", "").startswith(_NOT_THE_APPLICATION):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    threads.discard(None)
    return place, bool(threads), False not in threads


def _frames(coroutine: Any) -> Iterable[FrameType]:
    """From the outermost to the innermost that it waits for."""
    while coroutine is not None:
        if type(coroutine).__name__ == "async_generator_asend":  # a step of one, which does not say of which
            coroutine = next((found for found in gc.get_referents(coroutine) if inspect.isasyncgen(found)), None)
        kind = {"coroutine": "cr", "async_generator": "ag", "generator": "gi"}.get(type(coroutine).__name__)
        if kind is None:
            return
        frame = getattr(coroutine, f"{kind}_frame")
        if frame is not None:
            yield frame
        coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")


async def _call(work: Work, what: str, hook: Callable[..., object] | None, *args: object) -> None:
    """Call a hook, a synchronous one in a thread: it may block. It has until a quarter of the margin is left."""
    name = f"{what} {name_of(hook)}"
    task = asyncio.create_task(_awaited(hook, *args))
    await _wait(work, [task], share=0.75)
    request_id = ascii(work.invocation.request_id)
    if not task.done():
        task.cancel()
        cause = work.cause and f", {work.cause}"
        logger.error("The %s has not ended when the time of RequestId %s was up%s", name, request_id, cause)
    elif not task.cancelled() and (exception := task.exception()) is not None:
        log_exception(exception, "The %s failed in RequestId %s", name, request_id)


async def _awaited(hook: Any, *args: object) -> None:
    if inspect.iscoroutinefunction(hook):
        await hook(*args)
        return
    result = await to_thread(hook, *args)
    if inspect.isawaitable(result):
        await result


def _record(work: Work, responded: float) -> None:
    """What the invocation's background work has cost, where it had any."""
    tasks_run = len(work.runs) + work.drained
    if not tasks_run and not work.failures:
        return
    fields = {
        "response_ms": round((responded - work.begun) * 1000, 1),
        "background_ms": round((time.monotonic() - responded) * 1000, 1),
        "tasks_run": tasks_run,
        "tasks_failed": sum(not isinstance(failure.exception, DeadlineExceeded) for failure in work.failures),
        "tasks_cancelled": work.cancelled,
    }
    logger.info(
        "Background work of RequestId %s: response after %s ms, then %s ms; %d tasks run, %d failed, %d cancelled",
        ascii(work.invocation.request_id),
        *fields.values(),
        extra=fields,
    )
    from .metrics import emit

    emit(fields, work.invocation.request_id)


def wait_until(work: Awaitable[Any] | concurrent.futures.Future[Any]) -> None:
    """Have the invocation wait for ``work`` before it ends; the caller of its response does not.

    An awaitable (a coroutine begins now), or a future of an executor. From the
    event loop and from threads, as with `current_invocation`. It is bounded by
    the invocation's deadline alone; its failure is logged as that of any
    background work.

    `AppError` where there is no invocation, or it is over already.
    """
    invocation = current_invocation()
    under_way = invocation.work if invocation is not None else None
    if under_way is None or under_way.state == "over":
        raise _refused(work, "wait_until is for the code of an invocation: there is none, or it is over")
    future: asyncio.Future[Any] | concurrent.futures.Future[Any]
    if not inspect.isawaitable(work):
        if not isinstance(work, concurrent.futures.Future):
            raise AppError(f"wait_until takes an awaitable or a concurrent.futures.Future, not {work!r}")
        future = work
    else:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            loop = under_way.loop
            if loop is None or not loop.is_running():
                message = "wait_until of an awaitable needs the event loop, which is not running here"
                raise _refused(work, message) from None
            future = asyncio.run_coroutine_threadsafe(_awaiting(work), loop)
        else:
            future = asyncio.ensure_future(work)
    under_way.futures[future] = name_of(work)


def _refused(work: object, message: str) -> AppError:
    if inspect.iscoroutine(work):
        work.close()
    return AppError(message)


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable

"""The asyncio runtime, ``python -m adapter main.handler``: next → invocation → next, on one event loop.

In place of awslambdaric, around the same handlers. On demand it has one invocation at a time, and the loop runs on
between them for as long as the process does. On Lambda Managed Instances it has as many at once as Lambda wants, each
asked for by a worker of its own on a connection of its own
(https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-runtimes.html); awslambdaric would be as many
processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import importlib
import inspect
import os
import signal
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .bootstrap import Bootstrap
from .environment import Environment, occupy
from .exceptions import ConfigurationError, RuntimeApiError, SeamError
from .garbage import hold_off, resume
from .invocation import Invocation, current, enter, read_deadline
from .log import log_related, logger
from .next_connection import NextConnection
from .runtime_api import RuntimeApi
from .termination import CANCEL, EXIT, GIVE_UP, LEAVE, ON_SIGTERM, exit_in, former_handler, register_for_sigterm
from .unmarshal import reader
from .work import Rules, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType

    from .environment import Over
    from .runtime_api import Post
    from .wire import Reply

# A /next that fails is asked for again: how often, and after how many seconds, doubled each time. As awslambdaric.
_ATTEMPTS, _DELAY = 5, 0.1

# A handler that is not ours is cancelled this many seconds before its deadline. One that calls an adapter inside leaves
# that to the adapter, which does it earlier.
_MARGIN = 0.25

LOOPS = ("auto", "asyncio", "uvloop")
"""Choices of an event loop, as uvicorn's ``--loop`` has them."""

# Packages that patch asyncio's own event loop and raise for any other, when a library calls them at its import.
_PATCHERS = ("nest_asyncio", "nest_asyncio2")


class Runtime:
    """The workers of one process, and what they have under way.

    ``concurrency`` is the number of workers; None, on demand, is one whose trace id is in the process's environment
    variables, too.
    """

    _handle: Callable[[Any, Any, Over], None]
    _context: contextvars.Context

    def __init__(
        self, api: RuntimeApi, bootstrap: Bootstrap, concurrency: int | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.api = api
        self.ending: int | None = None  # the exit status, from when on nothing more is asked for
        self._bootstrap = bootstrap
        self._concurrency = concurrency or 1
        self._sets_trace_id = concurrency is None
        self._trace_id = os.environ.get("_X_AMZN_TRACE_ID")
        self.environment = Environment(api, self, loop=loop, is_asynchronous=True, concurrency=self._concurrency)
        self._read = reader(_strict(), functools.partial(bootstrap.unmarshal, content_type="application/json"))
        self._rules = Rules()
        self._rules_of_sync = Rules(deadline_margin=_MARGIN)
        self._under_way: set[Invocation] = set()
        self._over = asyncio.Event()
        self._all_over = asyncio.Event()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The environment's event loop; final when the handler's module has been imported."""
        return self.environment.loop

    def invocation(self, request_id: object) -> Invocation | None:
        """The invocation that this code is run for, if it is the one of this request id."""
        invocation = current.get()
        if invocation is not None and invocation.request_id == request_id:
            return invocation
        # In a thread of the handler's own, which has no context of the invocation's.
        return next((one for one in list(self._under_way) if one.request_id == request_id), None)

    def take(self, handler: Callable[[Any, Any], Any]) -> None:
        """Have a handler: ours, an async function, or a function, which is run in a thread."""
        ours = _adapter_begin(handler)
        if ours is not None:
            self._handle = ours
        elif inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            self._handle = functools.partial(self._handle_async, handler)
        else:
            from .blocking import to_thread

            self._handle = functools.partial(self._handle_sync, lambda *of: to_thread(handler, *of))

    def run(self) -> int:
        """Until the end of the process: its exit status."""
        self._context = contextvars.copy_context()  # with what the handler's module has set
        former = former_handler()
        self.loop.add_signal_handler(signal.SIGTERM, self.stop, 0)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
        if self._concurrency > 1:
            # Which invocation has called it, cannot be told once the loop has stopped.
            vars(self.loop)["stop"] = functools.partial(_stop_unless_in_an_invocation, self.loop.stop)
        ended = self.loop.create_task(self._run())
        while not ended.done():
            try:
                self.loop.run_until_complete(ended)
            except BaseException as exception:
                if self._concurrency == 1 or not self._left_by_an_invocation(exception):
                    works = [invocation.work for invocation in self._under_way if invocation.work is not None]
                    self.environment.leave(exception, works, ended)
                    raise
        status = ended.result()
        if former is not None:
            former(signal.SIGTERM, None)
        return status

    def stop(self, status: int) -> None:
        """Ask for no more events, and end. Once more changes nothing."""
        self.ending = status if self.ending is None else self.ending
        self._over.set()
        exit_in(EXIT, self.ending)

    def begin(self, worker: Worker, headers: dict[str, str], event: bytes) -> None:
        """An event has come. Its handler runs in a task; nothing else does, for an invocation that goes well."""
        # In a context of its own, as under awslambdaric: what a handler leaves in a context variable is not there for
        # the next invocation.
        self._context.copy().run(self._begin, worker, headers, event)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.Task(work, loop=self.loop, context=self._context.copy())

    async def _run(self) -> int:
        workers = [Worker(self) for _ in range(self._concurrency)]
        for worker in workers:
            worker.ask()
        await self._over.wait()
        await self._end()
        return self.ending or 0

    def _begin(self, worker: Worker, headers: dict[str, str], event: bytes) -> None:
        trace_id = headers.get("lambda-runtime-trace-id", "")
        invocation = Invocation(
            headers["lambda-runtime-aws-request-id"],
            headers.get("lambda-runtime-invocation-id"),
            read_deadline(headers.get("lambda-runtime-deadline-ms", "")),
            trace_id=trace_id,
        )
        enter(invocation, alone=self._concurrency == 1)
        if self._sets_trace_id:
            self._set_trace_id(trace_id)
        self._under_way.add(invocation)
        try:
            context = self._bootstrap.context(headers, invocation.request_id, invocation.deadline_ms)
            invocation.context = context
            if headers.get("content-type") == "application/json":
                value = self._read(event)
            else:
                value = self._bootstrap.unmarshal(event, headers.get("content-type") or None)
            self._handle(value, context, functools.partial(self._ended, worker))
        except Exception as exception:
            worker.ending = asyncio.Task(self._fail(worker, invocation, exception), loop=self.loop)

    def _set_trace_id(self, trace_id: str) -> None:
        """In the environment, where tracers and the AWS SDKs look for it."""
        if "\0" in trace_id:
            logger.warning("The trace id %s has a NUL in it, and is not used", ascii(trace_id[:100]))
            trace_id = ""
        if trace_id:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id
        elif self._trace_id:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        self._trace_id = trace_id

    def _ended(self, worker: Worker, work: Work) -> None:
        """The handler is done, or has been given up."""
        if work.has_more or work.error is not None or not work.invocation.answered:
            worker.ending = asyncio.Task(self._finish(worker, work), loop=self.loop)
        else:
            work.end()
            self._next(worker, work.invocation)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT as SIGTERM; by default Python raises KeyboardInterrupt in whichever invocation runs."""
        status = 128 + number
        exit_in(EXIT, status)  # even if the app blocks the loop
        self.loop.call_soon_threadsafe(logger.error, "The process ends with status %d: SIGINT", status)
        self.loop.call_soon_threadsafe(self.stop, status)

    def _left_by_an_invocation(self, exception: BaseException) -> bool:
        """Return whether a task of an invocation has raised the exception that left the loop, and end the invocation.

        The runtime cancels its handler, and logs the failure of the task as that of any task.
        """
        from .exits import has_raised

        for work in [invocation.work for invocation in self._under_way if invocation.work is not None]:
            if work.main is not None and has_raised([*work.tasks, *work.failed], exception):
                work.main.cancel()
                return True
        return False

    async def _finish(self, worker: Worker, work: Work) -> None:
        invocation = work.invocation
        try:
            try:
                if work.has_more:
                    await work.finish()
            finally:
                work.end()
            value = work.result()
            if not invocation.answered:
                payload, content_type = self._bootstrap.marshal(value)
                await self._post(invocation, lambda post: post.whole(payload, content_type))
        except (Exception, asyncio.CancelledError) as exception:
            log_related(exception, "RequestId %s fails", ascii(invocation.request_id))
            await self._fail(worker, invocation, exception)
        else:
            self._next(worker, invocation)

    async def _fail(self, worker: Worker, invocation: Invocation, exception: BaseException) -> None:
        try:
            payload, error_type, cause = self._bootstrap.report(exception, invocation.request_id)
            if not invocation.answered:
                await self._post(invocation, lambda post: post.error(payload, error_type, cause))
        finally:  # else the worker would never ask again
            self._next(worker, invocation)

    async def _post(self, invocation: Invocation, say: Callable[[Post], None]) -> None:
        post = self.api.post(invocation.request_id, invocation.invocation_id, invocation.answer)
        # A loss is heard of in the context of a connection, which is another invocation's.
        context = contextvars.copy_context()
        post.lost = lambda reason: context.run(_lost, invocation, reason)
        say(post)
        await post.settle()

    def _next(self, worker: Worker, invocation: Invocation) -> None:
        """The invocation is over."""
        self._under_way.discard(invocation)
        if self.api.container_error:
            logger.error("The Runtime API reports a container error, after which a runtime has to exit")
            self.stop(1)
        elif self.ending is None:
            worker.ask()
        elif not self._under_way:
            self._all_over.set()

    def _handle_async(self, handler: Callable[[Any, Any], Any], event: Any, context: Any, over: Over) -> None:
        work = Work(self.environment.invocation(context)[0], self._rules)
        self.environment.begin(work, handler(event, context), over)

    def _handle_sync(
        self, handler: Callable[[Any, Any], Coroutine[Any, Any, Any]], event: Any, context: Any, over: Over
    ) -> None:
        """In a thread, also where there is one invocation at a time: it may call an adapter, whose work is done on the
        loop; and the loop has to run on, for lifespans and for SIGTERM.
        """
        work = Work(self.environment.invocation(context)[0], self._rules_of_sync)
        self.environment.begin(work, _awaited(handler(event, context)), over)

    async def _end(self) -> None:
        """What is under way is finished, or cancelled in time; then the lifespans are."""
        begun = self.loop.time()
        if self._under_way:
            from . import background  # noqa: F401  # there is time now, and little when it is needed

        await self._wait(begun + CANCEL)
        for invocation in self._under_way:
            if invocation.work is not None:
                invocation.work.shorten(GIVE_UP - CANCEL, "as the process ends" if self.ending else ON_SIGTERM)
        await self._wait(begun + GIVE_UP)
        for invocation in self._under_way:
            logger.error("The process ends before RequestId %s does", ascii(invocation.request_id))
        left = begun + LEAVE - self.loop.time()
        await self.environment.shut_down(left)

    async def _wait(self, until: float) -> None:
        """For all that is under way, and what may still come for requests that were made before the end."""
        while self._under_way and (left := until - self.loop.time()) > 0:
            self._all_over.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_over.wait(), left)


class Worker:
    """Asks for one event after another; at one invocation at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._connection: NextConnection | None = None
        self.ending: asyncio.Task[None] | None = None  # kept: the loop has weak references only
        self._opening: asyncio.Task[None] | None = None
        self._failures = 0

    def ask(self) -> None:
        """Ask for an event, however long it takes to come; not once the process is about to end."""
        if self._runtime.ending is not None:
            return
        if self._connection is None or self._connection.is_closed:
            self._opening = self._runtime.spawn(self._open())
        else:
            self._connection.ask()

    def received(self, reply: Reply) -> None:
        if reply.status == 200:
            try:
                headers = reply.headers
            except RuntimeApiError as exception:
                self.lost(str(exception))
                return
            if "lambda-runtime-aws-request-id" in headers:
                self._failures = 0
                self._runtime.begin(self, headers, reply.body)
                return
        answer = f"the Runtime API answered {reply.status} {ascii(reply.body[:500].decode('utf-8', 'replace').strip())}"
        if reply.status >= 500:
            self._give_up(answer)
        else:
            self.lost(answer)

    def lost(self, reason: str) -> None:
        """The worker is of use again as soon as it can ask; the others go on."""
        self._failures += 1
        if self._failures == _ATTEMPTS:
            self._give_up(reason)
        elif self._runtime.ending is None:
            logger.warning("No event could be fetched, and another try is made: %s", reason)
            self._runtime.loop.call_later(_DELAY * 2 ** (self._failures - 1), self.ask)

    async def _open(self) -> None:
        runtime = self._runtime
        try:
            self._connection = NextConnection(
                await runtime.api.connect(), runtime.api.address, self.received, self.lost
            )
        except RuntimeApiError as exception:
            self._give_up(str(exception))
        else:
            self._connection.ask()

    def _give_up(self, reason: str) -> None:
        logger.error("No events can be fetched any more, and the process ends: %s", reason)
        self._runtime.stop(1)


def main(arguments: list[str]) -> int:
    """``python -m adapter <handler>``: the process's exit status."""
    handler, loop_name = _options(arguments)
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        sys.stderr.write(
            "python -m adapter is for Lambda: the Runtime API is where AWS_LAMBDA_RUNTIME_API says. On your machine: "
            "python -m adapter.local --runtime adapter <module.function>\n"
        )
        return 2
    try:
        bootstrap = Bootstrap(address)
        concurrency = _concurrency()
        loop = _event_loop(loop_name)
    except (SeamError, ConfigurationError) as exception:
        sys.stderr.write(f"{exception}\n")
        return 1
    bootstrap.set_up_logging()
    extension = register_for_sigterm(address)
    runtime = Runtime(RuntimeApi(address, is_watched=True), bootstrap, concurrency, loop)
    occupy(runtime.environment)
    asyncio.set_event_loop(runtime.loop)
    hold_off()
    runtime.take(bootstrap.handler(handler))
    runtime.environment.adopt_loop()
    resume()
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        bootstrap.wait_for_restore()
    status = runtime.run()
    if extension is not None:
        extension.close()
    return status


def _options(arguments: list[str]) -> tuple[str, str]:
    """Return the handler's name, and that of the event loop."""
    loop_name = os.environ.get("ADAPTER_LOOP") or LOOPS[0]
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        return arguments[0], loop_name
    from argparse import ArgumentParser  # 5 ms of a cold start that has no options

    parser = ArgumentParser(prog="python -m adapter", allow_abbrev=False)
    parser.add_argument("handler", metavar="module.function")
    parser.add_argument("--loop", choices=LOOPS, help=f"the event loop (default: $ADAPTER_LOOP, or {LOOPS[0]})")
    options = parser.parse_args(arguments)
    return options.handler, options.loop or loop_name


def _concurrency() -> int | None:
    """How many invocations the process has at once, on Managed Instances."""
    value = os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY")
    if not value:
        return None
    if not value.isdecimal() or not int(value):
        raise ConfigurationError(f"AWS_LAMBDA_MAX_CONCURRENCY must be a number of invocations, not {ascii(value)}")
    return int(value)


def _adapter_begin(handler: Any) -> Callable[[Any, Any, Over], None] | None:
    """What begins the work of a handler of ours. `functools.wraps` copies it to a decorator that is around one."""
    ours: Callable[[Any, Any, Over], None] | None = getattr(handler, "adapter_begin", None)
    wrapped = getattr(handler, "__wrapped__", None)
    if ours is None or ours == getattr(wrapped, "adapter_begin", None):  # a bound method is another one each time
        return None
    kinds = type(handler).__mro__
    begins = next((kind for kind in kinds if "adapter_begin" in vars(kind)), None)
    calls = next((kind for kind in kinds if "__call__" in vars(kind)), None)
    if begins is None:  # its own, as streamify's is; or another object's, to which it passes on what it does not have
        return ours if "adapter_begin" in getattr(handler, "__dict__", ()) else None
    return ours if begins is calls else None  # a subclass has a __call__ of its own


def _event_loop(name: str) -> asyncio.AbstractEventLoop:
    """Make an event loop: uvloop for "auto" where it is installed, unless a package is that patches asyncio's own."""
    if name not in LOOPS:
        raise ConfigurationError(f"ADAPTER_LOOP must be one of {', '.join(LOOPS)}, not {ascii(name)}")
    if name == "asyncio" or (name == "auto" and any(map(find_spec, _PATCHERS))):
        return asyncio.new_event_loop()
    try:
        uvloop: Any = importlib.import_module("uvloop")
    except ModuleNotFoundError:
        if name == "uvloop":
            raise ConfigurationError("uvloop is not installed: install it, or choose --loop auto") from None
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _strict() -> Callable[[bytes], Any] | None:
    try:
        orjson: Any = importlib.import_module("orjson")
    except ModuleNotFoundError:
        return None
    loads: Callable[[bytes], Any] = orjson.loads
    return loads


def _stop_unless_in_an_invocation(stop: Callable[[], None]) -> None:
    if current.get() is not None:
        raise RuntimeError("loop.stop() would stop the event loop of all invocations in this process")
    stop()


async def _awaited(work: Coroutine[Any, Any, Any]) -> Any:
    result = await work
    return await result if inspect.isawaitable(result) else result


def _lost(invocation: Invocation, reason: str) -> None:
    logger.error("The result of RequestId %s did not get through: %s", ascii(invocation.request_id), reason)

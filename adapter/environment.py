"""The execution environment that this process is: one event loop for its whole life, and its Runtime API."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
from typing import TYPE_CHECKING

from .exceptions import AppError, RuntimeApiError, is_loggable, text_of
from .invocation import Invocation
from .runtime_api import RuntimeApi
from .stream import ResponseStream
from .work import ReadyQueue, Watch, keep_task_factory, unretrieved

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any, Protocol, TypeAlias, TypeVar

    from .buffered import BufferedReply
    from .lifespan import Lifespan
    from .response import Head
    from .termination import Termination
    from .work import Work

    T = TypeVar("T")

    Over: TypeAlias = Callable[[Work], None]

    class Source(Protocol):
        """Where the invocation that a handler is called for can be had from: `adapter.ric.Seam`, or the runtime."""

        def invocation(self, request_id: object) -> Invocation | None:
            """The one that is under way and has this request id."""


class Environment:
    """Where handlers run.

    ``api`` and ``source`` are None outside Lambda: in a unit test, or a script
    that calls its handler. The event loop is the same for every invocation, so
    that clients and pools that an app keeps go on working. Under awslambdaric
    it stands still between invocations, as all of the process does on Lambda;
    under the asyncio runtime it runs all the time (``concurrency``: how many
    invocations it has at a time), and synchronous code runs in threads.
    """

    def __init__(
        self,
        api: RuntimeApi | None = None,
        source: Source | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        is_asynchronous: bool = False,
        concurrency: int = 1,
    ) -> None:
        self.api = api
        self.is_alone = concurrency == 1
        self._take(loop or asyncio.new_event_loop())
        self.lifespans: list[Lifespan] = []  # those that have started
        self._source = source
        self._termination: Termination | None = None
        self._is_asynchronous = is_asynchronous
        self._forks_workers = False
        self._inherited: asyncio.AbstractEventLoop | None = None
        self._is_settled = False

    def adopt_loop(self) -> None:
        """Run everything on the event loop that the app's modules have been given so far, if there is one; once.

        Clients and pools that are made while a module is imported keep that loop: gRPC's channels do, and what
        ``asyncio.get_event_loop().run_until_complete(…)`` returns. Where the app closes such a loop later, another one
        takes its place.
        """
        if self._is_settled and not self.loop.is_closed():
            return
        self._is_settled = True
        # A name of asyncio's own. To ask by `asyncio.get_event_loop` would make a loop where there is none.
        given = getattr(getattr(asyncio.get_event_loop_policy(), "_local", None), "_loop", None)
        if given is None or given.is_closed() or given.is_running():
            given = asyncio.new_event_loop() if self.loop.is_closed() else self.loop
        if given is not self.loop:
            self.loop.close()
            self._take(given)
        if self.api is not None:
            # The process is ours: what asks for "the" loop from now on gets the one that requests run on.
            asyncio.set_event_loop(self.loop)

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run everything on this loop from now on."""
        self.loop = loop
        keep_task_factory(loop)
        if loop.get_exception_handler() is None:  # else it is the app's, as is a loop that has one
            loop.set_exception_handler(unretrieved)
        self._watch = Watch(loop, self.is_alone)
        self._root: asyncio.Task[None] | None = None
        self._queue = ReadyQueue(loop)
        # With several invocations at a time Lambda does not freeze the process, and others keep the queue full.
        self._ready = self._queue if self.is_alone else None

    def serve_in_workers(self) -> None:
        """Leave everything to the workers that awslambdaric forks from this process: see `ric.forks_workers`."""
        self._forks_workers = True
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """Take a new event loop: two processes cannot share the selector of one."""
        self._inherited = self.loop  # kept: a collection would close it, and take its sockets from the shared selector
        self._take(asyncio.new_event_loop())
        self.loop.set_task_factory(self._inherited.get_task_factory())  # the app's, where it has set one
        asyncio.set_event_loop(self.loop)

    def at_init(self, startup: Callable[[], None]) -> None:
        """Call ``startup`` in the init phase: now, or in each of the workers."""
        if self._forks_workers:
            from .ric import call_in_workers

            call_in_workers(startup)
        else:
            startup()

    def invocation(self, context: Any) -> tuple[Invocation, bool]:
        """The invocation that this context belongs to, and whether it is the platform's.

        It is not for a call with a context of somebody's own making: what such a
        call returns is its caller's. Such a context may be anything, and has no deadline.
        """
        request_id = getattr(context, "aws_request_id", None)
        invocation = self._source.invocation(request_id) if self._source is not None else None
        if invocation is None:
            return Invocation(str(request_id or ""), context=context), False
        invocation.context = context
        return invocation, True

    async def stream(self, invocation: Invocation, *, bodiless: bool = False) -> ResponseStream:
        """The stream on which this invocation is answered; nothing is sent yet."""
        if self.api is None:
            raise RuntimeApiError("there is no Runtime API outside Lambda")
        post = self.api.post(invocation.request_id, invocation.invocation_id, invocation.answer)
        if not post.take_kept():
            await post.connect()
            if invocation.work is not None and invocation.work.state == "expired":
                # Its time has come meanwhile, and its end is under way, without a response.
                await post.settle()
                raise asyncio.CancelledError
        stream = ResponseStream(post, invocation.request_id, bodiless=bodiless)
        post.lost = stream.lose
        return stream

    def buffered(
        self, invocation: Invocation, reply: Callable[[Head, bytes], Any], trigger: str, *, bodiless: bool = False
    ) -> tuple[ResponseStream, BufferedReply]:
        """The stream on which this invocation is answered in one piece, and the sink in which it is kept till then."""
        from .buffered import BufferedReply

        if self.api is None:
            raise RuntimeApiError("there is no Runtime API outside Lambda")
        post = self.api.post(invocation.request_id, invocation.invocation_id, invocation.answer)
        sink = BufferedReply(post, reply, trigger)
        stream = ResponseStream(sink, invocation.request_id, bodiless=bodiless)
        post.lost = stream.lose
        return stream, sink

    def serve(self, work: Work, handler: Coroutine[Any, Any, Any] | None) -> Any:
        """Do the work of an invocation, from synchronous code: the handler, if that is not done, and what follows it.

        Where the loop runs in another thread, as it does under our own runtime, this one waits for it.
        """
        if self._is_elsewhere:
            return self._from_here(self.conduct(work, handler))
        self.adopt_loop()
        work.ready = self._ready
        try:
            if handler is not None:
                self._refuse_nesting(handler)
                if self.api is not None and (self._root is None or self._root.done()):
                    self._keep_threads()
                work.begin(self._watch, handler, self._stop)
                try:
                    self.loop.run_forever()
                    if not work.is_concluded:
                        raise RuntimeError("the event loop was stopped before the handler was done")
                except BaseException as exception:
                    self.leave(exception, [work])
                    raise
            if work.has_more or (handler is None and self._queue):
                self._run(work.finish(), work)
        finally:
            work.end()
        if self.api is not None and self.api.container_error:
            error = RuntimeApiError("the Runtime API reports a container error, after which a runtime has to exit")
            self.leave(error, [work])
        try:
            return work.result()
        except Exception as exception:
            if self.api is None:
                raise
            from .log import log_related

            log_related(exception, "RequestId %s fails", ascii(work.invocation.request_id))
            if is_loggable(exception):
                raise
            raise AppError(f"{type(exception).__name__}: {ascii(text_of(exception))}") from exception

    def _keep_threads(self) -> None:
        """Have anyio keep its worker threads between invocations, on Lambda, where the app uses anyio."""
        if "anyio" in sys.modules:
            from .worker_threads import RootTask

            self._root = RootTask.start(self.loop)

    def begin(self, work: Work, handler: Coroutine[Any, Any, Any], over: Over) -> None:
        """Begin the work of an invocation, on the loop; ``over`` is called when the handler is done, or given up."""
        work.ready = self._ready
        work.begin(self._watch, handler, over)

    def _stop(self, work: Work) -> None:
        """A handler is done: stop the loop, for `serve`.

        At once, which is a turn of the loop less, if nothing would come with the next turn: connections that the app
        has closed are closed then, and what is to be called when the handler's task is done is; anyio ends its worker
        threads so. Afterwards the process may stand still for hours.
        """
        # A name of asyncio's own: who waits for the task.
        is_awaited = work.state != "under way" or getattr(work.main, "_callbacks", True)
        if is_awaited or self._queue:
            self.loop.call_soon(self.loop.stop)
        else:
            self.loop.stop()

    async def conduct(self, work: Work, handler: Coroutine[Any, Any, Any] | None) -> Any:
        """`serve`, on the loop."""
        work.ready = self._ready
        try:
            if handler is not None:
                over = asyncio.Event()
                work.begin(self._watch, handler, lambda _: over.set())
                await over.wait()
            if work.has_more:
                await work.finish()
        finally:
            work.end()
        return work.result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on the environment's loop: a lifespan's startup, say."""
        if self._is_elsewhere:
            return self._from_here(coroutine)
        self._refuse_nesting(coroutine)
        self.adopt_loop()
        return self._run(coroutine)

    def _run(self, coroutine: Coroutine[Any, Any, T], *works: Work) -> T:
        # A task, but none of the invocation's: it would wait for itself.
        task = asyncio.Task(coroutine, loop=self.loop)
        try:
            return self.loop.run_until_complete(task)
        except BaseException as exception:
            if not task.done() or isinstance(exception, KeyboardInterrupt | SystemExit):
                self.leave(exception, works, task)
            raise

    def leave(self, exception: BaseException, works: Sequence[Work], *tasks: asyncio.Task[Any]) -> None:
        """End the works and tasks after an exception that has left the event loop, and on Lambda the process.

        Raises:
            SystemExit: On Lambda, in place of another exception.
        """
        from .exits import end_works, exit_process

        if self.loop.is_running():
            return  # in another thread, where the runtime gets the exception as that of a handler
        try:
            if self.api is not None:
                exit_process(exception, *(work.invocation.request_id for work in works))
        finally:
            end_works(self.loop, exception, works, *tasks)

    @property
    def _is_elsewhere(self) -> bool:
        """Whether the loop runs in another thread, and this one may wait for it."""
        return self._is_asynchronous and self.loop.is_running() and asyncio._get_running_loop() is None

    def _from_here(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for the loop, in another thread, to run it, in this one's context."""
        from concurrent.futures import Future

        from .blocking import result_of

        future: Future[T] = Future()

        def begin() -> None:
            # A task, but none of the invocation's, as asyncio.run_coroutine_threadsafe's is: it would wait for itself.
            asyncio.Task(coroutine, loop=self.loop).add_done_callback(finish)

        def finish(task: asyncio.Task[T]) -> None:
            try:
                future.set_result(task.result())
            except BaseException as exception:  # for who waits
                future.set_exception(exception)

        self.loop.call_soon_threadsafe(begin)
        return result_of(future)

    def shut_down_on_sigterm(self) -> None:
        """End the lifespans on SIGTERM, under awslambdaric too; before the first event is asked for."""
        from .ric import Seam

        if isinstance(self._source, Seam) and self._termination is None and self.api is not None:
            from .termination import Termination

            self._termination = Termination(self, self._source.client, self.api.address)

    async def shut_down(self, seconds: float) -> None:
        """End the lifespans, all at once; one that is not done in time is left. What they raise is logged."""
        from .log import log_exception, logger

        tasks = [asyncio.Task(lifespan.shutdown(), loop=self.loop, name="shutdown") for lifespan in self.lifespans]
        self.lifespans.clear()
        if tasks:
            done, pending = await asyncio.wait(tasks, timeout=seconds)
            for task in done:
                if task.cancelled():
                    logger.error("A lifespan's shutdown was cancelled")
                elif (exception := task.exception()) is not None:
                    log_exception(exception, "A lifespan's shutdown has failed")
            if pending:
                logger.error("%d lifespan shutdown(s) were not done after %.2f s", len(pending), seconds)

    def _refuse_nesting(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        # In this thread; or in another one, which waits for a handler that calls one.
        if asyncio._get_running_loop() is not None or self.loop.is_running():
            coroutine.close()
            raise RuntimeError(
                "a Lambda handler is synchronous and cannot be called where an event loop is running: "
                "call it from synchronous code, or with asyncio.to_thread"
            )


_occupied: Environment | None = None


def occupy(made: Environment) -> None:
    """Make it this process's environment: before a handler's module is imported."""
    global _occupied
    _occupied = made


def environment() -> Environment:
    """This process's environment, made when the first handler is: on Lambda that is in the init phase.

    Lambda is where ``AWS_LAMBDA_RUNTIME_API`` is set
    (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html).
    Raises `SeamError`, which fails the init, if awslambdaric is not as known.
    """
    made = _occupied
    if made is None:
        address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
        if address:
            from .garbage import resume
            from .ric import Seam, forks_workers

            resume()
            made = Environment(RuntimeApi(address), Seam.install())
            if forks_workers():
                made.serve_in_workers()
        else:
            made = Environment()
            atexit.register(lambda: made.loop.close())
        occupy(made)
    if asyncio._get_running_loop() is None:
        made.adopt_loop()  # else the first invocation does: a loop that runs now may be closed after, by `asyncio.run`
    return made

"""`BlockingResponseStream`: what an ordinary function or generator writes its response to, in a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import threading
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

from .exceptions import AppError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from typing import ParamSpec, TypeVar

    from .stream import ResponseStream
    from .types import Piece, State

    P = ParamSpec("P")
    T = TypeVar("T")


_MOST_THREADS = 1064  # with the 64 of a Managed Instance a thousand that nobody waits for any longer


class BlockingResponseStream:
    """A `ResponseStream` whose methods block until they are done, for handlers that are no coroutines.

    Such a handler runs in a thread, so that the event loop goes on; these
    methods wait there for the loop to do what they say. On the loop itself they
    could wait for ever, and raise `AppError`.
    """

    def __init__(self, stream: ResponseStream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._waiting: concurrent.futures.Future[Any] | None = None
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<BlockingResponseStream {self.state}>"

    @property
    def state(self) -> State:
        return self._stream.state

    @property
    def status(self) -> int:
        """The status sent; 200 of a raw response."""
        return self._stream.status

    @property
    def content_type(self) -> str:
        """As `ResponseStream.content_type`."""
        return self._stream.content_type

    @content_type.setter
    def content_type(self, content_type: str) -> None:
        self._stream.content_type = content_type

    def http(
        self,
        status_code: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        cookies: Iterable[str] = (),
    ) -> None:
        """As `ResponseStream.http`."""
        self._wait(self._http(status_code, headers, cookies))

    def write(self, data: Piece) -> None:
        """As `ResponseStream.write`: blocks while the caller is slower than the writer."""
        self._wait(self._stream.write(data))

    def close(self) -> None:
        """As `ResponseStream.close`: blocks until the Runtime API has passed the response on."""
        self._wait(self._stream.close())

    def pipe(self, source: AsyncIterable[Piece] | Iterable[Piece]) -> Any:
        """As `ResponseStream.pipe`; a source that is not asynchronous is run through in this very thread."""
        if isinstance(source, AsyncIterable):
            return self._wait(self._stream.pipe(source), contextvars.copy_context())  # the source is the application's
        if isinstance(source, str | bytes | bytearray | memoryview):
            raise AppError(f"pipe takes an iterable of pieces; a {type(source).__name__} is one piece: write it")
        iterator = iter(source)
        try:
            while self.state != "lost":
                try:
                    piece = next(iterator)
                except StopIteration as end:
                    return end.value
                self.write(piece)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def cancel(self) -> None:
        """Raise CancelledError where the thread waits now, or next: the one way to reach into a thread."""
        self._cancelled = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _http(self, *args: Any) -> None:
        self._stream.http(*args)

    def _wait(self, work: Coroutine[Any, Any, T], context: contextvars.Context | None = None) -> T:
        if self._cancelled:
            work.close()
            raise asyncio.CancelledError
        if threading.get_ident() == self._loop_thread:
            work.close()
            raise AppError(
                "the response_stream of a handler that is not async blocks, and cannot be used on the event loop: "
                "declare the handler with async def"
            )
        # In an empty context it is no task of the invocation's, to be waited for or reported beside its handler.
        context = contextvars.Context() if context is None else context
        self._waiting = waiting = context.run(asyncio.run_coroutine_threadsafe, work, self._loop)
        try:
            return result_of(waiting)
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None


def result_of(future: concurrent.futures.Future[T]) -> T:
    """As ``future.result()``, which takes an exception that is false for none."""
    exception = future.exception()
    if exception is None:
        return future.result()
    try:
        raise exception
    finally:
        del exception, future  # its traceback refers to this frame


async def in_thread(stream: ResponseStream, function: Callable[..., T], *args: Any) -> T:
    """``function(response_stream, *args)`` in a thread, with a blocking ``response_stream`` and a copy of the context.

    When this is cancelled the function learns of it by its ``response_stream``;
    it is waited for, since a thread cannot be ended.
    """
    blocking = BlockingResponseStream(stream)
    # What asyncio.to_thread does, but with a future that is not cancelled together with this.
    context = contextvars.copy_context()
    future: asyncio.Future[T] = asyncio.get_running_loop().run_in_executor(
        threads(), lambda: context.run(call, function, blocking, *args)
    )
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        blocking.cancel()
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):  # once more: the function cannot be told more than it was
                await asyncio.wait([future])
        future.result()
        raise


async def to_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread`, in one of `threads`."""
    run = functools.partial(contextvars.copy_context().run, call, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(threads(), run)


@functools.cache
def threads() -> concurrent.futures.ThreadPoolExecutor:
    """For handlers and hooks that are not async; the loop's own executor is the app's.

    As many as are called at once, and those that did not end in time. Each has an event loop, as the main thread has
    under awslambdaric: handlers there call ``asyncio.get_event_loop().run_until_complete(…)``, and Mangum does.
    """
    return concurrent.futures.ThreadPoolExecutor(_MOST_THREADS, "handler", _give_it_a_loop)


def _give_it_a_loop() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())


def call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """In a thread. A future does not take a StopIteration, and would never be done: it becomes a RuntimeError, as that
    of any generator or coroutine does (PEP 479).
    """
    try:
        return function(*args, **kwargs)
    except StopIteration as exception:
        raise RuntimeError("a function that runs in a thread raised StopIteration") from exception

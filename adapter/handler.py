"""`streamify`: ``awslambda.streamifyResponse`` for Python."""

from __future__ import annotations

import functools
import inspect
import time
from typing import TYPE_CHECKING, Any, overload

from .blocking import in_thread
from .environment import environment
from .events import proxy_reply
from .exceptions import AppError, ConfigurationError
from .invocation import enter, leave
from .log import logger
from .pipe import is_source
from .response import Buffer
from .stream import ResponseStream
from .work import Rules, Work, is_ending, name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeAlias

    from .background import BackgroundFailure
    from .blocking import BlockingResponseStream
    from .environment import Environment, Over
    from .types import Handler, StreamingHandler
    from .work import Hook

    _Write: TypeAlias = Callable[[Any, ResponseStream, Any], Awaitable[Any]]


@overload
def streamify(
    *,
    drain_timeout: float | None = None,
    deadline_margin: float = 1.0,
    after_response: Hook | Sequence[Hook] | None = None,
    on_background_error: Callable[[BackgroundFailure], object] | None = None,
    sse_deadline_event: bool = False,
) -> Callable[[StreamingHandler], Handler]: ...


@overload
def streamify(handler: StreamingHandler) -> Handler: ...


def streamify(
    handler: StreamingHandler | None = None,
    *,
    drain_timeout: float | None = None,
    deadline_margin: float = 1.0,
    after_response: Hook | Sequence[Hook] | None = None,
    on_background_error: Callable[[BackgroundFailure], object] | None = None,
    sse_deadline_event: bool = False,
) -> Handler | Callable[[StreamingHandler], Handler]:
    """Make a function of ``(event, response_stream, context)`` a Lambda handler that streams.

    The caller has its whole response when ``response_stream`` is closed; the
    invocation goes on until the handler returns, and may use the time::

        @streamify
        async def handler(event, response_stream, context):
            response_stream.content_type = "text/plain"
            await response_stream.write(f"Hello my request id is: {context.aws_request_id}")
            await response_stream.close()
            print("response sent")
            await asyncio.sleep(5)
            print("done waiting")

    What it is decides where it runs, and what its ``response_stream`` is:

    - an async function or an async generator: on the event loop; `ResponseStream`
    - a function or a generator: in a thread; `BlockingResponseStream`

    What a generator yields is written. So is what a function returns if it is
    an iterable without a length: a generator, an open file. Any other value
    than None, of a handler that has not begun a response, is the answer, as of
    a handler that does not stream; after that it is not used, and a warning.

    An exception before the first byte is an invocation error, as of any
    handler; in mid-stream it ends the stream with Lambda's error trailers; after
    `close` it is logged by the runtime.

    Outside Lambda the handler returns what was written: text, or bytes that
    are not UTF-8; after `ResponseStream.http` the dict ``{"statusCode",
    "headers", "cookies", "body", "isBase64Encoded"}``.

    ``@streamify(deadline_margin=3)`` and the like: ``drain_timeout``, ``deadline_margin``, ``after_response``,
    ``on_background_error`` and ``sse_deadline_event`` are those of `StreamingAdapter`.

    `ConfigurationError` for what does not take these three arguments.

    https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html
    """
    rules = Rules(
        drain_timeout=drain_timeout,
        deadline_margin=deadline_margin,
        after_response=after_response,
        on_background_error=on_background_error,
        sse_deadline_event=sse_deadline_event,
    )
    return functools.partial(_streamify, rules) if handler is None else _streamify(rules, handler)


def _streamify(rules: Rules, handler: StreamingHandler) -> Handler:
    try:
        # What is called is the outermost decorator: its parameters count, not those of what it wraps.
        inspect.signature(handler, follow_wrapped=False).bind("event", "response_stream", "context")
    except NameError:
        pass  # of its annotations, which Python 3.14 evaluates here: imported for type checkers, say
    except (TypeError, ValueError) as exception:
        raise ConfigurationError(
            f"streamify takes a function of (event, response_stream, context), not {handler!r}: {exception}"
        ) from None
    home = environment()
    write = functools.partial(_on_loop if _is_async(handler) else _in_thread, handler)
    name = name_of(handler)

    @functools.wraps(handler)
    def lambda_handler(event: Any, context: Any) -> Any:
        invocation, is_platforms = home.invocation(context)
        token = enter(invocation, alone=home.is_alone)
        try:
            work = Work(invocation, rules)
            return home.serve(work, _answer(home, work, name, write, event, is_platforms))
        finally:
            leave(token)

    def adapter_begin(event: Any, context: Any, over: Over) -> None:
        invocation, is_platforms = home.invocation(context)
        work = Work(invocation, rules)
        home.begin(work, _answer(home, work, name, write, event, is_platforms), over)

    lambda_handler.__dict__["adapter_begin"] = adapter_begin
    return lambda_handler


def _is_async(handler: Any) -> bool:
    """Whether it is for the event loop: beneath partials and decorators that keep `functools.wraps`, too."""
    while handler is not None:
        for function in (handler, handler.__call__):
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                return True
        is_partial = isinstance(handler, functools.partial)
        handler = handler.func if is_partial else getattr(handler, "__wrapped__", None)
    return False


async def _on_loop(handler: Callable[..., Any], event: Any, stream: ResponseStream, context: Any) -> Any:
    result = handler(event, stream, context)
    if inspect.isawaitable(result):
        result = await result
    return await stream.pipe(result) if is_source(result) else result


async def _in_thread(handler: Callable[..., Any], event: Any, stream: ResponseStream, context: Any) -> Any:
    def work(response_stream: BlockingResponseStream) -> Any:
        result = handler(event, response_stream, context)
        if inspect.iscoroutine(result):
            result.close()
            raise AppError(f"{handler!r} returned a coroutine: declare it with async def")
        return response_stream.pipe(result) if is_source(result) else result

    return await in_thread(stream, work)


async def _answer(home: Environment, work: Work, name: str, write: _Write, event: Any, is_platforms: bool) -> Any:
    if is_platforms:
        work.stream = await home.stream(work.invocation)
        result = await _respond(work, work.stream, name, write, event)
        if work.stream.state == "idle":
            await work.stream.settle()  # its connection is free
            return result
        return {"statusCode": work.stream.status}
    buffer = Buffer()
    work.stream = stream = ResponseStream(buffer, work.invocation.request_id)
    result = await _respond(work, stream, name, write, event)
    if stream.state == "idle":
        return result
    body = bytes(buffer.body)
    if buffer.head is not None:
        return proxy_reply(buffer.head, body)
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


async def _respond(work: Work, stream: ResponseStream, name: str, write: _Write, event: Any) -> Any:
    """What the handler has returned, while the stream is idle: then that is the answer, for awslambdaric to post."""
    try:
        result = await write(event, stream, work.invocation.context)
    except BaseException as exception:
        if work.state == "expired" or is_ending(exception, work.main, work.is_alone):
            raise
        if stream.state == "closed":
            work.fail(name, exception, time.monotonic() - work.begun)
        work.logged = exception
        await stream.fail(exception)
        raise
    if result is None or stream.state != "idle":
        if result is not None:
            logger.warning(
                "The handler returned a value (%s) after it had begun its response; the value is not used",
                type(result).__name__,
            )
        await stream.close()
    return result

"""`streamify`: ``awslambda.streamifyResponse`` for Python."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any

from .environment import environment
from .events import proxy_reply
from .exceptions import AppError, ConfigurationError
from .response import Buffer
from .stream import ResponseStream

if TYPE_CHECKING:
    from .environment import Environment
    from .types import Handler, StreamingHandler


def streamify(handler: StreamingHandler) -> Handler:
    """Make ``async def handler(event, response_stream, context)`` a Lambda handler that streams.

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

    An exception before the first byte is an invocation error, as of any
    handler; in mid-stream it ends the stream with Lambda's error trailers; after
    `close` it is logged by the runtime. What the handler returns is not used.

    Outside Lambda the handler returns what was written: text, or bytes that
    are not UTF-8; after `ResponseStream.http` the dict ``{"statusCode",
    "headers", "cookies", "body", "isBase64Encoded"}``.

    https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html
    """
    if not inspect.iscoroutinefunction(handler):
        raise ConfigurationError(
            f"streamify takes an async function (event, response_stream, context), not {handler!r}"
        )
    home = environment()

    @functools.wraps(handler)
    def lambda_handler(event: Any, context: Any) -> Any:
        return home.run(_answer(home, handler, event, context))

    return lambda_handler


async def _answer(home: Environment, handler: StreamingHandler, event: Any, context: Any) -> Any:
    invocation = home.invocation(context)
    if invocation is not None:
        stream = await home.stream(invocation)
        await _write(stream, handler, event, context)
        return {"statusCode": stream.status}
    buffer = Buffer()
    await _write(ResponseStream(buffer, ""), handler, event, context)
    body = bytes(buffer.body)
    if buffer.head is not None:
        return proxy_reply(buffer.head, body)
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


async def _write(stream: ResponseStream, handler: StreamingHandler, event: Any, context: Any) -> None:
    try:
        await handler(event, stream, context)
    except (Exception, asyncio.CancelledError) as exception:
        await stream.fail(exception)
        if _is_loggable(exception):
            raise
        raise AppError(f"{type(exception).__name__}: {ascii(str(exception))}") from exception
    await stream.close()


def _is_loggable(exception: BaseException) -> bool:
    """Whether awslambdaric gets over it: for half a surrogate pair its log and its post raise, and the process ends."""
    try:
        str(exception).encode()
    except UnicodeEncodeError:
        return False
    return True

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from adapter.local.fronts.payload import function_url_event
from adapter.local.fronts.prelude import CONTENT_TYPE, Prelude, PreludeError, PreludeReader
from adapter.local.fronts.reply import Reply
from adapter.local.fronts.request import MAX_EVENT, ClientGoneError, read_body, read_request
from adapter.local.invocation import (
    ConcurrencyLimitError,
    FunctionError,
    Invocable,
    Invocation,
    Response,
    new_request_id,
    new_trace_id,
)
from adapter.local.log import Log

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

GZIP = 16 + zlib.MAX_WBITS  # zlib's number for its gzip format

TOO_LARGE = b'{"Message":"Request Entity Too Large"}'
CONCURRENCY_LIMIT = b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
FUNCTION_FAILED = b"Internal Server Error"

PROXY_RESULT_HINT = (
    "Hint: the function returned {'statusCode': ..., ...} and did not stream. A function URL with InvokeMode "
    "RESPONSE_STREAM does not read such a result: its caller gets status 200 and this JSON, here as on Lambda."
)


class FunctionURL:
    """A function URL with AuthType NONE and InvokeMode RESPONSE_STREAM, as an ASGI application.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
    """

    title = "Function URL"

    def __init__(self, function: Invocable, log: Log) -> None:
        self._function = function
        self._log = log
        self._hinted = False

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"a function URL has no {scope['type']}")
        request_id, trace_id = new_request_id(), new_trace_id()
        reply = Reply(scope["method"], request_id, send)
        try:
            body = await read_body(scope, receive)
        except ClientGoneError:
            return
        if body is None:
            await reply.whole(413, TOO_LARGE, "application/json")
            return
        configuration = self._function.configuration
        event = function_url_event(
            read_request(scope, body), region=configuration.region, request_id=request_id, trace_id=trace_id
        )
        if len(event) > MAX_EVENT:
            await reply.whole(413, TOO_LARGE, "application/json")
            return
        invocation = Invocation(event, configuration.arn, request_id, trace_id)
        try:
            await self._function.invoke(invocation)
        except ConcurrencyLimitError:
            await reply.whole(429, CONCURRENCY_LIMIT, "application/json")
            return
        await self._answer(invocation, reply)

    async def _answer(self, invocation: Invocation, reply: Reply) -> None:
        try:
            answer = await invocation.answer
            reply.invocation = invocation
            if isinstance(answer, FunctionError):
                await reply.whole(502, FUNCTION_FAILED, "text/plain")
            elif media_type(answer.content_type) == CONTENT_TYPE:
                await self._with_prelude(answer, reply)
            else:
                await self._raw(answer, reply)
            if invocation.handed_out:
                # Else it never had a START line: its environment did not get through its init.
                self._log.response(invocation, reply.status, reply.first_byte, reply.sent)
        finally:
            invocation.delivered()

    async def _with_prelude(self, response: Response, reply: Reply) -> None:
        """The head goes out when the prelude is complete, before any of the body.

        After that the caller is told of no error: the body just ends.
        """
        reader = PreludeReader()
        unpack: Callable[[bytes], bytes] = bytes
        try:
            async for chunk in response:
                if reply.status:
                    await reply.body(unpack(chunk))
                elif parsed := reader.feed(chunk):
                    prelude, rest = parsed
                    if prelude.gzip:
                        unpack = zlib.decompressobj(GZIP).decompress
                    await reply.head(prelude)
                    await reply.body(unpack(rest))
            if not reply.status:
                reader.close()
        except PreludeError as error:
            if response.error is None:
                self._log.line(f"RequestId: {reply.request_id} Error: the response's prelude cannot be used: {error}")
            await reply.whole(502, FUNCTION_FAILED, "text/plain")
        except zlib.error as error:
            self._log.line(f"RequestId: {reply.request_id} Error: the response says it is gzip, and is not: {error}")
            await reply.end()
        else:
            await reply.end()

    async def _raw(self, response: Response, reply: Reply) -> None:
        """Bytes as they are, under the content type of the runtime's POST."""
        head = Prelude(200, [("content-type", response.content_type or "application/octet-stream")])
        if response.streaming:
            await reply.head(head)
        async for chunk in response:
            if not reply.status:
                self._hint(chunk)
                await reply.head(head)
            await reply.body(chunk)
        if not reply.status:
            await reply.head(head)
        await reply.end()

    def _hint(self, payload: bytes) -> None:
        """Say once what a proxy result comes to here; its author would see JSON in the browser and no reason for it."""
        if self._hinted or b'"statusCode"' not in payload:
            return
        try:
            value = json.loads(payload)
        except ValueError:
            return
        if isinstance(value, dict) and "statusCode" in value:
            self._hinted = True
            self._log.line(PROXY_RESULT_HINT)


def media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()

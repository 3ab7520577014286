from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from adapter.local.fronts.payload import Request, function_url_event
from adapter.local.fronts.prelude import CONTENT_TYPE, Prelude, PreludeError, PreludeReader
from adapter.local.function import ConcurrencyLimitError, Function
from adapter.local.invocation import FunctionError, Invocation, Response, new_request_id, new_trace_id
from adapter.local.log import Log

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 6 MB of request payload.
MAX_EVENT = 6_291_456

GZIP = 16 + zlib.MAX_WBITS  # zlib's number for its gzip format

TOO_LARGE = b'{"Message":"Request Entity Too Large"}'
CONCURRENCY_LIMIT = b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
FUNCTION_FAILED = b"Internal Server Error"

PROXY_RESULT_HINT = (
    "Hint: the function returned {'statusCode': ..., ...} and did not stream. A function URL with InvokeMode "
    "RESPONSE_STREAM does not read such a result: its caller gets status 200 and this JSON, here as on Lambda."
)


class ClientGoneError(Exception):
    """The client closed its connection in the middle of its request."""


class FunctionURL:
    """A function URL with AuthType NONE and InvokeMode RESPONSE_STREAM, as an ASGI application.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
    """

    def __init__(self, function: Function, log: Log) -> None:
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


class Reply:
    """The HTTP reply to one caller. A client that has gone is no error: uvicorn drops what is sent to it."""

    def __init__(self, method: str, request_id: str, send: ASGISendCallable) -> None:
        self.request_id = request_id
        self.invocation: Invocation | None = None
        self.status = 0  # 0 until the head is out
        self.first_byte = 0.0  # seconds since the event was handed out
        self.sent = 0  # body bytes
        self._method = method
        self._send = send

    async def head(self, prelude: Prelude) -> None:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in prelude.headers]
        headers.append((b"x-amzn-requestid", self.request_id.encode()))
        await self._send({"type": "http.response.start", "status": prelude.status, "headers": headers})
        self.status = prelude.status
        if self.invocation is not None:
            self.first_byte = self.invocation.elapsed

    async def body(self, data: bytes) -> None:
        # HTTP has no body in these; h11 would refuse it.
        if data and self._method != "HEAD" and self.status not in (204, 304):
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self.sent += len(data)

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, status: int, body: bytes, content_type: str) -> None:
        await self.head(Prelude(status, [("content-type", content_type), ("content-length", str(len(body)))]))
        await self.body(body)
        await self.end()


def media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


async def read_body(scope: HTTPScope, receive: ASGIReceiveCallable) -> bytes | None:
    """The request's body; None if it is larger than a function URL takes. Raises ClientGoneError."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MAX_EVENT:
            return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > MAX_EVENT:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def read_request(scope: HTTPScope, body: bytes) -> Request:
    client, server = scope.get("client"), scope.get("server")
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    if server and not any(name == "host" for name, _ in headers):
        headers.append(("host", f"{server[0]}:{server[1]}"))  # HTTP/1.0 may name none
    return Request(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        protocol=f"HTTP/{scope['http_version']}",
        headers=headers,
        body=body,
        scheme=scope["scheme"],
        port=(server[1] if server else None) or 80,
        source_ip=client[0] if client else "127.0.0.1",
    )

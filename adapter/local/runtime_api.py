from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
import uuid
from collections import deque

import h11

from adapter.local.configuration import Configuration
from adapter.local.connection import Connection, Headers, TruncatedError
from adapter.local.extensions import ExtensionError, Extensions
from adapter.local.invocation import MAX_PAYLOAD, FunctionError, Invocation, Response
from adapter.local.listener import Listener, member
from adapter.local.log import Log
from adapter.local.states import Message, State, TransitionError, transition

PREFIX = "/2018-06-01/runtime"
EXTENSION_PREFIX = "/2020-01-01/extension"
ERROR_TYPE = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")

# What a header's value cannot hold.
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

INVOCATION_PATH = re.compile(rf"{PREFIX}/invocation/([^/]*)/(response|error)")


class Refusal(Exception):
    """An answer other than 202: `{"errorMessage": ..., "errorType": ...}`."""

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.value = {"errorMessage": message, "errorType": error_type}


class Oversize(Refusal):
    def __init__(self, limit: int) -> None:
        super().__init__(413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({limit} bytes).")


class RuntimeAPI(Listener):
    """The Runtime API of one execution environment, on a port of its own
    (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).

    The environment's side: `invoke` when `ready` is set; `changed` is set at each GET /next that ends a phase (init or
    an invocation; the last one, if there are extensions) and at POST /init/error, which fills `init_error`. States and
    refusals are those of an on-demand function; what the documentation leaves open was taken from AWS's own server, the
    Runtime Interface Emulator's.
    """

    def __init__(self, configuration: Configuration, log: Log) -> None:
        super().__init__()
        self.state = State.STARTED
        self.changed = asyncio.Event()
        self.changed_at = 0.0  # time.perf_counter() of the last change
        self.init_error: FunctionError | None = None
        self.extensions = Extensions(configuration)
        self._log = log
        self._invocation: Invocation | None = None
        # Each a GET /next that waits. An event goes to the first, also where the runtime has given that one up.
        self._nexts: deque[asyncio.Future[Invocation]] = deque()
        # Held while a response is passed on: a second post waits for its end, and is refused then.
        self._posting = asyncio.Lock()
        # Of the connections, those in a POST that answers an invocation.
        self._posts: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        return self.state is State.READY and self.extensions.waiting

    def invoke(self, invocation: Invocation) -> None:
        """Hand an event to the runtime and its extensions. Raises TransitionError if it is not waiting for one."""
        self._receive(Message.INVOKE)
        self._invocation = invocation
        self.changed.clear()
        self._nexts.popleft().set_result(invocation)
        self.extensions.invoke(invocation)

    def cut_off(self) -> None:
        """The invocation is over, by its deadline or ours: a post in progress is cut, a later one refused.

        A later one can only come from a process that has been given time to end. AWS's own server then takes the first,
        with 202, and throws it away; refused, its author can see that it went nowhere.
        """
        self._invocation = None
        for post in self._posts:
            post.cancel()

    def _receive(self, message: Message) -> None:
        before, self.state = self.state, transition(self.state, message)
        if self.state is not before and message in (Message.NEXT, Message.INIT_ERROR):
            self._invocation = None
            self.extensions.close_registration()
            self._change()

    def _change(self) -> None:
        if self.ready or self.state is State.INIT_ERROR:
            self.changed_at = time.perf_counter()
            self.changed.set()

    async def dispatch(self, connection: Connection, request: h11.Request) -> None:
        method, headers = request.method, dict(request.headers)
        path = request.target.decode("ascii").partition("?")[0]
        post = INVOCATION_PATH.fullmatch(path)
        if path in (f"{PREFIX}/invocation/next", f"{EXTENSION_PREFIX}/event/next"):
            wanted = b"GET"
        elif path in (f"{PREFIX}/init/error", f"{EXTENSION_PREFIX}/register") or post:
            wanted = b"POST"
        else:
            # Also /restore/next and /restore/error, which exist under SnapStart only, and the Telemetry API.
            await connection.reply(404, b"404 page not found\n", {"content-type": "text/plain; charset=utf-8"})
            return
        if method != wanted:
            await connection.reply(405, headers={"allow": wanted.decode()})
            return
        try:
            if post:
                await self._post(connection, post[1], post[2], headers)
            elif path == f"{PREFIX}/init/error":
                await self._init_error(connection, headers)
            elif path == f"{PREFIX}/invocation/next":
                await self._next(connection)
                return
            elif path == f"{EXTENSION_PREFIX}/register":
                await self._register(connection, headers)
                return
            else:
                await self._extension_next(connection, headers)
                return
        except TransitionError as error:
            await connection.reply_json(403, {"errorMessage": str(error), "errorType": "InvalidStateTransition"})
        except ExtensionError as error:
            await connection.reply_json(403, error.value)
        except Refusal as refusal:
            await connection.reply_json(refusal.status, refusal.value)
        else:
            await connection.reply_json(202, {"status": "OK"})

    async def _next(self, connection: Connection) -> None:
        self._receive(Message.NEXT)
        invocation = self._invocation  # Again, while it runs.
        if invocation is None:
            self._nexts.append(asyncio.get_running_loop().create_future())
            with self.wait_for_event():
                invocation = await self._nexts[-1]
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
            "Lambda-Runtime-Invocation-Id": invocation.invocation_id,
            "Lambda-Runtime-Client-Context": header_value(invocation.client_context or ""),
            "Lambda-Runtime-Aws-Tenant-Id": header_value(invocation.tenant_id or ""),
        }
        await connection.reply(200, invocation.event, {name: value for name, value in headers.items() if value})

    async def _register(self, connection: Connection, headers: Headers) -> None:
        name = headers.get(b"lambda-extension-name", b"").decode("latin-1")
        identifier, value = self.extensions.register(name, await whole(connection))
        await connection.reply_json(200, value, {"Lambda-Extension-Identifier": identifier})

    async def _extension_next(self, connection: Connection, headers: Headers) -> None:
        identifier = headers.get(b"lambda-extension-identifier", b"").decode("latin-1")
        event = self.extensions.next(identifier)
        self._change()
        with self.wait_for_event():
            await event
        fields = {"Content-Type": "application/json", "Lambda-Extension-Event-Identifier": str(uuid.uuid4())}
        await connection.reply(200, event.result(), fields)

    async def _post(self, connection: Connection, request_id: str, what: str, headers: Headers) -> None:
        async with self._posting:
            invocation = self._current(request_id, headers)
            with member(self._posts):
                if what == "response":
                    await self._response(connection, invocation, headers)
                else:
                    await self._error(connection, invocation, headers)

    def _current(self, request_id: str, headers: Headers) -> Invocation:
        """The invocation that a post is for."""
        invocation = self._invocation
        if invocation is None or invocation.request_id != request_id:
            raise Refusal(400, "InvalidRequestID", "Invalid request ID")
        attempt = headers.get(b"lambda-runtime-invocation-id")
        if attempt is not None and attempt.decode("latin-1") != invocation.invocation_id:
            raise Refusal(410, "InvokeTimeout", "Invoke timeout")
        return invocation

    async def _response(self, connection: Connection, invocation: Invocation, headers: Headers) -> None:
        self._receive(Message.RESPONSE)
        mode = headers.get(b"lambda-runtime-function-response-mode", b"")
        if mode == b"streaming":
            await self._stream(connection, invocation, headers)
        elif mode == b"":
            await self._buffer(connection, invocation, headers)
        else:
            # AWS's server stays in this state: all that the runtime can do now is refused until it is reset.
            invocation.fail(error_payload("Runtime.InvalidResponseModeHeader", "Invalid function response mode"))
            raise Refusal(400, "InvalidFunctionResponseMode", "Invalid function response mode")

    async def _stream(self, connection: Connection, invocation: Invocation, headers: Headers) -> None:
        response = Response(content_type(headers), streaming=True)
        invocation.respond(response)
        room = invocation.max_stream
        try:
            async for chunk in connection.body():
                await response.write(chunk[:room])
                if len(chunk) > room:
                    await self._sent(invocation, response, too_large(invocation.max_stream))
                    raise Oversize(invocation.max_stream)
                room -= len(chunk)
        except TruncatedError as truncated:
            await self._sent(invocation, response, error_payload("Runtime.TruncatedResponse", str(truncated)))
            raise Refusal(400, "TruncatedHTTPRequest", "HTTP request detected as truncated") from truncated
        # Without a Trailer header AWS's server ignores what follows the body.
        error = trailer_error(connection.trailers) if b"trailer" in headers else None
        await self._sent(invocation, response, error)

    async def _sent(self, invocation: Invocation, response: Response, error: FunctionError | None) -> None:
        """End the response; only when the caller has it, it counts as sent and may be acknowledged."""
        response.end(error)
        if error is not None and response.error is error:  # Else it had been ended for another reason: the deadline.
            self._log.stream_error(invocation, error)
        await invocation.wait_delivered()
        self._receive(Message.SENT)

    async def _buffer(self, connection: Connection, invocation: Invocation, headers: Headers) -> None:
        payload = bytearray()
        try:
            async for chunk in connection.body():
                payload += chunk
                if len(payload) > MAX_PAYLOAD:
                    break
        except TruncatedError as truncated:
            invocation.fail(error_payload("Runtime.TruncatedResponse", str(truncated)))
            await invocation.wait_delivered()
            self._receive(Message.SENT)
            raise Refusal(400, "TruncatedHTTPRequest", "HTTP request detected as truncated") from truncated
        if len(payload) > MAX_PAYLOAD:
            invocation.fail(too_large(MAX_PAYLOAD))
            await invocation.wait_delivered()
            self._receive(Message.SENT)
            raise Oversize(MAX_PAYLOAD)
        response = Response(content_type(headers), streaming=False)
        invocation.respond(response)
        await response.write(bytes(payload))
        await self._sent(invocation, response, None)

    async def _error(self, connection: Connection, invocation: Invocation, headers: Headers) -> None:
        self._receive(Message.ERROR)
        invocation.fail(FunctionError(error_type(headers), await whole(connection)))
        await invocation.wait_delivered()
        self._receive(Message.SENT)

    async def _init_error(self, connection: Connection, headers: Headers) -> None:
        error = FunctionError(error_type(headers), await whole(connection))
        if self.state is State.STARTED:
            self.init_error = error
        self._receive(Message.INIT_ERROR)


def content_type(headers: Headers) -> str | None:
    value = headers.get(b"content-type")
    return None if value is None else value.decode("latin-1")


def error_type(headers: Headers) -> str:
    """The runtime's error type if it has Lambda's form; else the nearest that has."""
    value = headers.get(b"lambda-runtime-function-error-type", b"").decode("latin-1")
    if ERROR_TYPE.search(value):
        return value
    return "Function.Unknown" if value.startswith("Function.") else "Runtime.Unknown"


def header_value(text: str) -> str:
    """On one line, as AWS's server, which is Go's, makes it; what is not ASCII goes out in UTF-8."""
    return CONTROL.sub(" ", text).strip()


def too_large(limit: int) -> FunctionError:
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return error_payload("Function.ResponseSizeTooLarge", message)


def error_payload(error_type: str, message: str) -> FunctionError:
    return FunctionError(error_type, json.dumps({"errorMessage": message, "errorType": error_type}).encode())


def not_started(exception: Exception) -> FunctionError:
    """What becomes of an environment whose process could not be started."""
    return error_payload("Runtime.InvalidEntrypoint", f"The function's process cannot be started: {exception}")


def trailer_error(trailers: Headers) -> FunctionError | None:
    """The error that a streamed response ended with: its type and, in base64, a JSON payload.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
    """
    error_type = trailers.get(b"lambda-runtime-function-error-type")
    if error_type is None:
        return None
    body = trailers.get(b"lambda-runtime-function-error-body", b"")
    try:
        payload = base64.b64decode(body, validate=True)
    except binascii.Error:
        # Shown as it came: that is the quickest way for its author to see what is wrong.
        payload = body
    return FunctionError(error_type.decode("latin-1"), payload)


async def whole(connection: Connection) -> bytes:
    """The request's body, of an error: what there is of it, should it be truncated."""
    body = bytearray()
    try:
        async for chunk in connection.body():
            body += chunk
    except TruncatedError:
        pass
    return bytes(body)

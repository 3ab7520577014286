from __future__ import annotations

import asyncio
import enum
import re
from collections import OrderedDict

import h11

from adapter.local.configuration import Configuration
from adapter.local.connection import Connection, Headers, TruncatedError
from adapter.local.extensions import ExtensionError, Extensions, parse_events
from adapter.local.invocation import MAX_PAYLOAD, FunctionError, Invocation, Response
from adapter.local.listener import Listener
from adapter.local.log import Log
from adapter.local.runtime_api import (
    EXTENSION_PREFIX,
    PREFIX,
    Oversize,
    Refusal,
    content_type,
    error_payload,
    error_type,
    header_value,
    too_large,
    trailer_error,
    whole,
)

INVOCATION_PATH = re.compile(rf"{PREFIX}/invocation/([^/]*)/(response|error)")

# Bytes of an error's body.
MAX_ERROR = 1024 * 1024

# How many invocations that timed out are remembered, for the late posts of their workers.
MAX_TIMED_OUT = 1000


class Progress(enum.Enum):
    """How far a worker is with an invocation."""

    WORKING = "nothing has been posted"
    RESPONDING = "a response is on its way"
    FAILING = "an error is"


class Post(enum.Enum):
    RESPONSE = "response"
    ERROR = "error"


# Everything that decides which post is accepted; any other is refused.
TRANSITIONS: dict[Progress, dict[Post, Progress]] = {
    Progress.WORKING: {Post.RESPONSE: Progress.RESPONDING, Post.ERROR: Progress.FAILING},
    Progress.RESPONDING: {Post.ERROR: Progress.FAILING},
    Progress.FAILING: {},
}


class Attempt:
    """An invocation that a worker has, until it is over: `ended` then has the error, None if it went well."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.progress = Progress.WORKING
        self.ended: asyncio.Future[FunctionError | None] = asyncio.get_running_loop().create_future()
        self.sending: asyncio.Task[None] | None = None  # passes a response on
        self.refusal: Refusal | None = None

    def receive(self, post: Post) -> None:
        """Raises Refusal; nothing has changed then."""
        progress = TRANSITIONS[self.progress].get(post)
        if progress is None:
            raise invalid_id()
        self.progress = progress

    def cut(self, refusal: Refusal | None) -> None:
        """End a response before the runtime does; its POST is refused, or, with None, gets no reply at all."""
        if self.sending is not None:
            self.refusal = refusal
            # Not by way of a future: nothing more of it may reach the caller from here on.
            self.sending.cancel()


class ResponseFault(Exception):
    """A response that is of no use: what the caller gets for it, and what the runtime."""

    def __init__(self, error: FunctionError, refusal: Refusal) -> None:
        super().__init__(error.type)
        self.error = error
        self.refusal = refusal


class Slot:
    """A worker that waits for an event: a GET /next and its connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.given: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()


class ManagedRuntimeAPI(Listener):
    """The Runtime API of a managed instance's environment, on a port of its own: that of `RuntimeAPI` for several
    invocations at a time (https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-runtimes.html).

    The environment's side: `initialised` is set at the first GET /next, or at a POST /init/error before it, which fills
    `init_error`; `invoke` with a slot out of `idle`. There is no state that all requests share: each GET /next is one
    more slot, and each invocation is over when its answer is, whatever its worker does next. What the documentation
    leaves open was taken from AWS's own server, the Runtime Interface Emulator's.
    """

    def __init__(self, configuration: Configuration, log: Log) -> None:
        super().__init__()
        self.extensions = Extensions(configuration)
        self.initialised = asyncio.Event()
        self.init_error: FunctionError | None = None
        self.idle: asyncio.Queue[Slot] = asyncio.Queue()
        self.slots = 0  # so many have been opened
        self._log = log
        self._init_failed = False
        self._running: dict[str, Attempt] = {}
        self._timed_out: OrderedDict[str, None] = OrderedDict()

    def running(self, request_id: str) -> Invocation | None:
        attempt = self._running.get(request_id)
        return attempt.invocation if attempt else None

    def invoke(self, slot: Slot, invocation: Invocation) -> Attempt:
        """Hand an event to a worker."""
        self._running[invocation.request_id] = attempt = Attempt(invocation)
        if slot.connection.closed:
            slot.given.cancel()
            self._lose(attempt)
        else:
            slot.given.set_result(attempt)
        return attempt

    def fail(self, attempt: Attempt, error: FunctionError) -> None:
        """The environment has failed the invocation; what its worker still posts is too late."""
        if attempt.progress is Progress.WORKING:
            self._timed_out[attempt.invocation.request_id] = None
            if len(self._timed_out) > MAX_TIMED_OUT:
                self._timed_out.popitem(last=False)
        attempt.cut(timed_out())
        self._end(attempt, error)

    def _end(self, attempt: Attempt, error: FunctionError | None) -> None:
        """The first call counts."""
        if not attempt.ended.done():
            del self._running[attempt.invocation.request_id]
            attempt.ended.set_result(error)

    def _lose(self, attempt: Attempt) -> None:
        error = error_payload("Runtime.Unknown", "The worker went away before it had the event")
        attempt.invocation.fail(error)
        self._end(attempt, error)

    async def dispatch(self, connection: Connection, request: h11.Request) -> None:
        method, headers = request.method, dict(request.headers)
        path = request.target.decode("ascii").partition("?")[0]
        post = INVOCATION_PATH.fullmatch(path)
        if path in (f"{PREFIX}/invocation/next", f"{EXTENSION_PREFIX}/event/next"):
            wanted = b"GET"
        elif path in (f"{PREFIX}/init/error", f"{EXTENSION_PREFIX}/register") or post:
            wanted = b"POST"
        else:
            await connection.reply(404, b"404 page not found\n", {"content-type": "text/plain; charset=utf-8"})
            return
        if method != wanted:
            await connection.reply(405)
            return
        try:
            if post and post[2] == "response":
                await self._response(connection, post[1], headers)
            elif post:
                await self._error(connection, post[1], headers)
            elif path == f"{PREFIX}/init/error":
                await self._init_error(connection, headers)
            elif path == f"{EXTENSION_PREFIX}/register":
                await self._register(connection, headers)
                return
            elif path == f"{EXTENSION_PREFIX}/event/next":
                await self._extension_next(headers)
                return
            else:
                await self._next(connection)
                return
        except ExtensionError as error:
            await connection.reply_json(403, error.value)
        except Refusal as refusal:
            await connection.reply_json(refusal.status, refusal.value)
        else:
            await connection.reply_json(202, {"status": "OK"})

    async def _register(self, connection: Connection, headers: Headers) -> None:
        """An internal extension, which is told of no invocation here: it has SIGTERM sent to the process at its end."""
        body = await whole(connection)
        if parse_events(body):
            # rapi/handler/agentregister.go of AWS's own server; the type is an ASSUMPTION.
            raise ExtensionError("Extension.InvalidEventType", "No events allowed for internal extensions")
        name = headers.get(b"lambda-extension-name", b"").decode("latin-1")
        identifier, value = self.extensions.register(name, body)
        await connection.reply_json(200, value, {"Lambda-Extension-Identifier": identifier})

    async def _extension_next(self, headers: Headers) -> None:
        event = self.extensions.next(headers.get(b"lambda-extension-identifier", b"").decode("latin-1"))
        with self.wait_for_event():
            await event

    async def _next(self, connection: Connection) -> None:
        self.extensions.close_registration()
        slot = Slot(connection)
        self.idle.put_nowait(slot)
        self.slots += 1
        self.initialised.set()
        with self.wait_for_event():
            attempt = await slot.given
        invocation = attempt.invocation
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
        try:
            await connection.reply(200, invocation.event, {name: value for name, value in headers.items() if value})
        except ConnectionError:
            self._lose(attempt)
            raise

    def _attempt(self, request_id: str, headers: Headers) -> Attempt:
        """What a post is for. Raises Refusal."""
        attempt = self._running.get(request_id)
        if attempt is None:
            if request_id not in self._timed_out:
                raise invalid_id()
            del self._timed_out[request_id]
            raise timed_out()
        nonce = headers.get(b"lambda-runtime-invocation-id")
        if nonce is not None and nonce.decode("latin-1") != attempt.invocation.invocation_id:
            raise timed_out()
        return attempt

    async def _response(self, connection: Connection, request_id: str, headers: Headers) -> None:
        attempt = self._attempt(request_id, headers)
        attempt.receive(Post.RESPONSE)
        attempt.sending = sending = asyncio.create_task(self._send(connection, attempt, headers))
        try:
            await asyncio.wait({sending})
        finally:
            sending.cancel()
        if not sending.cancelled():
            sending.result()
        elif attempt.refusal is not None:
            raise attempt.refusal
        else:
            raise ConnectionAbortedError

    async def _send(self, connection: Connection, attempt: Attempt, headers: Headers) -> None:
        """Pass a response on. When the caller has it the invocation is over; only then it may be acknowledged."""
        invocation = attempt.invocation
        refusal = None
        try:
            error = await self._pass_on(connection, invocation, headers)
        except ResponseFault as fault:
            error, refusal = fault.error, fault.refusal
            invocation.fail(error)
        except TruncatedError as truncated:
            error = error_payload("Runtime.TruncatedResponse", str(truncated))
            refusal = Refusal(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
            invocation.fail(error)
        if error is not None and isinstance(invocation.answer.result(), Response):
            self._log.stream_error(invocation, error)
        await invocation.wait_delivered()
        self._end(attempt, error)
        if refusal is not None:
            raise refusal

    async def _pass_on(self, connection: Connection, invocation: Invocation, headers: Headers) -> FunctionError | None:
        """The error in its trailers, if any. Raises ResponseFault and TruncatedError."""
        mode = headers.get(b"lambda-runtime-function-response-mode", b"")
        if mode not in (b"", b"streaming"):
            message = "Invalid function response mode"
            raise ResponseFault(
                error_payload("Runtime.InvalidResponseModeHeader", message),
                Refusal(400, "InvalidFunctionResponseMode", message),
            )
        streaming = mode == b"streaming"
        limit = invocation.max_stream if streaming else MAX_PAYLOAD
        response = Response(content_type(headers) or "application/octet-stream", streaming=streaming)
        if streaming:
            invocation.respond(response)
        payload, size = bytearray(), 0
        async for chunk in connection.body():
            size += len(chunk)
            if size > limit:
                raise ResponseFault(too_large(limit), Oversize(limit))
            if streaming:
                await response.write(chunk)
            else:
                payload += chunk
        if not streaming:
            invocation.respond(response)
            await response.write(bytes(payload))
        # Without a Trailer header whatever follows the body is ignored.
        error = trailer_error(connection.trailers) if b"trailer" in headers else None
        if error is not None:
            error = FunctionError(error_type(connection.trailers), error.payload)
        response.end(error)
        return error

    async def _error(self, connection: Connection, request_id: str, headers: Headers) -> None:
        error = await posted_error(connection, headers)
        attempt = self._attempt(request_id, headers)
        responding = attempt.progress is Progress.RESPONDING
        attempt.receive(Post.ERROR)
        attempt.cut(None)
        attempt.invocation.fail(error)
        if responding:
            self._log.stream_error(attempt.invocation, error)
        await attempt.invocation.wait_delivered()
        self._end(attempt, error)

    async def _init_error(self, connection: Connection, headers: Headers) -> None:
        error = await posted_error(connection, headers)
        if self._init_failed:
            message = (
                "State transition from InitError to InitError failed for runtime. "
                "Error: state transition is not allowed"
            )
            raise Refusal(403, "InvalidStateTransition", message)
        self._init_failed = True
        if not self.initialised.is_set():
            self.init_error = error
            self.initialised.set()


async def posted_error(connection: Connection, headers: Headers) -> FunctionError:
    """Raises Refusal, of one that is cut short as well: AWS's server does not tell that from one too large."""
    body = bytearray()
    try:
        async for chunk in connection.body():
            body += chunk
            if len(body) > MAX_ERROR:
                raise Oversize(MAX_PAYLOAD)
    except TruncatedError as truncated:
        raise Oversize(MAX_PAYLOAD) from truncated
    return FunctionError(error_type(headers), bytes(body))


def invalid_id() -> Refusal:
    return Refusal(400, "InvalidRequestID", "Invalid request ID")


def timed_out() -> Refusal:
    return Refusal(410, "InvokeTimeout", "Invoke timeout")

"""The Invoke API: how the AWS CLI and the SDKs call a function.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from adapter.local.asynchronous import EventQueue
from adapter.local.configuration import ACCOUNT, Configuration
from adapter.local.fronts import event_stream
from adapter.local.fronts.head import Headers
from adapter.local.fronts.prelude import Prelude
from adapter.local.fronts.reply import Reply
from adapter.local.fronts.request import MAX_EVENT, ClientGoneError, Request, read_body, read_request
from adapter.local.invocation import (
    MAX_PAYLOAD,
    MAX_STREAM,
    ConcurrencyLimitError,
    FunctionError,
    Invocable,
    Invocation,
    Response,
    UnavailableError,
    new_request_id,
    new_trace_id,
)
from adapter.local.log import Log
from adapter.local.web_pages import is_from_web_page, refuse

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
INVOKE_WITH_RESPONSE_STREAM = re.compile(r"/2021-11-15/functions/([^/]+)/response-streaming-invocations")

# The patterns are those of the API's model, where the parts of an ARN may be left out from its beginning.
NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
NAME = re.compile(NAME_PATTERN)
ARN, REGION, ACCOUNT_ID, FUNCTION_NAME, NAME_QUALIFIER = 1, 3, 9, 11, 13  # groups
MAX_REFERENCE, MAX_NAME = 256, 64  # of a whole ARN; of a name alone

QUALIFIER_PATTERN = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
QUALIFIER = re.compile(QUALIFIER_PATTERN)
MAX_QUALIFIER = 128

TENANT_PATTERN = r"[a-zA-Z0-9\._:\/=+\-@ ]+"
TENANT = re.compile(TENANT_PATTERN)
MAX_TENANT = 256

# Bytes. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_ASYNCHRONOUS_EVENT = 1024 * 1024
MAX_CLIENT_CONTEXT = 3583  # as sent, in base64

# Bytes of a stream before it is throttled
# (https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html#config-rs-bandwidth).
BURST = 6 * 1024 * 1024

# No versions and no aliases here: whatever the caller asks for is this code.
EXECUTED_VERSION = ("x-amz-executed-version", "$LATEST")
JSON = ("content-type", "application/json")
# Lambda once told errors that the runtime reported ("Handled") from others; by what is reported of it, all are this now
# (https://github.com/ministackorg/ministack/pull/1348).
FUNCTION_ERROR = "Unhandled"


class RefusedError(Exception):
    """The function is not invoked: a status, the error's type, and a JSON body that tells why."""

    def __init__(self, status: int, error_type: str, body: dict[str, str], headers: Headers | None = None) -> None:
        super().__init__(error_type)
        self.status = status
        self.error_type = error_type
        self.body = body
        self.headers = headers or []


def invalid(value: str, field: str, constraint: str) -> RefusedError:
    message = f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: {constraint}"
    return RefusedError(400, "ValidationException", {"message": message})


def refused(status: int, error_type: str, message: str) -> RefusedError:
    return RefusedError(status, error_type, {"Type": "User", "message": message})


@dataclass(frozen=True)
class Call:
    """What a caller asks for. `tail`: with the end of the log, for which it waits until the execution is over."""

    type: str
    streaming: bool
    tail: bool
    event: bytes
    arn: str
    trace_id: str
    client_context: str | None
    tenant_id: str | None


class InvokeAPI:
    """Invoke and InvokeWithResponseStream, as an ASGI application.

    Every function name is accepted and is this function. Nothing is authorised: credentials may be any, the signature
    is not read. Only web pages are refused: no developer has asked for what they send. A caller has its answer when the
    runtime has sent the whole of it, and the invocation goes on after that; one who asks for the log's tail waits for
    the end of the invocation, as on Lambda.
    """

    paths = (b"/2015-03-31/functions/", b"/2021-11-15/functions/")

    def __init__(self, function: Invocable, log: Log, events: EventQueue) -> None:
        self._function = function
        self._log = log
        self._events = events

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the Invoke API has no {scope['type']}")
        if is_from_web_page(scope["headers"]):
            self._log.line("A request was refused with 403: a web page in a browser sent it to the Invoke API")
            await refuse(
                send, 403, "This local Lambda refused the request: web pages have no access to its Invoke API."
            )
            return
        configuration = self._function.configuration
        throttled = configuration.throttle and INVOKE_WITH_RESPONSE_STREAM.fullmatch(
            scope["raw_path"].decode("latin-1")
        )
        reply = Reply(scope["method"], new_request_id(), send, burst=BURST if throttled else None)
        try:
            body = await read_body(scope, receive, MAX_EVENT)
        except ClientGoneError:
            return
        watching = asyncio.create_task(reply.watch(receive))
        try:
            if body is None:
                raise too_large()
            await self._invoke(read_call(read_request(scope, body), configuration), reply)
        except RefusedError as error:
            headers = [JSON, ("x-amzn-errortype", error.error_type), *error.headers]
            await reply.whole(error.status, headers, json.dumps(error.body).encode())
        finally:
            watching.cancel()

    async def _invoke(self, call: Call, reply: Reply) -> None:
        """Raises RefusedError."""
        if call.type == "DryRun":
            await reply.whole(204, [], b"")
            return
        invocation = Invocation(
            call.event,
            call.arn,
            reply.request_id,
            call.trace_id,
            # "For synchronous invocations only."
            client_context=None if call.type == "Event" else call.client_context,
            tenant_id=call.tenant_id,
            max_stream=MAX_STREAM if call.streaming else MAX_PAYLOAD,
        )
        if call.type == "Event":
            self._events.put(invocation)
            await reply.whole(202, [JSON], b"")
            return
        try:
            await self._function.invoke(invocation)
        except UnavailableError as error:
            reason = {"errorType": "Runtime.Unavailable", "errorMessage": str(error)}
            raise RefusedError(400, "Runtime.Unavailable", reason) from error
        except ConcurrencyLimitError as error:
            reason = {"Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}
            raise RefusedError(429, "TooManyRequestsException", reason) from error
        try:
            # Not awaited itself: cancelling would go on to it, and it is the environment's to set.
            await asyncio.wait({invocation.answer})
            answer = invocation.answer.result()
            reply.invocation = invocation
            if call.streaming:
                size = await stream(answer, invocation, reply, tail=call.tail)
            else:
                size = await whole(answer, invocation, reply, tail=call.tail)
            if invocation.handed_out:
                # Else it never had a START line: its environment did not get through its init.
                self._log.response(invocation, reply.status, reply.first_byte, size)
        finally:
            invocation.delivered()


async def whole(answer: Response | FunctionError, invocation: Invocation, reply: Reply, *, tail: bool) -> int:
    """Reply with the answer in one piece, bytes as the runtime sent them, and say how many.

    A streamed HTTP response comes with its prelude and the 8 NUL bytes. If it failed in mid-stream, the error stands in
    place of what there was of it, as in AWS's Runtime Interface Emulator (ASSUMPTION: and on Lambda).
    """
    if isinstance(answer, Response):
        payload, error = b"".join([chunk async for chunk in answer]), answer.error
    else:
        payload, error = b"", answer
    headers = [JSON, EXECUTED_VERSION]
    if error is not None:
        payload = error.payload
        headers.append(("x-amz-function-error", FUNCTION_ERROR))
    if tail:
        headers.append(("x-amz-log-result", await log_result(invocation)))
    await reply.whole(200, headers, payload)
    return len(payload)


async def stream(answer: Response | FunctionError, invocation: Invocation, reply: Reply, *, tail: bool) -> int:
    """Reply with an event for each chunk, as it comes, and one at the end; say how many bytes the chunks had.

    The last event's ErrorCode is the type that the runtime gave when it failed in mid-stream (run on AWS by
    ResponseStreamingTests.cs of https://github.com/aws/aws-lambda-dotnet); for an error before that "Unhandled"
    (ASSUMPTION, from a client that looks for it: Remotion's call-lambda.ts). ErrorDetails is the error's JSON text.
    """
    await reply.head(Prelude(200, [("content-type", event_stream.CONTENT_TYPE), EXECUTED_VERSION]))
    size, complete = 0, {}
    if isinstance(answer, Response):
        async for chunk in answer:
            await reply.body(event_stream.event("PayloadChunk", "application/octet-stream", chunk))
            size += len(chunk)
        if answer.error is not None:
            complete = {"ErrorCode": answer.error.type, "ErrorDetails": text(answer.error.payload)}
    else:
        complete = {"ErrorCode": FUNCTION_ERROR, "ErrorDetails": text(answer.payload)}
    if tail:
        complete["LogResult"] = await log_result(invocation)
    await reply.body(event_stream.event("InvokeComplete", "application/json", json.dumps(complete).encode()))
    await reply.end()
    return size


async def log_result(invocation: Invocation) -> str:
    """The log's tail in base64, when the whole execution has ended; the runtime is told that its answer has gone."""
    invocation.delivered()
    await invocation.finished.wait()
    return base64.b64encode(bytes(invocation.tail)).decode("ascii")


def text(payload: bytes) -> str:
    return payload.decode("utf-8", "backslashreplace")


def read_call(request: Request, configuration: Configuration) -> Call:
    """Raises RefusedError."""
    invoke, streaming = INVOKE.fullmatch(request.path), INVOKE_WITH_RESPONSE_STREAM.fullmatch(request.path)
    match = invoke or streaming
    if match is None:
        raise refused(404, "UnknownOperationException", "Of Lambda's API there is only invoking here.")
    if request.method != "POST":
        message = {"message": f"Invocations are sent with POST, not {request.method}."}
        raise RefusedError(405, "MethodNotAllowedException", message, [("allow", "POST")])
    headers = dict(request.headers)
    qualifiers = parse_qs(request.query).get("Qualifier", [None])
    types = ["RequestResponse", "DryRun"] if streaming else ["Event", "RequestResponse", "DryRun"]
    call_type = one_of(types, headers.get("x-amz-invocation-type", "RequestResponse"), "invocationType")
    return Call(
        type=call_type,
        streaming=streaming is not None,
        tail=one_of(["None", "Tail"], headers.get("x-amz-log-type", "None"), "logType") == "Tail",
        event=read_event(request.body, asynchronous=call_type == "Event"),
        arn=read_arn(unquote(match[1]), qualifiers[0], configuration.region),
        trace_id=headers.get("x-amzn-trace-id") or new_trace_id(),
        client_context=read_client_context(headers.get("x-amz-client-context")),
        tenant_id=read_tenant_id(headers.get("x-amz-tenant-id")),
    )


def one_of(values: list[str], value: str, field: str) -> str:
    if value not in values:
        raise invalid(value, field, f"Member must satisfy enum value set: [{', '.join(values)}]")
    return value


def read_arn(reference: str, qualifier: str | None, region: str) -> str:
    """The ARN that is invoked: of a name, a part of an ARN or a whole one, each with or without a qualifier."""
    match = NAME.fullmatch(reference)
    if match is None:
        raise invalid(reference, "functionName", f"Member must satisfy regular expression pattern: {NAME_PATTERN}")
    limit = MAX_REFERENCE if ":" in reference else MAX_NAME
    if len(reference) > limit:
        raise invalid(reference, "functionName", f"Member must have length less than or equal to {limit}")
    if qualifier is not None:
        if not QUALIFIER.fullmatch(qualifier):
            raise invalid(
                qualifier, "qualifier", f"Member must satisfy regular expression pattern: {QUALIFIER_PATTERN}"
            )
        if len(qualifier) > MAX_QUALIFIER:
            raise invalid(qualifier, "qualifier", f"Member must have length less than or equal to {MAX_QUALIFIER}")
        if match[NAME_QUALIFIER] not in (None, qualifier):
            message = "The derived qualifier from the function name does not match the specified qualifier."
            raise refused(400, "InvalidParameterValueException", message)
    arn = (match[ARN] or "arn:aws:lambda:") + (match[REGION] or f"{region}:") + (match[ACCOUNT_ID] or f"{ACCOUNT}:")
    arn += f"function:{match[FUNCTION_NAME]}"
    wanted = qualifier or match[NAME_QUALIFIER]
    return f"{arn}:{wanted}" if wanted else arn


def read_event(body: bytes, *, asynchronous: bool) -> bytes:
    """The event: the body as it is, which must be JSON. Without one Lambda's event is {}
    (https://github.com/aws/aws-lambda-dotnet/pull/834).
    """
    if asynchronous and len(body) > MAX_ASYNCHRONOUS_EVENT:
        raise too_large(
            f"{len(body)} byte payload is too large for the Event invocation type "
            f"(limit {MAX_ASYNCHRONOUS_EVENT} bytes)"
        )
    try:
        json.loads(body.decode() or "{}", parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        message = f"Could not parse request body into json: Could not parse payload into json: {error}"
        raise refused(400, "InvalidRequestContentException", message) from error
    return body or b"{}"


def no_constant(name: str) -> None:
    """Python takes NaN and Infinity for JSON."""
    raise ValueError(f"{name} is not JSON")


def too_large(
    message: str = f"Request must be smaller than {MAX_EVENT} bytes for the InvokeFunction operation",
) -> RefusedError:
    """The documentation calls it RequestTooLargeException; what Lambda sends is this
    (https://github.com/ASFHyP3/hyp3/issues/2241).
    """
    return refused(413, "RequestEntityTooLargeException", message)


def read_client_context(value: str | None) -> str | None:
    """The client context as JSON text in one line of ASCII, as the runtime's header needs it."""
    if value is None:
        return None
    if len(value) > MAX_CLIENT_CONTEXT:
        # ASSUMPTION: the limit is documented, not how it is enforced.
        message = f"Client context must be no more than {MAX_CLIENT_CONTEXT} bytes when base64-encoded."
        raise refused(400, "InvalidRequestContentException", message)
    try:
        context = json.loads(base64.b64decode(value, validate=True))
        if isinstance(context, dict):
            return json.dumps(context)
    except (binascii.Error, ValueError, RecursionError):
        pass
    message = "Client context must be a valid Base64-encoded JSON object."
    raise refused(400, "InvalidRequestContentException", message)


def read_tenant_id(value: str | None) -> str | None:
    if value is not None:
        if not TENANT.fullmatch(value):
            raise invalid(value, "tenantId", f"Member must satisfy regular expression pattern: {TENANT_PATTERN}")
        if len(value) > MAX_TENANT:
            raise invalid(value, "tenantId", f"Member must have length less than or equal to {MAX_TENANT}")
    return value

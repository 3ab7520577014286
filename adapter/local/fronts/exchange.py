"""One HTTP request on its way through a function and back: what all services in front of a function have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from adapter.local.fronts.prelude import CONTENT_TYPE
from adapter.local.fronts.reply import Reply
from adapter.local.fronts.request import MAX_EVENT, ClientGoneError, Request, read_body, read_request
from adapter.local.invocation import (
    MAX_STREAM,
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


class BuildEvent(Protocol):
    """Makes the event, JSON text, of a request."""

    def __call__(self, request: Request, *, region: str, request_id: str, trace_id: str) -> bytes: ...


@dataclass(frozen=True)
class Refusal:
    """What a service answers in the function's place."""

    status: int
    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True)
class Refusals:
    """By reason: the request is too large, the function is at its concurrency limit, it failed, or gave what cannot be
    made a reply."""

    too_large: Refusal
    busy: Refusal
    failed: Refusal
    malformed: Refusal


@dataclass(frozen=True)
class Service:
    """An AWS service in front of a function, as data; to call it makes an ASGI application of a function.

    `take` takes the function's answer and replies. `max_body` bounds a request's body, in bytes, beside the limit for
    events. `burst` is how many bytes of a streamed response go out before it is throttled. The reply has the request id
    in `request_id_header`.
    """

    title: str
    event: BuildEvent
    take: Callable[[Exchange], Awaitable[None]]
    refusals: Refusals
    max_body: int = MAX_EVENT
    max_stream: int = MAX_STREAM
    burst: int | None = None
    request_id_header: str | None = None

    def __call__(self, function: Invocable, log: Log) -> Application:
        return Application(self, function, log)


class Application:
    """A service in front of one function, as an ASGI application."""

    def __init__(self, service: Service, function: Invocable, log: Log) -> None:
        self.service = service
        self.function = function
        self.log = log
        self.hinted: set[str] = set()

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"{self.service.title} has no {scope['type']}")
        service, configuration = self.service, self.function.configuration
        request_id, trace_id = new_request_id(), new_trace_id()
        if any(name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"]):
            self.hint(
                f"{service.title} has no WebSockets: the request for one comes to the function as an ordinary GET."
            )
        burst = service.burst if configuration.throttle else None
        reply = Reply(scope["method"], request_id, send, id_header=service.request_id_header, burst=burst)
        try:
            body = await read_body(scope, receive, service.max_body)
        except ClientGoneError:
            return
        event = None
        if body is not None:
            request = read_request(scope, body)
            event = service.event(request, region=configuration.region, request_id=request_id, trace_id=trace_id)
        if event is None or len(event) > MAX_EVENT:
            what = (
                f"its body has more than {service.max_body:,} bytes"
                if event is None
                else f"its event has {len(event):,} bytes, of at most {MAX_EVENT:,}; what is no text is base64 there"
            )
            self.log.line(f"A request was refused with {service.refusals.too_large.status}: {what}")
            await refuse(reply, service.refusals.too_large)
            return
        invocation = Invocation(event, configuration.arn, request_id, trace_id, max_stream=service.max_stream)
        reply.invocation = invocation
        watching = asyncio.create_task(reply.watch(receive))
        try:
            await service.take(Exchange(self, invocation, reply))
        finally:
            watching.cancel()
            invocation.delivered()

    def hint(self, text: str) -> None:
        """Say, once, what a function's author would see the effect of and no reason for."""
        if text not in self.hinted:
            self.hinted.add(text)
            self.log.line(f"Hint: {text}")


class Exchange:
    """A request that is an invocation now, and the reply to it."""

    def __init__(self, application: Application, invocation: Invocation, reply: Reply) -> None:
        self.service = application.service
        self.invocation = invocation
        self.reply = reply
        self._application = application

    async def answer(self) -> Response | Refusal:
        """Invoke the function, and wait for the beginning of its response."""
        try:
            await self._application.function.invoke(self.invocation)
        except ConcurrencyLimitError:
            status = self.service.refusals.busy.status
            self._application.log.line(f"A request was refused with {status}: no environment is free")
            return self.service.refusals.busy
        # Not awaited itself: cancelling would go on to it, and it belongs to the environment.
        await asyncio.wait({self.invocation.answer})
        answer = self.invocation.answer.result()
        return self.service.refusals.failed if isinstance(answer, FunctionError) else answer

    async def refuse(self, refusal: Refusal) -> None:
        await refuse(self.reply, refusal)
        self.replied()

    async def malformed(self, what: str) -> None:
        """Refuse what the function sent; the log tells why, its caller never is told."""
        status = self.service.refusals.malformed.status
        self.error(f"{what}; to the caller that is status {status}")
        await self.refuse(self.service.refusals.malformed)

    def replied(self) -> None:
        """The caller has all that it will get: say so in the log."""
        # Else it never had a START line: its environment did not get through its init.
        if self.invocation.handed_out:
            reply = self.reply
            self._application.log.response(self.invocation, reply.status, reply.first_byte, reply.sent)

    def error(self, text: str) -> None:
        self._application.log.line(f"RequestId: {self.invocation.request_id} Error: {text}")

    def hint(self, text: str) -> None:
        self._application.hint(text)


async def refuse(reply: Reply, refusal: Refusal) -> None:
    await reply.whole(refusal.status, [("content-type", refusal.content_type)], refusal.body)


def has_prelude(response: Response) -> bool:
    """Whether the function says that its response begins with one."""
    return (response.content_type or "").partition(";")[0].strip().lower() == CONTENT_TYPE

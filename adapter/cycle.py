"""One ASGI HTTP cycle: request → response → background.

Starlette runs BackgroundTasks inside the application call, after the last
``http.response.body``. "The response is complete" and "the application has
returned" are therefore two events: the stream is closed on the first, the
invocation ends with the second.

ASGI specification, HTTP & WebSocket ASGI Message Format:
https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exceptions import AppError, quoted
from .response import SERVER_ERROR, SERVER_ERROR_BODY, Head
from .work import is_ending

if TYPE_CHECKING:
    from collections.abc import Collection

    from .stream import ResponseStream
    from .types import ASGIApp, Message, Scope, State
    from .work import Work

# What became of the caller, for the log, by the state in which the app failed.
_CONSEQUENCES: dict[State, str] = {
    "idle": "its caller gets a 500",
    "held": "its caller gets a 500",
    "open": "its response could not be completed",
    "closed": "its caller already had the whole response, status %d",
    "lost": "its caller was gone",
}


class HTTPCycle:
    """Calls the app for one request, and carries its messages to a `ResponseStream`."""

    def __init__(
        self,
        scope: Scope,
        body: bytes,
        stream: ResponseStream,
        work: Work,
        exclude_headers: Collection[str] = (),
    ) -> None:
        self._scope = scope
        self._body: bytes | None = body
        self._stream = stream
        self._work = work
        self._exclude_headers = exclude_headers

    async def run(self, app: ASGIApp) -> None:
        """From the request to the end of the background work. An exception of the app's ends here, in the log."""
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException as exception:
            if is_ending(exception, self._work.main, self._work.is_alone):
                raise
            if self._work.state == "expired":
                return  # its end and its log are the deadline's
            await self._failed(exception)
        else:
            if not self._stream.ended_at and self._stream.state not in ("closed", "lost"):
                await self._failed(AppError("the application returned without completing its response"))
        if not self._stream.ended_at:
            await self._stream.settle()

    async def receive(self) -> Message:
        """The request, in one message; then nothing, until the response is over.

        Lambda does not tell a function that its caller has gone. A disconnect
        before the response has ended would cut streams and files short.
        """
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._stream.ended()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a message; returns when its bytes are out, after the last one when Lambda has passed all of them on.

        `AppError`, raised into the app, for what ASGI does not allow. After a loss
        of the connection it drops what comes, as ASGI 2.3 servers do.
        """
        kind = message.get("type")
        if kind == "http.response.body":
            await self._stream.send(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start":
            head = Head.parse(message.get("status"), message.get("headers", ()))
            if self._exclude_headers:
                kept = tuple(field for field in head.headers if field[0] not in self._exclude_headers)
                head = Head(head.status, kept)
            self._stream.start(head)
        else:
            raise AppError(f"{quoted(kind)} is not a message that an HTTP application can send here")

    async def _failed(self, exception: BaseException) -> None:
        state = self._stream.state
        consequence = _CONSEQUENCES[state] % (self._stream.status,) if state == "closed" else _CONSEQUENCES[state]
        what = "The application"
        self._work.logged = exception
        is_background = False
        if state in ("closed", "lost"):
            name, raised, seconds = self._work.blame(exception)
            what = f"Background task {name}" if name else what
            # Starlette answers an exception of a route with a 500, and raises it then.
            is_background = bool(name) or (state == "closed" and self._stream.status < 500)
            if is_background:
                self._work.fail(name or "of the application", raised, seconds)
        if not (is_background and self._work.rules.raise_background_errors):
            from .log import log_exception

            # Here, in the app's own task and context: tracers go by the context to see an exception once.
            request_id = ascii(self._work.invocation.request_id)
            log_exception(exception, "%s failed in RequestId %s; %s", what, request_id, consequence)
        await self._stream.fail(exception)
        if self._stream.state == "idle":
            self._stream.start(SERVER_ERROR)
            await self._stream.send(SERVER_ERROR_BODY, more=False)

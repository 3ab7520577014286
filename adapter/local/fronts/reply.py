"""The HTTP reply to one caller."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from adapter.local.fronts.head import Headers
from adapter.local.fronts.prelude import Prelude
from adapter.local.fronts.throttle import TokenBucket
from adapter.local.invocation import Invocation

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable


class Reply:
    """The HTTP reply to one caller: `whole`, or `head`, then `body` as often as there is some, then `end`.

    A client that has gone is no error: `gone` is set when `watch` notices it, and what is sent to it is dropped. One
    that is there and does not read holds `body` up. The request id goes out in `id_header`; a streamed body is
    throttled after `burst` bytes if that is given.
    """

    def __init__(
        self,
        method: str,
        request_id: str,
        send: ASGISendCallable,
        *,
        id_header: str | None = "x-amzn-requestid",
        burst: int | None = None,
    ) -> None:
        self.request_id = request_id
        self.invocation: Invocation | None = None
        self.gone = asyncio.Event()
        self.status = 0  # 0 until the head is out
        self.first_byte = 0.0  # seconds since the event was handed out
        self.sent = 0  # body bytes
        self._method = method
        self._send = send
        self._named = [(id_header, request_id)] if id_header else []
        self._bucket = None if burst is None else TokenBucket(burst)

    async def watch(self, receive: ASGIReceiveCallable) -> None:
        """Wait for the client to go, once its request has been read; also the end of the reply counts as that."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()

    async def head(self, prelude: Prelude) -> None:
        named = prelude.headers + self._named
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named]
        await self._send({"type": "http.response.start", "status": prelude.status, "headers": headers})
        self.status = prelude.status
        if self.invocation is not None:
            self.first_byte = self.invocation.elapsed

    async def body(self, data: bytes) -> None:
        if not self._has_body:
            return
        while data and not self.gone.is_set():
            granted = self._bucket.take(len(data)) if self._bucket else len(data)
            if granted:
                await self._send({"type": "http.response.body", "body": data[:granted], "more_body": True})
                self.sent += granted
                data = data[granted:]
            elif self._bucket:
                # Cut short when the client goes: there is nobody left to throttle, and the function is let go on.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.gone.wait(), self._bucket.wait)

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """A reply in one piece. Does not wait for a client that does not read: what it gets is the server's to hold."""
        length = [] if status in (204, 304) else [("content-length", str(len(body)))]
        await self.head(Prelude(status, headers + length))
        if not self._has_body:
            body = b""
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        self.sent += len(body)

    @property
    def _has_body(self) -> bool:
        # HTTP has no body in these; h11 would refuse it.
        return self._method != "HEAD" and self.status not in (204, 304)

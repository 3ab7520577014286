"""The HTTP reply to one caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter.local.fronts.prelude import Prelude
from adapter.local.invocation import Invocation

if TYPE_CHECKING:
    from uvicorn._types import ASGISendCallable


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

"""A caller's HTTP request, as the fronts read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, HTTPScope

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 6 MB of request payload.
MAX_EVENT = 6_291_456


class ClientGoneError(Exception):
    """The client closed its connection in the middle of its request."""


@dataclass(frozen=True)
class Request:
    """An HTTP request as sent: `path` and `query` percent-encoded, headers in order, their names in lower case."""

    method: str
    path: str
    query: str
    protocol: str
    headers: list[tuple[str, str]]
    body: bytes
    scheme: str
    port: int
    source_ip: str

    def header(self, name: str) -> str | None:
        """The last one of that name, in lower case."""
        return dict(self.headers).get(name)


async def read_body(scope: HTTPScope, receive: ASGIReceiveCallable, limit: int = MAX_EVENT) -> bytes | None:
    """The request's body; None if it has more than `limit` bytes. Raises ClientGoneError."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limit:
            return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limit:
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

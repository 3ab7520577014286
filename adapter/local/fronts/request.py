"""A caller's HTTP request, as the fronts read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, HTTPScope

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 6 MB of request payload.
MAX_EVENT = 6_291_456

# RFC 9112, 3.2.2, without its query. RFC 9110, 4.2: no userinfo, and a host.
ABSOLUTE_FORM = re.compile(rb"https?://([^/@]+)(/.*)?", re.IGNORECASE)


class TargetError(Exception):
    """The request's target is none that a server has; the message says why."""


class ClientGoneError(Exception):
    """The client closed its connection in the middle of its request."""


@dataclass(frozen=True)
class Request:
    """An HTTP request as sent: `path` and `query` percent-encoded, headers in order, their names in lower case.

    Header values are decoded as UTF-8, as a load balancer does (https://github.com/honojs/hono/issues/4432). What is
    none becomes U+FFFD (seen in https://github.com/lukeshay/astro-aws/issues/155). ASSUMPTION: so do the others.
    """

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


def origin_form(scope: HTTPScope) -> HTTPScope:
    """Return the request with a path for its target, and with one length. Raises TargetError.

    An absolute target's host replaces the Host header (RFC 9112, 3.2.2), a Transfer-Encoding a Content-Length (6.3).
    """
    headers, target = list(scope["headers"]), scope["raw_path"]
    if scope["method"] == "CONNECT":  # h11 would take a 200 for a tunnel
        raise TargetError("CONNECT is for proxies, and this is none")
    if not target.startswith(b"/"):
        match = ABSOLUTE_FORM.fullmatch(target)
        if match is None:
            raise TargetError("the request's target is neither a path, which begins with a slash, nor an http URL")
        target = match[2] or b"/"
        headers = [(b"host", match[1]), *((name, value) for name, value in headers if name != b"host")]
    if has_two_lengths(scope):
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    return {**scope, "raw_path": target, "headers": headers}


def has_two_lengths(scope: HTTPScope) -> bool:
    """Return whether a Content-Length is beside a Transfer-Encoding: another server may see another end of the body."""
    return {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}


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
    headers = [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in scope["headers"]]
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

"""What web pages in the developer's browser may not do: any site can make a browser send requests to this machine.

Two ways need a guard. A page of another origin may send some requests unasked (a POST of text/plain, a GET) without
reading the reply: browsers then name the page's origin (https://fetch.spec.whatwg.org/#origin-header,
https://www.w3.org/TR/fetch-metadata/). And a site whose name its own DNS server suddenly says to be 127.0.0.1 (DNS
rebinding) reads replies too: its requests still have that name for their Host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from adapter.local.log import Log

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@?#\s]+)(:\d*)?")


def is_from_web_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a browser sent the request for a page of another origin.

    No SDK and no runtime sends these headers. A browser sends an Origin with every POST.
    """
    return any(
        name == b"origin" or (name == b"sec-fetch-site" and value in (b"cross-site", b"same-site"))
        for name, value in headers
    )


def host_name(host: str) -> str | None:
    """Return the name in a Host header, in lower case and without its port; None if the header is malformed."""
    match = HOST.fullmatch(host)
    return match[1].strip("[]").lower().removesuffix(".") if match else None


def is_loopback(name: str) -> bool:
    """Return whether a name or an address can be no other machine's (for the name: RFC 6761, 6.3)."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class HostCheck:
    """Refuse the requests, as an ASGI application around another, whose Host is neither this machine nor allowed.

    Of the `allowed` names, one that begins with a dot stands for every name that ends with it.
    """

    def __init__(self, application: ASGI3Application, allowed: Collection[str], log: Log) -> None:
        self._application = application
        self._allowed = allowed
        self._log = log

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            # There is one at most; only HTTP/1.0, which no browser speaks, may have none.
            for host in (value.decode("latin-1") for name, value in scope["headers"] if name == b"host"):
                if not self._is_allowed(host):
                    reason = f"its Host is {shorten(host)}, and not localhost; --allow-host NAME allows another one"
                    self._log.line(f"A request was refused with 403: {reason}")
                    await refuse(send, 403, f"This local Lambda refused the request: {reason}.")
                    return
        await self._application(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        name = host_name(host)
        if name is None:
            return False
        return is_loopback(name) or any(
            name.endswith(allowed) if allowed.startswith(".") else name == allowed for allowed in self._allowed
        )


def shorten(text: str) -> str:
    return ascii(text if len(text) <= 100 else f"{text[:100]}...")


async def refuse(send: ASGISendCallable, status: int, reason: str) -> None:
    """Answer, with a line of text, a request that no front is to see."""
    body = reason.encode() + b"\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})

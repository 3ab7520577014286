"""What an event has several of: headers and query parameters with more than one value, and hops a request came by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .events import encoded, field, is_port
from .exceptions import EventError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .response import Head
    from .types import LambdaEvent


def pairs(event: LambdaEvent, *names: str) -> list[tuple[str, str]]:
    """``(name, value)`` of every value in these fields of the event, ``{name: value}`` or ``{name: [value, …]}``.

    What an earlier field has, a later one is not asked for; so that the one with all the values stands first.
    """
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for field_name in names:
        mapping = field(event, field_name, dict, default={})
        for name, value in mapping.items():
            if name.lower() not in seen:
                values = value if isinstance(value, list) else [value]
                found += [(name, _text(each, field_name, name)) for each in values if each is not None]
        seen |= {name.lower() for name in mapping}
    return found


def _text(value: Any, where: str, name: str) -> str:
    if not isinstance(value, str):
        raise EventError(f"the event's {where} have the value {shown(value, name)}, where a string is needed")
    return value


def request_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names in lower case; cookies in one header, as an HTTP/2 server hands them on (RFC 9113, 8.2.3)."""
    lower = [(name.lower(), value) for name, value in headers]
    cookies = [value for name, value in lower if name == "cookie"]
    if len(cookies) > 1:
        lower = [header for header in lower if header[0] != "cookie"]
        lower.append(("cookie", "; ".join(cookies)))
    return lower


def encoded_query(parameters: Sequence[tuple[str, str]]) -> bytes:
    """The query string of parameters that are still encoded, as they were sent."""
    return b"&".join(encoded(f"{name}={value}") for name, value in parameters)


def last_hop(headers: Sequence[tuple[str, str]]) -> tuple[str, int] | None:
    """Who spoke to the load balancer: the last one in X-Forwarded-For, the only one that is not the client's word.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html: it appends the address
    it sees, on request with the port, ``203.0.113.7:50000``. ASSUMPTION for IPv6: ``[2001:db8::1]:50000``.
    """
    hops = [value for name, value in headers if name == "x-forwarded-for"]
    hop = hops[-1].rpartition(",")[2].strip() if hops else ""
    if hop.startswith("["):
        address, _, port = hop[1:].partition("]")
        port = port.removeprefix(":")
    elif hop.count(":") == 1:
        address, _, port = hop.partition(":")
    else:
        address, port = hop, ""
    return (address, int(port) if is_port(port) else 0) if address else None


def lists(head: Head) -> dict[str, list[str]]:
    """All values of each header of a reply."""
    values: dict[str, list[str]] = {}
    for name, value in head.headers:
        values.setdefault(name, []).append(value)
    return values


def one_a_name(head: Head) -> dict[str, str]:
    """One value a header, for a reply that has no lists: repeats are joined (RFC 9110, 5.3).

    Cookies cannot be: each further one is under the name in another spelling,
    ``Set-cookie``, ``sEt-cookie``, … as mangum and others do it; HTTP does not
    see the difference.
    """
    headers, cookies = head.combine(", ")
    for number, cookie in enumerate(cookies):
        headers[_spelling("set-cookie", number)] = cookie
    return headers


def _spelling(name: str, number: int) -> str:
    """The ``name`` with those letters in upper case whose bits are set in ``number``, the first letter's the lowest."""
    spelled = ""
    for character in name:
        if character.isalpha():
            number, upper = divmod(number, 2)
            character = character.upper() if upper else character
        spelled += character
    return spelled

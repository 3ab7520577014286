"""The head of a streamed HTTP response: a JSON object, 8 NUL bytes, then the body. No I/O here.

https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
DELIMITER = bytes(8)
# Nothing is published for function URLs; what has no delimiter by now is no prelude.
MAX_PRELUDE = 1024 * 1024

# RFC 9110: a header's name is a token, its value visible characters, spaces and tabs.
NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# A function URL answers over a connection of its own.
HOP_BY_HOP = frozenset(
    {"connection", "date", "keep-alive", "proxy-connection", "server", "te", "trailer", "transfer-encoding", "upgrade"}
)
REMAPPED = frozenset({"content-length", "www-authenticate"})


class PreludeError(ValueError):
    """What the function sent is no prelude; the message says why."""


@dataclass(frozen=True)
class Prelude:
    """A reply's head, ready for HTTP: hop-by-hop headers dropped, remapped ones renamed, a Set-Cookie a cookie.

    `gzip` tells that the body is packed: a function URL unpacks it, and drops the header that says so
    (https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/96).
    """

    status: int
    headers: list[tuple[str, str]]
    gzip: bool = False


class PreludeReader:
    """Finds the prelude in a stream that may be cut anywhere."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[Prelude, bytes] | None:
        """The prelude and what came after it; None while it is not complete. Raises PreludeError."""
        # The delimiter may have begun in what was there before.
        start = max(0, len(self._buffer) - len(DELIMITER) + 1)
        self._buffer += data
        end = self._buffer.find(DELIMITER, start)
        if end < 0:
            if len(self._buffer) > MAX_PRELUDE:
                raise PreludeError(f"no 8 NUL bytes in its first {MAX_PRELUDE} bytes")
            return None
        return parse(bytes(self._buffer[:end])), bytes(self._buffer[end + len(DELIMITER) :])

    def close(self) -> None:
        """The stream is at its end. Raises PreludeError: it has no prelude, or only a part."""
        raise PreludeError(f"the stream ended after {len(self._buffer)} bytes, before 8 NUL bytes")


def parse(text: bytes) -> Prelude:
    """Raises PreludeError."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise PreludeError(f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise PreludeError("it is not a JSON object")
    status = value.get("statusCode", 200)
    if type(status) is not int or not 200 <= status <= 599:
        raise PreludeError(f"statusCode is {json.dumps(status)}, not a number from 200 to 599")
    headers = []
    gzip = False
    for name, content in pairs(value.get("headers")):
        check(name, content)
        if name.lower() in HOP_BY_HOP:
            continue
        if name.lower() == "content-encoding" and content.strip().lower() == "gzip":
            gzip = True
            continue
        headers.append((f"x-amzn-remapped-{name}" if name.lower() in REMAPPED else name, content.strip(" \t")))
    cookies = value.get("cookies") or []
    if not isinstance(cookies, list):
        raise PreludeError("cookies is not a list")
    for cookie in cookies:
        check("set-cookie", cookie)
        headers.append(("set-cookie", cookie.strip(" \t")))
    return Prelude(status, headers, gzip)


def pairs(headers: Any) -> list[tuple[str, Any]]:
    if headers is None:
        return []
    if not isinstance(headers, dict):
        raise PreludeError("headers is not an object")
    return list(headers.items())


def check(name: str, value: object) -> None:
    """Whether HTTP can carry the header. Raises PreludeError."""
    if not NAME.fullmatch(name):
        raise PreludeError(f"{name!a} is no name for a header")
    if not isinstance(value, str):
        raise PreludeError(f"the header {name} is not a string but {json.dumps(value)[:80]}")
    if not VALUE.fullmatch(value):
        raise PreludeError(f"the header {name} has characters that HTTP cannot carry: {value!a}")

"""The response as a state table, without I/O.

A response is begun, may have a body, and is ended; in mid-stream it can only
fail. What each event does in each state stands in `TABLE`, and nowhere else:
an event that the table does not have is an error of the application, and
changes nothing.

Where the response goes is the `Sink`'s affair: chunk by chunk to the Runtime
API (`adapter.runtime_api`), or into a buffer (`Buffer`).
"""

from __future__ import annotations

import base64
import json
import re
import string
import traceback
from typing import TYPE_CHECKING

from .exceptions import AppError, quoted, shown, text_of

if TYPE_CHECKING:
    from .types import Event, RawHeaders, Sink, State, Write

HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response"
"""The POST's content type by which Lambda knows that a prelude precedes the body."""

DELIMITER = b"\0" * 8
"""Ends the prelude. JSON has no raw NUL, so that the first eight in a row are it."""

BODILESS = frozenset({204, 205, 304})
"""Statuses whose responses have no body (RFC 9110, 15.3.5, 15.3.6, 15.4.5)."""

# What belongs to one connection (RFC 9110, 7.6.1) or is the front end's to set.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_json = json.encoder.encode_basestring_ascii  # a string as JSON: an encoder of everything costs more to set up

# RFC 9110, 5.6.2 and 5.5: what a header's name and its value can consist of.
_TOKEN = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
_LOWER_TOKEN = bytes(byte if byte in _TOKEN else 0 for byte in range(256)).lower()  # for translate; 0 where illegal
_FIELD = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])


class Head:
    """Status and headers of an HTTP response: ``((name, value), …)``, names in lower case, text by latin-1."""

    # Neither a NamedTuple nor a dataclass, here and elsewhere: making such a class is a tenth of what importing all of
    # this package costs a cold start.
    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status = status
        self.headers = headers

    @classmethod
    def parse(cls, status: object, headers: RawHeaders) -> Head:
        """From the fields of ``http.response.start``; `AppError` for what is not legal HTTP.

        Hop-by-hop headers, such as a proxied response has, are dropped: the front end has a connection of its own.

        A line break in a header would end it, and begin another of an
        attacker's choice: nothing of the kind is passed on, or repaired.
        """
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise AppError(f"http.response.start: status must be an integer from 200 to 599, not {quoted(status)}")
        fields = []
        for name, value in headers:
            lower = name.translate(_LOWER_TOKEN) if isinstance(name, bytes) else b""
            if not lower or 0 in lower:
                raise _illegal_name(name)
            if not isinstance(value, bytes):
                raise _illegal(lower, value, "it has to be bytes")
            text = value.decode("latin-1")
            if not (text.isascii() and text.isprintable()) and (rest := value.translate(None, _FIELD)):
                raise _illegal(lower, value, f"it cannot have {rest[:1]!a} in it")
            if lower not in _HOP_BY_HOP:
                fields.append((lower.decode(), text.strip(" \t")))
        return cls(int(status), tuple(fields))

    def combine(self, separator: str) -> tuple[dict[str, str], list[str]]:
        """One value a header, repeats joined by ``separator``; and the cookies set, which cannot be joined."""
        headers = dict(self.headers)
        if len(headers) == len(self.headers) and "set-cookie" not in headers:
            return headers, []
        headers.clear()
        cookies = []
        for name, value in self.headers:
            if name == "set-cookie":
                cookies.append(value)
            elif name in headers:
                # An empty one would leave a blank at an end, where a value has none (RFC 9110, 5.5).
                headers[name] = f"{headers[name]}{separator}{value}".strip(" \t")
            else:
                headers[name] = value
        return headers, cookies

    def prelude(self) -> bytes:
        """``{"statusCode": 200, "headers": {name: value}, "cookies": […]}``, ASCII.

        Header values are strings, also repeated ones: an array has no meaning
        to a function URL and is an error to API Gateway. There is no length:
        the stream is chunked, and a function URL would only rename the header
        to x-amzn-remapped-content-length.
        """
        headers, cookies = self.combine(", ")
        headers.pop("content-length", None)
        fields = ",".join([f"{_json(k)}:{_json(v)}" for k, v in headers.items()])
        rest = f',"cookies":[{",".join(map(_json, cookies))}]' if cookies else ""
        return f'{{"statusCode":{self.status},"headers":{{{fields}}}{rest}}}'.encode()


def _illegal_name(name: object) -> AppError:
    if not isinstance(name, bytes):
        return AppError(f"http.response.start: {shown(name, '')} is not a legal header name: it has to be bytes")
    # Not beyond its first illegal character: a whole header can stand there, a cookie.
    begin = name[: len(name) - len(name.lstrip(_TOKEN)) + 1]
    return AppError(f"http.response.start: {quoted(begin)} is not a legal header name")


def _illegal(name: bytes, value: object, why: str) -> AppError:
    what = f"{shown(value, name.decode())} is not a legal value of the header {quoted(name)}"
    return AppError(f"http.response.start: {what}: {why}")


SERVER_ERROR = Head(500, (("content-type", "text/plain; charset=utf-8"),))
SERVER_ERROR_BODY = b"Internal Server Error"
"""What the caller gets of an exception: nothing of what it says."""
GATEWAY_TIMEOUT = Head(504, (("content-type", "text/plain; charset=utf-8"),))
GATEWAY_TIMEOUT_BODY = b"Gateway Timeout"
"""What the caller gets when nothing was said before the deadline."""


_MOST_TRAILERS = 4096
"""Bytes of a trailer section, to its empty line. Go's net/http, which AWS's Runtime API is made of, takes no more
("http: suspiciously long trailer after chunked body"), and closes the connection."""
_TRAILER_NAMES = len("Lambda-Runtime-Function-Error-Type: \r\nLambda-Runtime-Function-Error-Body: \r\n\r\n")


class Failure:
    """A failure in mid-stream, as the two error trailers say it.

    ``type`` is ``Function.Name``, letters only; ``body`` is base64, on one line,
    of the JSON ``{"errorType", "errorMessage", "stackTrace": [str]}``.
    """

    __slots__ = ("body", "type")

    def __init__(self, type: str, body: str) -> None:
        self.type = type
        self.body = body

    @classmethod
    def of(cls, exception: BaseException) -> Failure:
        name = type(exception).__name__[:100]
        letters = re.sub("[^A-Za-z]", "", name)
        kind = f"Function.{letters[:1].upper()}{letters[1:]}"
        room = (_MOST_TRAILERS - _TRAILER_NAMES - len(kind)) // 4 * 3
        message = text_of(exception)[:1024]
        frames = traceback.format_tb(exception.__traceback__, limit=-20)
        while True:
            report = {"errorType": name, "errorMessage": message, "stackTrace": frames}
            body = json.dumps(report).encode()
            if len(body) <= room:
                return cls(kind, base64.b64encode(body).decode())
            if frames:
                frames = frames[1:]  # the innermost say most
            else:
                message = message[: len(message) * 3 // 4]


EVENTS: dict[Event, str] = {
    "start": "the start of a response",
    "flush": "the end of the wait for a first piece of body",
    "body": "a piece of body",
    "last": "the last piece of body",
    "fail": "a failure of the application",
    "lose": "the loss of the other side",
}

TABLE: dict[State, dict[Event, tuple[State, tuple[Write, ...]]]] = {
    "idle": {
        "start": ("held", ()),
        "fail": ("idle", ()),
        "lose": ("lost", ()),
    },
    "held": {
        "flush": ("open", ("head",)),
        "body": ("open", ("head", "data")),
        "last": ("closed", ("head", "data", "end")),
        "fail": ("idle", ()),  # nobody has seen the head: another response can take its place
        "lose": ("lost", ()),
    },
    "open": {
        "body": ("open", ("data",)),
        "last": ("closed", ("data", "end")),
        "fail": ("closed", ("failure",)),
        "lose": ("lost", ()),
    },
    "closed": {
        "fail": ("closed", ()),  # the caller has its whole response: a failure now is for the log
        "lose": ("lost", ()),
    },
    "lost": {
        "start": ("lost", ()),
        "flush": ("lost", ()),
        "body": ("lost", ()),
        "last": ("lost", ()),
        "fail": ("lost", ()),
        "lose": ("lost", ()),
    },
}


class Buffer:
    """A sink that keeps the response: for callers to whom Lambda does not stream, and outside Lambda.

    A response that fails becomes a 500: nobody has seen a part of it.
    """

    __slots__ = ("body", "head")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.body = bytearray()

    def open(self, head: Head | None, content_type: str) -> None:
        self.head = head

    def data(self, body: bytes, *, more: bool) -> None:
        self.body += body

    def end(self, failure: Failure | None) -> None:
        if failure is not None:
            is_late = failure.type == "Function.DeadlineExceeded"
            self.head = GATEWAY_TIMEOUT if is_late else SERVER_ERROR
            self.body = bytearray(GATEWAY_TIMEOUT_BODY if is_late else SERVER_ERROR_BODY)

    def flush(self) -> bool:
        """It is where it goes."""
        return True

    async def drain(self) -> None:
        """Memory is always ready."""

    async def settle(self) -> None:
        """Nobody else has to take it."""

    def abandon(self, reason: str) -> None:
        """Nobody is waited for."""


class Response:
    """One response: takes events, tells the sink what `TABLE` says.

    ``bodiless`` is the request's part in whether there is a body: True for HEAD.
    """

    state: State = "idle"
    _head: Head | None = None
    _content_type = HTTP_INTEGRATION

    def __init__(self, sink: Sink, *, bodiless: bool = False) -> None:
        self._sink = sink
        self._bodiless = self._drops_body = bodiless

    def __repr__(self) -> str:
        return f"<Response {self.state}>"

    @property
    def status(self) -> int:
        """The response's status; 200 when it is raw."""
        return self._head.status if self._head else 200

    @property
    def is_event_stream(self) -> bool:
        """Whether it consists of server-sent events, as they are: not compressed."""
        fields = dict(self._head.headers) if self._head is not None else {"content-type": self._content_type}
        return fields.get("content-type", "").startswith("text/event-stream") and "content-encoding" not in fields

    def start(self, head: Head | None, content_type: str = HTTP_INTEGRATION) -> None:
        """Begin with an HTTP head, or raw (``head`` None) with a content type."""
        self._advance("start")
        self._head, self._content_type = head, content_type
        self._drops_body = self._bodiless or (head is not None and head.status in BODILESS)

    def flush(self) -> None:
        """Send the head though there is no body yet."""
        if "head" in self._advance("flush"):
            self._sink.open(self._head, self._content_type)

    def body(self, data: bytes, *, more: bool) -> None:
        """A piece of the body; the last one when there is no ``more``."""
        writes = self._advance("body" if more else "last")
        if "head" in writes:
            self._sink.open(self._head, self._content_type)
        if "data" in writes:
            self._sink.data(b"" if self._drops_body else data, more="end" not in writes)
        if "end" in writes:
            self._sink.end(None)

    def fail(self, exception: BaseException) -> None:
        """The application has failed: error trailers in mid-stream, nothing before and after it."""
        if "failure" in self._advance("fail"):
            self._sink.end(Failure.of(exception))

    def lose(self) -> None:
        """The other side takes no more."""
        self._advance("lose")

    def _advance(self, event: Event) -> tuple[Write, ...]:
        try:
            self.state, writes = TABLE[self.state][event]
        except KeyError:
            raise AppError(f"{EVENTS[event]} cannot come while the response is {self.state}") from None
        return writes

"""The Runtime API's HTTP/1.1, without I/O: bytes of one request out, bytes of its reply in.

A buffered response has a length. The streaming form of
``/runtime/invocation/{id}/response`` is chunked, its error trailers declared up front, since whether there is an error
is not known when the head is sent.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from .exceptions import RuntimeApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .response import Failure

ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
INVOCATION_ID = "Lambda-Runtime-Invocation-Id"

XRAY_CAUSE = "Lambda-Runtime-Function-XRay-Error-Cause"

LIMIT = 1024 * 1024  # bytes of a reply; the Runtime API's are about 200
EVENT_LIMIT = 64 * 1024 * 1024  # bytes of an event and its head; Lambda's events are up to 6 MB

_LARGE = 16 * 1024  # bytes
_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_BODILESS = (204, 304)
_LENGTH, _ENCODING, _CONNECTION = b"\r\ncontent-length:", b"\r\ntransfer-encoding:", b"\r\nconnection:"
_CHUNK_SIZE = rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?"  # compiled when it is needed: replies have lengths


def streamed_post(host: str, content_type: str, request_id: str, invocation_id: str | None) -> bytes:
    """The head of a streamed response, up to and including the empty line.

    ``invocation_id`` is the ``Lambda-Runtime-Invocation-Id`` that came with the
    event, echoed as it came; None leaves the header out.
    """
    framing = (
        "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
        "Transfer-Encoding: chunked\r\n"
        f"Trailer: {ERROR_TYPE}, {ERROR_BODY}\r\n"
    )
    return _post(host, content_type, request_id, invocation_id, framing)


def buffered_post(
    host: str, request_id: str, invocation_id: str | None, length: int, content_type: str = "application/json"
) -> bytes:
    """The head of a response in one piece: ``length`` bytes are to follow it."""
    return _post(host, content_type, request_id, invocation_id, f"Content-Length: {length}\r\n")


def error_post(
    host: str, request_id: str, invocation_id: str | None, length: int, error_type: str, cause: str = ""
) -> bytes:
    """The head of an invocation error: ``length`` bytes of JSON are to follow it.

    ``cause`` is X-Ray's: JSON in ASCII, on one line, less than 1 MiB; empty leaves it out.
    """
    fields = f"Content-Length: {length}\r\n{ERROR_TYPE}: {error_type}\r\n"
    if cause:
        fields += f"{XRAY_CAUSE}: {cause}\r\n"
    return _post(host, "application/json", request_id, invocation_id, fields, "error")


def next_request(host: str) -> bytes:
    """``GET /next``: the reply, whenever it comes, is an event."""
    return f"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")


def _post(
    host: str, content_type: str, request_id: str, invocation_id: str | None, framing: str, what: str = "response"
) -> bytes:
    echo = f"{INVOCATION_ID}: {_as_it_came(invocation_id)}\r\n" if invocation_id else ""
    return (
        f"POST /2018-06-01/runtime/invocation/{_as_it_came(request_id)}/{what} HTTP/1.1\r\n"
        f"Host: {host}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"{framing}{echo}\r\n"
    ).encode("latin-1")


def _as_it_came(text: str) -> str:
    """Of an id, which is read as UTF-8, the text that is the same bytes in latin-1."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def chunk(data: bytes) -> tuple[bytes, ...]:
    """``data`` as one HTTP chunk, in pieces so as not to copy much; nothing for no data, which would end the body."""
    if len(data) > _LARGE:
        return (b"%x\r\n" % len(data), data, b"\r\n")
    return (b"%x\r\n%b\r\n" % (len(data), data),) if data else ()


def last_chunk(failure: Failure | None = None) -> bytes:
    """The terminator, with the two trailers where the response failed in mid-stream."""
    if failure is None:
        return b"0\r\n\r\n"
    return f"0\r\n{ERROR_TYPE}: {failure.type}\r\n{ERROR_BODY}: {failure.body}\r\n\r\n".encode("latin-1")


class Reply:
    """What the Runtime API answers, read from bytes that come in pieces of any size.

    To a post ``status`` is 202 when it has taken the whole response; to
    ``/next`` it is 200, and ``body`` an event. These are there when it `is_complete`.

    `feed` raises `RuntimeApiError` for what is not HTTP/1.1, for more than
    ``limit`` bytes, and for bytes after the reply: the Runtime API speaks only
    when it is spoken to.
    """

    __slots__ = (
        *("body", "is_complete", "keep_alive", "status"),
        *("_buffer", "_fields", "_left", "_limit", "_pieces", "_read", "_room"),
    )

    # There when the head has been read.
    status: int
    keep_alive: bool
    _fields: bytes  # of the head, with the line break before each
    _left: int  # bytes, of the body or of its present chunk
    _pieces: list[bytes]  # of the body
    # There at the end.
    body: bytes

    def __init__(self, limit: int = LIMIT) -> None:
        self.is_complete = False
        self._limit = self._room = limit
        self._read: Callable[[Reply], bool] = Reply._head
        self._buffer = b""

    def feed(self, data: bytes) -> bool:
        """Take what has arrived; whether it is complete."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer and self._read(self):
            pass
        self._room -= len(data)
        if self._room < 0:
            raise RuntimeApiError(f"the Runtime API sent a reply of over {self._limit} bytes")
        return self.is_complete

    def feed_eof(self) -> bool:
        """The peer has closed: the end of a body without a length, and of nothing else."""
        if self._read is Reply._body_to_eof:
            self._finish()
        return self.is_complete

    @property
    def headers(self) -> dict[str, str]:
        """The head's fields, names in lower case, as UTF-8. `RuntimeApiError` for what is none.

        Read each time they are asked for: of the reply to a post nobody wants more than its length.
        """
        headers = {}
        for field in self._fields.decode("utf-8", "replace").split("\r\n")[1:]:
            name, colon, value = field.partition(":")
            if not colon or not name or name[0] <= " " or name[-1] <= " ":
                raise RuntimeApiError(f"the Runtime API sent a bad header: {field[:100]!a}")
            headers[name.lower()] = value.strip(" \t")
        return headers

    # The state is what is read next. Each of these consumes what there is of it, and tells whether that was all.

    def _head(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        self._buffer = rest
        line, line_break, fields = head.partition(b"\r\n")
        self.status, self.keep_alive = _status(line[:100])
        if self.status < 200:
            return True  # 100 Continue and its kind: the reply is still to come
        self._fields = line_break + fields
        framing = self._fields.lower()
        if framing.partition(_CONNECTION)[1] and b"close" in _value(framing, _CONNECTION):
            self.keep_alive = False
        length = _value(framing, _LENGTH)
        if length and not (length.isdigit() and len(length) <= 10):
            raise RuntimeApiError(f"the Runtime API sent a bad content-length: {length[:100]!r}")
        if self.status in _BODILESS:
            self._pieces = []
            self._finish()
        elif framing.partition(_ENCODING)[1] and _value(framing, _ENCODING) == b"chunked":
            self._pieces = []
            self._read = Reply._chunk_size
        elif not length:
            self.keep_alive = False
            self._pieces = []
            self._read = Reply._body_to_eof
        elif (left := int(length)) == len(rest):  # most replies come in one piece
            self._buffer = b""
            self.body = rest
            self.is_complete = True
            self._read = Reply._nothing
        else:
            self._left = left
            self._pieces = []
            self._read = Reply._sized_body
        return True

    def _sized_body(self) -> bool:
        if not self._take():
            return False
        self._finish()
        return True

    def _body_to_eof(self) -> bool:
        self._pieces.append(self._buffer)
        self._buffer = b""
        return True

    def _chunk_size(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return False
        size = re.fullmatch(_CHUNK_SIZE, line)
        if size is None:
            raise RuntimeApiError(f"the Runtime API sent a bad chunk size: {line[:100]!r}")
        self._buffer = rest
        self._left = int(size[1], 16)
        self._read = Reply._chunk if self._left else Reply._trailer
        return True

    def _chunk(self) -> bool:
        if not self._take():
            return False
        self._read = Reply._chunk_end
        return True

    def _chunk_end(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if not self._buffer.startswith(b"\r\n"):
            raise RuntimeApiError("the Runtime API sent a chunk longer than its size")
        self._buffer = self._buffer[2:]
        self._read = Reply._chunk_size
        return True

    def _trailer(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if end:
            self._buffer = rest
            if not line:
                self._finish()
        return bool(end)

    def _nothing(self) -> bool:
        raise RuntimeApiError(f"the Runtime API sent more than one reply: {self._buffer[:100]!r}")

    def _take(self) -> bool:
        """Take what has come of the bytes that are left; pieces are joined once, at the end."""
        piece = self._buffer[: self._left]
        self._pieces.append(piece)
        self._buffer = self._buffer[len(piece) :]
        self._left -= len(piece)
        return not self._left

    def _finish(self) -> None:
        self.body = b"".join(self._pieces)
        self.is_complete = True
        self._read = Reply._nothing


@functools.lru_cache(16)  # the Runtime API has few
def _status(line: bytes) -> tuple[int, bool]:
    """The status, and whether the connection is kept if nothing else is said."""
    version, status, space = line[:9], line[9:12], line[12:13]
    if version not in _VERSIONS or not status.isdigit() or status < b"100" or space not in (b" ", b""):
        raise RuntimeApiError(f"the Runtime API did not answer in HTTP/1.1: {line!r}")
    return int(status), version == _VERSIONS[0]


def _value(fields: bytes, name: bytes) -> bytes:
    """The value of the first field of this name, with what stands before and after a name; empty if there is none."""
    return fields.partition(name)[2].partition(b"\r\n")[0].strip()

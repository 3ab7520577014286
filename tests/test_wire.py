"""The wire without a socket: what is written is what h11 reads, and what h11 writes is read, in pieces of any size."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.exceptions import RuntimeApiError
from adapter.response import Failure
from adapter.wire import Reply, chunk, last_chunk, streamed_post

OK = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'


def written(chunks: list[bytes], failure: Failure | None = None) -> bytes:
    head = streamed_post("127.0.0.1:9001", "text/plain", "request-id", "attempt")
    return head + b"".join(piece for data in chunks for piece in chunk(data)) + last_chunk(failure)


def read(data: bytes, size: int) -> tuple[h11.Request, bytes, dict[bytes, bytes]]:
    """What h11 makes of it, given ``size`` bytes at a time."""
    peer = h11.Connection(h11.SERVER)
    request, body = None, b""
    for start in range(0, len(data), size):
        peer.receive_data(data[start : start + size])
        while (event := peer.next_event()) is not h11.NEED_DATA:
            match event:
                case h11.Request():
                    request = event
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    assert request is not None
                    return request, body, dict(event.headers)
    raise AssertionError("incomplete")


def test_the_head_is_what_the_documentation_shows() -> None:
    assert streamed_post("127.0.0.1:9001", "text/plain", "id", "attempt") == (
        b"POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\n"
        b"Host: 127.0.0.1:9001\r\n"
        b"Content-Type: text/plain\r\n"
        b"Lambda-Runtime-Function-Response-Mode: streaming\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"
        b"Lambda-Runtime-Invocation-Id: attempt\r\n\r\n"
    )
    assert b"Invocation-Id" not in streamed_post("127.0.0.1:9001", "text/plain", "id", None)


def test_a_chunk_of_nothing_is_nothing() -> None:
    assert chunk(b"") == ()
    assert b"".join(chunk(b"x" * 255)) == b"ff\r\n" + b"x" * 255 + b"\r\n"


@given(st.lists(st.binary(max_size=300), max_size=5), st.booleans())
def test_what_is_written_is_read_whole_and_byte_by_byte(chunks: list[bytes], fails: bool) -> None:
    failure = Failure("Function.ValueError", "e30=") if fails else None
    data = written(chunks, failure)
    request, body, trailers = read(data, len(data))
    assert (request, body, trailers) == read(data, 1)
    assert request.target == b"/2018-06-01/runtime/invocation/request-id/response"
    assert body == b"".join(chunks)
    assert trailers == (
        {
            b"lambda-runtime-function-error-type": b"Function.ValueError",
            b"lambda-runtime-function-error-body": b"e30=",
        }
        if failure
        else {}
    )


def fields(reply: Reply) -> tuple[int, bytes, bool] | None:
    return (reply.status, reply.body, reply.keep_alive) if reply.is_complete else None


def outcome(data: bytes, size: int, *, eof: bool) -> tuple[int, bytes, bool] | str | None:
    """The reply's fields, or the kind of error, after all of ``data`` in pieces of ``size``."""
    reply = Reply()
    try:
        for start in range(0, len(data), size):
            reply.feed(data[start : start + size])
        if eof:
            reply.feed_eof()
    except RuntimeApiError as exception:
        return str(exception).partition(":")[0]
    return fields(reply)


@given(
    st.integers(100, 599),
    st.binary(max_size=200),
    st.sampled_from(["length", "chunked", "eof"]),
    st.booleans(),
    st.lists(st.integers(1, 60), max_size=4),
)
def test_what_h11_writes_is_read_in_pieces_of_any_size(
    status: int, body: bytes, framing: str, close: bool, cuts: list[int]
) -> None:
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    peer.next_event(), peer.next_event()
    data = b""
    if status < 200:
        data += peer.send(h11.InformationalResponse(status_code=status if status != 101 else 100, headers=[])) or b""
        status = 202
    headers = [("Content-Type", "application/json"), *([("Connection", "close")] if close or framing == "eof" else [])]
    if framing == "length":
        headers.append(("Content-Length", str(len(body))))
    elif framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
    if status in (204, 304):
        body = b""
        headers = headers[:1]
    data += peer.send(h11.Response(status_code=status, headers=headers)) or b""
    if framing == "eof" and status not in (204, 304):
        data = (
            data.replace(b"Transfer-Encoding: chunked\r\n", b"").replace(b"transfer-encoding: chunked\r\n", b"") + body
        )
    else:
        for start in range(0, len(body), 50):
            data += peer.send(h11.Data(body[start : start + 50])) or b""
        data += peer.send(h11.EndOfMessage(headers=[("x", "y")] if framing == "chunked" and headers[1:] else [])) or b""
    whole = outcome(data, len(data), eof=True)
    assert isinstance(whole, tuple)
    assert whole[:2] == (status, body)
    assert outcome(data, 1, eof=True) == whole
    reply, rest = Reply(), data
    for cut in cuts:
        reply.feed(rest[:cut])
        rest = rest[cut:]
    reply.feed(rest)
    reply.feed_eof()
    assert fields(reply) == whole


@given(st.binary(max_size=80))
def test_noise_is_the_same_whole_and_byte_by_byte(noise: bytes) -> None:
    for data in (
        noise,
        OK[:20] + noise,
        OK[:40] + noise,
        b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n" + noise,
    ):
        assert outcome(data, max(len(data), 1), eof=True) == outcome(data, 1, eof=True)


def test_the_reply_to_a_post() -> None:
    reply = Reply()
    assert reply.feed(OK)
    assert fields(reply) == (202, b'{"status":"OK"}\n', True)
    assert reply.headers == {"content-type": "application/json", "content-length": "16"}


def test_status_lines_of_any_number() -> None:
    for number in [*range(100), 0]:
        reply = Reply()
        assert reply.feed(b"HTTP/1.1 202 Accepted, %d\r\nContent-Length: 0\r\n\r\n" % number)
        assert fields(reply) == (202, b"", True)


@pytest.mark.parametrize(
    ("data", "keep_alive"),
    [
        (OK, True),
        (OK.replace(b"Content-Type: application/json", b"Connection: close"), False),
        (OK.replace(b"Content-Type: application/json", b"CONNECTION: Close"), False),
        (OK.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
    ],
)
def test_keep_alive(data: bytes, keep_alive: bool) -> None:
    reply = Reply()
    assert reply.feed(data)
    assert reply.keep_alive is keep_alive


@pytest.mark.parametrize("status", [204, 304])
def test_a_reply_without_a_body(status: int) -> None:
    head = b"HTTP/1.1 %d No\r\nContent-Length: 5\r\n\r\n" % status
    reply = Reply()
    assert reply.feed(head)
    assert fields(reply) == (status, b"", True)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer in HTTP/1.1"),
        (b"HTTP/2 200\r\n\r\n", "did not answer in HTTP/1.1"),
        (b"HTTP/1.1 202 OK\r\nContent-Length: -1\r\n\r\n", "bad content-length"),
        (b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "bad chunk size"),
        (b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "longer than its size"),
        (OK + b"H", "more than one reply"),
        (b"HTTP/1.1 202 OK\r\nX: " + b"x" * 2**20, "over 1048576 bytes"),
        (b"HTTP/1.1 202 OK\r\n\r\n" + b"x" * (2**20 + 1), "over 1048576 bytes"),
    ],
)
def test_what_is_not_a_reply_is_an_error(data: bytes, complaint: str) -> None:
    with pytest.raises(RuntimeApiError, match=complaint):
        Reply().feed(data)


@pytest.mark.parametrize("field", [b"no colon", b": no name", b"name : space", b" name: space"])
def test_a_header_that_is_none_is_an_error_for_who_asks_for_headers(field: bytes) -> None:
    reply = Reply()
    assert reply.feed(OK.replace(b"Content-Type: application/json", field))
    assert reply.status == 202
    with pytest.raises(RuntimeApiError, match="bad header"):
        dict(reply.headers)


@pytest.mark.parametrize("size", range(1, len(OK)))
def test_a_truncated_reply_is_none(size: int) -> None:
    reply = Reply()
    assert not reply.feed(OK[:size])
    assert not reply.feed_eof()

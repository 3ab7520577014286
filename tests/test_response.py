"""The response table, cell by cell; and arbitrary sequences of messages through it to the wire and back."""

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adapter import wire
from adapter.exceptions import AppError
from adapter.response import (
    BODILESS,
    DELIMITER,
    EVENTS,
    SERVER_ERROR,
    SERVER_ERROR_BODY,
    TABLE,
    Buffer,
    Failure,
    Head,
    Response,
)
from adapter.types import Event, State

HEAD = Head(201, (("content-type", "text/plain"),))


class Recorder:
    """A sink that records what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def open(self, head: Head | None, content_type: str) -> None:
        self.calls.append(("open", head))

    def data(self, body: bytes, *, more: bool) -> None:
        self.calls.append(("data", body))

    def end(self, failure: Failure | None) -> None:
        self.calls.append(("failure", failure.type) if failure else ("end", None))

    def flush(self) -> bool:
        return True

    async def drain(self) -> None: ...

    async def settle(self) -> None: ...
    def abandon(self, reason: str) -> None: ...


def act(response: Response, event: Event) -> None:
    match event:
        case "start":
            response.start(HEAD)
        case "flush":
            response.flush()
        case "body":
            response.body(b"data", more=True)
        case "last":
            response.body(b"last", more=False)
        case "fail":
            response.fail(ZeroDivisionError("division by zero"))
        case "lose":
            response.lose()


OPEN, DATA, LAST, END = ("open", HEAD), ("data", b"data"), ("data", b"last"), ("end", None)
FAILURE = ("failure", "Function.ZeroDivisionError")

# Written out once more, by hand: what is expected of each cell. None: illegal.
EXPECTED: dict[tuple[State, Event], tuple[State, list[Any]] | None] = {
    ("idle", "start"): ("held", []),
    ("idle", "flush"): None,
    ("idle", "body"): None,
    ("idle", "last"): None,
    ("idle", "fail"): ("idle", []),
    ("idle", "lose"): ("lost", []),
    ("held", "start"): None,
    ("held", "flush"): ("open", [OPEN]),
    ("held", "body"): ("open", [OPEN, DATA]),
    ("held", "last"): ("closed", [OPEN, LAST, END]),
    ("held", "fail"): ("idle", []),
    ("held", "lose"): ("lost", []),
    ("open", "start"): None,
    ("open", "flush"): None,
    ("open", "body"): ("open", [DATA]),
    ("open", "last"): ("closed", [LAST, END]),
    ("open", "fail"): ("closed", [FAILURE]),
    ("open", "lose"): ("lost", []),
    ("closed", "start"): None,
    ("closed", "flush"): None,
    ("closed", "body"): None,
    ("closed", "last"): None,
    ("closed", "fail"): ("closed", []),
    ("closed", "lose"): ("lost", []),
    ("lost", "start"): ("lost", []),
    ("lost", "flush"): ("lost", []),
    ("lost", "body"): ("lost", []),
    ("lost", "last"): ("lost", []),
    ("lost", "fail"): ("lost", []),
    ("lost", "lose"): ("lost", []),
}

WAY_TO: dict[State, list[Event]] = {
    "idle": [],
    "held": ["start"],
    "open": ["start", "flush"],
    "closed": ["start", "last"],
    "lost": ["start", "lose"],
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(TABLE, EVENTS)))
def test_cell(state: State, event: Event) -> None:
    sink = Recorder()
    response = Response(sink)
    for step in WAY_TO[state]:
        act(response, step)
    assert response.state is state
    sink.calls.clear()
    expected = EXPECTED[state, event]
    if expected is None:
        with pytest.raises(AppError, match=f"{EVENTS[event]} cannot come while the response is {state}"):
            act(response, event)
        assert response.state is state
        assert not sink.calls
    else:
        act(response, event)
        assert (response.state, sink.calls) == expected


def test_the_table_has_what_is_expected_and_no_more() -> None:
    cells = {(state, event) for state, row in TABLE.items() for event in row}
    assert cells == {cell for cell, expected in EXPECTED.items() if expected}
    assert set(TABLE) == {state for state, _ in EXPECTED}


def test_repr_shows_the_state() -> None:
    response = Response(Recorder())
    assert repr(response) == "<Response idle>"
    response.start(HEAD)
    assert repr(response) == "<Response held>"


@pytest.mark.parametrize("status", sorted(BODILESS))
def test_a_status_without_a_body_has_none(status: int) -> None:
    sink = Recorder()
    response = Response(sink)
    head = Head(status)
    response.start(head)
    response.body(b"stray", more=True)
    response.body(b"stray", more=False)
    assert sink.calls == [("open", head), ("data", b""), ("data", b""), ("end", None)]


def test_the_response_to_head_has_no_body() -> None:
    sink = Recorder()
    response = Response(sink, bodiless=True)
    response.start(HEAD)
    response.body(b"what GET would have", more=False)
    assert sink.calls == [OPEN, ("data", b""), END]


class Wire:
    """A sink that writes the POST as it would go out."""

    def __init__(self) -> None:
        self.bytes = b""
        self.opened = 0
        self.ended = 0

    def open(self, head: Head | None, content_type: str) -> None:
        assert not self.ended
        self.opened += 1
        self.bytes += wire.streamed_post("127.0.0.1:9001", content_type, "id", None)
        if head is not None:
            self.bytes += b"".join((*wire.chunk(head.prelude()), *wire.chunk(DELIMITER)))

    def data(self, body: bytes, *, more: bool) -> None:
        assert self.opened and not self.ended
        self.bytes += b"".join(wire.chunk(body))

    def end(self, failure: Failure | None) -> None:
        assert self.opened and not self.ended
        self.ended += 1
        self.bytes += wire.last_chunk(failure)

    def flush(self) -> bool:
        return True

    async def drain(self) -> None: ...

    async def settle(self) -> None: ...
    def abandon(self, reason: str) -> None: ...

    def read(self) -> tuple[bytes, h11.EndOfMessage | None]:
        """The body so far, and the end if it has come."""
        peer = h11.Connection(h11.SERVER)
        peer.receive_data(self.bytes)
        assert isinstance(peer.next_event(), h11.Request)
        body = b""
        while (event := peer.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return body, event
            assert isinstance(event, h11.Data)
            body += event.data
        return body, None


class Sequences(RuleBasedStateMachine):
    """Any sequence of events, legal or not: on the wire is one well-formed POST, with what was accepted."""

    @initialize(bodiless=st.booleans(), raw=st.booleans())
    def begin(self, bodiless: bool, raw: bool) -> None:
        self.wire = Wire()
        self.response = Response(self.wire, bodiless=bodiless)
        self.bodiless = bodiless
        self.raw = raw
        self.head: Head | None = None
        self.sent = b""
        self.failed = False

    def attempt(self, event: Event, *args: Any, **kwargs: Any) -> bool:
        legal = event in TABLE[self.response.state]
        methods: dict[Event, Callable[..., None]] = {
            "start": self.response.start,
            "flush": self.response.flush,
            "body": self.response.body,
            "last": self.response.body,
            "fail": self.response.fail,
            "lose": self.response.lose,
        }
        method = methods[event]
        if legal:
            method(*args, **kwargs)
        else:
            with pytest.raises(AppError):
                method(*args, **kwargs)
        return legal

    @rule(status=st.integers(200, 599), value=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])))
    def start(self, status: int, value: str) -> None:
        head = Head.parse(status, [(b"X-Value", value.encode("latin-1")), (b"set-cookie", b"a=b")])
        if self.attempt("start", None if self.raw else head) and self.response.state == "held":
            self.head = None if self.raw else head

    @rule()
    def flush(self) -> None:
        self.attempt("flush")

    @rule(data=st.binary(max_size=40), more=st.booleans())
    def body(self, data: bytes, more: bool) -> None:
        counts = self.response.state in ("held", "open")
        if self.attempt("body" if more else "last", data, more=more) and counts:
            if not self.bodiless and self.response.status not in BODILESS:
                self.sent += data

    @rule()
    def fail(self) -> None:
        self.failed |= self.response.state == "open"
        self.attempt("fail", ValueError("é\udc80"))

    @precondition(lambda self: self.response.state != "idle")
    @rule()
    def lose(self) -> None:
        self.attempt("lose")

    @invariant()
    def the_wire_is_one_post(self) -> None:
        if not hasattr(self, "response"):
            return
        assert self.wire.opened <= 1 and self.wire.ended <= 1
        assert bool(self.wire.ended) == (self.response.state == "closed") or self.response.state == "lost"
        if not self.wire.opened:
            assert not self.wire.bytes
            return
        body, end = self.wire.read()
        if self.head is not None:
            prelude, delimiter, body = body.partition(DELIMITER)
            assert delimiter
            assert json.loads(prelude) == {
                "statusCode": self.head.status,
                "headers": {"x-value": dict(self.head.headers)["x-value"]},
                "cookies": ["a=b"],
            }
        assert body == self.sent
        assert (end is not None) == bool(self.wire.ended)
        if end is not None:
            assert bool(list(end.headers)) == self.failed


TestSequences = Sequences.TestCase


def test_head_parses_what_asgi_sends() -> None:
    head = Head.parse(200, [[b"Content-Type", b" text/plain\t"], (b"x-latin", b"\xe9"), (b"empty", b"")])
    assert (head.status, head.headers) == (200, (("content-type", "text/plain"), ("x-latin", "é"), ("empty", "")))


def test_every_byte_is_in_a_name_or_refused() -> None:
    for byte in range(256):
        name = bytes([byte])
        if byte in TOKEN:
            assert Head.parse(200, [(name, b"1")]).headers == ((name.decode().lower(), "1"),)
        else:
            with pytest.raises(AppError, match="is not a legal header name"):
                Head.parse(200, [(b"x-" + name, b"1")])


# RFC 9110, 5.6.2
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize("status", [199, 600, 101, 0, -1, "200", None, 200.0])
def test_head_refuses_a_status_that_is_none(status: object) -> None:
    with pytest.raises(AppError, match="status must be an integer from 200 to 599"):
        Head.parse(status, [])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"\xe9", "text", b"a\0"])
def test_head_refuses_an_illegal_name(name: Any) -> None:
    with pytest.raises(AppError, match="is not a legal header name"):
        Head.parse(200, [(name, b"value")])


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: stolen", b"a\nb", b"a\rb", b"\0", b"\x7f", "text"])
def test_head_refuses_an_illegal_value(value: Any) -> None:
    with pytest.raises(AppError, match="is not a legal value of the header b'x-name'"):
        Head.parse(200, [(b"x-name", value)])


LONG = b"x" * 200_000


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ((b"x-name", LONG + b"\n"), "is not a legal value of the header b'x-name': it cannot have b'\\n' in it"),
        (
            (b"set-cookie", b"sid=s3cret\r" + LONG),
            "<bytes, not shown> is not a legal value of the header b'set-cookie'",
        ),
        ((b"Set-Cookie", b"sid=s3cret\r"), "it cannot have b'\\r' in it"),
        ((b"Authorization", b"Basic s3cret\0"), "<bytes, not shown> is not a legal value"),
        ((b"proxy-authorization", "s3cret"), "<str, not shown> is not a legal value"),
        ((b"x-name", LONG.decode()), "is not a legal value of the header b'x-name': it has to be bytes"),
        ((b"x-name", "authorization: s3cret"), "<str, not shown> is not a legal value"),
        ((b"Set-Cookie: sid=s3cret", b""), "b'Set-Cookie:' is not a legal header name"),
        ((b"Set-Cookie\r\nSet-Cookie: s3cret", b""), "b'Set-Cookie\\r' is not a legal header name"),
        (("Set-Cookie: sid=s3cret", b""), "<str, not shown> is not a legal header name: it has to be bytes"),
        ((LONG + b"\n", b""), "is not a legal header name"),
        ((LONG, b"\n"), "it cannot have b'\\n' in it"),
    ],
)
def test_head_quotes_little_of_what_is_illegal_and_nothing_of_a_cookie(field: Any, message: str) -> None:
    with pytest.raises(AppError) as caught:
        Head.parse(200, [field])
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value) and len(str(caught.value)) < 350


def test_head_quotes_little_of_a_status() -> None:
    with pytest.raises(AppError) as caught:
        Head.parse("4" * 200_000, [])
    assert len(str(caught.value)) < 250


def test_prelude() -> None:
    head = Head.parse(
        404,
        [
            (b"Content-Type", b"text/html"),
            (b"vary", b"accept"),
            (b"Vary", b"origin"),
            (b"set-cookie", b"a=1; Path=/"),
            (b"Set-Cookie", b"b=2"),
            (b"content-length", b"12"),
            (b"transfer-encoding", b"chunked"),
            (b"connection", b"keep-alive"),
            (b"keep-alive", b"timeout=5"),
            (b"trailer", b"x"),
            (b"te", b"x"),
            (b"upgrade", b"h2c"),
            (b"proxy-connection", b"close"),
            (b"x-latin", "é".encode("latin-1")),
        ],
    )
    prelude = head.prelude()
    assert prelude.isascii() and b"\0" not in prelude
    assert json.loads(prelude) == {
        "statusCode": 404,
        "headers": {"content-type": "text/html", "vary": "accept, origin", "x-latin": "é"},
        "cookies": ["a=1; Path=/", "b=2"],
    }
    assert json.loads(Head(204).prelude()) == {"statusCode": 204, "headers": {}}


def test_failure_is_one_line_of_base64_whatever_the_message() -> None:
    def deep(level: int) -> None:
        if level:
            deeper(level - 1)
        raise ValueError("line\nbreak, \udc80, é " + "x" * 10_000)

    def deeper(level: int) -> None:
        deep(level)

    with pytest.raises(ValueError) as caught:
        deep(100)
    failure = Failure.of(caught.value)
    assert failure.type == "Function.ValueError"
    assert "\n" not in failure.body
    report = json.loads(base64.b64decode(failure.body))
    assert report["errorType"] == "ValueError"
    assert report["errorMessage"].startswith("line\nbreak, \udc80, é x")
    assert len(report["errorMessage"]) == 1024
    assert 10 < len(report["stackTrace"]) <= 20  # from Python 3.13 on they have carets, and are longer
    assert "deep" in report["stackTrace"][-1]


@pytest.mark.parametrize("message", ["", "x" * 10_000, "\U0001f600" * 10_000])
@pytest.mark.parametrize("name", ["A", "Error" * 100, "Ошибка" * 100])
def test_trailers_are_no_longer_than_they_are_taken(name: str, message: str) -> None:
    """By Go's net/http, of which AWS's Runtime API is made."""
    last = wire.last_chunk(Failure.of(type(name, (Exception,), {})(message)))
    assert len(last.removeprefix(b"0\r\n")) <= 4096
    report = json.loads(base64.b64decode(last.rpartition(b": ")[2]))
    assert name.startswith(report["errorType"]) and message.startswith(report["errorMessage"])
    assert bool(report["errorMessage"]) == bool(message)


def test_an_exception_that_cannot_say_anything() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise AttributeError("no words")

    report = json.loads(base64.b64decode(Failure.of(Mute()).body))
    assert (report["errorType"], report["errorMessage"]) == ("Mute", "<exception str() failed>")


def test_failure_type_has_letters_only() -> None:
    class _My3rdError(Exception): ...

    assert Failure.of(_My3rdError()).type == "Function.MyrdError"


async def test_a_buffered_response_that_fails_is_a_500() -> None:
    buffer = Buffer()
    response = Response(buffer)
    response.start(HEAD)
    response.body(b"part", more=True)
    assert (buffer.head, bytes(buffer.body)) == (HEAD, b"part")
    response.fail(ValueError())
    buffer.flush()
    await buffer.drain()
    await buffer.settle()
    assert (buffer.head, bytes(buffer.body)) == (SERVER_ERROR, SERVER_ERROR_BODY)


def test_writes_are_named_for_what_the_sink_is_told() -> None:
    assert {write for row in TABLE.values() for _, writes in row.values() for write in writes} == {
        "head",
        "data",
        "end",
        "failure",
    }


@given(st.lists(st.tuples(st.sampled_from([b"a", b"B", b"set-cookie"]), st.sampled_from([b"1", b"2"]))))
def test_combine_keeps_every_value(headers: list[tuple[bytes, bytes]]) -> None:
    combined, cookies = Head.parse(200, headers).combine(", ")
    assert cookies == [value.decode() for name, value in headers if name == b"set-cookie"]
    for name in (b"a", b"B"):
        values = [value.decode() for other, value in headers if other == name]
        assert combined.get(name.decode().lower(), "") == ", ".join(values)

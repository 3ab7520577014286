"""The same requests to the same app under uvicorn and behind the local function URL: the same answers.

What may differ is what a function URL does to every request and reply. It is written down below, each with its
reason; anything else is a fault of the library's or of the local Lambda's.
"""

import contextlib
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import h11
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier

from echo import METHODS, PIECE, SEEN

TESTS = Path(__file__).parent
APPS = {
    "echo": (TESTS / "functions", "echo"),
    "example": (TESTS.parent / "examples" / "fastapi_app", "main"),
}
SECRET = "a signing secret"
PATIENCE = 30.0  # seconds; nothing takes this long unless it has gone wrong

# -- what is the platform's: of the request
# (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads: format 2.0, in which a repeated
# header is one, joined by ",", and cookies stand apart)

# They belong to the client's connection with the front end (RFC 9110, 7.6.1); the event has the request only.
NOT_IN_EVENTS = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
# The front end's own, in place of the client's.
ADDED_TO_EVENTS = {"x-amzn-trace-id", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"}
# A request's header is text in an event, decoded as UTF-8; other bytes are lost.
# An event has the body in one piece: the length of one that came in chunks is known (RFC 9112, 7.1.3).

# -- what is the platform's: of the reply; a repeated header is one here too, joined by ", ", but for Set-Cookie

NOT_IN_REPLIES = {
    "connection",  # the three belong to one connection; the front end has another one with the client
    "keep-alive",
    "transfer-encoding",
    # A stream has none; passed on, it would come as x-amzn-remapped-content-length
    # (https://github.com/cargo-lambda/cargo-lambda/issues/862).
    "content-length",
    "date",  # the front end has its own; assumed, as API Gateway does it
    "server",
}
# Known of replies that are not streamed, and assumed of those that are.
RENAMED = {"www-authenticate": "x-amzn-remapped-www-authenticate"}
ADDED_TO_REPLIES = {"x-amzn-requestid"}
# A function URL unpacks it, and says nothing of it. Any other coding passes.
# (https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/96)
UNPACKED = ("content-encoding", "gzip")

# Of the invocation's payload, the event with everything in it: "Request must be smaller than 6291456 bytes for the
# InvokeFunction operation" (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html has it as 6 MB).
MAX_EVENT = 6_291_456
# More than what an event has beside its body.
ENVELOPE = 4096


class Request(NamedTuple):
    """A request that goes out byte for byte as it is here: no client's library has a hand in it.

    ``host`` None stands for the server's own address, "" for no such header at all; text is latin-1.
    """

    method: str = "GET"
    target: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    host: str | None = None
    version: str = "1.1"
    chunked: bool = False

    def head(self, port: int) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/{self.version}"]
        if self.host != "":
            lines.append(f"host: {self.host or address(port)}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.chunked:
            lines.append("transfer-encoding: chunked")
        elif self.body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1")

    def content(self) -> bytes:
        if not self.chunked:
            return self.body
        parts = [self.body[: len(self.body) // 3], self.body[len(self.body) // 3 :]]
        return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"

    @property
    def waits(self) -> bool:
        return ("expect", "100-continue") in self.headers


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    cookies: list[str]
    body: bytes
    whole: bool  # whether it came to its end, and was not cut off

    def seen(self) -> dict[str, Any]:
        """What the app was called with."""
        assert self.status == 200, self
        text = self.headers["x-seen"].encode("latin-1") if "x-seen" in self.headers else self.body
        assert self.headers["content-type"] == SEEN
        seen: dict[str, Any] = json.loads(text)
        return seen


def address(port: int) -> str:
    return f"127.0.0.1:{port}"


def ask(port: int, request: Request) -> Reply:
    # h11 reads the reply only. It has to know the method; what it would send is not sent.
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1024 * 1024)
    reader.send(h11.Request(method=request.method, target="/", headers=[("host", "unsent")]))
    reader.send(h11.EndOfMessage())
    response: h11.Response | None = None
    body = bytearray()
    whole = False
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(request.head(port))
        waiting = request.waits
        if not waiting:
            connection.sendall(request.content())
        while not whole:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError:
                assert response is not None, "closed without a reply"
                break
            if event is h11.NEED_DATA:
                reader.receive_data(connection.recv(256 * 1024))
            elif isinstance(event, h11.InformationalResponse) and waiting:
                connection.sendall(request.content())
                waiting = False
            elif isinstance(event, h11.Response):
                assert not waiting
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.EndOfMessage), event
                whole = True
    assert response is not None
    headers: dict[str, str] = {}
    cookies = []
    for raw_name, raw_value in response.headers:
        # What names the server's own address names no other than the one that was asked.
        name, value = raw_name.decode(), raw_value.decode("latin-1").replace(address(port), "ADDRESS")
        if name == "set-cookie":
            cookies.append(value)
        else:
            headers[name] = f"{headers[name]}, {value}".strip(" \t") if name in headers else value
    if UNPACKED in headers.items():
        body = bytearray(gzip.decompress(body))
    return Reply(response.status_code, headers, cookies, bytes(body).replace(address(port).encode(), b"ADDRESS"), whole)


def expected(reply: Reply) -> Reply:
    """Of uvicorn's reply what a function URL's caller gets."""
    kept = (field for field in reply.headers.items() if field[0] not in NOT_IN_REPLIES and field != UNPACKED)
    headers = {RENAMED.get(name, name): value for name, value in kept}
    # A function URL's caller does not see a failure in mid-stream: the body just ends
    # (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming).
    return reply._replace(headers=headers, whole=True)


def received(reply: Reply) -> Reply:
    """Of a function URL's reply what comes from the app."""
    assert ADDED_TO_REPLIES <= reply.headers.keys()
    added = ADDED_TO_REPLIES | {"connection", "date", "transfer-encoding"}
    kept = (field for field in reply.headers.items() if field[0] not in added and field != UNPACKED)
    return reply._replace(headers=dict(kept))


def as_in_an_event(seen: dict[str, Any], port: int) -> dict[str, Any]:
    """What the app was called with, without what an event does not say, and in an event's form."""
    headers: dict[str, str] = {}
    for name, value in seen["headers"]:
        value = value.encode("latin-1").decode("utf-8", "replace").encode().decode("latin-1")
        if name == "transfer-encoding" and seen["length"]:
            headers["content-length"] = str(seen["length"])
        elif name == "cookie":
            # One entry a cookie in the event's `cookies`; the blanks between them are not kept.
            crumbs = [crumb for part in value.split(";") if (crumb := part.strip(" \t"))]
            if crumbs:
                headers[name] = "; ".join([*filter(None, [headers.get(name)]), *crumbs])
        elif name not in NOT_IN_EVENTS | ADDED_TO_EVENTS:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    if headers.get("host") == address(port):
        headers["host"] = "ADDRESS"
    server = ["127.0.0.1", "PORT"] if seen["server"] == ["127.0.0.1", port] else seen["server"]
    return {**seen, "headers": headers, "server": server}


class Pair(NamedTuple):
    """The ports of the same app, twice."""

    uvicorn: int
    url: int

    def answer(self, request: Request) -> Reply:
        """The function URL's reply, which is uvicorn's."""
        theirs = ask(self.uvicorn, request)
        ours = ask(self.url, request)
        assert received(ours) == expected(theirs)
        return theirs

    def seen(self, request: Request) -> dict[str, Any]:
        """What the app saw behind the function URL, which is what it saw under uvicorn."""
        theirs = as_in_an_event(ask(self.uvicorn, request).seen(), self.uvicorn)
        reply = ask(self.url, request)
        ours = reply.seen()
        assert {name for name, _ in ours["headers"]} >= ADDED_TO_EVENTS
        if request.method == "HEAD":
            assert reply.body == b""
        ours = as_in_an_event(ours, self.url)
        assert ours == theirs
        return ours


# -- the four processes


class Server(NamedTuple):
    process: "subprocess.Popen[bytes]"
    log: Path

    def port(self) -> int:
        """Where it serves, which it says once it does."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            if said := re.search(r"http://127\.0\.0\.1:(\d+)", self.log.read_text()):
                return int(said[1])
            time.sleep(0.02)
        pytest.fail(f"it does not serve (exit status {self.process.returncode}): {self.log.read_text()}")

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def end(self) -> int:
        """Ctrl-C; the exit status."""
        children = self.children()
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE)
        for pid in children:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        return status


def start(stack: contextlib.ExitStack, command: list[str], folder: Path) -> Server:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | {
        "REPORTS_FILE": str(folder / "reports.sqlite3"),
        "SLACK_SIGNING_SECRET": SECRET,
        "WORK_SECONDS": "0",
    }
    log = folder / "log"
    out = stack.enter_context(log.open("wb"))
    process = stack.enter_context(
        subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=out, stderr=out, cwd=folder)
    )
    stack.callback(process.kill)  # of no effect on one that has ended
    return Server(process, log)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    servers: dict[str, tuple[Server, Server]] = {}
    try:
        with contextlib.ExitStack() as stack:
            for name, (folder, module) in APPS.items():
                place = ["--port", "0", "--app-dir", str(folder)]
                # The function URL has its own X-Forwarded headers; uvicorn would believe those of the client.
                quiet = ["--no-proxy-headers", "--no-access-log"]
                servers[name] = (
                    start(
                        stack,
                        ["uvicorn", "--http", "h11", *place, *quiet, f"{module}:app"],
                        tmp_path_factory.mktemp("uvicorn"),
                    ),
                    start(
                        stack,
                        ["adapter.local", *place, "--allow-host", "shop.example", f"{module}.handler"],
                        tmp_path_factory.mktemp("url"),
                    ),
                )
            yield {name: Pair(uvicorn.port(), url.port()) for name, (uvicorn, url) in servers.items()}
            for uvicorn, url in servers.values():
                assert url.end() == 0
                uvicorn.end()  # its status is the signal's
    finally:
        for server in (server for pair in servers.values() for server in pair):
            print(server.log.read_text())  # pytest shows it beside a failure


@pytest.fixture(scope="module")
def echo(pairs: dict[str, Pair]) -> Pair:
    return pairs["echo"]


@pytest.fixture(scope="module")
def example(pairs: dict[str, Pair]) -> Pair:
    return pairs["example"]


# -- the request: what the app is called with

ALL_BYTES = bytes(range(256))
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BINARY = "application/octet-stream"


def typed(content_type: str) -> tuple[tuple[str, str], ...]:
    return (("content-type", content_type),)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", [b"", b"a body"])
def test_methods(echo: Pair, method: str, body: bytes) -> None:
    seen = echo.seen(Request(method, "/a?b", typed("text/plain"), body))
    assert seen["method"] == method
    assert seen["length"] == len(body)


def test_a_method_of_ones_own(echo: Pair) -> None:
    assert echo.seen(Request("PURGE"))["method"] == "PURGE"


@pytest.mark.parametrize(
    "path, decoded",
    [
        ("/a%20b", "/a b"),
        ("/a%2Fb", "/a/b"),
        ("/a%2fb%3Fc%23d%25e", "/a/b?c#d%e"),
        ("/%C3%BC/%E2%82%AC", "/ü/€"),
        ("/%ff", "/\ufffd"),
        ("/%", "/%"),
        ("/%zz", "/%zz"),
        ("/%00", "/\0"),
        ("/%252F", "/%2F"),
        ("//double//slash/", "//double//slash/"),
        ("//other.example/a", "//other.example/a"),
        ("/a;b=c/d", "/a;b=c/d"),
        ("/a+b", "/a+b"),
        ("/./a/../b/.", "/./a/../b/."),
        ("/%2e%2e/a", "/../a"),
        ("/a:b@c,d!$&'()*=~_-[]|^`{}\"<>\\", "/a:b@c,d!$&'()*=~_-[]|^`{}\"<>\\"),
        ("/" + "long/" * 500, "/" + "long/" * 500),
    ],
)
def test_paths(echo: Pair, path: str, decoded: str) -> None:
    seen = echo.seen(Request(target=path))
    assert seen["raw_path"] == path
    assert seen["path"] == decoded


@pytest.mark.parametrize(
    "query",
    [
        "",
        "a=1&a=2&b=%26&c=%C3%BC&d",
        "a=1+1&b=1%2B1&c=1%201",
        "&&=&a==b&=c",
        "a=1;b=2",
        "%ff=%fe",
        "a=?/?&b=/../",
        "a,b=1,2&a,b=3",
        "x=" + "y" * 8000,
    ],
)
def test_queries(echo: Pair, query: str) -> None:
    assert echo.seen(Request(target=f"/path?{query}"))["query_string"] == query


@pytest.mark.parametrize(
    "headers",
    [
        (("x-a", "1"), ("x-a", "2")),
        (("X-A", "1"), ("x-b", "between"), ("x-a", "2,3"), ("x-a", "")),
        (("x-empty", ""),),
        (("x-blanks", " \t a \t b \t "),),
        (("x-latin-1", "caf\xe9 \x80\x85\xa0\xff"),),
        (("x-utf-8", "ü€".encode().decode("latin-1")),),
        (("x-quotes", '"a\\"b", \''),),
        (("x!#$%&'*+-.^_`|~", "a token"),),
        (("accept", "text/html"), ("accept", "*/*;q=0.1"), ("accept-encoding", "gzip"), ("user-agent", "a browser")),
        (("authorization", "Basic YTpi"), ("origin", "https://a.example"), ("if-none-match", '"a", "b"')),
        (("x-long", "l" * 10_000),),
        (("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "1")),
        (("connection", "keep-alive, te"), ("te", "trailers"), ("keep-alive", "timeout=5")),
        tuple((f"x-{number}", str(number)) for number in range(200)),
    ],
    ids=lambda headers: headers[0][0],
)
def test_request_headers(echo: Pair, headers: tuple[tuple[str, str], ...]) -> None:
    echo.seen(Request(headers=headers))


@pytest.mark.parametrize(
    "lines, cookies",
    [
        (["a=1; b=2"], {"a": "1", "b": "2"}),
        (["a=1", "b=2; c=3"], {"a": "1", "b": "2", "c": "3"}),
        (["a=1; a=2"], {"a": "2"}),
        (["a=b=c==; d"], {"a": "b=c==", "": "d"}),
        (['a="quoted value"; b=x,y'], {"a": "quoted value", "b": "x,y"}),
        (["a=1;b=2;; ;c=3;"], {"a": "1", "b": "2", "c": "3"}),
        (["a=caf\xc3\xa9"], {"a": "caf\xc3\xa9"}),
    ],
)
def test_cookies(echo: Pair, lines: list[str], cookies: dict[str, str]) -> None:
    seen = echo.seen(Request(headers=tuple(("cookie", line) for line in lines)))
    assert seen["cookies"] == cookies


def test_a_cookie_that_ends_in_what_unicode_calls_a_blank(echo: Pair) -> None:
    # In UTF-8, "à" ends in the byte A0.
    seen = echo.seen(Request(headers=(("cookie", "a=voil\xc3\xa0; b=\xc2\x85"),)))
    assert seen["headers"]["cookie"] == "a=voil\xc3\xa0; b=\xc2\x85"


@pytest.mark.parametrize("host", ["shop.example", "shop.example:8443", "[::1]:8000", "[::1]", "LOCALHOST:80"])
def test_hosts(echo: Pair, host: str) -> None:
    theirs = as_in_an_event(ask(echo.uvicorn, Request(target="/a?b", host=host)).seen(), echo.uvicorn)
    ours = as_in_an_event(ask(echo.url, Request(target="/a?b", host=host)).seen(), echo.url)
    # `server` is the socket's address under uvicorn; an event has no other address than the Host that was asked for.
    assert {**ours, "server": None} == {**theirs, "server": None}
    assert ours["url"] == f"http://{host}/a?b"


@pytest.mark.parametrize(
    "host",
    ["x:evil", "x.example/y?z", "[::1", "a b", " ", "x:", "x:65536", "x:" + "9" * 5000],
    ids=lambda host: host[:20],
)
def test_hosts_that_are_none_are_refused(echo: Pair, host: str) -> None:
    """Where Lambda hands on such a Host, the adapter takes the server's own name: see tests/test_triggers.py."""
    reply = ask(echo.url, Request(target="/a?b", host=host))
    assert reply.status == 403 and b"--allow-host" in reply.body


def test_http_1_0_without_a_host(echo: Pair) -> None:
    request = Request(target="/a", version="1.0", host="")
    theirs, ours = ask(echo.uvicorn, request).seen(), ask(echo.url, request).seen()
    assert theirs["http_version"] == ours["http_version"] == "1.0"
    assert theirs["url"] == ours["url"] == "http://ADDRESS/a"


BODIES = {
    "0 B": (BINARY, b""),
    "1 B": ("text/plain", b"x"),
    "NUL": (BINARY, b"\0"),
    "no type": (None, b"no type"),
    "text": ("text/plain; charset=utf-8", "grün\r\n\0\x7f\u2028 \U0001f600".encode()),
    "text with a mark": ("text/csv", "\ufeffa,b".encode()),
    "not the text it says": ("text/plain", ALL_BYTES),
    "latin-1": ("text/plain; charset=latin-1", b"gr\xfcn"),
    "json": (JSON, '{"ключ": "значение", "€": ["\\u0000", "😀", "\\ud800"]}'.encode()),
    "not json": (JSON, b"{"),
    "json of another type": ("application/vnd.api+json; charset=utf-8", '{"ü": 1}'.encode()),
    "form": (FORM, urlencode({"a": "ü b", "c": "&="}).encode()),
    "parts": ("multipart/form-data; boundary=x", b"--x\r\n\r\n" + ALL_BYTES + b"\r\n--x--\r\n"),
    "binary": (BINARY, ALL_BYTES),
    "binary image": ("image/png", ALL_BYTES * 40),
    "1 MB": (BINARY, ALL_BYTES * 4096),
    "1 MB of text": ("text/plain", "ü".encode() * 524_288),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_bodies(echo: Pair, body: str, chunked: bool) -> None:
    content_type, content = BODIES[body]
    headers = typed(content_type) if content_type is not None else ()
    seen = echo.seen(Request("POST", "/", headers, content, chunked=chunked))
    assert seen["length"] == len(content)
    reply = echo.answer(Request("POST", "/echo", headers, content, chunked=chunked))
    assert reply.body == content
    assert echo.answer(Request("PUT", "/stream", headers, content, chunked=chunked)).body == content


def test_a_body_that_is_waited_for(echo: Pair) -> None:
    headers = (("expect", "100-continue"),)
    assert echo.answer(Request("POST", "/echo", headers, ALL_BYTES)).body == ALL_BYTES


@pytest.mark.parametrize(
    "content_type, content",
    [
        ("text/plain", b"x" * (MAX_EVENT - ENVELOPE)),
        (BINARY, (ALL_BYTES * 24_576)[: (MAX_EVENT - ENVELOPE) // 4 * 3]),  # in base64 of the same size
        # In UTF-8, as JSON is: with the characters escaped it would be three times as long.
        (JSON, b'"%s"' % ("ü".encode() * (MAX_EVENT // 2 - ENVELOPE))),
    ],
    ids=["text", "binary", "unicode"],
)
def test_the_largest_request(echo: Pair, content_type: str, content: bytes) -> None:
    assert echo.answer(Request("POST", "/echo", typed(content_type), content)).body == content


@pytest.mark.parametrize(
    "content_type, content",
    [
        ("text/plain", b"x" * (MAX_EVENT - 100)),
        (BINARY, bytes((MAX_EVENT - 100) // 4 * 3)),
    ],
    ids=["text", "binary"],
)
def test_the_limit_is_the_events_not_the_bodys(echo: Pair, content_type: str, content: bytes) -> None:
    request = Request("POST", "/", typed(content_type), content)
    assert ask(echo.uvicorn, request).status == 200
    assert ask(echo.url, request).status == 413


# -- the reply: what becomes of what the app sends


def told(
    status: int, headers: tuple[tuple[str, str], ...] = (), *chunks: str, method: str = "GET", **fields: Any
) -> Request:
    return Request(method, f"/reply?{quote(json.dumps([status, headers, chunks]))}", **fields)


@pytest.mark.parametrize("status", [200, 201, 202, 226, 299, 400, 401, 404, 418, 422, 499, 500, 503, 599])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_statuses(echo: Pair, status: int, method: str) -> None:
    reply = echo.answer(told(status, typed("text/plain"), "one", "two", method=method))
    assert reply.status == status
    assert reply.body == (b"" if method == "HEAD" else b"onetwo")


@pytest.mark.parametrize("status", [204, 205, 304, 301, 302, 200])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_replies_without_a_body(echo: Pair, status: int, method: str) -> None:
    reply = echo.answer(told(status, (("etag", '"a"'), ("location", "/b"), ("set-cookie", "a=b")), method=method))
    assert reply.status == status
    assert reply.body == b""
    assert reply.cookies == ["a=b"]


@pytest.mark.parametrize(
    "headers",
    [
        (("x-b", "1"), ("x-c", "2"), ("x-b", "3"), ("X-B", "4,5")),
        pytest.param((("x-a", "1"), ("x-a", "")), id="empty at the end"),
        (("x-a", ""), ("x-a", "1")),
        (("vary", "accept"), ("vary", "origin"), ("link", "</a>; rel=next"), ("link", "</b>; rel=prev")),
        (("set-cookie", "a=1; Path=/"), ("x-a", "1"), ("Set-Cookie", "b=2; HttpOnly"), ("set-cookie", "a=1; Path=/")),
        (("x-latin-1", "caf\xe9 \x80\x85\xa0\xff"), ("set-cookie", "a=\xe9\xa0")),
        (("content-type", 'text/plain; charset="ä"'),),
        (("x-empty", ""), ("x-tab", "a\tb"), ("x-quotes", '"\\"')),
        (("x!#$%&'*+-.^_`|~", "a token"),),
        (("cache-control", "no-store"), ("etag", 'W/"a"'), ("last-modified", "Mon, 23 Nov 2026 12:00:00 GMT")),
        (("www-authenticate", 'Basic realm="a"'), ("retry-after", "1"), ("allow", "GET, HEAD")),
        (("content-disposition", "attachment; filename*=UTF-8''%e2%82%ac"), ("x-long", "l" * 20_000)),
        (("connection", "close"), ("x-after", "1")),
        (("date", "Mon, 23 Nov 2026 12:00:00 GMT"), ("server", "mine")),
        tuple((f"x-{number}", str(number)) for number in range(200)),
        (),
    ],
    ids=lambda headers: headers[0][0] if headers else "none",
)
def test_reply_headers(echo: Pair, headers: tuple[tuple[str, str], ...]) -> None:
    assert echo.answer(told(401, headers, "a body")).body == b"a body"


@pytest.mark.parametrize(
    "target", ["/cookies", "/redirect", "/url-for", "/no-content", "/nothing", "/slash/", "/slash", "/fail", "/reply/"]
)
@pytest.mark.parametrize("host", [None, "shop.example:8443"])
def test_starlettes_replies(echo: Pair, target: str, host: str | None) -> None:
    echo.answer(Request(target=target, host=host))


def test_a_redirect_leads_to_where_the_client_was(echo: Pair) -> None:
    reply = echo.answer(Request(target="/slash?a=%2F"))
    assert reply.headers["location"] == "http://ADDRESS/slash/?a=%2F"
    for port in echo:
        with httpx.Client(base_url=f"http://localhost:{port}", follow_redirects=True, trust_env=False) as client:
            assert client.get("/slash").text == "at the path with the slash"


def packed(text: bytes) -> Request:
    return told(200, (("content-encoding", "gzip"), ("vary", "accept-encoding")), gzip.compress(text).decode("latin-1"))


def test_a_packed_reply(echo: Pair) -> None:
    assert echo.answer(packed(b"text" * 1000)).body == b"text" * 1000
    assert echo.answer(told(200, (("content-encoding", "br"),), "packed otherwise")).body == b"packed otherwise"


def test_a_packed_reply_is_unpacked_on_the_way(echo: Pair) -> None:
    assert UNPACKED in ask(echo.uvicorn, packed(b"text")).headers.items()
    assert UNPACKED not in ask(echo.url, packed(b"text")).headers.items()


def test_an_exception_before_the_reply(echo: Pair) -> None:
    reply = echo.answer(Request(target="/fail"))
    assert (reply.status, reply.body) == (500, b"Internal Server Error")


def test_an_exception_in_mid_stream(echo: Pair) -> None:
    reply = echo.answer(Request(target="/fail-later"))
    assert reply.body == b"one"
    assert not reply.whole


@pytest.mark.parametrize("pieces", [16, 128], ids=["1 MB", "8 MB"])
def test_large_replies(echo: Pair, pieces: int) -> None:
    assert echo.answer(Request(target=f"/large?pieces={pieces}")).body == PIECE * pieces


# -- whatever else there is

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.!~", min_size=1, max_size=12).map(lambda text: f"x-{text}")
FIELD = [*range(0x21, 0x7F), *range(0x80, 0x100)]
VALUES = st.text([chr(code) for code in (0x09, 0x20, *FIELD)], max_size=30).map(lambda text: text.strip(" \t"))
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(tuple)
# What a client sends: UTF-8, as text by latin-1.
TEXT = st.characters(codec="utf-8", exclude_categories=["Cc"])
SENT_VALUES = st.text(TEXT, max_size=20).map(lambda text: text.strip(" \t").encode().decode("latin-1"))
SENT_HEADERS = st.lists(st.tuples(NAMES, SENT_VALUES), max_size=6).map(tuple)
URI = st.sampled_from([chr(code) for code in range(0x21, 0x7F)])
ENCODED = st.one_of(
    URI, st.sampled_from(["/", "%2F", "+", "=", "&", ";"]), st.binary(min_size=1, max_size=2).map(quote)
)
CRUMBS = st.lists(
    st.text(TEXT.filter(lambda character: character not in ' ;"\\'), max_size=12).map(
        lambda text: text.encode().decode("latin-1")
    ),
    max_size=4,
)


def joined(pieces: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(pieces, max_size=12).map("".join)


REQUESTS = st.builds(
    lambda method, path, query, headers, crumbs, content_type, body, chunked: Request(
        method,
        "/" + path.replace("?", "") + ("" if query is None else f"?{query}"),
        (
            *headers,
            *(typed(content_type) if content_type else ()),
            *((("cookie", "; ".join(crumbs)),) if crumbs else ()),
        ),
        body,
        chunked=chunked,
    ),
    method=st.sampled_from(METHODS),
    path=joined(ENCODED),
    query=st.none() | joined(ENCODED),
    headers=SENT_HEADERS,
    crumbs=CRUMBS,
    content_type=st.sampled_from([None, "text/plain", JSON, FORM, BINARY, "text/plain; charset=utf-16"]),
    body=st.binary(max_size=300) | st.text(max_size=100).map(str.encode),
    chunked=st.booleans(),
)


@settings(max_examples=50, deadline=None)
@given(request=REQUESTS)
def test_whatever_is_asked(echo: Pair, request: Request) -> None:
    echo.seen(request)


@settings(max_examples=50, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    status=st.integers(200, 599).filter(lambda status: status not in (204, 205, 304)),
    headers=HEADERS,
    cookies=st.lists(VALUES, max_size=3),
    chunks=st.lists(st.binary(max_size=100).map(lambda chunk: chunk.decode("latin-1")), max_size=4),
)
def test_whatever_is_answered(
    echo: Pair, method: str, status: int, headers: tuple[tuple[str, str], ...], cookies: list[str], chunks: list[str]
) -> None:
    headers += tuple(("set-cookie", cookie) for cookie in cookies)
    reply = echo.answer(told(status, headers, *chunks, method=method))
    assert reply.status == status
    assert method == "HEAD" or reply.body == "".join(chunks).encode("latin-1")


# -- the example


@pytest.mark.parametrize(
    "request_, status",
    [
        (Request(), 200),
        (Request("HEAD"), 405),
        (Request(headers=(("range", "bytes=0-99"),)), 206),
        (Request(headers=(("range", "bytes=999999-"),)), 416),
        (Request(target="/openapi.json"), 200),
        (Request(target="/docs"), 200),
        (Request(target="/nothing/%C3%BC"), 404),
        (Request(target="/tokens?delay=9&prompt=" + "x" * 61), 422),
        (Request("OPTIONS", "/tokens"), 405),
        (Request(target="/reports/"), 307),
        (Request(target="/reports/", host="shop.example:8443"), 307),
        (Request(target="/reports/none%2Fsuch"), 404),
        (Request(target="/reports/%FF"), 404),
        (Request("DELETE", "/reports"), 405),
        (Request("POST", "/slack/command", typed(FORM), b"command=%2Freport"), 401),
    ],
    ids=lambda value: f"{value.method} {value.target[:20]} {value.host}" if isinstance(value, Request) else str(value),
)
def test_the_example(example: Pair, request_: Request, status: int) -> None:
    assert example.answer(request_).status == status


@pytest.mark.parametrize("prompt", ["", "?prompt=gr%C3%BCn+%F0%9F%98%80&delay=0", "?delay=0.001"])
def test_the_stream_of_the_example(example: Pair, prompt: str) -> None:
    target = f"/tokens{prompt or '?delay=0'}"
    reply = example.answer(Request(target=target, headers=(("accept", "text/event-stream"),)))
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.count(b"data: ") > 10
    assert b"event: done\n" in reply.body


def test_hello(example: Pair) -> None:
    theirs, ours = (ask(port, Request(target="/hello")) for port in example)
    theirs, ours = (reply._replace(body=re.sub(rb"[0-9a-f-]{36}", b"ID", reply.body)) for reply in (theirs, ours))
    assert received(ours) == expected(theirs)
    assert ours.body == b"Hello my request id is: ID\n"


def without_ids(reply: Reply) -> Reply:
    """Two stores give one report two ids, and two machines' work takes two times."""
    report_id, seconds = r"\d{8}T\d{12}-[0-9a-f]{16}", rb"[0-9.]+ s,"
    headers = {name: re.sub(report_id, "ID", value) for name, value in reply.headers.items()}
    return reply._replace(headers=headers, body=re.sub(seconds, b"S", re.sub(report_id.encode(), b"ID", reply.body)))


def ready(port: int, path: str) -> Reply:
    """The report, when it is."""
    deadline = time.monotonic() + PATIENCE
    while True:
        reply = ask(port, Request(target=path))
        if json.loads(reply.body)["status"] == "ready" or time.monotonic() > deadline:
            return reply
        time.sleep(0.01)


def test_a_report(example: Pair) -> None:
    theirs, ours = (ask(port, Request("POST", "/reports")) for port in example)
    assert without_ids(received(ours)) == without_ids(expected(theirs))
    assert (ours.status, json.loads(ours.body)["status"]) == (202, "pending")
    theirs = ready(example.uvicorn, theirs.headers["location"])
    ours = ready(example.url, ours.headers["location"])
    assert without_ids(received(ours)) == without_ids(expected(theirs))
    assert json.loads(ours.body)["content"].startswith("Made in ")
    theirs, ours = (ask(port, Request(target="/reports")) for port in example)
    assert without_ids(received(ours)) == without_ids(expected(theirs))
    assert len(json.loads(ours.body)) == 1


def test_a_slash_command(example: Pair, echo: Pair) -> None:
    response_url = f"http://{address(echo.uvicorn)}/inbox"
    body = urlencode({"command": "/report", "text": "grün & ü", "response_url": response_url}).encode()
    timestamp = str(int(time.time()))
    signature = SignatureVerifier(SECRET).generate_signature(timestamp=timestamp, body=body)
    headers = (("x-slack-request-timestamp", timestamp), ("x-slack-signature", signature or ""))
    reply = example.answer(Request("POST", "/slack/command", (*typed(FORM), *headers), body))
    assert json.loads(reply.body)["text"] == "Working on /report grün & ü …"

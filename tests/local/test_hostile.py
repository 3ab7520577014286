"""Clients that mean harm, or have none of the patience and manners of good ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import struct
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import FUNCTIONS, PATIENCE, Gate, LocalLambda, Terminal, local_lambda

PRELUDE: list[list[Any]] = [["open"], ["prelude", {}]]
WORKS: list[list[Any]] = [*PRELUDE, ["chunk", "works"], ["end"]]
# In the kernel's socket buffers and the server's there is room for some; this does not fit by far.
MUCH = 50_000_000


class Client:
    """A connection to send what one likes on, and to leave as one likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> Client:
        # A small window: what the client has not asked for is soon with the server.
        return cls(*await asyncio.open_connection(*address, limit=1024))

    async def send(self, *data: bytes) -> None:
        for part in data:
            self.writer.write(part)
            await self.writer.drain()

    async def reply(self) -> bytes:
        """The reply's first line; nothing if the connection is closed or cut instead."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.readline(), PATIENCE)
        return b""

    async def skip(self, size: int) -> None:
        await asyncio.wait_for(self.reader.readexactly(size), PATIENCE)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Go without a word: the other side gets a reset and no end of file."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def post(*steps: list[Any], more: bytes = b"") -> bytes:
    body = json.dumps(steps).encode()
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b" % (
        len(body),
        more,
        body,
    )


async def connect(running: LocalLambda) -> Client:
    return await Client.connect(running.listener.getsockname())


@pytest.fixture
async def url() -> AsyncIterator[LocalLambda]:
    async with local_lambda() as running:
        yield running


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
NO_HTTP = {
    "nothing": b"\r\n\r\n",
    "NULs": bytes(1000) + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n\r\n",
    "a target that is not ASCII": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
    "a header with a NUL": b"GET / HTTP/1.1\r\nHost: localhost\r\na: \0\r\n\r\n",
    "a length below zero": HEAD + b"Content-Length: -5\r\n\r\nabcde",
    "a length that is no number": HEAD + b"Content-Length: five\r\n\r\nabcde",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    "a length of many digits": HEAD + b"Content-Length: %b\r\n\r\n" % (b"9" * 5000),
    "an unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
    "more than the header limit": b"GET / HTTP/1.1\r\nHost: localhost\r\na: " + b"a" * 1_500_000,
    "a request line without an end": b"GET /" + b"a" * 1_500_000,
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
async def test_what_is_not_http(url: LocalLambda, data: bytes) -> None:
    client = await connect(url)
    with contextlib.suppress(ConnectionError):  # It need not wait for us to have said everything.
        await client.send(data)
    status = (await client.reply()).split(b" ")[1:2]
    assert status in ([], [b"400"], [b"501"])
    assert "START RequestId" not in url.terminal.getvalue()
    await client.close()
    assert (await url.run(*WORKS)).text == "works"


BAD_BODIES = {
    "a chunk size that is none": b"zz\r\n",
    "a chunk size of many digits": b"f" * 1_500_000,
    "a chunk longer than it says": b"2\r\nabc\r\n0\r\n\r\n",
    "a trailer that is none": b"2\r\nab\r\n0\r\nno colon\r\n\r\n",
    "a trailer without an end": b"0\r\na: " + b"a" * 1_500_000,
}


@pytest.mark.parametrize("data", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_bodies_that_go_wrong(url: LocalLambda, data: bytes) -> None:
    client = await connect(url)
    with contextlib.suppress(ConnectionError):
        await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", data)
    assert (await client.reply())[:12] in (b"", b"HTTP/1.1 400")
    assert "START RequestId" not in url.terminal.getvalue()
    await client.close()
    assert (await url.run(*WORKS)).text == "works"


async def test_a_tunnel(url: LocalLambda, caplog: pytest.LogCaptureFixture) -> None:
    client = await connect(url)
    await client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    assert (await client.reply()).startswith(b"HTTP/1.1 400 ")
    await client.close()
    assert (await url.run(*WORKS)).text == "works"
    assert not caplog.records  # as a traceback of uvicorn's would be


async def test_an_upgrade(url: LocalLambda, caplog: pytest.LogCaptureFixture) -> None:
    """Is none, and the request is an ordinary one."""
    for protocol in ("websocket", "websocket", "h2c"):
        headers = {"connection": "upgrade", "upgrade": protocol}
        assert (await url.client.post("/", json=WORKS, headers=headers)).text == "works"
    assert not caplog.records
    assert url.terminal.getvalue().count("Hint: Function URL has no WebSockets") == 1


async def exchange(running: LocalLambda, *data: bytes) -> bytes:
    """All that comes back before the connection is closed."""
    client = await connect(running)
    await client.send(*data)
    reply = await asyncio.wait_for(client.reader.read(-1), PATIENCE)
    await client.close()
    return reply


@pytest.mark.parametrize(
    "line",
    [
        b"OPTIONS * HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET a HTTP/1.1",
        b"GET ?a=/ HTTP/1.1",
        b"GET localhost:80 HTTP/1.1",
        b"GET ftp://localhost/ HTTP/1.1",
        b"GET http:///a HTTP/1.1",
        b"GET http:/a HTTP/1.1",
        b"GET http://localhost@localhost/ HTTP/1.1",
        b"HEAD * HTTP/1.1",
        b"CONNECT / HTTP/1.1",
    ],
)
async def test_a_target_without_a_path_is_a_400(
    url: LocalLambda, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await exchange(url, line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")).startswith(
        b"HTTP/1.1 400 "
    )
    assert "START RequestId" not in url.terminal.getvalue()
    assert not caplog.records


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"http://localhost/a%20b/..?c=d", "/a%20b/..", "c=d", "localhost"),
        (b"http://localhost", "/", "", "localhost"),
        (b"HTTPS://LOCALHOST:81?c", "/", "c", "LOCALHOST:81"),
        (b"http://[::1]:81/http://x/?/?", "/http://x/", "/?", "[::1]:81"),
        (b"//localhost/a", "//localhost/a", "", "127.0.0.1"),
    ],
)
async def test_an_absolute_target_is_its_path_and_its_host(target: bytes, path: str, query: str, host: str) -> None:
    async with local_lambda("main.handler", scripted=False) as url:
        request = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % target
        _, _, body = (await exchange(url, request)).partition(b"\r\n\r\n")
    event = json.loads(re.findall(rb"{.*}", body)[0])["event"]
    assert (event["rawPath"], event["requestContext"]["http"]["path"], event["rawQueryString"]) == (path, path, query)
    assert event["headers"]["host"] == host


async def test_an_absolute_target_reaches_the_invoke_api(url: LocalLambda) -> None:
    target = b"http://localhost/2015-03-31/functions/f"
    assert b"UnknownOperationException" in await exchange(
        url, b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target
    )


@pytest.mark.parametrize("length", [0, 5, 99_999_999])
async def test_a_body_with_two_lengths_ends_its_connection(length: int) -> None:
    """Another server might take what follows it for a request, or not: it is none here."""
    async with local_lambda("main.handler", scripted=False) as url:
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
        lengths = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n" % length
        replies = await exchange(url, HEAD, lengths, chunked(b"hello") + b"0\r\n\r\n", smuggled)
    assert replies.count(b"HTTP/1.1 ") == 1
    assert replies.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in replies.lower()
    event = json.loads(re.findall(rb"{.*}", replies)[0])["event"]
    assert event["body"] == "hello"
    assert "content-length" not in event["headers"]
    assert url.terminal.getvalue().count("START RequestId") == 1


@pytest.mark.parametrize("method", [b"HEAD", b"POST"])
@pytest.mark.parametrize("target", [b"/", b"*", b"/2015-03-31/functions/f/invocations"])
async def test_what_turns_out_to_be_no_http_is_answered_once(
    url: LocalLambda, method: bytes, target: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"%b %b HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nTransfer-Encoding: chunked\r\n\r\n" % (method, target)
    for parts in ([head + b"zz\r\n"], [head, b"2\r\n[]\r\n", b"zz\r\n"]):
        assert (await exchange(url, *parts)).count(b"HTTP/1.1") <= 1
    assert {record.getMessage() for record in caplog.records} <= {"Invalid HTTP request received."}
    assert (await url.run(*WORKS)).text == "works"


OTHERS = [
    *("evil.test", "x", "localhost.evil.test", "127.0.0.1.evil.test", "evil-localhost", "10.0.0.1", "0.0.0.0"),
    *("[fe80::1]", "evil.test:80", "localhost@evil.test", "evil.test#localhost", "localhost:80:80", "", "[::1", "\xe9"),
]


@pytest.mark.parametrize("host", OTHERS)
@pytest.mark.parametrize("path", ["/", "/2015-03-31/functions/f/invocations"])
async def test_another_host_is_refused(url: LocalLambda, host: str, path: str) -> None:
    """As a web page sends it whose name is suddenly this machine's."""
    request = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]"
    head, _, text = (await exchange(url, request.encode("latin-1"))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    assert f"its Host is {host!a}, and not localhost; --allow-host NAME allows another one" in text.decode()
    await url.terminal.until("^A request was refused with 403: its Host is ")
    assert "START RequestId" not in url.terminal.getvalue()


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost.:1",
        "app.localhost:80",
        "127.0.0.1",
        "127.1.2.3:9",
        "[::1]:80",
        "evil.test:1",
        "a.b.test",
    ],
)
async def test_this_machine_and_allowed_hosts_are_served(host: str) -> None:
    async with local_lambda(allowed_hosts=("evil.test", ".b.test")) as url:
        reply = await url.client.post("/", json=WORKS, headers={"host": host})
        assert reply.text == "works"
        assert (await url.client.post("/", json=WORKS, headers={"host": "b.test"})).status_code == 403


async def test_an_absolute_target_names_another_host(url: LocalLambda) -> None:
    request = b"GET http://evil.test/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await exchange(url, request)).startswith(b"HTTP/1.1 403 ")


async def test_who_listens_beyond_this_machine_has_any_name() -> None:
    async with local_lambda(address="0.0.0.0") as url:
        assert (await url.client.post("/", json=WORKS, headers={"host": "evil.test"})).text == "works"


@pytest.mark.parametrize("coding", [b"Content-Length: 20000000", b"Transfer-Encoding: chunked"])
async def test_20_mb(url: LocalLambda, coding: bytes) -> None:
    client = await connect(url)
    part = bytes(1_000_000)
    with contextlib.suppress(ConnectionError):
        await client.send(HEAD + coding + b"\r\n\r\n")
        for _ in range(20):
            await client.send(chunked(part) if b"chunked" in coding else part)
    assert (await client.reply()).startswith(b"HTTP/1.1 413 ")  # Python's words for it have changed
    await client.close()
    assert "START RequestId" not in url.terminal.getvalue()
    assert (await url.run(*WORKS)).text == "works"


async def test_20_mb_are_refused_before_they_are_sent(url: LocalLambda) -> None:
    client = await connect(url)
    await client.send(HEAD + b"Content-Length: 20000000\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.reply()).startswith(b"HTTP/1.1 413 ")  # Python's words for it have changed
    await client.close()


@pytest.mark.parametrize("sent", [0, 3, 20, 60, 150])
@pytest.mark.parametrize("rudely", [False, True])
async def test_client_that_goes_before_its_request_is_whole(url: LocalLambda, sent: int, rudely: bool) -> None:
    client = await connect(url)
    request = post(*WORKS)
    await client.send(request[: min(sent, len(request) - 1)])
    if rudely:
        client.reset()
    else:
        await client.close()
    assert (await url.run(*WORKS)).text == "works"
    await url.terminal.until("^REPORT")
    # Nothing but the second request became an invocation.
    assert len(re.findall("^START", url.terminal.getvalue(), re.M)) == 1


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.parametrize("phase", ["before the response", "after the head", "in mid-stream", "after the response"])
async def test_client_that_goes(url: LocalLambda, gate: Gate, phase: str, rudely: bool) -> None:
    """The function is not told, in whatever phase it is: what it sends is taken, and it ends as ever."""
    parts: dict[str, list[list[Any]]] = {
        "before the response": [],
        "after the head": PRELUDE,
        "in mid-stream": [["chunk", "one"]],
        "rest": [["bytes", MUCH], ["end"]],
        "after the response": [["print", "background"]],
    }
    steps: list[list[Any]] = []
    for name, part in parts.items():
        steps += part
        if name == phase:
            steps.append(["gate", gate.port])
    steps.append(["print", "done"])
    client = await connect(url)
    await client.send(post(*steps))
    if phase == "after the response":
        reading = asyncio.create_task(client.reader.read(-1))
        _, go_on = await gate.reached()
        reading.cancel()
    else:
        _, go_on = await gate.reached()
        if phase != "before the response":
            assert await client.reply() == b"HTTP/1.1 200 OK\r\n"
    if rudely:
        client.reset()
    else:
        await client.close()
    go_on()
    await url.terminal.until("^response 202\n(background\n)?done$")
    await url.terminal.until("^REPORT")
    assert "Status: " not in (await url.terminal.until("^REPORT.*"))[0]
    assert (await url.run(*WORKS)).text == "works"


async def test_reader_that_stops_holds_the_function_until_its_timeout() -> None:
    async with local_lambda(timeout=1) as url:
        client = await connect(url)
        steps: list[list[Any]] = [*PRELUDE, ["bytes", MUCH], ["end"]]
        await client.send(post(*steps, more=b"Connection: close\r\n"))
        assert await client.reply() == b"HTTP/1.1 200 OK\r\n"
        await url.terminal.until("Task timed out after 1.00 seconds")
        await url.terminal.until(r"^REPORT .*\tStatus: timeout$")
        assert "response 202" not in url.terminal.getvalue()
        # Another caller is served while this one is still there.
        assert (await url.run(*WORKS)).text == "works"
        # It gets what had been sent before, and the end.
        assert len(await asyncio.wait_for(client.reader.read(-1), PATIENCE)) < MUCH
        await client.close()


@pytest.mark.parametrize("rudely", [False, True])
async def test_reader_that_stops_and_then_goes_lets_the_function_go_on(url: LocalLambda, rudely: bool) -> None:
    client = await connect(url)
    await client.send(post(*PRELUDE, ["bytes", MUCH], ["end"], ["print", "done"]))
    assert await client.reply() == b"HTTP/1.1 200 OK\r\n"
    await client.skip(1_000_000)
    with pytest.raises(TimeoutError):
        # Held up: most of it is still with the function.
        await asyncio.wait_for(url.terminal.until("^response 202$"), 0.5)
    if rudely:
        client.reset()
    else:
        await client.close()
    await url.terminal.until("^response 202\ndone$")
    await url.terminal.until("^REPORT")


async def test_reader_that_stops_and_asks_for_more(url: LocalLambda) -> None:
    """The server stops to read from it, and notices all the same that it has gone."""
    client = await connect(url)
    await client.send(post(*PRELUDE, ["bytes", MUCH], ["end"]), post(*WORKS), post(*WORKS))
    assert await client.reply() == b"HTTP/1.1 200 OK\r\n"
    client.reset()
    await url.terminal.until("^response 202$")
    await url.terminal.until("^REPORT")
    assert len(re.findall("^START", url.terminal.getvalue(), re.M)) == 1


async def test_client_that_closes_its_half_is_taken_for_gone(url: LocalLambda, gate: Gate) -> None:
    client = await connect(url)
    await client.send(post(*PRELUDE, ["gate", gate.port], ["bytes", MUCH], ["end"], ["print", "done"]))
    _, go_on = await gate.reached()
    client.writer.write_eof()
    await asyncio.wait_for(client.reader.read(-1), PATIENCE)
    go_on()
    await url.terminal.until("^response 202\ndone$")
    await url.terminal.until("^REPORT")
    await client.close()


async def test_requests_in_one_go_are_answered_in_turn(url: LocalLambda) -> None:
    client = await connect(url)
    last = post(*PRELUDE, ["chunk", "last"], ["end"], more=b"Connection: close\r\n")
    await client.send(post(*WORKS) + post(*WORKS) + last)
    replies = await asyncio.wait_for(client.reader.read(-1), PATIENCE)
    assert re.findall(rb"HTTP/1.1 200 OK|works|last", replies) == [b"HTTP/1.1 200 OK", b"works"] * 2 + [
        b"HTTP/1.1 200 OK",
        b"last",
    ]
    await client.close()


async def test_request_a_byte_at_a_time(url: LocalLambda) -> None:
    client = await connect(url)
    for byte in post(*WORKS, more=b"Connection: close\r\n"):
        await client.send(bytes([byte]))
    assert b"works" in await asyncio.wait_for(client.reader.read(-1), PATIENCE)
    await client.close()


def memory(pid: int) -> int:
    """MB that the process has resident now."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)
    assert found
    return int(found[1]) // 1024


async def follow(stream: asyncio.StreamReader, terminal: Terminal) -> None:
    while data := await stream.read(65536):
        terminal.write(data.decode())


async def be_hostile(address: tuple[str, int], kind: int) -> None:
    """One client that is no good, of one of several kinds."""
    client = await Client.connect(address)
    with contextlib.suppress(ConnectionError):
        if kind == 0:
            await client.send(random.randbytes(1000) + b"\r\n\r\n")
            await client.reply()
        elif kind == 1:
            await client.send(HEAD + b"Content-Length: 20000000\r\n\r\n", *[bytes(1_000_000)] * 20)
        elif kind == 2:
            await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunked(bytes(1_000_000))] * 20)
        elif kind == 3:
            await client.send(HEAD + b"Content-Length: 5000000\r\n\r\n", bytes(4_000_000))
        elif kind == 4:
            await client.send(b"GET /stream/20 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        elif kind == 5:
            await client.send(b"GET /stream/20 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if b" 200 " in await client.reply():
                await client.skip(2_000_000)
        elif kind == 6:
            await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\na: " + b"a" * 900_000)
        else:
            await client.send(b"GET /stream/20 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
    client.reset()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_memory_stays_flat() -> None:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.local", "web.adapter", "--port", "0", "--max-environments", "3"),
        cwd=FUNCTIONS,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    assert server.stdout
    terminal = Terminal()
    following = asyncio.create_task(follow(server.stdout, terminal))
    try:
        port = int((await terminal.until(r"^Function URL: http://127\.0\.0\.1:(\d+)/"))[0])

        async def crowd(size: int) -> None:
            await asyncio.gather(*(be_hostile(("127.0.0.1", port), number % 8) for number in range(size)))

        async def ask() -> None:
            async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
                async with asyncio.timeout(PATIENCE):
                    # Invocations whose callers have gone may still hold all environments.
                    while (reply := await client.get(f"http://127.0.0.1:{port}/")).status_code == 429:
                        await asyncio.sleep(0.05)
                assert reply.json()["path"] == "/"

        await ask()
        for _ in range(2):
            await crowd(40)
            await ask()
        before = memory(server.pid)
        for _ in range(8):
            await crowd(40)
            await ask()
        # 320 clients, half of them with 20 MB to send or to receive.
        assert memory(server.pid) - before < 50
        assert server.returncode is None
        # All invocations came to their end: the functions were told nothing, and none hangs.
        starts = len(re.findall("^START", terminal.getvalue(), re.M))
        await terminal.until("^REPORT", starts)
        assert "Status: " not in "".join(await terminal.until("^REPORT.*"))
        assert "Traceback" not in terminal.getvalue()
    finally:
        server.kill()
        await server.wait()
        await following

"""The function URL as its callers see it; the function is a scripted runtime, or a handler under awslambdaric."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from .conftest import PATIENCE, Gate, LocalLambda, local_lambda

JSON_PRELUDE = {
    "statusCode": 201,
    "headers": {"content-type": "text/plain", "x-a": "1"},
    "cookies": ["a=1", "b=2; Path=/"],
}


@pytest.fixture
async def url() -> AsyncIterator[LocalLambda]:
    async with local_lambda() as running:
        yield running


async def test_streamed_reply_is_live(url: LocalLambda, gate: Gate) -> None:
    steps: list[list[Any]] = [
        ["open"],
        ["prelude", JSON_PRELUDE],
        ["gate", gate.port],
        ["chunk", "one"],
        ["gate", gate.port],
        ["chunk", "two"],
        ["gate", gate.port],
        ["end"],
        ["gate", gate.port],
        ["print", "background"],
    ]
    async with url.stream(*steps) as reply:
        # The head is here while the function has not sent a byte of the body: it waits at its first gate.
        assert reply.status_code == 201
        assert reply.headers["x-a"] == "1"
        assert reply.headers.get_list("set-cookie") == ["a=1", "b=2; Path=/"]
        chunks = reply.aiter_raw()
        for expected in (b"one", b"two"):
            _, go_on = await gate.reached()
            go_on()
            assert await anext(chunks) == expected
        _, go_on = await gate.reached()
        go_on()
        # The end of the stream is the end of the reply, while the invocation goes on.
        assert [chunk async for chunk in chunks] == []
    _, go_on = await gate.reached()
    assert "END RequestId" not in url.terminal.getvalue()
    go_on()
    await url.terminal.until("^REPORT")
    assert re.search(r"^RESPONSE .*^background$.*^END .*^REPORT ", url.terminal.getvalue(), re.MULTILINE | re.DOTALL)
    assert re.search(
        r"\tStatus: 201\tFirst byte: \d+\.\d\d ms\tEnded: \d+\.\d\d ms\tBytes: 6$", url.terminal.getvalue(), re.M
    )


async def test_prelude_byte_at_a_time(url: LocalLambda) -> None:
    stream = json.dumps(JSON_PRELUDE) + "\0" * 8 + "body\0"
    reply = await url.run(["open"], ["slowly", stream], ["end"])
    assert (reply.status_code, reply.content) == (201, b"body\0")


async def test_prelude_delimiter_and_body_in_one_chunk(url: LocalLambda) -> None:
    reply = await url.run(["open"], ["chunk", "{}" + "\0" * 8 + "body"], ["end"])
    assert (reply.status_code, reply.content) == (200, b"body")
    assert "content-type" not in reply.headers


async def test_content_length_is_remapped_and_hop_by_hop_dropped(url: LocalLambda) -> None:
    headers = {
        "Content-Length": "999",
        "Connection": "close",
        "Transfer-Encoding": "gzip",
        "Server": "mine",
        "X-Y": "z",
    }
    reply = await url.run(["open"], ["prelude", {"headers": headers}], ["chunk", "body"], ["end"])
    assert reply.content == b"body"
    assert reply.headers["x-amzn-remapped-content-length"] == "999"
    assert reply.headers["x-y"] == "z"
    assert "content-length" not in reply.headers
    assert "server" not in reply.headers
    assert reply.headers.get("connection") != "close"
    assert reply.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(("method", "status"), [("POST", 204), ("POST", 304), ("HEAD", 200)])
async def test_no_body(url: LocalLambda, method: str, status: int) -> None:
    steps: list[list[Any]] = [["open"], ["prelude", {"statusCode": status}], ["chunk", "body"], ["end"]]
    reply = await url.run(*steps, method=method)
    assert (reply.status_code, reply.content) == (status, b"")
    # The connection is good for another request: nothing of the body is left on it.
    assert (await url.run(["open"], ["prelude", {}], ["end"])).status_code == 200


@pytest.mark.parametrize(
    ("chunks", "complaint"),
    [
        (["<html>", "\0" * 8, "x"], "it is not JSON"),
        (['{"statusCode": "200"}', "\0" * 8], "statusCode"),
        (['{"headers": {"x": ["1"]}}', "\0" * 8], "the header x is not a string"),
        (["{}", "\0" * 7], "the stream ended after 9 bytes"),
        ([], "the stream ended after 0 bytes"),
    ],
)
async def test_malformed_prelude(url: LocalLambda, chunks: list[str], complaint: str) -> None:
    reply = await url.run(["open"], *(["chunk", chunk] for chunk in chunks), ["end"])
    assert (reply.status_code, reply.text) == (502, "Internal Server Error")
    assert reply.headers["content-type"] == "text/plain"
    await url.terminal.until(rf"^RequestId: .* Error: the response's prelude cannot be used: .*{complaint}")
    # The function was acknowledged all the same, and goes on.
    await url.terminal.until("^response 202$")
    await url.terminal.until("^REPORT")


async def test_gzip_that_is_none(url: LocalLambda) -> None:
    prelude = {"headers": {"content-encoding": "gzip"}}
    reply = await url.run(["open"], ["prelude", prelude], ["chunk", "not packed"], ["end"])
    assert (reply.status_code, reply.content) == (200, b"")
    assert "content-encoding" not in reply.headers
    await url.terminal.until("^RequestId: .* Error: the response says it is gzip, and is not")
    await url.terminal.until("^REPORT")


async def test_no_prelude(url: LocalLambda) -> None:
    reply = await url.run(["open", "text/csv"], ["chunk", "{}" + "\0" * 8], ["chunk", "a,b"], ["end"])
    assert (reply.status_code, reply.content) == (200, b"{}" + bytes(8) + b"a,b")
    assert reply.headers["content-type"] == "text/csv"


async def test_no_prelude_and_no_body(url: LocalLambda) -> None:
    reply = await url.run(["open", "text/csv"], ["end"])
    assert (reply.status_code, reply.content) == (200, b"")


async def test_error_before_the_response(url: LocalLambda) -> None:
    reply = await url.run(["post", "error", '{"errorMessage": "x", "errorType": "Oops"}', {}])
    assert (reply.status_code, reply.text) == (502, "Internal Server Error")


async def test_error_in_mid_stream(url: LocalLambda) -> None:
    error = {"errorMessage": "the tea is cold", "errorType": "ColdTea"}
    reply = await url.run(["open"], ["prelude", {}], ["chunk", "begun"], ["end", "Function.ColdTea", error])
    assert (reply.status_code, reply.content) == (200, b"begun")
    await url.terminal.until("^RequestId: .* Error in mid-stream: Function.ColdTea: .*the tea is cold")
    await url.terminal.until("^REPORT")


async def test_truncated_response(url: LocalLambda) -> None:
    reply = await url.run(["open"], ["prelude", {}], ["chunk", "begun"], ["cut"])
    assert (reply.status_code, reply.content) == (200, b"begunincomplete")
    await url.terminal.until("^response 400$")
    await url.terminal.until("Runtime.TruncatedResponse")


async def test_function_exits_in_mid_stream(url: LocalLambda, gate: Gate) -> None:
    async with url.stream(["open"], ["prelude", {}], ["chunk", "begun"], ["gate", gate.port], ["exit", 3]) as reply:
        chunks = reply.aiter_raw()
        assert await anext(chunks) == b"begun"
        (await gate.reached())[1]()
        assert [chunk async for chunk in chunks] == []
    await url.terminal.until("^RequestId: .* Error: Runtime exited with error: exit status 3\nRuntime.ExitError$")
    await url.terminal.until(r"^END .*\nREPORT .*\tStatus: error\tError Type: Runtime.ExitError$")


async def test_function_exits_after_its_response(url: LocalLambda) -> None:
    reply = await url.run(["open"], ["prelude", {}], ["chunk", "whole"], ["end"], ["exit", 0])
    assert (reply.status_code, reply.content) == (200, b"whole")
    await url.terminal.until("Error: Runtime exited without providing a reason\nRuntime.ExitError$")
    assert (await url.run(["open"], ["prelude", {}], ["end"])).status_code == 200


async def test_function_exits_before_its_response(url: LocalLambda) -> None:
    reply = await url.run(["exit", 1])
    assert (reply.status_code, reply.text) == (502, "Internal Server Error")
    await url.terminal.until("Error: Runtime exited with error: exit status 1\nRuntime.ExitError$")


async def test_client_that_goes_away(url: LocalLambda, gate: Gate) -> None:
    steps: list[list[Any]] = [["open"], ["prelude", {}], ["chunk", "one"], ["gate", gate.port]]
    steps += [["bytes", 20_000_000], ["end"], ["print", "done"]]
    async with url.stream(*steps) as reply:
        assert await anext(reply.aiter_raw()) == b"one"
    # The client has closed its connection. The function is not told: all that it sends is taken and it ends as ever.
    (await gate.reached())[1]()
    await url.terminal.until("^response 202\ndone$")
    await url.terminal.until("^REPORT")


async def test_client_that_reads_late(url: LocalLambda) -> None:
    async with url.stream(["open"], ["prelude", {}], ["bytes", 50_000_000], ["end"]) as reply:
        with pytest.raises(TimeoutError):
            # Held up: most of it is still with the function.
            await asyncio.wait_for(url.terminal.until("^response 202$"), 0.5)
        assert sum([len(chunk) async for chunk in reply.aiter_raw()]) == 50_000_000
    await url.terminal.until("^response 202$")


async def test_request_limit(url: LocalLambda) -> None:
    steps = json.dumps([["open"], ["prelude", {}], ["end"]]).encode()
    whole = steps + b" " * (6_291_456 - len(steps))
    headers = {"content-type": "application/json"}
    # The limit is the event's, of which the body is the most.
    assert (await url.client.post("/", content=whole[:-4096], headers=headers)).status_code == 200
    assert (await url.client.post("/", content=whole, headers=headers)).status_code == 413

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(7):
            yield bytes(1_000_000)

    # Also where the length is not said beforehand.
    assert (await url.client.post("/", content=parts())).status_code == 413
    said = re.findall("^A request was refused with 413: (.*)$", url.terminal.getvalue(), re.MULTILINE)
    assert re.fullmatch(
        r"its event has 6,29\d,\d{3} bytes, of at most 6,291,456; what is no text is base64 there", said[0]
    )
    assert said[1:] == ["its body has more than 6,291,456 bytes"]


async def test_header_limit(url: LocalLambda) -> None:
    steps: list[list[Any]] = [["open"], ["prelude", {}], ["end"]]
    fits = await url.client.post("/", json=steps, headers={"x-large": "x" * 900_000})
    assert fits.status_code == 200
    try:
        assert (await url.client.get("/", headers={"x-large": "x" * 1_500_000})).status_code == 400
    except httpx.TransportError:
        pass  # The connection was closed on a client that still wrote: it may not get to read the 400.
    assert (await url.run(*steps)).status_code == 200


async def test_event(url: LocalLambda) -> None:
    """What uvicorn hands over, end to end: raw path and query, repeated headers, cookies, the client's own host."""
    async with local_lambda("main.handler", scripted=False, allowed_hosts=["my.host"]) as real:
        port = httpx.URL(real.url).port
        headers = [
            ("Cookie", "a=1; b=2"),
            ("X-Twice", "1"),
            ("x-twice", "2"),
            ("Host", "my.host:1"),
            ("x", "caf\u00e9".encode()),
        ]
        headers.append(("X-Forwarded-For", "6.6.6.6"))
        reply = await real.client.request(
            "PUT",
            f"{real.url}/a%2Fb/caf%C3%A9?q=1&q=%20&r",
            content=b"\0\xff",
            headers=headers,  # type: ignore[arg-type]
        )
        result = reply.json()
        event = result["event"]
        assert event["rawPath"] == "/a%2Fb/caf%C3%A9"
        assert event["rawQueryString"] == "q=1&q=%20&r"
        assert event["queryStringParameters"] == {"q": "1, ", "r": ""}
        assert event["cookies"] == ["a=1", "b=2"]
        assert event["headers"]["x-twice"] == "1,2"
        assert event["headers"]["x"] == "caf\u00e9"
        assert event["headers"]["host"] == "my.host:1"
        assert event["headers"]["x-forwarded-for"] == "127.0.0.1"
        assert event["headers"]["x-forwarded-port"] == str(port)
        assert event["requestContext"]["http"]["method"] == "PUT"
        assert (event["body"], event["isBase64Encoded"]) == ("AP8=", True)
        assert event["requestContext"]["requestId"] == result["request_id"] == reply.headers["x-amzn-requestid"]
        assert 0 < result["remaining"] <= 30_000


async def test_proxy_result_leaks_its_envelope() -> None:
    async with local_lambda("main.mangum", scripted=False) as url:
        for _ in range(2):
            reply = await url.client.get("/")
            assert reply.status_code == 200
            assert reply.headers["content-type"] == "application/json"
            assert reply.json()["statusCode"] == 200
        await url.terminal.until("^REPORT", 2)
        assert len(re.findall("^Hint: ", url.terminal.getvalue(), re.MULTILINE)) == 1


async def test_handler_that_raises() -> None:
    async with local_lambda("main.fail", scripted=False) as url:
        reply = await url.client.get("/")
        assert (reply.status_code, reply.text) == (502, "Internal Server Error")
        await url.terminal.until("^REPORT")
        # awslambdaric's one line with carriage returns, as the lines that it means.
        assert re.search(
            r"^\[ERROR\] ValueError: no\ntea\nTraceback \(most recent call last\):\n\u00a0\u00a0File ",
            url.terminal.getvalue(),
            re.M,
        )


def accepted_connections() -> dict[int, set[bool]]:
    """Whether TCP_NODELAY is set on the connections that this process has accepted, by the port that they came to."""
    listening: set[int] = set()
    found: dict[int, set[bool]] = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(number)))
        except OSError:
            continue  # this is no socket
        with sock:
            if sock.family != socket.AF_INET:
                continue
            port = sock.getsockname()[1]
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listening.add(port)
            else:
                found.setdefault(port, set()).add(bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    return {port: options for port, options in found.items() if port in listening}


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("concurrency", [None, 2])
async def test_no_connection_waits_for_acknowledgements(gate: Gate, client: str, concurrency: int | None) -> None:
    """Neither the caller's to the front nor the runtime client's to the Runtime API."""
    async with local_lambda("main.meet", scripted=False, client=client, concurrency=concurrency) as url:
        headers = {"content-type": "text/plain"}
        request = asyncio.create_task(url.client.post("/", content=str(gate.port), headers=headers))
        _, go_on = await gate.reached()
        connections = accepted_connections()
        go_on()
        assert (await request).status_code == 200
        del connections[gate.port]
        assert connections.pop(url.listener.getsockname()[1]) == {True}
        assert list(connections.values()) == [{True}]


async def test_bad_http(url: LocalLambda) -> None:
    where = httpx.URL(url.url)
    reader, writer = await asyncio.open_connection(where.host, where.port)
    writer.write(b"\0\0\0\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), PATIENCE)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()
    assert (await url.run(["open"], ["prelude", {}], ["end"])).status_code == 200

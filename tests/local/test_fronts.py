"""Each service as its callers see it: with an app behind it, with a handler's results, with streams it cannot read."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import re
import socket
from typing import Any

import pytest

from adapter.local.fronts.buffered import Buffered, Late
from adapter.local.fronts.exchange import Service
from adapter.local.server import FRONTS

from .conftest import PATIENCE, Gate, LocalLambda, local_lambda

WHOLE = [name for name in FRONTS if name not in ("function-url", "rest-api-stream")]
FAILED = {
    "http-api": (500, '{"message":"Internal Server Error"}'),
    "http-api-1.0": (500, '{"message":"Internal Server Error"}'),
    "rest-api": (502, '{"message": "Internal server error"}'),
    "alb": (502, "<center><h1>502 Bad Gateway</h1></center>"),
    "alb-multi-value": (502, "<center><h1>502 Bad Gateway</h1></center>"),
    "buffered": (502, "Internal Server Error"),
}
whole = pytest.mark.parametrize("name", [*WHOLE, "buffered"])
STREAM: list[list[Any]] = [["open"], ["prelude", {"statusCode": 201}], ["chunk", "body"], ["end"]]


def front(name: str) -> dict[str, Any]:
    """Options of a local Lambda for the front; `buffered` is the function URL's other mode."""
    if name == "buffered":
        return {"front": "function-url", "invoke_mode": "BUFFERED"}
    return {"front": name}


async def ask(running: LocalLambda) -> None:
    """An app behind the front is asked, and answers, as behind any web server."""
    client = running.client
    reply = await client.post(
        f"{running.url}/caf%C3%A9/b%20c?q=1&q=%26%20+&r&status=201",
        content=b"\0\xff",
        headers=[("Cookie", "c=3; d=4"), ("X-Twice", "1"), ("x-twice", "2"), ("content-type", "image/png")],
    )
    assert reply.status_code == 201
    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers.get("content-length", len(reply.content))) == len(reply.content)
    assert [cookie.partition(";")[0] for cookie in reply.headers.get_list("set-cookie")] == ["a=1", "b=2"]
    seen = reply.json()
    # Of what is repeated, a load balancer hands on the last one, unless it is told otherwise.
    last_only = running.front == "alb"
    assert seen.pop("twice").replace(" ", "") == ("2" if last_only else "1,2")
    assert seen == {
        "method": "POST",
        "path": "/caf\u00e9/b c",
        "query": [*([] if last_only else [["q", "1"]]), ["q", "&  "], ["r", ""], ["status", "201"]],
        "cookies": {"c": "3", "d": "4"},
        "client": "127.0.0.1",
        "body": "\0\u00ff",
    }
    binary = await client.get("/?binary")
    assert (binary.status_code, binary.content) == (200, bytes(range(256)))
    for status in (204, 304):
        bodyless = await client.get(f"/?status={status}")
        assert (bodyless.status_code, bodyless.content) == (status, b"")
    head = await client.head("/")
    assert (head.status_code, head.content) == (200, b"")


@whole
async def test_mangum_app(name: str) -> None:
    async with local_lambda("web.mangum", scripted=False, **front(name)) as running:
        await ask(running)


@pytest.mark.parametrize("name", ["function-url", *WHOLE])
async def test_app_of_the_library(name: str) -> None:
    """It streams to a function URL, and posts proxy results to the others; its background work runs after either."""
    async with local_lambda("web.adapter", scripted=False, **front(name)) as running:
        await ask(running)
        failed = await running.client.get("/?fail")
        assert (failed.status_code, failed.text) == (500, "Internal Server Error")
        request = await running.client.get("/?work")
        assert request.status_code == 200
        await running.terminal.until("^worked on$")
        before, _, _ = running.terminal.getvalue().partition("\nworked on\n")
        # The caller has its answer before the Runtime API acknowledges it; the work begins after that.
        assert before.splitlines()[-1].startswith("RESPONSE RequestId: ")


@pytest.mark.parametrize("name", ["http-api", "buffered"])
async def test_inferred_result(name: str) -> None:
    async with local_lambda("web.returns", scripted=False, **front(name)) as running:
        # awslambdaric sends blanks, which a function URL drops and an HTTP API passes on.
        for value, body in (
            ("Hello, world!", "Hello, world!"),
            ({"message": "Hel lo"}, '{"message":"Hel lo"}' if name == "buffered" else '{"message": "Hel lo"}'),
            ([1, {}], "[1,{}]" if name == "buffered" else "[1, {}]"),
        ):
            reply = await running.client.post("/", json=value)
            assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
            assert reply.text == body
            assert reply.headers["content-length"] == str(len(reply.content))


async def test_a_buffered_function_url_takes_a_status_that_is_text() -> None:
    async with local_lambda("web.returns", scripted=False, **front("buffered")) as running:
        reply = await running.client.post("/", json={"statusCode": "418", "body": "i'm a teapot"})
        assert (reply.status_code, reply.text) == (418, "i'm a teapot")


async def test_event_of_an_http_api() -> None:
    """What uvicorn hands over, end to end: the path is decoded, the query as sent."""
    settings = {"AWS_REGION": "us-east-1"}
    async with local_lambda("main.handler", scripted=False, front="http-api", settings=settings) as running:
        reply = await running.client.get(f"{running.url}/a%2Fb/caf%C3%A9%3Fc?q=%2F")
        event = reply.json()["event"]
        assert (event["rawPath"], event["rawQueryString"]) == ("/a/b/caf\u00e9", "q=%2F")
        assert event["requestContext"]["domainName"].endswith(".execute-api.us-east-1.amazonaws.com")
        assert event["headers"]["host"] == running.client.base_url.netloc.decode()


async def test_headers_of_a_rest_api() -> None:
    async with local_lambda("web.returns", scripted=False, front="rest-api") as running:
        headers = {"Server": "mine", "Date": "today", "Content-Length": "99", "Connection": "close", "x": "lost"}
        result = {"statusCode": "404", "headers": headers, "multiValueHeaders": {"X": ["1", "2"]}, "body": "not here"}
        reply = await running.client.post("/", json=result)
        assert (reply.status_code, reply.text) == (404, "not here")
        assert reply.headers.get_list("x") == ["1", "2"]
        assert {name: value for name, value in reply.headers.items() if name.startswith("x-amzn-remapped-")} == {
            "x-amzn-remapped-server": "mine",
            "x-amzn-remapped-date": "today",
            "x-amzn-remapped-content-length": "99",
            "x-amzn-remapped-connection": "close",
        }
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["content-length"] == "8"


@whole
async def test_malformed_result(name: str) -> None:
    async with local_lambda("web.returns", scripted=False, **front(name)) as running:
        reply = await running.client.post("/", json={"statusCode": 200, "body": {"not": "a string"}})
        status, text = FAILED[name]
        assert (reply.status_code, text in reply.text) == (status, True)
        await running.terminal.until(
            rf"^RequestId: .* Error: the function's result cannot be made a reply: body is not a string .* but .*; "
            rf"to the caller that is status {status}$"
        )
        await running.terminal.until(rf"^RESPONSE .*\tStatus: {status}\t")
        # The invocation itself is none the worse for it.
        assert "Status: error" not in (await running.terminal.until("^REPORT.*"))[0]


@whole
async def test_function_error(name: str) -> None:
    async with local_lambda(**front(name)) as running:
        reply = await running.run(["post", "error", '{"errorMessage": "x", "errorType": "Oops"}', {}])
        status, text = FAILED[name]
        assert (reply.status_code, text in reply.text) == (status, True)


@whole
async def test_function_that_ends(name: str) -> None:
    async with local_lambda(**front(name)) as running:
        assert (await running.run(["exit", 1])).status_code == FAILED[name][0]


@pytest.mark.parametrize("name", WHOLE)
async def test_streamed_prelude_is_malformed(name: str) -> None:
    async with local_lambda(**front(name)) as running:
        reply = await running.run(*STREAM)
        status, text = FAILED[name]
        assert (reply.status_code, text in reply.text) == (status, True)
        title = re.escape(FRONTS[name].title)
        await running.terminal.until(f"^RequestId: .* streamed a response with a prelude, which {title} cannot read")
        await running.terminal.until("^response 202$")


async def test_streamed_prelude_is_lost_on_a_buffered_function_url() -> None:
    async with local_lambda(**front("buffered")) as running:
        for _ in range(2):
            reply = await running.run(*STREAM)
            assert (reply.status_code, reply.content) == (200, b"")
        await running.terminal.until("^REPORT", 2)
        hints = re.findall(
            "^Hint: .* InvokeMode BUFFERED.* Set InvokeMode RESPONSE_STREAM", running.terminal.getvalue(), re.M
        )
        assert len(hints) == 1


@whole
async def test_streamed_bytes_without_a_prelude_are_the_result(name: str) -> None:
    async with local_lambda(**front(name)) as running:
        reply = await running.run(
            ["open", "application/json"], ["chunk", '{"statusCode": 201, '], ["chunk", '"body": "whole"}'], ["end"]
        )
        assert (reply.status_code, reply.content) == (201, b"whole")


@whole
async def test_streamed_bytes_that_are_no_json(name: str) -> None:
    async with local_lambda(**front(name)) as running:
        reply = await running.run(["open", "text/csv"], ["chunk", "a,b"], ["end"])
        assert reply.status_code == FAILED[name][0]
        await running.terminal.until("Error: .* it is not JSON: .* reads as one JSON text what was streamed")


@whole
async def test_stream_that_ends_in_an_error_is_a_function_error(name: str) -> None:
    async with local_lambda(**front(name)) as running:
        reply = await running.run(
            ["open", "application/json"], ["chunk", '{"statusCode": 201}'], ["end", "Function.Oops", {"a": 1}]
        )
        assert reply.status_code == FAILED[name][0]


@whole
async def test_buffered_reply_waits_for_the_whole_response_and_not_for_what_follows(name: str, gate: Gate) -> None:
    async with local_lambda(**front(name)) as running:
        steps: list[list[Any]] = [
            ["open", "application/json"],
            ["chunk", '{"statusCode": 200, "body": "x"'],
            ["gate", gate.port],
        ]
        steps += [["chunk", "}"], ["end"], ["gate", gate.port], ["print", "background"]]
        asking = asyncio.create_task(running.run(*steps))
        _, go_on = await gate.reached()
        assert not asking.done()
        go_on()
        assert (await asking).text == "x"
        # The reply is here while the function is still in its invocation.
        _, go_on = await gate.reached()
        assert "END RequestId" not in running.terminal.getvalue()
        go_on()
        await running.terminal.until("^REPORT")
        assert re.search(r"^RESPONSE .*^background$.*^END ", running.terminal.getvalue(), re.M | re.S)


LIMITS = {
    "http-api": (503, '{"message":"Service Unavailable"}'),
    "http-api-1.0": (503, '{"message":"Service Unavailable"}'),
}
LIMITS["rest-api"] = (504, '{"message": "Endpoint request timed out"}')


@pytest.mark.parametrize("name", LIMITS)
async def test_service_that_gives_up_before_the_function(
    name: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FRONTS[name]
    assert isinstance(service, Service) and isinstance(service.take, Buffered) and service.take.late
    assert service.take.late.limit == (29 if name == "rest-api" else 30)
    soon = dataclasses.replace(service.take, late=Late(0.2, service.take.late.refusal))
    monkeypatch.setitem(FRONTS, name, dataclasses.replace(service, take=soon))
    async with local_lambda(max_environments=1, **front(name)) as running:
        # The first invocation has the init behind it.
        assert (await running.run(["post", "response", '{"statusCode": 200}', {}])).status_code == 200
        steps: list[list[Any]] = [["gate", gate.port], ["open", "application/json"], ["bytes", 1_000_000], ["end"]]
        reply = await running.run(*steps, ["print", "done"])
        status, text = LIMITS[name]
        assert (reply.status_code, reply.text) == (status, text)
        await running.terminal.until(f"no response within 0.2 seconds; to the caller that is status {status}$")
        # The function knows nothing of it: it responds to nobody, is acknowledged, and ends as ever.
        (await gate.reached())[1]()
        await running.terminal.until("^response 202\ndone$")
        await running.terminal.until("^REPORT", 2)
        assert (await running.run(["post", "response", '{"statusCode": 200}', {}])).status_code == 200


BUSY = {
    "function-url": (429, "Rate Exceeded"),
    "buffered": (429, "Rate Exceeded"),
    "http-api": (503, '{"message":"Service Unavailable"}'),
    "http-api-1.0": (503, '{"message":"Service Unavailable"}'),
    "rest-api": (500, '{"message": "Internal server error"}'),
    "rest-api-stream": (500, '{"message": "Internal server error"}'),
    "alb": (502, "502 Bad Gateway"),
    "alb-multi-value": (502, "502 Bad Gateway"),
}


@pytest.mark.parametrize("name", BUSY)
async def test_function_at_its_concurrency_limit(name: str, gate: Gate) -> None:
    async with local_lambda(max_environments=1, **front(name)) as running:
        busy = asyncio.create_task(running.run(["gate", gate.port], *STREAM))
        _, go_on = await gate.reached()
        refused = await running.run(*STREAM)
        status, text = BUSY[name]
        assert (refused.status_code, text in refused.text) == (status, True)
        go_on()
        await busy


@pytest.mark.parametrize(
    ("name", "fits", "too_large"),
    [("alb", 1024 * 1024, 1024 * 1024 + 1), ("http-api", 6_000_000, 6_291_456), ("rest-api", 6_000_000, 10_485_761)],
)
async def test_request_limits(name: str, fits: int, too_large: int) -> None:
    async with local_lambda(**front(name)) as running:
        steps = json.dumps([["post", "response", '{"statusCode": 200}', {}]]).encode()
        for size, status in ((fits, 200), (too_large, 413)):
            body = steps + b" " * (size - len(steps))
            reply = await running.client.post("/", content=body, headers={"content-type": "application/json"})
            assert reply.status_code == status


async def test_load_balancer_takes_a_result_of_1_mb() -> None:
    async with local_lambda("web.returns", scripted=False, **front("alb")) as running:
        around = len(json.dumps({"statusCode": 200, "body": ""}))
        text = "x" * (1024 * 1024 - around)
        # A request's body may have as much: the function is told less than the whole of it.
        client = running.client
        assert (await client.post("/", json={"statusCode": 200, "body": text[:-100]})).status_code == 200
    async with local_lambda(**front("alb")) as running:
        for size, status in ((len(text), 200), (len(text) + 1, 502)):
            reply = await running.run(
                ["open", "application/json"],
                ["chunk", '{"statusCode": 200, "body": "'],
                ["bytes", size],
                ["chunk", '"}'],
                ["end"],
            )
            assert reply.status_code == status
        await running.terminal.until("the function's result has 1048577 bytes, and .* takes 1048576; ")


async def test_rest_api_streams_live(gate: Gate) -> None:
    async with local_lambda(front="rest-api-stream") as running:
        prelude = {"statusCode": 201, "multiValueHeaders": {"x": ["1", "2"]}, "cookies": ["a=1"]}
        steps: list[list[Any]] = [["open", "text/plain"], ["prelude", prelude], ["gate", gate.port], ["chunk", "one"]]
        steps += [["gate", gate.port], ["end"]]
        async with running.stream(*steps) as reply:
            # Nothing of the body is there yet; and it needs no content type to find the prelude.
            assert reply.status_code == 201
            assert reply.headers.get_list("x") == ["1", "2"]
            assert reply.headers.get_list("set-cookie") == ["a=1"]
            chunks = reply.aiter_raw()
            (await gate.reached())[1]()
            assert await anext(chunks) == b"one"
            (await gate.reached())[1]()
            assert [chunk async for chunk in chunks] == []


async def test_rest_api_does_not_unpack() -> None:
    async with local_lambda(front="rest-api-stream") as running:
        async with running.stream(
            ["open"], ["prelude", {"headers": {"content-encoding": "gzip"}}], ["chunk", "packed"], ["end"]
        ) as reply:
            assert reply.headers["content-encoding"] == "gzip"
            assert b"".join([chunk async for chunk in reply.aiter_raw()]) == b"packed"


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([["open"], ["chunk", "no prelude"], ["end"]], "the stream ended after 10 bytes, before 8 NUL bytes"),
        ([["open"], ["bytes", 20_000], ["end"]], "no 8 NUL bytes in its first 16384 bytes"),
        ([["open"], ["prelude", {"body": ""}], ["end"]], "keys that are not allowed in it: body"),
        ([["post", "response", '{"statusCode": 200, "body": "x"}', {}]], "the stream ended after 32 bytes"),
    ],
)
async def test_rest_api_wants_a_prelude(steps: list[list[Any]], complaint: str) -> None:
    async with local_lambda(front="rest-api-stream") as running:
        reply = await running.run(*steps)
        assert (reply.status_code, reply.text) == (502, '{"message": "Internal server error"}')
        await running.terminal.until(
            f"^RequestId: .* Error: the response's prelude cannot be used: .*{complaint}.*502$"
        )
        await running.terminal.until("^REPORT")
        assert ("Hint: the function returned its response in one piece" in running.terminal.getvalue()) is (
            len(steps) == 1
        )


async def test_what_unpacks_to_a_thousand_times_as_much() -> None:
    packed = gzip.compress(bytes(20_000_000), 9)
    assert len(packed) < 20_000
    async with local_lambda() as running:
        prelude = {"headers": {"Content-Encoding": "gzip", "x": "1"}}
        reply = await running.run(["open"], ["prelude", prelude], ["chunk", packed.decode("latin-1")], ["end"])
        assert "content-encoding" not in reply.headers
        assert reply.content == bytes(20_000_000)


async def test_prelude_that_is_not_said_to_be_one() -> None:
    async with local_lambda() as running:
        reply = await running.run(["open", "text/csv"], ["prelude", {"statusCode": 201}], ["chunk", "a,b"], ["end"])
        assert (reply.status_code, reply.headers["content-type"]) == (200, "text/csv")
        assert reply.content.endswith(bytes(8) + b"a,b")
        await running.terminal.until("^Hint: the stream begins with what looks like a prelude")


@pytest.mark.parametrize(("name", "burst"), [("function-url", 6), ("rest-api-stream", 10)])
async def test_throttle_holds_the_function_up_until_its_caller_goes(name: str, burst: int) -> None:
    async with local_lambda(throttle=True, **front(name)) as running:
        first = burst * 1024 * 1024
        # After the burst, 100 MiB more would take 50 seconds.
        async with running.stream(["open"], ["prelude", {}], ["bytes", first + 100 * 1024 * 1024], ["end"]) as reply:
            chunks = reply.aiter_raw()
            received = 0

            async def read(wanted: int) -> None:
                nonlocal received
                while received < wanted:
                    received += len(await anext(chunks))

            await asyncio.wait_for(read(first), PATIENCE)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read(first + 8 * 1024 * 1024), 1)
            assert "response 202" not in running.terminal.getvalue()
        # The caller has gone: there is nobody left to throttle, and the function gets rid of the rest at once.
        await running.terminal.until("^response 202$")


async def test_buffered_reply_does_not_hold_the_function_up() -> None:
    """Its caller reads nothing of 5 MB, and the function is done."""
    async with local_lambda(**front("buffered")) as running:
        steps = [["open", "application/json"], ["chunk", '"'], ["bytes", 5_000_000], ["chunk", '"'], ["end"]]
        body = json.dumps(steps).encode()
        host, port = running.listener.getsockname()
        with socket.create_connection((host, port)) as client:
            client.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            await running.terminal.until(r"^RESPONSE .*\tBytes: 5000000$")
            await running.terminal.until("^REPORT")


async def test_request_ids_go_where_the_service_puts_them() -> None:
    names = {"http-api": "apigw-requestid", "rest-api": "x-amzn-requestid", "alb": None, "buffered": "x-amzn-requestid"}
    for name, header in names.items():
        async with local_lambda(**front(name)) as running:
            reply = await running.run(["post", "response", '{"statusCode": 200}', {}])
            ids = await running.terminal.until("^START RequestId: ([0-9a-f-]+) ")
            found = {key: value for key, value in reply.headers.items() if value == ids[0]}
            assert found == ({header: ids[0]} if header else {})


@whole
async def test_stream_of_more_than_6_mb_is_too_large(name: str) -> None:
    async with local_lambda(**front(name)) as running:
        steps: list[list[Any]] = [["open", "application/json"], ["chunk", '"'], ["bytes", 7_000_000]]
        steps += [["chunk", '"'], ["end"]]
        reply = await running.run(*steps)
        status, text = FAILED[name]
        assert (reply.status_code, text in reply.text) == (status, True)
        await running.terminal.until("^REPORT")

"""Replies in one piece are posted when they are complete, and background work runs after them."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from adapter import ConfigurationError, StreamingAdapter
from adapter.buffered import MAX_REPLY, BufferedReply

from .events import EVENTS, Sent, alb_event, function_url, http_api_event, rest_api_event
from .runtime_api import function

app = FastAPI()
ASYNC = ["background", "background-done", "next"]


def http_api(path: str) -> dict[str, Any]:
    return http_api_event(Sent(path))


@pytest.mark.parametrize("middleware", ["", "all"])
async def test_background_runs_after_the_reply(middleware: str) -> None:
    async with function("background.handler", env={"MIDDLEWARE": middleware}) as running:
        for name, make in EVENTS.items():
            if name == "function URL":
                continue
            for path, work in (
                ("/async", ASYNC),
                ("/sync", ["background", "next"]),
                ("/stream", ASYNC),
                ("/plain/json", ["background", "background-done", "second", "next"]),
            ):
                invoked = await running.api.run(make(Sent(path)))
                assert invoked.events == ["response", *work], (name, path)
                assert invoked.result is not None
                reply = json.loads(invoked.result)
                assert int(reply.get("statusCode") or reply["status"]) == 200
                assert invoked.head[b"content-type"] == b"application/json"
                assert invoked.head[b"lambda-runtime-invocation-id"].decode() == invoked.invocation_id
        streamed = await running.api.run(function_url("/async"))  # one function serves them all
        assert streamed.events == ["open", "prelude", "chunk", "close", *ASYNC]
    assert not [event for event in running.api.log if event.startswith(("refused", "broken"))]


async def test_background_waits_for_the_202() -> None:
    async with function("background.handler") as running:
        running.api.gate.clear()
        invoked = await running.api.invoke(http_api("/async"))
        while "response" not in invoked.events:
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(invoked.finished.wait(), 0.3)
        assert invoked.events == ["response"]
        running.api.gate.set()
        await invoked.finished.wait()
        assert invoked.events == ["response", *ASYNC]


async def test_front_ends_that_are_said_to_stream() -> None:
    async with function("background.handler", env={"ADAPTER_STREAM": "rest-api"}) as running:
        assert (await running.api.run(rest_api_event(Sent("/async")))).events == [
            "open",
            "prelude",
            "chunk",
            "close",
            *ASYNC,
        ]
        assert (await running.api.run(function_url("/async"))).events == ["response", *ASYNC]
    async with function("background.handler", env={"ADAPTER_STREAM": ""}) as running:
        assert (await running.api.run(function_url("/async"))).events == ["response", *ASYNC]


async def test_a_reply_that_is_too_large() -> None:
    async with function("oversize.handler") as running:
        fits = await running.api.run(http_api("/text/6291400"))
        assert fits.result is not None and json.loads(fits.result)["statusCode"] == 200
        for path in (f"/text/{MAX_REPLY}", "/binary/4800000", "/stream/7000000"):
            invoked = await running.api.run(http_api(path))
            assert invoked.result is not None and json.loads(invoked.result)["statusCode"] == 500
            assert invoked.events == ["response", "background", "next"]
        assert (await running.api.run(function_url("/text/7000000"))).prelude["statusCode"] == 200
        # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
        for size, status in ((1_048_000, 200), (1_048_576, 500)):
            invoked = await running.api.run(alb_event(Sent(f"/text/{size}")))
            assert invoked.result is not None and json.loads(invoked.result)["statusCode"] == status
    assert running.output.count("bytes as JSON, and one that is not streamed can have 6291556") == 3
    assert running.output.count("bytes as JSON, and one that is not streamed can have 1048576") == 1


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_headers_of_one_connection_are_not_posted(client: str) -> None:
    """An app that hands a proxied response on has them. They are not in a stream's prelude, either."""
    headers = [["Transfer-Encoding", "chunked"], ["connection", "close"], ["keep-alive", "timeout=5"], ["x-name", "v"]]
    sent = Sent("/reply", query=quote(json.dumps([200, headers, ["whole"]])))
    async with function("echo.handler", client=client) as running:
        for name, make in EVENTS.items():
            invoked = await running.api.run(make(sent))
            if name == "function URL":
                reply = invoked.prelude
            else:
                assert invoked.result is not None
                reply = json.loads(invoked.result)
            assert list({**reply.get("headers", {}), **reply.get("multiValueHeaders", {})}) == ["x-name"], name


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_a_problem_in_json_is_posted_as_text(client: str) -> None:
    headers = [["content-type", "application/problem+json"]]
    sent = Sent("/reply", query=quote(json.dumps([422, headers, ['{"title": "no"}']])))
    async with function("echo.handler", client=client) as running:
        for make in (http_api_event, rest_api_event, alb_event):
            invoked = await running.api.run(make(sent))
            assert invoked.result is not None
            reply = json.loads(invoked.result)
            assert (reply["body"], reply["isBase64Encoded"]) == ('{"title": "no"}', False)


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_header_text_arrives_as_utf_8(client: str) -> None:
    async with function("echo.handler", client=client) as running:
        for city in ("São Paulo", "Srīperumbūdūr", "東京"):
            sent = Sent(headers=(("cf-ipcity", city),), cookies=(f"city={city}",))
            for name, make in EVENTS.items():
                invoked = await running.api.run(make(sent))
                if name == "function URL":
                    body = invoked.body
                else:
                    assert invoked.result is not None
                    body = json.loads(invoked.result)["body"]
                seen = dict(json.loads(body)["headers"])
                # What an app does that knows that its proxy sends UTF-8.
                assert seen["cf-ipcity"].encode("latin-1").decode() == city, name
                assert seen["cookie"].encode("latin-1").decode() == f"city={city}", name


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_what_is_too_large_is_not_kept(client: str) -> None:
    async with function("oversize.handler", client=client) as running:

        async def memory() -> int:
            return int((await running.api.run(function_url("/memory"))).body)

        await running.api.run(http_api("/pieces/5"))
        before = await memory()
        for event in (http_api("/pieces/300"), rest_api_event(Sent("/pieces/300")), alb_event(Sent("/pieces/300"))):
            invoked = await running.api.run(event)
            assert invoked.result is not None and json.loads(invoked.result)["statusCode"] == 500
            assert invoked.events == ["response", "background", "next"]
        assert await memory() - before < 50_000
    assert running.output.count("has 300000000 or more bytes as JSON, and one that is not streamed can have") == 3


async def test_a_custom_handler_may_make_less_of_a_body() -> None:
    async with function("oversize.compressing") as running:
        invoked = await running.api.run({"custom": "/pieces/10"})
    assert json.loads(invoked.result or b"") == {"length": 10_000_000}


async def test_letters_of_other_languages_are_not_escaped() -> None:
    """Two bytes each, which would be six."""
    async with function("oversize.handler") as running:
        invoked = await running.api.run(http_api("/letters/3000000"))
        assert json.loads(invoked.result or b"")["body"] == "я" * 3_000_000


def test_half_a_surrogate_pair_can_only_be_escaped() -> None:
    class Post:
        def whole(self, payload: bytes) -> None:
            self.payload = payload

    post: Any = Post()
    sink = BufferedReply(post, lambda head, body: {"body": "я \ud800"}, "function-url")
    sink.end(None)
    assert post.payload == rb'{"body": "\u044f \ud800"}'


async def test_a_reply_that_is_refused_is_logged_and_its_background_runs() -> None:
    async with function("background.handler") as running:
        running.api.refuse_with = 413
        invoked = await running.api.run(http_api("/async"))
        assert invoked.events == ["refused 413", *ASYNC]
        assert (await running.api.run(http_api("/async"))).events == ["response", *ASYNC]
    assert f"The response to RequestId '{invoked.request_id}' did not get through" in running.output


async def test_an_app_that_fails() -> None:
    """Nobody has seen a part of the reply: until it is complete, a failure makes it a 500."""
    async with function("faults.handler") as running:
        for path in ("/before", "/held", "/open", "/mid", "/cancelled", "/nothing", "/incomplete"):
            invoked = await running.api.run(http_api(path))
            assert invoked.result is not None
            reply = json.loads(invoked.result)
            assert (reply["statusCode"], reply["body"]) == (500, "Internal Server Error"), path
            assert invoked.events == ["response", "next"]
        invoked = await running.api.run(http_api("/after"))
        assert invoked.result is not None and json.loads(invoked.result)["body"] == "whole"
        assert invoked.events == ["response", "working", "next"]
    assert "its caller already had the whole response, status 200" in running.output


async def test_a_custom_handler_whose_reply_fails_is_an_invocation_error() -> None:
    async with function("oversize.custom") as running:
        invoked = await running.api.run({"custom": "/text/1"})
        assert invoked.error is not None and json.loads(invoked.error)["errorMessage"] == "no form for this"
        assert invoked.events == ["background", "error", "next"]
    async with function("oversize.streamed") as running:
        assert (await running.api.run({"custom": "/text/1"})).events[:2] == ["open", "prelude"]


@pytest.mark.parametrize("stream", ["function-url", ["http-api"], ["alb", "function-url"]])
def test_what_cannot_stream_is_refused(stream: Any) -> None:
    with pytest.raises(ConfigurationError, match="stream must name triggers that can take a stream"):
        StreamingAdapter(app, stream=stream)


def test_what_the_environment_says_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTER_STREAM", "function-url, alb")
    with pytest.raises(ConfigurationError, match="ADAPTER_STREAM must name triggers that can take a stream"):
        StreamingAdapter(app)
    StreamingAdapter(app, stream=(), lifespan="off")


@pytest.mark.parametrize(
    ("value", "end"),
    [
        ("function-url", "in a set or a list, stream={'function-url'}, not 'function-url'"),
        ("rest-api", "in a set or a list, stream={'rest-api'}, not 'rest-api'"),
        ("function_url", "in a set or a list, stream={'function-url'}, not 'function_url'"),
        (True, "in a set or a list, stream={'function-url'}, not True"),
        (False, "in a set or a list, stream={'function-url'}, not False"),
        (1, "in a set or a list, stream={'function-url'}, not 1"),
        ({"function-url", "alb"}, "of function-url, rest-api, not 'alb'"),
        (["http-api", None], "of function-url, rest-api, not 'http-api', None"),
    ],
)
def test_the_message_says_what_to_write(value: Any, end: str) -> None:
    with pytest.raises(ConfigurationError, match="stream must name triggers that can take a stream") as caught:
        StreamingAdapter(app, stream=value, lifespan="off")
    assert str(caught.value).endswith(end)

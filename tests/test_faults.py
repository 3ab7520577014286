"""Failures by phase, under the stock awslambdaric: what the caller gets, what is logged, and that life goes on."""

import asyncio
import re
from typing import Any

import pytest

from .events import function_url
from .runtime_api import Function, Invoked, function

ERROR_500 = {"statusCode": 500, "headers": {"content-type": "text/plain; charset=utf-8"}}


async def run(path: str, **event: Any) -> tuple[Invoked, Function]:
    """One request to the app of faults, and one more to see that it is served."""
    async with function("faults.handler") as running:
        invoked = await running.api.run(function_url(path, **event))
        following = await running.api.run(function_url("/ok"))
        assert following.body == b"ok"
        assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]
    return invoked, running


def logged(running: Function, invoked: Invoked, message: str) -> None:
    """Once, with the request id and the traceback."""
    entries = re.findall(r"^\[ERROR\].*$", running.output, re.MULTILINE)
    assert len(entries) == 1, running.output
    assert invoked.request_id in entries[0]
    assert running.output.count("Traceback (most recent call last)") == 1
    assert running.output.count(message) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/before", "ValueError: before the response"),
        ("/held", "ValueError: right after the head"),
        ("/cancelled", "asyncio.exceptions.CancelledError"),
        ("/body-first", "AppError: the last piece of body cannot come while the response is idle"),
        ("/twice", "AppError: the start of a response cannot come while the response is held"),
        ("/unknown", "AppError: 'http.response.push' is not a message that an HTTP application can send here"),
        ("/str", "AppError: a body consists of bytes, not of str"),
        ("/bad-header", "is not a legal value of the header b'x-name'"),
        ("/bad-status", "status must be an integer from 200 to 599, not 99"),
    ],
)
async def test_before_the_first_byte_it_is_a_clean_500(path: str, message: str) -> None:
    invoked, running = await run(path)
    assert invoked.prelude == ERROR_500
    assert invoked.body == b"Internal Server Error"
    assert not invoked.trailers
    assert invoked.result is None and invoked.error is None
    logged(running, invoked, message)
    assert "its caller gets a 500" in running.output


async def test_an_app_that_answers_nothing_gets_a_500() -> None:
    invoked, running = await run("/nothing")
    assert invoked.prelude == ERROR_500
    assert "the application returned without completing its response" in running.output


@pytest.mark.parametrize(
    ("path", "error_type", "message", "part"),
    [
        ("/mid", "ValueError", "mid-stream \udc80", b"part"),
        ("/open", "ValueError", "after the head had gone out", b""),
        ("/incomplete", "AppError", "the application returned without completing its response", b"part"),
    ],
)
async def test_in_mid_stream_it_is_trailers(path: str, error_type: str, message: str, part: bytes) -> None:
    invoked, running = await run(path)
    assert invoked.prelude["statusCode"] == 200
    assert invoked.body == part
    trailer, report = invoked.failure
    assert trailer == f"Function.{error_type}"
    assert (report["errorType"], report["errorMessage"]) == (error_type, message)
    assert invoked.result is None and invoked.error is None
    assert "its response could not be completed" in running.output
    assert invoked.request_id in running.output


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/after", "ValueError: in the background"),
        ("/after-the-end", "AppError: the last piece of body cannot come while the response is closed"),
    ],
)
async def test_after_the_response_it_is_for_the_log(path: str, message: str) -> None:
    invoked, running = await run(path)
    assert invoked.prelude["statusCode"] == 200
    assert invoked.body == b"whole"
    assert not invoked.trailers
    assert invoked.result is None and invoked.error is None
    logged(running, invoked, message)
    assert "its caller already had the whole response, status 200" in running.output


async def test_the_headers_do_not_wait_for_a_slow_first_token() -> None:
    invoked, _ = await run("/slow")
    assert invoked.events == ["started", "open", "prelude", "first-token", "chunk", "close", "next"]


async def test_a_disconnect_comes_after_the_response_and_not_before() -> None:
    invoked, _ = await run("/waits")
    assert invoked.events == ["open", "prelude", "chunk", "chunk", "close", "http.disconnect", "next"]
    invoked, _ = await run("/early-end")
    assert invoked.events == ["open", "prelude", "close", "disconnect-expected", "http.disconnect", "next"]


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_a_status_without_body_is_prelude_and_end(status: int) -> None:
    invoked, _ = await run("/status", query=str(status))
    assert invoked.prelude["statusCode"] == status
    assert invoked.events == ["open", "prelude", "close", "next"]


@pytest.mark.parametrize(("path", "method"), [("/empty", "GET"), ("/ok", "HEAD"), ("/mid", "HEAD")])
async def test_no_body_is_prelude_and_end(path: str, method: str) -> None:
    invoked, _ = await run(path, method=method)
    assert invoked.prelude["statusCode"] == 200
    assert invoked.events == ["open", "prelude", "close", "next"]


async def test_a_drip_is_one_chunk_each() -> None:
    invoked, _ = await run("/drip")
    assert invoked.chunks[2:] == [b"%d\n" % number for number in range(100)]


async def test_the_202_is_read_though_the_app_gave_up_on_it() -> None:
    async with function("faults.handler") as running:
        running.api.gate.clear()
        invoked = await running.api.invoke(function_url("/cancelled-while-closing"))
        await invoked.closed.wait()
        while "timed-out" not in invoked.events:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert invoked.events == ["open", "prelude", "chunk", "close", "timed-out"]  # and not yet next
        running.api.gate.set()
        await invoked.finished.wait()
        assert (await running.api.run(function_url("/ok"))).body == b"ok"


async def test_an_app_that_exits_ends_the_process() -> None:
    async with function("faults.handler") as running:
        await running.api.invoke(function_url("/exit"))
        assert await running.process.wait() == 7


MALFORMED = {
    "no request context": ({"version": "2.0"}, "no trigger is known that sends an event with the keys ['version']"),
    "not an object": ([1, 2], "no trigger is known that sends a direct invocation with [1, 2]"),
    "a string": ("x" * 1000, "no trigger is known that sends a direct invocation with 'xxx"),
    "no method": (
        {"version": "2.0", "requestContext": {"domainName": "a.lambda-url.b", "http": {"path": "/"}}},
        "the event has no requestContext.http.method",
    ),
    "headers in a list": ({**function_url(), "headers": [1]}, "the event's headers is [1], where an object is needed"),
    "a header that is a number": (
        {**function_url(), "headers": {"a": 1}},
        "the event is malformed, FunctionURL cannot read it: ",
    ),
    "bad base64": (
        {**function_url(), "body": "a\udc80", "isBase64Encoded": True},
        "the event's body says it is base64, and is not",
    ),
    "half a surrogate": (
        {**function_url(), "body": "\udc80"},
        "the event is malformed, FunctionURL cannot read it: UnicodeEncodeError",
    ),
}


async def test_a_malformed_event_fails_its_invocation_alone() -> None:
    async with function("faults.handler") as running:
        for event, message in MALFORMED.values():
            invoked = await running.api.run(event)
            assert invoked.error is not None and message in invoked.error.decode(), invoked.error
            assert b"EventError" in invoked.error
            assert not invoked.chunks
        assert (await running.api.run(function_url("/ok"))).body == b"ok"
    assert len(re.findall(r"\[ERROR\] (Unknown)?EventError", running.output)) == len(MALFORMED)


async def test_a_refused_response_is_not_posted_again() -> None:
    for status in (400, 403, 410, 413):
        async with function("faults.handler") as running:
            running.api.refuse_with = status
            invoked = await running.api.run(function_url("/drip"))
            assert invoked.events[-2:] == [f"refused {status}", "next"]
            assert (await running.api.run(function_url("/ok"))).body == b"ok"
        assert f"did not get through: the Runtime API answered {status}" in running.output


async def test_a_container_error_ends_the_process() -> None:
    async with function("faults.handler") as running:
        running.api.refuse_with = 500
        await running.api.invoke(function_url("/drip"))
        assert await running.process.wait() == 1
        await running.end()
        assert "after which a runtime has to exit" in running.output


async def test_a_connection_closed_between_two_invocations_is_opened_again() -> None:
    async with function("faults.handler") as running:
        running.api.close_after_reply = True
        for _ in range(3):
            assert (await running.api.run(function_url("/ok"))).body == b"ok"
        assert len(set(running.api.posts_on)) == 3
        assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]
    assert "[ERROR]" not in running.output

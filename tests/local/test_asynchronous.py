"""Asynchronous invocations: one caller who is answered at once, and up to three attempts."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

import adapter.local.asynchronous as asynchronous
from adapter.local.asynchronous import EventQueue
from adapter.local.configuration import Configuration
from adapter.local.invocation import FunctionError, Invocation
from adapter.local.log import Log

from .conftest import FUNCTIONS, Gate, LocalLambda, Terminal, alive, gone, local_lambda

OK = ["post", "response", "{}", {}]
FAIL = ["post", "error", '{"errorMessage": "there is none", "errorType": "NoTea"}', {}]


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynchronous, "HASTE", 6000)
    monkeypatch.setattr(asynchronous, "THROTTLE_WAIT", 0.01)


async def send(url: LocalLambda, *steps: list[Any]) -> httpx.Response:
    reply = await url.client.post(
        "/2015-03-31/functions/f/invocations",
        json={"body": json.dumps(steps)},
        headers={"x-amz-invocation-type": "Event"},
    )
    assert (reply.status_code, reply.content) == (202, b"")
    return reply


async def test_the_caller_is_answered_before_the_function_begins(gate: Gate) -> None:
    async with local_lambda() as url:
        reply = await send(url, ["gate", gate.port], OK, ["print", "done"])
        _, go_on = await gate.reached()
        assert "END RequestId" not in url.terminal.getvalue()
        go_on()
        await url.terminal.until(f"^REPORT RequestId: {reply.headers['x-amzn-requestid']}")


async def test_three_attempts_with_one_request_id() -> None:
    async with local_lambda() as url:
        request_id = (await send(url, ["identify"], FAIL)).headers["x-amzn-requestid"]
        await url.terminal.until("The event is discarded$")
        attempts = await url.terminal.until(rf"^request {request_id} invocation (.*)$", 3)
        assert len(set(attempts)) == len(attempts) == 3
        failed = rf"^RequestId: {request_id} Asynchronous invocation failed, attempt"
        assert re.search(
            rf"{failed} 1 of 3: NoTea: there is none\. Again in 0\.01 s \(on Lambda in 60 s\)$[\s\S]*"
            rf"{failed} 2 of 3: NoTea: there is none\. Again in 0\.02 s \(on Lambda in 120 s\)$[\s\S]*"
            rf"{failed} 3 of 3: NoTea: there is none\. The event is discarded$",
            url.terminal.getvalue(),
            re.MULTILINE,
        )
        # The next event is a new one.
        await send(url, OK, ["print", "another"])
        await url.terminal.until("^REPORT", 4)


@pytest.mark.parametrize(
    "error", ["[" * 100_000, '{"errorType": "a\\n\\u001b[2Jb", "errorMessage": ""}'], ids=["deep", "control"]
)
async def test_an_error_of_any_json_fails_its_attempt(error: str) -> None:
    async with local_lambda() as url:
        await send(url, ["post", "error", error, {"Lambda-Runtime-Function-Error-Type": "Function.NoTea"}])
        what = r"(Function\.NoTea|a b|a \\x1b\[2Jb: )"
        await url.terminal.until(rf"failed, attempt 3 of 3: {what}\. The event is discarded$")
        assert (await url.run(OK)).status_code == 200


async def test_a_second_attempt_that_succeeds_is_the_last(gate: Gate, tmp_path: Path) -> None:
    repaired = tmp_path / "repaired"
    async with local_lambda() as url:
        await send(url, ["identify"], ["gate", gate.port], ["exit_without", str(repaired)], OK)
        (await gate.reached())[1]()
        await url.terminal.until("attempt 1 of 3: Runtime.ExitError: .*exit status 9")
        repaired.touch()
        (await gate.reached())[1]()
        await url.terminal.until("^REPORT", 2)
        await send(url, OK)
        await url.terminal.until("^REPORT", 3)
        assert len(re.findall("^request ", url.terminal.getvalue(), re.MULTILINE)) == 2
        assert "attempt 2" not in url.terminal.getvalue()


async def test_a_failure_after_the_response_is_tried_again() -> None:
    async with local_lambda() as url:
        await send(url, OK, ["exit", 1])
        await url.terminal.until("attempt 3 of 3: Runtime.ExitError")
        assert len(re.findall("^response 202$", url.terminal.getvalue(), re.MULTILINE)) == 3


async def test_a_streamed_answer_that_nobody_reads() -> None:
    async with local_lambda() as url:
        await send(url, ["open"], ["prelude", {}], ["bytes", 5_000_000], ["end"], ["print", "done"])
        await url.terminal.until("^response 202\ndone$")
        await url.terminal.until("^REPORT")


async def test_a_throttled_event_waits_and_that_is_no_attempt(gate: Gate) -> None:
    async with local_lambda(max_environments=1) as url:
        await send(url, ["gate", gate.port], OK)
        _, go_on = await gate.reached()
        await send(url, FAIL)
        await url.terminal.until("Asynchronous invocation throttled: every environment is busy. Again in 0.01 s$")
        await url.terminal.until("throttled: every environment is busy. Again in 0.02 s$")
        go_on()
        await url.terminal.until("failed, attempt 1 of 3")
        await url.terminal.until("attempt 3 of 3: NoTea: there is none. The event is discarded$")


async def test_a_throttled_event_grows_too_old(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynchronous, "MAX_AGE", 0.0)
    async with local_lambda(max_environments=1) as url:
        await send(url, ["gate", gate.port], OK)
        _, go_on = await gate.reached()
        await send(url, ["print", "never"])
        await url.terminal.until("Asynchronous invocation throttled for 0 s. The event is discarded$")
        go_on()
        await url.terminal.until("^REPORT")
        assert "never" not in url.terminal.getvalue()


async def test_events_end_with_the_server(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynchronous, "HASTE", 1)
    async with local_lambda() as url:
        await send(url, FAIL)
        await url.terminal.until(r"attempt 1 of 3: .* Again in 60 s")
        await send(url, ["gate", gate.port], OK)
        pid, _ = await gate.reached()
        assert alive(pid)
    # Both have ended, the one that waited for its second attempt and the one in the middle of its first: the server,
    # which waits for all its tasks, has ended.
    await gone(pid)
    assert url.terminal.getvalue().count("Asynchronous invocation") == 1


class Taking:
    """A function that has taken every invocation and answers none."""

    configuration = Configuration("none.handler", FUNCTIONS)

    async def invoke(self, invocation: Invocation) -> None:
        invocation.taken.set_result(None)


async def test_an_answer_may_still_come_when_the_queue_is_closed(terminal: Terminal) -> None:
    invocation = Invocation(b"{}", "arn", "id", "trace")
    async with asyncio.TaskGroup() as tasks:
        events = EventQueue(Taking(), Log(terminal), tasks)
        events.put(invocation)
        await invocation.taken
        events.close()
    invocation.fail(FunctionError("Sandbox.Failure"))
    assert invocation.answered
    # And nothing is begun any more.
    events.put(invocation)

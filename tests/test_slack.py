"""Slack Bolt, whose listeners answer first and work then, in tasks and threads of its own: no BackgroundTasks."""

import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from slack_sdk.signature import SignatureVerifier

from .events import function_url
from .runtime_api import FUNCTIONS, function
from .test_docs import snippets

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
ANSWER = ["open", "prelude", "chunk", "close"]
EMPTY = ["open", "prelude", "close"]


def signed(path: str, body: str, content_type: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """What Slack posts. https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    timestamp = str(int(time.time()))
    signature = SignatureVerifier(SECRET).generate_signature(timestamp=timestamp, body=body)
    assert signature is not None
    return function_url(
        path,
        method="POST",
        headers={
            "content-type": content_type,
            "x-slack-request-timestamp": timestamp,
            "x-slack-signature": signature,
            **(headers or {}),
        },
        body=body.encode(),
    )


def command(path: str, name: str, response_url: str = "https://hooks.slack.com/commands/1") -> dict[str, Any]:
    """A slash command. https://docs.slack.dev/interactivity/implementing-slash-commands"""
    fields = {"command": name, "text": "", "team_id": "T1", "user_id": "U2", "channel_id": "C1", "trigger_id": "1.2.a"}
    fields["response_url"] = response_url
    return signed(path, urlencode(fields), "application/x-www-form-urlencoded")


def mention(path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """An event of the Events API. https://docs.slack.dev/apis/events-api"""
    event = {"type": "app_mention", "user": "U2", "text": "<@U1> hi", "ts": "1.2", "channel": "C1", "event_ts": "1.2"}
    body = {"type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event": event, "event_id": "Ev1"}
    return signed(path, json.dumps(body), "application/json", headers)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        # slack_sdk sends through a proxy even what goes to 127.0.0.1
        if name.startswith("SLACK_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def slack(**env: str) -> Any:
    return function("slack_app.handler", env={"SLACK_SIGNING_SECRET": SECRET, **env})


@pytest.mark.parametrize("path", ["/async", "/sync"])
async def test_listeners_answer_first_and_work_then(path: str) -> None:
    async with slack() as running:
        held = running.api.run_held
        for _ in range(2):
            assert (await held(command(path, "/work"), "work")).events == [*ANSWER, "work", "next"]
            assert (await held(command(path, "/lazy"), "one", "two")).events == [*ANSWER, "one", "two", "next"]
            # Events are acknowledged by Bolt, before their listeners begin.
            assert (await held(mention(path), "work")).events == [*EMPTY, "work", "next"]
    assert "ERROR" not in running.output and "WARNING" not in running.output


@pytest.mark.parametrize("path", ["/async", "/sync"])
async def test_what_slack_has_not_signed_is_refused(path: str) -> None:
    async with slack() as running:
        event = command(path, "/work")
        event["headers"]["x-slack-signature"] = "v0=" + 64 * "0"
        refused = await running.api.run(event)
        assert (refused.prelude["statusCode"], refused.events) == (401, [*ANSWER, "next"])


@pytest.mark.parametrize("path", ["/async", "/sync"])
async def test_retries_can_be_told(path: str) -> None:
    retry = {"x-slack-retry-num": "1", "x-slack-retry-reason": "http_timeout"}
    async with slack(WITH="ignore_retries") as running:
        assert (await running.api.run_held(mention(path), "work")).events == [*EMPTY, "work", "next"]
        retried = await running.api.run(mention(path, retry))
        assert (retried.prelude["statusCode"], retried.events) == (200, [*EMPTY, "next"])


@pytest.mark.parametrize("path", ["/async", "/sync"])
async def test_bolt_logs_what_its_listeners_raise(path: str) -> None:
    async with slack() as running:
        assert (await running.api.run_held(command(path, "/fails"), "work")).events == [*ANSWER, "work", "next"]
        assert (await running.api.run_held(command(path, "/lazy-fails"), "one")).events == [*ANSWER, "one", "next"]
    assert running.output.count("Failed to run listener function (error: in the listener)") == 1
    assert running.output.count("LookupError: in the listener") == 1
    assert running.output.count("Failed to run an internal function (in a lazy listener)") == 1
    assert "LookupError: in a lazy listener" not in running.output  # no traceback, and no error handler
    assert "Background task" not in running.output


@pytest.mark.parametrize("path", ["/async", "/sync"])
async def test_an_error_handler_can_hand_failures_on(path: str) -> None:
    async with slack(WITH="hand_on") as running:
        failed = await running.api.run_held(command(path, "/fails"), "work")
        assert failed.events == [*ANSWER, "work", "LookupError", "next"]
        assert (await running.api.run_held(command(path, "/work"), "work")).events == [*ANSWER, "work", "next"]
    assert running.output.count("LookupError: in the listener") == 1
    assert running.output.count(f"failed in RequestId '{failed.request_id}'") == 1


@pytest.mark.parametrize("code", [snippet for snippet in snippets("python") if "from slack_bolt" in snippet.values[0]])
async def test_as_the_docs_show_it(code: str, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(code)
    env = {
        "SLACK_BOT_TOKEN": "xoxb-1",
        "SLACK_SIGNING_SECRET": SECRET,
        "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, FUNCTIONS, FUNCTIONS.parents[1]))),
    }
    async with function("slack_from_docs.handler", env=env) as running:
        url = f"http://{running.api.address}/record/reported"
        for _ in range(2):
            invoked = await running.api.run_held(command("/slack/events", "/report", response_url=url), "reported")
            assert invoked.events == [*ANSWER, "reported", "next"]
            assert "Working on it" in invoked.body.decode()
    assert "ERROR" not in running.output and "WARNING" not in running.output

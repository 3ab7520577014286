"""What is logged of a failure: the whole reason, in text and in JSON, whatever the exception's own methods do."""

import json
import logging
from typing import Any

import pytest

from adapter import BackgroundFailure
from adapter.log import log_exception, logger

from .events import function_url
from .runtime_api import function

BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
FORMATS = pytest.mark.parametrize("log_format", ["Text", "JSON"])
KINDS = (
    *("cause", "context", "group", "group-of-causes", "cause-of-a-falsy-one", "falsy", "undecided"),
    *("falsy-with-a-cause", "undecided-with-a-cause", "unprintable-with-a-cause"),
)
PLACES = ("route", "stream", "background", "task")
RESPONSE = ["open", "prelude", "chunk", "close"]


@BOTH
@FORMATS
async def test_the_reason_of_a_failure_is_logged(client: str, log_format: str) -> None:
    env = {"AWS_LAMBDA_LOG_FORMAT": log_format}
    reasons = []
    async with function("reasons.handler", client=client, env=env) as running:
        for place in PLACES:
            for kind in KINDS:
                reasons.append(f"reason-of-{kind}-in-the-{place}")
                await running.api.run(function_url(f"/{place}", query=f"kind={kind}&reason={reasons[-1]}"))
        assert (await running.api.run(function_url("/fine"))).body == b'"fine"'
    reasons.remove("reason-of-cause-of-a-falsy-one-in-the-stream")  # Starlette asks the cause whether it is true
    for reason in reasons:
        assert reason in running.output
    assert "Logging error" not in running.output and "default exception handler" not in running.output
    if log_format == "JSON":
        entries = [json.loads(line) for line in running.output.splitlines() if line.startswith("{")]
        told = [entry for entry in entries if "reason-of-cause-in" in json.dumps(entry)]
        assert [entry["errorType"] for entry in told] == ["RuntimeError"] * len(PLACES)
        assert all(entry["exception"].startswith("Traceback (most recent call last)") for entry in told)
    else:
        for place in PLACES:
            assert running.output.count(f"LookupError: reason-of-group-in-the-{place}") == 1


@BOTH
@FORMATS
@pytest.mark.parametrize("handler", ["streamed", "streamed_in_a_thread", "events", "inside"])
async def test_so_it_is_where_the_runtime_reports_the_error(client: str, log_format: str, handler: str) -> None:
    """It reports an error alone, without cause, context and members."""
    async with function(f"reasons.{handler}", client=client, env={"AWS_LAMBDA_LOG_FORMAT": log_format}) as running:
        for kind in KINDS:
            invoked = await running.api.run({"kind": kind, "reason": f"reason-of-{kind}"})
            assert invoked.events == ["error", "next"]
    for kind in KINDS:
        assert f"reason-of-{kind}" in running.output
    if log_format == "Text":
        assert running.output.count("LookupError: reason-of-cause\n") == 1


@BOTH
async def test_of_failures_that_are_raised(client: str) -> None:
    async with function("reasons.raising", client=client, env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as running:
        for kind in KINDS:
            query = f"kind={kind}&reason=reason-of-{kind}"
            assert (await running.api.run(function_url("/background", query=query))).events == [*RESPONSE, "next"]
    for kind in KINDS:
        assert f"reason-of-{kind}" in running.output


@BOTH
@FORMATS
@pytest.mark.parametrize("kind", ["cause", "context", "group", "falsy-with-a-cause"])
async def test_of_a_startup_that_fails(client: str, log_format: str, kind: str) -> None:
    env = {"STARTUP": f"{kind}:the-reason", "AWS_LAMBDA_LOG_FORMAT": log_format}
    async with function("reasons.handler", client=client, env=env) as running:
        await running.api.invoke(function_url("/fine"))
        assert await running.exit(20) == 1
    assert running.api.init_error["errorType"] != "LookupError"
    assert "LookupError: the-reason" in running.output


@BOTH
@FORMATS
async def test_of_what_is_reported_to_the_loop(client: str, log_format: str) -> None:
    async with function("reasons.handler", client=client, env={"AWS_LAMBDA_LOG_FORMAT": log_format}) as running:
        for kind in KINDS:
            await running.api.run(function_url("/callback", query=f"kind={kind}&reason=reason-of-{kind}"))
    for kind in KINDS:
        for text in (f"callback {kind}", f"reason-of-{kind}", f"without any {kind}"):
            assert text in running.output


@BOTH
async def test_a_disabled_logger_is_silent(client: str) -> None:
    async with function("reasons.handler", client=client, env={"DISABLED": "1"}) as running:
        await running.api.run(function_url("/background", query="kind=cause&reason=why"))
    assert "why" not in running.output


def no_notes(exception: BaseException) -> Any:
    raise ZeroDivisionError


Odd = type("Odd", (Exception,), {"__notes__": property(no_notes)})


def test_an_exception_whose_notes_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    log_exception(Odd("the reason"), "at %d", 7)
    assert "at 7" in caplog.text and "Odd: the reason" in caplog.text


def test_a_failure_is_printed_whatever_its_exception_says() -> None:
    class Unprintable(Exception):
        def __repr__(self) -> str:
            raise AttributeError("no words")

    assert repr(BackgroundFailure("main.work", Unprintable(), "", 0)) == "<BackgroundFailure of main.work: Unprintable>"


def test_the_logger_is_the_one_of_its_name(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning("by %s", "name")
    assert caplog.record_tuples == [("adapter", logging.WARNING, "by name")]
    assert caplog.records[0].funcName == "test_the_logger_is_the_one_of_its_name"


@BOTH
async def test_a_task_group_speaks_for_its_tasks(client: str) -> None:
    async with function("reasons.handler", client=client) as running:
        for number in range(5):
            await running.api.run(function_url("/task", query=f"kind=group&reason=quick-{number}"))
            await running.api.run(function_url("/slowly", query=f"reason=slow-{number}"))
    for number in range(5):
        for pace in ("quick", "slow"):
            assert running.output.count(f"LookupError: {pace}-{number}") == 1
    assert "Background task query" not in running.output

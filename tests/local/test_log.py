"""The log as JSON, and as what an invocation keeps of it; its text is compared where invocations run."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.local.invocation import FunctionError, Invocation
from adapter.local.log import Log, Report

from .conftest import local_lambda

REPORT = Report(duration=5.0036, memory=128, max_memory=69, init=0.1, status="success", error_type=None)


def invocation() -> Invocation:
    result = Invocation(b"{}", "arn", "an-id", "trace")
    result.handed_out = result.created
    return result


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines, each of which has to be an object with a time."""
    result = [json.loads(line, parse_constant=int) for line in stream.getvalue().splitlines()]
    for record in result:
        assert record.pop("time").endswith("Z")
    return result


CALLS: list[tuple[Callable[[Log, Invocation], None], str, dict[str, Any] | str, str]] = [
    (
        lambda log, invocation: log.line("a line"),
        "local",
        {"message": "a line"},
        "a line\n",
    ),
    (
        lambda log, invocation: log.line("a line", invocation),
        "local",
        {"requestId": "an-id", "message": "a line"},
        "a line\n",
    ),
    (
        lambda log, invocation: log.function("one\ntwo", invocation),
        "function",
        "one\ntwo",
        "one\ntwo\n",
    ),
    (
        lambda log, invocation: log.init_start("python3.13"),
        "platform.initStart",
        {"initializationType": "on-demand", "phase": "init", "runtimeVersion": "python:3.13"},
        "INIT_START Runtime Version: python:3.13\n",
    ),
    (
        lambda log, invocation: log.init_report(0.12345, "init", "timeout"),
        "platform.initReport",
        {
            "initializationType": "on-demand",
            "phase": "init",
            "status": "timeout",
            "metrics": {"durationMs": 123.45},
        },
        "INIT_REPORT Init Duration: 123.45 ms\tPhase: init\tStatus: timeout\n",
    ),
    (
        lambda log, invocation: log.init_report(0.1, "invoke", "error", "Runtime.ExitError"),
        "platform.initReport",
        {
            "initializationType": "on-demand",
            "phase": "invoke",
            "status": "error",
            "errorType": "Runtime.ExitError",
            "metrics": {"durationMs": 100.0},
        },
        "INIT_REPORT Init Duration: 100.00 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError\n",
    ),
    (
        lambda log, invocation: log.start(invocation),
        "platform.start",
        {"requestId": "an-id", "version": "$LATEST"},
        "START RequestId: an-id Version: $LATEST\n",
    ),
    (
        lambda log, invocation: log.stream_error(invocation, FunctionError("Function.Oops", b'{"a": 1}')),
        "local.streamError",
        {"requestId": "an-id", "errorType": "Function.Oops", "error": '{"a": 1}'},
        'RequestId: an-id Error in mid-stream: Function.Oops: {"a": 1}\n',
    ),
    (
        lambda log, invocation: log.stream_error(invocation, FunctionError("Function.Oops")),
        "local.streamError",
        {"requestId": "an-id", "errorType": "Function.Oops", "error": ""},
        "RequestId: an-id Error in mid-stream: Function.Oops\n",
    ),
    (
        lambda log, invocation: log.exited(invocation, "Runtime exited with error: exit status 7"),
        "local.exit",
        {
            "requestId": "an-id",
            "message": "Runtime exited with error: exit status 7",
            "errorType": "Runtime.ExitError",
        },
        "RequestId: an-id Error: Runtime exited with error: exit status 7\nRuntime.ExitError\n",
    ),
]


@pytest.mark.parametrize(("call", "kind", "record", "text"), CALLS)
async def test_one_call_has_two_forms(
    call: Callable[[Log, Invocation], None], kind: str, record: dict[str, Any] | str, text: str
) -> None:
    stream = io.StringIO()
    call(Log(stream), invocation())
    assert stream.getvalue() == text
    stream = io.StringIO()
    call(Log(stream, "json"), invocation())
    assert records(stream) == [{"type": kind, "record": record}]


async def test_timeout_has_its_time_in_both_forms() -> None:
    stream = io.StringIO()
    Log(stream).timed_out(invocation(), 3)
    time, _, rest = stream.getvalue().partition(" ")
    assert time.endswith("Z")
    assert rest == "an-id Task timed out after 3.00 seconds\n\n"
    stream = io.StringIO()
    Log(stream, "json").timed_out(invocation(), 3)
    (record,) = records(stream)
    assert record == {
        "type": "local.timeout",
        "record": {"requestId": "an-id", "message": "Task timed out after 3.00 seconds"},
    }


async def test_end_in_json() -> None:
    stream = io.StringIO()
    log, ended = Log(stream, "json"), invocation()
    log.response(ended, 200, 0.25, 61)
    log.end(ended, REPORT)
    response, done, report, timeline = records(stream)
    response["record"].pop("endedMs")
    assert response == {
        "type": "local.response",
        "record": {"requestId": "an-id", "status": 200, "firstByteMs": 250.0, "bytes": 61},
    }
    outcome = {"requestId": "an-id", "status": "success"}
    assert done == {"type": "platform.runtimeDone", "record": {**outcome, "metrics": {"durationMs": 5003.6}}}
    metrics = {
        "durationMs": 5003.6,
        "billedDurationMs": 5104,
        "memorySizeMB": 128,
        "maxMemoryUsedMB": 69,
        "initDurationMs": 100.0,
    }
    assert report == {"type": "platform.report", "record": {**outcome, "metrics": metrics}}
    assert timeline["type"] == "local.timeline"
    assert timeline["record"].keys() == {
        *outcome,
        "initMs",
        "firstByteMs",
        "streamMs",
        "backgroundMs",
    }
    assert timeline["record"]["firstByteMs"] == 250.0


async def test_end_of_a_process_that_ended() -> None:
    stream, report = io.StringIO(), Report(1.0, 128, None, None, "error", "Runtime.ExitError")
    Log(stream, "json").end(invocation(), report)
    assert records(stream)[1] == {
        "type": "platform.report",
        "record": {
            "requestId": "an-id",
            "status": "error",
            "errorType": "Runtime.ExitError",
            "metrics": {"durationMs": 1000.0, "billedDurationMs": 1000, "memorySizeMB": 128},
        },
    }


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ('{"level": "INFO", "message": "é"}', {"level": "INFO", "message": "é"}),
        ("[1]", "[1]"),
        ("12", "12"),
        ("{nearly}", "{nearly}"),
        ('{"n": NaN}', '{"n": NaN}'),
        ('{"n": 1e999}', '{"n": 1e999}'),
        ('{"a":' * 20_000, '{"a":' * 20_000),
        ('{"n": ' + "1" * 5000 + "}", '{"n": ' + "1" * 5000 + "}"),
    ],
    ids=["object", "array", "number", "broken", "nan", "infinite", "deep", "long"],
)
async def test_the_functions_json_is_an_object(line: str, record: Any) -> None:
    stream = io.StringIO()
    Log(stream, "json").function(line, None)
    assert records(stream) == [{"type": "function", "record": record}]


@given(st.one_of(st.text(), st.text().map(lambda text: f"{{{text}}}"), st.from_regex(r'\{"a": .*\}', fullmatch=True)))
def test_every_line_is_json(line: str) -> None:
    stream = io.StringIO()
    Log(stream, "json").function(line, None)
    assert len(records(stream)) == 1


async def test_an_invocation_keeps_what_cloudwatch_has() -> None:
    """Lambda's records, and the function's lines as they are."""
    kept, stream = invocation(), io.StringIO()
    log = Log(stream, "json")
    log.start(kept)
    log.function("plain", kept)
    log.function('{"a":1}', kept)
    log.response(kept, 200, 0.1, 1)
    log.end(kept, REPORT)
    lines = bytes(kept.tail).decode().splitlines()
    assert lines[1:3] == ["plain", '{"a":1}']
    assert [json.loads(line)["type"] for line in (lines[0], lines[3])] == ["platform.start", "platform.report"]
    assert len(lines) == 4


async def test_function_that_logs_as_json() -> None:
    """awslambdaric and the log agree: a traceback is an object, and nothing on the terminal is not."""
    async with local_lambda("main.fail", scripted=False, log_format="json") as url:
        await url.client.get("/")
        await url.terminal.until('"local.timeline"')
        lines = [json.loads(line) for line in url.terminal.getvalue().splitlines()]
    (error,) = [line["record"] for line in lines if line["type"] == "function"]
    assert error["errorType"] == "ValueError"
    assert error["errorMessage"] == "no\ntea"
    types = [line["type"] for line in lines]
    assert types[:3] == ["platform.initStart", "local", "platform.start"]
    # The answer to the caller and the function's lines: of these two, either may be first.
    assert sorted(types[3:5]) == ["function", "local.response"]
    assert types[5:] == ["platform.runtimeDone", "platform.report", "local.timeline"]

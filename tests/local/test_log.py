"""The log as JSON, and as what an invocation keeps of it; its text is compared where invocations run."""

import base64
import io
import itertools
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.local.invocation import FunctionError, Invocation, describe
from adapter.local.log import Log, Report
from adapter.local.process import MAX_LINE, Lines

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
        lambda log, invocation: log.stream_error(invocation, FunctionError("Function.\x9bOops", b"a\nREPORT \x1b[2J")),
        "local.streamError",
        {"requestId": "an-id", "errorType": "Function.\x9bOops", "error": "a\nREPORT \x1b[2J"},
        "RequestId: an-id Error in mid-stream: Function.\\x9bOops: a\\nREPORT \\x1b[2J\n",
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


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ('{"a":[', "]}")])
async def test_nesting_of_any_depth_is_one_line(opening: str, closing: str) -> None:
    """Also where Python reads it, and has no room left to write it."""
    for depth in (*range(1, 400, 50), *range(400, 1100), *range(1100, 40_000, 1000)):
        line = opening * depth + "1" + closing * depth
        stream = io.StringIO()
        Log(stream, "json").function(line, None)
        assert len(stream.getvalue().splitlines()) == 1
        error = f'{{"errorType": "T", "errorMessage": {line}}}'.encode()
        assert "\n" not in describe(FunctionError("Function.Oops", error))


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


CONTROLS = st.sampled_from([*map(chr, (*range(32), *range(127, 160))), "\u2028", "\u2029", "\u202e", "\u2066"])
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@given(st.text(st.one_of(CONTROLS, st.characters())))
def test_a_terminal_obeys_nothing_of_the_functions(line: str) -> None:
    screen = Screen()
    Log(screen).function(line, None)
    Log(screen).line(f"Hint: {line}")
    assert not OBEYED.search(screen.getvalue())
    assert screen.getvalue().count("\n") == line.count("\n") + 2


PLATFORM_LINES = [
    "START RequestId: an-id Version: $LATEST",
    "END RequestId: an-id",
    "REPORT RequestId: an-id\tDuration: 1.00 ms",
    "RESPONSE RequestId: an-id\tStatus: 200",
    "RequestId: an-id Error: no tea",
    "2026-01-02T03:04:05.678Z an-id Task timed out after 3.00 seconds",
    "INIT_START Runtime Version: python:3.13",
    "INIT_REPORT Init Duration: 1.00 ms",
    "TIMELINE ----####",
    "\u200bREPORT  RequestId: an-id",
    " END RequestId: an-id",
]


@pytest.mark.parametrize("line", PLATFORM_LINES)
@pytest.mark.parametrize("before", ["", "path /\n", "[ERROR] oops\n"])
def test_a_line_of_the_functions_is_not_taken_for_lambdas(line: str, before: str) -> None:
    screen, pipe = Screen(), io.StringIO()
    for stream in (screen, pipe):
        Log(stream).function(before + line, None)
    assert screen.getvalue() == f"{before}> {line}\n"
    assert pipe.getvalue() == f"{before}{line}\n"


def test_a_terminal_shows_the_functions_other_lines_as_they_are() -> None:
    screen = Screen()
    text = (
        "[ERROR] ValueError: \u00fc\tpath /\nTraceback (most recent call last):\n  START of it\nREPORT 1\nEnd RequestId"
    )
    Log(screen).function(text, None)
    assert screen.getvalue() == f"{text}\n"


@pytest.mark.parametrize("characters", [".", "a ", "\u200b", "START ", " ", "\x1b"])
def test_a_long_line_takes_no_time(characters: str) -> None:
    screen = Screen()
    started = time.process_time()
    Log(screen).function((characters * MAX_LINE)[:MAX_LINE], None)
    assert time.process_time() - started < 5  # one that looks back and forth takes hours


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


APART = (
    r"^\[ERROR\]\t\S+Z\t[0-9a-f-]+\ta traceback\nTraceback \(most recent call last\):\n(  .*\n)+ValueError: caught\n"
    r"after the traceback\n"
    r"\[ERROR\]\t\S+Z\t[0-9a-f-]+\ta stack\nStack \(most recent call last\):\n(  .*\n)+"
    r"after the stack\nby the context\nafter the context's\n"
    r"\[ERROR\]\t\S+Z\t[0-9a-f-]+\ttwo\nlines \u20ac\nbegun, ended$"
)


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_what_is_printed_after_a_traceback_has_a_line_of_its_own(client: str) -> None:
    """On the terminal, and in the tail of the log that an SDK asks for."""
    async with local_lambda("main.log", scripted=False, client=client) as url:
        path, headers = "/2015-03-31/functions/f/invocations", {"x-amz-log-type": "Tail"}
        reply = await url.client.post(path, content=b"{}", headers=headers)
        await url.terminal.until("^REPORT")
        tail = base64.b64decode(reply.headers["x-amz-log-result"]).decode()
    for log in (url.terminal.getvalue(), tail):
        assert re.search(APART, log, re.MULTILINE), log


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_each_record_in_json_is_an_object_of_its_own(client: str) -> None:
    async with local_lambda("main.log", scripted=False, client=client, log_format="json") as url:
        await url.client.get("/")
        await url.terminal.until('"local.timeline"')
        lines = [json.loads(line) for line in url.terminal.getvalue().splitlines()]
    said = [line["record"] for line in lines if line["type"] == "function"]
    assert [record if isinstance(record, str) else record["message"] for record in said] == [
        "a traceback",
        "after the traceback",
        "a stack",
        "after the stack",
        "by the context",
        "after the context's",
        "two\nlines \u20ac",
        "begun, ended",
    ]
    assert said[0]["errorType"] == "ValueError"


def frame(message: bytes, kind: int = 0x17) -> bytes:
    return b"\xa5\x5a\x00%c%b%b%b" % (kind, len(message).to_bytes(4, "big"), bytes(8), message)


def records_of(*pieces: bytes) -> list[str]:
    found: list[str] = []
    lines = Lines(found.append)
    for piece in pieces:
        lines.feed(piece)
    lines.flush()
    return found


messages = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), min_size=1, max_size=9)
written = st.one_of(
    messages.filter(lambda text: "\n" not in text).map(lambda text: ((text + "\n").encode(), text)),
    messages.map(lambda text: (frame(text.encode()), text.removesuffix("\n"))),
    messages.map(lambda text: (frame(f"{text}\n".encode(), 0x0E), text)),
)


@given(st.lists(written), st.lists(st.integers(0, 300)))
def test_lines_and_frames_are_told_apart_wherever_they_are_cut(whole: list[tuple[bytes, str]], cuts: list[int]) -> None:
    data = b"".join(written for written, _ in whole)
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in itertools.pairwise(ends)]
    assert records_of(*pieces) == [text for _, text in whole]


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_read(pieces: list[bytes]) -> None:
    records_of(*pieces, b"\n")


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"a line\nno end"], ["a line", "no end"]),
        ([b"begun ", frame(b"in between"), b"ended\n"], ["in between", "begun ended"]),
        ([frame(b""), b"after\n"], ["after"]),
        # A character that ends as a frame begins, at the end of an invocation.
        (["\u00e5".encode()], ["\u00e5"]),
        # What begins as a frame does.
        (["\u00e5Z\n".encode(), b"\xa5\x5a\x00\x01\n"], ["\u00e5Z", "\\xa5Z\x00\x01"]),
        # A frame whose writer has been killed.
        ([frame(b"the whole")[:-6], b""], ["the"]),
        ([frame(b"x" * (MAX_LINE + 1))], ["x" * MAX_LINE, "x"]),
        ([b"x" * (MAX_LINE + 1)], ["x" * MAX_LINE, "x"]),
        ([b"one\rtwo\r\nthree\n"], ["one\ntwo", "three"]),
    ],
)
def test_records_of_what_a_function_writes(pieces: list[bytes], expected: list[str]) -> None:
    assert records_of(*pieces) == expected

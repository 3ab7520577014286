"""The two forms that a log has: the terminal's lines of text, and JSON."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TextIO

from rich.console import Console

from adapter.local.timeline import Timeline

LogFormat = Literal["text", "json"]

# What a terminal obeys, or what breaks or reorders a line, save the tab.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# How Lambda's lines, and the two of ours beside them, begin, be it after what cannot be seen.
PLATFORM = re.compile(
    r"\W*+(INIT_START|INIT_REPORT|TIMELINE|RequestId:|\S++\s++RequestId:|\S++\s++\S++\s++Task timed out)"
)


def show_controls(text: str) -> str:
    """Control characters as Python writes them: one line, and nothing that a terminal obeys."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


@dataclass(frozen=True)
class Record:
    """What there is to say, in the terms of the Telemetry API's events
    (https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html).

    Durations in `fields` are in milliseconds. Types that begin with "local" are ours. A "function" record's one field,
    "line", is what the function has written.
    """

    type: str
    fields: Mapping[str, Any]
    time: datetime.datetime

    @property
    def timestamp(self) -> str:
        return self.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Presentation(Protocol):
    """Methods give text without its last line end."""

    def terminal(self, record: Record) -> str: ...

    def cloudwatch(self, record: Record) -> str | None:
        """As CloudWatch, and with it the tail of an invocation's log, has it; None if it has not."""

    def timeline(self, timeline: Timeline, time: datetime.datetime) -> str: ...


class Text:
    """Lambda's lines. The formats are those of https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html and
    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html; RESPONSE and TIMELINE are ours.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False) if stream.isatty() else None

    def terminal(self, record: Record) -> str:
        text = self.cloudwatch(record)
        return harmless(text) if self._console is not None and record.type == "function" else text

    def cloudwatch(self, record: Record) -> str:
        """The function's lines as they are; in other records, which may quote it, control characters are shown."""
        if record.type == "function":
            return str(record.fields["line"])
        fields = {
            name: show_controls(value) if isinstance(value, str) else value for name, value in record.fields.items()
        }
        return LINES[record.type](record, fields)

    def timeline(self, timeline: Timeline, time: datetime.datetime) -> str:
        if self._console is None:
            return timeline.plain
        with self._console.capture() as capture:
            self._console.print(timeline, end="")
        return capture.get()


class JSON:
    """One object a line: Lambda's JSON system log, and in the same envelope the function's lines and ours.

    CloudWatch has the function's lines as they are, and at the default level of detail no platform.runtimeDone
    (https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html).
    """

    def terminal(self, record: Record) -> str:
        is_line = record.type == "function"
        return envelope(record, embedded(record.fields["line"]) if is_line else json.dumps(record.fields))

    def cloudwatch(self, record: Record) -> str | None:
        if record.type == "platform.runtimeDone":
            return None
        return str(record.fields["line"]) if record.type == "function" else self.terminal(record)

    def timeline(self, timeline: Timeline, time: datetime.datetime) -> str:
        return self.terminal(Record("local.timeline", timeline.record, time))


PRESENTATIONS: dict[LogFormat, Callable[[TextIO], Presentation]] = {"text": Text, "json": lambda stream: JSON()}


def envelope(record: Record, content: str) -> str:
    return f'{{"time": {json.dumps(record.timestamp)}, "type": {json.dumps(record.type)}, "record": {content}}}'


def embedded(line: str) -> str:
    """As JSON: a line that is an object, as that object; any other as a string."""
    if line.startswith("{"):
        try:
            # Not what Python reads and JSON does not have: NaN, and numbers that are infinite here.
            return json.dumps(json.loads(line), allow_nan=False)
        except (ValueError, RecursionError):
            pass
    return json.dumps(line)


def harmless(lines: str) -> str:
    """The function's lines for a terminal: it obeys nothing in them, and none can be taken for one of Lambda's."""
    shown = [show_controls(line) for line in lines.split("\n")]
    return "\n".join(f"> {line}" if PLATFORM.match(line) else line for line in shown)


def response(record: Record, fields: Mapping[str, Any]) -> str:
    return (
        f"RESPONSE RequestId: {fields['requestId']}\tStatus: {fields['status']}"
        f"\tFirst byte: {fields['firstByteMs']:.2f} ms\tEnded: {fields['endedMs']:.2f} ms\tBytes: {fields['bytes']}"
    )


def stream_error(record: Record, fields: Mapping[str, Any]) -> str:
    error = f": {fields['error']}" if fields["error"] else ""
    return f"RequestId: {fields['requestId']} Error in mid-stream: {fields['errorType']}{error}"


def init_report(record: Record, fields: Mapping[str, Any]) -> str:
    error = f"\tError Type: {fields['errorType']}" if "errorType" in fields else ""
    return (
        f"INIT_REPORT Init Duration: {fields['metrics']['durationMs']:.2f} ms\tPhase: {fields['phase']}"
        f"\tStatus: {fields['status']}{error}"
    )


def report(record: Record, fields: Mapping[str, Any]) -> str:
    metrics = fields["metrics"]
    parts = [
        f"REPORT RequestId: {fields['requestId']}",
        f"Duration: {metrics['durationMs']:.2f} ms",
        f"Billed Duration: {metrics['billedDurationMs']} ms",
        f"Memory Size: {metrics['memorySizeMB']} MB",
    ]
    if "maxMemoryUsedMB" in metrics:
        parts.append(f"Max Memory Used: {metrics['maxMemoryUsedMB']} MB")
    if "initDurationMs" in metrics:
        parts.append(f"Init Duration: {metrics['initDurationMs']:.2f} ms")
    # A function's own failure is none of Lambda's: there is no status for it in this line.
    if fields["status"] in ("error", "timeout"):
        parts.append(f"Status: {fields['status']}")
    if "errorType" in fields:
        parts.append(f"Error Type: {fields['errorType']}")
    return "\t".join(parts)


LINES: dict[str, Callable[[Record, Mapping[str, Any]], str]] = {
    "local": lambda record, fields: fields["message"],
    "local.response": response,
    "local.streamError": stream_error,
    "local.timeout": lambda record, fields: f"{record.timestamp} {fields['requestId']} {fields['message']}\n",
    "local.exit": lambda record, fields: (
        f"RequestId: {fields['requestId']} Error: {fields['message']}\n{fields['errorType']}"
    ),
    "platform.initStart": lambda record, fields: f"INIT_START Runtime Version: {fields['runtimeVersion']}",
    "platform.initReport": init_report,
    "platform.start": lambda record, fields: f"START RequestId: {fields['requestId']} Version: {fields['version']}",
    "platform.runtimeDone": lambda record, fields: f"END RequestId: {fields['requestId']}",
    "platform.report": report,
}

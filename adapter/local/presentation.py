"""The two forms that a log has: the terminal's lines of text, and JSON."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TextIO

from rich.console import Console

from adapter.local.timeline import Timeline

LogFormat = Literal["text", "json"]


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
        return LINES[record.type](record, record.fields)

    def cloudwatch(self, record: Record) -> str:
        return self.terminal(record)

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
        return envelope(record, embedded(record.fields["line"]) if record.type == "function" else record.fields)

    def cloudwatch(self, record: Record) -> str | None:
        if record.type == "platform.runtimeDone":
            return None
        return str(record.fields["line"]) if record.type == "function" else self.terminal(record)

    def timeline(self, timeline: Timeline, time: datetime.datetime) -> str:
        return self.terminal(Record("local.timeline", timeline.record, time))


PRESENTATIONS: dict[LogFormat, Callable[[TextIO], Presentation]] = {"text": Text, "json": lambda stream: JSON()}


def envelope(record: Record, content: Any) -> str:
    return json.dumps({"time": record.timestamp, "type": record.type, "record": content})


def embedded(line: str) -> Any:
    """A line that is a JSON object, as that object; any other as it is."""
    if not line.startswith("{"):
        return line
    try:
        value = json.loads(line)
        # What Python reads and JSON does not have: NaN, and numbers that are infinite here.
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return line
    return value


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
    "function": lambda record, fields: fields["line"],
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

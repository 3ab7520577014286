from __future__ import annotations

import datetime
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from adapter.local.invocation import FunctionError, Invocation, Sent
from adapter.local.presentation import PRESENTATIONS, LogFormat, Record
from adapter.local.timeline import Timeline


@dataclass(frozen=True)
class Report:
    """What REPORT says. Durations in seconds, memory in MB; `init` on an environment's first invocation only.

    `status` is "success", "failure" (the runtime reported an error), "error" (it ended) or "timeout".
    """

    duration: float
    memory: int
    max_memory: int | None
    init: float | None
    status: str
    error_type: str | None


class Log:
    """What CloudWatch would show, on a text stream; and each invocation's part of it, in its `tail`.

    `unread` is called when the stream turns out to be a pipe whose reader has gone, as with ``| head``; what is said
    from then on goes nowhere.
    """

    def __init__(
        self, stream: TextIO, log_format: LogFormat = "text", unread: Callable[[], object] = lambda: None
    ) -> None:
        self._stream = stream
        self._unread = unread
        self._presentation = PRESENTATIONS[log_format](stream)

    def line(self, text: str, invocation: Invocation | None = None) -> None:
        """A line of Lambda's or ours; of an invocation's log if one is given."""
        of_invocation = {} if invocation is None else {"requestId": invocation.request_id}
        self._say("local", {**of_invocation, "message": text}, invocation)

    def function(self, text: str, invocation: Invocation | None) -> None:
        """What the function has written, in init or in an invocation: without its line end, and with any in it."""
        self._say("function", {"line": text}, invocation)

    def init_start(self, runtime: str, phase: str = "init", initialization_type: str = "on-demand") -> None:
        runtime_version = runtime.replace("python", "python:")
        fields = {"initializationType": initialization_type, "phase": phase, "runtimeVersion": runtime_version}
        self._say("platform.initStart", fields)

    def init_report(
        self,
        duration: float,
        phase: str,
        status: str,
        error_type: str | None = None,
        initialization_type: str = "on-demand",
    ) -> None:
        """On demand only of an init that failed, as on Lambda; seconds in, milliseconds out."""
        fields = {
            "initializationType": initialization_type,
            "phase": phase,
            "status": status,
            "metrics": {"durationMs": milliseconds(duration)},
        }
        self._say("platform.initReport", fields | ({"errorType": error_type} if error_type else {}))

    def start(self, invocation: Invocation) -> None:
        self._say("platform.start", {"requestId": invocation.request_id, "version": "$LATEST"}, invocation)

    def response(self, invocation: Invocation, status: int, first_byte: float, sent: int) -> None:
        """When the caller had its whole answer; seconds since the event was handed out, and body bytes."""
        invocation.sent = Sent(status, first_byte, invocation.elapsed, sent)
        fields = {
            "requestId": invocation.request_id,
            "status": status,
            "firstByteMs": milliseconds(first_byte),
            "endedMs": milliseconds(invocation.sent.ended),
            "bytes": sent,
        }
        # Not of the invocation's own log: CloudWatch has no such line.
        self._say("local.response", fields)

    def stream_error(self, invocation: Invocation, error: FunctionError) -> None:
        fields = {
            "requestId": invocation.request_id,
            "errorType": error.type,
            "error": error.payload.decode("utf-8", "backslashreplace"),
        }
        self._say("local.streamError", fields, invocation)

    def timed_out(self, invocation: Invocation, timeout: float) -> None:
        message = f"Task timed out after {timeout:.2f} seconds"
        self._say("local.timeout", {"requestId": invocation.request_id, "message": message}, invocation)

    def exited(self, invocation: Invocation, reason: str) -> None:
        fields = {"requestId": invocation.request_id, "message": reason, "errorType": "Runtime.ExitError"}
        self._say("local.exit", fields, invocation)

    def end(self, invocation: Invocation, report: Report) -> None:
        """END and REPORT, and the timeline under them.

        Since August 2025 the init phase is billed with the first invocation
        (https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/).
        """
        outcome = {"requestId": invocation.request_id, "status": report.status}
        if report.error_type is not None:
            outcome["errorType"] = report.error_type
        duration = milliseconds(report.duration)
        metrics = {
            "durationMs": duration,
            "billedDurationMs": math.ceil((report.duration + (report.init or 0)) * 1000),
            "memorySizeMB": report.memory,
        }
        if report.max_memory is not None:
            metrics["maxMemoryUsedMB"] = report.max_memory
        if report.init is not None:
            metrics["initDurationMs"] = milliseconds(report.init)
        self._say("platform.runtimeDone", {**outcome, "metrics": {"durationMs": duration}}, invocation)
        self._say("platform.report", {**outcome, "metrics": metrics}, invocation)
        self._write(self._presentation.timeline(Timeline.of(invocation, report), now()))

    def _say(self, kind: str, fields: Mapping[str, Any], invocation: Invocation | None = None) -> None:
        record = Record(kind, fields, now())
        if invocation is not None:
            kept = self._presentation.cloudwatch(record)
            if kept is not None:
                invocation.tail.line(kept)
        self._write(self._presentation.terminal(record))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except OSError as error:
            if not isinstance(error, BrokenPipeError):  # a full disk
                sys.stderr.write(f"The log cannot be written, and so this ends: {error}\n")
            # The descriptor, and not the stream: the interpreter flushes what is left in that when it ends.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
            self._unread()


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)

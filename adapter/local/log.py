from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import TextIO

from adapter.local.invocation import FunctionError, Invocation, Sent


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
    """What CloudWatch would show, line by line, on a text stream.

    The formats are those of https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html and
    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html; RESPONSE is ours.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str, invocation: Invocation | None = None) -> None:
        """A line of Lambda's or ours; of an invocation's log if one is given."""
        if invocation is not None:
            invocation.tail.line(text)
        self._stream.write(text + "\n")
        self._stream.flush()

    def function(self, text: str, invocation: Invocation | None) -> None:
        """What the function has written, in init or in an invocation: without its line end, and with any in it."""
        self.line(text, invocation)

    def init_start(self, runtime: str) -> None:
        self.line(f"INIT_START Runtime Version: {runtime.replace('python', 'python:')}")

    def init_report(self, duration: float, phase: str, status: str, error_type: str | None = None) -> None:
        """Only of an init that failed, as on Lambda; seconds in, milliseconds out."""
        error = f"\tError Type: {error_type}" if error_type else ""
        self.line(f"INIT_REPORT Init Duration: {duration * 1000:.2f} ms\tPhase: {phase}\tStatus: {status}{error}")

    def start(self, invocation: Invocation) -> None:
        self.line(f"START RequestId: {invocation.request_id} Version: $LATEST", invocation)

    def response(self, invocation: Invocation, status: int, first_byte: float, sent: int) -> None:
        """When the caller had its whole answer; seconds since the event was handed out, and body bytes."""
        invocation.sent = Sent(status, first_byte, invocation.elapsed, sent)
        self.line(
            f"RESPONSE RequestId: {invocation.request_id}\tStatus: {status}\tFirst byte: {first_byte * 1000:.2f} ms"
            f"\tEnded: {invocation.elapsed * 1000:.2f} ms\tBytes: {sent}"
        )

    def stream_error(self, invocation: Invocation, error: FunctionError) -> None:
        message = f": {error.payload.decode('utf-8', 'backslashreplace')}" if error.payload else ""
        self.line(f"RequestId: {invocation.request_id} Error in mid-stream: {error.type}{message}", invocation)

    def timed_out(self, invocation: Invocation, timeout: float) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.line(f"{now} {invocation.request_id} Task timed out after {timeout:.2f} seconds\n", invocation)

    def exited(self, invocation: Invocation, reason: str) -> None:
        self.line(f"RequestId: {invocation.request_id} Error: {reason}\nRuntime.ExitError", invocation)

    def end(self, invocation: Invocation, report: Report) -> None:
        """END and REPORT.

        Since August 2025 the init phase is billed with the first invocation
        (https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/).
        """
        fields = [
            f"REPORT RequestId: {invocation.request_id}",
            f"Duration: {report.duration * 1000:.2f} ms",
            f"Billed Duration: {math.ceil((report.duration + (report.init or 0)) * 1000)} ms",
            f"Memory Size: {report.memory} MB",
        ]
        if report.max_memory is not None:
            fields.append(f"Max Memory Used: {report.max_memory} MB")
        if report.init is not None:
            fields.append(f"Init Duration: {report.init * 1000:.2f} ms")
        if report.status in ("error", "timeout"):
            fields.append(f"Status: {report.status}")
        if report.error_type is not None:
            fields.append(f"Error Type: {report.error_type}")
        self.line(f"END RequestId: {invocation.request_id}", invocation)
        self.line("\t".join(fields), invocation)

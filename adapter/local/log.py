from __future__ import annotations

import datetime
import math
from typing import TextIO

from adapter.local.invocation import FunctionError, Invocation


class Log:
    """What CloudWatch would show, line by line, on a text stream.

    The formats are those of https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html and
    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html; RESPONSE is ours.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def init_start(self, runtime: str) -> None:
        self.line(f"INIT_START Runtime Version: {runtime.replace('python', 'python:')}")

    def init_report(self, duration: float, phase: str, status: str, error_type: str | None = None) -> None:
        """Only of an init that failed, as on Lambda; seconds in, milliseconds out."""
        error = f"\tError Type: {error_type}" if error_type else ""
        self.line(f"INIT_REPORT Init Duration: {duration * 1000:.2f} ms\tPhase: {phase}\tStatus: {status}{error}")

    def start(self, invocation: Invocation) -> None:
        self.line(f"START RequestId: {invocation.request_id} Version: $LATEST")

    def response(self, invocation: Invocation, status: int, first_byte: float, sent: int) -> None:
        """When the caller had its whole answer; seconds since the event was handed out, and body bytes."""
        self.line(
            f"RESPONSE RequestId: {invocation.request_id}\tStatus: {status}\tFirst byte: {first_byte * 1000:.2f} ms"
            f"\tEnded: {invocation.elapsed * 1000:.2f} ms\tBytes: {sent}"
        )

    def stream_error(self, invocation: Invocation, error: FunctionError) -> None:
        message = f": {error.payload.decode('utf-8', 'backslashreplace')}" if error.payload else ""
        self.line(f"RequestId: {invocation.request_id} Error in mid-stream: {error.type}{message}")

    def timed_out(self, invocation: Invocation, timeout: float) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.line(f"{now} {invocation.request_id} Task timed out after {timeout:.2f} seconds\n")

    def exited(self, invocation: Invocation, reason: str) -> None:
        self.line(f"RequestId: {invocation.request_id} Error: {reason}\nRuntime.ExitError")

    def end(
        self,
        invocation: Invocation,
        *,
        duration: float,
        memory: int,
        max_memory: int | None,
        init: float | None,
        status: str | None,
    ) -> None:
        """END and REPORT. Durations in seconds, memory in MB; `init` on an environment's first invocation only.

        Since August 2025 the init phase is billed with the first invocation
        (https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/).
        """
        report = [
            f"REPORT RequestId: {invocation.request_id}",
            f"Duration: {duration * 1000:.2f} ms",
            f"Billed Duration: {math.ceil((duration + (init or 0)) * 1000)} ms",
            f"Memory Size: {memory} MB",
        ]
        if max_memory is not None:
            report.append(f"Max Memory Used: {max_memory} MB")
        if init is not None:
            report.append(f"Init Duration: {init * 1000:.2f} ms")
        if status is not None:
            report.append(status)
        self.line(f"END RequestId: {invocation.request_id}")
        self.line("\t".join(report))

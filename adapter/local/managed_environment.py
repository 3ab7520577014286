from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

from adapter.local.configuration import Configuration
from adapter.local.environment import LAST_WORDS, TERMINATION
from adapter.local.invocation import FunctionError, Invocation, describe
from adapter.local.log import Log, Report
from adapter.local.log_socket import LogSocket
from adapter.local.managed_runtime_api import ManagedRuntimeAPI, Slot
from adapter.local.process import FunctionProcess
from adapter.local.runtime_api import error_payload, not_started

# Seconds, or the function's timeout if that is longer;
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html
INIT_LIMIT = 130.0


class ManagedEnvironment:
    """The execution environment of a managed instance: one process, which may fork its workers, and its Runtime API.

    `initialise`, then `run` for each slot out of `idle`, any number at a time, then `close`. It is neither frozen nor
    killed for an invocation's sake: one that takes too long is answered for, and its worker goes on.
    """

    def __init__(self, configuration: Configuration, log: Log) -> None:
        self._configuration = configuration
        self._log = log
        self._api = ManagedRuntimeAPI(configuration, log)
        self._output: LogSocket | None = None
        self._process: FunctionProcess | None = None

    @property
    def exited(self) -> asyncio.Task[int]:
        """Done when the process has ended."""
        return self._started.exited

    @property
    def exit_reason(self) -> str:
        return self._started.exit_reason

    @property
    def idle(self) -> asyncio.Queue[Slot]:
        return self._api.idle

    @property
    def workers(self) -> int:
        """How many GET /next there have been."""
        return self._api.slots

    async def initialise(self) -> FunctionError | None:
        """Start the process and wait for the first GET /next of any worker; the error if it failed."""
        self._log.init_start(self._configuration.runtime, initialization_type=self._configuration.initialization_type)
        started = time.perf_counter()
        limit = max(INIT_LIMIT, self._configuration.timeout)
        try:
            await self._api.start()
            self._output = LogSocket(self._line)
            self._process = process = await FunctionProcess.start(
                self._configuration.argv,
                cwd=self._configuration.app_dir,
                variables={
                    **self._configuration.variables(self._api.address),
                    "_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET": self._output.path,
                },
                write=self._line,
            )
        except (OSError, ValueError) as exception:
            await self.close()
            failure = not_started(exception)
            self._log.line(describe(failure))
            self._log.init_report(
                time.perf_counter() - started, "init", "error", failure.type, self._configuration.initialization_type
            )
            return failure
        initialised = asyncio.create_task(self._api.initialised.wait())
        try:
            await asyncio.wait({initialised, process.exited}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            initialised.cancel()
        duration = time.perf_counter() - started
        if self._api.initialised.is_set():
            error = self._api.init_error
        elif process.exited.done():
            error = error_payload("Runtime.ExitError", process.exit_reason)
        else:
            error = error_payload("Sandbox.Timedout", f"Init timed out after {limit:.2f} seconds")
        if error is None:
            self._drain()
            status, error_type = "success", None
        else:
            await self.close()
            status, error_type = ("timeout", None) if error.type == "Sandbox.Timedout" else ("error", error.type)
        self._log.init_report(duration, "init", status, error_type, self._configuration.initialization_type)
        return error

    async def run(self, slot: Slot, invocation: Invocation) -> None:
        """Carry one invocation through, from START to REPORT."""
        timeout, process = self._configuration.timeout, self._started
        invocation.hand_out(timeout)
        self._log.start(invocation)
        attempt = self._api.invoke(slot, invocation)
        ends: set[asyncio.Future[Any]] = {attempt.ended, process.exited}
        try:
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            duration = invocation.elapsed
            if process.exited.done() and not attempt.ended.done():
                # What its workers wrote before its end is the caller's.
                process.kill()
                await self._api.drain(max(timeout - duration, 0))
            if attempt.ended.done():
                error = attempt.ended.result()
                self._report(invocation, duration, "success" if error is None else "failure", error)
                return
            if process.exited.done():
                message, status = f"RequestId: {invocation.request_id} Error: {process.exit_reason}", "error"
                error = error_payload("Runtime.ExitError", message)
            else:
                message = f"RequestId: {invocation.request_id} Error: Task timed out after {timeout:.2f} seconds"
                error, status = error_payload("Sandbox.Timedout", message), "timeout"
            # The caller's answer first: that this error, and not what comes of it, is the one that counts.
            invocation.fail(error)
            self._api.fail(attempt, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(invocation.wait_delivered(), LAST_WORDS)
            if status == "error":
                self._log.exited(invocation, process.exit_reason)
            else:
                self._log.timed_out(invocation, timeout)
            self._report(invocation, duration, status, error)
        finally:
            if not invocation.finished.is_set():
                error = error_payload("Sandbox.Failure", "The environment was ended")
                invocation.fail(error)
                invocation.finish(error)

    async def close(self) -> None:
        """End the process and the Runtime API. If it is interrupted it can be called again."""
        if self._process is not None:
            await self._process.end(TERMINATION if self._api.extensions else 0.0)
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None
        await self._api.close()

    @property
    def _started(self) -> FunctionProcess:
        if self._process is None:
            raise RuntimeError("the environment has been initialised and not closed")
        return self._process

    def _drain(self) -> None:
        self._started.drain()
        if self._output is not None:
            self._output.drain()

    def _line(self, text: str) -> None:
        """A line of the log in JSON says which invocation wrote it; of any other nobody can tell."""
        try:
            request_id = json.loads(text)["requestId"]
        except (ValueError, TypeError, KeyError, RecursionError):
            request_id = None
        invocation = self._api.running(request_id) if isinstance(request_id, str) else None
        self._log.function(text, invocation)

    def _report(self, invocation: Invocation, duration: float, status: str, error: FunctionError | None) -> None:
        if self._process is not None:
            self._drain()
        report = Report(
            duration=duration,
            memory=self._configuration.memory,
            # As in the report of AWS's own server: the memory is that of all invocations at the time.
            max_memory=None,
            init=None,
            status=status,
            error_type=error.type if error and status == "error" else None,
        )
        self._log.end(invocation, report)
        invocation.finish(error)

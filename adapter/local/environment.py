from __future__ import annotations

import asyncio
import contextlib
import enum
import time

from adapter.local.configuration import Configuration
from adapter.local.invocation import FunctionError, Invocation, describe
from adapter.local.log import Log, Report
from adapter.local.process import FunctionProcess
from adapter.local.runtime_api import RuntimeAPI, error_payload, not_started

# How long END waits for a caller that has been cut off to be told so; a caller that reads nothing must not hold up the
# log.
LAST_WORDS = 0.1

# Seconds from SIGTERM to SIGKILL, for a process that has registered an extension; without one there is no SIGTERM.
# Documented are 500 ms (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html, Shutdown phase);
# AWS's own server gives the runtime 0.3 of 2000 ms (rapid/shutdown.go in
# https://github.com/aws/aws-lambda-runtime-interface-emulator).
TERMINATION = 0.6

# For an invocation that the local Lambda's own end has overtaken.
ENDED = error_payload("Sandbox.Failure", "The environment was ended")


class Ending(enum.Enum):
    """How a phase (init or an invocation) ended."""

    READY = "GET /next"
    INIT_ERROR = "POST /init/error"
    EXIT = "the process ended"
    TIMEOUT = "the time limit"


class Environment:
    """One execution environment: a process, its Runtime API, and what happens to them from INIT_START to the end.

    `initialise`, then `run` for each invocation while that returns True, with `freeze` when there is none to run, then
    `close`; never two of them at once.
    """

    def __init__(self, configuration: Configuration, log: Log) -> None:
        self._configuration = configuration
        self._log = log
        self._api: RuntimeAPI | None = None
        self._process: FunctionProcess | None = None
        # Shown in the first REPORT only.
        self._init_duration: float | None = None
        # The invocation in progress, or the one that is about to be run.
        self.invocation: Invocation | None = None

    @property
    def exited(self) -> asyncio.Task[int] | None:
        """Done when the process has ended; None if there is no process: its init failed or took too long."""
        return self._process.exited if self._process else None

    @property
    def exit_reason(self) -> str:
        return self._process.exit_reason if self._process else ""

    async def initialise(self, limit: float, phase: str = "init") -> FunctionError | None:
        """Start the process and wait for its first GET /next, and its extensions' first; the error if it failed.

        After an init that failed, or took longer than `limit` seconds (which is no error yet), there is no process: as
        on Lambda the init is done again in the first invocation, under the function's own timeout
        (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib; doInvoke in
        rapid/handlers.go of AWS's own server, for every kind of failure).
        """
        self._log.init_start(self._configuration.runtime, phase)
        started = time.perf_counter()
        self._api = api = RuntimeAPI(self._configuration, self._log)
        try:
            await api.start()
            self._process = process = await FunctionProcess.start(
                self._configuration.argv,
                cwd=self._configuration.app_dir,
                variables=self._configuration.variables(api.address),
                write=lambda line: self._log.function(line, self.invocation),
                framed=True,
            )
        except (OSError, ValueError) as exception:
            # The folder is gone, or the env file cannot be read: the next environment may find them as they should be.
            await self._end()
            failure = not_started(exception)
            self._log.line(describe(failure))
            self._log.init_report(time.perf_counter() - started, phase, "error", failure.type)
            return failure
        ending = await self._phase(api, process, limit)
        duration = time.perf_counter() - started
        if ending is Ending.READY:
            process.drain()
            # An init inside an invocation is part of its Duration.
            self._init_duration = duration if phase == "init" else None
            return None
        await self._end()
        if ending is Ending.TIMEOUT:
            self._log.init_report(duration, phase, "timeout")
            return None
        error = api.init_error or error_payload("Runtime.ExitError", process.exit_reason)
        self._log.init_report(duration, phase, "error", error.type)
        return error

    async def run(self, invocation: Invocation) -> bool:
        """Carry one invocation through, from START to REPORT; whether the environment can take another one."""
        timeout = self._configuration.timeout
        self.invocation = invocation
        invocation.hand_out(timeout)
        if self._process is None:
            error = await self.initialise(timeout, "invoke")
            if self._api is None or self._process is None:
                return await self._abandon(invocation, error)
        # After an init in the invocation, as AWS's own server has it.
        self._log.start(invocation)
        api, process = self._api, self._process
        if api is None:
            raise RuntimeError("an environment with a process has a Runtime API")
        process.max_memory()  # Read now for the case that the process ends: then it can no longer be asked.
        process.thaw()
        api.invoke(invocation)
        ending = await self._phase(api, process, timeout - invocation.elapsed)
        if ending is Ending.READY:
            duration = api.changed_at - invocation.handed_out
            process.drain()
            answer = invocation.answer.result()
            failed = answer if isinstance(answer, FunctionError) else None
            self._report(invocation, duration, process.max_memory(), "failure" if failed else "success", failed)
            self.invocation = None
            return True
        return await self._fail(invocation, api, process, ending)

    def freeze(self) -> None:
        """Between two invocations nothing of the function runs, unless the configuration says so.

        Of what it has left on its event loop, in threads and in child processes, everything stands still until the next
        `run` (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle).
        """
        if self._configuration.freeze and self._process is not None:
            self._process.freeze()

    async def close(self) -> None:
        """End the environment; an invocation in progress is cut off."""
        invocation, self.invocation = self.invocation, None
        if invocation is None:
            await self._end()
            return
        try:
            await self._cut_off(invocation, ENDED)
        finally:
            invocation.finish(ENDED)

    async def _cut_off(self, invocation: Invocation, error: FunctionError) -> None:
        """End the environment in the middle of an invocation; the error is for a caller who has not got everything."""
        # Before the connections are closed, so that this error and not their truncation is the one that counts.
        invocation.fail(error)
        if self._api is not None:
            self._api.cut_off()
        await self._end()

    async def _end(self) -> None:
        """End the process and the Runtime API. Can be called again if it was cancelled."""
        if self._process is not None:
            await self._process.end(TERMINATION if self._api is not None and self._api.extensions else 0.0)
            self._process = None
        if self._api is not None:
            await self._api.close()
            self._api = None

    async def _phase(self, api: RuntimeAPI, process: FunctionProcess, limit: float) -> Ending:
        changed = asyncio.create_task(api.changed.wait())
        try:
            await asyncio.wait({changed, process.exited}, timeout=max(limit, 0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        if api.changed.is_set():
            return Ending.READY if api.ready else Ending.INIT_ERROR
        return Ending.EXIT if process.exited.done() else Ending.TIMEOUT

    async def _fail(self, invocation: Invocation, api: RuntimeAPI, process: FunctionProcess, ending: Ending) -> bool:
        """The process ended, or has to, inside the invocation: what the caller gets depends on how far it was."""
        timeout = self._configuration.timeout
        duration = invocation.elapsed
        max_memory = process.max_memory()
        if ending is Ending.EXIT:
            process.kill()  # the rest of its group
            # What the process wrote before its end is the caller's.
            await api.drain(timeout - invocation.elapsed)
            error = error_payload(
                "Runtime.ExitError", f"RequestId: {invocation.request_id} Error: {process.exit_reason}"
            )
            status = "error"
        else:
            error = self._timed_out(invocation)
            status = "timeout"
        await self._cut_off(invocation, error)
        await last_words(invocation)
        if ending is Ending.EXIT:
            self._log.exited(invocation, process.exit_reason)
        else:
            self._log.timed_out(invocation, timeout)
        self._report(invocation, duration, max_memory, status, error)
        self.invocation = None
        return False

    async def _abandon(self, invocation: Invocation, error: FunctionError | None) -> bool:
        """The init failed inside the invocation."""
        duration = invocation.elapsed
        self._log.start(invocation)
        status = "error" if error else "timeout"
        error = error or self._timed_out(invocation)
        invocation.fail(error)
        await last_words(invocation)
        if status == "timeout":
            self._log.timed_out(invocation, self._configuration.timeout)
        self._report(invocation, duration, None, status, error)
        self.invocation = None
        return False

    def _timed_out(self, invocation: Invocation) -> FunctionError:
        message = f"RequestId: {invocation.request_id} Error: Task timed out after "
        return error_payload("Sandbox.Timedout", f"{message}{self._configuration.timeout:.2f} seconds")

    def _report(
        self,
        invocation: Invocation,
        duration: float,
        max_memory: int | None,
        status: str,
        error: FunctionError | None,
    ) -> None:
        report = Report(
            duration=duration,
            memory=self._configuration.memory,
            max_memory=max_memory,
            init=self._init_duration,
            status=status,
            error_type=error.type if error and status == "error" else None,
        )
        self._init_duration = None
        self._log.end(invocation, report)
        invocation.finish(error)


async def last_words(invocation: Invocation) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(invocation.wait_delivered(), LAST_WORDS)

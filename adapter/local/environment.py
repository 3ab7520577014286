from __future__ import annotations

import asyncio
import contextlib
import enum
import time

from adapter.local.configuration import Configuration
from adapter.local.invocation import FunctionError, Invocation
from adapter.local.log import Log, Report
from adapter.local.process import FunctionProcess
from adapter.local.runtime_api import RuntimeAPI, error_payload

# How long END waits for a caller that has been cut off to be told so; a caller that reads nothing must not hold up the
# log.
LAST_WORDS = 0.1


class Ending(enum.Enum):
    """How a phase (init or an invocation) ended."""

    READY = "GET /next"
    INIT_ERROR = "POST /init/error"
    EXIT = "the process ended"
    TIMEOUT = "the time limit"


class Environment:
    """One execution environment: a process, its Runtime API, and what happens to them from INIT_START to the end.

    `initialise`, then `run` for each invocation while that returns True, then `close`; never two of them at once.
    """

    def __init__(self, configuration: Configuration, log: Log) -> None:
        self._configuration = configuration
        self._log = log
        self._api: RuntimeAPI | None = None
        self._process: FunctionProcess | None = None
        # Shown in the first REPORT only.
        self._init_duration: float | None = None
        # The invocation in progress, for those who want to know whether this environment is about to be free.
        self.invocation: Invocation | None = None

    @property
    def exited(self) -> asyncio.Task[int] | None:
        """Done when the process has ended; None if there is no process (its init took too long)."""
        return self._process.exited if self._process else None

    @property
    def exit_reason(self) -> str:
        return self._process.exit_reason if self._process else ""

    async def initialise(self, limit: float, phase: str = "init") -> FunctionError | None:
        """Start the process and wait for its first GET /next; the error if it failed.

        An init that takes longer than `limit` seconds is no error yet: as on Lambda the process is killed, and the init
        is done again in the first invocation, under the function's own timeout.
        """
        self._log.init_start(self._configuration.runtime, phase)
        started = time.perf_counter()
        self._api = api = RuntimeAPI(self._log)
        await api.start()
        self._process = process = await FunctionProcess.start(
            self._configuration.argv,
            cwd=self._configuration.app_dir,
            variables=self._configuration.variables(api.address),
            write=lambda line: self._log.function(line, self.invocation),
        )
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
        # Freezing belongs here: the process continues with the event (SIGCONT) and stops when run returns (SIGSTOP).
        self.invocation = invocation
        invocation.hand_out(timeout)
        self._log.start(invocation)
        if self._process is None:
            error = await self.initialise(timeout, "invoke")
            if self._api is None or self._process is None:
                return await self._abandon(invocation, error)
        api, process = self._api, self._process
        if api is None:
            raise RuntimeError("an environment with a process has a Runtime API")
        process.max_memory()  # Read now for the case that the process ends: then it can no longer be asked.
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

    async def close(self) -> None:
        """End the environment, at once; an invocation in progress is cut off."""
        await self._end()
        if self.invocation is not None:
            error = error_payload("Sandbox.Failure", "The environment was ended")
            self.invocation.fail(error)
            self.invocation.finish(error)
            self.invocation = None

    async def _end(self) -> None:
        """End the process and the Runtime API."""
        api, process = self._api, self._process
        self._api = self._process = None
        if process is not None:
            await process.end()
        if api is not None:
            await api.close()

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
        process.kill()
        if ending is Ending.EXIT:
            # What the process wrote before its end is the caller's.
            await api.drain(timeout - invocation.elapsed)
            error = error_payload(
                "Runtime.ExitError", f"RequestId: {invocation.request_id} Error: {process.exit_reason}"
            )
            status = "error"
        else:
            message = f"RequestId: {invocation.request_id} Error: Task timed out after {timeout:.2f} seconds"
            error = error_payload("Sandbox.Timedout", message)
            status = "timeout"
        # Before the connections are closed, so that this error and not their truncation is the one that counts.
        invocation.fail(error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(invocation.wait_delivered(), LAST_WORDS)
        await self._end()
        if ending is Ending.EXIT:
            self._log.exited(invocation, process.exit_reason)
        else:
            self._log.timed_out(invocation, timeout)
        self._report(invocation, duration, max_memory, status, error)
        self.invocation = None
        return False

    async def _abandon(self, invocation: Invocation, error: FunctionError | None) -> bool:
        """The init failed inside the invocation."""
        timeout = self._configuration.timeout
        if error is None:
            self._log.timed_out(invocation, timeout)
            error = error_payload("Sandbox.Timedout", f"Task timed out after {timeout:.2f} seconds")
        invocation.fail(error)
        await invocation.wait_delivered()
        self._report(invocation, invocation.elapsed, None, "error", error)
        self.invocation = None
        return False

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

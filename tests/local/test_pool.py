"""Which environment takes an invocation, who waits for how long, and that every invocation ends, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import adapter.local.function as function_module
from adapter.local.configuration import Configuration
from adapter.local.function import Function
from adapter.local.invocation import ConcurrencyLimitError, FunctionError, Invocation, Response
from adapter.local.log import Log

from .conftest import FUNCTIONS, PATIENCE, SCRIPTED, Gate, Terminal, gone
from .test_runtime_api import Caller

EMPTY: list[list[Any]] = [["open"], ["prelude", {}], ["end"]]


class RecordingLog(Log):
    """Knows which invocation each of the function's lines belongs to."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(terminal)
        self.lines: dict[str, Invocation | None] = {}

    def function(self, text: str, invocation: Invocation | None) -> None:
        self.lines[text] = invocation
        super().function(text, invocation)


class Pool:
    """A function without a front."""

    def __init__(self, terminal: Terminal, tasks: asyncio.TaskGroup, **configuration: Any) -> None:
        self.terminal = terminal
        self.log = RecordingLog(terminal)
        self.tasks = tasks
        self.callers: dict[Invocation, Caller] = {}
        self._taking: list[asyncio.Task[None]] = []
        configured = Configuration("scripted", FUNCTIONS, **{"command": SCRIPTED, **configuration})
        self.function = Function(configured, self.log, tasks)

    async def invoke(self, *steps: list[Any]) -> tuple[Invocation, asyncio.Task[None]]:
        """An invocation that has its place, or its place in the queue; the task is the call of `Function.invoke`."""
        event = json.dumps({"body": json.dumps(steps)}).encode()
        invocation, caller = Invocation(event, "arn:f", f"request-{len(self.callers)}", "Root=1-2-3"), Caller()
        self.callers[invocation] = caller
        invoking = asyncio.create_task(self.function.invoke(invocation))
        self._taking.append(asyncio.create_task(caller.take(invocation)))
        await asyncio.sleep(0)
        return invocation, invoking

    async def finished(self, invocation: Invocation) -> FunctionError | None:
        await asyncio.wait_for(invocation.finished.wait(), PATIENCE)
        return invocation.outcome

    async def close(self) -> None:
        await self.function.close()
        for task in self._taking:
            task.cancel()


@contextlib.asynccontextmanager
async def pool(terminal: Terminal, **configuration: Any) -> AsyncIterator[Pool]:
    async with asyncio.TaskGroup() as tasks:
        pool = Pool(terminal, tasks, **configuration)
        try:
            yield pool
        finally:
            await pool.close()


async def test_first_come_first_served(terminal: Terminal, gate: Gate) -> None:
    async with pool(terminal, max_environments=1, queue=PATIENCE) as function:
        await function.invoke(["gate", gate.port], *EMPTY)
        _, go_on = await gate.reached()
        waiting = [await function.invoke(["print", f"number {number}"], *EMPTY) for number in range(5)]
        assert not any(invoking.done() for _, invoking in waiting)
        go_on()
        for invocation, invoking in waiting:
            assert await function.finished(invocation) is None
            await invoking
        assert await terminal.until(r"^number (\d)$", 5) == list("01234")
        assert terminal.getvalue().count("INIT_START") == 1


async def test_one_whose_time_is_up_leaves_the_queue(terminal: Terminal, gate: Gate) -> None:
    async with pool(terminal, max_environments=1, queue=0.3) as function:
        held, _ = await function.invoke(["gate", gate.port], *EMPTY)
        _, go_on = await gate.reached()
        early, invoking = await function.invoke(["print", "early"], *EMPTY)
        with pytest.raises(ConcurrencyLimitError):
            await invoking
        late, invoking = await function.invoke(["print", "late"], *EMPTY)
        go_on()
        await invoking
        assert await function.finished(held) is None
        assert await function.finished(late) is None
        assert not early.taken.done()
        assert "early" not in terminal.getvalue()


@pytest.mark.parametrize("end", [["exit", 1], ["hang"]])
async def test_a_fresh_environment_takes_what_waits_for_one_that_has_ended(
    terminal: Terminal, gate: Gate, end: list[Any]
) -> None:
    async with pool(terminal, max_environments=1, queue=PATIENCE, timeout=1) as function:
        first, _ = await function.invoke(["gate", gate.port], end)
        _, go_on = await gate.reached()
        waiting = [(await function.invoke(*EMPTY))[0] for _ in range(3)]
        go_on()
        assert await function.finished(first) is not None
        assert [await function.finished(invocation) for invocation in waiting] == [None, None, None]
        assert terminal.getvalue().count("INIT_START") == 2


async def test_one_for_whom_an_environment_starts_is_not_refused(terminal: Terminal, gate: Gate) -> None:
    init = {"RUNTIME_INIT": f"gate={gate.port}"}
    async with pool(terminal, max_environments=2, queue=1, settings=init) as function:
        for _ in range(2):
            await function.invoke(["gate", gate.port], ["exit", 1])
        for go_on in [(await gate.reached())[1] for _ in range(2)]:
            go_on()
        busy = [(await gate.reached())[1] for _ in range(2)]
        waiting = [await function.invoke(*EMPTY) for _ in range(3)]
        for go_on in busy:
            go_on()
        # Two start, for the first two of those that wait.
        starting = [(await gate.reached())[1] for _ in range(2)]
        with pytest.raises(ConcurrencyLimitError):
            await waiting[2][1]
        for go_on in starting:
            go_on()
        for invocation, invoking in waiting[:2]:
            await invoking
            assert await function.finished(invocation) is None


async def test_an_init_that_fails_is_done_again_in_the_invocation(terminal: Terminal, tmp_path: Any) -> None:
    settings = {"RUNTIME_INIT": f"fail_once={tmp_path}/failed"}
    async with pool(terminal, settings=settings) as function:
        invocation, _ = await function.invoke(["print", "invoked"], *EMPTY)
        assert await function.finished(invocation) is None
        await terminal.until(
            r"\AINIT_START .*\n"
            r"INIT_REPORT .*\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"
            r"INIT_START .*\n"
            r"START RequestId: request-0 .*\n"
            r"invoked\n"
        )
        (report,) = await terminal.until("^REPORT .*")
        assert "Init Duration" not in report


async def test_an_init_that_fails_again_in_the_invocation(terminal: Terminal) -> None:
    async with pool(terminal, settings={"RUNTIME_INIT": "fail=error"}) as function:
        for number in range(2):
            invocation, _ = await function.invoke(*EMPTY)
            outcome = await function.finished(invocation)
            assert outcome is not None
            assert outcome.type == "Runtime.NoTea"
            assert function.callers[invocation].answer is outcome
            # The next one begins with an environment of its own.
            await terminal.until(
                rf"^INIT_REPORT .*\tPhase: invoke\tStatus: error\tError Type: Runtime.NoTea\n"
                rf"START RequestId: request-{number} .*\n"
                rf"END RequestId: request-{number}\n"
                rf"REPORT RequestId: request-{number}\t.*\tStatus: error\tError Type: Runtime.NoTea$"
            )
        assert terminal.getvalue().count("Phase: init") == 2


ERROR = {"Lambda-Runtime-Function-Error-Type": "Function.Oops"}


@pytest.mark.parametrize(
    ("steps", "answer", "outcome", "status"),
    [
        (EMPTY, "whole", None, None),
        ([["post", "response", "{}", {}]], "whole", None, None),
        ([["post", "error", "{}", ERROR]], "Function.Oops", "Function.Oops", None),
        ([["post", "response", "{}", {"Lambda-Runtime-Function-Response-Mode": "other"}], ["exit", 0]],)
        + ("Runtime.InvalidResponseModeHeader", "Runtime.ExitError", "error"),
        ([["exit", 3]], "Runtime.ExitError", "Runtime.ExitError", "error"),
        ([["open"], ["prelude", {}], ["exit", 3]], "Runtime.TruncatedResponse", "Runtime.ExitError", "error"),
        ([*EMPTY, ["exit", 3]], "whole", "Runtime.ExitError", "error"),
        ([["hang"]], "Sandbox.Timedout", "Sandbox.Timedout", "timeout"),
        ([["open"], ["prelude", {}], ["hang"]], "Sandbox.Timedout", "Sandbox.Timedout", "timeout"),
        ([*EMPTY, ["hang"]], "whole", "Sandbox.Timedout", "timeout"),
        ([["post", "error", "{}", ERROR], ["hang"]], "Function.Oops", "Sandbox.Timedout", "timeout"),
    ],
)
async def test_how_an_invocation_ends(
    terminal: Terminal, steps: list[list[Any]], answer: str, outcome: str | None, status: str | None
) -> None:
    """For the caller, whose answer ends whole or with an error, and for those who wait for the end of the whole."""
    async with pool(terminal, timeout=0.5) as function:
        invocation, _ = await function.invoke(*steps)
        ended = await function.finished(invocation)
        assert (ended.type if ended else None) == outcome
        caller = function.callers[invocation]
        assert (caller.error.type if caller.error else "whole") == answer
        (report,) = await terminal.until("^REPORT .*")
        assert ("Status" in report) is (status is not None)
        assert f"\tStatus: {status}" in report or status is None
        # It is usable afterwards, whatever it was.
        following, _ = await function.invoke(*EMPTY)
        assert await function.finished(following) is None


async def test_an_init_in_the_invocation_that_takes_too_long(
    terminal: Terminal, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function_module, "INIT_LIMIT", 0.3)
    async with pool(terminal, timeout=0.5, settings={"RUNTIME_INIT": f"gate={gate.port}"}) as function:
        invocation, _ = await function.invoke(*EMPTY)
        outcome = await function.finished(invocation)
        assert outcome is not None
        assert outcome.type == "Sandbox.Timedout"
        assert b"Error: Task timed out after 0.50 seconds" in outcome.payload
        await terminal.until(
            r"\tPhase: init\tStatus: timeout\nINIT_START .*\nINIT_REPORT .*\tPhase: invoke\tStatus: timeout\n"
            r"START .*\n.* Task timed out after 0.50 seconds\n\nEND .*\nREPORT .*\tStatus: timeout$"
        )


async def test_close_ends_the_one_that_runs_and_those_that_wait(terminal: Terminal, gate: Gate) -> None:
    async with pool(terminal, max_environments=1, queue=PATIENCE) as function:
        running, _ = await function.invoke(["open"], ["prelude", {}], ["gate", gate.port])
        pid, _ = await gate.reached()
        waiting = [await function.invoke(*EMPTY) for _ in range(2)]
        await function.function.close()
        for invocation in (running, *(invocation for invocation, _ in waiting)):
            outcome = await function.finished(invocation)
            assert outcome is not None
            assert outcome.type == "Sandbox.Failure"
        for _, invoking in waiting:
            await invoking
        answer = function.callers[running].answer
        assert isinstance(answer, Response)
        assert answer.error is running.outcome
        await gone(pid)
        # What comes now ends the same way.
        late, invoking = await function.invoke(*EMPTY)
        await invoking
        assert (await function.finished(late) or FunctionError("")).type == "Sandbox.Failure"
        assert terminal.getvalue().count("INIT_START") == 1


async def test_close_before_an_environment_has_come_to_run_what_it_was_given(terminal: Terminal) -> None:
    async with pool(terminal) as function:
        assert await function.function.start() is None
        invocation = Invocation(b"{}", "arn:f", "request-0", "")
        await function.function.invoke(invocation)
        assert invocation.taken.done()
        await function.function.close()
        assert (await function.finished(invocation) or FunctionError("")).type == "Sandbox.Failure"
        assert "START RequestId" not in terminal.getvalue()


async def test_close_while_an_environment_starts(terminal: Terminal, gate: Gate) -> None:
    async with pool(terminal, settings={"RUNTIME_INIT": f"gate={gate.port}"}) as function:
        invocation, _ = await function.invoke(*EMPTY)
        pid, _ = await gate.reached()
        await function.function.close()
        assert (await function.finished(invocation) or FunctionError("")).type == "Sandbox.Failure"
        await gone(pid)


async def test_reload_while_an_environment_starts(terminal: Terminal, gate: Gate) -> None:
    async with pool(terminal, settings={"RUNTIME_INIT": f"gate={gate.port}"}) as function:
        invocation, _ = await function.invoke(*EMPTY)
        pid, _ = await gate.reached()
        function.function.reload()
        other, go_on = await gate.reached()
        assert other != pid
        go_on()
        assert await function.finished(invocation) is None
        await gone(pid)


async def test_reload_at_the_cap(terminal: Terminal, gate: Gate) -> None:
    """The old environment finishes its invocation; a new one takes what waits, meanwhile."""
    async with pool(terminal, max_environments=1, queue=PATIENCE) as function:
        running, _ = await function.invoke(["gate", gate.port], *EMPTY)
        pid, go_on = await gate.reached()
        waiting, _ = await function.invoke(*EMPTY)
        function.function.reload()
        assert await function.finished(waiting) is None
        assert not running.finished.is_set()
        go_on()
        assert await function.finished(running) is None
        await gone(pid)


async def test_an_environment_with_nothing_to_do_ends(terminal: Terminal, gate: Gate) -> None:
    async with pool(terminal, idle=0.2) as function:
        first, _ = await function.invoke(["gate", gate.port], *EMPTY)
        pid, go_on = await gate.reached()
        go_on()
        assert await function.finished(first) is None
        await terminal.until("^An environment has had nothing to do for 0.2 seconds and ends$")
        await gone(pid)
        second, _ = await function.invoke(*EMPTY)
        assert await function.finished(second) is None
        assert terminal.getvalue().count("INIT_START") == 2


async def test_which_invocation_a_line_belongs_to(terminal: Terminal, gate: Gate) -> None:
    async with pool(terminal, freeze=False, settings={"RUNTIME_INIT": "say=in the init"}) as function:
        first, _ = await function.invoke(["print", "in the first"], *EMPTY, ["later", gate.port, "between the two"])
        assert await function.finished(first) is None
        _, go_on = await gate.reached()
        go_on()
        await terminal.until("^between the two$")
        second, _ = await function.invoke(["print", "in the second"], *EMPTY, ["print", "after its response"])
        assert await function.finished(second) is None
    lines = function.log.lines
    assert lines["in the init"] is None
    assert lines["in the first"] is first
    assert lines["between the two"] is None
    assert lines["in the second"] is lines["after its response"] is second


async def test_lines_of_an_init_in_the_invocation_belong_to_it(terminal: Terminal, tmp_path: Any) -> None:
    settings = {"RUNTIME_INIT": f"fail_once={tmp_path}/failed;say=again"}
    async with pool(terminal, settings=settings) as function:
        invocation, _ = await function.invoke(*EMPTY)
        assert await function.finished(invocation) is None
    assert function.log.lines["again"] is invocation
    assert bytes(invocation.tail).startswith(b"again\nSTART RequestId: request-0 ")

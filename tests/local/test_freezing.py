"""Between two invocations nothing of the function runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import PATIENCE, Gate, alive, gone, local_lambda

EMPTY: list[list[Any]] = [["open"], ["prelude", {}], ["end"]]


def stopped(pid: int) -> bool:
    """The process's state, as the kernel has it (proc(5)): T is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def until_stopped(pid: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while not stopped(pid):
            await asyncio.sleep(0.001)


async def test_frozen_after_the_init(gate: Gate) -> None:
    async with local_lambda(settings={"RUNTIME_INIT": f"gate={gate.port}"}) as url:
        pid, go_on = await gate.reached()
        assert not stopped(pid)
        go_on()
        await url.terminal.until("^Function URL")
        await until_stopped(pid)
        assert (await url.run(*EMPTY)).status_code == 200


async def test_frozen_after_an_invocation_with_all_that_it_has_started(gate: Gate) -> None:
    async with local_lambda() as url:
        for count in (1, 2):
            request = asyncio.create_task(url.run(["gate", gate.port], *EMPTY, ["child"], ["gate", gate.port]))
            pid, go_on = await gate.reached()
            assert not stopped(pid)
            go_on()
            assert (await request).status_code == 200
            # The caller has its answer; the invocation is not over.
            again, go_on = await gate.reached()
            assert again == pid
            assert not stopped(pid)
            go_on()
            await url.terminal.until("^REPORT", count)
            await until_stopped(pid)
            for child in await url.terminal.until(r"^child (\d+)$", count):
                await until_stopped(int(child))
    await gone(pid)
    for child in re.findall(r"^child (\d+)$", url.terminal.getvalue(), re.MULTILINE):
        await gone(int(child))


async def test_not_frozen_if_the_configuration_says_so(gate: Gate) -> None:
    async with local_lambda(freeze=False, settings={"RUNTIME_INIT": "on_signal=exit"}) as url:
        for count in (1, 2):
            request = asyncio.create_task(url.run(["gate", gate.port], *EMPTY))
            pid, go_on = await gate.reached()
            go_on()
            await request
            await url.terminal.until("^REPORT", count)
        assert alive(pid)
        assert not stopped(pid)
        assert "signal SIGCONT" not in url.terminal.getvalue()


async def test_an_environment_for_an_invocation_that_waits_is_not_frozen_before_it(gate: Gate) -> None:
    async with local_lambda(settings={"RUNTIME_INIT": "on_signal=exit"}) as url:
        first = asyncio.create_task(url.run(["print", "first"], ["gate", gate.port], *EMPTY))
        _, go_on = await gate.reached()
        second = asyncio.create_task(url.run(["print", "second"], ["gate", gate.port], *EMPTY))
        _, go_on_too = await gate.reached()
        # Only the one that was started before there was an invocation has been frozen, and continued.
        await url.terminal.until("^second$")
        assert url.terminal.getvalue().count("signal SIGCONT") == 1
        go_on()
        go_on_too()
        await first
        await second
        await url.terminal.until("^REPORT", 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_while_frozen(gate: Gate, number: signal.Signals) -> None:
    async with local_lambda() as url:
        request = asyncio.create_task(url.run(*EMPTY, ["gate", gate.port]))
        pid, go_on = await gate.reached()
        await request
        go_on()
        await url.terminal.until("^REPORT")
        await until_stopped(pid)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            await url.terminal.until("^Runtime exited with error: signal: killed, between two invocations$")
            assert (await url.run(*EMPTY)).status_code == 200
        else:
            # It is pending until the process continues, which is with the next event.
            assert stopped(pid)
            assert (await url.run(*EMPTY)).status_code == 502
            await url.terminal.until("^RequestId: .* Error: Runtime exited with error: signal: terminated$")
            assert (await url.run(*EMPTY)).status_code == 200


@pytest.mark.parametrize("freeze", [True, False])
async def test_what_a_mangum_handler_leaves_behind_stands_still_until_the_next_request(freeze: bool) -> None:
    """An orphan asyncio task and a thread, both of which note the time at each of their ticks.

    Mangum runs its event loop only while it has a request: there the task stops with the response, frozen or not. The
    thread shows that the process does.
    """
    async with local_lambda("main.mangum", scripted=False, freeze=freeze) as url:

        async def ticks(count: int) -> Any:
            # The whole proxy result: this is what a RESPONSE_STREAM function URL makes of one.
            result = json.loads((await url.client.get("/orphans")).json()["body"])
            await url.terminal.until("^REPORT", count)
            return result

        pid = (await ticks(1))["pid"]
        if freeze:
            await until_stopped(pid)
        since = time.time()
        await asyncio.sleep(0.3)
        assert stopped(pid) is freeze
        until = time.time()
        after = await ticks(2)
        assert after["pid"] == pid
        for what in ("task", "thread"):
            # Both went on: the handler waits for that.
            assert after[what][0] < since
            assert after[what][-1] > until
        assert [tick for tick in after["task"] if since < tick < until] == []
        assert (len([tick for tick in after["thread"] if since < tick < until]) == 0) is freeze

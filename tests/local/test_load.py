"""Many callers at one time: nobody is lost, the cap holds, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from .conftest import PATIENCE, Gate, local_lambda

SECOND: list[list[Any]] = [["sleep", 1], ["open"], ["prelude", {}], ["chunk", "done"], ["end"]]
SHORT: list[list[Any]] = [["sleep", 0.02], ["open"], ["prelude", {}], ["chunk", "done"], ["end"]]


def most_at_one_time(log: str) -> int:
    """Invocations that had a START and no REPORT yet."""
    running = most = 0
    for word in re.findall("^(START|REPORT) RequestId", log, re.MULTILINE):
        running += 1 if word == "START" else -1
        most = max(most, running)
    assert running == 0
    return most


def children() -> set[int]:
    """This process's, on Linux."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


async def test_a_hundred_requests_and_twenty_environments_with_a_queue() -> None:
    async with local_lambda(max_environments=20, queue=PATIENCE) as url:
        replies = await asyncio.gather(*(url.run(*SECOND) for _ in range(100)))
        assert Counter((reply.status_code, reply.text) for reply in replies) == {(200, "done"): 100}
        await url.terminal.until("^REPORT", 100)
        assert most_at_one_time(url.terminal.getvalue()) == 20
        assert url.terminal.getvalue().count("INIT_START") == 20


async def test_a_hundred_requests_and_twenty_environments_without(gate: Gate) -> None:
    async with local_lambda(max_environments=20) as url:
        requests = {asyncio.create_task(url.run(["gate", gate.port], *SHORT)) for _ in range(100)}
        held = [await gate.reached() for _ in range(20)]
        refused: set[asyncio.Task[httpx.Response]] = set()
        while len(refused) < 80:
            done, _ = await asyncio.wait(requests - refused, return_when=asyncio.FIRST_COMPLETED)
            refused |= done
        assert {request.result().status_code for request in refused} == {429}
        for _, go_on in held:
            go_on()
        replies = await asyncio.gather(*requests - refused)
        assert Counter((reply.status_code, reply.text) for reply in replies) == {(200, "done"): 20}
        await url.terminal.until("^REPORT", 20)
        assert most_at_one_time(url.terminal.getvalue()) == 20


async def test_processes_that_are_killed_at_random() -> None:
    before = children()
    chance = random.Random(0)
    killed = 0

    async def kill() -> None:
        nonlocal killed
        while True:
            if own := sorted(children() - before):
                os.kill(chance.choice(own), signal.SIGKILL)
                killed += 1
            await asyncio.sleep(0.05)

    async with local_lambda(max_environments=8, queue=PATIENCE) as url:
        await url.terminal.until("^Function URL")  # It would not come up, were the first one killed in its init.
        killing = asyncio.create_task(kill())
        replies = await asyncio.gather(*(url.run(*SHORT) for _ in range(150)))
        killing.cancel()
        # Whole, broken off or not begun: each has its answer.
        assert {reply.status_code for reply in replies} == {200, 502}
        assert {reply.text for reply in replies if reply.status_code == 200} <= {"done", ""}
        # One that was killed while idle may not have been noticed yet, by its one caller.
        assert [(await url.run(*SHORT)).text for _ in range(9)][-1] == "done"
        await url.terminal.until("^REPORT", 159)
        assert most_at_one_time(url.terminal.getvalue()) <= 8
        assert killed > 0
    assert children() == before

"""Managed Instances: one process with one event loop beside awslambdaric's process for each concurrent invocation."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from .concurrent_api import Processes, RuntimeApi, encoded
from .events import JSON, event
from .peers import RUNTIME_MODE
from .results import Results, compare
from .runtime_api import RIC, RUNTIME

AT_ONCE = 64
FORKED = f"awslambdaric, {AT_ONCE} processes"
_SECTION = f"Managed Instances, {AT_ONCE} invocations at once"
_ENVIRONMENT = {
    "AWS_LAMBDA_MAX_CONCURRENCY": str(AT_ONCE),
    "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
    "AWS_LAMBDA_LOG_FORMAT": "JSON",
}
_COMMANDS: dict[str, Sequence[str]] = {
    RUNTIME_MODE: (*RUNTIME, "ours.handler"),
    FORKED: (*RIC, "mangums.handler"),
}
_SLEEP = encoded(event("/sleep", "seconds=1"))
_BURN = encoded(event("/burn", "milliseconds=5"))
_JSON = encoded(JSON)


class Figures(NamedTuple):
    """Of one start."""

    cold: float  # seconds until all invocations could be taken
    slept: float  # seconds for AT_ONCE invocations of 1 s
    pss: float  # MB meanwhile
    pinned: float  # invocations of 5 ms of CPU, a second, on one core
    spent: float  # milliseconds of CPU for each of them
    free: float  # the same a second, on all cores


def measure(results: Results, rounds: int, blocks: int) -> None:
    turns = [asyncio.run(_turn(blocks)) for _ in range(rounds)]
    for what, unit, index, limits in (
        ("cold start, until all can be taken", "s", 0, {"most": 1 / 20}),
        ("memory (PSS), all of them at work", "MB", 2, {"most": 1 / 30}),
        (f"{AT_ONCE} invocations of 1 s, all answered", "s", 1, {}),
        ("a route with 5 ms of CPU, on one core", "a second", 3, {"least": 1.0}),
        ("the CPU for each", "ms", 4, {}),
        (f"the same on all {os.cpu_count()} cores", "a second", 5, {}),
    ):
        ours, theirs = ([turn[name][index] for turn in turns] for name in (RUNTIME_MODE, FORKED))
        results.rows.append(compare(_SECTION, f"{what}, {RUNTIME_MODE}", unit, ours, FORKED, theirs, **limits))
    results.series["managed"] = {
        name: {field: statistics.median(getattr(turn[name], field) for turn in turns) for field in Figures._fields}
        for name in _COMMANDS
    }


async def _turn(blocks: int) -> dict[str, Figures]:
    """One start of each, one after the other; then blocks of work in turn, with both alive."""
    cores = sorted(os.sched_getaffinity(0))
    async with RuntimeApi() as api, RuntimeApi() as their_api:
        apis = {RUNTIME_MODE: api, FORKED: their_api}
        alive: dict[str, Processes] = {}
        starts: dict[str, tuple[float, float, float]] = {}
        try:
            for name, command in _COMMANDS.items():
                apis[name].on_demand = False
                alive[name] = Processes(command, apis[name].address, _ENVIRONMENT)
                starts[name] = await _start(alive[name], apis[name])
            pinned = await _blocks(alive, apis, blocks, cores[-1:], cores[:1])
            free = await _blocks(alive, apis, blocks, cores, cores)
        finally:
            for processes in alive.values():
                processes.__exit__()
            os.sched_setaffinity(0, cores)
    return {name: Figures(*starts[name], *pinned[name], free[name][0]) for name in _COMMANDS}


async def _start(processes: Processes, api: RuntimeApi) -> tuple[float, float, float]:
    ready = asyncio.create_task(api.ready(AT_ONCE))
    while not ready.done():
        await asyncio.wait((ready,), timeout=1)
        if (status := processes.process.poll()) is not None:
            raise SystemExit(f"{processes.process.args!r} has ended with {status}")
    cold = time.perf_counter() - processes.started
    await _together(api, _JSON, AT_ONCE)
    begun = time.perf_counter()
    answers = [api.invoke(_SLEEP) for _ in range(AT_ONCE)]
    await asyncio.sleep(0.5)
    pss = processes.pss()
    await asyncio.gather(*answers)
    return cold, time.perf_counter() - begun, pss


async def _blocks(
    alive: dict[str, Processes], apis: dict[str, RuntimeApi], blocks: int, cores: list[int], own: list[int]
) -> dict[str, tuple[float, float]]:
    """Medians of invocations a second, and of milliseconds of CPU for each."""
    for processes in alive.values():
        processes.pin(set(cores))
    os.sched_setaffinity(0, own)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in alive}
    for _ in range(blocks):
        for name, processes in alive.items():
            begun, before = time.perf_counter(), processes.cpu()
            times = AT_ONCE * 4
            await _together(apis[name], _BURN, times)
            rate = times / (time.perf_counter() - begun)
            figures[name].append((rate, (processes.cpu() - before) / times * 1e3))
    return {
        name: (statistics.median(rate for rate, _ in found), statistics.median(spent for _, spent in found))
        for name, found in figures.items()
    }


async def _together(api: RuntimeApi, payload: bytes, times: int) -> None:
    answers = await asyncio.gather(*(api.invoke(payload) for _ in range(times)))
    await api.ready(AT_ONCE)
    if wrong := [answer for answer in answers if answer.kind != "response"]:
        print(f"{len(wrong)} of {times} invocations were not answered by a response: {wrong[0]}", file=sys.stderr)

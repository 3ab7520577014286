"""Processor time of an invocation, user and system, of all that serve the same JSON route."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from .events import IN_A_THREAD, WITH_BACKGROUND
from .peers import (
    DIRECT,
    HANDLER_MODE,
    LEAST_HANDLER,
    LEAST_RUNTIME,
    MANGUM,
    MANGUM_WITHOUT,
    NODE,
    RIC,
    RUNTIME_MODE,
    RUNTIME_PLAIN,
    Peer,
    adapters_alone,
    cpu_peers,
    on_one_core,
    running,
    uvicorn,
    why_no_node,
    with_event,
)
from .results import Results, compare

SECTION = "CPU per invocation, JSON route"
THREADS = {
    "CPU per invocation, def route": IN_A_THREAD,
    "CPU per invocation, async route with a def background task": WITH_BACKGROUND,
}
"""Sections of routes that use a worker thread, with their events."""
NOTHING = "CPU per invocation, an app that does nothing"


def measure(results: Results, starts: int) -> None:
    """Of FastAPI's JSON route, of which the app is a large part; of routes that use a worker thread; and of as little
    of an app as there can be.
    """
    _json_route(results, _costs(cpu_peers(), starts))
    for section, event in THREADS.items():
        costs = _costs(with_event(event), starts)
        for ours in (HANDLER_MODE, RUNTIME_MODE):
            results.rows.append(compare(section, ours, "us", costs[ours], MANGUM, costs[MANGUM], most=0.65))
    costs = _costs(adapters_alone(), starts)
    for ours, most in ((HANDLER_MODE, 0.75), (RUNTIME_MODE, 0.45), (RUNTIME_PLAIN, 0.45)):
        results.rows.append(compare(NOTHING, ours, "us", costs[ours], MANGUM, costs[MANGUM], most=most))


def _costs(
    peers: Mapping[str, Callable[[], Peer]], starts: int, rounds: int = 8, block: int = 200
) -> dict[str, list[float]]:
    """Blocks of invocations in turn, several times with fresh processes.

    A process keeps the luck that it had with its memory's layout, and the machine is not this one's alone.
    """
    costs: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(starts):
        with on_one_core(), running(peers) as processes:
            for name, process in processes.items():
                process.serve(2000 if name == NODE else 300)  # Node compiles what it finds to be hot
            turns = [[_cost(process, block) for process in processes.values()] for _ in range(rounds)]
        for name, figures in zip(processes, zip(*turns, strict=True), strict=True):
            costs[name].append(statistics.median(figures))
    return costs


def _json_route(results: Results, costs: dict[str, list[float]]) -> None:
    def row(ours: str, beside: str, most: float | None = None) -> None:
        if ours in costs and beside in costs:
            results.rows.append(compare(SECTION, ours, "us", costs[ours], beside, costs[beside], most=most))

    row(HANDLER_MODE, MANGUM, most=0.75)
    row(RUNTIME_MODE, MANGUM, most=0.45)
    row(RUNTIME_PLAIN, MANGUM, most=0.45)
    # What is left of Mangum's cost when an adapter does nothing: no row of ours can be below these.
    row(LEAST_HANDLER, MANGUM)
    row(LEAST_RUNTIME, MANGUM)
    row(HANDLER_MODE, MANGUM_WITHOUT)
    row(RUNTIME_MODE, MANGUM_WITHOUT)
    row(HANDLER_MODE, RIC)
    for ours, fast in ((RUNTIME_MODE, True), (RUNTIME_PLAIN, False), (HANDLER_MODE, True)):
        row(ours, uvicorn(fast)[0])
    row(RUNTIME_MODE, NODE)
    row(HANDLER_MODE, NODE)
    row(HANDLER_MODE, LEAST_HANDLER)
    row(RUNTIME_MODE, LEAST_RUNTIME)
    row(RUNTIME_MODE, DIRECT)
    row(RUNTIME_PLAIN, DIRECT)
    row(HANDLER_MODE, DIRECT)
    results.series["cpu"] = {name: [statistics.median(c), min(c), max(c)] for name, c in costs.items()}
    if reason := why_no_node():
        results.notes.append(reason)


def _cost(process: Peer, block: int) -> float:
    before = process.cpu()
    process.serve(block)
    return (process.cpu() - before) / block * 1e6

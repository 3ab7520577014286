"""Streams: how soon the first byte, how soon the next token, how fast many bytes, and in how much memory."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from .events import JSON, event
from .peers import (
    BARE,
    HANDLER_MODE,
    MANGUM,
    NODE,
    RUNTIME_MODE,
    bare,
    handler_mode,
    mangum,
    node,
    on_cores_apart,
    runtime_mode,
    why_no_node,
)
from .results import Results, Row, compare
from .runtime_api import Function, Reply

SIZE = 200_000_000
TOKENS = 10_000
OURS: dict[str, Callable[[], Function]] = {HANDLER_MODE: handler_mode, RUNTIME_MODE: runtime_mode}


def measure(results: Results, rounds: int, starts: int) -> None:
    """In turn, with one process of each; of many bytes with several, as a process keeps its luck with memory."""
    with _started() as functions:
        _memory(results, functions)
        _first_byte(results, functions, rounds)
        _tokens(results, functions, rounds)
    _many_bytes(results, starts, max(rounds // starts, 2))


@contextmanager
def _started() -> Iterator[dict[str, Function]]:
    starts = {**OURS, MANGUM: mangum, BARE: bare}
    if not why_no_node():
        starts[NODE] = node
    with ExitStack() as stack:
        functions = {name: stack.enter_context(start()) for name, start in starts.items()}
        stack.enter_context(on_cores_apart(functions.values()))
        for name, function in functions.items():
            if name != BARE:
                function.serve(100)
            if name != MANGUM:
                function.invoke(event("/pieces/1000", "size=5"))  # the first stream imports what streams need
        yield functions


def _turns(
    functions: dict[str, Function], names: Sequence[str], what: object, rounds: int, figure: Callable[[Reply], float]
) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in names if name in functions}
    for _ in range(rounds):
        for name, kept in figures.items():
            kept.append(figure(functions[name].invoke(what)))
    return figures


def _memory(results: Results, functions: dict[str, Function]) -> None:
    for name in OURS:
        function = functions[name]
        function.ready()
        function.forget_peak()
        idle = function.memory("VmRSS")
        function.invoke(_pieces(64 << 10))
        above = function.memory("VmHWM") - idle
        what = f"peak memory above idle, 200 MB, {name}"
        results.rows.append(Row("Streams", what, "MB", above, limit=("most", 8.0)))


def _pieces(each: int) -> dict[str, object]:
    return event(f"/pieces/{SIZE // each}", f"size={each}")


def _many_bytes(results: Results, starts: int, rounds: int) -> None:
    """How fast, which is the network's affair as much as ours; and what of the function's CPU it takes."""
    sizes = (8 << 10, 64 << 10, 1 << 20)
    rates: dict[int, dict[str, list[float]]] = {each: {} for each in sizes}
    costs: dict[int, dict[str, list[float]]] = {each: {} for each in sizes}
    for _ in range(starts):
        with _started() as functions:
            names = [name for name in (*OURS, BARE, NODE) if name in functions]
            for each, name in itertools.product(sizes, names * rounds):
                function = functions[name]
                before = function.cpu()
                rates[each].setdefault(name, []).append(_rate(function.invoke(_pieces(each))))
                function.ready()
                costs[each].setdefault(name, []).append((function.cpu() - before) * 1e3)
    for figure, unit, figures in (("", "MB/s", rates), (", CPU", "ms", costs)):
        for each, found in figures.items():
            for ours in OURS:
                what = f"200 MB in pieces of {each >> 10} KiB{figure}, {ours}"
                least = None if figure else 0.8
                results.rows.append(compare("Streams", what, unit, found[ours], BARE, found[BARE], least=least))
                if NODE in found:
                    results.rows.append(compare("Streams", what, unit, found[ours], NODE, found[NODE]))
    for each, found in rates.items():
        results.series[f"200 MB, {each >> 10} KiB"] = {name: statistics.median(rate) for name, rate in found.items()}


def _rate(reply: Reply) -> float:
    return reply.size / (reply.last - reply.first) / 1e6


def _first_byte(results: Results, functions: dict[str, Function], rounds: int) -> None:
    slow = event("/pieces/10", f"size=5&pause={1 / 9}")
    streams = _turns(functions, (*OURS, MANGUM, NODE), slow, max(rounds // 4, 2), lambda reply: reply.first * 1e3)
    wholes = _turns(functions, (*OURS, MANGUM, NODE), JSON, rounds * 20, lambda reply: reply.last * 1e3)
    for what, figures in (
        ("a stream of 1 s, to its first byte", streams),
        ("the JSON route, to its last byte", wholes),
    ):
        for ours in OURS:
            for peer in (MANGUM, NODE):
                if peer in figures:
                    row = compare("Streams", f"{what}, {ours}", "ms", figures[ours], peer, figures[peer])
                    results.rows.append(row)


def _tokens(results: Results, functions: dict[str, Function], rounds: int) -> None:
    """10,000 tokens as fast as they come: the time between two, at the Runtime API."""
    many = event(f"/pieces/{TOKENS}", "size=5&chunked=1")  # chunked: for the bare socket
    names = [name for name in (*OURS, BARE, NODE) if name in functions]
    medians: dict[str, list[float]] = {name: [] for name in names}
    slowest: dict[str, list[float]] = {name: [] for name in names}
    each: dict[str, list[float]] = {name: [] for name in names}
    curves: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(max(rounds // 2, 2)):
        for name in names:
            reply = functions[name].invoke(many)
            quantiles = [pause * 1e6 for pause in statistics.quantiles(reply.pauses, n=1000)] if reply.pauses else []
            if quantiles:
                medians[name].append(quantiles[499])
                slowest[name].append(quantiles[989])
                curves[name].append(quantiles)
            each[name].append((reply.last - reply.first) / TOKENS * 1e6)
    for what, figures in (
        ("10,000 tokens at once, time for each", each),
        ("between two of them, median", medians),
        ("between two of them, p99", slowest),
    ):
        for ours in OURS:
            for peer in (NODE, BARE):
                if figures.get(peer):
                    row = compare("Streams", f"{what}, {ours}", "us", figures[ours], peer, figures[peer])
                    results.rows.append(row)
    results.series["tokens"] = {
        name: [round(statistics.median(at), 2) for at in zip(*curve, strict=True)][9::10]
        for name, curve in curves.items()
        if curve
    }

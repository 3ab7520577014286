"""``python -m benchmarks``: measure, print one table, and keep it as JSON for the page."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import cold_start, cpu, instructions, local, managed, streams
from .results import Results, rows_of, save, table

_METHOD = """\
Each function runs in a process of its own, ours and its peers in turn: ratios are the medians (and the range) of the
turns', of CPU the starts'. CPU is user and system, all threads. Times count from the event's handing out."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: two or three minutes in place of ten")
    parser.add_argument(
        "--instructions", action="store_true", help="count instructions as well, with valgrind: five minutes more"
    )
    parser.add_argument("--json", type=Path, help="where to keep the results, for python -m benchmarks.page")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that children are ended
    quick = options.quick

    begun, stolen, load = time.perf_counter(), _stolen(), os.getloadavg()[0]
    results = Results()
    measures: dict[str, Callable[[], None]] = {
        "cpu": lambda: cpu.measure(results, starts=2 if quick else 10),
        "cold start": lambda: cold_start.measure(results, rounds=5 if quick else 60),
        "streams": lambda: streams.measure(results, rounds=4 if quick else 15, starts=2 if quick else 5),
        "local lambda": lambda: local.measure(results, rounds=3 if quick else 15),
        "managed instances": lambda: managed.measure(results, rounds=1 if quick else 2, blocks=3 if quick else 7),
    }
    if options.instructions:
        measures["instructions"] = lambda: instructions.measure(results)
    for name, measure in measures.items():
        print(f"{time.perf_counter() - begun:4.0f} s: {name}", file=sys.stderr)
        measure()

    took = time.perf_counter() - begun
    # Through JSON, as the page has it: the two cannot differ.
    document = results.document(
        seconds=round(took),
        quick=quick,
        weather={"load before": round(load, 2), "stolen, %": round(100 * (_stolen() - stolen) / took / _cores(), 1)},
    )
    print(table(rows_of(document)))
    print(
        "\n" + "\n".join([*results.notes, f"{document['versions']}", f"{document['machine']}; {took:.0f} s", _METHOD])
    )
    if options.json:
        save(document, options.json)


def _stolen() -> float:
    """Seconds of processor time that the hypervisor gave to others."""
    return int(Path("/proc/stat").read_text().split("\n")[0].split()[8]) / os.sysconf("SC_CLK_TCK")


def _cores() -> int:
    return os.cpu_count() or 1


main()

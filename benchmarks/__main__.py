"""``python -m benchmarks``: measure, and print one table."""

import argparse
import os
import platform
import signal
import sys
import time
from importlib.metadata import version

from . import measures
from .measures import Row

_METHOD = """\
Each function runs in a process of its own, ours and its peer's in turn: ratios are the medians (and the range) of the
turns', of CPU the starts'. CPU is user and system, all threads. Times count from the event's handing out."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=measures.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under a minute")
    parser.add_argument("--instructions", action="store_true", help="count instructions as well, with valgrind")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that children are ended
    quick = options.quick

    begun = time.perf_counter()
    rows = measures.cpu(starts=4 if quick else 12)
    if options.instructions:
        rows += measures.instructions()
    rows += measures.cold_start(rounds=5 if quick else 40)
    rows += measures.streamed(rounds=5 if quick else 15)
    rows += measures.first_byte(rounds=20 if quick else 100)

    show(rows)
    versions = ", ".join(f"{name} {version(name)}" for name in ("awslambdaric", "mangum", "fastapi", "starlette"))
    print(f"\nPython {platform.python_version()}, {versions}")
    print(f"{platform.platform()}, {os.cpu_count()} cores; {time.perf_counter() - begun:.0f} s\n{_METHOD}")


def show(rows: list[Row]) -> None:
    """The rows in columns; the last one says whether a target is met."""
    met = {True: "yes", False: "NO", None: ""}
    lines = [("", "ours", "peer", "ratio (min-max)", "target", "met")]
    lines += [(row.what, row.ours, row.peer, row.ratio, row.target, met[row.met]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


main()

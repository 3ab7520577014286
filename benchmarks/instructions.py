"""User instructions, counted by valgrind: almost free of noise, and slow."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .peers import HANDLER_MODE, MANGUM, RIC, RUNTIME_MODE
from .results import Results, compare
from .runtime_api import RIC as RIC_COMMAND
from .runtime_api import RUNTIME, Function

SECTION = "User instructions (valgrind)"
_PROCESSES: dict[str, tuple[str, Sequence[str]]] = {
    HANDLER_MODE: ("ours.handler", RIC_COMMAND),
    RUNTIME_MODE: ("ours.handler", RUNTIME),
    MANGUM: ("mangums.handler", RIC_COMMAND),
    RIC: ("trivial.handler", RIC_COMMAND),
}


def measure(results: Results, few: int = 50, many: int = 1050) -> None:
    """Of an invocation, by the difference of two runs, and of a cold start with its first response."""
    if shutil.which("valgrind") is None:
        results.notes.append("valgrind is not installed: no instructions counted.")
        return
    with ThreadPoolExecutor(2) as pool:
        runs = {(name, times): pool.submit(_count, name, times) for name in _PROCESSES for times in (1, few, many)}
    each = {name: (runs[name, many].result() - runs[name, few].result()) / (many - few) / 1e3 for name in _PROCESSES}
    first = {name: runs[name, 1].result() / 1e6 for name in _PROCESSES}
    what = "an invocation"
    for ours, most in ((HANDLER_MODE, 0.75), (RUNTIME_MODE, 0.45)):
        row = compare(SECTION, f"{what}, {ours}", "k", [each[ours]], MANGUM, [each[MANGUM]], most=most)
        results.rows += [row, compare(SECTION, f"{what}, {ours}", "k", [each[ours]], RIC, [each[RIC]])]
    for ours in (HANDLER_MODE, RUNTIME_MODE):
        what = f"a cold start and its first response, {ours}"
        results.rows.append(compare(SECTION, what, "M", [first[ours]], MANGUM, [first[MANGUM]], most=1.0))


def _count(name: str, times: int) -> int:
    handler, command = _PROCESSES[name]
    with tempfile.NamedTemporaryFile("r") as log:
        valgrind = f"valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file={log.name}".split()
        with Function(handler, [*valgrind, *command]) as function:
            function.serve(times)
            function.stop(signal.SIGTERM)
        counted = log.read().partition("Collected :")[2].split()
    if not counted:
        raise SystemExit(f"valgrind counted nothing of {name}, run as {sys.executable}")
    return int(counted[0])

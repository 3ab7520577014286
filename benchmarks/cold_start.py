"""From the start of a process to its first response, and what its imports take of it."""

from __future__ import annotations

import importlib.util
import re
import statistics
import subprocess
import sys
from collections.abc import Callable

from .events import JSON
from .peers import HANDLER_MODE, MANGUM, RUNTIME_MODE, handler_mode, mangum, on_one_core, runtime_mode
from .results import Results, compare
from .runtime_api import ENVIRONMENT, Function

SECTION = "Cold start"
_FAST = "".join(f", {name}" for name in ("uvloop", "orjson") if importlib.util.find_spec(name))
IMPORTS = {
    HANDLER_MODE: "import fastapi, awslambdaric.bootstrap; import adapter.asgi",
    RUNTIME_MODE: f"import fastapi, awslambdaric.bootstrap; import adapter.runtime, adapter.asgi{_FAST}",
    MANGUM: "import fastapi, awslambdaric.bootstrap; import mangum",
    "awslambdaric": "import fastapi; import awslambdaric.bootstrap",
}
"""What each imports on top of FastAPI and awslambdaric, and awslambdaric itself: the last statement is counted."""


def measure(results: Results, rounds: int) -> None:
    starts: dict[str, Callable[[], Function]] = {
        HANDLER_MODE: handler_mode,
        MANGUM: mangum,
        RUNTIME_MODE: runtime_mode,
    }
    with on_one_core():
        turns = [{name: _start(start) for name, start in starts.items()} for _ in range(rounds + 1)][1:]  # first: .pyc
    for index, what in enumerate(("to the first /next", "to the end of the first response")):
        for ours in (HANDLER_MODE, RUNTIME_MODE):
            figures = ([turn[name][index] for turn in turns] for name in (ours, MANGUM))
            row = compare(SECTION, f"{what}, {ours}", "ms", next(figures), MANGUM, next(figures), most=1.0)
            results.rows.append(row)
    for ours in (HANDLER_MODE, RUNTIME_MODE):
        figures = ([turn[name][2] for turn in turns] for name in (ours, MANGUM))
        results.rows.append(compare(SECTION, f"the CPU of it, {ours}", "ms", next(figures), MANGUM, next(figures)))
    results.series["cold start"] = {
        name: [statistics.median(turn[name][index] for turn in turns) for index in range(3)] for name in starts
    }
    results.series["imports"] = imports(max(rounds // 4, 3))


def _start(start: Callable[[], Function]) -> tuple[float, float, float]:
    """Milliseconds to the first /next, to the first response, and of processor time."""
    with start() as function:
        asked = function.ready()
        answered = asked + function.invoke(JSON).last
        function.ready()
        return asked * 1e3, answered * 1e3, function.cpu() * 1e3


def imports(rounds: int) -> dict[str, dict[str, float]]:
    """What Python's ``-X importtime`` says: milliseconds by module, medians; those below 0.05 ms as "the others"."""
    table = {}
    for name, statement in IMPORTS.items():
        runs = [_importtime(statement) for _ in range(rounds)]
        medians = {
            module: statistics.median(run.get(module, 0.0) for run in runs)
            for module in dict.fromkeys(sum(map(list, runs), []))
        }
        shown = {module: took for module, took in sorted(medians.items(), key=lambda item: -item[1]) if took >= 0.05}
        rest = sum(medians.values()) - sum(shown.values())
        table[name] = {"total": sum(medians.values()), **shown, "the others": rest}
    return table


def _importtime(statement: str) -> dict[str, float]:
    """Milliseconds by module, its own: of those that the last part of the statement imports."""
    before, _, last = statement.partition("; ")
    code = f"{before}\nimport sys\nprint('-- here', file=sys.stderr, flush=True)\n{last}"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    lines = done.stderr.partition("-- here")[2]
    return {module: int(took) / 1e3 for took, module in re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", lines)}

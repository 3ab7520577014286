"""The local Lambda beside uvicorn: warm requests a second, one after the other, to one environment.

The caller waits for the front, the Runtime API and the function's process in turn: a delay in any of them shows.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, Self

from .events import request
from .peers import HANDLER_MODE, RUNTIME_MODE, Server, uvicorn
from .results import Results, compare
from .runtime_api import ENVIRONMENT, FUNCTIONS, Client

_SECTION = "The local Lambda, one environment"
_RUNTIMES = {HANDLER_MODE: "awslambdaric", RUNTIME_MODE: "adapter"}
_STARTED = re.compile(r"^Function URL: http://127\.0\.0\.1:(\d+)/", re.MULTILINE)
_REQUEST = request("/items/7", "q=x", host="localhost")
_ANSWER = 21  # bytes of its body
_LEAST = 0.1  # of uvicorn's rate; a delay of 40 ms a request makes it 0.005


class LocalLambda:
    """The app behind the local Lambda's function URL; asked over one kept-alive connection."""

    def __init__(self, runtime: str) -> None:
        self._log = tempfile.NamedTemporaryFile()
        options = ["--runtime", runtime, "--port", "0", "--max-environments", "1", "--queue", "5"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "adapter.local", "ours.handler", *options],
            cwd=FUNCTIONS,
            env=ENVIRONMENT,
            stdout=self._log,
        )
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def serve(self, times: int) -> None:
        if self._client is None:
            self._client = Client(self._port())
        for _ in range(times):
            reply = self._client.get(_REQUEST)
            if reply.size != _ANSWER:
                raise SystemExit(f"an answer has {reply.size} bytes:\n{Path(self._log.name).read_text()[-2000:]}")

    def _port(self) -> int:
        while self._process.poll() is None:
            if started := _STARTED.search(Path(self._log.name).read_text()):
                return int(started[1])
            time.sleep(0.05)
        raise SystemExit(f"{self._process.args!r} has ended with {self._process.returncode}")


class Served(Protocol):
    def serve(self, times: int) -> None: ...


def measure(results: Results, rounds: int, block: int = 100) -> None:
    """Blocks of requests in turn, with one process of each."""
    beside, *options = uvicorn(fast=False)  # the local Lambda's front is h11 on asyncio, too
    with ExitStack() as stack:
        served: dict[str, Served] = {
            name: stack.enter_context(LocalLambda(runtime)) for name, runtime in _RUNTIMES.items()
        }
        served[beside] = stack.enter_context(Server(*options))
        rates: dict[str, list[float]] = {name: [] for name in served}
        for process in served.values():
            process.serve(block)
        for _ in range(rounds):
            for name, process in served.items():
                rates[name].append(_rate(process, block))
    for ours in _RUNTIMES:
        what = f"warm requests through the function URL, {ours}"
        results.rows.append(compare(_SECTION, what, "a second", rates[ours], beside, rates[beside], least=_LEAST))


def _rate(process: Served, block: int) -> float:
    begun = time.perf_counter()
    process.serve(block)
    return block / (time.perf_counter() - begun)

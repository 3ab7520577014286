"""What is measured, each in a process of its own: our two modes, and those that they are measured beside."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, Self

from .events import JSON_REQUEST
from .runtime_api import ENVIRONMENT, FUNCTIONS, RUNTIME, Client, Function, cpu_time

HANDLER_MODE = "handler mode"
RUNTIME_MODE = "asyncio runtime"
RUNTIME_PLAIN = "asyncio runtime, without uvloop and orjson"
MANGUM = "Mangum + awslambdaric"
MANGUM_WITHOUT = "Mangum with lifespan off"
RIC = "awslambdaric, empty handler"
NODE = "Node's streamifyResponse"
DIRECT = "an ASGI call, no transport"
LEAST_HANDLER = "awslambdaric and an ASGI call, nothing else"
LEAST_RUNTIME = "a uvloop runtime and an ASGI call, nothing else"
BARE = "a bare socket"

WITHOUT_FAST = {"PYTHONPATH": os.pathsep.join(filter(None, (f"{FUNCTIONS}/nothing_extra", os.getenv("PYTHONPATH"))))}
NODE_RIC = Path(__file__).parents[1] / ".cache/node/node_modules/aws-lambda-ric/index.mjs"


class Peer(Protocol):
    """A process that serves the JSON route as often as it is told to."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def serve(self, times: int) -> None:
        """Answer so many requests, and be done with them."""

    def cpu(self) -> float:
        """Seconds of processor time so far, user and system, all threads."""


def uvicorn(fast: bool) -> tuple[str, str, str]:
    """What uvicorn runs on: a name for it, its loop and its HTTP; with ``fast``, the quickest that is installed."""
    loop = "uvloop" if fast and importlib.util.find_spec("uvloop") else "asyncio"
    http = "httptools" if fast and importlib.util.find_spec("httptools") else "h11"
    return f"uvicorn ({loop}, {http})", loop, http


class Server:
    """uvicorn, serving the app over HTTP; asked over one kept-alive connection."""

    def __init__(self, loop: str, http: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "serve.py", loop, http], cwd=FUNCTIONS, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        _end(self._process)

    def serve(self, times: int) -> None:
        if self._client is None:
            assert self._process.stdout is not None
            self._client = Client(int(self._process.stdout.readline()))
        for _ in range(times):
            self._client.get(JSON_REQUEST)

    def cpu(self) -> float:
        return cpu_time(self._process.pid)


class Direct:
    """The app, called in a loop: what is left when there is no transport."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "direct.py"],
            cwd=FUNCTIONS,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._process)

    def serve(self, times: int) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{times}\n")
        assert self._process.stdout.readline() == f"{times}\n"

    def cpu(self) -> float:
        return cpu_time(self._process.pid)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def node() -> Function:
    """Node's own runtime client, with a handler that answers as the app does."""
    return Function("node.handler", [_node(), str(NODE_RIC)])


def why_no_node() -> str:
    """What is missing for it, in a sentence; "" if nothing is."""
    if shutil.which("node") is None:
        return "Node is not installed: no comparison with its runtime."
    if not NODE_RIC.exists():
        return "Node's runtime client is not installed (make bench-node): no comparison with it."
    return ""


def _node() -> str:
    found = shutil.which("node")
    assert found is not None
    return found


def bare() -> Function:
    """Pieces of a body by a blocking ``sendall`` each."""
    return Function("bare.py", [sys.executable])


def handler_mode() -> Function:
    return Function("ours.handler")


def runtime_mode() -> Function:
    return Function("ours.handler", RUNTIME)


def mangum() -> Function:
    return Function("mangums.handler")


def cpu_peers() -> dict[str, Callable[[], Peer]]:
    """All whose processor time is compared, by name; those that are installed."""
    fast, plain = uvicorn(fast=True), uvicorn(fast=False)
    peers: dict[str, Callable[[], Peer]] = {
        HANDLER_MODE: handler_mode,
        MANGUM: mangum,
        RUNTIME_MODE: runtime_mode,
        RUNTIME_PLAIN: lambda: Function("ours.handler", RUNTIME, WITHOUT_FAST),
        MANGUM_WITHOUT: lambda: Function("mangums.without_lifespan"),
        RIC: lambda: Function("trivial.handler"),
        fast[0]: lambda: Server(*fast[1:]),
        plain[0]: lambda: Server(*plain[1:]),
        DIRECT: Direct,
        LEAST_HANDLER: lambda: Function("least.handler"),
    }
    if importlib.util.find_spec("uvloop") and importlib.util.find_spec("orjson"):
        peers[LEAST_RUNTIME] = lambda: Function("least.py", [sys.executable])
    if not why_no_node():
        peers[NODE] = node
    return peers


def adapters_alone() -> dict[str, Callable[[], Peer]]:
    """Our two modes and Mangum, with an app that does nothing."""
    return {
        HANDLER_MODE: lambda: Function("nothing.ours"),
        MANGUM: lambda: Function("nothing.mangums"),
        RUNTIME_MODE: lambda: Function("nothing.ours", RUNTIME),
        RUNTIME_PLAIN: lambda: Function("nothing.ours", RUNTIME, WITHOUT_FAST),
    }


def with_event(event: object) -> dict[str, Callable[[], Peer]]:
    """Our two modes and Mangum, with this event in place of the JSON route's."""
    return {
        HANDLER_MODE: lambda: Function("ours.handler", event=event),
        MANGUM: lambda: Function("mangums.handler", event=event),
        RUNTIME_MODE: lambda: Function("ours.handler", RUNTIME, event=event),
    }


@contextmanager
def on_one_core() -> Iterator[None]:
    """Have what is started meanwhile, and what drives it, on one core: a function of up to 1,769 MB has no more.

    A process that waits for another one on another core is charged for waking it, and for finding its own core cold:
    on a virtual machine a third of what is measured, and most of what differs from run to run.
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
    """
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def on_cores_apart(functions: Iterable[Function]) -> Iterator[None]:
    """Have the functions on one core and what drives them on another, where there are two; nothing moves about."""
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        for function in functions:
            os.sched_setaffinity(function.process.pid, {max(cores)})
        os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def running(peers: Mapping[str, Callable[[], Peer]]) -> Iterator[dict[str, Peer]]:
    """One process of each."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(peer()) for name, peer in peers.items()}

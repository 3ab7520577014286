"""What these tests share: a local Lambda in the test's own loop, a terminal to read, gates to hold."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from adapter.local.configuration import Configuration
from adapter.local.log import Log
from adapter.local.server import serve

FUNCTIONS = Path(__file__).parent / "functions"
SCRIPTED = (sys.executable, str(FUNCTIONS / "scripted.py"))
# Nothing takes this long unless it has gone wrong.
PATIENCE = 20.0


class Terminal(io.StringIO):
    """What the local Lambda has written, and a way to wait for more."""

    def __init__(self) -> None:
        super().__init__()
        self._written = asyncio.Event()

    def write(self, text: str) -> int:
        self._written.set()
        return super().write(text)

    async def until(self, pattern: str, count: int = 1) -> list[Any]:
        """The matches, when there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(found := re.findall(pattern, self.getvalue(), re.MULTILINE)) < count:
                self._written.clear()
                await self._written.wait()
        return found


class Gate:
    """A place where a scripted function stops until the test lets it go on."""

    def __init__(self) -> None:
        self.port = 0
        self._arrivals: asyncio.Queue[tuple[int, asyncio.StreamWriter]] = asyncio.Queue()
        self._held: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._arrive, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._held:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _arrive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._held.append(writer)
        self._arrivals.put_nowait((int(await reader.readline()), writer))

    async def reached(self) -> tuple[int, Callable[[], None]]:
        """Wait for the next function to arrive: its pid, and what lets it go on."""
        pid, writer = await asyncio.wait_for(self._arrivals.get(), PATIENCE)
        return pid, lambda: writer.write(b"!")


class LocalLambda:
    def __init__(
        self, front: str, listener: socket.socket, terminal: Terminal, client: httpx.AsyncClient, stop: asyncio.Event
    ) -> None:
        self.front = front
        self.listener = listener
        self.url = str(client.base_url)
        self.terminal = terminal
        self.client = client
        self.stop = stop

    async def run(self, *steps: list[Any], method: str = "POST", path: str = "/") -> httpx.Response:
        """A scripted invocation."""
        return await self.client.request(method, path, json=steps)

    def stream(self, *steps: list[Any]) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        return self.client.stream("POST", "/", json=steps)


@contextlib.asynccontextmanager
async def local_lambda(
    handler: str = "scripted",
    *,
    front: str = "function-url",
    scripted: bool = True,
    reload: bool = False,
    address: str = "127.0.0.1",
    allowed_hosts: Sequence[str] = (),
    **configuration: Any,
) -> AsyncIterator[LocalLambda]:
    terminal, stop = Terminal(), asyncio.Event()
    configured = Configuration(
        handler, **{"app_dir": FUNCTIONS, "command": SCRIPTED if scripted else None, **configuration}
    )
    with socket.create_server((address, 0)) as listener:
        serving = asyncio.create_task(
            serve(configured, {front: listener}, Log(terminal, configured.log_format), stop, reload, allowed_hosts)
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        limits = httpx.Limits(max_connections=None)
        try:
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits, trust_env=False) as client:
                yield LocalLambda(front, listener, terminal, client, stop)
        finally:
            stop.set()
            await asyncio.wait_for(serving, PATIENCE)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with Gate() as gate:
        yield gate


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    yield Terminal()


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while alive(pid):
            await asyncio.sleep(0.01)

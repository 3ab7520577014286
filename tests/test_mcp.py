"""The Model Context Protocol: the official SDK's server behind a local function URL, and its own client."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.shared.dispatcher import ProgressFnT
from mcp.types import TextContent

from .events import function_url
from .runtime_api import FUNCTIONS, function
from .test_docs import snippets

ONE_ENVIRONMENT = ("--max-environments", "1", "--queue", "30")
"""A request that comes while it is busy waits for it."""


@dataclass
class LocalLambda:
    """A function behind a local function URL, and all that its terminal shows; whole when it has ended."""

    url: str
    output: str = ""


@contextlib.asynccontextmanager
async def local_lambda(handler: str, *options: str, folder: Path = FUNCTIONS, **env: str) -> AsyncIterator[LocalLambda]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.local", handler, "--port", "0", "--app-dir", str(folder), *options),
        env={**os.environ, "PYTHONPATH": str(FUNCTIONS.parents[1]), **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            seen = ""
            while not (found := re.search(r"^Function URL: (http://\S+?)/?\s", seen, re.MULTILINE)):
                line = await process.stdout.readline()
                assert line, f"the local Lambda has ended: {seen}"
                seen += line.decode()
            running = LocalLambda(found[1])
            yield running
            process.send_signal(signal.SIGINT)
            rest, _ = await process.communicate()
            running.output = seen + rest.decode()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.communicate()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)  # HTTP clients send through a proxy even what goes to 127.0.0.1


class Gate:
    """What the tool waits at: it goes one step on for each line."""

    def __init__(self) -> None:
        self.port = 0
        self.waiting: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def arrive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting.put_nowait(writer)
        await reader.read()
        writer.close()


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    async with await asyncio.start_server(gate.arrive, "127.0.0.1", 0) as server:
        gate.port = server.sockets[0].getsockname()[1]
        yield gate


def into(arrived: asyncio.Queue[float]) -> ProgressFnT:
    async def progress(progress: float, total: float | None, message: str | None) -> None:
        assert (total, message) == (3, None)
        arrived.put_nowait(progress)

    return progress


async def climb(client: Client, gate: Gate) -> int:
    """Three steps, each let go when the report of the one before has arrived; the id of the process that made them."""
    arrived: asyncio.Queue[float] = asyncio.Queue()
    called = asyncio.create_task(
        client.call_tool("climb", {"steps": 3, "gate": gate.port}, progress_callback=into(arrived))
    )
    writer = await gate.waiting.get()
    for step in range(3):
        assert await arrived.get() == step
        assert not called.done()
        writer.write(b"\n")
    result = await called
    assert isinstance(result.content[0], TextContent) and arrived.empty()
    return int(result.content[0].text)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_progress_arrives_live(mode: str, gate: Gate) -> None:
    """By the protocol with `initialize`, and by that of 2026-07-28, which has none; twice on one environment."""
    processes = set()
    async with local_lambda("mcp_server.handler", *ONE_ENVIRONMENT) as running:
        for _ in range(2):
            async with Client(f"{running.url}/mcp", mode=mode) as client:
                assert client.server_info is not None and client.server_info.name == "Steps"
                assert [tool.name for tool in (await client.list_tools()).tools] == ["climb", "start_work"]
                processes.add(await climb(client, gate))
    assert len(processes) == 1
    assert "WARNING" not in running.output and "ERROR" not in running.output


HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


def posted(message: object, headers: dict[str, str]) -> dict[str, Any]:
    headers = {"content-type": "application/json", **headers}
    return function_url("/mcp", method="POST", headers=headers, body=json.dumps(message))


async def test_a_standing_stream_holds_its_environment_until_its_deadline() -> None:
    options = (*ONE_ENVIRONMENT, "--timeout", "3")
    async with local_lambda("mcp_server.handler", *options, SESSIONS="with streams") as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
            opened = await client.post("/mcp", json=INITIALIZE, headers=HEADERS)
            session = {**HEADERS, "mcp-session-id": opened.headers["mcp-session-id"]}
            async with client.stream("GET", "/mcp", headers=session) as standing:
                assert standing.status_code == 200
                listed = asyncio.create_task(client.post("/mcp", json=LIST, headers=session))
                assert await standing.aread() == b""
            # The environment outlives it, and with it the session.
            assert "climb" in (await listed).text
    assert running.output.count("INIT_START") == 1 and "timed out" not in running.output
    assert running.output.count("Error in mid-stream: Function.DeadlineExceeded") == 1


async def test_sessions_are_the_lifespans_and_not_waited_for() -> None:
    async with function("mcp_server.handler", env={"SESSIONS": "without streams"}) as running:
        for _ in range(2):
            opened = await running.api.run(posted(INITIALIZE, HEADERS))
            assert opened.events == ["open", "prelude", "chunk", "close", "next"]
            session = {**HEADERS, "mcp-session-id": opened.prelude["headers"]["mcp-session-id"]}
            listed = await running.api.run(posted(LIST, session))
            assert b"climb" in listed.body
    assert "WARNING" not in running.output and "ERROR" not in running.output


CALL = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "start_work", "arguments": {}}}
VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
CALLS = {
    "legacy": posted(CALL, HEADERS),
    "auto": posted(
        {**CALL, "params": {"name": "start_work", "arguments": {}, "_meta": META}},
        {**HEADERS, "mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": "start_work"},
    ),
}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_what_a_tool_leaves_is_waited_for(mode: str) -> None:
    async with function("mcp_server.handler") as running:
        for _ in range(2):
            called = await running.api.run_held(CALLS[mode], "work")
            assert b"started" in called.body
            assert called.events[-3:] == ["close", "work", "next"]
    assert "WARNING" not in running.output and "ERROR" not in running.output


async def test_a_session_is_unknown_to_another_environment() -> None:
    async with local_lambda("mcp_server.handler", SESSIONS="with streams") as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
            opened = await client.post("/mcp", json=INITIALIZE, headers=HEADERS)
            session = {**HEADERS, "mcp-session-id": opened.headers["mcp-session-id"]}
            async with client.stream("GET", "/mcp", headers=session):
                assert (await client.post("/mcp", json=LIST, headers=session)).status_code == 404


async def test_as_the_docs_show_it(tmp_path: Path) -> None:
    (snippet,) = [snippet.values[0] for snippet in snippets("python") if "from mcp" in snippet.values[0]]
    (tmp_path / "snippet.py").write_text(snippet)
    host = "abc.lambda-url.us-east-1.on.aws"  # of a function URL, which is not this machine's
    options = (*ONE_ENVIRONMENT, "--allow-host", host)
    async with local_lambda("snippet.handler", *options, folder=tmp_path) as running:
        for mode in ("legacy", "auto"):
            arrived: asyncio.Queue[float] = asyncio.Queue()

            async with Client(f"{running.url}/mcp", mode=mode) as client:
                result = await client.call_tool("count", {"to": 3}, progress_callback=into(arrived))
                assert result.content == [TextContent(text="counted to 3")]
                assert [arrived.get_nowait() for _ in range(arrived.qsize())] == [0, 1, 2]
        async with httpx.AsyncClient(base_url=running.url) as http:
            assert (await http.get("/mcp", headers=HEADERS)).status_code == 405
            listed = await http.post("/mcp", json=LIST, headers={**HEADERS, "host": host})
            assert listed.status_code == 200
    assert "WARNING" not in running.output and "ERROR" not in running.output

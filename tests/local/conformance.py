"""AWS's own Runtime API server and ours behind one interface, for the scenarios of test_conformance.py.

AWS's is the Runtime Interface Emulator (https://github.com/aws/aws-lambda-runtime-interface-emulator), a static binary
with two engines: that of an on-demand function and that of Lambda Managed Instances. The runtime under either, and
under ours, is `functions/idle.sh`: it says where the Runtime API is and sleeps. What a runtime does, the test does.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from adapter.local.configuration import Configuration
from adapter.local.function import Function
from adapter.local.invocation import MAX_PAYLOAD, FunctionError, Invocation, UnavailableError
from adapter.local.log import Log
from adapter.local.managed_instance import ManagedInstance

from .conftest import FUNCTIONS, PATIENCE, Terminal

PREFIX = "/2018-06-01/runtime"
NEXT = f"{PREFIX}/invocation/next"
INIT_ERROR = f"{PREFIX}/init/error"
STREAMING = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked"}

IDLE = FUNCTIONS / "idle.sh"
STARTED = r"^Runtime API: (\S+) of (\d+)$"

TRACE_ID = "Root=1-67e5a2b1-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0"
CLIENT_CONTEXT = '{"custom":{"tea":"none"}}'
INVOKE_HEADERS = {
    "content-type": "application/json",
    "x-amzn-trace-id": TRACE_ID,
    "x-amz-client-context": base64.b64encode(CLIENT_CONTEXT.encode()).decode(),
}

# Seconds of silence that count as "blocked": a reply comes within a millisecond.
SILENCE = 0.25

# A wheel that carries the binary; samcli/local/rapid in it.
WHEEL = "aws-sam-cli==1.170.0"
BINARIES = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}

Reply = tuple[int, Any] | str
BLOCKED = "blocked"
CLOSED = "closed without a reply"


def path(request_id: str, what: str) -> str:
    return f"{PREFIX}/invocation/{request_id}/{what}"


class Wire:
    """The runtime's end of one connection, in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.headers: dict[str, str] = {}
        self._reply: asyncio.Task[Reply] | None = None

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def request(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        sent = {"Host": "x", **(headers or {})}
        if "Transfer-Encoding" not in sent:
            sent.setdefault("Content-Length", str(len(body)))
        lines = [f"{method} {target} HTTP/1.1", *map(": ".join, sent.items()), "", ""]
        self.send("\r\n".join(lines).encode() + body)

    async def reply(self) -> Reply:
        """Status and body, JSON decoded if it says JSON; or that there is none."""
        if self._reply is None:
            self._reply = asyncio.create_task(self._read())
        reply, self._reply = self._reply, None
        return await asyncio.wait_for(reply, PATIENCE)

    async def reply_now(self) -> Reply:
        """The same, or BLOCKED; `reply` then still gets it."""
        if self._reply is None:
            self._reply = asyncio.create_task(self._read())
        await asyncio.wait({self._reply}, timeout=SILENCE)
        return await self.reply() if self._reply.done() else BLOCKED

    async def ask(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        self.request(method, target, body, headers)
        return await self.reply()

    def end_of_file(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        if self._reply is not None:
            self._reply.cancel()
        self.writer.close()

    async def _read(self) -> Reply:
        try:
            line = await self.reader.readline()
            if not line:
                return CLOSED
            status = int(line.split()[1])
            self.headers = {}
            while field := (await self.reader.readline()).decode().strip():
                name, _, value = field.partition(":")
                self.headers[name.lower()] = value.strip()
            if self.headers.get("transfer-encoding") == "chunked":
                body = await self._chunks()
            else:
                body = await self.reader.readexactly(int(self.headers.get("content-length", "0")))
        except ConnectionError:
            return CLOSED
        return status, json.loads(body) if self.headers.get("content-type") == "application/json" else body.decode()

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body


class Engine(ABC):
    """A server under test, one for each scenario.

    `seen` is what the scenario wrote down: row -> what the server did.
    """

    managed: bool

    def __init__(self) -> None:
        self.address = ""
        self.pid = 0
        self.seen: dict[str, Any] = {}
        self.sent = asyncio.Event()  # the first call, where a runtime can start without one
        self.terminal = Terminal()
        self._wires: list[Wire] = []
        self._calls: list[asyncio.Task[Any]] = []

    @abstractmethod
    async def call(self, event: bytes) -> Any:
        """Invoke, as a caller does; what the caller gets, or UnavailableError."""

    async def started(self) -> None:
        """Wait for the runtime's start; `address` is then its Runtime API's, `pid` its own."""
        ((self.address, pid),) = await self.terminal.until(STARTED)
        self.pid = int(pid)

    async def connect(self) -> Wire:
        reader, writer = await asyncio.open_connection(*self.address.split(":"))
        self._wires.append(wire := Wire(reader, writer))
        return wire

    def invoke(self, event: bytes = b'{"n":1}') -> asyncio.Task[Any]:
        self._calls.append(call := asyncio.create_task(self._invoke(event)))
        return call

    async def starting(self) -> tuple[Wire, asyncio.Task[Any]]:
        """A runtime that has asked for nothing yet, and a caller who waits for it."""
        call = self.invoke()
        await self.started()
        await self.sent.wait()
        return await self.connect(), call

    async def running(self) -> tuple[Wire, str, asyncio.Task[Any]]:
        """A runtime that has been given an event: the connection, the request id, the caller."""
        wire, call = await self.starting()
        return wire, await self.next(wire), call

    async def responding(self) -> tuple[Wire, Wire, str, asyncio.Task[Any]]:
        """One that has sent a part of a streamed response, and its second connection."""
        wire, request_id, call = await self.running()
        stream = await self.connect()
        stream.request("POST", path(request_id, "response"), headers=STREAMING)
        stream.chunk(b"first")
        # Not told when the server has taken it: it says nothing before the end.
        assert await stream.reply_now() == BLOCKED
        return wire, stream, request_id, call

    async def next(self, wire: Wire) -> str:
        """GET /next, up to the event; its request id."""
        reply = await wire.ask("GET", NEXT)
        assert reply == (200, {"n": 1}), reply
        return wire.headers["lambda-runtime-aws-request-id"]

    async def close(self) -> None:
        for wire in self._wires:
            wire.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _invoke(self, event: bytes) -> Any:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await self.call(event)
                except UnavailableError:
                    # A managed instance refuses what no worker waits for; the scenario is about to ask for it.
                    await asyncio.sleep(0.01)


def runtime_interface_emulator(cache: Path) -> Path:
    """The binary, out of a wheel that is downloaded once. Skips the test where it cannot be had."""
    name = BINARIES.get(platform.machine())
    if sys.platform != "linux" or name is None:
        pytest.skip(f"AWS's Runtime Interface Emulator has no binary for {sys.platform} {platform.machine()}")
    binary = cache / name
    if not binary.exists():
        download = (sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "1", "--dest", str(cache), WHEEL)
        done = subprocess.run(download, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{WHEEL}, which has AWS's Runtime Interface Emulator, cannot be had: {done.stderr[-200:]}")
        (wheel,) = cache.glob("aws_sam_cli-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            partial = binary.with_suffix(f".{os.getpid()}")
            partial.write_bytes(archive.read(f"samcli/local/rapid/{name}"))
        partial.chmod(0o755)
        partial.rename(binary)
        wheel.unlink()
    return binary


def free_port() -> int:
    """For a program that takes no port 0. Below those that the kernel hands out: one of them could be somebody else's
    by the time that the program binds it.
    """
    while True:
        try:
            with socket.create_server(("127.0.0.1", port := random.randrange(15_000, 32_000))):
                return port
        except OSError:
            continue


class Emulator(Engine):
    """AWS's binary."""

    def __init__(self, binary: Path, timeout: int) -> None:
        super().__init__()
        self._binary = binary
        self._timeout = timeout
        self._groups: list[int] = []

    @property
    @abstractmethod
    def command(self) -> tuple[str, ...]: ...

    @property
    @abstractmethod
    def variables(self) -> dict[str, str]: ...

    async def __aenter__(self) -> Self:
        self._port = free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self._timeout),
            **self.variables,
        }
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self._groups.append(self._process.pid)
        self._reading = asyncio.create_task(self._read())
        self._client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
        await self._client.aclose()
        # The runtime's own group too: an orphan would ask the next one for its events.
        self._groups += [int(pid) for _, pid in re.findall(STARTED, self.terminal.getvalue(), re.MULTILINE)]
        # And that of one which has said nothing yet: it starts another one when one has ended.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGSTOP)
            self._groups += self._children(self._process.pid)
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        await self._process.wait()
        await self._reading

    @staticmethod
    def _children(pid: int) -> list[int]:
        return [int(child) for of in Path(f"/proc/{pid}/task").glob("*/children") for child in of.read_text().split()]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.terminal.write(line.decode())

    def emulator(self, *command: str) -> tuple[str, ...]:
        invoke, runtime = f"127.0.0.1:{self._port}", f"127.0.0.1:{free_port()}"
        return (
            *(str(self._binary), "--log-level", "error"),
            *("--runtime-interface-emulator-address", invoke, "--runtime-api-address", runtime),
            *command,
        )

    async def post(self, event: bytes) -> httpx.Response:
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        while True:
            try:
                return await self._client.post(
                    url, content=event, headers=INVOKE_HEADERS, extensions={"trace": self._trace}
                )
            except httpx.ConnectError:
                # It does not say when it listens.
                await asyncio.sleep(0.01)

    async def _trace(self, name: str, info: object) -> None:
        if name == "http11.send_request_body.complete":
            self.sent.set()


class OnDemandEmulator(Emulator):
    managed = False

    @property
    def command(self) -> tuple[str, ...]:
        return self.emulator("/bin/sh", str(IDLE))

    @property
    def variables(self) -> dict[str, str]:
        return {}

    async def call(self, event: bytes) -> Any:
        return decoded((await self.post(event)).content)


@functools.cache
def mounts_of_its_own() -> bool:
    """Whether a process may have them here; it takes root, as changing the user does."""
    if shutil.which("unshare") is None:
        return False
    command = ("unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/var")
    return subprocess.run(command, capture_output=True).returncode == 0


class ManagedEmulator(Emulator):
    """It runs /var/task/bootstrap and nothing else, under a user of its own: both in a mount namespace of its own."""

    managed = True

    @property
    def command(self) -> tuple[str, ...]:
        script = (
            'umask 022 && mount -t tmpfs tmpfs /var && mkdir -p /var/task && cp "$0" /var/task/bootstrap'
            ' && chmod 755 /var/task/bootstrap && exec "$@"'
        )
        return ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, str(IDLE), *self.emulator())

    @property
    def variables(self) -> dict[str, str]:
        return {"AWS_LAMBDA_MAX_CONCURRENCY": "2"}

    async def call(self, event: bytes) -> Any:
        response = await self.post(event)
        if response.status_code == 400:
            raise UnavailableError
        return response.headers.get("error-type"), decoded(response.content)


class Ours(Engine):
    """The local Lambda, in the test's own loop."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout
        self.sent.set()

    @abstractmethod
    def make(self, configuration: Configuration, log: Log, tasks: asyncio.TaskGroup) -> Function | ManagedInstance: ...

    async def __aenter__(self) -> Self:
        configuration = Configuration(
            "idle",
            FUNCTIONS,
            timeout=self._timeout,
            max_environments=1,
            queue=0.01,
            concurrency=2 if self.managed else None,
            command=("/bin/sh", str(IDLE)),
        )
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._function = self.make(configuration, Log(self.terminal), self._tasks)
        if self.managed:
            self._function.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
        await self._function.close()
        await self._tasks.__aexit__(None, None, None)

    async def answer(self, event: bytes) -> tuple[bytes, FunctionError | None]:
        arn = self._function.configuration.arn
        invocation = Invocation(event, arn, str(uuid.uuid4()), TRACE_ID, CLIENT_CONTEXT, max_stream=MAX_PAYLOAD)
        try:
            await self._function.invoke(invocation)
            # A caller that is cancelled, at a scenario's end, takes nothing with it.
            answer = await asyncio.shield(invocation.answer)
            if isinstance(answer, FunctionError):
                return b"", answer
            return b"".join([chunk async for chunk in answer]), answer.error
        finally:
            invocation.delivered()


class OnDemand(Ours):
    managed = False

    def make(self, configuration: Configuration, log: Log, tasks: asyncio.TaskGroup) -> Function:
        return Function(configuration, log, tasks)

    async def call(self, event: bytes) -> Any:
        # AWS's shows no error beside a body: trailers are dropped.
        body, error = await self.answer(event)
        return decoded(body or error.payload if error else body)


class Managed(Ours):
    managed = True

    def make(self, configuration: Configuration, log: Log, tasks: asyncio.TaskGroup) -> ManagedInstance:
        return ManagedInstance(configuration, log, tasks)

    async def call(self, event: bytes) -> Any:
        # AWS's shows an error in place of the body that it came after.
        body, error = await self.answer(event)
        return (error.type, decoded(error.payload)) if error else (None, decoded(body))


def decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body

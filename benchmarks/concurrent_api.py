"""A Runtime API for many invocations at once, on an event loop, without checks of HTTP: quick enough for 200,000.

It speaks both dialects: on demand one ``/next`` is open at a time; on Managed Instances as many as there are
invocations to be taken, each a slot. Faults are what a `Plan` says of an invocation.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeAlias

from .runtime_api import ENVIRONMENT, FUNCTIONS, cpu_time

Fault: TypeAlias = Literal[
    "",
    "reset at the head",  # the connection is reset when a response begins
    "reset in the body",  # and when its first bytes of body are there
    "refused early",  # 413 while the response is being written
    "refused",  # 410 when it is complete
    "answered late",  # 202, 20 ms later
    "closed after",  # the connection is closed after the 202: without a word on demand, where nobody else can be at it
]
"""What the Runtime API does to a response."""

_REPLY = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b"
_EVENT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: %b\r\n"
    b"Lambda-Runtime-Invocation-Id: n-%b\r\n"
    b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:f\r\n"
    b"Lambda-Runtime-Trace-Id: Root=1-5bdb40ca-556d8b0c50dc66f0511bf520;Parent=0;Sampled=0\r\n"
    b"Lambda-Runtime-Deadline-Ms: %d\r\nContent-Length: %d\r\n\r\n%b"
)


class Answer(NamedTuple):
    """How an invocation was answered; ``seconds`` since its event was handed out."""

    kind: str  # "response", "error", or the fault that ended it
    size: int  # bytes of body, the prelude and its framing left out of a stream's
    failed: bool  # by trailers
    seconds: float


class Invocation:
    """One invocation, from its being asked for."""

    def __init__(self, request_id: str, payload: bytes, timeout: float, fault: Fault) -> None:
        self.request_id = request_id
        self.payload = payload
        self.timeout = timeout
        self.fault = fault
        self.begun = 0.0
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()


class _Post:
    def __init__(self, request_id: str, kind: str) -> None:
        self.request_id = request_id
        self.kind = kind
        self.size = 0
        self.pieces = 0
        self.failed = False
        self.ended = False  # the reply is out, or the connection is


class Connection(asyncio.Protocol):
    """One connection of a function's."""

    transport: asyncio.Transport

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._buffer = bytearray()
        self._read: Callable[[], bool] = self._head
        self._left = 0
        self._post: _Post | None = None
        self.asking = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._api.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._api.connections.discard(self)
        self._api.lost(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer and self._read():
            pass

    def reply(self, status: bytes, body: bytes = b'{"status":"OK"}\n', headers: bytes = b"") -> None:
        if not self.transport.is_closing():
            self.transport.write(_REPLY % (status, len(body), headers, body))

    # What is read next; each tells whether all of it was there.

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        method, target, _ = head.split(b" ", 2)
        if method == b"GET":
            if target.endswith(b"/invocation/next"):
                self._api.asked(self)
            return True  # an extension without events waits for ever
        *_, request_id, kind = target.decode().split("/")
        self._post = _Post(request_id, kind)
        self._api.began(self, self._post)
        lower = head.lower()
        length = lower.partition(b"\r\ncontent-length:")[2]
        if length:
            self._left = int(length.split(b"\r\n")[0])
            self._read = self._sized
            if not self._left:
                self._end()
        else:
            self._read = self._chunk_size
        return True

    def _sized(self) -> bool:
        assert self._post is not None
        taken = min(self._left, len(self._buffer))
        del self._buffer[:taken]
        self._left -= taken
        self._post.size += taken
        if not self._left:
            self._end()
        return True

    def _chunk_size(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        self._left = int(self._buffer[:end], 16)
        del self._buffer[: end + 2]
        self._read = self._chunk if self._left else self._trailer
        return True

    def _chunk(self) -> bool:
        assert self._post is not None
        if len(self._buffer) < self._left + 2:
            return False
        del self._buffer[: self._left + 2]
        self._post.pieces += 1
        if self._post.pieces > 2:  # the prelude, and what ends it
            self._post.size += self._left
            self._api.went_on(self, self._post)
        self._read = self._chunk_size
        return True

    def _trailer(self) -> bool:
        assert self._post is not None
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        if line:
            self._post.failed = True
        else:
            self._end()
        return True

    def _end(self) -> None:
        assert self._post is not None
        post, self._post, self._read = self._post, None, self._head
        self._api.posted(self, post)


class RuntimeApi:
    """Hands out events, takes answers, and counts what was wrong."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.slots: deque[Connection] = deque()
        self.waiting: deque[Invocation] = deque()
        self.running: dict[str, Invocation] = {}
        self.wrong: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.on_demand = True
        self._count = 0
        self._ready: list[tuple[int, asyncio.Future[None]]] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: Connection(self), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()

    @property
    def address(self) -> str:
        assert self._server is not None
        return "{}:{}".format(*self._server.sockets[0].getsockname())

    def invoke(self, event: bytes, *, timeout: float = 60, fault: Fault = "") -> asyncio.Future[Answer]:
        """Hand an event to the next slot; the answer is there when the function's reply, whole, is."""
        self._count += 1
        invocation = Invocation(f"8476a536-e9f4-11e8-9739-{self._count:012d}", event, timeout, fault)
        self.waiting.append(invocation)
        self._hand_out()
        return invocation.answer

    def give_up(self, answer: asyncio.Future[Answer]) -> None:
        """Wait for this one no longer."""
        for invocation in [*self.running.values()]:
            if invocation.answer is answer:
                del self.running[invocation.request_id]

    async def ready(self, slots: int) -> None:
        """Wait until so many events could be handed out at once."""
        if len(self.slots) < slots:
            future = asyncio.get_running_loop().create_future()
            self._ready.append((slots, future))
            await future

    # What connections tell.

    def asked(self, connection: Connection) -> None:
        if self.on_demand and (self.slots or self.running):
            self.wrong["/next before an answer"] += 1
        self.slots.append(connection)
        self._hand_out()
        for slots, future in self._ready:
            if len(self.slots) >= slots and not future.done():
                future.set_result(None)
        self._ready = [(slots, future) for slots, future in self._ready if not future.done()]

    def lost(self, connection: Connection) -> None:
        if connection in self.slots:
            self.slots.remove(connection)
            self.wrong["/next was given up"] += 1

    def began(self, connection: Connection, post: _Post) -> None:
        if post.kind not in ("response", "error") or post.request_id == "init":
            return
        invocation = self.running.get(post.request_id)
        if invocation is None:
            self.wrong[f"a second {post.kind}"] += 1
        elif post.kind == "response" and invocation.fault == "reset at the head":
            self._reset(connection, post)
        elif post.kind == "response" and invocation.fault == "refused early":
            post.ended = True
            connection.reply(b"413 Request Entity Too Large", b'{"errorType":"RequestEntityTooLarge"}\n')
            self._answered(post, "refused early")

    def went_on(self, connection: Connection, post: _Post) -> None:
        invocation = self.running.get(post.request_id)
        if not post.ended and invocation is not None and invocation.fault == "reset in the body":
            self._reset(connection, post)

    def posted(self, connection: Connection, post: _Post) -> None:
        if post.ended:
            return
        if post.kind == "register":
            connection.reply(b"200 OK", b"{}", b"Lambda-Extension-Identifier: 9a6a2a0e\r\n")
            return
        invocation = self.running.get(post.request_id)
        if invocation is None:
            if post.kind == "error" and post.request_id == "init":
                self.wrong["init error"] += 1
            connection.reply(b"400 Bad Request", b'{"errorType":"InvalidRequestID"}\n')
        elif post.kind == "response" and invocation.fault == "refused":
            connection.reply(b"410 Gone", b'{"errorMessage":"Invoke timeout","errorType":"InvokeTimeout"}\n')
            self._answered(post, "refused")
        elif invocation.fault == "answered late":
            asyncio.get_running_loop().call_later(0.02, self._accept, connection, post)
        else:
            closes = invocation.fault == "closed after"
            self._accept(connection, post, b"Connection: close\r\n" if closes and not self.on_demand else b"")
            if closes:
                connection.transport.close()

    def _accept(self, connection: Connection, post: _Post, headers: bytes = b"") -> None:
        connection.reply(b"202 Accepted", headers=headers)
        self._answered(post, post.kind)

    def _reset(self, connection: Connection, post: _Post) -> None:
        post.ended = True
        connection.transport.abort()
        self._answered(post, "reset")

    def _answered(self, post: _Post, kind: str) -> None:
        invocation = self.running.pop(post.request_id, None)
        if invocation is None:
            self.wrong[f"a second {post.kind}"] += 1
            return
        self.answered[kind] += 1
        if not invocation.answer.done():
            took = time.perf_counter() - invocation.begun
            invocation.answer.set_result(Answer(kind, post.size, post.failed, took))

    def _hand_out(self) -> None:
        while self.slots and self.waiting:
            connection, invocation = self.slots.popleft(), self.waiting.popleft()
            self.running[invocation.request_id] = invocation
            invocation.begun = time.perf_counter()
            request_id = invocation.request_id.encode()
            deadline = int((time.time() + invocation.timeout) * 1000)
            payload = invocation.payload
            connection.transport.write(_EVENT % (request_id, request_id, deadline, len(payload), payload))


class Processes:
    """A function's process, and those that it forks."""

    def __init__(
        self, command: Sequence[str], address: str, environment: Mapping[str, str], log: Path | None = None
    ) -> None:
        output = contextlib.nullcontext(subprocess.DEVNULL) if log is None else log.open("wb")
        with output as file:
            self.process = subprocess.Popen(
                command,
                cwd=FUNCTIONS,
                env={
                    **ENVIRONMENT,
                    **environment,
                    "AWS_LAMBDA_RUNTIME_API": address,
                    "LAMBDA_TASK_ROOT": str(FUNCTIONS),
                    "_HANDLER": command[-1],
                },
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.started = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def pids(self) -> list[int]:
        """Of all that are alive."""
        found, new = [], [self.process.pid]
        while new:
            pid = new.pop()
            found.append(pid)
            with contextlib.suppress(FileNotFoundError):
                new += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of processor time, of all of them."""
        return sum(map(cpu_time, self.pids))

    def pss(self) -> float:
        """Megabytes that they have together: pages that are shared are counted once."""
        return sum(_kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in self.pids) / 1024

    def rss(self) -> float:
        """Megabytes of memory of the first one."""
        return _kilobytes(f"/proc/{self.process.pid}/status", "VmRSS:") / 1024

    def descriptors(self) -> int:
        """Open file descriptors of the first one."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def pin(self, cores: set[int]) -> None:
        for pid in self.pids:
            os.sched_setaffinity(pid, cores)


def _kilobytes(path: str, name: str) -> int:
    return int(Path(path).read_text().partition(name)[2].split()[0])


def encoded(event: object) -> bytes:
    return json.dumps(event).encode()

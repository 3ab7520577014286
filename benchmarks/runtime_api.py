"""A Runtime API that costs little: blocking sockets in one thread, one function process, no checks.

What is measured is the function's process. This one has only to be quick enough not to be what it waits for: it
looks for the sizes of chunks, and drops what is in them.
"""

import itertools
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self

from .events import JSON

RIC = (sys.executable, "-m", "awslambdaric")
RUNTIME = (sys.executable, "-m", "adapter")
FUNCTIONS = Path(__file__).parent / "functions"
# Hashes that are the same in each process; and bytecode kept, as in a deployment, whatever the shell says.
ENVIRONMENT = {
    **os.environ,
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "",
    "AWS_LAMBDA_FUNCTION_NAME": "f",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/23/[$LATEST]0",
}


def cpu_time(pid: int) -> float:
    """Seconds of processor time of a whole process, user and system, of threads that have ended as well."""
    return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid(3) makes of a process id


class Reply(NamedTuple):
    """One answer; the times are in seconds since the event was handed out."""

    first: float  # when the first byte of body was there: of the caller's body, without the prelude
    last: float
    size: int
    pauses: Sequence[float] = ()  # between each two chunks


class Connection:
    """One connection of the function's: requests in, replies out."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self._room = bytearray(1 << 20)
        self._view = memoryview(self._room)
        self._start = self._end = 0

    def fill(self) -> None:
        """Receive more."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._room):
            rest = self._room[self._start :]
            self._room[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        received = self.socket.recv_into(self._view[self._end :])
        if not received:
            raise ConnectionError("the function has closed its connection")
        self._end += received

    def until(self, mark: bytes) -> bytes:
        while (end := self._room.find(mark, self._start, self._end)) < 0:
            self.fill()
        taken = bytes(self._view[self._start : end])
        self._start = end + len(mark)
        return taken

    def skip(self, size: int) -> None:
        while size > self._end - self._start:
            size -= self._end - self._start
            self._start = self._end
            self.fill()
        self._start += size

    def body(self, head: bytes, begun: float, ahead: int = 2) -> Reply:
        """Count a body and drop it. ``ahead``: the chunks before a chunked one, the prelude and its delimiter."""
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if length:  # awslambdaric's own: the reply in one piece, known when its first byte is here
            self.skip(1)
            first = time.perf_counter()
            self.skip(int(length[1]) - 1)
            return Reply(first - begun, time.perf_counter() - begun, int(length[1]))
        for _ in range(ahead):
            self.skip(int(self.until(b"\r\n"), 16) + 2)
        total, arrivals = 0, []
        while size := int(self.until(b"\r\n"), 16):
            arrivals.append(time.perf_counter())
            total += size
            self.skip(size + 2)
        self.until(b"\r\n")
        last = time.perf_counter()
        pauses = [after - before for before, after in itertools.pairwise(arrivals)]
        return Reply((arrivals or [last])[0] - begun, last - begun, total, pauses)


class Client:
    """One kept-alive connection to an HTTP server on this machine."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(socket.create_connection(("127.0.0.1", port)))

    def get(self, request: bytes) -> Reply:
        """Send a request, and take its response whole; the times are since it was sent."""
        begun = time.perf_counter()
        self._connection.socket.sendall(request)
        return self._connection.body(self._connection.until(b"\r\n\r\n"), begun, ahead=0)

    def close(self) -> None:
        self._connection.socket.close()


class Function:
    """A function's process in benchmarks/functions, and the Runtime API that it asks.

    ``command`` is the runtime that is asked for the handler: awslambdaric, if nothing else is said.
    """

    def __init__(
        self,
        handler: str,
        command: Sequence[str] = RIC,
        environment: Mapping[str, str] = MappingProxyType({}),
        event: object = JSON,
    ) -> None:
        self._event = event
        self._server = socket.create_server(("127.0.0.1", 0))
        self._connections: dict[int, Connection] = {}
        self._poll = select.poll()
        self._poll.register(self._server, select.POLLIN)
        self._asking: Connection | None = None
        self._begun = 0.0
        self._count = 0
        address = "{}:{}".format(*self._server.getsockname())
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, handler],
            cwd=FUNCTIONS,
            env={
                **ENVIRONMENT,
                **environment,
                "AWS_LAMBDA_RUNTIME_API": address,
                "LAMBDA_TASK_ROOT": str(FUNCTIONS),
                "_HANDLER": handler,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)
        for connection in self._connections.values():
            connection.socket.close()
        self._server.close()

    def stop(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait()

    def ready(self) -> float:
        """Wait until the function asks for an event, its last one being done with; the seconds since its start."""
        while self._asking is None:
            self._step()
        return time.perf_counter() - self.started

    def invoke(self, event: object) -> Reply:
        """Hand out one event, and take the answer; the function may still be at work then."""
        payload = json.dumps(event).encode()
        self.ready()
        asking, self._asking = self._asking, None
        assert asking is not None
        self._count += 1
        self._begun = time.perf_counter()
        asking.socket.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-%012d\r\n"
            b"Lambda-Runtime-Invocation-Id: 2476a536-e9f4-11e8-9739-%012d\r\n"
            b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:f\r\n"
            b"Lambda-Runtime-Deadline-Ms: %d\r\nContent-Length: %d\r\n\r\n%s"
            % (self._count, self._count, int(time.time() * 1000) + 60_000, len(payload), payload)
        )
        while True:
            reply = self._step()
            if reply is not None:
                return reply

    def serve(self, times: int) -> None:
        """Invoke it with its event, that of the JSON route by default, until it asks for the next event."""
        for _ in range(times):
            self.invoke(self._event)
        self.ready()

    def cpu(self) -> float:
        return cpu_time(self.process.pid)

    def memory(self, which: str) -> float:
        """Megabytes of memory: ``VmRSS``, now, or ``VmHWM``, the most since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{which}:")[2].split()[0]) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _step(self) -> Reply | None:
        """Take one request, whole; the reply if it was one."""
        ready = self._poll.poll(1000)
        if not ready and self.process.poll() is not None:
            raise SystemExit(f"{self.process.args!r} has ended with {self.process.returncode}")
        for number, _ in ready:
            if number == self._server.fileno():
                accepted, _ = self._server.accept()
                self._connections[accepted.fileno()] = Connection(accepted)
                self._poll.register(accepted, select.POLLIN)
                continue
            connection = self._connections[number]
            try:
                head = connection.until(b"\r\n\r\n")
            except ConnectionError:
                self._poll.unregister(number)
                del self._connections[number]
                connection.socket.close()
                continue
            if head.startswith(b"GET"):
                if b"/extension/" not in head:  # an extension without events waits for ever
                    self._asking = connection
                continue
            if b"/extension/register" in head:
                connection.skip(int(head.lower().partition(b"content-length:")[2].split()[0]))
                connection.socket.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Extension-Identifier: 9a6a2a0e\r\n"
                    b"Content-Length: 2\r\n\r\n{}"
                )
                continue
            reply = connection.body(head, self._begun)
            connection.socket.sendall(
                b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
                b'Content-Length: 16\r\n\r\n{"status":"OK"}\n'
            )
            return reply
        return None

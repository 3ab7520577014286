"""A Runtime API of the tests' own, and a function process under it.

Independent of ``adapter.local`` on purpose: this one records. Everything that
happens on either side is one event in one list, in the order in which it
happened; what the function does between two requests it reports itself, by a
blocking ``GET /record/<event>`` to this same server.

It refuses what AWS's would refuse (state and request id), and records that as
``refused``.
"""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h11

FUNCTIONS = Path(__file__).parent / "functions"
HTTP_INTEGRATION = b"application/vnd.awslambda.http-integration-response"
PREFIX = "/2018-06-01/runtime/"
EXTENSION = "/2020-01-01/extension/"
MOST_TRAILERS = 4096  # bytes, to the empty line: those of Go's net/http, of which AWS's is made


@dataclass
class Invoked:
    """One invocation, as the Runtime API has seen it."""

    request_id: str
    event: bytes
    invocation_id: str | None
    events: list[str] = field(default_factory=list)
    head: dict[bytes, bytes] = field(default_factory=dict)
    raw_head: list[tuple[bytes, bytes]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    result: bytes | None = None
    error: bytes | None = None
    answered: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def prelude(self) -> Any:
        assert self.chunks[1] == bytes(8), self.chunks[:2]
        return json.loads(self.chunks[0])

    @property
    def body(self) -> bytes:
        """Of a streamed response: what follows prelude and delimiter."""
        return b"".join(self.chunks[2:])

    @property
    def raw(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def failure(self) -> Any:
        """The decoded error trailers."""
        body = self.trailers[b"lambda-runtime-function-error-body"]
        return self.trailers[b"lambda-runtime-function-error-type"].decode(), json.loads(base64.b64decode(body))


class RuntimeAPI:
    """Serves one function process at a time. ``gate``, while it is cleared, holds back every 202."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = asyncio.Event()  # cleared: the body of a post is left in the socket
        self.reading.set()
        self.init_error: Any = None
        self.init_failed = asyncio.Event()
        self.with_invocation_id = True
        self.with_trace_id = True
        self.timeout = 30.0  # the function's: seconds from an event to its deadline
        self.trace_id = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"
        self.refuse_with: int | None = None  # the next post is refused at once, before its body
        self.drop_after_head = False  # the next post's connection is closed at once
        self.close_after_reply = False  # the connection is closed after each 202
        self.close_after_event = False  # and after each event
        self.chunked_events = False
        self.further_headers: list[tuple[str, str]] = []  # of events
        self.next_fails: list[bytes] = []  # replies in place of events, each the last of its connection
        self.held: dict[str, asyncio.Event] = {}  # a report that has one here is taken, and answered, when it is set
        self.connections: list[asyncio.StreamWriter] = []
        self.posts_on: list[int] = []  # for each post, which connection it came on
        self.extensions: list[tuple[bytes, Any]] = []  # name and what it registered for
        self.has_extensions = True
        self.extension_waits = asyncio.Event()  # one of them has asked for its events, of which there are none
        self.restored = asyncio.Event()  # SnapStart: what /restore/next waits for
        self.restore_error: Any = None
        self.current: Invoked | None = None
        self.streaming: set[str] = set()  # whose responses have begun, and have not ended
        self.port = 0
        self._pending: asyncio.Queue[Invoked] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> "RuntimeAPI":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection: awslambdaric's pending ``/next`` fails, and the process exits."""
        assert self._server is not None
        self._server.close()
        for writer in self.connections:
            writer.close()
        for task in tuple(self._tasks):
            task.cancel()
            await asyncio.wait([task])

    async def invoke(self, event: object, *, raw: bytes | None = None) -> Invoked:
        """Queue an event; it is handed out with the next ``/next``."""
        invocation_id = uuid.uuid4().hex if self.with_invocation_id else None
        invoked = Invoked(str(uuid.uuid4()), raw if raw is not None else json.dumps(event).encode(), invocation_id)
        await self._pending.put(invoked)
        return invoked

    async def run(self, event: object, *, raw: bytes | None = None) -> Invoked:
        """Queue an event, and wait until its invocation is over: until the next ``/next``."""
        invoked = await self.invoke(event, raw=raw)
        finished = asyncio.ensure_future(invoked.finished.wait())
        failed = asyncio.ensure_future(self.init_failed.wait())
        await asyncio.wait([finished, failed], timeout=30, return_when=asyncio.FIRST_COMPLETED)
        failed.cancel()
        assert finished.done(), (self.init_error, self.log)
        return invoked

    def find(self, request_id: str) -> Invoked | None:
        """The invocation under way that has this id."""
        return self.current if self.current is not None and self.current.request_id == request_id else None

    async def run_held(self, event: object, *works: str) -> Invoked:
        """`run`, where the function can report each of its works only when the caller has had its whole answer."""
        gates = [self.held.setdefault(work, asyncio.Event()) for work in works]
        invoked = await self.invoke(event)
        await invoked.closed.wait()
        for gate in gates:
            # That the invocation is not over while there is work, no event can tell: it would be over by now.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(invoked.finished.wait(), 0.2)
            gate.set()
        await invoked.finished.wait()
        self.held.clear()
        return invoked

    def record(self, event: str) -> None:
        self.log.append(event)
        if self.current is not None:
            self.current.events.append(event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections.append(writer)
        try:
            await self._converse(h11.Connection(h11.SERVER), reader, writer)
        except (h11.RemoteProtocolError, ConnectionError) as exception:
            self.record(f"broken: {exception}")
        except asyncio.CancelledError:
            pass  # by `close`
        finally:
            writer.close()

    async def _converse(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await self._event(http, reader)
            if isinstance(request, h11.ConnectionClosed):
                return
            assert isinstance(request, h11.Request), request
            status, body, headers = await self._route(http, request, reader, writer)
            if status is None:
                return
            is_event = request.target.endswith(b"/next")
            chunked = is_event and self.chunked_events
            head = [("transfer-encoding", "chunked") if chunked else ("content-length", str(len(body))), *headers]
            if http.their_state is not h11.DONE:
                head.append(("connection", "close"))
            writer.write(http.send(h11.Response(status_code=status, headers=head)) or b"")
            for start in range(0, len(body), 100_000 if chunked else len(body) or 1):
                writer.write(http.send(h11.Data(body[start : start + 100_000] if chunked else body)) or b"")
            writer.write(http.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            is_over = self.close_after_event if is_event else self.close_after_reply
            if http.our_state is h11.MUST_CLOSE or (is_over and not target_is_record(request)):
                return
            http.start_next_cycle()

    async def _event(self, http: h11.Connection, reader: asyncio.StreamReader) -> Any:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await reader.read(65536))
        return event

    async def _route(
        self, http: h11.Connection, request: h11.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int | None, bytes, list[tuple[str, str]]]:
        target = request.target.decode()
        headers = dict(request.headers)
        if target.startswith("/record/"):
            await self._event(http, reader)
            event = unquote(target.removeprefix("/record/"))
            if event in self.held:
                await self.held[event].wait()
            self.record(event)
            return 200, b"", []
        if target == PREFIX + "invocation/next":
            await self._event(http, reader)
            if self.next_fails:
                writer.write(self.next_fails.pop(0))
                await writer.drain()
                return None, b"", []
            return await self._next()
        if target == PREFIX + "init/error":
            body, _ = await self._body(http, reader)
            self.init_error = json.loads(body)
            self.record("init error")
            self.init_failed.set()
            return 202, b'{"status":"OK"}\n', []
        if target == EXTENSION + "register":
            body, _ = await self._body(http, reader)
            if not self.has_extensions:
                return 404, b"404 page not found", []
            self.extensions.append((headers[b"lambda-extension-name"], json.loads(body)))
            return 200, b"{}", [("Lambda-Extension-Identifier", str(uuid.uuid4()))]
        if target == EXTENSION + "event/next":
            await self._event(http, reader)
            self.extension_waits.set()
            await asyncio.Event().wait()
        if target == PREFIX + "restore/next":
            await self._event(http, reader)
            self.record("snapshot")
            await self.restored.wait()
            return 200, b"", []
        if target == PREFIX + "restore/error":
            body, _ = await self._body(http, reader)
            self.restore_error = json.loads(body)
            return 202, b'{"status":"OK"}\n', []
        _, _, rest = target.partition("/invocation/")
        request_id, _, kind = rest.partition("/")
        return await self._post(http, request_id, kind, headers, request, reader, writer)

    async def _next(self) -> tuple[int, bytes, list[tuple[str, str]]]:
        if self.current is not None:
            if self.current.request_id in self.streaming:
                return self._refuse(403, "InvalidStateTransition")
            self.record("next")
            self.current.finished.set()
            self.current = None
        else:
            self.record("next")
        invoked = self.current = await self._pending.get()
        return 200, invoked.event, self.headers(invoked)

    def headers(self, invoked: Invoked) -> list[tuple[str, str]]:
        """What comes with the event."""
        headers = [
            ("Lambda-Runtime-Aws-Request-Id", invoked.request_id),
            ("Lambda-Runtime-Deadline-Ms", str(int((time.time() + self.timeout) * 1000))),
            ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f"),
        ]
        if invoked.invocation_id:
            headers.append(("Lambda-Runtime-Invocation-Id", invoked.invocation_id))
        if self.with_trace_id:
            headers.append(("Lambda-Runtime-Trace-Id", self.trace_id))
        if "Content-Type" not in dict(self.further_headers):
            headers.append(("Content-Type", "application/json"))
        return headers + self.further_headers

    async def _post(
        self,
        http: h11.Connection,
        request_id: str,
        kind: str,
        headers: Mapping[bytes, bytes],
        request: h11.Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> tuple[int | None, bytes, list[tuple[str, str]]]:
        invoked = self.find(request_id)
        self.posts_on.append(self.connections.index(writer))
        if invoked is None:
            return self._refuse(400, "InvalidRequestID")
        if invoked.answered:
            return self._refuse(403, "InvalidStateTransition")
        invoked.answered = True
        echoed = headers.get(b"lambda-runtime-invocation-id")
        if echoed is not None and echoed.decode() != invoked.invocation_id:
            return self._refuse(410, "InvokeTimeout")
        if self.refuse_with is not None:
            status, self.refuse_with = self.refuse_with, None
            return self._refuse(status, "Refused")
        if self.drop_after_head:
            self.drop_after_head = False
            self.record("dropped")
            return None, b"", []
        invoked.head, invoked.raw_head = dict(request.headers), list(request.headers.raw_items())
        if headers.get(b"lambda-runtime-function-response-mode") != b"streaming":
            body, _ = await self._body(http, reader)
            if kind == "error":
                invoked.error = body
            else:
                invoked.result = body
            self.record(kind)
        else:
            self.record("open")
            self.streaming.add(request_id)
            await self._stream(http, reader, invoked)
            self.streaming.discard(request_id)
            self.record("close")
            invoked.closed.set()
        await self.gate.wait()
        return 202, b'{"status":"OK"}\n', []

    async def _stream(self, http: h11.Connection, reader: asyncio.StreamReader, invoked: Invoked) -> None:
        chunk = b""
        has_prelude = invoked.head[b"content-type"] == HTTP_INTEGRATION
        while True:
            await self.reading.wait()
            event = await self._event(http, reader)
            if isinstance(event, h11.EndOfMessage):
                trailers = b"".join(b"%b: %b\r\n" % field for field in event.headers.raw_items())
                if len(trailers) + 2 > MOST_TRAILERS:
                    raise h11.RemoteProtocolError("suspiciously long trailer after chunked body")
                invoked.trailers = dict(event.headers)
                return
            if not isinstance(event, h11.Data):
                raise h11.RemoteProtocolError(f"truncated by {event!r}")
            chunk += event.data
            if event.chunk_end:
                invoked.chunks.append(chunk)
                if not has_prelude or len(invoked.chunks) > 2:
                    self.record("chunk")
                elif len(invoked.chunks) == 2:
                    self.record("prelude")
                chunk = b""
                async with invoked.progress:
                    invoked.progress.notify_all()

    async def _body(self, http: h11.Connection, reader: asyncio.StreamReader) -> tuple[bytes, dict[bytes, bytes]]:
        body = b""
        while isinstance(event := await self._event(http, reader), h11.Data):
            body += event.data
        return body, dict(event.headers)

    def _refuse(self, status: int, error_type: str) -> tuple[int, bytes, list[tuple[str, str]]]:
        self.record(f"refused {status}")
        return status, json.dumps({"errorMessage": "refused", "errorType": error_type}).encode() + b"\n", []


class ManagedRuntimeAPI(RuntimeAPI):
    """That of Lambda Managed Instances: as many invocations at a time as there are requests for events.

    One is over with its response; the next request for an event is no part of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0  # requests for an event
        self.under_way: dict[str, Invoked] = {}
        self.most = 0  # that were under way at a time

    def find(self, request_id: str) -> Invoked | None:
        return self.under_way.get(request_id)

    async def _next(self) -> tuple[int, bytes, list[tuple[str, str]]]:
        self.record("next")
        self.waiting += 1
        invoked = await self._pending.get()
        self.waiting -= 1
        self.under_way[invoked.request_id] = invoked
        self.most = max(self.most, len(self.under_way))
        return 200, invoked.event, self.headers(invoked)

    async def _post(
        self, http: h11.Connection, request_id: str, *args: Any
    ) -> tuple[int | None, bytes, list[tuple[str, str]]]:
        reply = await super()._post(http, request_id, *args)
        invoked = self.under_way.pop(request_id, None)
        if invoked is not None:
            invoked.finished.set()
        return reply


def target_is_record(request: h11.Request) -> bool:
    return request.target.startswith(b"/record/")


@dataclass
class Function:
    """A function's process, under awslambdaric or the asyncio runtime, and what it has printed."""

    process: asyncio.subprocess.Process
    api: RuntimeAPI
    output: str = ""
    whole: str = ""

    async def exit(self, seconds: float = 10) -> int:
        """The exit status: it has to end by itself."""
        out, _ = await asyncio.wait_for(self.process.communicate(), seconds)
        self.output = self.whole = out.decode(errors="replace")
        assert self.process.returncode is not None
        return self.process.returncode

    async def end(self) -> None:
        await self.api.close()
        if self.process.returncode is not None and self.whole:
            return
        out, _ = await asyncio.wait_for(self.process.communicate(), 30)
        self.whole = out.decode(errors="replace")
        # awslambdaric's own last words, about the Runtime API that is gone, are of no interest.
        self.output = re.split(
            r"\[ERROR\] \[\d+\] LAMBDA_RUNTIME Failed to get next|\[WARNING\]\t\S+\t\S*\tNo event could be fetched",
            self.whole,
        )[0]


@contextlib.asynccontextmanager
async def function(
    handler: str,
    *,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
    client: str = "awslambdaric",
    api: RuntimeAPI | None = None,
    descriptors: Sequence[int] = (),
    command: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> AsyncIterator[Function]:
    """``python -m awslambdaric <handler>`` in tests/functions, with Lambda's variables; ended with the block.

    ``output`` is whole only then. With ``client="adapter"`` it is the asyncio runtime. ``without`` names variables.
    """
    async with api or RuntimeAPI() as api:
        variables = {
            **os.environ,
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "PYTHONPATH": f"{FUNCTIONS}{os.pathsep}{FUNCTIONS.parents[1]}",  # the adapter of this very tree
            "PYTHONIOENCODING": "utf-8:strict",  # as in Lambda's locale, en_US.UTF-8
            "_HANDLER": handler,
            **(env or {}),
        }
        process = await asyncio.create_subprocess_exec(
            *(command or (python, "-m", client, handler)),
            cwd=FUNCTIONS,
            env={name: value for name, value in variables.items() if name not in without},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=descriptors,
            limit=2**24,
            process_group=0,
        )
        running = Function(process, api)
        try:
            async with asyncio.timeout(60):  # a hang is a failure, not a wait
                yield running
                await running.end()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the workers that it has forked
                await process.communicate()

"""The Runtime API, row by row: a request in a state, its status and body, and the state after it.

What the deadline and the process's end do in each state is in test_pool.py, the Extensions API in test_extensions.py.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from adapter.local.configuration import Configuration
from adapter.local.invocation import MAX_PAYLOAD, FunctionError, Invocation, Response
from adapter.local.log import Log
from adapter.local.runtime_api import RuntimeAPI
from adapter.local.states import State

from .conftest import FUNCTIONS, PATIENCE, Terminal

PREFIX = "/2018-06-01/runtime"
NEXT = f"{PREFIX}/invocation/next"
STREAMING = {
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Transfer-Encoding": "chunked",
    "Trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
}
ACCEPTED = (202, {"status": "OK"})
INVALID_ID = (400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"})


def forbidden(before: str, to: str) -> tuple[int, dict[str, str]]:
    message = f"State transition from {before} to {to} failed for runtime. Error: State transition is not allowed"
    return 403, {"errorMessage": message, "errorType": "InvalidStateTransition"}


class Runtime:
    """The runtime's end of one connection, in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.headers: dict[str, str] = {}

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def head(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *map(": ".join, headers.items()), "", ""]).encode()

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        sent = dict(headers or {})
        if "Transfer-Encoding" not in sent:
            sent["Content-Length"] = str(len(body))
        self.send(self.head(method, path, sent) + body)

    async def reply(self) -> tuple[int, Any]:
        """Status and body: JSON decoded if it says JSON, else text."""
        async with asyncio.timeout(PATIENCE):
            status = int((await self.reader.readline()).split()[1])
            self.headers = {}
            while line := (await self.reader.readline()).decode().strip():
                name, _, value = line.partition(":")
                self.headers[name.lower()] = value.strip()
            body = (await self.reader.readexactly(int(self.headers.get("content-length", "0")))).decode()
        if self.headers.get("content-type") != "application/json":
            return status, body
        assert status == 200 or body.endswith("}\n")
        return status, json.loads(body)

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        self.request(method, path, body, headers)
        return await self.reply()


@dataclass
class Caller:
    """A front's part: takes the answer as it comes."""

    chunks: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    answer: Response | FunctionError | None = None

    async def take(self, invocation: Invocation) -> None:
        try:
            self.answer = await invocation.answer
            if isinstance(self.answer, Response):
                async for chunk in self.answer:
                    self.chunks.put_nowait(chunk)
            self.chunks.put_nowait(None)
        finally:
            invocation.delivered()

    async def next(self) -> bytes | None:
        """The next chunk; None at the end."""
        return await asyncio.wait_for(self.chunks.get(), PATIENCE)

    async def body(self) -> bytes:
        body = b""
        while (chunk := await self.next()) is not None:
            body += chunk
        return body

    @property
    def error(self) -> FunctionError | None:
        return self.answer if isinstance(self.answer, FunctionError) else self.answer.error if self.answer else None


class Harness:
    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.api = RuntimeAPI(Configuration("main.handler", FUNCTIONS), Log(terminal))
        self.tasks: list[asyncio.Task[None]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        await self.api.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.api.close()
        for task in self.tasks:
            task.cancel()
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def connect(self) -> Runtime:
        reader, writer = await asyncio.open_connection(*self.api.address.split(":"))
        self.writers.append(writer)
        return Runtime(reader, writer)

    def state(self) -> State:
        return self.api.state

    async def changed(self) -> None:
        await asyncio.wait_for(self.api.changed.wait(), PATIENCE)

    def invoke(
        self, event: bytes = b'{"n": 1}', request_id: str = "request-1", **more: Any
    ) -> tuple[Invocation, Caller]:
        invocation, caller = Invocation(event, "arn:f", request_id, "Root=1-2-3", **more), Caller()
        invocation.hand_out(5)
        self.api.invoke(invocation)
        self.tasks.append(asyncio.create_task(caller.take(invocation)))
        return invocation, caller

    async def running(self, **more: Any) -> tuple[Runtime, Invocation, Caller]:
        """A runtime that has been given `request-1`."""
        runtime = await self.connect()
        runtime.request("GET", NEXT)
        await self.changed()
        invocation, caller = self.invoke(**more)
        assert (await runtime.reply())[0] == 200
        return runtime, invocation, caller

    async def responding(self) -> tuple[Runtime, Invocation, Caller]:
        """One that has sent a chunk of a streamed response."""
        runtime, invocation, caller = await self.running()
        runtime.request("POST", path("response"), headers=STREAMING)
        runtime.chunk(b"first")
        assert await caller.next() == b"first"
        return runtime, invocation, caller

    async def response_sent(self) -> tuple[Runtime, Invocation, Caller]:
        runtime, invocation, caller = await self.running()
        assert await runtime.ask("POST", path("response"), b"{}") == ACCEPTED
        return runtime, invocation, caller


def path(what: str, request_id: str = "request-1") -> str:
    return f"{PREFIX}/invocation/{request_id}/{what}"


@pytest.fixture
async def harness(terminal: Terminal) -> AsyncIterator[Harness]:
    async with Harness(terminal) as harness:
        yield harness


async def test_after_the_end_of_its_process_nobody_waits_for_an_event(harness: Harness) -> None:
    """Neither who asks for one in what is still to be read, nor who holds a connection open: a child, left behind."""
    asking, _ = await harness.connect(), await harness.connect()
    request = asking.head("GET", NEXT, {})
    asking.send(request[:20])
    await asking.writer.drain()
    await asyncio.sleep(0.05)  # until that is read
    drained = asyncio.create_task(harness.api.drain(10 * PATIENCE))
    await asyncio.sleep(0)
    asking.send(request[20:])
    await asyncio.wait_for(drained, PATIENCE)
    assert await asyncio.wait_for(asking.reader.read(1), PATIENCE) == b""


async def test_started_next_blocks_and_ends_the_init(harness: Harness) -> None:
    runtime = await harness.connect()
    runtime.request("GET", NEXT)
    await harness.changed()
    assert harness.state() is State.READY
    # The reply is what is held back: nothing of it before the invocation.
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(runtime.reader.read(1), 0.1)
    invocation, _ = harness.invoke()
    assert await runtime.reply() == (200, {"n": 1})
    assert harness.state() is State.RUNNING
    assert {name: value for name, value in runtime.headers.items() if name.startswith("lambda-")} == {
        "lambda-runtime-aws-request-id": "request-1",
        "lambda-runtime-deadline-ms": str(invocation.deadline_ms),
        "lambda-runtime-invoked-function-arn": "arn:f",
        "lambda-runtime-trace-id": "Root=1-2-3",
        "lambda-runtime-invocation-id": invocation.invocation_id,
    }


async def test_started_init_error(harness: Harness) -> None:
    runtime = await harness.connect()
    body = b'{"errorType": "Runtime.NoTea", "errorMessage": "none"}'
    headers = {"Lambda-Runtime-Function-Error-Type": "Runtime.NoTea"}
    assert await runtime.ask("POST", f"{PREFIX}/init/error", body, headers) == ACCEPTED
    assert harness.state() is State.INIT_ERROR
    assert harness.api.init_error == FunctionError("Runtime.NoTea", body)
    assert harness.api.changed.is_set()
    assert await runtime.ask("GET", NEXT) == forbidden("InitError", "Ready")


@pytest.mark.parametrize("what", ["response", "error"])
async def test_started_has_no_request_id(harness: Harness, what: str) -> None:
    runtime = await harness.connect()
    assert await runtime.ask("POST", path(what)) == INVALID_ID
    assert harness.state() is State.STARTED


async def test_running_next_gives_the_same_event(harness: Harness) -> None:
    runtime, _, _ = await harness.running()
    assert await runtime.ask("GET", NEXT) == (200, {"n": 1})
    assert runtime.headers["lambda-runtime-aws-request-id"] == "request-1"
    assert harness.state() is State.RUNNING


@pytest.mark.parametrize("what", ["response", "error"])
async def test_running_wrong_id(harness: Harness, what: str) -> None:
    runtime, _, _ = await harness.running()
    assert await runtime.ask("POST", path(what, "request-0"), b"{}") == INVALID_ID
    assert harness.state() is State.RUNNING
    assert await runtime.ask("POST", path("response"), b"{}") == ACCEPTED


@pytest.mark.parametrize("what", ["response", "error"])
async def test_running_wrong_invocation_id(harness: Harness, what: str) -> None:
    runtime, invocation, _ = await harness.running()
    refused = await runtime.ask("POST", path(what), b"{}", {"Lambda-Runtime-Invocation-Id": "of an earlier attempt"})
    assert refused == (410, {"errorMessage": "Invoke timeout", "errorType": "InvokeTimeout"})
    assert harness.state() is State.RUNNING
    right = {"Lambda-Runtime-Invocation-Id": invocation.invocation_id}
    assert await runtime.ask("POST", path(what), b"{}", right) == ACCEPTED


async def test_running_buffered_response(harness: Harness) -> None:
    runtime, _, caller = await harness.running()
    answer = await runtime.ask("POST", path("response"), b'"body"', {"Content-Type": "application/json"})
    assert answer == ACCEPTED
    assert harness.state() is State.RESPONSE_SENT
    assert await caller.body() == b'"body"'
    assert isinstance(caller.answer, Response)
    assert (caller.answer.content_type, caller.answer.streaming) == ("application/json", False)


async def test_running_chunked_without_a_mode_is_buffered(harness: Harness) -> None:
    runtime, _, caller = await harness.running()
    runtime.request("POST", path("response"), headers={"Transfer-Encoding": "chunked"})
    runtime.chunk(b"one ")
    runtime.chunk(b"two")
    runtime.send(b"0\r\n\r\n")
    assert await runtime.reply() == ACCEPTED
    assert await caller.body() == b"one two"


async def test_running_streamed_response(harness: Harness) -> None:
    runtime, _, caller = await harness.running()
    runtime.request("POST", path("response"), headers={**STREAMING, "Content-Type": "text/plain"})
    for chunk in (b"one", b"two", b"three"):
        # Each reaches the caller while the runtime has not sent the next.
        runtime.chunk(chunk)
        assert await caller.next() == chunk
        assert harness.state() is State.RESPONDING
    runtime.send(b"0\r\n\r\n")
    assert await runtime.reply() == ACCEPTED
    assert await caller.next() is None
    assert harness.state() is State.RESPONSE_SENT
    assert isinstance(caller.answer, Response)
    assert (caller.answer.content_type, caller.answer.streaming) == ("text/plain", True)
    assert caller.error is None


async def test_streamed_response_is_acknowledged_when_the_caller_has_it(harness: Harness) -> None:
    runtime = await harness.connect()
    runtime.request("GET", NEXT)
    await harness.changed()
    invocation = Invocation(b"{}", "arn:f", "request-1", "Root=1-2-3")
    harness.api.invoke(invocation)
    await runtime.reply()
    runtime.request("POST", path("response"), headers=STREAMING)
    runtime.chunk(b"all")
    runtime.send(b"0\r\n\r\n")
    response = await invocation.answer
    assert isinstance(response, Response)
    assert [chunk async for chunk in response] == [b"all"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(runtime.reader.read(1), 0.1)
    invocation.delivered()
    assert await runtime.reply() == ACCEPTED


async def test_streamed_response_is_read_as_fast_as_the_caller_takes_it(harness: Harness) -> None:
    runtime = await harness.connect()
    runtime.request("GET", NEXT)
    await harness.changed()
    invocation = Invocation(b"{}", "arn:f", "request-1", "Root=1-2-3")
    harness.api.invoke(invocation)
    await runtime.reply()
    runtime.request("POST", path("response"), headers=STREAMING)
    size, chunk = 64 * 1024 * 1024, bytes(1024 * 1024)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < size:
            runtime.chunk(chunk)
            await runtime.writer.drain()
            sent += len(chunk)
        runtime.send(b"0\r\n\r\n")

    sending = asyncio.create_task(send())
    response = await invocation.answer
    assert isinstance(response, Response)
    # Nobody reads: what the kernel's buffers take goes, then the runtime is held up.
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(sending), 0.5)
    assert sent < size / 2
    assert sum([len(part) async for part in response]) == size
    invocation.delivered()
    await sending
    assert await runtime.reply() == ACCEPTED


async def test_running_unknown_mode(harness: Harness) -> None:
    runtime, _, caller = await harness.running()
    headers = {"Lambda-Runtime-Function-Response-Mode": "Streaming"}
    refused = await runtime.ask("POST", path("response"), b"{}", headers)
    assert refused == (
        400,
        {"errorMessage": "Invalid function response mode", "errorType": "InvalidFunctionResponseMode"},
    )
    assert await caller.next() is None
    assert caller.error is not None
    assert caller.error.type == "Runtime.InvalidResponseModeHeader"
    # It stays there until it is reset.
    assert await runtime.ask("GET", NEXT) == forbidden("InvocationResponse", "Ready")
    assert await runtime.ask("POST", path("response")) == forbidden("InvocationResponse", "InvocationResponse")
    assert await runtime.ask("POST", path("error")) == forbidden("InvocationResponse", "InvocationErrorResponse")


@pytest.mark.parametrize(("size", "status"), [(MAX_PAYLOAD, 202), (MAX_PAYLOAD + 1, 413), (3 * MAX_PAYLOAD, 413)])
async def test_running_payload_limit(harness: Harness, size: int, status: int) -> None:
    runtime, _, caller = await harness.running()
    answer = await runtime.ask("POST", path("response"), bytes(size))
    assert answer[0] == status
    if status == 413:
        assert answer[1] == {
            "errorMessage": "Exceeded maximum allowed payload size (6291556 bytes).",
            "errorType": "RequestEntityTooLarge",
        }
        assert await caller.next() is None
        assert caller.error is not None
        assert caller.error.type == "Function.ResponseSizeTooLarge"
    else:
        assert len(await caller.body()) == size
    assert harness.state() is State.RESPONSE_SENT
    # The same connection is good for what follows.
    runtime.request("GET", NEXT)
    await harness.changed()
    assert harness.state() is State.READY


@pytest.mark.parametrize(
    "chunks", [[b"12345678", b"9"], [b"123456789"], [b"1234", b"5678", b"9abcdef", b"g" * 100_000]]
)
async def test_streamed_payload_limit(harness: Harness, chunks: list[bytes]) -> None:
    runtime, _, caller = await harness.running(max_stream=8)
    runtime.request("POST", path("response"), headers=STREAMING)
    for chunk in chunks:
        runtime.chunk(chunk)
    # The refusal comes while the runtime is still in its body.
    assert await runtime.reply() == (
        413,
        {"errorMessage": "Exceeded maximum allowed payload size (8 bytes).", "errorType": "RequestEntityTooLarge"},
    )
    assert harness.state() is State.RESPONSE_SENT
    assert await caller.body() == b"12345678"
    assert caller.error is not None
    assert caller.error.type == "Function.ResponseSizeTooLarge"
    assert "request-1 Error in mid-stream: Function.ResponseSizeTooLarge" in harness.terminal.getvalue()
    runtime.send(b"0\r\n\r\n")
    # The same connection is good for what follows.
    runtime.request("GET", NEXT)
    await harness.changed()
    assert harness.state() is State.READY


async def test_streamed_payload_at_the_limit(harness: Harness) -> None:
    runtime, _, caller = await harness.running(max_stream=8)
    runtime.request("POST", path("response"), headers=STREAMING)
    runtime.chunk(b"1234")
    runtime.chunk(b"5678")
    runtime.send(b"0\r\n\r\n")
    assert await runtime.reply() == ACCEPTED
    assert await caller.body() == b"12345678"
    assert caller.error is None


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ('{"client": {"app_title": "tea"}}', '{"client": {"app_title": "tea"}}'),
        (' {\n"a":\t1\r\n} ', '{ "a": 1  }'),
        ('{"a": "\N{GREEK SMALL LETTER ALPHA}"}', '{"a": "\N{GREEK SMALL LETTER ALPHA}"}'),
        ("", None),
        (" ", None),
    ],
)
async def test_client_context(harness: Harness, given: str, sent: str | None) -> None:
    runtime, _, _ = await harness.running(client_context=given)
    assert runtime.headers.get("lambda-runtime-client-context") == sent


async def test_tenant_id(harness: Harness) -> None:
    runtime, _, _ = await harness.running(tenant_id="blue")
    assert runtime.headers["lambda-runtime-aws-tenant-id"] == "blue"
    assert "lambda-runtime-client-context" not in runtime.headers


async def test_cut_off_in_the_middle_of_a_response(harness: Harness) -> None:
    """The deadline, with a process that is still there: its connection is closed, and there is nothing more for it."""
    runtime, invocation, caller = await harness.responding()
    invocation.fail(FunctionError("Sandbox.Timedout"))
    harness.api.cut_off()
    assert await asyncio.wait_for(runtime.reader.read(), PATIENCE) == b""
    assert await caller.next() is None
    assert caller.error == FunctionError("Sandbox.Timedout")
    assert await (await harness.connect()).ask("POST", path("response"), b"{}") == INVALID_ID


@pytest.mark.parametrize("what", ["response", "error"])
async def test_cut_off_before_the_response(harness: Harness, what: str) -> None:
    runtime, invocation, caller = await harness.running()
    invocation.fail(FunctionError("Sandbox.Timedout"))
    harness.api.cut_off()
    assert await runtime.ask("POST", path(what), b"{}") == INVALID_ID
    assert await caller.next() is None
    assert caller.answer == FunctionError("Sandbox.Timedout")
    # Nor is the event handed out again.
    runtime.request("GET", NEXT)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(runtime.reader.read(1), 0.1)


TRUNCATED = (400, {"errorMessage": "HTTP request detected as truncated", "errorType": "TruncatedHTTPRequest"})


async def test_responding_truncated(harness: Harness) -> None:
    runtime, _, caller = await harness.responding()
    runtime.send(b"ff\r\nincomplete")
    runtime.writer.write_eof()
    assert await runtime.reply() == TRUNCATED
    assert harness.state() is State.RESPONSE_SENT
    assert await caller.body() == b"incomplete"
    assert caller.error is not None
    assert caller.error.type == "Runtime.TruncatedResponse"
    (await harness.connect()).request("GET", NEXT)
    await harness.changed()
    assert harness.state() is State.READY


async def test_responding_wrong_framing(harness: Harness) -> None:
    runtime, _, caller = await harness.responding()
    runtime.send(b"not a chunk size\r\n")
    assert await runtime.reply() == TRUNCATED
    assert await caller.next() is None
    assert caller.error is not None


async def test_trailers_that_the_head_has_not_announced_are_ignored(harness: Harness) -> None:
    runtime, _, caller = await harness.running()
    runtime.request(
        "POST", path("response"), headers={name: value for name, value in STREAMING.items() if name != "Trailer"}
    )
    runtime.send(b"0\r\nLambda-Runtime-Function-Error-Type: Function.Oops\r\n\r\n")
    assert await runtime.reply() == ACCEPTED
    assert await caller.next() is None
    assert caller.error is None


async def test_running_buffered_truncated(harness: Harness) -> None:
    runtime, _, caller = await harness.running()
    runtime.send(runtime.head("POST", path("response"), {"Content-Length": "10"}) + b"half")
    runtime.writer.write_eof()
    assert await runtime.reply() == TRUNCATED
    assert await caller.next() is None
    assert isinstance(caller.answer, FunctionError)


async def test_responding_error_trailers(harness: Harness) -> None:
    runtime, _, caller = await harness.responding()
    error = b'{"errorMessage":"mid-stream","errorType":"ValueError"}'
    runtime.send(b"0\r\nLambda-Runtime-Function-Error-Type: Function.Oops\r\n")
    runtime.send(b"Lambda-Runtime-Function-Error-Body: " + base64.b64encode(error) + b"\r\n\r\n")
    assert await runtime.reply() == ACCEPTED
    assert await caller.next() is None
    assert caller.error == FunctionError("Function.Oops", error)
    assert "request-1 Error in mid-stream: Function.Oops" in harness.terminal.getvalue()
    assert "mid-stream" in harness.terminal.getvalue()


async def test_error_trailer_that_is_not_base64(harness: Harness) -> None:
    runtime, _, caller = await harness.responding()
    runtime.send(b"0\r\nLambda-Runtime-Function-Error-Type: Function.Oops\r\n")
    runtime.send(b"Lambda-Runtime-Function-Error-Body: {plain}\r\n\r\n")
    assert await runtime.reply() == ACCEPTED
    assert await caller.next() is None
    assert caller.error == FunctionError("Function.Oops", b"{plain}")


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("Function.Oops", "Function.Oops"),
        ("Runtime.Oops", "Runtime.Oops"),
        ("Function.oops", "Function.Unknown"),
        ("ValueError", "Runtime.Unknown"),
        (None, "Runtime.Unknown"),
    ],
)
async def test_running_error(harness: Harness, sent: str | None, taken: str) -> None:
    runtime, _, caller = await harness.running()
    headers = {"Lambda-Runtime-Function-Error-Type": sent} if sent else {}
    assert await runtime.ask("POST", path("error"), b'{"errorMessage": "x"}', headers) == ACCEPTED
    assert harness.state() is State.RESPONSE_SENT
    assert await caller.next() is None
    assert caller.answer == FunctionError(taken, b'{"errorMessage": "x"}')


async def test_running_init_error(harness: Harness) -> None:
    runtime, _, _ = await harness.running()
    assert await runtime.ask("POST", f"{PREFIX}/init/error", b"{}") == forbidden("Running", "InitError")
    assert harness.state() is State.RUNNING
    assert harness.api.init_error is None


async def test_responding_next(harness: Harness) -> None:
    await harness.responding()
    other = await harness.connect()
    assert await other.ask("GET", NEXT) == forbidden("InvocationResponse", "Ready")
    assert harness.state() is State.RESPONDING


@pytest.mark.parametrize(("what", "to"), [("response", "InvocationResponse"), ("error", "InvocationErrorResponse")])
async def test_responding_second_post_waits_for_the_end(harness: Harness, what: str, to: str) -> None:
    runtime, _, caller = await harness.responding()
    other = await harness.connect()
    other.request("POST", path(what), b"{}")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(other.reader.read(1), 0.1)
    runtime.chunk(b"second")
    runtime.send(b"0\r\n\r\n")
    assert await runtime.reply() == ACCEPTED
    assert await other.reply() == forbidden("RuntimeResponseSentState", to)
    assert await caller.body() == b"second"


@pytest.mark.parametrize(("what", "to"), [("response", "InvocationResponse"), ("error", "InvocationErrorResponse")])
async def test_response_sent_second_post(harness: Harness, what: str, to: str) -> None:
    runtime, _, _ = await harness.response_sent()
    assert await runtime.ask("POST", path(what), b"{}") == forbidden("RuntimeResponseSentState", to)
    assert harness.state() is State.RESPONSE_SENT


async def test_response_sent_next_completes_the_invocation(harness: Harness) -> None:
    runtime, _, _ = await harness.response_sent()
    assert not harness.api.changed.is_set()
    runtime.request("GET", NEXT)
    await harness.changed()
    assert harness.state() is State.READY
    other = await harness.connect()
    assert await other.ask("POST", path("response"), b"{}") == INVALID_ID
    harness.invoke(b'{"n": 2}', "request-2")
    assert await runtime.reply() == (200, {"n": 2})


async def test_ready_event_goes_to_the_first_next(harness: Harness) -> None:
    first, second = await harness.connect(), await harness.connect()
    first.request("GET", NEXT)
    await harness.changed()
    second.request("GET", NEXT)
    async with asyncio.timeout(PATIENCE):
        while len(harness.api._nexts) < 2:
            await asyncio.sleep(0)
    harness.invoke()
    assert await first.reply() == (200, {"n": 1})
    assert (
        len(harness.api._nexts) == 1
    )  # The second still waits: a runtime that has given its first up has lost an event.


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", f"{PREFIX}/restore/next", 404),
        ("POST", f"{PREFIX}/restore/error", 404),
        ("GET", f"{PREFIX}/invocation/next/", 404),
        ("POST", f"{PREFIX}/invocation/a/b/response", 404),
        ("POST", NEXT, 405),
        ("GET", path("response"), 405),
        ("PUT", path("error"), 405),
        ("GET", f"{PREFIX}/init/error", 405),
    ],
)
async def test_unknown_path_and_wrong_method(harness: Harness, method: str, target: str, status: int) -> None:
    runtime = await harness.connect()
    assert await runtime.ask(method, target) == (status, "404 page not found\n" if status == 404 else "")
    assert harness.state() is State.STARTED


async def test_byte_at_a_time(harness: Harness) -> None:
    runtime, _, caller = await harness.running()
    request = runtime.head("POST", path("response"), STREAMING) + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
    for byte in request:
        runtime.send(bytes([byte]))
        await runtime.writer.drain()
        await asyncio.sleep(0)
    assert await runtime.reply() == ACCEPTED
    assert await caller.body() == b"abcde"


async def test_expect_continue(harness: Harness) -> None:
    runtime, _, caller = await harness.running()
    runtime.send(runtime.head("POST", path("response"), {"Content-Length": "2", "Expect": "100-continue"}))
    assert (await runtime.reply())[0] == 100
    runtime.send(b"{}")
    assert await runtime.reply() == ACCEPTED
    assert await caller.body() == b"{}"


async def test_not_http(harness: Harness) -> None:
    runtime = await harness.connect()
    runtime.send(b"\x16\x03\x01 this is TLS\r\n\r\n")
    assert await asyncio.wait_for(runtime.reader.read(), PATIENCE) == b""


@pytest.mark.parametrize("at", ["next", "responding"])
async def test_close_ends_every_connection(harness: Harness, at: str) -> None:
    wait: Callable[[], Any] = {"next": harness.connect, "responding": harness.responding}[at]
    found = await wait()
    runtime = found if at == "next" else found[0]
    if at == "next":
        runtime.request("GET", NEXT)
        await harness.changed()
    await harness.api.close()
    assert await asyncio.wait_for(runtime.reader.read(), PATIENCE) == b""


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_web_page_gets_no_event(harness: Harness, headers: dict[str, str]) -> None:
    page = await harness.connect()
    for method, path in (("GET", NEXT), ("POST", f"{PREFIX}/init/error")):
        status, text = await page.ask(method, path, headers=headers)
        assert (status, text) == (403, "the Runtime API is for the runtime, and not for web pages\n")
    assert harness.api.state is State.STARTED

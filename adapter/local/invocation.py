from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from adapter.local.configuration import Configuration

# Bytes. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html; to 6 MiB AWS's server adds 100 bytes.
MAX_PAYLOAD = 6_291_556
MAX_STREAM = 200 * 1024 * 1024

# X-Amz-Log-Type: Tail (https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html).
MAX_TAIL = 4096


@dataclass(frozen=True)
class FunctionError:
    """Why an invocation, or its response, failed: Lambda's error type (`Runtime.ExitError`) and a JSON payload."""

    type: str
    payload: bytes = b""


class Response:
    """The function's response on its way from the Runtime API (writer) to a front (reader); bytes as the runtime sent
    them.

    It holds one chunk: a writer gets no further than its reader, so the runtime is read only as fast as the caller
    takes it. `content_type` is that of the runtime's POST, None if it had none; `streaming` whether it asked for the
    streaming mode.
    """

    def __init__(self, content_type: str | None, *, streaming: bool) -> None:
        self.content_type = content_type
        self.streaming = streaming
        self.ended = False
        self.error: FunctionError | None = None
        self._chunk: bytes | None = None
        self._readable = asyncio.Event()  # there is a chunk, or no more will come
        self._writable = asyncio.Event()  # there is room, or nobody wants more
        self._writable.set()
        self._released = False

    async def write(self, data: bytes) -> None:
        await self._writable.wait()
        if self.ended or self._released or not data:
            return
        self._chunk = data
        self._writable.clear()
        self._readable.set()

    def end(self, error: FunctionError | None = None) -> None:
        """No more will come. The first call counts; a chunk that has not been read yet still can be."""
        if not self.ended:
            self.ended = True
            self.error = error
            self._readable.set()
            self._writable.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await self._readable.wait()
            if self._chunk is None:
                return
            chunk, self._chunk = self._chunk, None
            if not self.ended:
                self._readable.clear()
                self._writable.set()
            yield chunk

    def release(self) -> None:
        """The reader wants no more: what is still written is thrown away."""
        self._released = True
        self._chunk = None
        self._writable.set()


class Tail:
    """The last of an invocation's log."""

    def __init__(self) -> None:
        self._kept = b""

    def line(self, text: str) -> None:
        self._kept = (self._kept + text.encode("utf-8", "backslashreplace") + b"\n")[-MAX_TAIL:]

    def __bytes__(self) -> bytes:
        return self._kept


@dataclass(frozen=True)
class Sent:
    """What a caller got, and when: `first_byte` and `ended` in seconds since the event was handed out."""

    status: int
    first_byte: float
    ended: float
    size: int


@dataclass(eq=False)
class Invocation:
    """One event for the function, and its answer.

    A front makes it, gives it to `Invocable.invoke`, awaits `answer` and must call `delivered` when its caller has all
    that it will get: the Runtime API does not answer the runtime's POST before that. `finished` is set when the whole
    of it is over, background work included, and its REPORT is out; `outcome` then has its error if it failed.
    `max_stream` bounds the bytes of a streamed answer: MAX_PAYLOAD for a caller who takes it in one piece.
    `client_context` is JSON text.
    """

    event: bytes
    arn: str
    request_id: str
    trace_id: str
    client_context: str | None = None
    tenant_id: str | None = None
    max_stream: int = MAX_STREAM
    # One for each attempt at the invocation; the runtime gives it back with what it posts.
    invocation_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    deadline_ms: int = 0
    handed_out: float = 0.0  # time.perf_counter()

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.taken: asyncio.Future[None] = loop.create_future()
        self.answer: asyncio.Future[Response | FunctionError] = loop.create_future()
        self.finished = asyncio.Event()
        self.outcome: FunctionError | None = None
        self.tail = Tail()
        self.created = time.perf_counter()
        self.sent: Sent | None = None  # for the log; a front tells it by `Log.response`
        self._delivered = asyncio.Event()

    def hand_out(self, timeout: float) -> None:
        """The clock starts: Duration, and the deadline `timeout` seconds away, count from here."""
        self.handed_out = time.perf_counter()
        self.deadline_ms = int((time.time() + timeout) * 1000)

    @property
    def elapsed(self) -> float:
        """Seconds since the event was handed out."""
        return time.perf_counter() - self.handed_out

    @property
    def answered(self) -> bool:
        """Whether the whole answer is known; the environment may be a moment away from its next /next."""
        if not self.answer.done():
            return False
        answer = self.answer.result()
        return isinstance(answer, FunctionError) or answer.ended

    def respond(self, response: Response) -> None:
        self.answer.set_result(response)

    def fail(self, error: FunctionError) -> None:
        """An error if nothing has been answered yet; else the end of the response, if that is still open."""
        if not self.answer.done():
            self.answer.set_result(error)
        else:
            answer = self.answer.result()
            if isinstance(answer, Response):
                answer.end(error)

    def delivered(self) -> None:
        if self.answer.done():
            answer = self.answer.result()
            if isinstance(answer, Response):
                answer.release()
        self._delivered.set()

    async def wait_delivered(self) -> None:
        await self._delivered.wait()

    def finish(self, error: FunctionError | None = None) -> None:
        """It is over. The first call counts."""
        if not self.finished.is_set():
            self.outcome = error
            self.finished.set()


class Invocable(Protocol):
    """What fronts hand invocations to: a function."""

    @property
    def configuration(self) -> Configuration: ...

    async def invoke(self, invocation: Invocation) -> None:
        """See to it that the invocation is answered. Raises ConcurrencyLimitError if nothing can take it."""


class ConcurrencyLimitError(Exception):
    """Every environment that the function may have is busy."""


class UnavailableError(ConcurrencyLimitError):
    """No worker of a managed instance waits for an event (`Runtime.Unavailable` of the Invoke API)."""


def new_request_id() -> str:
    return str(uuid.uuid4())


def new_trace_id() -> str:
    """As in https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader."""
    return f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"


def describe(error: FunctionError) -> str:
    """One line: the type and message in the error's JSON payload, or what there is of them."""
    try:
        payload = json.loads(error.payload)
        return f"{payload['errorType']}: {payload['errorMessage']}".replace("\n", " ")
    except (ValueError, KeyError, TypeError, RecursionError):
        return error.type

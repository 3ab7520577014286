"""Types shared by the package: events, handlers, ASGI 3 callables, sinks. Only type checkers import this module."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from .blocking import BlockingResponseStream
from .response import Failure, Head
from .stream import ResponseStream

LambdaEvent: TypeAlias = dict[str, Any]

Handler: TypeAlias = Callable[[Any, Any], Any]

Piece: TypeAlias = str | bytes | bytearray | memoryview
"""Of a response's body; text goes out as UTF-8."""

StreamingHandler: TypeAlias = (
    Callable[[Any, ResponseStream, Any], Awaitable[object] | AsyncIterable[Piece]]
    | Callable[
        [Any, BlockingResponseStream, Any],
        AsyncIterable[Piece] | Iterable[Piece] | Mapping[str, Any] | Sequence[Any] | float | None,
    ]
)
"""What `streamify` takes: an async function or async generator; or a function or generator, which runs in a thread.

A function may return an iterable to be piped, or a value that becomes JSON.
"""

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

RawHeaders: TypeAlias = Iterable[Iterable[bytes]]
"""``[[name, value], …]`` as ``http.response.start`` carries them (ASGI spec, HTTP, "Response Start")."""

LifespanMode: TypeAlias = Literal["auto", "on", "off"]


State: TypeAlias = Literal[
    "idle",  # nothing is known
    "held",  # status and headers are known, nothing is on the wire
    "open",  # the head is on the wire
    "closed",  # the end is on the wire
    "lost",  # the other side has refused the response, or is gone: the rest is dropped
]
"""Where a response stands."""

Event: TypeAlias = Literal["start", "flush", "body", "last", "fail", "lose"]
"""What happens to a response; `EVENTS` says what each is."""

Write: TypeAlias = Literal["head", "data", "end", "failure"]
"""What the sink is told."""


class Sink(Protocol):
    """Where a response goes: what comes is said without waiting; the last two wait."""

    def open(self, head: Head | None, content_type: str) -> None:
        """Take the head; None for a raw response, which has a content type only."""

    def data(self, body: bytes, *, more: bool) -> None:
        """Take a piece of body, which may be empty; there is ``more`` to come, or `end` comes next."""

    def end(self, failure: Failure | None) -> None:
        """The body is complete, or the response has failed."""

    def flush(self) -> bool:
        """Pass on what has been taken; False if `drain` has to be waited for before more is said."""

    async def drain(self) -> None:
        """`flush`, and wait until more may be said: backpressure."""

    async def settle(self) -> None:
        """`flush`, and until the other side has taken, or refused, the whole response; at once if none was begun."""

    def abandon(self, reason: str) -> None:
        """The other side has had its time: what it has not taken by now is lost."""

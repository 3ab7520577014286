"""What type checkers accept as a handler, and what they do not. Not run: mypy reads it, for a test and for lint.

Each wrong use is marked with the error that it is; where it were none, the mark would be an error itself.
"""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, BinaryIO, TypedDict, assert_type

from adapter import BlockingResponseStream, ResponseStream, streamify


class Reply(TypedDict):
    ok: bool


@streamify
async def coroutine(event: Any, response_stream: ResponseStream, context: Any) -> None:
    await response_stream.pipe([b"", ""])


@streamify
async def a_value(event: dict[str, Any], response_stream: ResponseStream, context: object) -> Reply:
    return {"ok": True}


@streamify
async def async_generator(event: Any, response_stream: ResponseStream, context: Any) -> AsyncIterator[str | bytes]:
    yield ""


@streamify
def generator(event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[bytes]:
    yield b""


@streamify
def function(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    response_stream.write("")


@streamify
def function_value(event: Any, response_stream: BlockingResponseStream, context: Any) -> Reply | list[int]:
    return [1]


@streamify
def file(event: Any, response_stream: BlockingResponseStream, context: Any) -> BinaryIO:
    return open("x", "rb")


class Handlers:
    def method(self, event: Any, response_stream: BlockingResponseStream, context: Any) -> None: ...

    async def __call__(self, event: Any, response_stream: ResponseStream, context: Any) -> None: ...


method = streamify(Handlers().method)
callable_object = streamify(Handlers())


def more(more: int, event: Any, response_stream: BlockingResponseStream, context: Any) -> int:
    return more


partial = streamify(functools.partial(more, 1))
anonymous = streamify(lambda event, response_stream, context: None)

assert_type(coroutine, Callable[[Any, Any], Any])
assert_type(generator, Callable[[Any, Any], Any])
assert_type(method, Callable[[Any, Any], Any])


@streamify  # type: ignore[arg-type]
async def blocking(event: Any, response_stream: BlockingResponseStream, context: Any) -> None: ...


@streamify  # type: ignore[arg-type]
def not_blocking(event: Any, response_stream: ResponseStream, context: Any) -> None: ...


@streamify  # type: ignore[arg-type]
def numbers(event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[int]:
    yield 1


@streamify  # type: ignore[arg-type]
async def async_numbers(event: Any, response_stream: ResponseStream, context: Any) -> AsyncIterator[int]:
    yield 1


@streamify  # type: ignore[arg-type]
async def two(event: Any, context: Any) -> None: ...


streamify(7)  # type: ignore[call-overload]
streamify(more)  # type: ignore[arg-type]


@streamify
async def body(event: Any, response_stream: ResponseStream, context: Any) -> None:
    await response_stream.write(7)  # type: ignore[arg-type]
    await response_stream.pipe([7])  # type: ignore[list-item]
    response_stream.write("")  # type: ignore[unused-coroutine]

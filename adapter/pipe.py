"""Sources: iterables whose pieces become a response, as Node.js's ``pipeline`` takes them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from .blocking import BlockingResponseStream, in_thread

if TYPE_CHECKING:
    from .stream import ResponseStream
    from .types import Piece


def is_source(value: object) -> bool:
    """Whether a handler that returns this wants it to be piped.

    An async iterable, a generator, an open file: what can be gone through, and
    has no length. What has one (text, bytes, a dict, a list) is a value.
    """
    return isinstance(value, AsyncIterable) or (isinstance(value, Iterable) and not isinstance(value, Collection))


async def pipe(stream: ResponseStream, source: AsyncIterable[Piece] | Iterable[Piece]) -> Any:
    """See `ResponseStream.pipe`."""
    if not isinstance(source, AsyncIterable):
        return await in_thread(stream, BlockingResponseStream.pipe, source)
    iterator = aiter(source)
    try:
        while stream.state != "lost":
            try:
                piece = await anext(iterator)
            except StopAsyncIteration:
                return None
            await stream.write(piece)
    finally:
        aclose = getattr(iterator, "aclose", None)
        if aclose is not None:
            await aclose()

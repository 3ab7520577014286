"""A function's response passed on while it comes, after its prelude."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

from adapter.local.fronts.exchange import Exchange
from adapter.local.fronts.head import MalformedError
from adapter.local.fronts.prelude import PreludeForm, PreludeReader
from adapter.local.invocation import Response

GZIP = 16 + zlib.MAX_WBITS  # zlib's number for its gzip format
# A few bytes may unpack to a thousand times as many: they are passed on in pieces of this size.
PIECE = 256 * 1024


async def with_prelude(exchange: Exchange, response: Response, form: PreludeForm) -> None:
    """The head goes out when the prelude is complete, before any of the body.

    After that the caller is told of no error: the body just ends.
    """
    reply, reader, unpacked = exchange.reply, PreludeReader(form), as_it_is
    try:
        async for chunk in response:
            if not reply.status:
                if (parsed := reader.feed(chunk)) is None:
                    continue
                prelude, chunk = parsed
                if prelude.gzip:
                    unpacked = Gunzip()
                await reply.head(prelude)
            for piece in unpacked(chunk):
                await reply.body(piece)
        if not reply.status:
            raise reader.close()
    except MalformedError as error:
        if response.error is None:
            await exchange.malformed(f"the response's prelude cannot be used: {error}")
        else:
            await exchange.refuse(exchange.service.refusals.failed)
        return
    except zlib.error as error:
        exchange.error(f"the response says it is gzip, and is not: {error}")
    await reply.end()
    exchange.replied()


def as_it_is(data: bytes) -> Iterator[bytes]:
    yield data


class Gunzip:
    """Unpacks a stream, piece by piece."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(GZIP)

    def __call__(self, data: bytes) -> Iterator[bytes]:
        """Raises zlib.error."""
        while data:
            piece = self._zlib.decompress(data, PIECE)
            yield piece
            data = self._zlib.unconsumed_tail


def is_proxy_result(payload: bytes) -> bool:
    if b'"statusCode"' not in payload:
        return False
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "statusCode" in value

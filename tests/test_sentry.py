"""Under Sentry's Lambda integration, which patches awslambdaric: its flushes run, and nothing is posted twice."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from .events import function_url
from .runtime_api import function


class Sentry:
    """As much of Sentry as takes envelopes."""

    def __init__(self) -> None:
        self.exceptions: list[str] = []
        self.dsn = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:-2])
                body = await reader.readexactly(int(fields["content-length"]))
                if fields.get("content-encoding") == "gzip":
                    body = zlib.decompress(body, 31)
                self.take(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def take(self, envelope: bytes) -> None:
        for line in envelope.splitlines():
            for exception in json.loads(line).get("exception", {}).get("values", []):
                self.exceptions.append(f"{exception['type']}: {exception['value']}")


@pytest.fixture
async def sentry() -> AsyncIterator[Sentry]:
    sentry = Sentry()
    async with await asyncio.start_server(sentry.serve, "127.0.0.1", 0) as server:
        sentry.dsn = f"http://key@127.0.0.1:{server.sockets[0].getsockname()[1]}/1"
        yield sentry


async def test_under_sentry(sentry: Sentry) -> None:
    async with function("watched.handler", env={"DSN": sentry.dsn}) as running:
        response = ["open", "prelude", "chunk", "close"]
        assert (await running.api.run(function_url("/fine"))).events == [*response, "next"]
        assert not sentry.exceptions
        # What the integration sees after the response, it reports, flushes, and raises on; the post is held back.
        assert (await running.api.run(function_url("/fine", query="raise"))).events == [*response, "next"]
        assert sentry.exceptions == ["LookupError: after the response"]
        assert (await running.api.run(function_url("/background"))).events == [*response, "background", "next"]
        assert sentry.exceptions[1:] == ["ValueError: in the background"]
        assert (await running.api.run(function_url("/fine"))).events == [*response, "next"]
    assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]

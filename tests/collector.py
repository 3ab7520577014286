"""A collector of telemetry: what is posted to it is an event in the list of the tests' Runtime API."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Callable

from .runtime_api import RuntimeAPI

PATIENCE = 5  # seconds: more than any function here takes to answer its caller, less than a flush takes to give up


class Collector:
    """Takes posts over HTTP/1.1. ``read`` makes events of one: they are recorded when it is answered.

    While ``api`` is at an invocation whose response has not ended, the post is left waiting: a function that holds its
    response back until its telemetry is out gets no further, and "the caller has waited" is recorded.
    """

    def __init__(self, read: Callable[[bytes], list[str]]) -> None:
        self.address = ""
        self.delay = 0.0  # seconds for which a post with events is left without an answer
        self.api: RuntimeAPI | None = None
        self._read = read

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:-2])
                body = await reader.readexactly(int(fields["content-length"]))
                if fields.get("content-encoding") == "gzip":
                    body = zlib.decompress(body, 31)
                await self._take(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _take(self, body: bytes) -> None:
        assert self.api is not None
        if self.api.current is not None:
            try:
                await asyncio.wait_for(self.api.current.closed.wait(), PATIENCE)
            except TimeoutError:
                self.api.record("the caller has waited")
        if events := self._read(body):
            await asyncio.sleep(self.delay)
        for event in events:
            self.api.record(event)


@contextlib.asynccontextmanager
async def collecting(read: Callable[[bytes], list[str]]) -> AsyncIterator[Collector]:
    collector = Collector(read)
    async with await asyncio.start_server(collector.serve, "127.0.0.1", 0) as server:
        collector.address = "{}:{}".format(*server.sockets[0].getsockname())
        yield collector

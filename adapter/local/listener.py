from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator

import h11

from adapter.local.connection import Connection
from adapter.local.web_pages import is_from_web_page

UNREAD = 0.1  # seconds for what a process had sent before its end


class Listener(ABC):
    """A port of its own on 127.0.0.1, with a task for each connection: what the two kinds of Runtime API share.

    `waiting` are those connections whose request waits for an event, and not for bytes.
    """

    _is_gone = False  # the process, and with it whoever could be given an event

    def __init__(self) -> None:
        self.address = ""  # host:port, once it is started
        self._answering: set[asyncio.Task[None]] = set()
        self.waiting: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @abstractmethod
    async def dispatch(self, connection: Connection, request: h11.Request) -> None:
        """Answer one request."""

    async def start(self) -> None:
        # Not by its name: asyncio passes over a socket that cannot be made, when there are no descriptors left.
        sock = socket.create_server(("127.0.0.1", 0))
        # Connections inherit it. Without it the second write of a reply waits for the runtime to acknowledge the first,
        # up to 40 ms. asyncio sets it only for a socket made with IPPROTO_TCP, which `create_server` does not pass.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, port = sock.getsockname()
        self._server = await asyncio.start_server(self._serve, sock=sock)
        self.address = f"{host}:{port}"

    async def close(self) -> None:
        """Close every connection, whatever it is in the middle of."""
        if self._server is not None:
            self._server.close()
        connections = set(self._connections)
        for connection in connections:
            connection.cancel()
        if connections:
            await asyncio.wait(connections)

    async def drain(self, limit: float) -> None:
        """Pass on what a process that has gone had sent; returns when all is out, or after `limit` seconds."""
        self._is_gone = True
        # What nobody has read yet; but a process that it has left behind can hold a connection open for ever.
        unread = self._connections - self._answering
        if unread:
            await asyncio.wait(unread, timeout=min(max(limit, 0), UNREAD))
        posts = self._answering - self.waiting
        if posts:
            await asyncio.wait(posts, timeout=max(limit, 0))

    @contextlib.contextmanager
    def wait_for_event(self) -> Iterator[None]:
        """The connection's request waits for an event from here on; ConnectionAbortedError if none can come."""
        if self._is_gone:
            raise ConnectionAbortedError("its process has ended")
        with member(self.waiting):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with member(self._connections):
            try:
                connection = Connection(reader, writer)
                while (request := await connection.request()) is not None:
                    with member(self._answering):
                        if is_from_web_page(request.headers):
                            await connection.reply(403, b"the Runtime API is for the runtime, and not for web pages\n")
                        else:
                            await self.dispatch(connection, request)
                    if self._is_gone or not await connection.finish():
                        break
            except ConnectionError:
                # The runtime went away before it had its answer, or is to have none.
                pass
            except asyncio.CancelledError:
                # Only we cancel, and whoever does knows why; asyncio's own callback would report it as an error.
                pass
            finally:
                writer.close()


@contextlib.contextmanager
def member(tasks: set[asyncio.Task[None]]) -> Iterator[None]:
    """The connection's task is one of these, for now."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a connection is served by a task")
    tasks.add(task)
    try:
        yield
    finally:
        tasks.discard(task)

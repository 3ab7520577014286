"""A TCP connection to the Runtime API, on an event loop: what is written goes out at once."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from typing import TYPE_CHECKING, Any

from .exceptions import RuntimeApiError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Owner(Protocol):
        """Who a connection is for at present."""

        def received(self, data: bytes) -> None:
            """Bytes have come."""

        def disconnected(self, reason: str) -> None:
            """The other side has gone, and the connection is closed."""


_JOIN_BELOW = 16 * 1024  # bytes: up to here a copy costs less than a system call that takes pieces
_PIECES = 64  # that one system call is given; Linux takes 1,024


class Connection:
    """A connection, for one owner after another. Nobody asked for bytes that come while it has none: they end it.

    On a socket of its own, not on one of asyncio's transports: a small piece costs an eighth to a quarter less so.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, buffer: memoryview) -> None:
        self.owner: Owner | None = None
        self.is_closed = False
        self.is_ready = True
        """Whether more can be written at once."""
        self._loop = loop
        self._socket = sock
        self._buffer = buffer
        self._unsent: Sequence[bytes | memoryview] = ()
        self._writable = asyncio.Event()
        self._writable.set()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        loop.add_reader(sock, self._read)

    @classmethod
    async def open(cls, address: str, buffer: memoryview) -> Connection:
        """A new one, to ``host:port``. `RuntimeApiError` if there is none to be had.

        ``buffer`` is read into, and can be that of other connections of the loop's, too.
        """
        loop = asyncio.get_running_loop()
        sock: socket.socket | None = None
        try:
            sock, host, port = endpoint(address)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await _connect(loop, sock, host, int(port))
        except BaseException as exception:
            if sock is not None:
                sock.close()
            if not isinstance(exception, OSError | ValueError | OverflowError):
                raise
            raise RuntimeApiError(f"no connection to the Runtime API at {ascii(address)}: {exception}") from exception
        return cls(loop, sock, buffer)

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to read: a close, say, that the loop has not seen, since it did not run."""
        return not self._poll.poll(0)

    async def drain(self) -> None:
        """Wait until more can be written, or nothing any more."""
        await self._writable.wait()

    def write(self, pieces: list[bytes]) -> None:
        """Send the pieces. What the socket has no room for is kept, and sent when it has."""
        if self._unsent:
            self._unsent = [*self._unsent, *pieces]
        elif not self.is_closed:
            self._send(pieces)
            if self._unsent:
                self.is_ready = False
                self._writable.clear()
                self._loop.add_writer(self._socket, self._resume)

    def close(self) -> None:
        """Close it, whatever has been written to it."""
        if not self.is_closed:
            self.is_closed = True
            self.is_ready = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._unsent = ()
            self._writable.set()  # whoever waits must go on, to find the response lost

    def _send(self, pieces: Sequence[bytes | memoryview]) -> None:
        size = sum(map(len, pieces))
        try:
            if size <= _JOIN_BELOW:
                sent = self._socket.send(b"".join(pieces))
            else:
                sent = self._socket.sendmsg(pieces[:_PIECES])
        except BlockingIOError:
            sent = 0
        except OSError as exception:
            self._unsent = ()
            self._read()  # the refusal that explains it can still be there
            self._lose(str(exception))
            return
        self._unsent = () if sent == size else _rest(pieces, sent)

    def _resume(self) -> None:
        self._send(self._unsent)
        if not self._unsent and not self.is_closed:
            self.is_ready = True
            self._loop.remove_writer(self._socket)
            self._writable.set()

    def _read(self) -> None:
        """Read until nothing is left.

        uvloop stops polling a socket that has an error, and calls this once: a reset that comes with data shows here or
        never. To poll costs a sixth of a `recv` that would block.
        """
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as exception:
                self._lose(str(exception))
                return
            if not size:
                self._lose("closed by the Runtime API")
            elif self.owner is None:
                self.close()
            else:
                self.owner.received(bytes(self._buffer[:size]))
            if self.is_closed or self.is_quiet:
                return

    def _lose(self, reason: str) -> None:
        owner, self.owner = self.owner, None
        self.close()
        if owner is not None:
            owner.disconnected(reason)


def endpoint(address: str) -> tuple[socket.socket, str, str]:
    """Of ``host:port``, ``[host]:port``: a socket that can be connected to it, the host and the port."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET), host, port


async def _connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, host: str, port: int) -> None:
    """The loop's own `sock_connect`, without the encoding of international names: a millisecond of a cold start."""
    try:
        socket.inet_pton(sock.family, host)
    except OSError:
        found: Any = await loop.getaddrinfo(host, port, family=sock.family, type=sock.type)
        host = found[0][4][0]
    error = sock.connect_ex((host, port))
    if error == errno.EINPROGRESS:
        writable = asyncio.Event()
        loop.add_writer(sock, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def _rest(pieces: Sequence[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What of the pieces has not been sent."""
    rest: list[bytes | memoryview] = []
    for piece in pieces:
        if sent < len(piece):
            rest.append(memoryview(piece)[sent:] if sent else piece)
        sent = max(sent - len(piece), 0)
    return rest

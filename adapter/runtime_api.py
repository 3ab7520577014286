"""Posts to the Runtime API, over kept-alive connections.

One connection serves one response after another, where an environment has one
invocation at a time; else as many as there are posts at once. ``/next`` has
its own (`adapter.next_connection`); under awslambdaric it is not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from typing import TYPE_CHECKING, Any

from . import wire
from .exceptions import RuntimeApiError
from .response import DELIMITER

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from .response import Failure, Head

    P = TypeVar("P", bound=asyncio.BaseProtocol)

_DELIMITER = b"".join(wire.chunk(DELIMITER))
_JOIN_BELOW = 128 * 1024  # bytes: up to here one copy costs less than two more system calls


class Connection(asyncio.BufferedProtocol):
    """One HTTP/1.1 connection to the Runtime API. asyncio sets TCP_NODELAY on it."""

    _transport: asyncio.Transport

    def __init__(self, *, is_watched: bool = False) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.post: Post | None = None
        self._poll = None if is_watched else select.poll()
        # Kept: for a protocol without a buffer of its own, asyncio has 256 KiB mapped and unmapped for each read.
        self._received = memoryview(bytearray(4096))

    def connection_made(self, transport: Any) -> None:  # asyncio's, or uvloop's, which is no asyncio.Transport
        self._transport = transport
        if self._poll is not None:
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    @property
    def is_idle(self) -> bool:
        """Whether a post can be begun on it.

        Where the loop does not run between invocations (it is not watched), a
        close that came in the meantime is still unread: a quiet connection must
        have nothing to read.
        """
        is_quiet = self._poll is None or not self._poll.poll(0)
        return self.post is None and not self._transport.is_closing() and is_quiet

    @property
    def is_ready(self) -> bool:
        """Whether more can be written at once."""
        return self.writable.is_set() and not self._transport.is_closing()

    async def drain(self) -> None:
        """Wait until more can be written."""
        await self.writable.wait()
        if self._transport.is_closing():
            await asyncio.sleep(0)  # let `connection_lost` be called, before any more is written

    def write(self, pieces: list[bytes]) -> None:
        """Send the pieces, without copying large ones."""
        if len(pieces) > 1 and sum(map(len, pieces)) <= _JOIN_BELOW:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            self._transport.write(piece)

    def abort(self) -> None:
        """Close it, whatever has been written to it."""
        self._transport.abort()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        if self.post is None:
            self.abort()  # nobody asked
        else:
            self.post.received(bytes(self._received[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()  # whoever waits must go on, to find the response lost
        if self.post is not None and exc is not None:
            # A write failed; the refusal that explains it can still be there to be read.
            with contextlib.suppress(OSError):
                self.post.received(os.read(self._transport.get_extra_info("socket").fileno(), 65536))
        if self.post is not None:
            self.post.disconnected(str(exc or "closed by the Runtime API"))


class Post:
    """One ``POST /runtime/invocation/{id}/response``: the sink of a streamed response, or, by `whole`, a buffered one.

    The Runtime API answers 202 once it has passed on the whole response, and
    earlier only to refuse it (400, 403, 410, 413): then, and when the connection
    is lost, ``lost`` is called with what was wrong, and the rest goes nowhere.
    A post of which a byte was sent is never repeated: whether it was taken
    cannot be known.
    """

    _reply: wire.Reply | None = None  # from the first byte sent; incomplete while it is awaited
    _connection: Connection | None = None
    _is_unsettled = False
    _ended = False

    def __init__(self, api: RuntimeApi, request_id: str, invocation_id: str | None, begun: Callable[[], None]) -> None:
        self.lost: Callable[[str], None] = _unheard
        self._api = api
        self._head = (request_id, invocation_id)
        self._begun = begun
        self._waiting: list[asyncio.Future[None]] = []  # until it is settled
        self._unsent: list[bytes] = []

    @property
    def request_id(self) -> str:
        return self._head[0]

    def take_kept(self) -> bool:
        """Have the connection of an earlier post, if there is one; nothing is sent yet."""
        self._connection = connection = self._api.kept()
        if connection is None:
            return False
        connection.post = self
        return True

    async def connect(self) -> None:
        """Have a connection; nothing is sent yet. `RuntimeApiError` if there is none to be had."""
        if not self.take_kept():
            self._connection = await self._api.connect()
            self._connection.post = self

    def open(self, head: Head | None, content_type: str) -> None:
        self._is_unsettled = True
        self._unsent.append(wire.streamed_post(self._api.address, content_type, *self._head))
        if head is not None:
            self._unsent += (*wire.chunk(head.prelude()), _DELIMITER)

    def whole(self, payload: bytes, content_type: str = "application/json") -> None:
        """Take a buffered response, in place of all the others."""
        self._whole(wire.buffered_post(self._api.address, *self._head, len(payload), content_type), payload)

    def error(self, payload: bytes, error_type: str, cause: str) -> None:
        """Take an invocation error, JSON, in place of a response; see `wire.error_post`."""
        self._whole(wire.error_post(self._api.address, *self._head, len(payload), error_type, cause), payload)

    def _whole(self, head: bytes, payload: bytes) -> None:
        self._is_unsettled = True
        self._ended = True
        self._unsent += (head, payload)

    def data(self, body: bytes, *, more: bool) -> None:
        if more and self._unsent:
            # The prelude by itself, before the first piece of a stream: in one with it, a function URL has been seen to
            # hold both back (github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/94).
            self.flush()
        self._unsent += wire.chunk(body)

    def end(self, failure: Failure | None) -> None:
        self._ended = True
        self._unsent.append(wire.last_chunk(failure))

    async def drain(self) -> None:
        if self._unsent and self._connection is None:
            await self._reconnect()
        if not self.flush() and self._connection is not None:
            await self._connection.drain()

    async def settle(self) -> None:
        if self._is_unsettled:
            if self._connection is None:
                await self._reconnect()
            self.flush()
            while self._is_unsettled:
                waiter = asyncio.get_running_loop().create_future()
                self._waiting.append(waiter)
                await waiter
        elif self._reply is None:
            self._release(self._api.keep)  # nothing was said on it

    def abandon(self, reason: str) -> None:
        self._fail(reason)

    def flush(self) -> bool:
        connection = self._connection
        if connection is None:
            return not self._unsent
        if self._unsent:
            if self._reply is None:
                self._reply = wire.Reply()
                self._begun()
            pieces, self._unsent = self._unsent, []
            connection.write(pieces)
        return connection.is_ready

    async def _reconnect(self) -> None:
        """The first connection was closed while the app was still thinking."""
        try:
            await self.connect()
        except RuntimeApiError as exception:
            self._fail(str(exception))

    def received(self, data: bytes) -> None:
        """Bytes have come from the Runtime API."""
        if self._reply is None:
            self.disconnected("it spoke without being asked")
            return
        try:
            is_complete = self._reply.feed(data)
        except RuntimeApiError as exception:
            self._fail(str(exception))
        else:
            if is_complete:
                self._answered(self._reply)

    def disconnected(self, reason: str) -> None:
        """The connection is of no more use."""
        if self._reply is None:
            self._release(Connection.abort)
        elif self._reply.feed_eof():
            self._answered(self._reply)
        else:
            self._fail(f"the connection was lost: {reason}")

    def _answered(self, reply: wire.Reply) -> None:
        self._api.container_error |= reply.status >= 500
        if reply.status == 202 and self._ended:
            self._release(self._api.keep if reply.keep_alive else Connection.abort)
            self.lost = _unheard  # else post and stream would hold each other, until a collection
            self._settled()
        else:
            self._fail(
                f"the Runtime API answered {reply.status} {ascii(reply.body.decode('utf-8', 'replace').strip())}"
            )

    def _fail(self, reason: str) -> None:
        """The response cannot be completed. What is left of the request body makes the connection useless."""
        self._unsent.clear()
        self._release(Connection.abort)
        self._settled()
        self.lost(reason)

    def _settled(self) -> None:
        self._is_unsettled = False
        for waiter in self._waiting:
            if not waiter.done():  # as one is whose task has been cancelled
                waiter.set_result(None)

    def _release(self, end: Callable[[Connection], None]) -> None:
        if self._connection is not None:
            self._connection.post = None
            end(self._connection)
            self._connection = None


def _unheard(reason: str) -> None:
    """For a loss of which nobody wants to hear."""


class RuntimeApi:
    """The Runtime API at ``address``, ``host:port`` as ``AWS_LAMBDA_RUNTIME_API`` has it."""

    def __init__(self, address: str, *, is_watched: bool = False) -> None:
        self.address = address
        self.is_watched = is_watched
        """Whether the event loop runs all the time, and sees what becomes of connections."""
        self.container_error = False
        """Whether it has answered 5xx: "Non-recoverable state. Runtime should exit promptly"."""
        self._idle: list[Connection] = []  # the one used last is used next

    def post(self, request_id: str, invocation_id: str | None, begun: Callable[[], None]) -> Post:
        """A post, to be connected; ``begun`` is called just before its first byte."""
        return Post(self, request_id, invocation_id, begun)

    def kept(self) -> Connection | None:
        """A connection of an earlier post that is good for another one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle:
                return connection
            connection.abort()
        return None

    def keep(self, connection: Connection) -> None:
        """A post is done with it."""
        self._idle.append(connection)

    async def connect(self) -> Connection:
        """A new connection for posts."""
        return await self.open(lambda: Connection(is_watched=self.is_watched))

    async def open(self, protocol: Callable[[], P]) -> P:
        """A new connection, for what ``protocol`` makes. `RuntimeApiError` if there is none to be had."""
        host, _, port = self.address.rpartition(":")
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                protocol, host.removeprefix("[").removesuffix("]"), int(port)
            )
        except (OSError, ValueError) as exception:
            raise RuntimeApiError(
                f"no connection to the Runtime API at {ascii(self.address)}: {exception}"
            ) from exception
        return connection

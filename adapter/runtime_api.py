"""Posts to the Runtime API, over kept-alive connections.

One connection serves one response after another, where an environment has one
invocation at a time; else as many as there are posts at once. ``/next`` has
its own (`adapter.next_connection`); under awslambdaric it is not ours.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import wire
from .connection import Connection
from .exceptions import RuntimeApiError
from .response import DELIMITER

if TYPE_CHECKING:
    from collections.abc import Callable

    from .response import Failure, Head

_DELIMITER = b"".join(wire.chunk(DELIMITER))
_READ = 64 * 1024  # bytes


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
        connection.owner = self
        return True

    async def connect(self) -> None:
        """Have a connection; nothing is sent yet. `RuntimeApiError` if there is none to be had."""
        if not self.take_kept():
            self._connection = await self._api.connect()
            self._connection.owner = self

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
        if self._is_unsettled:  # else it was lost with that
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
            self._release(Connection.close)
        elif self._reply.feed_eof():
            self._answered(self._reply)
        else:
            self._fail(f"the connection was lost: {reason}")

    def _answered(self, reply: wire.Reply) -> None:
        self._api.container_error |= reply.status >= 500
        if reply.status == 202 and self._ended:
            self._release(self._api.keep if reply.keep_alive else Connection.close)
            self.lost = _unheard  # else post and stream would hold each other, until a collection
            self._settled()
        else:
            self._fail(
                f"the Runtime API answered {reply.status} {ascii(reply.body.decode('utf-8', 'replace').strip())}"
            )

    def _fail(self, reason: str) -> None:
        """The response cannot be completed. What is left of the request body makes the connection useless."""
        self._unsent.clear()
        self._release(Connection.close)
        self.lost(reason)
        self._settled()

    def _settled(self) -> None:
        self._is_unsettled = False
        for waiter in self._waiting:
            if not waiter.done():  # as one is whose task has been cancelled
                waiter.set_result(None)

    def _release(self, end: Callable[[Connection], None]) -> None:
        if self._connection is not None:
            self._connection.owner = None
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
        self._buffer = memoryview(bytearray(_READ))

    def post(self, request_id: str, invocation_id: str | None, begun: Callable[[], None]) -> Post:
        """A post, to be connected; ``begun`` is called just before its first byte."""
        return Post(self, request_id, invocation_id, begun)

    def kept(self) -> Connection | None:
        """A connection of an earlier post that is good for another one.

        Where the loop does not run between invocations (`is_watched`), a close
        that came in the meantime is still unread: a good one has nothing to read.
        """
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed and (self.is_watched or connection.is_quiet):
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection) -> None:
        """A post is done with it."""
        self._idle.append(connection)

    async def connect(self) -> Connection:
        """A new connection. `RuntimeApiError` if there is none to be had."""
        return await Connection.open(self.address, self._buffer)

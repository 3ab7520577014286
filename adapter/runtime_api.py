"""The connection to the Runtime API, and streamed posts over it.

One kept-alive connection serves one response after another: an environment
has one invocation at a time. ``/next`` is not ours and has a connection of its
own (awslambdaric's).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from typing import TYPE_CHECKING

from . import wire
from .exceptions import RuntimeApiError
from .response import DELIMITER

if TYPE_CHECKING:
    from collections.abc import Callable

    from .response import Failure, Head

_JOIN_BELOW = 128 * 1024  # bytes: up to here one copy costs less than two more system calls


class Connection(asyncio.BufferedProtocol):
    """One HTTP/1.1 connection to the Runtime API. asyncio sets TCP_NODELAY on it."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.post: Post | None = None
        self._poll = select.poll()
        # Kept: for a protocol without a buffer of its own, asyncio has 256 KiB mapped and unmapped for each read.
        self._received = memoryview(bytearray(4096))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a stream transport is needed, not {transport!r}")
        self._transport = transport
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    @property
    def is_idle(self) -> bool:
        """Whether a post can be begun on it.

        The loop does not run between invocations, so a close that came in the
        meantime is still unread: a quiet connection must have nothing to read.
        """
        return self.post is None and not self._transport.is_closing() and not self._poll.poll(0)

    async def drain(self) -> None:
        """Wait until more can be written."""
        await self.writable.wait()
        if self._transport.is_closing():
            await asyncio.sleep(0)  # let `connection_lost` be called, before any more is written

    def write(self, *pieces: bytes) -> None:
        """Send the pieces, without copying large ones."""
        if sum(map(len, pieces)) <= _JOIN_BELOW:
            pieces = (b"".join(pieces),)
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

    def __init__(self, api: RuntimeApi, request_id: str, invocation_id: str | None, begun: Callable[[], None]) -> None:
        self.lost: Callable[[str], None] = _unheard
        self.reply: wire.Reply | None = None
        self._api = api
        self._head = (request_id, invocation_id)
        self._begun = begun
        self._connection: Connection | None = None
        self._parser: wire.ReplyParser | None = None  # from the first byte sent
        self._settled = asyncio.Event()
        self._settled.set()
        self._unsent: list[bytes] = []
        self._ended = False

    @property
    def request_id(self) -> str:
        return self._head[0]

    async def connect(self) -> None:
        """Have a connection; nothing is sent yet. `RuntimeApiError` if there is none to be had."""
        self._connection = self._api.kept or await self._api.connect()
        self._connection.post = self

    def open(self, head: Head | None, content_type: str) -> None:
        self._settled.clear()
        self._unsent.append(wire.streamed_post(self._api.address, content_type, *self._head))
        if head is not None:
            self._unsent += [*wire.chunk(head.prelude()), *wire.chunk(DELIMITER)]

    def whole(self, payload: bytes) -> None:
        """Take a buffered response, JSON, in place of all the others."""
        self._settled.clear()
        self._ended = True
        self._unsent += [wire.buffered_post(self._api.address, *self._head, len(payload)), payload]

    def data(self, body: bytes, *, more: bool) -> None:
        if more:
            # The prelude by itself, before the first piece of a stream: in one with it, a function URL has been seen to
            # hold both back (github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/94).
            self.flush()
        self._unsent += wire.chunk(body)

    def end(self, failure: Failure | None) -> None:
        self._ended = True
        self._unsent.append(wire.last_chunk(failure))

    async def drain(self) -> None:
        if self._unsent and self._connection is None:
            try:
                await self.connect()  # the first one was closed while the app was still thinking
            except RuntimeApiError as exception:
                self._fail(str(exception))
        self.flush()
        if self._connection is not None:
            await self._connection.drain()

    async def settle(self) -> None:
        if not self._settled.is_set():
            await self.drain()
            await self._settled.wait()

    def abandon(self, reason: str) -> None:
        if not self._settled.is_set():
            self._fail(reason)

    def flush(self) -> None:
        if self._unsent and self._connection is not None:
            if self._parser is None:
                self._parser = wire.ReplyParser()
                self._begun()
            pieces, self._unsent = self._unsent, []
            self._connection.write(*pieces)

    def received(self, data: bytes) -> None:
        """Bytes have come from the Runtime API."""
        if self._parser is None:
            self.disconnected("it spoke without being asked")
            return
        try:
            self._answered(self._parser.feed(data))
        except RuntimeApiError as exception:
            self._fail(str(exception))

    def disconnected(self, reason: str) -> None:
        """The connection is of no more use."""
        if self._parser is None:
            self._release(Connection.abort)
        else:
            self._answered(self._parser.feed_eof())
            if self._connection is not None:
                self._fail(f"the connection was lost: {reason}")

    def _answered(self, reply: wire.Reply | None) -> None:
        if reply is None:
            return
        self.reply = reply
        self._api.container_error |= reply.status >= 500
        if reply.status == 202 and self._ended:
            self._release(None if reply.keep_alive else Connection.abort)
            self.lost = _unheard  # else post and stream would hold each other, until a collection
            self._settled.set()
        else:
            self._fail(
                f"the Runtime API answered {reply.status} {ascii(reply.body.decode('utf-8', 'replace').strip())}"
            )

    def _fail(self, reason: str) -> None:
        """The response cannot be completed. What is left of the request body makes the connection useless."""
        self._unsent.clear()
        self._release(Connection.abort)
        self._settled.set()
        self.lost(reason)

    def _release(self, end: Callable[[Connection], None] | None) -> None:
        if self._connection is not None:
            self._connection.post = None
            if end is not None:
                end(self._connection)
            self._connection = None


def _unheard(reason: str) -> None:
    """For a loss of which nobody wants to hear."""


class RuntimeApi:
    """The Runtime API at ``address``, ``host:port`` as ``AWS_LAMBDA_RUNTIME_API`` has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.container_error = False
        """Whether it has answered 5xx: "Non-recoverable state. Runtime should exit promptly"."""
        self._connection: Connection | None = None

    def post(self, request_id: str, invocation_id: str | None, begun: Callable[[], None]) -> Post:
        """A streamed post, to be connected; ``begun`` is called just before its first byte."""
        return Post(self, request_id, invocation_id, begun)

    @property
    def kept(self) -> Connection | None:
        """The connection of the last post, if it is good for another one."""
        return self._connection if self._connection is not None and self._connection.is_idle else None

    async def connect(self) -> Connection:
        """A new connection, in place of the kept one."""
        if self._connection is not None:
            self._connection.abort()
        host, _, port = self.address.rpartition(":")
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection, host.removeprefix("[").removesuffix("]"), int(port)
            )
        except (OSError, ValueError) as exception:
            raise RuntimeApiError(
                f"no connection to the Runtime API at {ascii(self.address)}: {exception}"
            ) from exception
        self._connection = connection
        return connection

"""The connection on which events are asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .exceptions import RuntimeApiError
from .wire import EVENT_LIMIT, Reply, next_request

if TYPE_CHECKING:
    from collections.abc import Callable


class NextConnection(asyncio.BufferedProtocol):
    """The connection on which one ``/next`` after another is asked for, and nothing else.

    A pending one is neither cancelled nor timed out: its event would be handed to nobody
    (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-next). `received` is called with the
    reply, or ``lost`` with what was wrong. ``buffer`` is read into, and can be that of other such connections, too.
    """

    _transport: asyncio.Transport

    def __init__(
        self, address: str, received: Callable[[Reply], None], lost: Callable[[str], None], buffer: memoryview
    ) -> None:
        self._request = next_request(address)
        self._reply: Reply | None = None  # while it is awaited
        self._received = received
        self._lost = lost
        self._buffer = buffer

    def connection_made(self, transport: Any) -> None:  # asyncio's, or uvloop's, which is no asyncio.Transport
        self._transport = transport

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def ask(self) -> None:
        self._reply = Reply(EVENT_LIMIT)
        self._transport.write(self._request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        reply = self._reply
        if reply is None:
            self._transport.abort()  # nobody asked
            return
        try:
            is_complete = reply.feed(bytes(self._buffer[:nbytes]))
        except RuntimeApiError as exception:
            self._reply = None
            self._transport.abort()
            self._lost(str(exception))
        else:
            if is_complete:
                self._answered(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if reply.feed_eof():
            self._answered(reply)
        else:
            self._lost(f"the connection was lost: {exc or 'closed by the Runtime API'}")

    def _answered(self, reply: Reply) -> None:
        self._reply = None
        if not reply.keep_alive:
            self._transport.abort()
        self._received(reply)

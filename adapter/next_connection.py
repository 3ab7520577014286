"""The connection on which events are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exceptions import RuntimeApiError
from .wire import EVENT_LIMIT, Reply, next_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from .connection import Connection


class NextConnection:
    """Owns a connection on which one ``/next`` after another is asked for, and nothing else.

    A pending one is neither cancelled nor timed out: its event would be handed to nobody
    (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-next). ``taken`` is called with the
    reply, or ``lost`` with what was wrong.
    """

    def __init__(
        self, connection: Connection, address: str, taken: Callable[[Reply], None], lost: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._request = [next_request(address)]
        self._taken = taken
        self._lost = lost
        self._reply: Reply | None = None  # while it is awaited
        connection.owner = self

    @property
    def is_closed(self) -> bool:
        return self._connection.is_closed

    def ask(self) -> None:
        self._reply = Reply(EVENT_LIMIT)
        self._connection.write(self._request)

    def received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            self._connection.close()  # nobody asked
            return
        try:
            is_complete = reply.feed(data)
        except RuntimeApiError as exception:
            self._reply = None
            self._connection.close()
            self._lost(str(exception))
        else:
            if is_complete:
                self._answered(reply)

    def disconnected(self, reason: str) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if reply.feed_eof():
            self._answered(reply)
        else:
            self._lost(f"the connection was lost: {reason}")

    def _answered(self, reply: Reply) -> None:
        self._reply = None
        if not reply.keep_alive:
            self._connection.close()
        self._taken(reply)

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import h11

READ_SIZE = 64 * 1024
# awslambdaric sends an X-Ray error cause of up to 1 MiB in a header.
MAX_HEAD = 2 * 1024 * 1024
# Bytes, with the empty line: Go's net/http, of which AWS's server is made, takes no more.
MAX_TRAILERS = 4096

Headers = dict[bytes, bytes]


class TruncatedError(Exception):
    """The peer's request ended, or went wrong, inside its body."""


class Connection:
    """One HTTP/1.1 connection from a runtime: h11 over asyncio streams, whose socket has TCP_NODELAY from `Listener`.

    For each request: `request`, then `body` to the extent that it is wanted, `reply`, `finish`.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.trailers: Headers = {}

    @property
    def closed(self) -> bool:
        """Whether the peer has closed it: seen even while nothing is read, since asyncio reads ahead."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def request(self) -> h11.Request | None:
        """The next request's head; None when the peer has closed, or sends what is not HTTP."""
        try:
            event = await self._event()
        except h11.RemoteProtocolError:
            return None
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body as it comes; afterwards `trailers` has its trailers. Raises TruncatedError."""
        while True:
            try:
                event = await self._event()
            except h11.RemoteProtocolError as error:
                raise TruncatedError(str(error)) from error
            if isinstance(event, h11.EndOfMessage):
                self.trailers = dict(event.headers)
                size = sum(len(name) + len(value) + len(": \r\n") for name, value in event.headers) + len("\r\n")
                if size > MAX_TRAILERS:
                    raise TruncatedError("http: suspiciously long trailer after chunked body")
                return
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a whole response. It may go out before the request's body has been read."""
        fields = {**(headers or {}), "content-length": str(len(body))}
        head = h11.Response(
            status_code=status, headers=[(name.encode(), value.encode()) for name, value in fields.items()], reason=b""
        )
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        # In one write: the runtime wakes up once.
        self._writer.write(b"".join(self._h11.send(event) or b"" for event in events))
        await self._writer.drain()

    async def reply_json(self, status: int, value: dict[str, str], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode() + b"\n"
        await self.reply(status, body, {"content-type": "application/json", **(headers or {})})

    async def finish(self) -> bool:
        """Read the request to its end; whether the connection is good for another one."""
        if self._h11.their_state is h11.SEND_BODY:
            try:
                async for _ in self.body():
                    pass
            except TruncatedError:
                return False
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self.trailers = {}
        return True

    async def _event(self) -> object:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Event) or event is h11.PAUSED:
                return event
            if self._h11.they_are_waiting_for_100_continue:
                self._writer.write(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            try:
                data = await self._reader.read(READ_SIZE)
            except ConnectionError:
                # A killed process leaves a reset behind where an exit leaves an end of file; both say that no more will
                # come.
                data = b""
            self._h11.receive_data(data)

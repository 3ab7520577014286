"""`ResponseStream`: what a handler writes its response to."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .exceptions import AppError, shown
from .response import GATEWAY_TIMEOUT, GATEWAY_TIMEOUT_BODY, HTTP_INTEGRATION, Head, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable
    from typing import Any

    from .types import Piece, Sink, State

HOLD = 0.02
"""Seconds for which status and headers wait for a first piece of body.

An app that fails right after them, in a serializer or a generator's first
step, is then still answered with a clean 500; and a slow first token does not
keep the headers from the caller.
"""


MAX_BUSY = 0.01
"""Seconds for which pieces may be sent without a turn of the event loop.

A generator that awaits nothing, and whose pieces nobody is slower to take, would else keep the loop from all timers,
that of its own deadline among them. A turn takes some 10 µs: a thousandth of this.
"""


DEADLINE_EVENT = b'\n\nevent: error\ndata: {"error": "deadline exceeded"}\n\n'
"""A server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html); the first blank line ends one
that may have been cut short."""


class ResponseStream:
    """The response of one invocation, written piece by piece.

    `write` as often as there is something to say, then `close`: the caller has
    its whole response from then on, while the handler goes on to work. By
    default the bytes go out as they are, with ``content_type``; `http` puts a
    status, headers and cookies before them, for function URLs and API Gateway.

    Python's form of Node.js's ``responseStream`` and ``HttpResponseStream.from``:
    https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html
    """

    ended_at = 0.0
    """When it was over, as `time.monotonic`; 0 before."""
    _ended: asyncio.Event | None = None  # for who waits for that
    _hold: asyncio.Handle | None = None
    _content_type = "application/octet-stream"

    def __init__(self, sink: Sink, request_id: str, *, bodiless: bool = False) -> None:
        self._sink = sink
        self._response = Response(sink, bodiless=bodiless)
        self._request_id = request_id
        self._context = contextvars.copy_context()
        self._turned_at = time.monotonic()

    def __repr__(self) -> str:
        return f"<ResponseStream {self.state}>"

    @property
    def state(self) -> State:
        return self._response.state

    @property
    def status(self) -> int:
        """The status sent; 200 of a raw response."""
        return self._response.status

    @property
    def content_type(self) -> str:
        """Of a raw response, "application/octet-stream" unless it is set; to be set before the first `write`."""
        return self._content_type

    @content_type.setter
    def content_type(self, content_type: str) -> None:
        if self.state not in ("idle", "lost"):
            raise AppError(f"content_type cannot be set while the response is {self.state}")
        self._content_type = content_type

    def http(
        self,
        status_code: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        cookies: Iterable[str] = (),
    ) -> None:
        """Make it an HTTP response: status, headers, and cookies as ``Set-Cookie`` values (``name=value; Path=/``).

        To be called once, before the first `write`. The caller sees them at the
        first `write`, at `close`, or after 20 ms, whichever comes first.
        """
        if isinstance(cookies, str):
            raise AppError("http takes a list of cookies, not a string")  # its characters would be cookies
        fields = [*(headers.items() if isinstance(headers, Mapping) else headers)]
        fields += [("set-cookie", cookie) for cookie in cookies]
        self.start(Head.parse(status_code, [(_latin_1(name, ""), _latin_1(value, name)) for name, value in fields]))

    async def write(self, data: Piece) -> None:
        """Send a piece of the body, text as UTF-8; waits while the caller is slower than the writer."""
        self._begin()
        await self.send(data.encode() if isinstance(data, str) else data, more=True)

    async def pipe(self, source: AsyncIterable[Piece] | Iterable[Piece]) -> Any:
        """`write` the pieces of an iterable, asynchronous or not, each when the caller has room for it.

        A source that is not asynchronous is run through in a thread: it may
        block. At the end, and when the response fails or is lost, the source's
        iterator is closed (``aclose``, ``close``), so that a generator's
        ``finally`` runs. The response stays open, unlike after Node.js's
        ``pipeline``. Returns what a generator returns, as ``yield from`` does.
        """
        from .pipe import pipe

        return await pipe(self, source)

    async def close(self) -> None:
        """End the response, and wait until the Runtime API has passed it on; once more does nothing.

        What the handler does after this is done before the next event is fetched.
        """
        self._begin()
        if self.state == "closed":
            await self.settle()
        else:
            await self.send(b"", more=False)

    def start(self, head: Head) -> None:
        """Begin an HTTP response; its head goes out with the first piece of body, or after `HOLD`."""
        self._response.start(head, HTTP_INTEGRATION)
        # Most bodies follow at once. The timer, which costs more, is for an app that first lets the loop go on.
        self._hold = asyncio.get_running_loop().call_soon(self._wait)

    async def send(self, data: bytes | bytearray | memoryview, *, more: bool) -> None:
        """Send a piece of body, the last one when there is no ``more``."""
        if not isinstance(data, bytes):
            if not isinstance(data, bytearray | memoryview):
                raise AppError(f"a body consists of bytes, not of {type(data).__name__}")
            data = bytes(data)  # the buffer is the app's, to be filled again as soon as this returns
        self._response.body(data, more=more)
        if self._hold is not None:
            self._release()
        if not more:
            await self.settle()
        elif not self._sink.flush():
            await self._sink.drain()
        elif time.monotonic() - self._turned_at > MAX_BUSY:
            await asyncio.sleep(0)
            self._turned_at = time.monotonic()

    async def fail(self, exception: BaseException) -> None:
        """The handler has failed. In mid-stream the response ends, and says so; before it, it can be begun anew."""
        self._release()
        self._response.fail(exception)
        await self.settle()

    async def settle(self) -> None:
        """What has been ended is sent, and answered."""
        await self._sink.settle()
        self._end()

    def expire(self, exception: BaseException, *, http: bool, sse_event: bool) -> None:
        """Its time is up: what can still be said is said, and whatever the handler goes on to write is dropped.

        In mid-stream the response ends as one that has failed, server-sent events with a last one if ``sse_event``;
        before that with a 504 if it is one of ``http``, else not at all.
        """
        self._release()
        if self.state == "open" and sse_event and self._response.is_event_stream:
            self._response.body(DEADLINE_EVENT, more=True)
        self._response.fail(exception)
        if self.state == "idle" and http:
            self._response.start(GATEWAY_TIMEOUT)
            self._response.body(GATEWAY_TIMEOUT_BODY, more=False)
        self._response.lose()
        self._sink.flush()

    async def settle_in(self, seconds: float) -> None:
        """`settle`; when the other side has not taken the whole response by then, it is given up."""
        try:
            await asyncio.wait_for(self.settle(), max(seconds, 0.0))
        except TimeoutError:
            self._sink.abandon(
                "it was not taken before the deadline. Lambda may end this environment; a longer deadline_margin gives "
                "a slow caller more time"
            )

    def lose(self, reason: str) -> None:
        """The Runtime API has refused the response, or is gone: the handler goes on, and nobody hears it."""
        self._release()
        self._response.lose()
        self._end()
        from .log import logger

        # It is heard of in the context of a connection, which is another invocation's.
        message = "The response to RequestId %s did not get through: %s"
        self._context.run(logger.error, message, ascii(self._request_id), reason)

    async def ended(self) -> None:
        """Until the response is over, in whichever way."""
        if not self.ended_at:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()

    def _end(self) -> None:
        if not self.ended_at:
            self.ended_at = time.monotonic()
            if self._ended is not None:
                self._ended.set()

    def _begin(self) -> None:
        if self.state == "idle":
            Head.parse(200, [(b"content-type", _latin_1(self._content_type, ""))])  # it becomes a header as it is
            self._response.start(None, self._content_type)

    def _wait(self) -> None:
        self._hold = asyncio.get_running_loop().call_later(HOLD, self._flush)

    def _flush(self) -> None:
        self._hold = None
        self._response.flush()
        self._sink.flush()

    def _release(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None


def _latin_1(text: object, name: str) -> bytes:
    """As bytes; ``name`` is that of the header, for a value."""
    if not isinstance(text, str):
        raise AppError(f"an HTTP header consists of text, unlike {shown(text, name)}")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise AppError(f"an HTTP header has characters of latin-1 only, unlike {shown(text, name)}") from None

"""A reply in one piece, posted as soon as it is complete: the caller has it while background work is still to come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .log import logger
from .response import SERVER_ERROR, SERVER_ERROR_BODY, Buffer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .response import Failure, Head
    from .runtime_api import Post

MAX_REPLY = 6 * 1024 * 1024 + 100
"""Bytes of JSON. 6 MB by https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html; AWS's own Runtime API
server says 6,291,556."""
MAX_REPLIES = {
    **dict.fromkeys(("function-url", "http-api", "rest-api", "lambda-edge", "vpc-lattice"), MAX_REPLY),
    "alb": 1024 * 1024,  # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
}
"""By trigger. What a custom handler replies can be as long as Lambda's limit."""


class BufferedReply(Buffer):
    """A sink that makes ``reply`` of the response when it is complete, and posts it.

    ``reply`` has the front end's form: a dict of status, headers and body. What it raises fails the invocation, and is
    kept in ``error``: nothing has been posted then.
    """

    __slots__ = ("_most", "_most_body", "_post", "_reply", "_size", "error")

    def __init__(self, post: Post, reply: Callable[[Head, bytes], Any], trigger: str) -> None:
        super().__init__()
        self._most = MAX_REPLIES.get(trigger, MAX_REPLY)
        # As JSON no body is shorter than it is. A custom handler may compress one.
        self._most_body = MAX_REPLIES.get(trigger, float("inf"))
        self._size = 0  # of the body, kept or not
        self._post = post
        self._reply = reply
        self.error: Exception | None = None

    def data(self, body: bytes, *, more: bool) -> None:
        self._size += len(body)
        if self._size <= self._most_body:
            super().data(body, more=more)
        else:
            self.body.clear()  # no form of it fits

    def end(self, failure: Failure | None) -> None:
        super().end(failure)
        size, payload = 0 if failure else self._size, b""
        try:
            if size <= self._most_body:
                payload = _json(self._reply(self.head or SERVER_ERROR, bytes(self.body)))
                size = len(payload)
            if size > self._most:
                logger.error(
                    "The response to RequestId %s has %d or more bytes as JSON, and one that is not streamed can have "
                    "%d: its caller gets a 500. A function URL with InvokeMode RESPONSE_STREAM, or a REST API with "
                    "responseTransferMode STREAM, takes larger ones",
                    ascii(self._post.request_id),
                    size,
                    self._most,
                )
                payload = _json(self._reply(SERVER_ERROR, SERVER_ERROR_BODY))
        except Exception as exception:
            self.error = exception
        else:
            self._post.whole(payload)

    async def settle(self) -> None:
        await self._post.settle()

    def abandon(self, reason: str) -> None:
        self._post.abandon(reason)


def _json(reply: Any) -> bytes:
    """Characters as they are, which the limit is for: escaped, those of most languages have three times the bytes."""
    try:
        return json.dumps(reply, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which has no other form
        return json.dumps(reply).encode()

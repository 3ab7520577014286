"""The execution environment that this process is: one event loop for its whole life, and its Runtime API."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
from typing import TYPE_CHECKING

from .exceptions import RuntimeApiError
from .ric import Seam
from .runtime_api import RuntimeApi
from .stream import ResponseStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    from .buffered import BufferedReply
    from .response import Head
    from .ric import Invocation

    T = TypeVar("T")


class Environment:
    """Where handlers run.

    ``api`` and ``seam`` are None outside Lambda: in a unit test, or a script
    that calls its handler. The event loop is the same for every invocation, so
    that clients and pools that an app keeps go on working; it stands still
    between invocations, as all of the process does on Lambda.
    """

    def __init__(self, api: RuntimeApi | None = None, seam: Seam | None = None) -> None:
        self.api = api
        self._seam = seam
        self.loop = asyncio.new_event_loop()

    def invocation(self, context: object) -> Invocation | None:
        """The invocation that awslambdaric is at and this context belongs to; None if there is none."""
        return self._seam.invocation(getattr(context, "aws_request_id", None)) if self._seam else None

    async def stream(self, invocation: Invocation, *, bodiless: bool = False) -> ResponseStream:
        """The stream on which this invocation is answered; nothing is sent yet."""
        if self.api is None:
            raise RuntimeApiError("there is no Runtime API outside Lambda")
        post = self.api.post(invocation.request_id, invocation.invocation_id, invocation.answer)
        await post.connect()
        stream = ResponseStream(post, invocation.request_id, bodiless=bodiless)
        post.lost = stream.lose
        return stream

    def buffered(
        self, invocation: Invocation, reply: Callable[[Head, bytes], Any], *, bodiless: bool = False
    ) -> tuple[ResponseStream, BufferedReply]:
        """The stream on which this invocation is answered in one piece, and the sink in which it is kept till then."""
        from .buffered import BufferedReply

        if self.api is None:
            raise RuntimeApiError("there is no Runtime API outside Lambda")
        post = self.api.post(invocation.request_id, invocation.invocation_id, invocation.answer)
        sink = BufferedReply(post, reply)
        stream = ResponseStream(sink, invocation.request_id, bodiless=bodiless)
        post.lost = stream.lose
        return stream, sink

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end on the environment's loop."""
        try:
            asyncio.get_running_loop()
            is_running = True
        except RuntimeError:
            is_running = self.loop.is_running()  # in another thread, which waits for a handler that calls one
        if is_running:
            work.close()
            raise RuntimeError(
                "a Lambda handler is synchronous and cannot be called where an event loop is running: "
                "call it from synchronous code, or with asyncio.to_thread"
            )
        # Not run_forever, stopped by the work's last step, which would be a turn of the loop less: in that turn anyio
        # ends its worker threads, and a process does not exit while one is left.
        result = self.loop.run_until_complete(work)
        if self.api is not None and self.api.container_error:
            raise SystemExit("the Runtime API reports a container error, after which a runtime has to exit")
        return result


@functools.cache
def environment() -> Environment:
    """This process's environment, made when the first handler is: on Lambda that is in the init phase.

    Lambda is where ``AWS_LAMBDA_RUNTIME_API`` is set
    (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html).
    Raises `SeamError`, which fails the init, if awslambdaric is not as known.
    """
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if address:
        made = Environment(RuntimeApi(address), Seam.install())
        # The process is ours: what asks for "the" loop while it is being imported gets the one its requests run on.
        asyncio.set_event_loop(made.loop)
        return made
    made = Environment()
    atexit.register(made.loop.close)
    return made

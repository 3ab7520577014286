"""Handlers written with `streamify`, and what people put around handlers."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from adapter import ResponseStream, StreamingAdapter, streamify
from record import record


@streamify
async def article(event: Any, response_stream: ResponseStream, context: Any) -> None:
    response_stream.content_type = "text/plain"
    await response_stream.write(f"Hello my request id is: {context.aws_request_id}")
    await response_stream.close()
    record("background")
    await asyncio.sleep(0.05)
    record("done-waiting")


@streamify
async def http(event: Any, response_stream: ResponseStream, context: Any) -> None:
    response_stream.http(
        status_code=int(event["status"]),
        headers={"Content-Type": "text/plain; charset=utf-8", "X-Name": "é"},
        cookies=["a=1; Path=/", "b=2"],
    )
    await response_stream.write("héllo")
    await response_stream.write(bytearray(" wörld".encode()[:4]))
    await response_stream.close()
    await response_stream.close()  # once more is not an error


@streamify
async def slow_http(event: Any, response_stream: ResponseStream, context: Any) -> None:
    response_stream.http(headers=[("x-a", "1"), ("x-a", "2")])
    record("started")
    await asyncio.sleep(0.3)
    record("first-token")
    await response_stream.write("token")


@streamify
async def silent(event: Any, response_stream: ResponseStream, context: Any) -> str:
    return "not used"


@streamify
async def phases(event: Any, response_stream: ResponseStream, context: Any) -> None:
    """Fails where the event says."""
    if event["at"] == "before":
        raise ValueError("before")
    if event["at"] == "held":
        response_stream.http(status_code=200)
        raise ValueError("held")
    if event["at"] == "content type":
        response_stream.content_type = "text/plain\r\nx: y"
        await response_stream.write("x")
    if event["at"] == "header":
        response_stream.http(headers={"x": "\u20ac"})
    if event["at"] == "before, half a surrogate pair":
        raise ValueError(event["text"])
    if event["at"] == "type":
        await response_stream.write(7)  # type: ignore[arg-type]
    await response_stream.write("part")
    if event["at"] == "mid, half a surrogate pair":
        raise ValueError(event["text"])
    if event["at"] == "mid":
        raise ValueError("mid")
    if event["at"] == "http after write":
        response_stream.http(status_code=200)
    await response_stream.close()
    if event["at"] == "after":
        raise ValueError("after")
    if event["at"] == "write after close":
        await response_stream.write("more")


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


def raising(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A decorator that has something to complain about when all is over."""

    @functools.wraps(handler)
    def wrapped(event: Any, context: Any) -> Any:
        result = handler(event, context)
        assert result == {"statusCode": 200}
        record("decorator")
        raise LookupError("flushing failed")

    return wrapped


def changing(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A decorator that has something to add to the result."""

    @functools.wraps(handler)
    def wrapped(event: Any, context: Any) -> Any:
        return {**handler(event, context), "body": "x" * 10_000_000}

    return wrapped


raised_over = raising(StreamingAdapter(hello))
changed = changing(StreamingAdapter(hello))

inner = StreamingAdapter(hello)


def calls_itself(event: Any, context: Any) -> Any:
    """Calls the adapter with a context of its own making, as a self-test or a warmer does: its result is its own."""

    class Context:
        aws_request_id = "made-up"

    reply = inner(event, Context())
    return {"nested": reply}

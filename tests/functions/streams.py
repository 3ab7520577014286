"""Handlers written with `streamify`, of every kind, and what people put around handlers."""

import asyncio
import contextvars
import functools
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from adapter import BlockingResponseStream, ResponseStream, StreamingAdapter, streamify
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
async def silent(event: Any, response_stream: ResponseStream, context: Any) -> None:
    """Writes nothing."""


# Handlers of every kind. Each fails where the event says, and works on when its stream is closed.


def fail(event: Any, at: str) -> None:
    if event.get("at") == at:
        raise ValueError(at)


@streamify
async def coroutine(event: Any, response_stream: ResponseStream, context: Any) -> None:
    fail(event, "before")
    response_stream.content_type = "text/plain"
    await response_stream.write("one")
    fail(event, "mid")
    await response_stream.write(b"two")
    await response_stream.close()
    record("background")
    fail(event, "after")


@streamify
async def async_generator(event: Any, response_stream: ResponseStream, context: Any) -> AsyncIterator[str | bytes]:
    fail(event, "before")
    response_stream.content_type = "text/plain"
    yield "one"
    fail(event, "mid")
    yield b"two"
    await response_stream.close()
    record("background")
    fail(event, "after")


@streamify
def generator(event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[str | bytes]:
    fail(event, "before")
    response_stream.content_type = "text/plain"
    yield "one"
    fail(event, "mid")
    yield b"two"
    response_stream.close()
    record("background")
    fail(event, "after")


@streamify
def plain(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    fail(event, "before")
    assert response_stream.content_type == "application/octet-stream"
    response_stream.content_type = "text/plain"
    response_stream.write("one")
    fail(event, "mid")
    response_stream.write(b"two")
    response_stream.close()
    record("background")
    fail(event, "after")


@streamify
async def returns_async(event: Any, response_stream: ResponseStream, context: Any) -> AsyncIterator[str | bytes]:
    async def pieces() -> AsyncIterator[str | bytes]:
        fail(event, "before")
        yield "one"
        fail(event, "mid")
        yield b"two"
        await response_stream.close()
        record("background")
        fail(event, "after")

    response_stream.content_type = "text/plain"
    return pieces()


@streamify
def returns_iterator(event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[str | bytes]:
    def pieces() -> Iterator[str | bytes]:
        fail(event, "before")
        yield "one"
        fail(event, "mid")
        yield b"two"
        response_stream.close()
        record("background")
        fail(event, "after")

    response_stream.content_type = "text/plain"
    return pieces()


class Handlers:
    def method(self, event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[str | bytes]:
        response_stream.content_type = "text/plain"
        yield "one"
        yield b"two"
        response_stream.close()
        record("background")

    async def __call__(self, event: Any, response_stream: ResponseStream, context: Any) -> None:
        response_stream.content_type = "text/plain"
        await response_stream.pipe(["one", b"two"])
        await response_stream.close()
        record("background")

    async def prefixed(self, prefix: str, event: Any, response_stream: ResponseStream, context: Any) -> None:
        response_stream.content_type = "text/plain"
        await response_stream.pipe(iter([prefix, "two"]))
        await response_stream.close()
        record("background")


method = streamify(Handlers().method)
callable_object = streamify(Handlers())
partial = streamify(functools.partial(Handlers().prefixed, "one"))


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of a library that knows nothing of coroutines."""

    @functools.wraps(function)
    def wrapped(*args: Any) -> Any:
        return function(*args)

    return wrapped


decorated = streamify(traced(functools.partial(Handlers().prefixed, "one")))
decorated_object = streamify(functools.partial(traced(Handlers())))


@streamify
def http_generator(event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[str]:
    response_stream.http(201, {"content-type": "text/plain"}, ["a=b"])
    assert response_stream.state in ("held", "open")  # which it is 20 ms later, on a busy machine before that line
    assert response_stream.status == 201
    yield "one"
    assert repr(response_stream) == "<BlockingResponseStream open>"


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@streamify
async def sets(event: Any, response_stream: ResponseStream, context: Any) -> None:
    """Threads see the context of their handler, and keep it from piece to piece; the handler does not see theirs."""

    def pieces() -> Iterator[str]:
        yield variable.get()
        variable.set("set in the thread")
        yield variable.get()

    variable.set("set in the handler")
    await response_stream.pipe(pieces())
    await response_stream.write(variable.get())


@streamify
def rows(event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[str]:
    """sqlite3 objects can be used in one thread only: in that of the handler, to the last piece."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (x)")
    connection.executemany("insert into t values (?)", [(str(x),) for x in range(100)])
    return (row[0] for row in connection.execute("select x from t order by rowid"))


@streamify
async def blocks(event: Any, response_stream: ResponseStream, context: Any) -> None:
    """What a sync generator waits for can come from the loop."""
    opened = threading.Event()

    def pieces() -> Iterator[str]:
        yield "waiting"
        record("waiting")
        assert opened.wait(10)
        yield "opened"

    async def opener() -> None:
        while response_stream.state != "open":
            await asyncio.sleep(0)
        record("opening")
        opened.set()

    task = asyncio.create_task(opener())
    await response_stream.pipe(pieces())
    await task


# Backpressure, and the loss of the caller.

MEBIBYTE = bytes(2**20)


@streamify
async def flood_async_generator(event: Any, response_stream: ResponseStream, context: Any) -> AsyncIterator[bytes]:
    try:
        for number in range(event["pieces"]):
            record(f"made-{number}")
            yield MEBIBYTE
    finally:
        record("source-closed")


@streamify
def flood_generator(event: Any, response_stream: BlockingResponseStream, context: Any) -> Iterator[bytes]:
    try:
        for number in range(event["pieces"]):
            record(f"made-{number}")
            yield MEBIBYTE
    finally:
        record("source-closed")


@streamify
async def flood_pipe(event: Any, response_stream: ResponseStream, context: Any) -> None:
    def pieces() -> Iterator[bytes]:
        try:
            for number in range(event["pieces"]):
                record(f"made-{number}")
                yield MEBIBYTE
        finally:
            record("source-closed")

    await response_stream.pipe(pieces())
    record("piped")


@streamify
def flood_function(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            for number in range(event["pieces"]):
                record(f"made-{number}")
                yield MEBIBYTE
        finally:
            record("source-closed")

    response_stream.pipe(pieces())
    record("piped")


@streamify
def flood_writes(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    for number in range(event["pieces"]):
        record(f"made-{number}")
        response_stream.write(MEBIBYTE)


# Values.


@streamify
async def value(event: Any, response_stream: ResponseStream, context: Any) -> Any:
    if event["begun"]:
        await response_stream.write("begun")
    return event["value"]


@streamify
def value_of_function(event: Any, response_stream: BlockingResponseStream, context: Any) -> Any:
    if event["begun"]:
        response_stream.http(200)
    return event["value"]


@streamify
def value_of_generator(event: Any, response_stream: BlockingResponseStream, context: Any) -> Any:
    if event["begun"]:
        yield "begun"
    return event["value"]


# Ends of another kind.


@streamify
async def cancelled(event: Any, response_stream: ResponseStream, context: Any) -> None:
    if event["at"] == "mid":
        await response_stream.write("part")
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


@streamify
def cancelled_function(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    if event["at"] == "mid":
        response_stream.write("part")
    raise asyncio.CancelledError


@streamify
def cancelled_in_thread(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    """Somebody cancels all that is on the loop, while a thread waits for it."""

    async def pieces() -> AsyncIterator[str]:
        yield "part"
        asyncio.get_running_loop().call_soon(cancel_all)
        await asyncio.sleep(60)

    def cancel_all() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    try:
        response_stream.pipe(pieces())
    except asyncio.CancelledError:
        record("cancelled")
        raise


@streamify
def stops(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    next(iter(()))


@streamify
def exits(event: Any, response_stream: BlockingResponseStream, context: Any) -> None:
    response_stream.write("part")
    raise SystemExit(7)


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

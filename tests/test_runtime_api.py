"""The connection to the Runtime API: kept, reopened, refused, lost, and slower than the writer."""

import asyncio
import contextlib
import logging
import select
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest

from adapter.connection import Connection
from adapter.environment import Environment
from adapter.exceptions import RuntimeApiError
from adapter.invocation import Invocation
from adapter.next_connection import NextConnection
from adapter.response import Head
from adapter.runtime_api import Post, RuntimeApi
from adapter.stream import ResponseStream
from adapter.wire import Reply
from adapter.work import Rules, Work

from .runtime_api import Invoked, RuntimeAPI


@pytest.fixture
async def server() -> AsyncIterator[RuntimeAPI]:
    async with RuntimeAPI() as server:
        yield server


@pytest.fixture
def api(server: RuntimeAPI) -> RuntimeApi:
    return RuntimeApi(server.address)


async def begin(
    server: RuntimeAPI, api: RuntimeApi, begun: Callable[[], None] = lambda: None
) -> tuple[Invoked, ResponseStream]:
    """An invocation under way, and the stream on which to answer it."""
    invoked = server.current = await server.invoke({})
    post = api.post(invoked.request_id, invoked.invocation_id, begun)
    await post.connect()
    stream = ResponseStream(post, invoked.request_id)
    post.lost = stream.lose
    return invoked, stream


async def answer(server: RuntimeAPI, api: RuntimeApi) -> Invoked:
    invoked, stream = await begin(server, api)
    stream.start(Head(200))
    await stream.send(b"body", more=False)
    return invoked


def sockets(api: RuntimeApi) -> socket.socket:
    (connection,) = api._idle
    return connection._socket


def busy(stream: ResponseStream) -> Connection:
    post = stream._sink
    assert isinstance(post, Post) and post._connection is not None
    return post._connection


async def test_one_connection_for_every_post(server: RuntimeAPI, api: RuntimeApi) -> None:
    for _ in range(3):
        invoked = await answer(server, api)
        assert invoked.body == b"body"
        assert invoked.head[b"lambda-runtime-invocation-id"].decode() == invoked.invocation_id
    assert server.posts_on == [0, 0, 0]
    assert sockets(api).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_nothing_is_echoed_where_no_invocation_id_came(server: RuntimeAPI, api: RuntimeApi) -> None:
    server.with_invocation_id = False
    invoked = await answer(server, api)
    assert b"lambda-runtime-invocation-id" not in invoked.head


async def test_a_connection_closed_in_between_is_opened_again(server: RuntimeAPI, api: RuntimeApi) -> None:
    server.close_after_reply = True
    for _ in range(3):
        assert (await answer(server, api)).body == b"body"
        await asyncio.sleep(0.02)  # the close arrives
    assert server.posts_on == [0, 1, 2]


async def test_a_close_that_the_loop_has_not_seen_is_seen(server: RuntimeAPI, api: RuntimeApi) -> None:
    await answer(server, api)
    (connection,) = api._idle
    assert connection.is_quiet
    server.connections[0].transport.abort()
    await asyncio.sleep(0)  # the server's abort is carried out; select has not run for the client yet
    poll = select.poll()
    poll.register(sockets(api).fileno(), select.POLLIN)
    assert poll.poll(1000)
    assert not connection.is_closed
    assert not connection.is_quiet
    assert (await answer(server, api)).body == b"body"
    assert server.posts_on == [0, 1]


async def test_a_connection_lost_while_the_app_thinks_is_replaced(server: RuntimeAPI, api: RuntimeApi) -> None:
    await answer(server, api)
    invoked, stream = await begin(server, api)
    server.connections[0].close()
    await asyncio.sleep(0.05)
    stream.start(Head(200))
    await asyncio.sleep(0.05)  # the hold is over, and there is no connection to flush to
    assert stream.state == "open"
    await stream.send(b"body", more=False)
    assert invoked.body == b"body"
    assert server.posts_on == [0, 1]


async def test_no_connection_left_while_the_app_thinks(
    server: RuntimeAPI, api: RuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[bool] = []
    _, stream = await begin(server, api, lambda: begun.append(True))
    while not server.connections:
        await asyncio.sleep(0)
    await server.close()
    await asyncio.sleep(0.05)
    await stream.write("nobody hears this")
    await stream.close()
    assert stream.state == "lost"
    assert not begun  # so that awslambdaric posts, fails, and exits
    assert "no connection to the Runtime API" in caplog.text


async def test_bytes_before_the_post_are_not_taken_for_its_reply(server: RuntimeAPI, api: RuntimeApi) -> None:
    await answer(server, api)
    invoked, stream = await begin(server, api)
    server.connections[0].write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    await asyncio.sleep(0.05)
    stream.start(Head(200))
    await stream.send(b"body", more=False)
    assert invoked.body == b"body"
    assert server.posts_on == [0, 1]


async def test_bytes_between_two_posts_end_the_connection(server: RuntimeAPI, api: RuntimeApi) -> None:
    await answer(server, api)
    server.connections[0].write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    await asyncio.sleep(0.05)
    assert (await answer(server, api)).body == b"body"
    assert server.posts_on == [0, 1]


@pytest.mark.parametrize("status", [400, 403, 410, 413])
async def test_an_early_refusal_is_noticed_while_writing(
    server: RuntimeAPI, api: RuntimeApi, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuse_with = status
    _, stream = await begin(server, api)
    async with asyncio.timeout(10):
        while stream.state != "lost":
            await stream.write(b"x" * 65536)
    await stream.write(b"dropped")
    await stream.close()
    await stream.ended()
    stream.start(Head(500))  # dropped like the rest, and its hold with it
    await asyncio.sleep(0.05)
    assert not api.container_error
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"did not get through: the Runtime API answered {status}" in record.message
    assert "InvalidStateTransition" in record.message or "Refused" in record.message
    assert (await answer(server, api)).body == b"body"  # and the next one has a connection


async def test_a_refusal_after_the_end_is_noticed(
    server: RuntimeAPI, api: RuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    invoked, stream = await begin(server, api)
    invoked.answered = True
    await stream.close()
    assert stream.state == "lost"
    assert "the Runtime API answered 403" in caplog.text


async def test_a_202_before_the_end_is_no_acceptance(
    server: RuntimeAPI, api: RuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuse_with = 202
    _, stream = await begin(server, api)
    await stream.write(b"first")
    await stream.ended()
    assert stream.state == "lost"
    assert "the Runtime API answered 202" in caplog.text


async def test_a_container_error_is_remembered(server: RuntimeAPI, api: RuntimeApi) -> None:
    server.refuse_with = 500
    _, stream = await begin(server, api)
    await stream.close()
    assert api.container_error


async def test_a_connection_lost_in_the_post_is_not_begun_again(
    server: RuntimeAPI, api: RuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    server.drop_after_head = True
    _, stream = await begin(server, api)
    await stream.write(b"first")
    await stream.ended()
    assert stream.state == "lost"
    await stream.close()
    assert server.posts_on == [0]
    assert "the connection was lost" in caplog.text


async def test_a_reply_that_is_not_http_is_a_loss(caplog: pytest.LogCaptureFixture) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"220 smtp.example.com\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        api = RuntimeApi(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        post = api.post("id", None, lambda: None)
        await post.connect()
        stream = ResponseStream(post, "id")
        post.lost = stream.lose
        await stream.close()
        assert stream.state == "lost"
    assert "did not answer in HTTP/1.1" in caplog.text


async def test_nothing_follows_a_head_that_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    """The connection was reset while the application kept the loop busy; the first piece of body finds that out."""
    received: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        listener.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            connection, _ = listener.accept()
            received.append(connection.recv(1000))
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = RuntimeApi(f"127.0.0.1:{listener.getsockname()[1]}")
        post = api.post("id", None, lambda: None)
        await post.connect()
        stream = ResponseStream(post, "id")
        post.lost = stream.lose
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        time.sleep(0.1)  # noqa: ASYNC251  # the loop must not see the reset
        stream.start(Head(200))
        await stream.send(b"body", more=True)
        await stream.send(b"", more=False)
        await asyncio.to_thread(thread.join)
    assert (stream.state, received) == ("lost", [])
    assert caplog.text.count("did not get through") == 1


async def test_a_reply_that_ends_with_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.0 202 Accepted\r\n\r\nOK")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(old, "127.0.0.1", 0) as server:
        api = RuntimeApi(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(2):
            post = api.post("id", None, lambda: None)
            await post.connect()
            stream = ResponseStream(post, "id")
            await stream.close()
            assert stream.state == "closed"
    assert not caplog.records


async def test_an_event_that_ends_with_the_connection() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nLambda-Runtime-Aws-Request-Id: 7\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(old, "127.0.0.1", 0) as server:
        api = RuntimeApi(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        event: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        connection = NextConnection(await api.connect(), api.address, event.set_result, lambda reason: None)
        connection.ask()
        reply = await event
    assert (reply.body, reply.headers) == (b"{}", {"lambda-runtime-aws-request-id": "7"})
    assert connection.is_closed


async def test_a_time_that_is_up_while_it_connects(server: RuntimeAPI, api: RuntimeApi) -> None:
    """Then there is no response on it, and the next one has the connection."""
    home = Environment(api, loop=asyncio.get_running_loop())
    invocation = Invocation("id")
    work = Work(invocation, Rules())
    opening = asyncio.create_task(home.stream(invocation))
    await asyncio.sleep(0)
    assert not opening.done()
    work.state = "expired"
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (await answer(server, api)).body == b"body"
    assert server.posts_on == [0]


async def test_a_loss_of_which_nobody_wants_to_hear(server: RuntimeAPI, api: RuntimeApi) -> None:
    server.drop_after_head = True
    server.current = await server.invoke({})
    post = api.post(server.current.request_id, None, lambda: None)
    await post.connect()
    post.open(None, "text/plain")
    await post.drain()
    await post.settle()
    assert post._reply is not None and not post._reply.is_complete


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "nonsense", "127.0.0.1:port", "127.0.0.1:99999"])
async def test_no_runtime_api(address: str) -> None:
    with pytest.raises(RuntimeApiError, match="no connection to the Runtime API at"):
        await RuntimeApi(address).connect()


@pytest.mark.parametrize("size", [1, 1000, 128 * 1024, 200_000, 3_000_000])
async def test_bytes_in_are_bytes_out(server: RuntimeAPI, api: RuntimeApi, size: int) -> None:
    invoked, stream = await begin(server, api)
    stream.start(Head(200))
    sent = [bytes([number]) * size for number in range(3)]
    for data in sent:
        await stream.send(data, more=True)
    await stream.send(b"", more=False)
    assert invoked.chunks[2:] == sent


async def test_a_slow_caller_holds_the_writer_back(server: RuntimeAPI, api: RuntimeApi) -> None:
    server.reading.clear()
    invoked, stream = await begin(server, api)
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(400):
            await stream.write(b"x" * 65536)
            written += 65536
        await stream.close()

    task = asyncio.create_task(write())
    previous = -1
    while written != previous:  # until the buffers of both sockets are full
        previous = written
        await asyncio.sleep(0.1)
    assert not task.done()
    assert written < 20_000_000
    connection = busy(stream)
    assert connection is not None
    assert sum(map(len, connection._unsent)) < 70_000  # one piece
    server.reading.set()
    await asyncio.wait_for(task, 30)
    assert len(invoked.raw) == 400 * 65536


async def test_a_writer_that_is_held_back_goes_on_when_the_connection_is_lost(
    server: RuntimeAPI, api: RuntimeApi
) -> None:
    server.reading.clear()
    _, stream = await begin(server, api)

    async def write() -> None:
        while stream.state != "lost":
            await stream.write(b"x" * 65536)

    task = asyncio.create_task(write())
    connection = busy(stream)
    assert connection is not None
    while connection.is_ready:
        await asyncio.sleep(0.01)
    server.connections[0].transport.abort()
    await asyncio.wait_for(task, 10)


async def test_a_buffer_can_be_filled_again_after_a_write(server: RuntimeAPI, api: RuntimeApi) -> None:
    server.reading.clear()
    invoked, stream = await begin(server, api)
    buffer = bytearray(65536)
    expected = b""
    for number in range(4):
        buffer[:] = bytes([number]) * 65536
        expected += buffer
        await stream.write(memoryview(buffer))
    buffer[:] = b"z" * 65536
    server.reading.set()
    await stream.close()
    assert invoked.raw == expected

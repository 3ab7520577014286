"""Lambda freezes the process between invocations: what a pause has changed, and what it would cut off."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trustme

from .events import function_url
from .runtime_api import Function, Invoked, function
from .test_sqlalchemy import POSTGRES, postgres

BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
LINGER = struct.pack("ii", 1, 0)  # close with a reset


@contextlib.asynccontextmanager
async def frozen(running: Function) -> AsyncIterator[None]:
    """Freeze the process, as Lambda does between invocations."""
    running.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        running.process.send_signal(signal.SIGCONT)


async def after_a_pause(running: Function, event: Any, close: Callable[[], Awaitable[None]]) -> Invoked:
    """Run an invocation whose event comes after ``close``, and before the process runs again."""
    async with frozen(running):
        await close()
        invoked = await running.api.invoke(event)
        while running.api.current is not invoked:
            await asyncio.sleep(0)
    await invoked.finished.wait()
    return invoked


class Upstream:
    """A server that closes its idle connections when it is told to."""

    def __init__(self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._talk = talk
        self.connections: list[asyncio.StreamWriter] = []
        self.accepted = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None) -> AsyncIterator["Upstream"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.connections.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await self._talk(reader, writer)

    async def close(self, *, reset: bool = False) -> None:
        """Close all connections; when this returns, their other ends have it in their sockets."""
        for writer in self.connections:
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            else:
                writer.close()  # TLS says so
            writer.transport.abort()  # without waiting for an answer
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self.connections.clear()

    async def reset(self) -> None:
        await self.close(reset=True)


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")


async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much of RESP as a client needs for GET: https://redis.io/docs/latest/develop/reference/protocol-spec/."""
    replies = {b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n", b"GET": b"$5\r\nvalue\r\n"}
    while True:
        words = []
        for _ in range(int((await reader.readuntil())[1:])):
            size = int((await reader.readuntil())[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        writer.write(replies.get(words[0].upper(), b"+OK\r\n"))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.mark.parametrize(
    ("handler", "how"),
    [*(("handler", how) for how in ("end", "reset", "tls", "tls reset")), ("buffered", "end"), ("streamed", "reset")],
)
@BOTH
async def test_a_connection_that_was_closed_in_a_pause_is_not_used_again(
    client: str, how: str, handler: str, authority: trustme.CA, ca: str
) -> None:
    tls = None
    if how.startswith("tls"):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with Upstream(http).serve(tls) as upstream:
        env = {
            "CLIENT": "http",
            "UPSTREAM": f"{'https' if tls else 'http'}://127.0.0.1:{upstream.port}/",
            "CA": ca,
        }
        async with function(f"kept.{handler}", client=client, env=env) as running:
            await running.api.run(function_url())
            for _ in range(3):
                close = upstream.reset if how.endswith("reset") else upstream.close
                invoked = await after_a_pause(running, function_url(), close)
                if handler == "buffered":
                    assert b'"statusCode": 200' in (invoked.result or b"")
                else:
                    assert b"ok" in invoked.raw
            assert (await running.api.run(function_url())).error is None
    assert upstream.accepted == 4
    assert "[ERROR]" not in running.output


async def test_under_uvloop_too(authority: trustme.CA) -> None:
    async with Upstream(http).serve(None) as upstream:
        env = {"CLIENT": "http", "UPSTREAM": f"http://127.0.0.1:{upstream.port}/", "UVLOOP": "1"}
        async with function("kept.handler", env=env) as running:
            await running.api.run(function_url())
            for _ in range(3):
                assert (await after_a_pause(running, function_url(), upstream.close)).prelude["statusCode"] == 200


@BOTH
async def test_redis_connects_again(client: str) -> None:
    async with Upstream(redis).serve(None) as upstream:
        env = {"CLIENT": "redis", "UPSTREAM": f"127.0.0.1:{upstream.port}"}
        async with function("kept.handler", client=client, env=env) as running:
            await running.api.run(function_url())
            for _ in range(3):
                assert (await after_a_pause(running, function_url(), upstream.close)).prelude["statusCode"] == 200


@pytest.fixture(scope="module")
def database(authority: trustme.CA) -> Iterator[tuple[str, int]]:
    """A PostgreSQL that speaks TLS: the folder of its socket, and its port."""
    if POSTGRES is None:
        pytest.skip("there is no PostgreSQL here")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with postgres("listen_addresses=127.0.0.1", f"port={port}", certificate=authority.issue_cert("127.0.0.1")) as at:
        yield at, port


@pytest.mark.parametrize("over", ["a Unix socket", "TLS"])
@pytest.mark.parametrize("env", [{}, {"UVLOOP": "1"}], ids=["asyncio", "uvloop"])
@BOTH
async def test_a_session_that_postgresql_has_ended_in_a_pause_is_not_used_again(
    client: str, env: dict[str, str], over: str, database: tuple[str, int], ca: str
) -> None:
    folder, port = database
    host = folder if over != "TLS" else "127.0.0.1"
    env |= {"CLIENT": "postgres", "UPSTREAM": f"postgresql://app@/postgres?host={host}&port={port}"}
    if over == "TLS":
        env["CA"] = ca
    async with function("kept.handler", client=client, env=env) as running:
        first = await running.api.run(function_url())
        pids = [int(first.body.strip(b'"'))]

        async def ended() -> None:
            """By ``idle_session_timeout``, half a second."""
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.kill(pids[-1], 0)
                    await asyncio.sleep(0.01)

        for _ in range(3):
            invoked = await after_a_pause(running, function_url(), ended)
            assert invoked.prelude["statusCode"] == 200
            pids.append(int(invoked.body.strip(b'"')))
    assert len(set(pids)) == 4
    assert "[ERROR]" not in running.output


@BOTH
async def test_a_timer_that_is_due_after_a_pause_comes_before_the_handler(client: str) -> None:
    async with function("kept.handler", client=client, env={"CLIENT": "cache"}) as running:
        assert (await running.api.run(function_url())).body == b'"made at first"'
        for _ in range(3):
            invoked = await after_a_pause(running, function_url(), lambda: asyncio.sleep(0.4))
            assert invoked.body == b'"made again"'


@BOTH
@pytest.mark.parametrize(("path", "status", "events"), [("/quick", 200, []), ("/awaits", 504, ["begun", "cancelled"])])
async def test_a_handler_begins_whose_limit_has_passed_while_the_loop_was_blocked(
    client: str, path: str, status: int, events: list[str]
) -> None:
    async with function("kept.handler", client=client, env={"CLIENT": "cache"}) as running:
        assert (await running.api.run(function_url("/blocked"))).body == b'"left"'
        running.api.timeout = 1
        invoked = await after_a_pause(running, function_url(path), lambda: asyncio.sleep(0.4))
        assert invoked.prelude["statusCode"] == status
        assert [event for event in invoked.events if event in ("begun", "cancelled")] == events


async def test_a_handler_begins_that_is_cancelled_before() -> None:
    async with function("kept.handler", env={"CLIENT": "cache"}) as running:
        assert (await running.api.run(function_url("/cancels"))).body == b'"left"'
        invoked = await after_a_pause(running, function_url("/awaits"), lambda: asyncio.sleep(0.4))
        assert [event for event in invoked.events if event in ("begun", "cancelled")] == ["begun", "cancelled"]
        assert invoked.prelude["statusCode"] == 500


# After the handler


@pytest.mark.parametrize("hops", [1, 20])
@pytest.mark.parametrize(
    ("handler", "event", "name"),
    [
        ("handler", function_url("/background"), "background"),
        ("handler", function_url("/task"), "task"),
        ("buffered", function_url("/background"), "background"),
        ("streamed", {}, "streamed"),
        ("events", {"detail": 1}, "event"),
        ("events_async", {"detail": 1}, "event"),
    ],
)
@BOTH
async def test_a_consumer_begins_its_job_before_the_invocation_ends(
    client: str, handler: str, event: Any, name: str, hops: int
) -> None:
    async with function(f"queues.{handler}", client=client, env={"HOPS": str(hops)}) as running:
        for _ in range(2):
            invoked = await running.api.run(event)
            assert [found for found in invoked.events if found.startswith(("job", "next"))] == [f"job-{name}", "next"]


@BOTH
async def test_what_is_always_ready_holds_no_invocation(client: str) -> None:
    async with function("queues.handler", client=client, env={"HOPS": "1", "SPIN": "1"}) as running:
        for _ in range(2):
            invoked = await running.api.run(function_url("/background"))
            assert invoked.events[-2:] == ["job-background", "next"]

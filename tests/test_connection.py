"""The connection by itself, on both event loops: what is sent in parts, what is read at its end, how it is opened."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from adapter.connection import Connection
from adapter.exceptions import RuntimeApiError


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


class Owner:
    """Writes down what it is told."""

    def __init__(self, connection: Connection) -> None:
        self.said: list[bytes | str] = []
        self.heard = asyncio.Event()
        connection.owner = self

    def received(self, data: bytes) -> None:
        self.said.append(data)
        self.heard.set()

    def disconnected(self, reason: str) -> None:
        self.said.append(reason)
        self.heard.set()


def address(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


async def opened(address: str) -> Connection:
    return await Connection.open(address, memoryview(bytearray(1000)))


@pytest.fixture
async def pair(listener: socket.socket) -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection, and its other end, which blocks."""
    connection = await opened(address(listener))
    peer, _ = listener.accept()
    with peer:
        yield connection, peer
    connection.close()


Pair = tuple[Connection, socket.socket]


async def everything(peer: socket.socket, size: int) -> bytes:
    """So many bytes, read in a thread of their own."""

    def read() -> bytes:
        received = bytearray()
        while len(received) < size:
            received += peer.recv(1 << 20)
        return bytes(received)

    return await asyncio.wait_for(asyncio.to_thread(read), 30)


@pytest.mark.parametrize(
    "sizes", [[1], [1, 2, 3], [20_000], [20_000, 1, 20_000], [8_000_000], [3, 5_000_000, 2], [50_000] * 200]
)
async def test_all_of_it_arrives(pair: Pair, sizes: list[int]) -> None:
    connection, peer = pair
    pieces = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    connection.write(pieces.copy())
    assert connection.is_ready is (sum(sizes) < 100_000)
    connection.write([b"and", b"more"])  # behind what is still to be sent
    expected = b"".join([*pieces, b"andmore"])
    received = await everything(peer, len(expected))
    await connection.drain()
    assert received == expected
    assert connection.is_ready
    connection.write([b"again"])
    assert peer.recv(100) == b"again"


async def test_pieces_until_there_is_room_for_none(pair: Pair) -> None:
    connection, peer = pair
    count = 0
    while connection.is_ready:
        connection.write([b"%7d\n" % count])
        count += 1
    received = await everything(peer, 8 * count)
    assert [int(line) for line in received.splitlines()] == list(range(count))
    await asyncio.wait_for(connection.drain(), 10)


async def test_a_piece_is_there_before_the_loop_turns(pair: Pair) -> None:
    connection, peer = pair
    connection.write([b"token"])
    assert peer.recv(100) == b"token"


async def test_bytes_come_in_pieces_of_the_buffer_s_size(pair: Pair) -> None:
    connection, peer = pair
    owner = Owner(connection)
    peer.sendall(b"x" * 2500)
    while sum(map(len, owner.said)) < 2500:
        owner.heard.clear()
        await asyncio.wait_for(owner.heard.wait(), 10)
    assert b"".join(said for said in owner.said if isinstance(said, bytes)) == b"x" * 2500
    assert max(map(len, owner.said)) <= 1000


async def test_bytes_that_nobody_asked_for_end_it(pair: Pair) -> None:
    connection, peer = pair
    assert connection.is_quiet
    peer.sendall(b"hello")
    while connection.is_quiet:
        pass
    assert not connection.is_closed
    while not connection.is_closed:
        await asyncio.sleep(0)
    assert peer.recv(100) == b""


async def test_bytes_that_are_gone_when_it_reads(pair: Pair) -> None:
    """A loop may say that there is something to read where there is nothing (select(2), "Bugs")."""
    connection, peer = pair
    owner = Owner(connection)
    connection._read()
    assert not owner.said
    peer.sendall(b"there")
    await asyncio.wait_for(owner.heard.wait(), 10)
    assert owner.said == [b"there"]


async def test_its_end_is_heard_of_once(pair: Pair) -> None:
    connection, peer = pair
    owner = Owner(connection)
    peer.close()
    await asyncio.wait_for(owner.heard.wait(), 10)
    assert owner.said == ["closed by the Runtime API"]
    assert connection.is_closed
    assert not connection.is_ready
    connection.write([b"nobody hears this"])
    connection.close()
    await connection.drain()
    assert owner.said == ["closed by the Runtime API"]


async def test_a_reset_is_an_end(pair: Pair) -> None:
    connection, peer = pair
    owner = Owner(connection)
    reset(peer)
    await asyncio.wait_for(owner.heard.wait(), 10)
    assert owner.said == ["[Errno 104] Connection reset by peer"]


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 2000, 2500])
async def test_a_reset_that_comes_with_data_is_seen_after_it(pair: Pair, size: int) -> None:
    connection, peer = pair
    owner = Owner(connection)
    peer.sendall(b"x" * size)
    reset(peer)
    while not connection.is_closed:
        owner.heard.clear()
        await asyncio.wait_for(owner.heard.wait(), 10)
    *data, reason = owner.said
    assert b"".join(piece for piece in data if isinstance(piece, bytes)) == b"x" * size
    assert reason == "[Errno 104] Connection reset by peer"


async def test_a_reset_that_comes_with_the_last_data_of_an_owner_closes_it(pair: Pair) -> None:
    """Else the next owner would write to it, and a post is never repeated."""
    connection, peer = pair

    class Once(Owner):
        def received(self, data: bytes) -> None:
            connection.owner = None
            super().received(data)

    owner = Once(connection)
    peer.sendall(b"HTTP/1.1 202 Accepted")
    reset(peer)
    await asyncio.wait_for(owner.heard.wait(), 10)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.is_closed
    assert owner.said == [b"HTTP/1.1 202 Accepted"]


async def test_an_owner_may_close_it_while_there_is_more_to_read(pair: Pair) -> None:
    connection, peer = pair

    class Closer(Owner):
        def received(self, data: bytes) -> None:
            super().received(data)
            connection.close()

    owner = Closer(connection)
    peer.sendall(b"x" * 2500)
    await asyncio.wait_for(owner.heard.wait(), 10)
    await asyncio.sleep(0)
    assert owner.said == [b"x" * 1000]


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 413 No"])
async def test_what_the_other_side_said_before_it_went_is_read_when_a_write_fails(
    pair: Pair, last_words: bytes
) -> None:
    connection, peer = pair
    owner = Owner(connection)
    if last_words:
        peer.sendall(last_words)
    peer.shutdown(socket.SHUT_RDWR)
    peer.close()
    while not connection.is_closed:  # the loop does not turn: that it is gone shows when something is written
        connection.write([b"x"])
    assert owner.said[0] == (last_words or "closed by the Runtime API")
    assert len(owner.said) == (2 if last_words else 1)


async def test_a_writer_that_waits_goes_on_when_it_ends(pair: Pair) -> None:
    connection, peer = pair
    owner = Owner(connection)
    connection.write([b"x" * 20_000_000])
    assert not connection.is_ready
    waiting = asyncio.create_task(connection.drain())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    reset(peer)
    await asyncio.wait_for(waiting, 10)
    assert connection.is_closed
    assert len(owner.said) == 1


async def test_a_name_is_looked_up(listener: socket.socket) -> None:
    connection = await opened(f"localhost:{listener.getsockname()[1]}")
    assert not connection.is_closed
    connection.close()


async def test_version_6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        connection = await opened(f"[::1]:{listener.getsockname()[1]}")
        connection.close()


async def test_one_that_is_not_answered_is_waited_for(listener: socket.socket) -> None:
    """Until its opener is cancelled: the socket does not stay behind."""
    listener.listen(0)
    first = socket.create_connection(listener.getsockname())
    opening = asyncio.create_task(opened(address(listener)))
    await asyncio.sleep(0.05)
    assert not opening.done()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    first.close()


async def test_one_that_is_answered_late(listener: socket.socket) -> None:
    listener.listen(0)
    first = socket.create_connection(listener.getsockname())
    opening = asyncio.create_task(opened(address(listener)))
    await asyncio.sleep(0.05)
    accepted = [listener.accept()[0]]
    connection = await asyncio.wait_for(opening, 30)
    accepted.append(listener.accept()[0])
    connection.write([b"here"])
    assert accepted[1].recv(100) == b"here"
    connection.close()
    for sock in (first, *accepted):
        sock.close()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "[::1]:1", "255.255.255.255:9001", "nonsense", "127.0.0.1:port", "127.0.0.1:99999", "no.invalid:1"],
)
async def test_nobody_there(address: str) -> None:
    with pytest.raises(RuntimeApiError, match="no connection to the Runtime API at"):
        await opened(address)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.close()

"""The internal extension, and Extensions APIs that do not do as they should."""

import socket
import threading

import pytest

from adapter.exceptions import RuntimeApiError
from adapter.extension import register

OK = b"HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: 7\r\nContent-Length: 2\r\n\r\n{}"


def served(*replies: bytes) -> tuple[str, list[bytes], threading.Thread]:
    """A server for one connection that reads a request before each of its replies, and then closes."""
    server = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with server, connection:
            for reply in replies:
                requests.append(connection.recv(4096))
                for start in range(0, len(reply), 30):
                    connection.sendall(reply[start : start + 30])
            connection.settimeout(5)
            requests.append(connection.recv(4096))

    thread = threading.Thread(target=serve)
    thread.start()
    return f"127.0.0.1:{server.getsockname()[1]}", requests, thread


def test_it_registers_for_nothing_and_waits() -> None:
    address, requests, thread = served(OK)
    with register(address):
        thread.join()
    first, second = requests
    assert first.startswith(b"POST /2020-01-01/extension/register HTTP/1.1\r\n")
    assert b"\r\nLambda-Extension-Name: lambda-stream-adapter\r\n" in first
    assert first.endswith(b'\r\n\r\n{"events":[]}')
    assert second.startswith(b"GET /2020-01-01/extension/event/next HTTP/1.1\r\n")
    assert b"\r\nLambda-Extension-Identifier: 7\r\n" in second


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno\n", "answered 403 'no'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "answered 200 '{}'"),
        (b"SSH-2.0\r\n\r\n", "did not answer in HTTP/1.1"),
        (OK[:-1], "closed the connection without an answer"),
    ],
)
def test_it_is_told_why_not(reply: bytes, complaint: str) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(reply)
        connection.close()
        server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(RuntimeApiError, match=complaint):
        register(f"127.0.0.1:{server.getsockname()[1]}")
    thread.join()


def test_a_connection_that_is_reset() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.recv(1)
        connection.close()
        server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(RuntimeApiError, match="the Extensions API is gone"):
        register(f"127.0.0.1:{server.getsockname()[1]}")
    thread.join()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "[::1]:no"])
def test_where_nobody_is(address: str) -> None:
    with pytest.raises(RuntimeApiError, match="no connection to the Extensions API"):
        register(address)

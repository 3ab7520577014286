"""The internal extension that is registered for SIGTERM's sake: it wants no events, and does nothing.

Lambda ends an environment with SIGKILL unless an extension is registered; with one in the process itself there is a
SIGTERM before, and 500 ms:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
(AWS's own runtime for Rust registers such a one:
https://github.com/awslabs/aws-lambda-rust-runtime, ``spawn_graceful_shutdown_handler``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connection import endpoint
from .exceptions import RuntimeApiError
from .wire import Reply

if TYPE_CHECKING:
    import socket

NAME = "lambda-stream-adapter"

_BODY = b'{"events":[]}'


def register(address: str) -> socket.socket:
    """Register it at ``address``, ``host:port``: before the runtime has asked for its first event, not later.

    Returns its connection, with a request for events on it that is never answered: the init phase waits for it, and it
    has to stay open. `RuntimeApiError` if there is none, or what the Extensions API refused.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
    """
    # Not by socket.create_connection: resolving even an address, it imports the encoding of international names, which
    # is a millisecond of a cold start.
    connection: socket.socket | None = None
    try:
        connection, host, port = endpoint(address)
        connection.connect((host, int(port)))
    except (OSError, ValueError) as exception:
        if connection is not None:
            connection.close()
        raise RuntimeApiError(f"no connection to the Extensions API at {ascii(address)}: {exception}") from exception
    try:
        prefix, field = "/2020-01-01/extension", "Lambda-Extension"
        connection.sendall(
            f"POST {prefix}/register HTTP/1.1\r\nHost: {address}\r\n{field}-Name: {NAME}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n".encode()
            + _BODY
        )
        reply = _read(connection)
        identifier = reply.headers.get("lambda-extension-identifier", "")
        if reply.status != 200 or not identifier:
            answer = ascii(reply.body.decode("utf-8", "replace").strip())
            raise RuntimeApiError(f"the Extensions API answered {reply.status} {answer}")
        connection.sendall(
            f"GET {prefix}/event/next HTTP/1.1\r\nHost: {address}\r\n{field}-Identifier: {identifier}\r\n\r\n".encode()
        )
    except OSError as exception:
        connection.close()
        if isinstance(exception, RuntimeApiError):
            raise
        raise RuntimeApiError(f"the Extensions API is gone: {exception}") from exception
    return connection


def _read(connection: socket.socket) -> Reply:
    reply = Reply()
    while data := connection.recv(4096):
        if reply.feed(data):
            return reply
    raise RuntimeApiError("the Extensions API closed the connection without an answer")

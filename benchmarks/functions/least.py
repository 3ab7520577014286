"""The least that an adapter can do: the app is called with a scope that is ready, and what it says is passed on.

``handler`` under awslambdaric, which posts. Run as a program it is a runtime, on uvloop and with orjson, that reads
nothing of an event but its path, and nothing of a reply.
"""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

from direct import Message, call

loop = asyncio.new_event_loop()


def handler(event: dict[str, str], context: object) -> dict[str, object]:
    reply: dict[str, object] = {}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            reply["statusCode"] = message["status"]
        else:
            reply["body"] = message["body"].decode()

    loop.run_until_complete(call(send, event["rawPath"]))
    return reply


class Connection(asyncio.Protocol):
    def __init__(self, received: Callable[[bytes], object]) -> None:
        self.received = received

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received(data)


class Runtime:
    async def run(self) -> None:
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        running = asyncio.get_running_loop()
        _, self.following = await running.create_connection(lambda: Connection(self.begin), host, int(port))
        _, self.post = await running.create_connection(lambda: Connection(self.taken), host, int(port))
        self.ask()
        await running.create_future()

    def ask(self) -> None:
        self.following.transport.write(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n")

    def begin(self, data: bytes) -> None:
        self.task = asyncio.create_task(self.serve(data))

    def taken(self, data: bytes) -> None:
        self.answered.set_result(None)

    async def serve(self, data: bytes) -> None:
        await call(self.send, loads(data.partition(b"\r\n\r\n")[2])["rawPath"])
        self.ask()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.answered = asyncio.get_running_loop().create_future()
            body: bytes = message["body"]
            self.post.transport.write(
                b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                b'12\r\n{"statusCode":200}\r\n8\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n' % (bytes(8), len(body), body)
            )
            await self.answered


loads: Callable[[bytes], Any] = json.loads

if __name__ == "__main__":
    import orjson
    import uvloop

    loads = orjson.loads
    uvloop.run(Runtime().run())

"""The app and nothing else: reads a number, calls the app as many times on a running loop, and writes the number."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from app import app

Message: TypeAlias = MutableMapping[str, Any]

# What a server has made of a request, of the size that a browser's has.
HEADERS = [
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en"),
    (b"host", b"abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"),
    (b"x-amzn-tls-version", b"TLSv1.3"),
    (b"x-amzn-trace-id", b"Root=1-5bdb40ca-556d8b0c50dc66f0511bf520"),
    (b"x-forwarded-for", b"203.0.113.7"),
    (b"x-forwarded-port", b"443"),
    (b"x-forwarded-proto", b"https"),
]


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def drop(message: Message) -> None:
    pass


async def call(send: Callable[[Message], Awaitable[None]], path: str = "/items/7") -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"q=x",
        "root_path": "",
        "headers": HEADERS,
        "client": ("203.0.113.7", 0),
        "server": ("abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws", 443),
        "state": {},
    }
    await app(scope, receive, send)


async def main() -> None:
    for line in sys.stdin:
        for _ in range(int(line)):
            await call(drop)
        print(line, end="", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

"""An ASGI app that does nothing but answer: what is left is the adapter, and its runtime client."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from mangum import Mangum

from adapter import StreamingAdapter

Message: TypeAlias = MutableMapping[str, Any]

BODY = b'{"item_id":7,"q":"x"}'
HEADERS = [(b"content-length", b"21"), (b"content-type", b"application/json")]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})
        return
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


asyncio.set_event_loop(asyncio.new_event_loop())
ours = StreamingAdapter(app)
mangums = Mangum(app, lifespan="on")

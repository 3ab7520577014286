"""An app that hands on what it is sent: each header of the request is in the reply, by its name and by another one."""

from typing import Any

from adapter import StreamingAdapter


async def app(scope: Any, receive: Any, send: Any) -> None:
    headers = [(name, b"1") for name, _ in scope["headers"]] + [(b"x-value", value) for _, value in scope["headers"]]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


handler = StreamingAdapter(app, lifespan="off")

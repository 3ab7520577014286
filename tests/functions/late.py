"""Builds its adapter in the first invocation, long after awslambdaric has begun."""

from typing import Any


def handler(event: Any, context: Any) -> Any:
    from adapter import StreamingAdapter

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})

    return StreamingAdapter(hello)(event, context)

"""An ASGI app that fails in every phase, and breaks the contract in every way."""

import asyncio
from typing import Any

from adapter import StreamingAdapter
from adapter.types import Receive, Scope, Send
from record import record

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def body(data: bytes | str, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    match scope["path"]:
        case "/ok":
            await send(START)
            await send(body(b"ok"))
        case "/before":
            raise ValueError("before the response")
        case "/held":
            await send(START)
            raise ValueError("right after the head")
        case "/open":
            await send(START)
            await asyncio.sleep(0.1)
            raise ValueError("after the head had gone out")
        case "/mid":
            await send(START)
            await send(body(b"part", more=True))
            raise ValueError("mid-stream \udc80")
        case "/after":
            await send(START)
            await send(body(b"whole"))
            record("working")
            raise ValueError("in the background")
        case "/cancelled":
            raise asyncio.CancelledError
        case "/nothing":
            return
        case "/incomplete":
            await send(START)
            await send(body(b"part", more=True))
        case "/twice":
            await send(START)
            await send(START)
        case "/body-first":
            await send(body(b"body"))
        case "/after-the-end":
            await send(START)
            await send(body(b"whole"))
            await send(body(b"more"))
        case "/unknown":
            await send({"type": "http.response.push"})
        case "/str":
            await send(START)
            await send(body("text"))
        case "/bad-header":
            await send({**START, "headers": [(b"x-name", b"value\r\nset-cookie: stolen=1")]})
        case "/bad-status":
            await send({**START, "status": 99})
        case "/slow":
            await send(START)
            record("started")
            await asyncio.sleep(0.3)
            record("first-token")
            await send(body(b"token"))
        case "/early-end":
            await send(START)
            await send({"type": "http.response.body"})
            record("disconnect-expected")
            assert (await receive())["type"] == "http.request"
            record((await receive())["type"])
        case "/waits":
            await receive()
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await send(START)
            await send(body(b"one", more=True))
            assert not waiting.done()
            await send(body(b"two"))
            record((await waiting)["type"])
        case "/status":
            await send({**START, "status": int(scope["query_string"])})
            await send(body(b"stray body"))
        case "/empty":
            await send(START)
            await send(body(b""))
        case "/cancelled-while-closing":
            await send(START)
            try:
                async with asyncio.timeout(0.1):
                    await send(body(b"whole"))
            except TimeoutError:
                record("timed-out")
        case "/exit":
            raise SystemExit(7)
        case "/drip":
            await send(START)
            for number in range(100):
                await send(body(b"%d\n" % number, more=True))
            await send(body(b""))


async def only_http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError("only HTTP here")
    await app(scope, receive, send)


handler = StreamingAdapter(only_http)

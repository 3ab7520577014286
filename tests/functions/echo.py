"""Tells what it was asked, and answers as it is told: one app, to be served in two ways and compared."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from urllib.parse import unquote_plus

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from adapter import StreamingAdapter

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
SEEN = "application/vnd.seen+json"
BINARY = b"application/octet-stream"
PIECE = bytes(range(256)) * 256


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    """What the app was called with; every path that is not below comes here. For HEAD it is in `x-seen` instead."""
    request = Request(scope, receive)
    body = await request.body()
    client, server = request.client, scope["server"]
    seen = {
        "method": scope["method"],
        "scheme": scope["scheme"],
        "http_version": scope["http_version"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("ascii"),
        "root_path": scope["root_path"],
        "query_string": scope["query_string"].decode("ascii"),
        "query": request.query_params.multi_items(),
        "url": str(request.url),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "cookies": request.cookies,
        "client": client.host if client else None,
        "server": list(server),
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    headers = {"x-seen": json.dumps(seen)} if request.method == "HEAD" else None
    await JSONResponse(seen, headers=headers, media_type=SEEN)(scope, receive, send)


async def echo(request: Request) -> Response:
    """The body, in one piece, under the content type it came with."""
    return Response(await request.body(), headers={"content-type": request.headers.get("content-type", "")})


class Stream(Response):
    """The body, each piece as it comes. A StreamingResponse would itself listen for what `Request.stream` waits for."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", BINARY)]})
        async for piece in Request(scope, receive).stream():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


async def stream(request: Request) -> Response:
    return Stream()


async def reply(request: Request) -> Response:
    """What the query says, JSON in percent-encoding: ``[status, [[name, value], …], [chunk, …]]``, text by latin-1."""
    # A REST API's event has a parameter with this name and an empty value.
    status, headers, chunks = json.loads(unquote_plus(request.url.query).removesuffix("="))
    response = StreamingResponse(pieces(chunk.encode("latin-1") for chunk in chunks), status)
    response.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return response


async def pieces(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def large(request: Request) -> Response:
    return StreamingResponse(pieces([PIECE] * int(request.query_params["pieces"])), media_type="image/x-nothing")


async def cookies(request: Request) -> Response:
    response = Response("two set, one deleted")
    response.set_cookie("session", "a b; c", path="/", secure=True, httponly=True, samesite="strict", max_age=60)
    response.set_cookie("theme", "dark")
    response.set_cookie("old", "", max_age=0, expires=datetime.fromtimestamp(0, UTC))  # delete_cookie: expires now
    return response


async def redirect(request: Request) -> Response:
    return RedirectResponse("/elsewhere/ü?a=b c", 303)


async def url_for(request: Request) -> Response:
    return RedirectResponse(request.url_for("slash"))


async def no_content(request: Request) -> Response:
    return Response(status_code=204)


async def nothing(request: Request) -> Response:
    return StreamingResponse(pieces([]))


async def slash(request: Request) -> Response:
    return Response("at the path with the slash")


async def fail(request: Request) -> Response:
    raise RuntimeError("before the response")


async def fail_later(request: Request) -> Response:
    async def one() -> AsyncIterator[bytes]:
        yield b"one"
        raise RuntimeError("in mid-stream")

    return StreamingResponse(one())


# A bare router, with no error handling of its own: what comes of an exception is the server's doing.
app = Router(
    [
        Route("/echo", echo, methods=METHODS),
        Route("/stream", stream, methods=METHODS),
        Route("/reply", reply, methods=METHODS),
        Route("/large", large),
        Route("/cookies", cookies),
        Route("/redirect", redirect),
        Route("/url-for", url_for),
        Route("/no-content", no_content),
        Route("/nothing", nothing),
        Route("/slash/", slash),
        Route("/fail", fail),
        Route("/fail-later", fail_later),
    ],
    default=show,
)

handler = StreamingAdapter(app)

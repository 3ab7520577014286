"""One app behind every service, and a plain handler."""

import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from mangum import Mangum
from starlette.background import BackgroundTask

from adapter import StreamingAdapter

app = FastAPI()


@app.get("/stream/{megabytes}")
def stream(megabytes: int) -> Response:
    def parts() -> Iterator[bytes]:
        for _ in range(megabytes * 16):
            yield bytes(65_536)

    return StreamingResponse(parts(), media_type="application/octet-stream")


@app.api_route("/{path:path}", methods=["GET", "POST", "HEAD"])
async def show(request: Request) -> Response:
    """What the app was asked; the answer has repeated cookies and says what it is told to by the query."""
    body = await request.body()
    if "fail" in request.query_params:
        raise ValueError("of the app")
    seen = {
        "method": request.method,
        "path": request.url.path,
        "query": request.query_params.multi_items(),
        "cookies": request.cookies,
        "twice": ",".join(request.headers.getlist("x-twice")),
        "client": request.client.host if request.client else None,
        "body": body.decode("latin-1"),
    }
    status = int(request.query_params.get("status", "200"))
    if "binary" in request.query_params:
        response = Response(bytes(range(256)), status, media_type="application/octet-stream")
    elif status in (204, 304):
        response = Response(status_code=status)
    else:
        response = Response(json.dumps(seen), status, media_type="application/json")
    if "work" in request.query_params:
        response.background = BackgroundTask(print, "worked on")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


mangum = Mangum(app, lifespan="off")
adapter = StreamingAdapter(app)


def returns(event: dict[str, Any], context: Any) -> Any:
    """The event's body, as a result."""
    return json.loads(event["body"])

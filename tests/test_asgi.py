"""`StreamingAdapter` in a unit test: its arguments, and its reply against Mangum's for the same event."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Request, Response
from mangum import Mangum
from mangum.handlers import HTTPGateway

from adapter import ConfigurationError, EventError, StreamingAdapter
from adapter.cycle import HTTPCycle
from adapter.invocation import Invocation
from adapter.response import Buffer
from adapter.stream import ResponseStream
from adapter.types import ASGIApp, Receive, Scope, Send
from adapter.work import Rules, Work

from .events import function_url

CONTEXT: Any = {}  # what Mangum's users pass in their tests
done: list[str] = []
app = FastAPI()


@app.api_route("/echo", methods=["GET", "POST", "PUT", "DELETE"])
async def echo(request: Request, background: BackgroundTasks) -> dict[str, Any]:
    background.add_task(done.append, "background")
    return {
        "method": request.method,
        "query": request.url.query,
        "body": (await request.body()).decode("latin-1"),
        "cookies": request.cookies,
        "header": request.headers.get("x-name"),
    }


@app.get("/binary")
async def binary() -> Response:
    return Response(bytes(range(256)), media_type="application/octet-stream")


@app.get("/cookies")
async def cookies(response: Response) -> str:
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    response.headers.append("x-many", "1")
    response.headers.append("x-many", "2")
    return "cookies"


@app.get("/error")
async def error() -> None:
    raise ValueError("of the app")


@pytest.fixture(autouse=True)
def current_loop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Mangum wants one to be set."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


EVENTS = {
    "get": function_url("/echo", query="a=1&a=2&b=%20", headers={"x-name": "v"}, cookies=["a=1", "b=2"]),
    "post": function_url("/echo", method="POST", body='{"a": "é"}', headers={"content-type": "application/json"}),
    "binary upload": function_url("/echo", method="PUT", body=bytes(range(256))),
    "binary download": function_url("/binary"),
    "two cookies": function_url("/cookies"),
    "not found": function_url("/nowhere"),
    "error": function_url("/error"),
}


def http_api(event: dict[str, Any]) -> dict[str, Any]:
    context = {**event["requestContext"], "domainName": "abc.execute-api.us-east-1.amazonaws.com"}
    return {**event, "requestContext": context}


@pytest.mark.parametrize("trigger", [lambda event: event, http_api], ids=["function-url", "http-api"])
@pytest.mark.parametrize("name", EVENTS)
def test_the_reply_is_mangums(name: str, trigger: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    event = trigger(EVENTS[name])
    assert StreamingAdapter(app)(event, {}) == Mangum(app)(event, CONTEXT)


def test_background_work_is_done_when_it_returns() -> None:
    done.clear()
    StreamingAdapter(app)(EVENTS["get"], None)
    assert done == ["background"]


def test_no_content_type_is_invented() -> None:
    """Mangum makes it application/json."""

    async def no_content(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    reply = StreamingAdapter(no_content, lifespan="off")(function_url(), {})
    assert reply == {"statusCode": 204, "body": "", "isBase64Encoded": False}
    mangum = Mangum(no_content, lifespan="off")(function_url(), CONTEXT)
    assert mangum["headers"] == {"content-type": "application/json"}


def test_headers_are_excluded() -> None:
    """Mangum forgets it for payload 2.0."""
    reply = StreamingAdapter(app, exclude_headers=["X-Many"])(EVENTS["two cookies"], {})
    assert "x-many" not in reply["headers"]
    mangum = Mangum(app, exclude_headers=["X-Many"])(EVENTS["two cookies"], CONTEXT)
    assert "x-many" in mangum["headers"]


def test_ipv6_hosts_are_served() -> None:
    """Mangum's scope raises ValueError."""
    event = function_url("/echo", headers={"host": "[::1]:3000"})
    assert StreamingAdapter(app)(event, {})["statusCode"] == 200
    with pytest.raises(ValueError):
        Mangum(app)(event, CONTEXT)


def test_head_has_no_body() -> None:
    async def any_method(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"what GET would have"})

    event = function_url(method="HEAD")
    assert StreamingAdapter(any_method, lifespan="off")(event, {})["body"] == ""


def test_mid_stream_failures_are_a_500_where_nothing_has_been_seen() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError("mid-stream")

    reply = StreamingAdapter(broken, lifespan="off")(function_url(), {})
    assert (reply["statusCode"], reply["body"]) == (500, "Internal Server Error")


def test_an_app_that_stops_the_loop_fails_its_own_invocation() -> None:
    ended: list[str] = []

    async def stopping(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/stop":
            asyncio.get_running_loop().stop()
            try:
                await asyncio.sleep(0)
            finally:
                ended.append(scope["path"])
        else:
            assert ended == ["/stop"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"whole"})

    handler = StreamingAdapter(stopping, lifespan="off")
    with pytest.raises(RuntimeError, match="the event loop was stopped before the handler was done"):
        handler(function_url("/stop"), CONTEXT)
    assert handler(function_url(), CONTEXT)["body"] == "whole"


@pytest.mark.parametrize("is_next", [True, False])
def test_what_the_loop_has_to_do_next_is_done_before_it_stops(is_next: bool) -> None:
    """A connection that is closed, say: asyncio closes it with the loop's next turn."""
    called: list[str] = []

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        if is_next:
            asyncio.get_running_loop().call_soon(called.append, "next")
        else:
            task = asyncio.current_task()
            assert task is not None
            task.add_done_callback(lambda task: called.append("next"))

    StreamingAdapter(closing, lifespan="off")(function_url(), CONTEXT)
    assert called == ["next"]


def test_base_path() -> None:
    adapter = StreamingAdapter(app, api_gateway_base_path="/api")
    assert adapter(function_url("/api/echo"), {})["statusCode"] == 200
    assert adapter(function_url("/apiecho"), {})["statusCode"] == 404


def test_text_mime_types() -> None:
    assert StreamingAdapter(app)(EVENTS["binary download"], {})["isBase64Encoded"]

    @app.get("/own-type")
    async def own_type() -> Response:
        return Response("x", media_type="application/own")

    event = function_url("/own-type")
    assert StreamingAdapter(app)(event, {})["isBase64Encoded"]
    assert not StreamingAdapter(app, text_mime_types=["application/own"])(event, {})["isBase64Encoded"]


def test_the_attributes_are_mangums() -> None:
    arguments: Any = {
        "lifespan": "off",
        "api_gateway_base_path": "/api",
        "custom_handlers": [Upper],
        "text_mime_types": ["text/"],
        "exclude_headers": ["X-Many"],
    }
    few: Any = {}
    for some in (few, arguments):
        ours, mangums = StreamingAdapter(app, **some), Mangum(app, **some)
        for name in ("app", "lifespan", "config", "custom_handlers"):
            assert getattr(ours, name) == getattr(mangums, name), name
    StreamingAdapter(app).config["text_mime_types"].append("application/own")
    assert StreamingAdapter(app).config == Mangum(app).config  # each has lists of its own


def test_the_configuration_can_be_changed() -> None:
    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/own"), (b"x-path", scope["root_path"].encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    handler = StreamingAdapter(own, lifespan="off")
    mangum = Mangum(own, lifespan="off")
    event = http_api(function_url("/api/x"))
    assert handler(event, CONTEXT)["isBase64Encoded"] and mangum(event, CONTEXT)["isBase64Encoded"]
    for adapter in (handler, mangum):
        adapter.config["text_mime_types"].append("application/own")
        assert not adapter(event, CONTEXT)["isBase64Encoded"]
    handler.config["api_gateway_base_path"] = "/api"
    assert handler(event, CONTEXT)["headers"]["x-path"] == "/api"
    handler.config["exclude_headers"].append("x-path")
    assert "x-path" not in handler(event, CONTEXT)["headers"]


def test_the_app_and_the_lifespan_can_be_changed_before_the_first_request() -> None:
    called: list[str] = []

    def named(name: str) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            called.append(f"{name} {scope['type']}")
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
            else:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body"})

        return app

    handler = StreamingAdapter(named("first"))
    handler.app = named("second")
    handler(function_url(), CONTEXT)
    handler(function_url(), CONTEXT)
    assert called == ["second lifespan", "second http", "second http"]
    called.clear()
    handler = StreamingAdapter(named("first"))
    handler.lifespan = "off"
    handler(function_url(), CONTEXT)
    assert called == ["first http"]


async def no_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    await receive()
    tried.append(scope["type"])
    if len(tried) == 1:
        raise ConnectionError("no database")
    await send({"type": "lifespan.startup.complete"})
    await receive()


tried: list[str] = []


def test_a_startup_that_failed_outside_lambda_is_tried_again() -> None:
    handler = StreamingAdapter(no_lifespan)
    with pytest.raises(ConnectionError, match="no database"):
        handler(function_url(), CONTEXT)
    handler(function_url(), CONTEXT)
    assert tried == ["lifespan", "lifespan"]


class Upper(HTTPGateway):
    """A trigger of somebody's own."""

    @classmethod
    def infer(cls, event: dict[str, Any], context: Any, config: Any) -> bool:
        return "own" in event

    @property
    def scope(self) -> Any:
        if self.event["own"] == "broken":
            raise EventError("no scope today")
        return {**super().scope, "method": "POST"}


def test_custom_handlers() -> None:
    adapter = StreamingAdapter(app, custom_handlers=[Upper])
    own = {**EVENTS["get"], "own": True}
    assert '"method":"POST"' in adapter(own, {})["body"]
    assert '"method":"GET"' in adapter(EVENTS["get"], {})["body"]
    with pytest.raises(EventError, match="no scope today"):
        adapter({**own, "own": "broken"}, {})


def test_unknown_events_are_refused() -> None:
    with pytest.raises(EventError, match="no trigger is known"):
        StreamingAdapter(app)({"source": "aws.events"}, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lifespan": "maybe"}, "lifespan must be one of auto, on, off, not 'maybe'"),
        ({"api_gateway_base_path": 7}, "api_gateway_base_path must be a path like '/api', not 7"),
        ({"text_mime_types": "text/"}, "text_mime_types must be a list of strings, not 'text/'"),
        ({"exclude_headers": [1]}, "exclude_headers must be a list of strings"),
        ({"custom_handlers": ["Upper"]}, "custom_handlers must be a list of handler classes"),
    ],
)
def test_arguments_are_checked(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StreamingAdapter(app, **arguments)
    assert message in str(caught.value)


def test_the_app_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="app must be an ASGI application, not 'main:app'"):
        StreamingAdapter("main:app")  # type: ignore[arg-type]


def test_arguments_are_keywords() -> None:
    with pytest.raises(TypeError):
        StreamingAdapter(app, "off")  # type: ignore[call-arg]


SCRIPT = """
from adapter import StreamingAdapter
from contextlib import asynccontextmanager
from fastapi import FastAPI

@asynccontextmanager
async def lifespan(app):
    print("startup")
    yield {"a": 1}
    print("shutdown")

app = FastAPI(lifespan=lifespan)

@app.get("/")
async def root():
    print("request")

handler = StreamingAdapter(app)
print("made")
from tests.events import function_url
handler(function_url(), {})
handler(function_url(), {})
print("end")
"""


def test_outside_lambda_the_lifespan_is_started_by_the_first_call_and_ended_with_the_process() -> None:
    root = Path(__file__).parent.parent
    out = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["made", "startup", "request", "request", "end", "shutdown"]
    assert not out.stderr


async def test_an_app_that_does_not_wait_for_its_last_message() -> None:
    """Its response is awaited all the same: until the other side has taken it the invocation is not over."""
    events: list[str] = []

    class Slow(Buffer):
        async def settle(self) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            events.append("settled")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending.add(asyncio.ensure_future(send({"type": "http.response.body", "body": b"all"})))
        await asyncio.sleep(0)
        events.append("returned")

    sending: set[asyncio.Future[None]] = set()
    stream = ResponseStream(Slow(), "r")
    await HTTPCycle({}, b"", stream, Work(Invocation("r"), Rules())).run(app)
    assert events[:2] == ["returned", "settled"] and stream.ended_at
    await asyncio.gather(*sending)

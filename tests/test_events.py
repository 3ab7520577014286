"""Function URL events: the ASGI scope and body they become, and the reply as a dict."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.events import FunctionURL, Request, proxy_reply, read_event
from adapter.exceptions import EventError
from adapter.response import Head

from .events import function_url


def read(event: Any, *, base_path: str = "/") -> Request:
    config: Any = {"api_gateway_base_path": base_path, "text_mime_types": ["text/"], "exclude_headers": []}
    return read_event(event, "the context", config)


def test_the_scope_is_whole() -> None:
    event = function_url(
        "/a%20b/%C3%BC%2Fc",
        method="POST",
        query="q=1&q=%202",
        headers={"X-Name": "v", "content-type": "text/plain"},
        cookies=["a=1", "b=2"],
        body="héllo",
    )
    request = read(event)
    assert request.scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/a b/ü/c",
        "raw_path": b"/a%20b/%C3%BC%2Fc",
        "query_string": b"q=1&q=%202",
        "root_path": "",
        "headers": [
            (b"host", b"abc.lambda-url.us-east-1.on.aws"),
            (b"x-forwarded-for", b"203.0.113.7"),
            (b"x-forwarded-port", b"443"),
            (b"x-forwarded-proto", b"https"),
            (b"user-agent", b"test"),
            (b"x-name", b"v"),
            (b"content-type", b"text/plain"),
            (b"cookie", b"a=1; b=2"),
            (b"content-length", b"6"),
        ],
        "client": ("203.0.113.7", 0),
        "server": ("abc.lambda-url.us-east-1.on.aws", 443),
        "extensions": {},
        "aws.event": event,
        "aws.context": "the context",
    }
    assert request.body == "héllo".encode()
    assert request.trigger == "function-url"
    assert request.trigger == "function-url"


def test_nothing_of_one_scope_is_in_the_next() -> None:
    event = function_url()
    first, second = read(event).scope, read(event).scope
    shared = [key for key, value in first.items() if isinstance(value, list | dict) and value is second[key]]
    assert shared == ["aws.event"]


def test_an_event_is_as_it_was() -> None:
    event = function_url(cookies=["a=1", "b=2"])
    for _ in range(2):
        assert (b"cookie", b"a=1; b=2") in map(tuple, read(event).scope["headers"])
        assert event == function_url(cookies=["a=1", "b=2"])


def test_names_of_headers_are_kept_as_they_are_only_in_lower_case() -> None:
    for _ in range(2):
        headers = read(function_url(headers={"X-Some": "1", "x-other": "2"})).scope["headers"]
        assert [name for name, _ in headers][-2:] == [b"x-some", b"x-other"]


def test_the_least_event() -> None:
    request = read({"version": "2.0", "requestContext": {"domainName": "a.lambda-url.b", "http": {"method": "get"}}})
    scope = request.scope
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == ("GET", "/", b"/", b"")
    assert (scope["headers"], scope["client"], scope["server"]) == ([], None, ("a.lambda-url.b", 443))
    assert request.body == b""


def test_null_is_as_good_as_absent() -> None:
    event = {**function_url(), "headers": None, "cookies": None, "body": None, "rawQueryString": None}
    assert read(event).scope["headers"] == []


def test_the_path_of_the_request_context_is_a_second_source() -> None:
    event = function_url("/x")
    del event["rawPath"]
    assert read(event).scope["path"] == "/x"


@pytest.mark.parametrize(
    ("host", "port", "proto", "server"),
    [
        ("example.com", "443", "https", ("example.com", 443)),
        ("example.com", "", "http", ("example.com", 80)),
        ("example.com", "", "gopher", ("example.com", 443)),
        ("example.com:8000", "443", "http", ("example.com", 8000)),
        ("127.0.0.1:8000", "8000", "http", ("127.0.0.1", 8000)),
        ("[::1]", "8000", "http", ("::1", 8000)),
        ("[::1]:3000", "8000", "http", ("::1", 3000)),
        ("[:::]", "443", "https", (":::", 443)),
        ("", "9" * 5000, "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("x:evil", "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("x:", "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("x:99999", "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("x:" + "9" * 5000, "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("x.example/y?z", "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("x:²", "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("", "²", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("a" * 255, "443", "https", ("a" * 255, 443)),
        ("a" * 255 + ":65535", "443", "https", ("a" * 255, 65535)),
        ("a" * 256, "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("a" * 256 + ":80", "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("a" * 900_000, "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
        ("[::1]:80" + "0" * 900_000, "443", "https", ("abc.lambda-url.us-east-1.on.aws", 443)),
    ],
)
def test_a_host_header_of_any_form_gives_a_request(host: str, port: str, proto: str, server: tuple[str, int]) -> None:
    headers = {"host": host, "x-forwarded-port": port, "x-forwarded-proto": proto}
    scope = read(function_url(headers=headers)).scope
    assert scope["server"] == server
    assert scope["scheme"] == ("http" if proto == "http" else "https")


@given(st.text(), st.text(), st.text())
def test_headers_of_any_form_give_a_request(host: str, port: str, proto: str) -> None:
    scope = read(function_url(headers={"host": host, "x-forwarded-port": port, "x-forwarded-proto": proto})).scope
    assert isinstance(scope["server"][1], int)
    assert all(isinstance(part, bytes) for header in scope["headers"] for part in header)


def test_http_2() -> None:
    event = function_url()
    event["requestContext"]["http"]["protocol"] = "HTTP/2.0"
    assert read(event).scope["http_version"] == "2"


def test_binary_body() -> None:
    assert read(function_url(body=bytes(range(256)), method="POST")).body == bytes(range(256))


@pytest.mark.parametrize(
    ("path", "base", "whole", "root"),
    [
        ("/api/items", "/api", "/api/items", "/api"),
        ("/api/items", "api/", "/api/items", "/api"),
        ("/api/v%201/items", "/api/v 1", "/api/v 1/items", "/api/v 1"),
        ("/api", "/api", "/api/", "/api"),
        ("/api/", "/api", "/api/", "/api"),
        ("/apis", "/api", "/apis", ""),
        ("/other", "/api", "/other", ""),
        ("/items", "/", "/items", ""),
        ("/items", "", "/items", ""),
        ("", "/", "/", ""),
        ("", "/api", "/", ""),
    ],
)
def test_base_path(path: str, base: str, whole: str, root: str) -> None:
    """As ASGI has it: `path` is all that the client asked for, and begins with `root_path`."""
    scope = read(function_url(path), base_path=base).scope
    assert (scope["path"], scope["root_path"]) == (whole, root)
    assert scope["raw_path"] == (b"/api/" if path == "/api" else path.encode() or b"/")


def test_an_http_api_is_not_a_function_url() -> None:
    event = function_url()
    event["requestContext"]["domainName"] = "abc.execute-api.us-east-1.amazonaws.com"
    request = read(event)
    assert request.trigger != "function-url"
    assert request.scope["asgi"]["spec_version"] == "2.3"
    assert request.scope["extensions"] == {}


@pytest.mark.parametrize("event", [{}, {"Records": [{"eventSource": "aws:sqs"}]}, {"version": "2.0"}])
def test_an_event_of_no_known_trigger(event: Any) -> None:
    with pytest.raises(EventError, match="no trigger is known that sends (an event with the keys|1 record)"):
        read(event)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
KEYS = [*function_url(cookies=["a=b"], body="x"), "resource", "httpMethod", "path", "multiValueHeaders"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4), st.dictionaries(st.text(max_size=5), JSON, max_size=2))
def test_any_json_is_a_request_or_a_clear_error(fields: dict[str, Any], http: dict[str, Any]) -> None:
    event = {**function_url(), **fields}
    if isinstance(event["requestContext"], dict) and "http" in event["requestContext"]:
        event["requestContext"]["http"] = {**event["requestContext"]["http"], **http}
    try:
        request = read(event)
    except EventError as exception:
        assert str(exception).isascii()
    else:
        assert isinstance(request.body, bytes)


def test_the_message_is_short_whatever_the_event() -> None:
    with pytest.raises(EventError) as caught:
        read({**function_url(), "rawPath": ["x" * 10_000]})
    assert len(str(caught.value)) < 200


def test_the_message_is_short_however_deep_the_event() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EventError, match="the event's rawPath is something nested too deep to show, where a string"):
        read({**function_url(), "rawPath": deep})


@pytest.mark.parametrize(
    ("content_type", "body", "encoded", "base64"),
    [
        (b"text/html", "é".encode(), "é", False),
        (b"application/json", b"{}", "{}", False),
        (b"application/problem+json", b"{}", "{}", False),
        (b"image/png", b"\x89PNG", "iVBORw==", True),
        (b"text/plain", b"\xff", "/w==", True),
        (b"image/png", b"", "", False),
    ],
)
def test_the_reply_as_a_dict(content_type: bytes, body: bytes, encoded: str, base64: bool) -> None:
    head = Head.parse(
        200, [(b"content-type", content_type), (b"set-cookie", b"a=b"), (b"x-a", b"1"), (b"x-a", b"\xe9")]
    )
    reply = proxy_reply(head, body)
    assert reply == {
        "statusCode": 200,
        "headers": {"content-type": content_type.decode(), "x-a": "1,é"},
        "cookies": ["a=b"],
        "body": encoded,
        "isBase64Encoded": base64,
    }
    json.dumps(reply)


def test_a_reply_without_headers_or_cookies_has_neither() -> None:
    assert proxy_reply(Head(204), b"") == {"statusCode": 204, "body": "", "isBase64Encoded": False}


def test_the_trigger_is_a_handler_as_mangum_knows_them() -> None:
    config: Any = {"api_gateway_base_path": "/", "text_mime_types": ["text/"], "exclude_headers": []}
    handler = FunctionURL(function_url(), None, config)
    assert (handler.scope["method"], handler.body) == ("GET", b"")
    response: Any = {"status": 200, "headers": [[b"content-type", b"text/plain"]], "body": b"x"}
    assert handler(response)["body"] == "x"

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from adapter.local.fronts.exchange import BuildEvent
from adapter.local.fronts.payload import function_url_event, http_api_event
from adapter.local.fronts.payload_1_0 import http_api_1_0_event, rest_api_event
from adapter.local.fronts.payload_alb import alb_event, alb_multi_value_event
from adapter.local.fronts.request import Request, read_request

MAKE: dict[str, BuildEvent] = {
    "function-url": function_url_event,
    "http-api": http_api_event,
    "http-api-1.0": http_api_1_0_event,
    "rest-api": rest_api_event,
    "alb": alb_event,
    "alb-multi-value": alb_multi_value_event,
}


def event(**request: Any) -> Any:
    defaults: dict[str, Any] = {
        "method": "GET",
        "path": "/",
        "query": "",
        "protocol": "HTTP/1.1",
        "headers": [("host", "127.0.0.1:8000")],
        "body": b"",
        "scheme": "http",
        "port": 8000,
        "source_ip": "127.0.0.1",
    }
    built = function_url_event(
        Request(**{**defaults, **request}),
        region="eu-west-1",
        request_id="id",
        trace_id="Root=1-2-3;Parent=4;Sampled=0",
    )
    return json.loads(built)


def test_whole() -> None:
    value = event(
        method="POST",
        path="/a%20b",
        query="x=1",
        headers=[("host", "here:8000"), ("user-agent", "curl/8")],
        source_ip="10.0.0.7",
    )
    context = value["requestContext"]
    assert re.fullmatch(r"\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d \+0000", context.pop("time"))
    assert context.pop("timeEpoch") > 1_700_000_000_000
    assert value == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b",
        "rawQueryString": "x=1",
        "queryStringParameters": {"x": "1"},
        "headers": {
            "host": "here:8000",
            "user-agent": "curl/8",
            "x-forwarded-for": "10.0.0.7",
            "x-forwarded-proto": "http",
            "x-forwarded-port": "8000",
            "x-amzn-trace-id": "Root=1-2-3",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "local",
            "domainName": "local.lambda-url.eu-west-1.on.aws",
            "domainPrefix": "local",
            "http": {
                "method": "POST",
                "path": "/a%20b",
                "protocol": "HTTP/1.1",
                "sourceIp": "10.0.0.7",
                "userAgent": "curl/8",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }


def test_what_is_not_there_has_no_key() -> None:
    assert not {"body", "cookies", "queryStringParameters"} & event().keys()


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("a=1&a=2&b=3", {"a": "1,2", "b": "3"}),
        ("a=&b", {"a": "", "b": ""}),
        ("k%20ey=v%26al+ue", {"k ey": "v&al ue"}),
        ("%C3%A9=%E2%82%AC", {"\u00e9": "\u20ac"}),
        ("bad=%FF", {"bad": "\ufffd"}),
    ],
)
def test_query(query: str, parameters: dict[str, str]) -> None:
    value = event(query=query)
    assert value["rawQueryString"] == query
    assert value["queryStringParameters"] == parameters


@pytest.mark.parametrize("path", ["/", "/a/b", "/a%2Fb", "/caf%C3%A9", "/%", "//x", "/a;b=c"])
def test_path_as_sent(path: str) -> None:
    value = event(path=path)
    assert value["rawPath"] == path
    assert value["requestContext"]["http"]["path"] == path


@pytest.mark.parametrize(
    ("headers", "cookies"),
    [
        (["a=1; b=2"], ["a=1", "b=2"]),
        (["a=1", "b=2;c=3"], ["a=1", "b=2", "c=3"]),
        (['q="x y"; ;'], ['q="x y"']),
    ],
)
def test_cookies(headers: list[str], cookies: list[str]) -> None:
    value = event(headers=[("cookie", header) for header in headers])
    assert value["cookies"] == cookies
    assert "cookie" not in value["headers"]


def test_repeated_headers_are_joined() -> None:
    assert event(headers=[("accept", "a"), ("x", "1"), ("accept", "b, c")])["headers"]["accept"] == "a,b, c"


def test_the_clients_own_forwarding_headers_are_replaced() -> None:
    forged = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "443")]
    headers = event(headers=forged)["headers"]
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"], headers["x-forwarded-port"]) == (
        "127.0.0.1",
        "http",
        "8000",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Srīperumbūdūr".encode(), "Srīperumbūdūr"),
        ("São Paulo".encode(), "São Paulo"),
        (b"S\xe3o Paulo", "S\ufffdo Paulo"),
        (b"caf\xe9", "caf\ufffd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_header_values_are_decoded_as_utf_8(value: bytes, text: str) -> None:
    scope: Any = {
        "method": "GET",
        "raw_path": b"/",
        "query_string": b"",
        "http_version": "1.1",
        "headers": [(b"host", b"here"), (b"cf-ipcity", value), (b"cookie", b"city=" + value)],
        "scheme": "http",
    }
    request = read_request(scope, b"")
    for make in MAKE.values():
        made = json.loads(make(request, region="eu-west-1", request_id="id", trace_id="Root=1"))
        headers = made.get("headers") or {name: values[0] for name, values in made["multiValueHeaders"].items()}
        assert headers["cf-ipcity"] == text
        assert [*made.get("cookies", []), headers.get("cookie")][0] == f"city={text}"


@pytest.mark.parametrize("name", ["function-url", "http-api", "http-api-1.0", "rest-api", "alb", "alb-multi-value"])
def test_a_rest_api_leaves_the_content_length_out(name: str) -> None:
    headers = [("host", "here"), ("content-length", "5"), ("x-name", "v")]
    request = Request("POST", "/", "", "HTTP/1.1", headers, b"a=1&b", "http", 8000, "127.0.0.1")
    made = json.loads(MAKE[name](request, region="eu-west-1", request_id="id", trace_id="Root=1"))
    fields = [made[field] for field in ("headers", "multiValueHeaders") if field in made]
    assert [("content-length" in field, "x-name" in field) for field in fields] == [(name != "rest-api", True)] * len(
        fields
    )


def test_the_connections_headers_stay_here() -> None:
    sent = [("connection", "keep-alive"), ("transfer-encoding", "chunked"), ("te", "trailers"), ("x", "1")]
    headers = event(headers=sent)["headers"]
    assert headers["x"] == "1"
    assert not {"connection", "transfer-encoding", "te"} & headers.keys()


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", b"hi", "hi"),
        ("TEXT/HTML; charset=utf-8", "\u00e9\u20ac".encode(), "\u00e9\u20ac"),
        ("application/json", b"{}", "{}"),
        ("application/json; charset=utf-8", b"{}", "{}"),
        ("application/xml", b"<a/>", "<a/>"),
        ("application/javascript", b"1", "1"),
        ("application/json", b"\xff", None),
        ("text/plain", "\u00e9".encode("latin-1"), None),
        ("application/x-www-form-urlencoded", b"a=1", None),
        ("application/octet-stream", b"abc", None),
        ("multipart/form-data; boundary=x", b"--x", None),
        ("image/png", bytes(range(256)), None),
        (None, b"abc", None),
    ],
)
def test_body(content_type: str | None, body: bytes, text: str | None) -> None:
    value = event(headers=[("content-type", content_type)] if content_type else [], body=body)
    if text is None:
        assert value["isBase64Encoded"] is True
        assert base64.b64decode(value["body"], validate=True) == body
    else:
        assert value["isBase64Encoded"] is False
        assert value["body"] == text

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.local.fronts.head import MalformedError
from adapter.local.fronts.proxy_result import (
    ALB,
    ALB_MULTI_VALUE,
    FUNCTION_URL,
    HTTP_API_1_0,
    HTTP_API_2_0,
    REST_API,
    ProxyResult,
    ResultForm,
    read,
)

FORMS = {
    "function URL": FUNCTION_URL,
    "HTTP API 2.0": HTTP_API_2_0,
    "HTTP API 1.0": HTTP_API_1_0,
    "REST API": REST_API,
    "ALB": ALB,
    "ALB multi-value": ALB_MULTI_VALUE,
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def result(value: Any, form: ResultForm) -> ProxyResult:
    return read(json.dumps(value).encode(), form)


def headers(value: Any, form: ResultForm) -> list[tuple[str, str]]:
    return result({"statusCode": 200, **value}, form).headers


@every_form
def test_documented_result(form: ResultForm) -> None:
    found = result({"statusCode": 201, "body": "caf\u00e9", "isBase64Encoded": False}, form)
    assert (found.status, found.body) == (201, "caf\u00e9".encode())


@every_form
def test_base64(form: ResultForm) -> None:
    packed = base64.b64encode(b"\0\xff").decode()
    assert result({"statusCode": 200, "body": packed, "isBase64Encoded": True}, form).body == b"\0\xff"


@every_form
def test_no_body(form: ResultForm) -> None:
    assert result({"statusCode": 204}, form).body == b""
    assert result({"statusCode": 204, "body": None, "headers": None, "isBase64Encoded": None}, form).body == b""


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        (FUNCTION_URL, "application/json"),
        (HTTP_API_2_0, "text/plain;charset=UTF-8"),
        (HTTP_API_1_0, "text/plain;charset=UTF-8"),
        (REST_API, "application/json"),
        (ALB, "application/octet-stream"),
        (ALB_MULTI_VALUE, "application/octet-stream"),
    ],
)
def test_content_type_where_none_is_given(form: ResultForm, content_type: str) -> None:
    assert headers({}, form) == [("content-type", content_type)]


INFERRED = [("content-type", "application/json")]


@pytest.mark.parametrize("form", [FUNCTION_URL, HTTP_API_2_0])
@pytest.mark.parametrize(
    ("text", "body"),
    [
        ('"Hello, world!"', "Hello, world!"),
        ('""', ""),
        ('"\\"quoted\\"\\n{\\"a\\": 1}"', '"quoted"\n{"a": 1}'),
        ('"caf\\u00e9 \u20ac"', "caf\u00e9 \u20ac"),
        ('"half \\ud800"', "half ?"),
    ],
)
def test_an_inferred_string_comes_without_its_quotation_marks(form: ResultForm, text: str, body: str) -> None:
    assert read(text.encode(), form) == ProxyResult(200, INFERRED, body.encode())


@pytest.mark.parametrize(
    ("text", "body"),
    [
        # Recorded on AWS by LocalStack's tests, with these lengths.
        ('{"hello": "world"}', '{"hello":"world"}'),
        ('["hello", 3, true]', '["hello",3,true]'),
        ("3", "3"),
        ("3.1", "3.1"),
        ("true", "true"),
        # Others of the same kind.
        ("null", "null"),
        ("{}", "{}"),
        (' {\n "a b": [ 1, {"c": "d,  e: f"} ] }\n', '{"a b":[1,{"c":"d,  e: f"}]}'),
        ('[{"statusCode": 200}]', '[{"statusCode":200}]'),
        ('["caf\u00e9", "\\u20ac", "\\ud800"]', '["caf\u00e9","\u20ac","?"]'),
    ],
)
def test_other_inferred_json_is_written_anew_by_a_function_url_only(text: str, body: str) -> None:
    assert read(text.encode(), FUNCTION_URL) == ProxyResult(200, INFERRED, body.encode())
    assert read(text.encode(), HTTP_API_2_0) == ProxyResult(200, INFERRED, text.encode())


@pytest.mark.parametrize("depth", [300, 900, 1_500, 3_000, 100_000])
def test_inferred_json_of_any_depth_is_sent_or_refused(depth: int) -> None:
    text = b"[" * depth + b"]" * depth
    try:
        assert read(text, FUNCTION_URL).body == text
    except MalformedError as error:
        assert "it is n" in str(error)  # not JSON, or nested too deeply


@pytest.mark.parametrize("form", [HTTP_API_1_0, REST_API, ALB, ALB_MULTI_VALUE])
@pytest.mark.parametrize("text", ['"Hello"', "null", "[1]", "5"])
def test_not_inferred(form: ResultForm, text: str) -> None:
    with pytest.raises(MalformedError, match="not an object with a statusCode"):
        read(text.encode(), form)


@pytest.mark.parametrize("form", [HTTP_API_1_0, ALB, ALB_MULTI_VALUE])
def test_status_is_needed(form: ResultForm) -> None:
    with pytest.raises(MalformedError, match='it has no statusCode: {"body": "x"}'):
        result({"body": "x"}, form)


def test_rest_api_needs_no_key_and_allows_no_other() -> None:
    assert result({}, REST_API) == ProxyResult(200, [("content-type", "application/json")], b"")
    with pytest.raises(MalformedError, match="keys that are not allowed in it: cookies, message"):
        result({"statusCode": 200, "message": "x", "cookies": []}, REST_API)


@pytest.mark.parametrize("form", [FUNCTION_URL, HTTP_API_2_0])
def test_cookies_and_no_multi_value_headers(form: ResultForm) -> None:
    given = {"headers": {"Content-Type": "a/b", "x": "1"}, "cookies": ["a=1", "b=2; Path=/"]}
    assert headers({**given, "multiValueHeaders": {"y": ["2"]}}, form) == [
        ("Content-Type", "a/b"),
        ("x", "1"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2; Path=/"),
    ]


@pytest.mark.parametrize("form", [HTTP_API_1_0, REST_API])
def test_headers_and_multi_value_headers_are_merged(form: ResultForm) -> None:
    given = {
        "headers": {"x": "lost", "y": "kept"},
        "multiValueHeaders": {"X": ["1", "2"], "Set-Cookie": ["a=1", "b=2"], "content-type": ["a/b"]},
    }
    assert headers(given, form) == [
        ("y", "kept"),
        ("X", "1"),
        ("X", "2"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("content-type", "a/b"),
    ]


def test_load_balancer_reads_its_own_kind_of_headers_only() -> None:
    given = {"headers": {"content-type": "a/b"}, "multiValueHeaders": {"content-type": ["c/d"]}}
    assert headers(given, ALB) == [("content-type", "a/b")]
    assert headers(given, ALB_MULTI_VALUE) == [("content-type", "c/d")]


def test_remapped_and_dropped() -> None:
    given = {
        "headers": {
            "content-type": "a/b",
            "Content-Length": "99",
            "Connection": "close",
            "Date": "today",
            "Server": "mine",
            "Transfer-Encoding": "chunked",
            "WWW-Authenticate": "Basic",
        }
    }
    assert headers(given, FUNCTION_URL) == [
        ("content-type", "a/b"),
        ("x-amzn-remapped-Content-Length", "99"),
        ("x-amzn-remapped-WWW-Authenticate", "Basic"),
    ]
    assert headers(given, REST_API) == [
        ("content-type", "a/b"),
        ("x-amzn-remapped-Content-Length", "99"),
        ("x-amzn-remapped-Connection", "close"),
        ("x-amzn-remapped-Date", "today"),
        ("x-amzn-remapped-Server", "mine"),
        ("x-amzn-remapped-WWW-Authenticate", "Basic"),
    ]
    for form in (HTTP_API_2_0, HTTP_API_1_0, ALB):
        assert headers(given, form) == [("content-type", "a/b"), ("WWW-Authenticate", "Basic")]


@pytest.mark.parametrize("form", [FUNCTION_URL, REST_API, HTTP_API_1_0, HTTP_API_2_0])
def test_a_status_may_be_text(form: ResultForm) -> None:
    given = {"statusCode": "418", "headers": {"content-type": "a/b"}, "body": "i'm a teapot"}
    assert result(given, form) == ProxyResult(418, [("content-type", "a/b")], b"i'm a teapot")
    for status in ("99", "600", "200.0", "+200", "", "\u0664\u0661\u0668"):
        with pytest.raises(MalformedError, match="statusCode is "):
            result({"statusCode": status}, form)


def test_load_balancer_takes_no_status_that_is_text() -> None:
    with pytest.raises(MalformedError, match='statusCode is "404"'):
        result({"statusCode": "404"}, ALB)


def test_headers_may_be_booleans_behind_an_api_only() -> None:
    given = {"headers": {"content-type": "a/b", "x": True}}
    for form in (REST_API, HTTP_API_1_0, HTTP_API_2_0):
        assert headers(given, form) == [("content-type", "a/b"), ("x", "true")]
    for form in (FUNCTION_URL, ALB):
        with pytest.raises(MalformedError, match="the header x is not a string but true"):
            headers(given, form)


@every_form
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"statusCode": 99}, "statusCode is 99, not a number from 200 to 599"),
        ({"statusCode": 101}, "statusCode is 101"),
        ({"statusCode": 600}, "statusCode is 600"),
        ({"statusCode": True}, "statusCode is true"),
        ({"statusCode": 200.5}, "statusCode is 200.5"),
        ({"statusCode": "ok"}, 'statusCode is "ok"'),
        ({"statusCode": 200, "body": {"a": 1}}, r'body is not a string \(json.dumps makes it one\) but {"a": 1}'),
        ({"statusCode": 200, "body": 5}, "body is not a string"),
        ({"statusCode": 200, "body": "x" * 5, "isBase64Encoded": True}, "body is not base64"),
        ({"statusCode": 200, "body": "\u20ac", "isBase64Encoded": True}, "body is not base64"),
        ({"statusCode": 200, "isBase64Encoded": "true"}, 'isBase64Encoded is not true or false but "true"'),
    ],
)
def test_refused(form: ResultForm, value: Any, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        result(value, form)


@pytest.mark.parametrize(
    ("form", "value", "complaint"),
    [
        (REST_API, {"headers": {"x": 5}}, "the header x is not a string but 5"),
        (ALB, {"headers": {"x": True}}, "the header x is not a string but true"),
        (ALB, {"headers": {"x": None}}, "the header x is not a string but null"),
        (FUNCTION_URL, {"headers": ["x"]}, r'headers is not an object but \["x"\]'),
        (FUNCTION_URL, {"headers": {"x": "a\r\nb: c"}}, "characters that HTTP cannot carry"),
        (FUNCTION_URL, {"headers": {"x y": "1"}}, "'x y' is no name for a header"),
        (FUNCTION_URL, {"cookies": {"a": "1"}}, "cookies is not a list"),
        (HTTP_API_1_0, {"multiValueHeaders": {"x": "1"}}, 'header x in multiValueHeaders is not a list but "1"'),
        (ALB_MULTI_VALUE, {"multiValueHeaders": {"x": [1]}}, "the header x is not a string but 1"),
        (REST_API, {"multiValueHeaders": ["x"]}, "multiValueHeaders is not an object"),
    ],
)
def test_refused_headers(form: ResultForm, value: Any, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        headers(value, form)


@every_form
@pytest.mark.parametrize(
    "payload",
    [b"", b"<html>", b'{"statusCode":', b"\xff\xfe{", b'{"statusCode":200}' + bytes(8) + b"body", b"[" * 100_000],
)
def test_not_json(form: ResultForm, payload: bytes) -> None:
    with pytest.raises(MalformedError, match="it is not JSON"):
        read(payload, form)


@every_form
@pytest.mark.parametrize("name", ["statusCode", "headers", "body", "isBase64Encoded", "multiValueHeaders", "cookies"])
def test_nesting_of_any_depth_is_refused_or_can_be_sent(form: ResultForm, name: str) -> None:
    """Also where Python reads it, and has no room left to quote it."""
    for depth in (*range(1, 900, 100), *range(900, 1020), 100_000):
        payload = f'{{"{name}": {"[" * depth}{"]" * depth}}}'.encode()
        for more in (b"", b'"statusCode": 200, ' if name != "statusCode" else b""):
            with contextlib.suppress(MalformedError):
                read(b"{" + more + payload[1:], form)


def test_a_character_that_is_none() -> None:
    assert read(b'{"statusCode": 200, "body": "a\\ud800"}', FUNCTION_URL).body == b"a?"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["content-type", "Content-Length", "x", "Transfer-Encoding", "set-cookie"]) | st.text(
    max_size=5
)
results = anything | st.fixed_dictionaries(
    {"statusCode": st.integers(190, 610) | anything},
    optional={
        "headers": st.dictionaries(names, st.text(max_size=5) | anything, max_size=3) | anything,
        "multiValueHeaders": st.dictionaries(names, st.lists(st.text(max_size=5), max_size=3) | anything, max_size=3),
        "cookies": st.lists(st.text(max_size=5), max_size=3) | anything,
        "body": st.text() | anything,
        "isBase64Encoded": st.booleans() | anything,
    },
)


@every_form
@given(value=results)
def test_whatever_a_function_returns_is_refused_or_can_be_sent(form: ResultForm, value: Any) -> None:
    try:
        found = result(value, form)
    except MalformedError:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert isinstance(server.next_event(), h11.Request)
    head = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in found.headers]
    head.append((b"content-length", b"0"))
    assert server.send(h11.Response(status_code=found.status, headers=head))

"""Every trigger: its event becomes the same ASGI request, and its reply has the form that its front end reads."""

import asyncio
import copy
import gc
import json
import re
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import httpx
import pytest
import uvicorn
from aws_lambda_powertools.utilities.data_classes.common import DictWrapper
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from hypothesis import given
from hypothesis import strategies as st
from mangum import Mangum
from mangum import handlers as mangum_handlers

import passing
from adapter import EventError, StreamingAdapter, UnknownEventError
from adapter.event_sources import describe, read_source
from adapter.events import Request as Read
from adapter.events import read_event
from adapter.local.fronts.payload import function_url_event as local_function_url_event
from adapter.local.fronts.payload import http_api_event as local_http_api_event
from adapter.local.fronts.payload_1_0 import http_api_1_0_event as local_http_api_1_0_event
from adapter.local.fronts.payload_1_0 import rest_api_event as local_rest_api_event
from adapter.local.fronts.payload_alb import alb_event as local_alb_event
from adapter.local.fronts.payload_alb import alb_multi_value_event as local_alb_multi_value_event
from adapter.local.fronts.request import Request as LocalRequest
from adapter.response import Head

from .events import (
    EVENTS,
    EXECUTE_API,
    Sent,
    alb_event,
    alb_multi_value_event,
    function_url_event,
    http_api_1_0_event,
    http_api_event,
    joined,
    lattice_v1_event,
    lattice_v2_event,
    lists,
    origin_request_event,
    rest_api_event,
    viewer_request_event,
)
from .runtime_api import function

CONFIG: Any = {"api_gateway_base_path": "/", "text_mime_types": ["text/", "application/json"], "exclude_headers": []}
CONTEXT: Any = {}  # what Mangum's users pass in their tests
TRIGGERS = {
    "function URL": "function-url",
    "HTTP API 2.0": "http-api",
    "HTTP API 1.0": "http-api",
    "REST API": "rest-api",
    "ALB": "alb",
    "ALB multi-value": "alb",
    "viewer request": "lambda-edge",
    "origin request": "lambda-edge",
    "Lattice V2": "vpc-lattice",
    "Lattice V1": "vpc-lattice",
}


def read(event: Any, *, base_path: str = "/") -> Read:
    config: Any = {**CONFIG, "api_gateway_base_path": base_path}
    return read_event(event, "the context", config)


def values(scope: Any, name: str) -> list[str]:
    return [value.decode() for key, value in scope["headers"] if key == name.encode()]


@pytest.fixture(autouse=True)
def current_loop() -> Iterator[None]:
    """Mangum wants one to be set."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


# -- requests

SENT = Sent(
    path="/a%20b/%C3%BC",
    method="POST",
    query="q=1&r=%26%20&q=2",
    headers=(("content-type", "application/json"), ("x-name", "v"), ("x-many", "1"), ("x-many", "2")),
    cookies=("a=1", "b=2"),
    body='{"ü": 1}'.encode(),
)

# What a trigger cannot carry: (trigger, part) -> what comes of it. All else is the same for every trigger.
LOST: dict[tuple[str, str], Any] = {
    # https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads: repeats are joined by a comma.
    ("function URL", "x-many"): ["1,2"],
    ("HTTP API 2.0", "x-many"): ["1,2"],
    # Parameters are in an object, by their names: what stood between two of a name is not known any more.
    ("HTTP API 1.0", "query"): [("q", "1"), ("q", "2"), ("r", "& ")],
    ("REST API", "query"): [("q", "1"), ("q", "2"), ("r", "& ")],
    ("ALB multi-value", "query"): [("q", "1"), ("q", "2"), ("r", "& ")],
    ("Lattice V2", "query"): [("q", "1"), ("q", "2"), ("r", "& ")],
    # Without lambda.multi_value_headers.enabled: "the load balancer uses the last value sent by the client".
    ("ALB", "x-many"): ["2"],
    ("ALB", "query"): [("q", "2"), ("r", "& ")],
    # "With a V1 event structure, VPC Lattice combines the values", and "uses the last value passed" of a parameter.
    ("Lattice V1", "x-many"): ["1, 2"],
    ("Lattice V1", "query"): [("q", "2"), ("r", "& ")],
}


@pytest.mark.parametrize("name", EVENTS)
def test_the_app_sees_the_same_request_whatever_the_trigger(name: str) -> None:
    event = EVENTS[name](SENT)
    request = read(event)
    scope = request.scope
    stage = scope["root_path"]
    seen = {
        "type": scope["type"],
        "asgi": scope["asgi"],
        "http_version": scope["http_version"],
        "method": scope["method"],
        "path": scope["path"].removeprefix(stage),
        "raw_path": scope["raw_path"].removeprefix(stage.encode()),
        "query": parse_qsl(scope["query_string"].decode()),
        "client": scope["client"],
        "scheme": scope["scheme"],
        "server": scope["server"][1],
        "content-type": values(scope, "content-type"),
        "cookie": values(scope, "cookie"),
        "x-name": values(scope, "x-name"),
        "x-many": values(scope, "x-many"),
        "extensions": scope["extensions"],
        "aws.event": scope["aws.event"] is event,
        "aws.context": scope["aws.context"],
        "body": request.body,
    }
    same = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/a b/ü",
        "raw_path": b"/a%20b/%C3%BC",
        "query": [("q", "1"), ("r", "& "), ("q", "2")],
        "client": ("203.0.113.7", 0),
        "scheme": "https",
        "server": 443,
        "content-type": ["application/json"],
        "cookie": ["a=1; b=2"],
        "x-name": ["v"],
        "x-many": ["1", "2"],
        "extensions": {},
        "aws.event": True,
        "aws.context": "the context",
        "body": '{"ü": 1}'.encode(),
    }
    lost = {part: value for (trigger, part), value in LOST.items() if trigger == name}
    assert all(same[part] != value for part, value in lost.items())
    assert seen == {**same, **lost}
    assert scope["server"][0] == values(scope, "host")[0]
    assert stage == ("/prod" if name == "REST API" else "")
    assert request.trigger == TRIGGERS[name]
    assert set(scope) == {
        *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path"),
        *("headers", "client", "server", "extensions", "aws.event", "aws.context"),
    }


IMPORTED = {
    "function-url": set(),
    "http-api": {"adapter.trigger", "adapter.multi_value", "adapter.api_gateway"},
    "rest-api": {"adapter.trigger", "adapter.multi_value", "adapter.api_gateway"},
    "alb": {"adapter.trigger", "adapter.multi_value", "adapter.load_balancer"},
    "lambda-edge": {"adapter.trigger", "adapter.multi_value", "adapter.edge"},
    "vpc-lattice": {"adapter.trigger", "adapter.multi_value", "adapter.lattice"},
}
IMPORTS = """
import json, sys
from adapter.events import read_event
before = set(sys.modules)
event, config = json.load(sys.stdin)
read_event(event, None, config)
print(json.dumps([name for name in set(sys.modules) - before]))
"""


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_imports_what_its_trigger_needs_and_never_mangum(name: str) -> None:
    sent = json.dumps([EVENTS[name](SENT), CONFIG])
    run = subprocess.run([sys.executable, "-c", IMPORTS], input=sent, capture_output=True, text=True, check=True)
    imported = set(json.loads(run.stdout))
    assert {module for module in imported if module.startswith("adapter")} == IMPORTED[TRIGGERS[name]]
    assert "mangum" not in imported
    assert imported or TRIGGERS[name] == "function-url"


@pytest.mark.parametrize("name", EVENTS)
def test_binary_bodies(name: str) -> None:
    event = EVENTS[name](Sent(method="PUT", body=bytes(range(256))))
    assert read(event).body == bytes(range(256))


@pytest.mark.parametrize("name", EVENTS)
def test_a_body_that_is_not_the_base64_it_says_it_is(name: str) -> None:
    event = json.loads(json.dumps(EVENTS[name](Sent(method="PUT", body=b"\0\0\0\0\0"))).replace('"AAAAAAA="', '"AAA!"'))
    with pytest.raises(EventError, match="the event's body says it is base64, and is not"):
        read(event)


@pytest.mark.parametrize("name", EVENTS)
def test_the_least_a_trigger_sends(name: str) -> None:
    """No headers, no query, no body: null or absent."""
    event = EVENTS[name](Sent())
    request = event["Records"][0]["cf"]["request"] if "Records" in event else event
    for key in ("headers", "multiValueHeaders", "cookies", "queryStringParameters", "body", "identity"):
        if key in request:
            request[key] = None
    for key in ("rawPath", "path", "raw_path", "uri"):
        if key in request:
            request[key] = ""
    scope = read(event).scope
    assert (scope["headers"], scope["query_string"]) == ([], b"")
    assert scope["path"].removeprefix(scope["root_path"]) == "/"
    assert scope["server"] is None or scope["server"][1] == 443


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["203.0.113.7"], ("203.0.113.7", 0)),
        (["6.6.6.6, 203.0.113.7"], ("203.0.113.7", 0)),
        (["6.6.6.6", "203.0.113.7"], ("203.0.113.7", 0)),
        (["6.6.6.6, 203.0.113.7:50000"], ("203.0.113.7", 50000)),
        (["2001:db8::1"], ("2001:db8::1", 0)),
        (["[2001:db8::1]:50000"], ("2001:db8::1", 50000)),
        (["203.0.113.7:no"], ("203.0.113.7", 0)),
        ([""], None),
        ([], None),
    ],
)
@pytest.mark.parametrize("make", [alb_multi_value_event, lattice_v2_event])
def test_the_client_is_the_last_hop(make: Callable[[Sent], Any], forwarded: list[str], client: Any) -> None:
    """The one whom the load balancer itself has seen: what stands before it anybody can have written."""
    event = make(Sent())
    event["multiValueHeaders" if "httpMethod" in event else "headers"]["x-forwarded-for"] = forwarded
    assert read(event).scope["client"] == client


@pytest.mark.parametrize("name", ["HTTP API 2.0", "HTTP API 1.0", "REST API", "ALB", "Lattice V2", "Lattice V1"])
def test_the_scheme_and_the_port(name: str) -> None:
    headers = (("x-forwarded-proto", "http"), ("x-forwarded-port", "8080"))
    event = EVENTS[name](Sent(headers=headers))
    if "multiValueHeaders" not in event and name != "Lattice V2":
        event["headers"].update(headers)
    else:
        event.get("multiValueHeaders", event["headers"]).update({key: [value] for key, value in headers})
    scope = read(event).scope
    assert (scope["scheme"], scope["server"][1]) == ("http", 8080)


def test_behind_cloudfront_the_scheme_is_what_it_says_and_not_what_the_viewer_says() -> None:
    headers = (("x-forwarded-proto", "http"), ("x-forwarded-port", "81"))
    event = viewer_request_event(Sent())
    event["Records"][0]["cf"]["request"]["headers"] |= {key: [{"value": value}] for key, value in headers}
    assert read(event).scope["scheme"] == "https"
    event["Records"][0]["cf"]["request"]["headers"]["cloudfront-forwarded-proto"] = [{"value": "http"}]
    scope = read(event).scope
    assert (scope["scheme"], scope["server"]) == ("http", ("d111111abcdef8.cloudfront.net", 80))


def test_http_2() -> None:
    event = rest_api_event(Sent())
    event["requestContext"]["protocol"] = "HTTP/2.0"
    assert read(event).scope["http_version"] == "2"


def test_headers_that_only_one_of_the_two_fields_has() -> None:
    event = rest_api_event(Sent())
    event["multiValueHeaders"] = {"X-A": ["1", "2"], "X-Null": [None]}
    event["headers"] = {"x-a": "2", "x-b": "3"}
    assert read(event).scope["headers"] == [(b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"3")]


def test_cookies_that_came_in_several_headers_are_one() -> None:
    event = alb_multi_value_event(Sent())
    event["multiValueHeaders"]["Cookie"] = ["a=1", "b=2"]
    assert values(read(event).scope, "cookie") == ["a=1; b=2"]


# -- text beyond ASCII


@pytest.mark.parametrize(
    "text", ["São Paulo", "Torrejón de Ardoz", "Srīperumbūdūr", "東京", "\x80\xff", "\ufffd", "😀"]
)
@pytest.mark.parametrize("name", EVENTS)
def test_header_text_is_the_utf_8_that_a_client_sent(name: str, text: str) -> None:
    """A load balancer decodes it, and so, it is assumed, do the others: https://github.com/honojs/hono/issues/4432."""
    event = EVENTS[name](Sent(headers=(("cf-ipcity", text), ("x-name", "v")), cookies=(f"city={text}",)))
    headers = read(json.loads(json.dumps(event))).scope["headers"]
    assert (b"cf-ipcity", text.encode()) in headers
    assert (b"cookie", f"city={text}".encode()) in headers
    if not name.startswith("Lattice"):
        assert [b"cf-ipcity", text.encode()] in mangum_scope(event)["headers"]


@pytest.mark.parametrize("text", ["São", "東京"])
@pytest.mark.parametrize("name", EVENTS)
def test_a_path_and_a_query_that_are_not_encoded_are_utf_8(name: str, text: str) -> None:
    scope = read(EVENTS[name](Sent(path=f"/{text}", query=f"city={text}"))).scope
    assert scope["path"].removeprefix(scope["root_path"]) == f"/{text}"
    assert unquote(scope["raw_path"].decode()) == scope["path"]
    assert parse_qsl(scope["query_string"].decode()) == [("city", text)]


@pytest.mark.parametrize("name", EVENTS)
def test_half_a_surrogate_pair_is_a_request_too(name: str) -> None:
    event = EVENTS[name](Sent(path="/\ud800", headers=(("x-name", "a\udc80"),)))
    if name.startswith("HTTP API"):
        with pytest.raises(EventError, match="malformed"):
            read(event)  # its path is to be encoded, which this has no encoding for
    else:
        assert (b"x-name", b"a\xed\xb2\x80") in read(event).scope["headers"]


# -- the length of a body

LENGTHS: dict[str, tuple[tuple[str, str], ...]] = {
    "none": (),
    "the same": (("content-length", "7"),),
    "in capitals": (("Content-Length", "7"),),
    "another": (("content-length", "3"),),  # a body that the front end has changed
    "chunks": (("transfer-encoding", "chunked"),),
    "both": (("transfer-encoding", "chunked"), ("content-length", "7")),
    "two": (("content-length", "7"), ("content-length", "7")),
}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", EVENTS)
def test_the_content_length_is_the_bodys(name: str, length: str) -> None:
    sent = Sent(method="POST", headers=(("x-before", "1"), *LENGTHS[length], ("x-after", "2")), body=b"a=1&b=2")
    headers = read(EVENTS[name](sent)).scope["headers"]
    assert [value for key, value in headers if key == b"content-length"] == [b"7"]
    assert not values({"headers": headers}, "transfer-encoding")
    assert [key for key, _ in headers if key in (b"x-before", b"x-after")] == [b"x-before", b"x-after"]


@pytest.mark.parametrize("name", EVENTS)
def test_the_length_counts_bytes(name: str) -> None:
    event = EVENTS[name](Sent(method="POST", headers=(("content-type", "text/plain"),), body="é€".encode()))
    assert values(read(event).scope, "content-length") == ["5"]


@pytest.mark.parametrize("name", EVENTS)
def test_a_request_without_a_body_gets_no_length(name: str) -> None:
    assert not values(read(EVENTS[name](Sent())).scope, "content-length")
    assert values(read(EVENTS[name](Sent(headers=(("content-length", "0"),)))).scope, "content-length") == ["0"]


# -- mappings for events


def frozen(value: Any) -> Any:
    """No dict and no list in it."""
    if isinstance(value, dict):
        return MappingProxyType({key: frozen(each) for key, each in value.items()})
    return tuple(map(frozen, value)) if isinstance(value, list) else value


MAPPINGS: dict[str, Callable[[Any], Any]] = {
    "data class": DictWrapper,
    "UserDict": UserDict,
    "frozen": frozen,
    "OrderedDict": OrderedDict,
}


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("name", EVENTS)
def test_any_mapping_is_an_event(name: str, mapping: str) -> None:
    made = MAPPINGS[mapping](copy.deepcopy(SAMPLES[name]))
    request, plain = read(made), read(SAMPLES[name])
    assert {**request.scope, "aws.event": None} == {**plain.scope, "aws.event": None}
    assert request.scope["aws.event"] is made
    assert (request.body, request.trigger) == (plain.body, plain.trigger)
    assert request.reply(HEAD, b"x") == plain.reply(HEAD, b"x")


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_any_mapping_is_an_event_of_another_kind(mapping: str) -> None:
    queue: Any = {"Records": [{"eventSource": "aws:sqs", "body": "é"}]}
    made = MAPPINGS[mapping](queue)
    with pytest.raises(UnknownEventError, match=r"no trigger is known that sends 1 record\(s\) of 'aws:sqs'"):
        read(made)
    assert describe(made) == "1 record(s) of 'aws:sqs'"
    request = read_source(made, None, "/events")
    assert json.loads(request.body) == queue
    assert request.scope["aws.event"] is made
    handed: list[Any] = []
    StreamingAdapter(app, lifespan="off", event_handler=lambda event, context: handed.append(event))(made, {})
    assert handed[0] is made


def test_a_custom_handler_is_asked_about_the_mapping_itself() -> None:
    event = UserDict({"queue": "/echo"})
    request = read_event(event, None, CONFIG, [Queue])
    assert request.trigger == "Queue"
    assert request._handler.event is event  # type: ignore[attr-defined]


def test_a_body_in_bytes_is_taken_as_mangum_takes_it() -> None:
    """In events of unit tests."""
    for name in EVENTS:
        if "request" not in name:
            event = {**SAMPLES[name], "body": b"R0lGODdh", "isBase64Encoded": False, "is_base64_encoded": False}
            assert read(event).body == b"R0lGODdh"
            assert read({**event, "isBase64Encoded": True, "is_base64_encoded": True}).body == b"GIF87a"


# -- whatever stays in memory

LONG = 200_000


@pytest.mark.parametrize("host", ["{}", "a.example:{}", "[::1]:{}"])
@pytest.mark.parametrize("name", EVENTS)
def test_nothing_that_a_client_or_an_app_sends_stays_in_memory(name: str, host: str) -> None:
    handler = StreamingAdapter(passing.app, lifespan="off")

    def serve(first: int) -> int:
        """The bytes that are in use after four requests, nothing of which is in another one."""
        for number in range(first, first + 4):
            text = f"{number}" + "a" * LONG
            headers = ((text, "1"), ("x-own", text), ("x-forwarded-port", text), ("x-forwarded-proto", text))
            sent = Sent(f"/{text}", text, f"{text}={text}", headers, (text,), text.encode(), client=text, stage=text)
            reply = handler(EVENTS[name](replace(sent, host=host.format(text))), {})
            assert str(reply.get("statusCode") or reply["status"]) == "200"
        del reply, sent, headers, text
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = serve(0)
        assert serve(4) - before < LONG
    finally:
        tracemalloc.stop()


def resident(pid: int) -> int:
    """Bytes of its memory that are there (proc_pid_status(5))."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("make", [function_url_event, http_api_event, alb_multi_value_event])
async def test_a_functions_memory_stays_flat(make: Callable[[Sent], Any], client: str) -> None:
    """Names of headers of 300 kB, of the client's and of the app's, and as long a Host."""

    async def serve(first: int, count: int) -> int:
        for number in range(first, first + count):
            name = f"x-{number}-" + "a" * 300_000
            invoked = await running.api.run(make(Sent(headers=((name, "1"),), host=name)))
            reply = invoked.result or json.dumps(invoked.prelude).encode()
            assert name.encode() in reply
        return resident(running.process.pid)

    async with function("passing.handler", client=client) as running:
        before = await serve(0, 10)
        assert await serve(10, 40) - before < 12_000_000  # 0.9 MB a request would be 36 MB


# -- identity, both ways

RAW = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?#"), max_size=12)
PATHS = st.builds(
    lambda segments, raw: "/" + "/".join([quote(segment, safe="") for segment in segments]) + raw,
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3),
    st.just("") | RAW,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
QUERIES = st.lists(st.tuples(TEXT, TEXT), max_size=4).map(urlencode) | st.lists(st.tuples(RAW, RAW), max_size=3).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
TOKENS = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"], include_characters="-_"), min_size=1, max_size=8)
OWN = {"host", "cookie", "connection", "te", "trailer", "upgrade", "keep-alive"}
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8).map(str.strip)
HEADERS = st.lists(st.tuples(TOKENS.filter(lambda name: name not in OWN), VALUES), max_size=5)
COOKIES = st.lists(st.builds("{}={}".format, TOKENS, TOKENS), max_size=3)
SENTS = st.builds(
    Sent,
    path=PATHS,
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    query=QUERIES,
    headers=HEADERS.map(tuple),
    cookies=COOKIES.map(tuple),
    body=st.binary(max_size=20),
    client=st.sampled_from(["203.0.113.7", "2001:db8::1"]),
    host=st.sampled_from(["example.com", "example.com:8000"]),
)


def local(make: Callable[..., bytes]) -> Callable[[Sent], dict[str, Any]]:
    """The events of the local Lambda, which was written without this: what it knows of them, it has from AWS."""

    def event(sent: Sent) -> dict[str, Any]:
        request = LocalRequest(
            method=sent.method,
            path=sent.path,
            query=sent.query,
            protocol="HTTP/1.1",
            headers=[header for header in sent.pairs() if not header[0].startswith("x-forwarded-")],
            body=sent.body,
            scheme="https",
            port=443,
            source_ip=sent.client,
        )
        made: dict[str, Any] = json.loads(make(request, region="us-east-1", request_id="id", trace_id="Root=1"))
        return made

    return event


def fields(scope: Any) -> dict[str, list[str]]:
    """What the client sent, of the headers."""
    added = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-amzn-trace-id", "via", "content-length"}
    pairs = [(name.decode(), value.decode()) for name, value in scope["headers"]]
    return lists([pair for pair in pairs if pair[0] not in added])


def all_values(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return lists(pairs)


def comma(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {name: [value] for name, value in joined(pairs, ",").items()}


def comma_space(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {name: [value] for name, value in joined(pairs, ", ").items()}


def last(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {name: [value] for name, value in pairs}


def once(sent: str) -> str:
    return unquote(sent)


def by_http_api(sent: str) -> str:
    """Seen on AWS, https://github.com/middleapi/standard-server/pull/93: an encoded question mark ends the path."""
    return unquote(sent).partition("?")[0] or "/"


def by_rest_api(sent: str) -> str:
    """Recorded on AWS by LocalStack (test_lambda_aws_proxy_integration): of the first slashes one is left."""
    return unquote("/" + sent.lstrip("/"))


# event, what is left of headers, of the query's values (None: the query is as it was sent), and of the path
Left = Callable[[list[tuple[str, str]]], dict[str, list[str]]]
CARRIED: dict[str, tuple[Callable[[Sent], dict[str, Any]], Left, Left | None, Callable[[str], str]]] = {
    "function URL": (local(local_function_url_event), comma, None, once),
    "HTTP API 2.0": (local(local_http_api_event), comma, None, by_http_api),
    "HTTP API 1.0": (local(local_http_api_1_0_event), all_values, all_values, by_http_api),
    "REST API": (local(local_rest_api_event), all_values, all_values, by_rest_api),
    "ALB": (local(local_alb_event), last, last, once),
    "ALB multi-value": (local(local_alb_multi_value_event), all_values, all_values, once),
    "viewer request": (viewer_request_event, all_values, None, once),
    "origin request": (origin_request_event, all_values, None, once),
    "Lattice V2": (lattice_v2_event, all_values, all_values, once),
    "Lattice V1": (lattice_v1_event, comma_space, last, once),
}


@pytest.mark.parametrize("name", CARRIED)
@given(sent=SENTS)
def test_what_is_sent_is_what_the_app_gets(name: str, sent: Sent) -> None:
    event, headers, query, path = CARRIED[name]
    request = read(json.loads(json.dumps(event(sent))))
    scope = request.scope
    assert scope["method"] == sent.method
    assert scope["path"] == path(sent.path)
    assert unquote(scope["raw_path"].decode()) == scope["path"]
    if path is once:
        assert scope["raw_path"] == sent.path.encode()
    elif path is by_rest_api:
        assert scope["raw_path"] == b"/" + sent.path.lstrip("/").encode()
    if query is None:
        assert scope["query_string"] == sent.query.encode()
    elif name in ("HTTP API 1.0", "REST API"):
        pairs = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
        assert query(pairs) == query(parse_qsl(sent.query, keep_blank_values=True))
    else:
        split = [part.partition("=") for part in scope["query_string"].decode().split("&") if part]
        expected = [part.partition("=") for part in sent.query.split("&") if part]
        assert query([(a, b) for a, _, b in split]) == query([(a, b) for a, _, b in expected])
    own = [(key, value) for key, value in sent.pairs() if not key.startswith("x-forwarded-") and key != "via"]
    cookie = ["; ".join(sent.cookies)] if sent.cookies else None
    expected_fields = headers([pair for pair in own if pair[0] != "cookie"])
    assert fields(scope) == {**expected_fields, **({"cookie": cookie} if cookie else {})}
    assert scope["client"] == (sent.client, 0)
    assert scope["server"] == ("example.com", 8000 if sent.host.endswith("8000") else 443)
    assert scope["root_path"] == ""
    assert request.body == sent.body


# -- whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
SAMPLES = {name: make(SENT) for name, make in EVENTS.items()}
KEYS = sorted({key for event in SAMPLES.values() for key in event})


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something to change."""
    keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in keys:
        yield (*at, key)
        yield from places(child, (*at, key))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    event = copy.deepcopy(SAMPLES[draw(st.sampled_from(sorted(SAMPLES)))])
    for place in draw(st.lists(st.sampled_from(sorted(places(event), key=repr)), min_size=1, max_size=3)):
        parent: Any = event
        try:
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = draw(JSON | st.sampled_from(["$default", "/", "base64", "\ud800", "http", "é€"]))
        except (IndexError, KeyError, TypeError):
            continue  # a change before it has taken the place away
    return event


@given(JSON | st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5) | mutated())
def test_any_json_is_a_request_or_a_clear_error(event: Any) -> None:
    try:
        request = read(event)
    except EventError as exception:
        assert str(exception).isascii()
        assert "event" in str(exception)
        assert len(str(exception)) < 400
    else:
        scope = request.scope
        assert isinstance(request.body, bytes)
        assert all(isinstance(part, bytes) for header in scope["headers"] for part in header)
        assert all(isinstance(scope[key], bytes) for key in ("raw_path", "query_string"))
        assert all(isinstance(scope[key], str) for key in ("method", "path", "root_path", "scheme", "http_version"))
        json.dumps(request.reply(Head(200, (("content-type", "text/plain"),)), b"x"))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ([], r"no trigger is known that sends a direct invocation with \[\]"),
        ({"Records": [{"eventSource": "aws:sqs"}]}, r"no trigger is known that sends 1 record\(s\) of 'aws:sqs'"),
        ({"Records": []}, "no trigger is known"),
        ({"Records": ["cf"]}, "no trigger is known"),
        ({"Records": "cf"}, "no trigger is known"),
        ({"a": 1, 2: "b"}, r"with the keys \['a', 2\]"),
        ({"Records": [7]}, "no trigger is known"),
        ({"requestContext": {"eventType": "CONNECT"}}, "no trigger is known"),
        ({"source": "aws.events"}, "function URLs, API Gateway, ALB, Lambda@Edge and VPC Lattice are known"),
        ({**http_api_event(Sent()), "rawPath": 7}, "the event's rawPath is 7, where a string is needed"),
        ({**rest_api_event(Sent()), "httpMethod": None}, "the event has no httpMethod"),
        (
            {**alb_event(Sent()), "headers": {"a": {}}},
            "the event's headers have the value {}, where a string is needed",
        ),
        ({**lattice_v1_event(Sent()), "method": []}, r"the event's method is \[\], where a string is needed"),
        ({"Records": [{"cf": {"request": {"method": "GET", "headers": {"a": [{}]}}}}]}, "has no Records.*'a'.value"),
        ({"Records": [{"cf": {"request": {"headers": {"a": 7}}}}]}, "malformed, LambdaEdge cannot read it: TypeError"),
    ],
)
def test_the_error_says_what_came(event: Any, message: str) -> None:
    with pytest.raises(EventError, match=message):
        read(event)


SECRETS: list[Any] = [
    {**function_url_event(Sent()), "cookies": "sid=s3cret"},
    {**function_url_event(Sent()), "headers": [["Cookie", "sid=s3cret"]]},
    {**function_url_event(Sent()), "headers": "Authorization: Basic s3cret"},
    {**rest_api_event(Sent()), "multiValueHeaders": {"Cookie": {"sid": "s3cret"}}},
    {**rest_api_event(Sent()), "multiValueHeaders": {"X-Api-Key": [["s3cret"]]}},
    {**alb_event(Sent()), "headers": {"authorization": ["Basic s3cret", ["s3cret"]]}},
    {"Records": [{"cf": {"request": {"method": "GET", "headers": {"cookie": [{"value": ["s3cret"]}]}}}}]},
    ["Cookie: sid=s3cret"],
    "GET / HTTP/1.1\r\nAuthorization: Basic s3cret",
]


@pytest.mark.parametrize("event", SECRETS)
def test_the_error_quotes_no_cookie(event: Any) -> None:
    with pytest.raises(EventError) as caught:
        read(event)
    assert "s3cret" not in str(caught.value)


# -- stages and base paths

CUSTOM = "api.example.com"
URL_HOST = "abc.lambda-url.us-east-1.on.aws"
SHAPES: dict[str, tuple[Callable[[Sent], Any], dict[str, str], str, str]] = {
    # event, its circumstances, api_gateway_base_path, the URL at which the client finds the app
    "function URL": (function_url_event, {}, "", f"https://{URL_HOST}"),
    "HTTP API 2.0, $default": (http_api_event, {}, "", f"https://{EXECUTE_API}"),
    "HTTP API 2.0, stage": (http_api_event, {"stage": "dev"}, "", f"https://{EXECUTE_API}/dev"),
    "HTTP API 2.0, stage as base path": (http_api_event, {"stage": "dev"}, "/dev", f"https://{EXECUTE_API}/dev"),
    "HTTP API 2.0, domain": (http_api_event, {"host": CUSTOM}, "", f"https://{CUSTOM}"),
    "HTTP API 2.0, domain of a stage": (http_api_event, {"host": CUSTOM, "stage": "dev"}, "", f"https://{CUSTOM}"),
    "HTTP API 2.0, mapping": (http_api_event, {"host": CUSTOM, "mapping": "/v1"}, "/v1", f"https://{CUSTOM}/v1"),
    "HTTP API 2.0, mapping of a stage": (
        *(http_api_event, {"host": CUSTOM, "stage": "dev", "mapping": "/v1/x"}),
        *("v1/x", f"https://{CUSTOM}/v1/x"),
    ),
    "HTTP API 1.0, $default": (http_api_1_0_event, {}, "", f"https://{EXECUTE_API}"),
    "HTTP API 1.0, stage": (http_api_1_0_event, {"stage": "dev"}, "", f"https://{EXECUTE_API}/dev"),
    "HTTP API 1.0, mapping": (
        *(http_api_1_0_event, {"host": CUSTOM, "stage": "dev", "mapping": "/v1"}),
        *("/v1", f"https://{CUSTOM}/v1"),
    ),
    "REST API, stage": (rest_api_event, {"stage": "prod"}, "", f"https://{EXECUTE_API}/prod"),
    "REST API, stage as base path": (rest_api_event, {"stage": "prod"}, "prod", f"https://{EXECUTE_API}/prod"),
    "REST API, domain": (rest_api_event, {"host": CUSTOM}, "", f"https://{CUSTOM}"),
    "REST API, mapping": (rest_api_event, {"host": CUSTOM, "mapping": "/v1"}, "/v1", f"https://{CUSTOM}/v1"),
    "REST API, mapping of no stage": (
        *(rest_api_event, {"host": CUSTOM, "mapping": "/v1/prod"}),
        *("/v1/prod", f"https://{CUSTOM}/v1/prod"),
    ),
}

site = FastAPI()


@site.get("/")
async def root() -> str:
    return "root"


@site.get("/items/")
async def items(request: Request) -> dict[str, str]:
    return {"items": str(request.url_for("items")), "url": str(request.url), "base": str(request.base_url)}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_apps_own_urls_lead_back_to_it(shape: str) -> None:
    make, circumstances, base_path, public = SHAPES[shape]
    handler = StreamingAdapter(site, api_gateway_base_path=base_path)
    mounted = urlsplit(public).path

    def get(path: str) -> Any:
        return handler(make(replace(Sent(path=path), **circumstances)), {})  # type: ignore[arg-type]

    assert get("/")["body"] == '"root"'
    assert f"url: '{mounted}/openapi.json'" in get("/docs")["body"]
    assert json.loads(get("/openapi.json")["body"]).get("servers", [{"url": ""}]) == [{"url": mounted}]
    redirect = get("/items")
    assert redirect["statusCode"] == 307
    location = redirect["headers"]["location"]
    assert location == f"{public}/items/"
    back = get(location.removeprefix(public))
    assert json.loads(back["body"]) == {"items": f"{public}/items/", "url": f"{public}/items/", "base": f"{public}/"}
    assert get("/nowhere")["statusCode"] == 404


def test_the_same_as_uvicorn_behind_a_proxy_that_takes_the_stage_off() -> None:
    """uvicorn --root-path /prod makes path, raw_path and root_path as we do."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append({key: scope[key] for key in ("path", "raw_path", "root_path")})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    StreamingAdapter(app, lifespan="off")(rest_api_event(Sent(path="/a%20b")), {})
    server = uvicorn.Server(uvicorn.Config(app, root_path="/prod", lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            httpx.get(f"http://127.0.0.1:{listener.getsockname()[1]}/a%20b", trust_env=False)
        finally:
            server.should_exit = True
            thread.join()
    assert seen == [{"path": "/prod/a b", "raw_path": b"/prod/a%20b", "root_path": "/prod"}] * 2


@pytest.mark.parametrize(
    ("path", "asked", "expected"),
    [
        ("/x", "/prod/x", ("/prod/x", b"/prod/x", "/prod")),
        ("/x/", "/prod/x/", ("/prod/x/", b"/prod/x/", "/prod")),
        ("/x", "/prod/x/", ("/prod/x", b"/prod/x", "/prod")),
        ("/", "/prod/", ("/prod/", b"/prod/", "/prod")),
        ("/", "/prod", ("/prod/", b"/prod/", "/prod")),
        # Recorded on AWS: test_lambda_aws_proxy_integration of localstack/localstack.
        ("/x", "/prod//x", ("/prod/x", b"/prod/x", "/prod")),
        ("/x/", "/prod//x/", ("/prod/x/", b"/prod/x/", "/prod")),
        ("/x", "//x", ("/x", b"/x", "")),
        ("/x", "/x", ("/x", b"/x", "")),
        ("/x", None, ("/x", b"/x", "")),
        ("/x", "/something/else", ("/x", b"/x", "")),
        ("/%70rod", "/prod/%70rod", ("/prod/prod", b"/prod/%70rod", "/prod")),
        ("/x", "/pro%64/x", ("/prod/x", b"/pro%64/x", "/prod")),
    ],
)
def test_the_stage_of_a_rest_api_is_what_the_request_context_has_more(path: str, asked: Any, expected: Any) -> None:
    event = rest_api_event(Sent(path=path))
    event["requestContext"]["path"] = asked
    scope = read(event).scope
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == expected


@pytest.mark.parametrize(
    ("make", "circumstances", "base_path", "path", "root_path"),
    [
        (http_api_event, {"stage": "dev"}, "/dev/api", "/dev/api/x", "/dev/api"),
        (http_api_event, {"stage": "dev"}, "/api", "/dev/api/x", "/dev/api"),
        (http_api_event, {"stage": "dev"}, "/api", "/dev/apis/x", "/dev"),
        (http_api_1_0_event, {"stage": "dev"}, "/api", "/dev/api/x", "/dev/api"),
        (rest_api_event, {}, "/api", "/prod/api/x", "/prod/api"),
        (rest_api_event, {}, "/api", "/prod/apis/x", "/prod"),
        (function_url_event, {}, "/a%20b", "/a b/x", "/a b"),
    ],
)
def test_a_base_path_behind_a_stage(make: Any, circumstances: Any, base_path: str, path: str, root_path: str) -> None:
    stage = "/prod" if make is rest_api_event else f"/{circumstances['stage']}" if circumstances else ""
    event = make(Sent(path=quote(path.removeprefix(stage)), **circumstances))
    scope = read(event, base_path=base_path).scope
    assert (scope["path"], scope["root_path"]) == (path, root_path)


def test_a_path_beside_the_mapping_of_a_custom_domain() -> None:
    """In format 2.0 the mapping is never in the path: what begins like it is taken for it."""
    event = http_api_event(Sent(path="/v1/x", host=CUSTOM, stage="dev"))
    assert (read(event).scope["path"], read(event).scope["root_path"]) == ("/v1/x", "")
    assert (read(event, base_path="/v1").scope["path"], read(event, base_path="/v1").scope["root_path"]) == (
        "/v1/x",
        "/v1",
    )
    event["rawPath"] = "/dev"
    assert read(event).scope["path"] == "/"
    event["rawPath"] = "/without-the-stage"
    assert read(event).scope["path"] == "/without-the-stage"


# -- replies

app = FastAPI()


@app.api_route("/echo", methods=["GET", "POST", "PUT"])
async def echo(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.url.path,
        "query": request.query_params.multi_items(),
        "body": (await request.body()).decode("latin-1"),
        "cookies": request.cookies,
    }


@app.get("/binary")
async def binary() -> Response:
    return Response(bytes(range(256)), media_type="application/octet-stream")


@app.get("/cookies")
async def set_cookies(response: Response) -> str:
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return "cookies"


@app.get("/no-content")
async def no_content() -> Response:
    return Response(status_code=204)


@app.head("/head")
async def head() -> str:
    return "what GET would have"


@app.get("/error")
async def error() -> None:
    raise ValueError("of the app")


@app.get("/redirect")
async def redirect(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("echo"))


CASES = {
    "get": Sent("/echo", query="a=1&a=2&b=%20"),
    "post": Sent("/echo", "POST", headers=(("content-type", "application/json"),), body='{"a": "é"}'.encode()),
    "binary upload": Sent("/echo", "PUT", body=bytes(range(256))),
    "binary download": Sent("/binary"),
    "two cookies": Sent("/cookies", cookies=("a=1", "b=2")),
    "204": Sent("/no-content"),
    "HEAD": Sent("/head", "HEAD"),
    "error": Sent("/error"),
    "redirect": Sent("/redirect"),
    "not found": Sent("/nowhere"),
}

INVENTED = "Mangum makes a content type of application/json for a reply that has none"
BODY = "Mangum's reply to HEAD has a body"
STAGE = "Mangum knows no root_path: the app's URLs lack the stage"
EDGE = "CloudFront reads a status that is a string, and bodyEncoding; Mangum's are a number, and isBase64Encoded"
DIFFERENT: dict[tuple[str, str], str] = {
    ("function URL", "204"): INVENTED,
    ("function URL", "redirect"): INVENTED,
    ("HTTP API 2.0", "204"): INVENTED,
    ("HTTP API 2.0", "redirect"): INVENTED,
    ("REST API", "redirect"): STAGE,
    ("REST API", "get"): STAGE,
    ("REST API", "post"): STAGE,
    ("REST API", "binary upload"): STAGE,
    **{(name, "HEAD"): BODY for name in EVENTS if not name.startswith("Lattice")},
    **{(name, case): EDGE for name in ("viewer request", "origin request") for case in CASES},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [name for name in EVENTS if not name.startswith("Lattice")])
def test_the_reply_is_mangums(name: str, case: str) -> None:
    event = EVENTS[name](CASES[case])
    ours = StreamingAdapter(app)(event, {})
    mangums = Mangum(app)(event, CONTEXT)
    json.dumps(ours)
    if (name, case) in DIFFERENT:
        assert ours != mangums, f"no longer: {DIFFERENT[name, case]}"
    else:
        assert ours == mangums


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["Lattice V2", "Lattice V1"])
def test_lattice_takes_what_a_load_balancer_does(name: str, case: str) -> None:
    """But for the query's repeats, which V1 loses, and an ALB too."""
    balancer = alb_event if name == "Lattice V1" else alb_multi_value_event
    ours = StreamingAdapter(app)(EVENTS[name](replace(CASES[case], host="a.example")), {})
    theirs = StreamingAdapter(app)(balancer(replace(CASES[case], host="a.example")), {})
    theirs.pop("multiValueHeaders", None)
    headers = ours["headers"]
    assert ours == {**theirs, "headers": headers}
    if case == "two cookies":
        assert (headers["set-cookie"], headers["Set-cookie"]) == (
            "a=1; Path=/; SameSite=lax",
            "b=2; Path=/; SameSite=lax",
        )


HEAD = Head(
    200, (("content-type", "text/html"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-a", "1"), ("x-a", "2"))
)
HEADERS_OUT = {"content-type": "text/html", "x-a": "1,2"}
JOINED = {"content-type": "text/html", "set-cookie": "a=1", "Set-cookie": "b=2", "x-a": "1, 2"}
LISTS = {"content-type": ["text/html"], "set-cookie": ["a=1", "b=2"], "x-a": ["1", "2"]}
TEXT_BODY = {"statusCode": 200, "body": "é", "isBase64Encoded": False}
EDGE_REPLY = {
    "status": "200",
    "statusDescription": "OK",
    "headers": {name: [{"key": name, "value": value} for value in each] for name, each in LISTS.items()},
    "body": "é",
    "bodyEncoding": "text",
}
REPLIES: dict[str, dict[str, Any]] = {
    "function URL": {**TEXT_BODY, "headers": HEADERS_OUT, "cookies": ["a=1", "b=2"]},
    "HTTP API 2.0": {**TEXT_BODY, "headers": HEADERS_OUT, "cookies": ["a=1", "b=2"]},
    **dict.fromkeys(
        ("HTTP API 1.0", "REST API"),
        {
            **TEXT_BODY,
            "headers": {"content-type": "text/html"},
            "multiValueHeaders": {"set-cookie": ["a=1", "b=2"], "x-a": ["1", "2"]},
        },
    ),
    "ALB": {**TEXT_BODY, "headers": JOINED},
    "ALB multi-value": {**TEXT_BODY, "multiValueHeaders": LISTS},
    "viewer request": EDGE_REPLY,
    "origin request": EDGE_REPLY,
    "Lattice V2": {**TEXT_BODY, "headers": JOINED},
    "Lattice V1": {**TEXT_BODY, "headers": JOINED},
}


@pytest.mark.parametrize("name", EVENTS)
def test_the_form_of_the_reply(name: str) -> None:
    request = read(SAMPLES[name])
    assert request.reply(HEAD, "é".encode()) == REPLIES[name]


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize(
    ("content_type", "body", "text", "is_base64"),
    [
        ("application/json", b"{}", "{}", False),
        ("image/png", b"\x89PNG", "iVBORw==", True),
        ("text/plain", b"\xff", "/w==", True),
        ("image/png", b"", "", False),
    ],
)
def test_the_body_of_the_reply(name: str, content_type: str, body: bytes, text: str, is_base64: bool) -> None:
    reply = read(SAMPLES[name]).reply(Head(200, (("content-type", content_type),)), body)
    assert reply["body"] == text
    assert reply.get("isBase64Encoded", reply.get("bodyEncoding") == "base64") == is_base64


def test_what_cloudfront_refuses_is_not_in_the_reply() -> None:
    names = (
        "content-length",
        "connection",
        "via",
        "x-forwarded-proto",
        "x-amz-cf-id",
        "x-edge-location",
        "x-amzn-requestid",
        "x-mine",
    )
    reply = read(viewer_request_event(Sent())).reply(Head(599, tuple((name, "1") for name in names)), b"")
    assert (reply["status"], reply["statusDescription"]) == ("599", "")
    assert list(reply["headers"]) == ["x-mine"]


def test_many_cookies_through_a_load_balancer_without_lists() -> None:
    """Each in a spelling of its own, as Mangum has them."""
    cookies = [[b"set-cookie", b"c%d=1" % number] for number in range(512)]
    headers = {"status": 200, "headers": cookies, "body": b""}
    event = alb_event(Sent())
    mangums = mangum_handlers.ALB(event, CONTEXT, CONFIG)(headers)["headers"]  # type: ignore[arg-type]
    ours = read(event).reply(Head.parse(200, cookies), b"")["headers"]
    assert ours == mangums
    assert len(ours) == 512


TEXT_TYPES = [
    "application/problem+json",
    "application/vnd.oai.openapi+json; version=3.1",
    "application/geo+json-seq",
    "application/json-seq",
    "APPLICATION/LD+JSON ; charset=UTF-8",
    "image/svg+xml",
    "application/atom+xml;type=entry",
    "application/vnd.oai.openapi+yaml",
    "application/yaml",
    "application/x-yaml",
    "application/ndjson",
    "application/x-ndjson; charset=utf-8",
    "application/jsonl",
    "application/x-jsonlines",
    "Text/HTML",
]
BINARY_TYPES = [
    "application/cbor",
    "application/senml+cbor",
    "application/vnd.api+zip",
    "application/octet-stream",
    "application/x-own; charset=utf-8",
    "image/png; name=a+json",
    "json",
    "",
]


@pytest.mark.parametrize("content_type", [*TEXT_TYPES, *BINARY_TYPES])
@pytest.mark.parametrize("name", EVENTS)
def test_a_type_says_by_its_suffix_that_it_is_text(name: str, content_type: str) -> None:
    head = Head.parse(200, [(b"content-type", content_type.encode())])
    reply = read(SAMPLES[name]).reply(head, "{é}".encode())
    is_base64 = reply.get("isBase64Encoded", reply.get("bodyEncoding") == "base64")
    # "json" alone is no type, and says so all the same.
    assert is_base64 == (content_type in BINARY_TYPES and content_type != "json")
    assert reply["body"] == ("e8OpfQ==" if is_base64 else "{é}")
    reply = read(SAMPLES[name]).reply(head, b"\x1f\x8b")  # packed, say
    assert reply.get("isBase64Encoded", reply.get("bodyEncoding") == "base64")


HOP_BY_HOP = [
    (b"connection", b"keep-alive"),
    (b"Keep-Alive", b"timeout=5"),
    (b"proxy-connection", b"close"),
    (b"TE", b"trailers"),
    (b"trailer", b"x-checksum"),
    (b"Transfer-Encoding", b"chunked"),
    (b"upgrade", b"h2c"),
]


@pytest.mark.parametrize("name", EVENTS)
def test_headers_that_belong_to_one_connection_are_not_in_a_reply(name: str) -> None:
    async def proxied(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain"), *HOP_BY_HOP, (b"x-name", b"v"), (b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})

    reply = StreamingAdapter(proxied, lifespan="off")(EVENTS[name](Sent()), {})
    passed = {**reply.get("headers", {}), **reply.get("multiValueHeaders", {})}
    # CloudFront refuses a length: see below.
    assert set(passed) == {"content-type", "x-name", *(["content-length"] if "request" not in name else [])}


@pytest.mark.parametrize("name", EVENTS)
def test_headers_are_excluded(name: str) -> None:
    reply = StreamingAdapter(app, exclude_headers=["Content-Type"])(EVENTS[name](CASES["get"]), {})
    assert "content-type" not in {**reply.get("headers", {}), **reply.get("multiValueHeaders", {})}


# -- custom handlers


class Queue:
    """A trigger of somebody's own, with mangum's interface and none of its code."""

    def __init__(self, event: Any, context: Any, config: Any) -> None:
        self.event = event
        self.context = context
        self.config = config

    @classmethod
    def infer(cls, event: Any, context: Any, config: Any) -> bool:
        return "queue" in event

    @property
    def scope(self) -> Any:
        return {
            "type": "http",
            "method": "PUT",
            "path": self.event["queue"],
            "query_string": b"",
            "headers": [],
            "asgi": {"version": "3.0", "spec_version": "2.0"},
        }

    @property
    def body(self) -> bytes:
        return b"of the queue"

    def __call__(self, response: Any) -> dict[str, Any]:
        return {"is": response["status"], "headers": response["headers"], "text": response["body"].decode()}


class Everything(mangum_handlers.HTTPGateway):
    """Takes what a known trigger would."""

    @property
    def scope(self) -> Any:
        return {**super().scope, "path": "/custom"}


def test_a_custom_handler_is_asked_first_and_makes_the_reply() -> None:
    handler = StreamingAdapter(app, custom_handlers=[Queue, Everything])
    event = {"queue": "/echo"}
    reply = handler(event, {})
    mangums = Mangum(app, custom_handlers=[Queue])(event, CONTEXT)
    assert reply == {**mangums, "headers": [list(header) for header in mangums["headers"]]}
    assert json.loads(reply["text"])["body"] == "of the queue"
    request = read_event(event, None, CONFIG, [Queue, Everything])
    assert request.trigger == "Queue"
    assert (request.scope["asgi"]["spec_version"], request.scope["extensions"]) == ("2.3", {})
    request = read_event(function_url_event(Sent()), None, CONFIG, [Queue, Everything])
    assert (request.trigger, request.scope["path"]) == ("Everything", "/custom")
    assert read_event(alb_event(Sent()), None, CONFIG, [Queue, Everything]).trigger == "alb"


def test_a_custom_handler_that_cannot_read_the_event() -> None:
    with pytest.raises(EventError, match="the event is malformed, Broken cannot read it: KeyError: \"'absent'\""):
        read_event({"queue": 1}, None, CONFIG, [Broken])


class Broken(Queue):
    @property
    def scope(self) -> Any:
        return self.event["absent"]


# -- Mangum's faults


def mangum_scope(event: Any, *, base_path: str = "/") -> Any:
    config: Any = {**CONFIG, "api_gateway_base_path": base_path}
    for handler in (
        mangum_handlers.ALB,
        mangum_handlers.HTTPGateway,
        mangum_handlers.APIGateway,
        mangum_handlers.LambdaAtEdge,
    ):
        if handler.infer(event, CONTEXT, config):
            return handler(event, CONTEXT, config).scope
    raise LookupError(event)


MANGUMS = [name for name in EVENTS if not name.startswith("Lattice")]


@pytest.mark.parametrize("make", [http_api_event, http_api_1_0_event])
def test_mangum_decodes_an_http_api_path_twice(make: Any) -> None:
    event = make(Sent(path="/100%2525"))
    assert mangum_scope(event)["path"] == "/100%"
    assert read(event).scope["path"] == "/100%25"
    assert read(event).scope["raw_path"] == b"/100%2525"


def test_mangum_does_not_decode_the_path_at_the_edge() -> None:
    event = viewer_request_event(Sent(path="/a%20b"))
    assert mangum_scope(event)["path"] == "/a%20b"
    assert read(event).scope["path"] == "/a b"


@pytest.mark.parametrize("name", MANGUMS)
def test_mangum_has_no_raw_path_and_says_asgi_2_0(name: str) -> None:
    scope = mangum_scope(SAMPLES[name])
    assert (scope["raw_path"], scope["asgi"]["spec_version"]) == (None, "2.0")


def test_mangum_joins_cookies_by_a_comma() -> None:
    event = rest_api_event(Sent())
    event["multiValueHeaders"]["cookie"] = ["a=1", "b=2"]
    assert [b"cookie", b"a=1, b=2"] in mangum_scope(event)["headers"]
    assert values(read(event).scope, "cookie") == ["a=1; b=2"]


def test_mangum_joins_what_a_rest_api_keeps_apart() -> None:
    event = rest_api_event(SENT)
    assert [b"x-many", b"1, 2"] in mangum_scope(event)["headers"]
    assert values(read(event).scope, "x-many") == ["1", "2"]


def test_mangum_takes_the_whole_of_x_forwarded_for_for_the_client() -> None:
    event = alb_event(Sent(client="6.6.6.6, 203.0.113.7"))
    assert mangum_scope(event)["client"] == ("6.6.6.6, 203.0.113.7", 0)
    assert read(event).scope["client"] == ("203.0.113.7", 0)


def test_mangum_spoils_what_is_not_utf_8_in_a_load_balancers_query() -> None:
    event = alb_event(Sent(query="q=%FF"))
    assert mangum_scope(event)["query_string"] == b"q=%EF%BF%BD"
    assert read(event).scope["query_string"] == b"q=%FF"


def test_mangum_takes_a_base_path_out_of_a_word_and_knows_no_root_path() -> None:
    event = http_api_event(Sent(path="/apis"))
    assert mangum_scope(event, base_path="/api")["path"] == "s"
    assert read(event, base_path="/api").scope["path"] == "/apis"
    event = http_api_event(Sent(path="/api/x"))
    mangums, ours = mangum_scope(event, base_path="/api"), read(event, base_path="/api").scope
    assert (mangums["path"], mangums["root_path"]) == ("/x", "")
    assert (ours["path"], ours["root_path"]) == ("/api/x", "/api")


@pytest.mark.parametrize("name", MANGUMS)
def test_mangum_cannot_read_an_ipv6_host(name: str) -> None:
    event = EVENTS[name](Sent(host="[::1]:3000"))
    with pytest.raises(ValueError, match="too many values to unpack"):
        mangum_scope(event)
    assert read(event).scope["server"] == ("::1", 3000)


@pytest.mark.parametrize("name", MANGUMS)
def test_mangum_takes_port_80_for_https(name: str) -> None:
    event = json.loads(json.dumps(EVENTS[name](Sent())).replace("x-forwarded-port", "x-other"))
    assert (mangum_scope(event)["scheme"], mangum_scope(event)["server"][1]) == ("https", 80)
    assert (read(event).scope["scheme"], read(event).scope["server"][1]) == ("https", 443)


def test_mangum_reads_one_of_repeated_headers_at_the_edge_and_sends_one() -> None:
    event = viewer_request_event(SENT)
    assert [value for name, value in mangum_scope(event)["headers"] if name == b"x-many"] == [b"1"]
    assert values(read(event).scope, "x-many") == ["1", "2"]
    event = viewer_request_event(CASES["two cookies"])
    assert len(Mangum(app)(event, CONTEXT)["headers"]["set-cookie"]) == 1
    assert len(StreamingAdapter(app)(event, {})["headers"]["set-cookie"]) == 2


def test_mangum_answers_at_the_edge_in_a_form_that_cloudfront_does_not_read() -> None:
    event = viewer_request_event(CASES["binary download"])
    mangums, ours = Mangum(app)(event, CONTEXT), StreamingAdapter(app)(event, {})
    assert (mangums["status"], mangums.get("bodyEncoding")) == (200, None)
    assert (ours["status"], ours["bodyEncoding"]) == ("200", "base64")
    assert "content-length" in mangums["headers"]
    assert "content-length" not in ours["headers"]


def test_mangum_answers_a_cloudfront_response() -> None:
    event = viewer_request_event(CASES["get"])
    event["Records"][0]["cf"]["response"] = {"status": "200", "headers": {}}
    assert Mangum(app)(event, CONTEXT)["status"] == 200
    with pytest.raises(EventError, match="the event is of a CloudFront response, which an app cannot answer"):
        read(event)


def test_mangum_takes_a_truncated_body_for_the_whole() -> None:
    event = viewer_request_event(CASES["binary upload"])
    event["Records"][0]["cf"]["request"]["body"]["inputTruncated"] = True
    assert Mangum(app)(event, CONTEXT)["status"] == 200
    with pytest.raises(EventError, match="the event has only a part of the body"):
        read(event)


@pytest.mark.parametrize("name", MANGUMS)
def test_mangum_drops_what_is_not_base64_from_a_body(name: str) -> None:
    event = json.loads(json.dumps(EVENTS[name](Sent("/echo", "PUT", body=b"\0\0\0"))).replace('"AAAA"', '"A!!AAA"'))
    reply = Mangum(app)(event, CONTEXT)
    assert json.loads(reply["body"])["body"] == "\0\0\0"
    with pytest.raises(EventError, match="is not"):
        read(event)


def test_mangum_loses_a_third_value_of_a_header_of_one_letter_behind_a_load_balancer() -> None:
    event = alb_event(Sent())
    head = [[b"x", b"1"], [b"x", b"2"], [b"x", b"3"]]
    response: Any = {"status": 200, "headers": head, "body": b""}
    assert mangum_handlers.ALB(event, CONTEXT, CONFIG)(response)["headers"] == {"x": "1", "X": "2"}
    assert read(event).reply(Head.parse(200, head), b"")["headers"] == {"x": "1, 2, 3"}


@pytest.mark.parametrize("name", ["HTTP API 2.0", "HTTP API 1.0"])
def test_mangum_forgets_exclude_headers_for_an_http_api(name: str) -> None:
    event = EVENTS[name](CASES["get"])
    assert "content-type" in Mangum(app, exclude_headers=["content-type"])(event, CONTEXT)["headers"]


@pytest.mark.parametrize("name", ["HTTP API 2.0", "ALB"])
def test_mangum_cannot_read_an_event_whose_headers_are_null(name: str) -> None:
    event = {**SAMPLES[name], "headers": None}
    with pytest.raises(AttributeError):
        mangum_scope(event)
    assert read(event).scope["method"] == "POST"


def test_mangum_knows_no_lattice() -> None:
    with pytest.raises(LookupError):
        mangum_scope(lattice_v1_event(SENT))
    with pytest.raises(KeyError):
        mangum_scope(lattice_v2_event(SENT))  # takes it for an HTTP API's

"""Payload formats 1.0 and 2.0 beside AWS's documented examples."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from adapter.local.fronts.payload import function_url_event, http_api_event
from adapter.local.fronts.payload_1_0 import http_api_1_0_event, rest_api_event
from adapter.local.fronts.request import Request

# https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html, without the
# parts of mutual TLS and of an authorizer, which are there only where those are.
DOCUMENTED_2_0: dict[str, Any] = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/my/path",
    "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
    "cookies": ["cookie1", "cookie2"],
    "headers": {"header1": "value1", "header2": "value1,value2"},
    "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
    "requestContext": {
        "accountId": "123456789012",
        "apiId": "api-id",
        "domainName": "id.execute-api.us-east-1.amazonaws.com",
        "domainPrefix": "id",
        "http": {
            "method": "POST",
            "path": "/my/path",
            "protocol": "HTTP/1.1",
            "sourceIp": "192.0.2.1",
            "userAgent": "agent",
        },
        "requestId": "id",
        "routeKey": "$default",
        "stage": "$default",
        "time": "12/Mar/2020:19:03:58 +0000",
        "timeEpoch": 1583348638390,
    },
    "body": "Hello from Lambda",
    "isBase64Encoded": False,
}

DOCUMENTED_1_0: dict[str, Any] = {
    "version": "1.0",
    "resource": "/my/path",
    "path": "/my/path",
    "httpMethod": "POST",
    "headers": {"header1": "value1", "header2": "value2"},
    "multiValueHeaders": {"header1": ["value1"], "header2": ["value1", "value2"]},
    "queryStringParameters": {"parameter1": "value2", "parameter2": "value"},
    "multiValueQueryStringParameters": {"parameter1": ["value1", "value2"], "parameter2": ["value"]},
    "requestContext": {
        "accountId": "123456789012",
        "apiId": "id",
        "authorizer": {"claims": None, "scopes": None},
        "domainName": "id.execute-api.us-east-1.amazonaws.com",
        "domainPrefix": "id",
        "extendedRequestId": "request-id",
        "httpMethod": "POST",
        "identity": {
            "accessKey": None,
            "accountId": None,
            "caller": None,
            "cognitoAuthenticationProvider": None,
            "cognitoAuthenticationType": None,
            "cognitoIdentityId": None,
            "cognitoIdentityPoolId": None,
            "principalOrgId": None,
            "sourceIp": "192.0.2.1",
            "user": None,
            "userAgent": "agent",
            "userArn": None,
        },
        "path": "/my/path",
        "protocol": "HTTP/1.1",
        "requestId": "id=",
        "requestTime": "04/Mar/2020:19:15:17 +0000",
        "requestTimeEpoch": 1583349317135,
        "resourceId": None,
        "resourcePath": "/my/path",
        "stage": "$default",
    },
    "pathParameters": None,
    "stageVariables": None,
    "body": "Hello from Lambda",
    "isBase64Encoded": False,
}

# https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html; its requestContext
# is an excerpt, as the second example on that page shows.
DOCUMENTED_REST: dict[str, Any] = {
    "resource": "/{proxy+}",
    "path": "/my/path",
    "httpMethod": "POST",
    "headers": DOCUMENTED_1_0["headers"],
    "multiValueHeaders": DOCUMENTED_1_0["multiValueHeaders"],
    "queryStringParameters": DOCUMENTED_1_0["queryStringParameters"],
    "multiValueQueryStringParameters": DOCUMENTED_1_0["multiValueQueryStringParameters"],
    "pathParameters": {"proxy": "my/path"},
    "stageVariables": None,
    "requestContext": {
        "accountId": "123456789012",
        "resourceId": "roq9wj",
        "stage": "testStage",
        "requestId": "deef4878-7910-11e6-8f14-25afc3e9ae33",
        "identity": {**DOCUMENTED_1_0["requestContext"]["identity"], "apiKey": None},
        "resourcePath": "/{proxy+}",
        "httpMethod": "POST",
        "apiId": "gy415nuibc",
        # From the second example.
        "requestTime": "20/Feb/2018:22:48:57 +0000",
        "path": "/my/path",
        "protocol": "HTTP/1.1",
        "requestTimeEpoch": 1519166937665,
        # In events of today, and not in the examples.
        "deploymentId": "abc",
        "domainName": "id.execute-api.us-east-1.amazonaws.com",
        "domainPrefix": "id",
        "extendedRequestId": "request-id",
    },
    "body": "Hello from Lambda",
    "isBase64Encoded": False,
}

# What is the deployment's own, or the moment's, or (resource) another route's.
OWN = {
    "apiId",
    "deploymentId",
    "domainName",
    "domainPrefix",
    "extendedRequestId",
    "requestId",
    "requestTime",
    "requestTimeEpoch",
    "resourceId",
    "time",
    "timeEpoch",
}
# The services' own headers.
ADDED = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-amzn-trace-id", "user-agent", "content-type"}


def event(build: Callable[..., bytes], **request: Any) -> Any:
    defaults: dict[str, Any] = {
        "method": "GET",
        "path": "/",
        "query": "",
        "protocol": "HTTP/1.1",
        "headers": [],
        "body": b"",
        "scheme": "http",
        "port": 8000,
        "source_ip": "192.0.2.1",
    }
    built = build(Request(**{**defaults, **request}), region="us-east-1", request_id="id", trace_id="Root=1;Parent=2")
    return json.loads(built)


def sample(build: Callable[..., bytes], *cookies: str) -> Any:
    return event(
        build,
        method="POST",
        path="/my/path",
        query="parameter1=value1&parameter1=value2&parameter2=value",
        headers=[
            ("header1", "value1"),
            ("header2", "value1"),
            ("header2", "value2"),
            ("user-agent", "agent"),
            ("content-type", "text/plain"),
            *(("cookie", cookie) for cookie in cookies),
        ],
        body=b"Hello from Lambda",
    )


def compare(built: Any, documented: Any, other: frozenset[str] = frozenset(), name: str = "") -> None:
    """The same keys everywhere; the same values wherever they are not the deployment's own."""
    if isinstance(documented, dict) and isinstance(built, dict):
        added = ADDED if name in ("headers", "multiValueHeaders") else set()
        assert built.keys() - added == documented.keys() - added, name
        for key, value in documented.items():
            compare(built[key], value, other, key)
    elif name in OWN:
        assert type(built) is type(documented), name
    elif name not in other:
        assert built == documented, name


def test_function_url_as_documented() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-request-payload; what it has as null, it
    says, may be left out."""
    context = {**DOCUMENTED_2_0["requestContext"], "accountId": "anonymous"}
    compare(sample(function_url_event, "cookie1; cookie2"), {**DOCUMENTED_2_0, "requestContext": context})


def test_http_api_as_documented() -> None:
    compare(sample(http_api_event, "cookie1; cookie2"), DOCUMENTED_2_0)


def test_http_api_1_0_as_documented() -> None:
    # The documented example has a route of its own, and says nothing of $default.
    compare(sample(http_api_1_0_event), DOCUMENTED_1_0, frozenset({"resource", "resourcePath"}))


def test_rest_api_as_documented() -> None:
    built = sample(rest_api_event)
    assert isinstance(built["requestContext"].pop("resourceId"), str)
    documented = {**DOCUMENTED_REST, "requestContext": dict(DOCUMENTED_REST["requestContext"])}
    del documented["requestContext"]["resourceId"]
    compare(built, documented, frozenset({"stage"}))


def test_what_is_not_there_is_null_in_format_1_0() -> None:
    for build in (http_api_1_0_event, rest_api_event):
        value = event(build)
        absent = (
            "queryStringParameters",
            "multiValueQueryStringParameters",
            "pathParameters",
            "stageVariables",
            "body",
        )
        assert [value[name] for name in absent] == [None] * 5
        assert value["requestContext"]["identity"]["userAgent"] is None


def test_rest_root_is_a_resource_of_its_own() -> None:
    for sent in ("/", "//"):
        value = event(rest_api_event, path=sent)
        assert (value["resource"], value["requestContext"]["resourcePath"], value["path"]) == ("/", "/", "/")
        assert value["pathParameters"] is None


@pytest.mark.parametrize(
    ("sent", "decoded"),
    [
        ("/a%2Fb", "/a/b"),
        ("/caf%C3%A9", "/caf\u00e9"),
        ("/a%3Fb=c", "/a"),
        ("/a%2520b", "/a%20b"),
        ("/a+b", "/a+b"),
        ("/%FF", "/\ufffd"),
    ],
)
def test_path_is_decoded_by_an_http_api_only(sent: str, decoded: str) -> None:
    new, old, rest = (event(build, path=sent) for build in (http_api_event, http_api_1_0_event, rest_api_event))
    assert (new["rawPath"], new["requestContext"]["http"]["path"]) == (decoded, decoded)
    assert (old["path"], old["requestContext"]["path"]) == (decoded, decoded)
    assert rest["path"] == sent


@pytest.mark.parametrize(
    ("sent", "path", "proxy"),
    [
        # Recorded on AWS by LocalStack's test_lambda_aws_proxy_integration.
        ("/proxy-value", "/proxy-value", "proxy-value"),
        ("/proxy-value/", "/proxy-value/", "proxy-value"),
        ("/proxy-value//double-slash", "/proxy-value//double-slash", "proxy-value//double-slash"),
        ("//proxy-value", "/proxy-value", "proxy-value"),
        (
            "/api/user/test%2Balias@gmail.com/plus/test+alias@gmail.com",
            "/api/user/test%2Balias@gmail.com/plus/test+alias@gmail.com",
            "api/user/test%2Balias@gmail.com/plus/test+alias@gmail.com",
        ),
        # Others of the same kind.
        ("/caf%C3%A9/a%20b%2F", "/caf%C3%A9/a%20b%2F", "caf%C3%A9/a%20b%2F"),
        ("/100%/%zz/", "/100%/%zz/", "100%/%zz"),
    ],
)
def test_rest_path_parameter_is_as_sent_without_outer_slashes(sent: str, path: str, proxy: str) -> None:
    value = event(rest_api_event, path=sent)
    assert (value["resource"], value["path"], value["requestContext"]["path"]) == ("/{proxy+}", path, sent)
    assert value["pathParameters"] == {"proxy": proxy}


def test_rest_query_parameters_are_decoded() -> None:
    value = event(rest_api_event, query="x%20y=1%262&x%20y=3")
    assert value["queryStringParameters"] == {"x y": "3"}
    assert value["multiValueQueryStringParameters"] == {"x y": ["1&2", "3"]}


def test_cookies_stay_a_header_in_format_1_0() -> None:
    value = event(rest_api_event, headers=[("cookie", "a=1; b=2")])
    assert value["headers"]["cookie"] == "a=1; b=2"
    assert "cookies" not in value


@pytest.mark.parametrize("build", [http_api_event, http_api_1_0_event, rest_api_event])
def test_forwarded_addresses_are_appended(build: Callable[..., bytes]) -> None:
    headers = event(build, headers=[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-port", "1")])["headers"]
    assert headers["x-forwarded-for"] == "10.0.0.1, 192.0.2.1"
    assert headers["x-forwarded-port"] == "8000"


@pytest.mark.parametrize(
    ("content_type", "text", "rest_text"),
    [
        ("application/json", True, True),
        ("text/csv", True, True),
        ("application/x-www-form-urlencoded", False, True),
        ("image/png", False, False),
        (None, False, False),
    ],
)
def test_body_encoding(content_type: str | None, text: bool, rest_text: bool) -> None:
    headers = [("content-type", content_type)] if content_type else []
    for build, is_text in ((http_api_event, text), (http_api_1_0_event, text), (rest_api_event, rest_text)):
        value = event(build, headers=headers, body=b"a=1")
        assert value["isBase64Encoded"] is not is_text
        assert value["body"] == ("a=1" if is_text else base64.b64encode(b"a=1").decode())

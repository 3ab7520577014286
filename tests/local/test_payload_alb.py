from __future__ import annotations

from typing import Any

import pytest

from adapter.local.fronts.payload_alb import alb_event, alb_multi_value_event

from .test_payload_1_0 import event

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
DOCUMENTED: dict[str, Any] = {
    "requestContext": {
        "elb": {
            "targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/local/6d0ecf831eec9f09"
        }
    },
    "httpMethod": "POST",
    "path": "/",
    "queryStringParameters": {"myKey": "val2"},
    "headers": {
        "accept": "text/html,application/xhtml+xml",
        "content-type": "text/plain",
        "cookie": "name2=value2",
        "host": "lambda-846800462-us-east-2.elb.amazonaws.com",
        "user-agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_6)",
        "x-amzn-trace-id": "Root=1",
        "x-forwarded-for": "192.0.2.1",
        "x-forwarded-port": "8000",
        "x-forwarded-proto": "http",
    },
    "isBase64Encoded": False,
    "body": "request_body",
}
SENT: dict[str, Any] = {
    "method": "POST",
    "query": "&myKey=val1&myKey=val2",
    "headers": [
        ("accept", "text/html,application/xhtml+xml"),
        ("content-type", "text/plain"),
        ("cookie", "name1=value1"),
        ("cookie", "name2=value2"),
        ("host", "lambda-846800462-us-east-2.elb.amazonaws.com"),
        ("user-agent", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_6)"),
    ],
    "body": b"request_body",
}


def test_as_documented() -> None:
    assert event(alb_event, **SENT) == DOCUMENTED


def test_multi_value_as_documented() -> None:
    value = event(alb_multi_value_event, **SENT)
    assert value.pop("multiValueQueryStringParameters") == {"myKey": ["val1", "val2"]}
    headers = value.pop("multiValueHeaders")
    assert headers.pop("cookie") == ["name1=value1", "name2=value2"]
    single = {name: [text] for name, text in DOCUMENTED["headers"].items() if name != "cookie"}
    assert headers == single
    assert value == {key: DOCUMENTED[key] for key in DOCUMENTED.keys() - {"headers", "queryStringParameters"}}


def test_what_is_not_there_is_empty() -> None:
    value = event(alb_event)
    assert (value["queryStringParameters"], value["body"], value["isBase64Encoded"]) == ({}, "", False)


@pytest.mark.parametrize(
    ("query", "parameters"),
    [("a%20b=c%26d+e", {"a%20b": "c%26d+e"}), ("a", {"a": ""}), ("a=&b==", {"a": "", "b": "="})],
)
def test_query_is_not_decoded(query: str, parameters: dict[str, str]) -> None:
    assert event(alb_event, query=query)["queryStringParameters"] == parameters


def test_path_is_not_decoded() -> None:
    assert event(alb_event, path="/a%2Fb")["path"] == "/a%2Fb"

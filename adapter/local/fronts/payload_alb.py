"""The events of an Application Load Balancer."""

from __future__ import annotations

from typing import Any

from adapter.local.configuration import ACCOUNT
from adapter.local.fronts.payload import encode_body, grouped, handed_on, json_text, last
from adapter.local.fronts.request import Request


def alb_event(request: Request, *, region: str, request_id: str, trace_id: str) -> bytes:
    """The event as JSON text: of a header or query parameter that is repeated, the last one.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html. Path and query parameters
    are as sent. A load balancer has no request id.
    """
    event = common(request, region)
    event["queryStringParameters"] = last(grouped(raw_parameters(request.query)))
    event["headers"] = last(grouped(handed_on(request, trace_id, appends=True)))
    return json_text(event)


def alb_multi_value_event(request: Request, *, region: str, request_id: str, trace_id: str) -> bytes:
    """The same with lambda.multi_value_headers.enabled: lists of all values."""
    event = common(request, region)
    event["multiValueQueryStringParameters"] = grouped(raw_parameters(request.query))
    event["multiValueHeaders"] = grouped(handed_on(request, trace_id, appends=True))
    return json_text(event)


def common(request: Request, region: str) -> dict[str, Any]:
    group = f"arn:aws:elasticloadbalancing:{region}:{ACCOUNT}:targetgroup/local/6d0ecf831eec9f09"
    body, encoded = encode_body(request) if request.body else ("", False)
    return {
        "requestContext": {"elb": {"targetGroupArn": group}},
        "httpMethod": request.method,
        "path": request.path,
        "body": body,
        "isBase64Encoded": encoded,
    }


def raw_parameters(query: str) -> list[tuple[str, str]]:
    """Not decoded: the function has to do that."""
    split = (part.partition("=") for part in query.split("&") if part)
    return [(name, value) for name, _, value in split]

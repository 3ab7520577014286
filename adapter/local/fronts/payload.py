"""Payload format 2.0, the events of a function URL and an HTTP API; and what all services' events have in common."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from adapter.local.configuration import ACCOUNT
from adapter.local.fronts.request import Request

# The first label of the service's own domain name.
URL_ID = "local"

# What the front end keeps to itself: they belong to the client's connection, not to its request.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)

# Observed on AWS (https://github.com/ministackorg/ministack/pull/766): these and text/* arrive as text, all else in
# base64, also forms and bodies without a content type. A load balancer is documented to do the same.
TEXT_TYPES = frozenset({"application/json", "application/xml", "application/javascript"})


def function_url_event(request: Request, *, region: str, request_id: str, trace_id: str) -> bytes:
    """The event as JSON text (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-request-payload).

    Repeated headers are joined with "," and cookies stand apart; so do query parameters, decoded, while `rawPath` and
    `rawQueryString` are as sent. `headers.host` is the client's own Host and the X-Forwarded headers say what it really
    used, in place of any that it sent, so that a redirect built from them leads back here.

    ASSUMPTION: `requestContext.http.path` is as sent, too. Behind CloudFront it was seen decoded beside a `rawPath` as
    sent (https://github.com/aws/aws-lambda-web-adapter/issues/732); for other callers there is no source.
    """
    context = {"accountId": "anonymous", **domain(f"lambda-url.{region}.on.aws")}
    return event_2_0(request, handed_on(request, trace_id), request.path, context, request_id)


def http_api_event(request: Request, *, region: str, request_id: str, trace_id: str) -> bytes:
    """The event of an HTTP API's $default route and stage, as JSON text.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html. Unlike a
    function URL's, `rawPath` is decoded. The request id is the invocation's; on AWS an API has ids of its own.
    """
    context = {"accountId": ACCOUNT, **domain(f"execute-api.{region}.amazonaws.com")}
    headers = handed_on(request, trace_id, appends=True)
    return event_2_0(request, headers, decoded_path(request.path), context, request_id)


def event_2_0(
    request: Request, pairs: list[tuple[str, str]], path: str, context: Mapping[str, str], request_id: str
) -> bytes:
    headers, cookies = split_cookies(pairs)
    now = time.time()
    http = {
        "method": request.method,
        "path": path,
        "protocol": request.protocol,
        "sourceIp": request.source_ip,
    }
    if "user-agent" in headers:
        http["userAgent"] = headers["user-agent"]
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            **context,
            "http": http,
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": clf_time(now),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    if parameters := query_parameters(request.query):
        event["queryStringParameters"] = {name: ",".join(values) for name, values in parameters.items()}
    if request.body:
        event["body"], event["isBase64Encoded"] = encode_body(request)
    return json_text(event)


def json_text(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def domain(suffix: str) -> dict[str, str]:
    return {"apiId": URL_ID, "domainName": f"{URL_ID}.{suffix}", "domainPrefix": URL_ID}


def clf_time(now: float) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now))


def handed_on(request: Request, trace_id: str, *, appends: bool = False) -> list[tuple[str, str]]:
    """The headers that go to the function: the client's, without those of its connection, and the service's own.

    With `appends`, the client's address goes to the end of the X-Forwarded-For that it sent; else it replaces that.
    """
    forwarded = [value for name, value in request.headers if name == "x-forwarded-for"] if appends else []
    own = {
        "x-forwarded-for": ", ".join([*forwarded, request.source_ip]),
        "x-forwarded-proto": request.scheme,
        "x-forwarded-port": str(request.port),
        "x-amzn-trace-id": trace_id.partition(";")[0],
    }
    sent = [(name, value) for name, value in request.headers if name not in HOP_BY_HOP and name not in own]
    return [*sent, *own.items()]


def decoded_path(path: str) -> str:
    """As an HTTP API does it, seen on AWS (https://github.com/middleapi/standard-server/pull/93): also %2F is decoded,
    and a %3F ends the path."""
    return unquote(path).partition("?")[0]


def split_cookies(pairs: list[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in pairs:
        if name == "cookie":
            cookies += [cookie for part in value.split(";") if (cookie := part.strip(" \t"))]
        else:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers, cookies


def query_parameters(query: str) -> dict[str, list[str]]:
    """Decoded."""
    return grouped(parse_qsl(query, keep_blank_values=True))


def grouped(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def last(values: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: several[-1] for name, several in values.items()}


def encode_body(request: Request, text_types: Collection[str] = TEXT_TYPES) -> tuple[str, bool]:
    """The body as text and whether that is base64; text/* is text too."""
    media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type in text_types:
        try:
            return request.body.decode("utf-8"), False
        except UnicodeDecodeError:
            pass  # It says text and is not, or not in UTF-8: JSON can carry it in base64 only.
    return base64.b64encode(request.body).decode("ascii"), True

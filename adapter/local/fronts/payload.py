"""The event of a function URL: payload format 2.0."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from adapter.local.fronts.request import Request

# The first label of the function URL's own domain name.
URL_ID = "local"

# What the front end keeps to itself: they belong to the client's connection, not to its request.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)

# Observed on AWS (https://github.com/ministackorg/ministack/pull/766): these and text/* arrive as text, all else in
# base64, also forms and bodies without a content type.
TEXT_TYPES = frozenset({"application/json", "application/xml", "application/javascript"})


def function_url_event(request: Request, *, region: str, request_id: str, trace_id: str) -> bytes:
    """The event as JSON text (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-request-payload).

    Repeated headers are joined with "," and cookies stand apart; so do query parameters, decoded, while `rawPath` and
    `rawQueryString` are as sent. `headers.host` is the client's own Host and the X-Forwarded headers say what it really
    used, in place of any that it sent, so that a redirect built from them leads back here.
    """
    headers, cookies = split_cookies(request.headers)
    headers["x-forwarded-for"] = request.source_ip
    headers["x-forwarded-proto"] = request.scheme
    headers["x-forwarded-port"] = str(request.port)
    headers["x-amzn-trace-id"] = trace_id.partition(";")[0]
    now = time.time()
    http = {
        "method": request.method,
        "path": request.path,
        "protocol": request.protocol,
        "sourceIp": request.source_ip,
    }
    if "user-agent" in headers:
        http["userAgent"] = headers["user-agent"]
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": URL_ID,
            "domainName": f"{URL_ID}.lambda-url.{region}.on.aws",
            "domainPrefix": URL_ID,
            "http": http,
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    if parameters := query_parameters(request.query):
        event["queryStringParameters"] = parameters
    if request.body:
        event["body"], event["isBase64Encoded"] = encode_body(request.body, headers.get("content-type", ""))
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def split_cookies(pairs: list[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in pairs:
        if name == "cookie":
            cookies += [cookie for part in value.split(";") if (cookie := part.strip(" \t"))]
        elif name not in HOP_BY_HOP:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers, cookies


def query_parameters(query: str) -> Mapping[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def encode_body(body: bytes, content_type: str) -> tuple[str, bool]:
    """The body as text and whether that is base64."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type in TEXT_TYPES:
        try:
            return body.decode("utf-8"), False
        except UnicodeDecodeError:
            pass  # It says text and is not, or not in UTF-8: JSON can carry it in base64 only.
    return base64.b64encode(body).decode("ascii"), True

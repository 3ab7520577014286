"""A function's result that stands for an HTTP response: `{"statusCode": ..., "headers": ..., "body": ...}`.

No I/O here.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from adapter.local.fronts import head
from adapter.local.fronts.head import Headers, HeadForm, MalformedError, brief


@dataclass(frozen=True)
class ResultForm:
    """A service's proxy results.

    With `infers`, a result without statusCode is the body itself: a string's text, any other JSON as the function sent
    it, or without its blanks if the service `rewrites` it. `status` is that of a result without statusCode, None where
    it needs one. With `keys`, other keys are refused. `content_type` is that of a reply for which the function gave
    none.
    """

    head: HeadForm
    content_type: str
    infers: bool = False
    rewrites: bool = False
    status: int | None = None
    keys: frozenset[str] | None = None


# https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-response-payload. The documented example of a
# string keeps its quotation marks. Recorded on AWS is a string without them, and other JSON without blanks
# (test_lambda_url_invocation in
# https://github.com/localstack/localstack/blob/main/tests/aws/services/lambda_/test_lambda.snapshot.json).
FUNCTION_URL = ResultForm(head.FUNCTION_URL_BUFFERED, "application/json", infers=True, rewrites=True)

# https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html. A string comes
# without quotation marks (https://github.com/aws/aws-lambda-dotnet/pull/1934). ASSUMPTION: other JSON comes as sent.
# ASSUMPTION for the content type: seen in replies of HTTP APIs, documented nowhere.
HTTP_API_2_0 = ResultForm(head.HTTP_API_2_0, "text/plain;charset=UTF-8", infers=True)
HTTP_API_1_0 = ResultForm(head.HTTP_API_1_0, "text/plain;charset=UTF-8")

# https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html. That no key is
# needed, and no other allowed, has been seen on AWS by LocalStack's tests of its API Gateway.
REST_API = ResultForm(
    head.REST_API,
    "application/json",
    status=200,
    keys=frozenset({"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"}),
)

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html. ASSUMPTION for the content
# type. The statusDescription is not looked at: the server has a reason phrase for each status.
ALB = ResultForm(head.ALB, "application/octet-stream")
ALB_MULTI_VALUE = ResultForm(head.ALB_MULTI_VALUE, "application/octet-stream")


@dataclass(frozen=True)
class ProxyResult:
    """Ready for HTTP, without a content length."""

    status: int
    headers: Headers
    body: bytes


def read(payload: bytes, form: ResultForm) -> ProxyResult:
    """Raises MalformedError."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"it is not JSON: {error}") from error
    if form.infers and not (isinstance(value, dict) and "statusCode" in value):
        return ProxyResult(200, [("content-type", "application/json")], inferred_body(value, payload, form))
    if not isinstance(value, dict):
        raise MalformedError(f"it is not an object with a statusCode but {brief(value)}")
    if form.keys is not None and (unknown := value.keys() - form.keys):
        raise MalformedError(f"it has keys that are not allowed in it: {', '.join(sorted(unknown))}")
    status = form.head.status(read_status(value, form))
    headers = form.head.headers(value)
    body = read_body(value)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", form.content_type))
    return ProxyResult(status, headers, body)


def inferred_body(value: object, payload: bytes, form: ResultForm) -> bytes:
    """The body that a result without statusCode stands for. Raises MalformedError."""
    if isinstance(value, str):
        return encoded(value)
    if not form.rewrites:
        return payload
    try:
        return encoded(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except RecursionError as error:
        raise MalformedError(f"it is nested too deeply: {error}") from error


def encoded(text: str) -> bytes:
    """UTF-8; a lone surrogate, which JSON can write and UTF-8 cannot, becomes a question mark."""
    return text.encode("utf-8", "replace")


def read_status(value: dict[str, Any], form: ResultForm) -> object:
    status = value.get("statusCode")
    if status is None and form.status is not None:
        return form.status
    if "statusCode" not in value:
        raise MalformedError(f"it has no statusCode: {brief(value)}")
    return status


def read_body(value: dict[str, Any]) -> bytes:
    body, packed = value.get("body"), value.get("isBase64Encoded")
    if body is None:
        body = ""
    if not isinstance(body, str):
        raise MalformedError(f"body is not a string (json.dumps makes it one) but {brief(body)}")
    if not isinstance(packed, bool | None):
        raise MalformedError(f"isBase64Encoded is not true or false but {brief(packed)}")
    if not packed:
        return encoded(body)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"isBase64Encoded is true and body is not base64: {error}") from error

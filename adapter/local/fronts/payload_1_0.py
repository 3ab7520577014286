"""Payload format 1.0: the events of a REST API, and of an HTTP API that asks for it.

The names of headers are in lower case, as of a client that speaks HTTP/2; a client of HTTP/1.1 would see its own
spelling in a REST API's event.
"""

from __future__ import annotations

import time
from typing import Any

from adapter.local.configuration import ACCOUNT
from adapter.local.fronts.payload import (
    TEXT_TYPES,
    clf_time,
    decoded_path,
    domain,
    encode_body,
    grouped,
    handed_on,
    json_text,
    last,
    query_parameters,
)
from adapter.local.fronts.request import Request

STAGE = "local"
RESOURCE_ID = "local"

# A REST API takes what is not among its binaryMediaTypes for text in UTF-8. These stand for one that has all but text
# among them: with `*/*` there also JSON would come in base64, without any a picture would be spoiled.
REST_TEXT_TYPES = TEXT_TYPES | {"application/x-www-form-urlencoded"}

# Who the caller is, where nobody asks.
IDENTITY: dict[str, str | None] = dict.fromkeys(
    (
        "accessKey",
        "accountId",
        "caller",
        "cognitoAuthenticationProvider",
        "cognitoAuthenticationType",
        "cognitoIdentityId",
        "cognitoIdentityPoolId",
        "principalOrgId",
        "user",
        "userArn",
    )
)


def http_api_1_0_event(request: Request, *, region: str, request_id: str, trace_id: str) -> bytes:
    """The event of an HTTP API's $default route and stage, as JSON text.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html. `path` is
    decoded, as in format 2.0. The request id is the invocation's; on AWS an API has ids of its own. ASSUMPTION for
    `resource` and `resourcePath`: the documented example has a route with a path.
    """
    path = decoded_path(request.path)
    event = event_1_0(request, trace_id)
    event |= {"version": "1.0", "resource": "$default", "path": path, "pathParameters": None}
    event["requestContext"] = {
        **context_1_0(request, region, request_id),
        "authorizer": {"claims": None, "scopes": None},
        "path": path,
        "resourceId": None,
        "resourcePath": "$default",
        "stage": "$default",
    }
    if request.body:
        event["body"], event["isBase64Encoded"] = encode_body(request)
    return json_text(event)


def rest_api_event(request: Request, *, region: str, request_id: str, trace_id: str) -> bytes:
    """The event of a REST API's /{proxy+}, as JSON text, buffered and streamed alike.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html. The URL has no
    stage in it, as behind a custom domain name that is mapped to the stage. Paths are as sent, query parameters are
    decoded. Recorded on AWS (test_lambda_aws_proxy_integration in
    https://github.com/localstack/localstack/blob/main/tests/aws/services/apigateway/test_apigateway_lambda.snapshot.json):
    of several slashes at its beginning `path` has one, and the parameter `proxy` has none at either end.

    The headers are without Content-Length (https://github.com/Kludex/mangum/issues/143).
    """
    path = "/" + request.path.lstrip("/")
    resource = "/" if path == "/" else "/{proxy+}"
    event = event_1_0(request, trace_id)
    for headers in (event["headers"], event["multiValueHeaders"]):
        headers.pop("content-length", None)
    event |= {
        "resource": resource,
        "path": path,
        "pathParameters": None if resource == "/" else {"proxy": path.strip("/")},
    }
    context = context_1_0(request, region, request_id)
    context["identity"]["apiKey"] = None
    event["requestContext"] = {
        **context,
        "deploymentId": "local",
        "path": request.path,
        "resourceId": RESOURCE_ID,
        "resourcePath": resource,
        "stage": STAGE,
    }
    if request.body:
        event["body"], event["isBase64Encoded"] = encode_body(request, REST_TEXT_TYPES)
    return json_text(event)


def event_1_0(request: Request, trace_id: str) -> dict[str, Any]:
    headers = grouped(handed_on(request, trace_id, appends=True))
    parameters = query_parameters(request.query)
    return {
        "httpMethod": request.method,
        "headers": last(headers),
        "multiValueHeaders": headers,
        "queryStringParameters": last(parameters) or None,
        "multiValueQueryStringParameters": parameters or None,
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
    }


def context_1_0(request: Request, region: str, request_id: str) -> dict[str, Any]:
    now = time.time()
    return {
        "accountId": ACCOUNT,
        **domain(f"execute-api.{region}.amazonaws.com"),
        "extendedRequestId": request_id,
        "httpMethod": request.method,
        "identity": {**IDENTITY, "sourceIp": request.source_ip, "userAgent": request.header("user-agent")},
        "protocol": request.protocol,
        "requestId": request_id,
        "requestTime": clf_time(now),
        "requestTimeEpoch": int(now * 1000),
    }

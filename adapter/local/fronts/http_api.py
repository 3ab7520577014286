"""An API Gateway HTTP API with one Lambda proxy integration, on the $default route and stage.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

from adapter.local.fronts import proxy_result
from adapter.local.fronts.buffered import Buffered, Late
from adapter.local.fronts.exchange import BuildEvent, Refusal, Refusals, Service
from adapter.local.fronts.payload import http_api_event
from adapter.local.fronts.payload_1_0 import http_api_1_0_event
from adapter.local.fronts.proxy_result import ResultForm
from adapter.local.invocation import MAX_PAYLOAD

# https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html: payloads of 10 MB, integrations of
# 30 seconds. A body that fits here may still be too large for Lambda.
MAX_BODY = 10 * 1024 * 1024
TIMEOUT = 30.0

FAILED = Refusal(500, b'{"message":"Internal Server Error"}')
UNAVAILABLE = Refusal(503, b'{"message":"Service Unavailable"}')
REFUSALS = Refusals(
    too_large=Refusal(413, b'{"message":"Request Entity Too Large"}'),
    busy=UNAVAILABLE,  # ASSUMPTION: no source says what a throttled function comes to.
    failed=FAILED,
    malformed=FAILED,
)


def http_api(title: str, event: BuildEvent, form: ResultForm) -> Service:
    return Service(
        title,
        event,
        Buffered(form, late=Late(TIMEOUT, UNAVAILABLE)),
        REFUSALS,
        max_body=MAX_BODY,
        max_stream=MAX_PAYLOAD,
        request_id_header="apigw-requestid",
    )


HTTP_API = http_api("HTTP API", http_api_event, proxy_result.HTTP_API_2_0)
HTTP_API_1_0 = http_api("HTTP API (payload 1.0)", http_api_1_0_event, proxy_result.HTTP_API_1_0)

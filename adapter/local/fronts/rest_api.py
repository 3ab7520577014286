"""An API Gateway REST API with a Lambda proxy integration on /{proxy+}, in either of its response transfer modes.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html and
https://docs.aws.amazon.com/apigateway/latest/developerguide/response-transfer-mode-lambda.html
"""

from __future__ import annotations

from adapter.local.fronts import prelude, proxy_result
from adapter.local.fronts.buffered import Buffered, Late
from adapter.local.fronts.exchange import Exchange, Refusal, Refusals, Service
from adapter.local.fronts.payload_1_0 import rest_api_event
from adapter.local.fronts.streamed import with_prelude
from adapter.local.invocation import MAX_PAYLOAD

# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html: payloads
# of 10 MB, integrations of 29 seconds by default. A body that fits here may still be too large for Lambda.
MAX_BODY = 10 * 1024 * 1024
TIMEOUT = 29.0

FAILED = Refusal(502, b'{"message": "Internal server error"}')
REFUSALS = Refusals(
    too_large=Refusal(413, b'{"message":"Request Too Long"}'),  # ASSUMPTION for the text.
    # https://repost.aws/questions/QUfI6bsdd0SOiPeyimzxSkfQ: a throttled function is a 500, not a 429.
    busy=Refusal(500, b'{"message": "Internal server error"}'),
    failed=FAILED,
    malformed=FAILED,
)
TIMED_OUT = Refusal(504, b'{"message": "Endpoint request timed out"}')

NOT_STREAMED_HINT = (
    "the function returned its response in one piece, and a REST API with responseTransferMode STREAM takes only one "
    "that is streamed: a prelude, 8 NUL bytes, then the body. Stream the response (StreamingAdapter: "
    "stream={'function-url', 'rest-api'}, or ADAPTER_STREAM=function-url,rest-api), or set responseTransferMode "
    "BUFFERED."
)


async def stream(exchange: Exchange) -> None:
    """Whatever its content type, a response has to begin with a prelude."""
    response = await exchange.answer()
    if isinstance(response, Refusal):
        await exchange.refuse(response)
        return
    if not response.streaming:
        exchange.hint(NOT_STREAMED_HINT)
    await with_prelude(exchange, response, prelude.REST_API)


REST_API = Service(
    "REST API",
    rest_api_event,
    Buffered(proxy_result.REST_API, late=Late(TIMEOUT, TIMED_OUT)),
    REFUSALS,
    max_body=MAX_BODY,
    max_stream=MAX_PAYLOAD,
    request_id_header="x-amzn-requestid",
)

# Its integration may take 15 minutes, which is as long as a function can.
REST_API_STREAM = Service(
    "REST API (STREAM)",
    rest_api_event,
    stream,
    REFUSALS,
    max_body=MAX_BODY,
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/response-transfer-mode.html: 2 MB a second after the
    # first 10 MB.
    burst=10 * 1024 * 1024,
    request_id_header="x-amzn-requestid",
)

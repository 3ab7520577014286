"""A function URL with AuthType NONE, in either of its invoke modes.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

from adapter.local.fronts import prelude, proxy_result
from adapter.local.fronts.buffered import Buffered
from adapter.local.fronts.exchange import Application, Exchange, Refusal, Refusals, Service, has_prelude
from adapter.local.fronts.payload import function_url_event
from adapter.local.fronts.prelude import DELIMITER, Prelude
from adapter.local.fronts.streamed import is_proxy_result, with_prelude
from adapter.local.invocation import MAX_PAYLOAD, Invocable, Response
from adapter.local.log import Log

TITLE = "Function URL"

# ASSUMPTION for 502: that is what a buffered function URL is documented to answer.
FAILED = Refusal(502, b"Internal Server Error", "text/plain")
REFUSALS = Refusals(
    too_large=Refusal(413, b'{"Message":"Request Entity Too Large"}'),
    busy=Refusal(429, b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'),
    failed=FAILED,
    malformed=FAILED,
)

PROXY_RESULT_HINT = (
    "the function returned {'statusCode': ..., ...} and did not stream. A function URL with InvokeMode "
    "RESPONSE_STREAM does not read such a result: its caller gets status 200 and this JSON, here as on Lambda. Stream "
    "the response, or set InvokeMode BUFFERED."
)
UNMARKED_PRELUDE_HINT = (
    "the stream begins with what looks like a prelude, and its Content-Type does not say so: its caller gets status "
    "200 and the prelude as part of the body, here as on Lambda. The Content-Type of the response's POST is to be "
    f"{prelude.CONTENT_TYPE}."
)


async def stream(exchange: Exchange) -> None:
    """A response with a prelude becomes what that says, any other one the body of a 200."""
    response = await exchange.answer()
    if isinstance(response, Refusal):
        await exchange.refuse(response)
    elif has_prelude(response):
        await with_prelude(exchange, response, prelude.FUNCTION_URL)
    else:
        await raw(exchange, response)


async def raw(exchange: Exchange, response: Response) -> None:
    """Bytes as they are, under the content type of the runtime's POST."""
    reply = exchange.reply
    head = Prelude(200, [("content-type", response.content_type or "application/octet-stream")])
    if response.streaming:
        await reply.head(head)
    begun = b""
    async for chunk in response:
        if not reply.status:
            if is_proxy_result(chunk):
                exchange.hint(PROXY_RESULT_HINT)
            await reply.head(head)
        if len(begun) < prelude.REST_API.limit:
            begun += chunk
            if begun.startswith(b"{") and DELIMITER in begun:
                exchange.hint(UNMARKED_PRELUDE_HINT)
        await reply.body(chunk)
    if not reply.status:
        await reply.head(head)
    await reply.end()
    exchange.replied()


MODES = {
    "RESPONSE_STREAM": Service(
        TITLE,
        function_url_event,
        stream,
        REFUSALS,
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html#config-rs-bandwidth
        burst=6 * 1024 * 1024,
        request_id_header="x-amzn-requestid",
    ),
    "BUFFERED": Service(
        f"{TITLE} (BUFFERED)",
        function_url_event,
        Buffered(proxy_result.FUNCTION_URL, empties=True),
        REFUSALS,
        max_stream=MAX_PAYLOAD,
        request_id_header="x-amzn-requestid",
    ),
}


class FunctionURL:
    """The function URL that the function's configuration says: its `invoke_mode` decides."""

    title = TITLE

    def __call__(self, function: Invocable, log: Log) -> Application:
        return MODES[function.configuration.invoke_mode](function, log)

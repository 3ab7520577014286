"""Handlers that are invoked without a URL."""

import asyncio
import os
from typing import Any

from adapter import ResponseStream, streamify


@streamify
async def article(event: Any, response_stream: ResponseStream, context: Any) -> None:
    """The work after the response lasts until the test's gate opens, or for so many seconds."""
    response_stream.content_type = "text/plain"
    await response_stream.write(f"Hello my request id is: {context.aws_request_id}")
    await response_stream.close()
    print("response sent")
    if "gate" in event:
        reader, writer = await asyncio.open_connection("127.0.0.1", event["gate"])
        writer.write(b"%d\n" % os.getpid())
        await reader.read(1)
        writer.close()
    else:
        await asyncio.sleep(event["seconds"])
    print("done waiting")


def context(event: Any, context: Any) -> dict[str, Any]:
    print("client context:", context.client_context)
    return {
        "event": event,
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "custom": context.client_context and context.client_context.custom,
        "tenant_id": context.tenant_id,
        "trace_id": os.environ.get("_X_AMZN_TRACE_ID"),
    }


def fail(event: Any, context: Any) -> None:
    raise ValueError("no tea")

"""Events that are no HTTP request: what they are called, and the request to the app that stands for one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .events import ASGI, Request
from .exceptions import AppError, UnknownEventError, quoted, shown

if TYPE_CHECKING:
    from typing import Any

    from mangum.types import Response


def describe(event: object) -> str:
    """What came in, for a message: the service that sends such events if it can be told, and the event's keys.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-services.html
    """
    if not isinstance(event, Mapping):
        return f"a direct invocation with {shown(event, '')}"
    records = event.get("Records")
    if isinstance(records, list | tuple) and records and isinstance(records[0], Mapping):
        # SNS writes it with a capital.
        source = records[0].get("eventSource") or records[0].get("EventSource")
        if isinstance(source, str):
            return f"{len(records)} record(s) of {quoted(source)}"
    if "detail-type" in event:
        return f"an EventBridge event, {quoted(event['detail-type'])} from {quoted(event.get('source'))}"
    return f"an event with the keys {quoted([*event])}"


def unknown(event: object) -> UnknownEventError:
    return UnknownEventError(
        f"no trigger is known that sends {describe(event)}; function URLs, API Gateway, ALB, Lambda@Edge and VPC "
        "Lattice are known, custom_handlers can add others, and event_handler or events_path takes what is no request"
    )


def read_source(event: Any, context: Any, path: str) -> Request:
    """The event as ``POST path`` with the event as JSON, the Lambda Web Adapter's convention; the app's JSON reply is
    the invocation's result (https://github.com/awslabs/aws-lambda-web-adapter, "Non-HTTP Event Triggers").

    With a status of 300 or more the invocation fails, so that the event is tried again, or goes to the dead-letter
    queue: also with a 307, a 404 or a 422, since an app that has the route elsewhere, or has none, or cannot read the
    event, has not handled it.
    """
    body = json.dumps(event, default=dict).encode()  # of any mapping, such as a data class of Powertools'

    def result(response: Response) -> Any:
        status, content = response["status"], response["body"]
        if status >= 300:
            text = ascii(content[:500].decode("utf-8", "replace"))
            raise AppError(f"POST {path} has answered {describe(event)} with status {status}: {text}")
        try:
            return json.loads(content) if content else None
        except ValueError:
            raise AppError(f"POST {path} has answered {describe(event)} with what is not JSON") from None

    scope = {
        "type": "http",
        "asgi": ASGI.copy(),
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": None,
        "server": ("localhost", 80),
        "extensions": {},
        "aws.event": event,
        "aws.context": context,
    }
    return Request(scope, body, "event", result)

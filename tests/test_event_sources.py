"""Events that are no HTTP requests: by `event_handler`, by `events_path`, by nobody; under the stock awslambdaric."""

import json
import re
import sys
from typing import Any

import pytest
from fastapi import FastAPI

from adapter import ConfigurationError, StreamingAdapter, UnknownEventError
from adapter.event_sources import describe

from .events import function_url
from .runtime_api import function

# The shapes of https://docs.aws.amazon.com/lambda/latest/dg/lambda-services.html
SQS: Any = {
    "Records": [
        {
            "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
            "body": "Test message.",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
        }
    ]
}
SNS: Any = {"Records": [{"EventVersion": "1.0", "EventSource": "aws:sns", "Sns": {"Message": "Hello from SNS!"}}]}
S3: Any = {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "s3": {"bucket": {"name": "amzn-s3-demo"}}}]}
SCHEDULE: Any = {"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
WARMER: Any = {"source": "serverless-plugin-warmup"}
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
DESTINATION: Any = {
    "version": "1.0",
    "timestamp": "2019-11-14T18:16:05.568Z",
    "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
    "requestPayload": {"ORDER_IDS": ["9e07af03-ce31-4ff3-xmpl-36dce652cb4f"]},
}
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-input.html
AUTHORIZER: Any = {
    "type": "REQUEST",
    "methodArn": "arn:aws:execute-api:us-east-1:123456789012:abcdef123/test/GET/request",
    "resource": "/request",
    "path": "/request",
    "httpMethod": "GET",
    "headers": {"X-AMZ-Date": "20170718T062915Z"},
    "requestContext": {"path": "/request", "stage": "test", "httpMethod": "GET"},
}
AUTHORIZER_2_0: Any = {
    "version": "2.0",
    "type": "REQUEST",
    "routeArn": "arn:aws:execute-api:us-east-1:123456789012:abcdef123/test/GET/request",
    "rawPath": "/my/path",
    "requestContext": {"http": {"method": "POST", "path": "/my/path"}, "domainName": "id.execute-api.us-east-1.on.aws"},
}
ANY: list[Any] = [
    SQS,
    SNS,
    S3,
    SCHEDULE,
    WARMER,
    DESTINATION,
    AUTHORIZER,
    AUTHORIZER_2_0,
    {},
    [],
    [1, "é"],
    "text",
    7,
    None,
    True,
    {"\ud800": "\udc80"},
]


@pytest.mark.parametrize(
    ("event", "description"),
    [
        (SQS, "1 record(s) of 'aws:sqs'"),
        (SNS, "1 record(s) of 'aws:sns'"),
        (S3, "1 record(s) of 'aws:s3'"),
        (SCHEDULE, "an EventBridge event, 'Scheduled Event' from 'aws.events'"),
        (WARMER, "an event with the keys ['source']"),
        ({"Records": [{}]}, "an event with the keys ['Records']"),
        ({"Records": []}, "an event with the keys ['Records']"),
        ({"\ud800": 1}, r"an event with the keys ['\ud800']"),
        ([1, 2], "a direct invocation with [1, 2]"),
        ("x" * 200, f"a direct invocation with '{'x' * 96}..."),
        (None, "a direct invocation with None"),
    ],
)
def test_what_came_in_has_a_name(event: object, description: str) -> None:
    assert describe(event) == description


async def test_a_handler_takes_what_is_no_request() -> None:
    async with function("sources.by_sync_handler") as running:
        # From Python 3.12 on awslambdaric does not write JSON in ASCII, and half a surrogate pair ends its process.
        for event in ANY if sys.version_info < (3, 12) else ANY[:-1]:
            invoked = await running.api.run(event)
            assert invoked.result is not None
            assert json.loads(invoked.result) == {"event": event, "request_id": invoked.request_id, "same": True}
        request = await running.api.run(function_url("/log"))
        assert request.events[:2] == ["open", "prelude"]
        failed = await running.api.run("raise")
        assert failed.error is not None and json.loads(failed.error)["errorMessage"] == "of the handler"


async def test_an_async_handler() -> None:
    async with function("sources.by_async_handler") as running:
        invoked = await running.api.run(SQS)
        assert invoked.result is not None and json.loads(invoked.result) == {"async": SQS, "same": True}


async def test_the_app_takes_what_is_no_request_and_works_on_after_the_result() -> None:
    async with function("sources.by_path") as running:
        for event in ANY[:-1]:  # the last is JSON that FastAPI cannot send back
            invoked = await running.api.run(event)
            assert invoked.result is not None
            assert json.loads(invoked.result) == {"event": event, "source": True, "type": "application/json"}
            assert invoked.events == ["response", "background", "next"]
        nothing = await running.api.run({"kind": "nothing"})
        assert nothing.result == b"null"


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"kind": "status", "status": 500}, r"POST /events has answered .* with status 500: .*event"),
        ({"kind": "status", "status": 422}, r"with status 422"),
        ({"kind": "status", "status": 307}, r"with status 307"),
        ({"kind": "raise"}, r"with status 500: 'Internal Server Error'"),
        ({"kind": "text"}, r"with what is not JSON"),
    ],
)
async def test_a_reply_that_is_no_success_fails_the_invocation(event: Any, message: str) -> None:
    async with function("sources.by_path") as running:
        invoked = await running.api.run(event)
        assert invoked.result is None and invoked.error is not None
        error = json.loads(invoked.error)
        assert error["errorType"] == "AppError"
        assert re.search(message, error["errorMessage"])
        assert (await running.api.run(SQS)).result is not None


async def test_with_neither_the_event_fails_and_the_process_goes_on() -> None:
    async with function("sources.by_nobody") as running:
        for event in ANY:
            invoked = await running.api.run(event)
            assert invoked.error is not None
            error = json.loads(invoked.error)
            assert error["errorType"] == "UnknownEventError"
            assert describe(event) in error["errorMessage"] and "events_path" in error["errorMessage"]
        assert (await running.api.run(function_url("/log"))).prelude["statusCode"] == 200


def test_outside_lambda() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (scope["method"], scope["path"]) == ("POST", "/events")
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})

    assert StreamingAdapter(app, lifespan="off", events_path="/events")(SQS, {}) == SQS
    assert StreamingAdapter(app, lifespan="off", event_handler=lambda event, _: [event])(7, {}) == [7]
    with pytest.raises(UnknownEventError, match=r"no trigger is known that sends 1 record\(s\) of 'aws:sqs'"):
        StreamingAdapter(app, lifespan="off")(SQS, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_handler": 1}, r"event_handler must be a function \(event, context\), not 1"),
        ({"events_path": "events"}, "events_path must be a path like '/events', not 'events'"),
        ({"events_path": 1}, "events_path must be a path"),
        ({"events_path": "/", "event_handler": print}, "give one of them"),
    ],
)
def test_arguments_that_are_wrong(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StreamingAdapter(FastAPI(), **arguments)

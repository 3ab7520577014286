"""An app under Sentry's own integration for Lambda, which patches awslambdaric around the handler and the posts."""

import os
from typing import Any

import sentry_sdk
from fastapi import BackgroundTasks, FastAPI
from sentry_sdk.integrations.aws_lambda import AwsLambdaIntegration

from adapter import StreamingAdapter
from record import record

sentry_sdk.init(dsn=os.environ["DSN"], integrations=[AwsLambdaIntegration(timeout_warning=True)])

app = FastAPI()


@app.get("/fine")
async def fine() -> str:
    return "fine"


def fails() -> None:
    record("background")
    raise ValueError("in the background")


@app.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(fails)
    return "fine"


adapter = StreamingAdapter(app)


def handler(event: Any, context: Any) -> Any:
    result = adapter(event, context)
    if event["rawPath"] == "/fine" and event["rawQueryString"]:
        raise LookupError("after the response")
    return result

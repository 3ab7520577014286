"""An app under Sentry's own integrations: for Lambda, which patches awslambdaric around the handler and the posts, for
FastAPI and Starlette, and for asyncio, which wraps the tasks of the loop."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sentry_sdk
from fastapi import BackgroundTasks, FastAPI
from sentry_sdk.integrations.asyncio import enable_asyncio_integration
from sentry_sdk.integrations.aws_lambda import AwsLambdaIntegration
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from adapter import StreamingAdapter
from record import record

ONLY_LAMBDA = os.environ.get("ONLY_LAMBDA") == "1"

sentry_sdk.init(
    dsn=os.environ["DSN"],
    integrations=[AwsLambdaIntegration(timeout_warning=True)],
    auto_enabling_integrations=not ONLY_LAMBDA,  # FastAPI's and Starlette's
    shutdown_timeout=float(os.environ.get("FLUSH", "10")),  # 10: more than the collector waits for a response to end
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    if not ONLY_LAMBDA:
        enable_asyncio_integration()  # it wants a running loop: the one that every request runs on
    async with asyncio.TaskGroup() as group:
        app.state.group = group
        yield


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


app = FastAPI(lifespan=lifespan, middleware=[Middleware(Passing)] if os.environ.get("MIDDLEWARE") else [])


@app.get("/fine")
async def fine() -> str:
    return "fine"


@app.get("/fails")
async def fails_at_once() -> str:
    raise KeyError("in the route")


def fails() -> None:
    record("background")
    raise ValueError("in the background")


@app.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(fails)
    return "fine"


async def fails_later() -> None:
    await asyncio.sleep(0.05)
    record("task")
    raise OSError("in a task")


started: list[asyncio.Task[None]] = []


@app.get("/task")
async def task() -> str:
    started[:] = [asyncio.create_task(fails_later())]
    return "fine"


async def endless() -> None:
    while True:
        await asyncio.sleep(3600)


@app.get("/endless")
async def endless_task() -> str:
    started[:] = [asyncio.create_task(endless())]
    return "fine"


async def watch() -> None:
    while True:
        await asyncio.sleep(3600)


@app.get("/lifespan")
async def task_of_the_lifespan(request: Request) -> str:
    request.app.state.group.create_task(watch())
    return "fine"


async def too_long() -> None:
    try:
        await asyncio.sleep(30)
    finally:
        record("cancelled")


@app.get("/too-long")
async def takes_too_long(tasks: BackgroundTasks) -> str:
    tasks.add_task(too_long)
    return "fine"


adapter = StreamingAdapter(
    app,
    drain_timeout=1,
    deadline_margin=float(os.environ.get("MARGIN", "1")),
    raise_background_errors=os.environ.get("RAISE") == "1",
)


def handler(event: Any, context: Any) -> Any:
    result = adapter(event, context)
    if event["rawPath"] == "/fine" and event["rawQueryString"]:
        raise LookupError("after the response")
    return result

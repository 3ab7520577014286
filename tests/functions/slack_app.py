"""Slack Bolt's two kinds of app, in one FastAPI app: listeners that acknowledge first, and then work."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from slack_bolt import Ack, App, BoltRequest, BoltResponse
from slack_bolt.adapter.fastapi import SlackRequestHandler
from slack_bolt.adapter.fastapi.async_handler import AsyncSlackRequestHandler
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltRequest
from slack_bolt.authorization import AuthorizeResult
from starlette.requests import Request
from starlette.responses import Response

from adapter import BackgroundFailure, Executor, StreamingAdapter, remaining_time
from record import record

SECRET = os.environ["SLACK_SIGNING_SECRET"]

# Without a token of one workspace, Bolt does not ask Slack who that is.
TEAM = AuthorizeResult(enterprise_id=None, team_id="T1", bot_token="xoxb-1", bot_id="B1", bot_user_id="U1")


async def async_authorize() -> AuthorizeResult:
    return TEAM


def authorize() -> AuthorizeResult:
    return TEAM


async_bolt = AsyncApp(signing_secret=SECRET, authorize=async_authorize)
bolt = App(signing_secret=SECRET, authorize=authorize, listener_executor=Executor())


async def report(event: str) -> None:
    """In a thread, so that the event loop goes on while the test holds the event."""
    await asyncio.to_thread(record, event)


@async_bolt.command("/work")
async def async_work(ack: AsyncAck) -> None:
    await ack("at once")
    assert 0 < remaining_time() < 30
    await report("work")


@bolt.command("/work")
def work(ack: Ack) -> None:
    ack("at once")
    assert 0 < remaining_time() < 30
    record("work")


async def async_accept(ack: AsyncAck) -> None:
    await ack("accepted")


def accept(ack: Ack) -> None:
    ack("accepted")


async def async_one() -> None:
    await report("one")


async def async_two() -> None:
    await report("two")


def one() -> None:
    record("one")


def two() -> None:
    record("two")


async_bolt.command("/lazy")(ack=async_accept, lazy=[async_one, async_two])
bolt.command("/lazy")(ack=accept, lazy=[one, two])


@async_bolt.event("app_mention")
async def async_mention() -> None:
    await report("work")


@bolt.event("app_mention")
def mention() -> None:
    record("work")


@async_bolt.command("/fails")
async def async_fails(ack: AsyncAck) -> None:
    await ack("at once")
    await report("work")
    raise LookupError("in the listener")


@bolt.command("/fails")
def fails(ack: Ack) -> None:
    ack("at once")
    record("work")
    raise LookupError("in the listener")


async def async_lazy_fails() -> None:
    raise LookupError("in a lazy listener")


def lazy_fails() -> None:
    raise LookupError("in a lazy listener")


async_bolt.command("/lazy-fails")(ack=async_accept, lazy=[async_lazy_fails, async_one])
bolt.command("/lazy-fails")(ack=accept, lazy=[lazy_fails, one])


async def async_ignore_retries(request: AsyncBoltRequest, next: Callable[[], Awaitable[BoltResponse]]) -> BoltResponse:
    if "x-slack-retry-num" in request.headers:
        return BoltResponse(status=200)
    return await next()


def ignore_retries(request: BoltRequest, next: Callable[[], BoltResponse]) -> BoltResponse:
    if "x-slack-retry-num" in request.headers:
        return BoltResponse(status=200)
    return next()


async def async_hand_on(error: Exception) -> None:
    raise error


def hand_on(error: Exception) -> None:
    raise error


match os.environ.get("WITH", ""):
    case "ignore_retries":
        async_bolt.middleware(async_ignore_retries)
        bolt.middleware(ignore_retries)
    case "hand_on":
        async_bolt.error(async_hand_on)
        bolt.error(hand_on)

app = FastAPI()
async_handler = AsyncSlackRequestHandler(async_bolt)
sync_handler = SlackRequestHandler(bolt)


@app.post("/async")
async def async_endpoint(request: Request) -> Response:
    return await async_handler.handle(request)


@app.post("/sync")
async def endpoint(request: Request) -> Response:
    return await sync_handler.handle(request)


def failed(failure: BackgroundFailure) -> None:
    record(type(failure.exception).__name__)


handler = StreamingAdapter(app, on_background_error=failed)

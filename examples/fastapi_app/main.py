"""A FastAPI app for Lambda: tokens stream live, and work goes on after the response has ended.

Run it with `uvicorn main:app`, or as a function behind a function URL with `python -m adapter.local main.handler`.
"""

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from slack_sdk.signature import SignatureVerifier
from slack_sdk.webhook import WebhookClient

import slack_demo
from adapter import StreamingAdapter
from reports import Report, Reports, open_reports

WORK_SECONDS = float(os.environ.get("WORK_SECONDS", "5"))
PAGE = Path(__file__).with_name("page.html")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Reports]]:
    yield {"reports": open_reports()}  # once per execution environment; every request finds it in request.state


def reports(request: Request) -> Reports:
    store: Reports = request.state.reports
    return store


Store = Annotated[Reports, Depends(reports)]
app = FastAPI(title="Answer now, work on after", lifespan=lifespan)


def work() -> None:
    """What takes too long to let anybody wait for it. Blocking, and so for sync tasks, which run in threads."""
    time.sleep(WORK_SECONDS)


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGE)


# -- a stream: each token reaches the caller when it is made


async def model(prompt: str, delay: float) -> AsyncIterator[str]:
    """Stands in for a language model: thinks a little before every word."""
    answer = f"You asked: “{prompt}” This answer streams through the function URL, one token at a time, as it is made."
    for word in answer.split(" "):
        await asyncio.sleep(delay)
        yield word + " "


@app.get("/tokens", response_class=EventSourceResponse)
async def tokens(
    prompt: Annotated[str, Query(max_length=60)] = "How fast is the first token?",
    delay: Annotated[float, Query(ge=0, le=0.5)] = 0.15,  # both bounded: the stream ends before the function's timeout
) -> AsyncIterator[ServerSentEvent]:
    count = 0
    async for token in model(prompt, delay):
        count += 1
        yield ServerSentEvent(data=token)
    yield ServerSentEvent(event="done", data={"tokens": count})


# -- an async task: asyncio.sleep stands for any awaited work


@app.get("/hello", response_class=PlainTextResponse)
async def hello(request: Request, background: BackgroundTasks) -> str:
    context = request.scope.get("aws.context")  # not there under uvicorn
    background.add_task(go_on)
    return f"Hello my request id is: {context.aws_request_id if context else uuid.uuid4()}\n"


async def go_on() -> None:
    print("response sent")
    await asyncio.sleep(WORK_SECONDS)
    print("done waiting")


# -- a Slack slash command: Slack wants its answer within 3 s, and takes a late one at response_url


@app.post("/slack/command")
async def slack_command(request: Request, background: BackgroundTasks) -> dict[str, str]:
    secret = os.environ.get("SLACK_SIGNING_SECRET")
    if not secret:
        raise HTTPException(503, "SLACK_SIGNING_SECRET is not set: without it no request can be told to be Slack's.")
    body = await request.body()  # the raw bytes, because they are what is signed
    try:
        genuine = SignatureVerifier(secret).is_valid_request(body, dict(request.headers))
    except (ValueError, TypeError):  # raised for a timestamp that is no number and for text that is not ASCII
        genuine = False
    if not genuine:
        raise HTTPException(401, "Not signed by Slack, or more than five minutes ago.")
    form = dict(parse_qsl(body.decode()))
    if "response_url" not in form:
        raise HTTPException(400, "A slash command comes with a response_url.")
    command = f"{form.get('command', '')} {form.get('text', '')}".strip()
    background.add_task(answer_slack, form["response_url"], command)
    return {"response_type": "ephemeral", "text": f"Working on {command} …"}


def answer_slack(response_url: str, command: str) -> None:
    work()
    reply = WebhookClient(response_url).send(text=f"{command} is done.", response_type="ephemeral")
    print(f"Slack took the result of {command!r}: {reply.status_code} {reply.body}")


# -- a report: 202 at once, and its content when it is ready


@app.post("/reports", status_code=202)
def order_report(request: Request, response: Response, store: Store, background: BackgroundTasks) -> Report:
    report = store.add()
    background.add_task(make_report, store, report.id)
    response.headers["location"] = request.url_for("read_report", report_id=report.id).path
    return report


def make_report(store: Reports, report_id: str) -> None:
    started = time.perf_counter()
    work()
    store.finish(report_id, f"Made in {time.perf_counter() - started:.1f} s, after the response had ended.")
    print(f"report {report_id} is ready")


@app.get("/reports")
def list_reports(store: Store) -> list[Report]:
    return store.latest(limit=10)


@app.get("/reports/{report_id}")
def read_report(report_id: str, store: Store) -> Report:
    report = store.get(report_id)
    if report is None:
        raise HTTPException(404, "No such report.")
    return report


# -- events that are no HTTP requests: SQS messages order reports, and so does whoever invokes the function directly


def on_event(event: Any, context: Any) -> dict[str, Any]:
    store = open_reports()
    if not isinstance(event, dict) or "Records" not in event:
        report = store.add()
        store.finish(report.id, "Ordered by a direct invocation.")
        return {"report": report.id}
    failures = []
    for record in event["Records"]:
        try:
            store.finish(store.add().id, f"Ordered by the message {json.loads(record['body'])['title']!r}.")
        except (KeyError, TypeError, ValueError) as error:
            print(f"message {record.get('messageId')}: {error!r}")
            failures.append({"itemIdentifier": record.get("messageId")})
    # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    return {"batchItemFailures": failures}


if os.environ.get("SLACK_DEMO") == "1":
    app.include_router(slack_demo.router)

handler = StreamingAdapter(app, event_handler=on_event)

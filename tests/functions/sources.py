"""Events that are no HTTP requests, and who takes them."""

import logging
import threading
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from adapter import StreamingAdapter, current_invocation, log_filter
from record import record

app = FastAPI()
formatter = logging.Formatter("%(message)s %(aws_request_id)s %(trace_id)s tenant=%(tenant_id)s\n")
for log_handler in logging.getLogger().handlers:  # awslambdaric's
    log_handler.addFilter(log_filter)
    log_handler.setFormatter(formatter)


@app.post("/events")
async def events(request: Request, response: Response, background: BackgroundTasks) -> Any:
    event = await request.json()
    background.add_task(record, "background")
    kind = event.get("kind") if isinstance(event, dict) else None
    if kind == "text":
        return PlainTextResponse("no JSON")
    if kind == "nothing":
        return Response(status_code=204)
    if kind == "raise":
        raise ValueError("of the app")
    if kind == "status":
        response.status_code = event["status"]
    return {"event": event, "source": request.scope["aws.event"] == event, "type": request.headers["content-type"]}


def request_id() -> str:
    invocation = current_invocation()
    return invocation.request_id if invocation else ""


def sync_handler(event: Any, context: Any) -> Any:
    if event == "raise":
        raise ValueError("of the handler")
    return {"event": event, "request_id": context.aws_request_id, "same": request_id() == context.aws_request_id}


async def async_handler(event: Any, context: Any) -> Any:
    return {"async": event, "same": request_id() == context.aws_request_id}


seen: list[str] = []


def log(where: str) -> None:
    logging.getLogger().warning(where)


async def log_later(where: str) -> None:
    log(where)


@app.get("/log")
async def logs(background: BackgroundTasks) -> str:
    log("route")
    background.add_task(log_later, "task")
    background.add_task(log, "thread pool")
    thread = threading.Thread(target=log, args=("thread",))
    thread.start()
    thread.join()
    return request_id()


by_sync_handler = StreamingAdapter(app, lifespan="off", event_handler=sync_handler)
by_async_handler = StreamingAdapter(app, lifespan="off", event_handler=async_handler)
by_path = StreamingAdapter(app, lifespan="off", events_path="/events")
by_nobody = StreamingAdapter(app, lifespan="off")

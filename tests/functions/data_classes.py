"""A handler whose event is one of Powertools' data classes: the one that the event's ``DataClass`` names."""

from typing import Any

from aws_lambda_powertools.utilities import data_classes
from aws_lambda_powertools.utilities.data_classes import event_source
from fastapi import BackgroundTasks, FastAPI, Request

from adapter import StreamingAdapter
from record import record

app = FastAPI()


@app.post("/events")
async def no_request(request: Request) -> dict[str, Any]:
    return {"kind": type(request.scope["aws.event"]).__name__, "event": await request.json()}


@app.post("/{path:path}")
async def show(request: Request, background: BackgroundTasks) -> dict[str, Any]:
    background.add_task(record, "background")
    return {
        "kind": type(request.scope["aws.event"]).__name__,
        "path": request.url.path,
        "query": request.query_params.multi_items(),
        "name": request.headers["x-name"],
        "cookies": request.cookies,
        "body": (await request.body()).decode(),
    }


def on_event(event: Any, context: Any) -> dict[str, Any]:
    return {"kind": type(event).__name__, "first": event["Records"][0]}


by_handler = StreamingAdapter(app, event_handler=on_event)
by_path = StreamingAdapter(app, events_path="/events")


def handler(event: dict[str, Any], context: Any) -> Any:
    adapter = by_path if event.pop("ByPath", False) else by_handler

    @event_source(data_class=getattr(data_classes, event.pop("DataClass")))
    def decorated(event: Any, context: Any) -> Any:  # Powertools' decorators are for functions only
        return adapter(event, context)

    return decorated(event, context)

"""An app under FastAPI's own telemetry, which the environment variables alone set up."""

from fastapi import BackgroundTasks, FastAPI
from opentelemetry import trace

from adapter import StreamingAdapter
from record import record

app = FastAPI()
tracer = trace.get_tracer("reports")


async def work() -> None:
    with tracer.start_as_current_span("work"):
        record("background")


@app.get("/reports")
async def report(background: BackgroundTasks) -> str:
    background.add_task(work)
    return "made"


@app.get("/fails")
async def fails() -> str:
    raise KeyError("in the route")


handler = StreamingAdapter(app, after_response=lambda: record("hook"))
second = StreamingAdapter(app)

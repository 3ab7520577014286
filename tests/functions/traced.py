"""An app under OpenTelemetry's instrumentation for FastAPI, with the exporter and the processor that people use."""

import asyncio
import os

from fastapi import BackgroundTasks, FastAPI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from adapter import StreamingAdapter
from record import record

provider = TracerProvider(resource=Resource.create({"service.name": "reports"}))
# It would export by itself a minute after a span has ended.
exporter = OTLPSpanExporter(os.environ["COLLECTOR"])
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
tracer = provider.get_tracer("reports")

app = FastAPI()
FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)


async def work() -> None:
    with tracer.start_as_current_span("work"):
        await asyncio.sleep(0.01)
        record("background")


def work_in_a_thread() -> None:
    with tracer.start_as_current_span("work in a thread"):
        record("thread")


async def work_in_a_task() -> None:
    with tracer.start_as_current_span("work in a task"):
        await asyncio.sleep(0.05)
        record("task")


async def fail() -> None:
    raise ValueError("in the background")


started: list[asyncio.Task[None]] = []


@app.get("/reports")
async def report(background: BackgroundTasks) -> str:
    background.add_task(work)
    background.add_task(work_in_a_thread)
    started[:] = [asyncio.create_task(work_in_a_task())]
    return "made"


@app.get("/fails")
async def fails() -> str:
    raise KeyError("in the route")


@app.get("/background-fails")
async def background_fails(background: BackgroundTasks) -> str:
    background.add_task(fail)
    return "made"


handler = StreamingAdapter(app, after_response=provider.force_flush)

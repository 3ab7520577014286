"""An app whose handler has Powertools' decorators."""

import asyncio
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from fastapi import BackgroundTasks, FastAPI

from adapter import StreamingAdapter

logger = Logger(service="reports")
tracer = Tracer(service="reports")
metrics = Metrics(namespace="Reports", service="reports")

app = FastAPI()


@tracer.capture_method
async def work(number: int) -> None:
    await asyncio.sleep(0.01)
    logger.info("worked", number=number)
    metrics.add_metric("Worked", "Count", number)


@tracer.capture_method
def work_in_a_thread(number: int) -> None:
    logger.info("worked in a thread", number=number)
    metrics.add_metric("WorkedInAThread", "Count", number)


async def work_in_a_task(number: int) -> None:
    await asyncio.sleep(0.02)
    logger.info("worked in a task", number=number)
    metrics.add_metric("WorkedInATask", "Count", number)


async def fail() -> None:
    raise ValueError("in the background")


started: list[asyncio.Task[None]] = []


@app.get("/reports/{number}")
async def report(number: int, background: BackgroundTasks) -> int:
    logger.info("asked", number=number)
    background.add_task(work, number)
    background.add_task(work_in_a_thread, number)
    started[:] = [asyncio.create_task(work_in_a_task(number))]
    return number


@app.get("/fails/{number}")
async def fails(number: int, background: BackgroundTasks) -> int:
    background.add_task(work, number)
    background.add_task(fail)
    return number


adapter = StreamingAdapter(app)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> Any:
    return adapter(event, context)

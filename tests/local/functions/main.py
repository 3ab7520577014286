"""Handlers for the stock awslambdaric."""

import asyncio
import logging
import os
import socket
import threading
import time
from typing import Any

from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()


@app.get("/")
def root() -> dict[str, int]:
    return {"pid": os.getpid()}


ticks: dict[str, list[float]] = {"task": [], "thread": []}
orphans: set[asyncio.Task[None]] = set()


@app.get("/orphans")
async def leave_orphans() -> dict[str, object]:
    """Work that nobody waits for, which notes the time at each tick; answers when all has ticked since the request."""
    now = time.time()
    if not orphans:
        orphans.add(asyncio.create_task(tick_in_a_task()))
        threading.Thread(target=tick_in_a_thread, daemon=True).start()
    while any(not times or times[-1] < now for times in ticks.values()):
        await asyncio.sleep(0.001)
    return {"pid": os.getpid(), **ticks}


async def tick_in_a_task() -> None:
    while True:
        ticks["task"].append(time.time())
        await asyncio.sleep(0.01)


def tick_in_a_thread() -> None:
    while True:
        ticks["thread"].append(time.time())
        time.sleep(0.01)


mangum = Mangum(app, lifespan="off")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    print("pid", os.getpid())
    return {
        "pid": os.getpid(),
        "event": event,
        "request_id": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn,
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
    }


def fail(event: dict[str, Any], context: Any) -> None:
    raise ValueError("no\ntea")


def log(event: dict[str, Any], context: Any) -> str:
    """Records without a line end, and what is printed after them."""
    try:
        raise ValueError("caught")
    except ValueError:
        logging.exception("a traceback")
    print("after the traceback")
    logging.error("a stack", stack_info=True)
    print("after the stack")
    context.log("by the context")
    print("after the context's")
    print("begun, ", end="")
    logging.error("two\nlines \u20ac")
    print("ended")
    return "logged"


def sleep(event: dict[str, Any], context: Any) -> None:
    print("asleep")
    time.sleep(600)


def die(event: dict[str, Any], context: Any) -> None:
    os._exit(7)


def chatter(event: dict[str, Any], context: Any) -> str:
    """A thread that never stops printing."""

    def talk() -> None:
        while True:
            print("talk")

    threading.Thread(target=talk, daemon=True).start()
    return "said"


def meet(event: dict[str, Any], context: Any) -> int:
    """Wait for the test, at the gate whose port is the event's body."""
    logging.error("met %s", event["body"])
    with socket.create_connection(("127.0.0.1", int(event["body"]))) as gate:
        gate.sendall(b"%d\n" % os.getpid())
        gate.recv(1)
    return os.getpid()

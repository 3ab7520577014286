"""Handlers for the stock awslambdaric."""

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

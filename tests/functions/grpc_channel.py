"""A channel of gRPC's asyncio API that is made when its module is imported, as in most examples."""

import asyncio
import os
import sys
from typing import Any

import grpc.aio
from fastapi import FastAPI

from adapter import StreamingAdapter

if sys.version_info >= (3, 12):  # where none is set, gRPC makes a loop of its own, which nobody else knows of
    asyncio.set_event_loop(asyncio.new_event_loop())

channel = grpc.aio.insecure_channel(os.environ["UPSTREAM"])
call: Any = channel.unary_unary("/echo/Echo")
app = FastAPI()


@app.get("/")
async def root() -> str:
    reply: bytes = await call(b"hello")
    return reply.decode()


handler = StreamingAdapter(app)

"""A channel of gRPC's asyncio API that is made when its module is imported, as in most examples."""

import os
from typing import Any

import grpc.aio
from fastapi import FastAPI

from adapter import StreamingAdapter

channel = grpc.aio.insecure_channel(os.environ["UPSTREAM"])
call: Any = channel.unary_unary("/echo/Echo")
app = FastAPI()


@app.get("/")
async def root() -> str:
    reply: bytes = await call(b"hello")
    return reply.decode()


handler = StreamingAdapter(app)

"""Apps with a lifespan, good and bad, chosen by the environment variable APP."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request

from adapter import StreamingAdapter
from record import record


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    record("startup")
    if os.environ["APP"] == "fails":
        raise ConnectionError("no database")
    if os.environ["APP"] == "exits":
        raise SystemExit(7)
    async with httpx.AsyncClient() as client:  # bound to the loop it is used on
        yield {"client": client, "seen": []}


app = FastAPI(lifespan=lifespan)


@app.get("/state")
async def state(request: Request) -> dict[str, Any]:
    request.state.extra = "of this request"
    request.state.seen.append("shared")
    record("request")
    return {
        "seen": len(request.state.seen),
        "extra": sorted(request.scope["state"]),
        "client": request.state.client.is_closed,
    }


handler = StreamingAdapter(app, lifespan="off" if os.environ["APP"] == "off" else "auto")

"""An app that uses a library which runs event loops within the loop: it patches asyncio at its import."""

import asyncio
import importlib
import os

from fastapi import FastAPI

from adapter import StreamingAdapter

importlib.import_module(os.environ["NESTS_BY"]).apply()

app = FastAPI()


async def inner() -> int:
    await asyncio.sleep(0.01)
    return 42


@app.get("/")
async def root() -> int:
    return asyncio.run(inner())


handler = StreamingAdapter(app)

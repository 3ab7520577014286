"""Handlers whose invocations are cancelled at their n-th suspension: ``{"at": {"cancel" | "expire": n}}``."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, TypeAlias

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from adapter import StreamingAdapter, current_invocation, streamify
from adapter.environment import Environment
from adapter.work import Work
from record import record

Handler: TypeAlias = Callable[[Any, Any], Any]

at: dict[str, int] = {}


class Steps:
    """A coroutine, awaited step by step."""

    def __init__(self, work: Work, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.work = work
        self.coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        step, task = 0, asyncio.current_task()
        assert task is not None
        try:
            waited_for = self.coroutine.send(None)
            while True:
                step += 1
                if step == at.get("cancel"):
                    asyncio.get_running_loop().call_soon(task.cancel)
                    record("cancel")
                if step == at.get("expire"):
                    asyncio.get_running_loop().call_soon(self.work.expire)
                    record("expire")
                try:
                    value = yield waited_for
                except BaseException as exception:
                    waited_for = self.coroutine.throw(exception)
                else:
                    waited_for = self.coroutine.send(value)
        except StopIteration as end:
            return end.value


async def stepping(work: Work, coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await Steps(work, coroutine)


serve = Environment.serve


def serve_stepping(self: Environment, work: Work, handler: Coroutine[Any, Any, Any] | None) -> Any:
    return serve(self, work, stepping(work, handler) if handler is not None else None)


Environment.serve = serve_stepping  # type: ignore[method-assign]

app = FastAPI()


async def pieces() -> AsyncIterator[bytes]:
    for piece in (b"one", b"two"):
        yield piece
        await asyncio.sleep(0)


async def later() -> None:
    record("background")
    await asyncio.sleep(0)
    record("done")


@app.post("/")
async def answer(request: Request, background: BackgroundTasks) -> Any:
    await request.body()
    background.add_task(later)
    background.add_task(time.sleep, 0.001)
    return "answer"


@app.get("/stream")
async def stream() -> Any:
    return StreamingResponse(pieces(), background=BackgroundTask(later))


@app.get("/fail")
async def fail() -> Any:
    raise ValueError("failed")


def told_when(handler: Handler) -> Handler:
    def lambda_handler(event: Any, context: Any) -> Any:
        at.clear()
        at.update(event.get("at", {}))
        return handler(event, context)

    return lambda_handler


handler = told_when(StreamingAdapter(app))
buffered = told_when(StreamingAdapter(app, stream=()))


@told_when
@streamify
async def streamed(event: Any, response_stream: Any, context: Any) -> None:
    await response_stream.write("one")
    await asyncio.sleep(0)
    await response_stream.write("two")
    await response_stream.close()
    assert current_invocation() is not None
    await later()


@told_when
@streamify
def in_thread(event: Any, response_stream: Any, context: Any) -> None:
    response_stream.write("one")
    response_stream.write("two")
    response_stream.close()
    record("background")

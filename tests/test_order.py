"""The promise, under the stock awslambdaric: the order of what happens on both sides."""

import asyncio

import pytest

from .events import function_url
from .runtime_api import function

JSON = ["open", "prelude", "chunk", "close"]
ASYNC = ["background", "background-done", "next"]

ROUTES = {
    "/async": (JSON, ASYNC),
    "/sync": (JSON, ["background", "next"]),
    "/several": (JSON, ["one", "one-done", "two", "three", "three-done", "next"]),
    "/stream": (["open", "prelude", "chunk", "chunk", "chunk", "close"], ASYNC),
    "/plain/text": (JSON, ASYNC),
    "/plain/json": (JSON, ["background", "background-done", "second", "next"]),
    "/plain/stream": (["open", "prelude", "chunk", "chunk", "chunk", "close"], ASYNC),
}


@pytest.mark.parametrize("middleware", ["", "base", "cors", "gzip", "all"])
async def test_background_runs_after_the_stream_and_before_the_next_event(middleware: str) -> None:
    async with function("background.handler", env={"MIDDLEWARE": middleware}) as running:
        for path, (response, background) in ROUTES.items():
            headers = {"accept-encoding": "identity", "origin": "https://example.com"}
            invoked = await running.api.run(function_url(path, headers=headers))
            assert invoked.events == response + background, path
            assert invoked.prelude["statusCode"] == 200
            assert invoked.result is None and invoked.error is None
    assert not [event for event in running.api.log if event.startswith(("refused", "broken"))]
    assert running.process.returncode == 1  # awslambdaric's own way out when its Runtime API is gone


async def test_the_background_of_a_dependency() -> None:
    async with function("background.handler") as running:
        invoked = await running.api.run(function_url("/dependency"))
    assert invoked.events[:4] == JSON
    assert sorted(invoked.events[4:-1]) == ["background", "background-done", "teardown"]
    assert invoked.events[-1] == "next"


async def test_a_compressed_stream_closes_before_its_background() -> None:
    async with function("background.handler", env={"MIDDLEWARE": "all"}) as running:
        invoked = await running.api.run(function_url("/stream", headers={"accept-encoding": "gzip"}))
    assert invoked.prelude["headers"]["content-encoding"] == "gzip"
    assert [event for event in invoked.events if event != "chunk"] == ["open", "prelude", "close", *ASYNC]


async def test_background_waits_for_the_202() -> None:
    async with function("background.handler") as running:
        running.api.gate.clear()
        invoked = await running.api.invoke(function_url("/async"))
        await invoked.closed.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(invoked.finished.wait(), 0.3)
        assert invoked.events == JSON
        running.api.gate.set()
        await invoked.finished.wait()
        assert invoked.events == JSON + ASYNC

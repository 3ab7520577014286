"""Under Sentry's integrations for Lambda, FastAPI and asyncio: one event for one failure, out before the next request,
and nothing is posted twice."""

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .collector import Collector, collecting
from .events import function_url
from .runtime_api import function
from .snippet import snippet

RESPONSE = ["open", "prelude", "chunk", "close"]


def reports(envelope: bytes) -> list[str]:
    """What each event of an envelope is about: https://develop.sentry.dev/sdk/foundations/envelopes/"""
    about = []
    for item in map(json.loads, envelope.splitlines()):
        if "exception" in item:
            about.append(" in ".join(f"{value['type']}: {value['value']}" for value in item["exception"]["values"]))
        elif "logentry" in item:
            about.append(item["logentry"]["formatted"])
    return about


@pytest.fixture
async def sentry() -> AsyncIterator[Collector]:
    async with collecting(reports) as sentry:
        yield sentry


ROUTE = ["KeyError: 'in the route'"]
BACKGROUND = ["ValueError: in the background"]
TASK = ["OSError: in a task"]


@pytest.mark.parametrize("middleware", ["", "base"])
async def test_one_event_for_each_failure(sentry: Collector, middleware: str) -> None:
    env = {"DSN": f"http://key@{sentry.address}/1", "MIDDLEWARE": middleware}
    async with function("watched.handler", env=env) as running:
        sentry.api = running.api
        assert (await running.api.run(function_url("/fine"))).events == [*RESPONSE, "next"]
        failed = await running.api.run(function_url("/fails"))
        assert failed.prelude["statusCode"] == 500
        assert failed.events == [*RESPONSE, *ROUTE, "next"]
        invoked = await running.api.run(function_url("/background"))
        assert invoked.events == [*RESPONSE, "background", *BACKGROUND, "next"]
        invoked = await running.api.run(function_url("/task"))
        assert invoked.events == [*RESPONSE, "task", *TASK, "next"]
        # What the integration sees after the response, it reports, flushes, and raises on; the post is held back.
        invoked = await running.api.run(function_url("/fine", query="raise"))
        assert invoked.events == [*RESPONSE, "LookupError: after the response", "next"]
        assert (await running.api.run(function_url("/fine"))).events == [*RESPONSE, "next"]
    assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]


@pytest.mark.parametrize(("only_lambda", "times"), [("", 2), ("1", 1)])
async def test_background_errors_that_are_raised(sentry: Collector, only_lambda: str, times: int) -> None:
    """The integration for Lambda reports what the handler raises: whatever another one has reported before."""
    env = {"DSN": f"http://key@{sentry.address}/1", "RAISE": "1", "ONLY_LAMBDA": only_lambda}
    async with function("watched.handler", env=env) as running:
        sentry.api = running.api
        invoked = await running.api.run(function_url("/background"))
        assert invoked.events == [*RESPONSE, "background", *BACKGROUND * times, "next"]
        invoked = await running.api.run(function_url("/task"))
        assert invoked.events == [*RESPONSE, "task", *TASK * times, "next"]
        # Starlette raises what a route has raised, too, when its 500 is out: that is no background error.
        assert (await running.api.run(function_url("/fails"))).events == [*RESPONSE, *ROUTE, "next"]
        assert (await running.api.run(function_url("/fine"))).events == [*RESPONSE, "next"]
    assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]


async def test_which_tasks_are_waited_for(sentry: Collector) -> None:
    """The integration wraps every task: what it wraps, and where that comes from, is seen all the same."""
    async with function("watched.handler", env={"DSN": f"http://key@{sentry.address}/1"}) as running:
        sentry.api = running.api
        await running.api.run(function_url("/fine"))
        seconds = []
        for path in ("/lifespan", "/endless", "/lifespan", "/endless"):
            before = time.monotonic()
            assert (await running.api.run(function_url(path))).events == [*RESPONSE, "next"]
            seconds.append(time.monotonic() - before)
        assert (await running.api.run(function_url("/task"))).events == [*RESPONSE, "task", *TASK, "next"]
    # Each kind is waited for once, and named, with the line of the app that has started it.
    warnings = [line for line in running.output.splitlines() if line.startswith("[WARNING]")]
    named = [re.findall(r"Task (\w+), created at \S*watched\.py:", line) for line in warnings]
    assert named == [["watch"], ["endless"]]
    assert min(seconds[:2]) >= 1 > min(seconds[2:])


async def test_the_margin_has_room_for_a_flush(sentry: Collector) -> None:
    """As docs/background.md says: Sentry waits up to 2 s when the handler has returned."""
    env = {"DSN": f"http://key@{sentry.address}/1", "MARGIN": "5", "FLUSH": "2"}
    async with function("watched.handler", env=env) as running:
        sentry.api, sentry.delay = running.api, 1.2
        await running.api.run(function_url("/fine"))
        running.api.timeout = 8  # of which 5 are margin, and 3 would do on a machine that has nothing else to do
        before = time.monotonic()
        invoked = await running.api.run(function_url("/too-long"))
        assert time.monotonic() - before < 8
        *events, report, last = invoked.events
        assert (events, last) == ([*RESPONSE, "cancelled"], "next")
        assert report.startswith("Background task watched.too_long was cancelled")


async def test_the_docs(sentry: Collector, tmp_path: Path) -> None:
    env = {**snippet("sentry_sdk", tmp_path), "SENTRY_DSN": f"http://key@{sentry.address}/1"}
    async with function("main.handler", env=env) as running:
        sentry.api = running.api
        invoked = await running.api.run(function_url())
        assert invoked.body == b'"hello"'
        assert invoked.events == [*RESPONSE, "ValueError: no such report", "next"]

"""When the time is up, or the process has to end, what is under way is told where it waits, and does not go on."""

import asyncio
import signal
import time
from typing import Any

import pytest

from adapter.background import _wait
from adapter.invocation import Invocation
from adapter.work import Rules, Work

from .events import function_url
from .runtime_api import function

BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])


@BOTH
@pytest.mark.parametrize("place", ["route", "background", "until"])
@pytest.mark.parametrize("how", ["TaskGroup", "anyio", "wait", "gather"])
async def test_what_was_cancelled_is_not_taken_for_done(client: str, place: str, how: str) -> None:
    async with function("deadlines.handler", client=client) as running:
        running.api.timeout = 1.0
        invoked = await running.api.run(function_url(f"/{place}/{how}"))
        assert "cancelled" in invoked.events and "marked-as-done" not in invoked.events
        if place == "route":
            assert invoked.prelude["statusCode"] == 504
        running.api.timeout = 30
        assert (await running.api.run(function_url("/fine"))).body == b'"fine"'


@BOTH
async def test_what_a_request_waits_for_is_no_background_work(client: str) -> None:
    """Its caller gets the 504, and the hook for background work hears nothing."""
    async with function("deadlines.handler", client=client) as running:
        running.api.timeout = 1.0
        invoked = await running.api.run(function_url("/route/TaskGroup"))
        assert not [event for event in invoked.events if event.startswith("hook")]
        invoked = await running.api.run(function_url("/background/TaskGroup"))
        assert "hook-deadlines.fan_out" in invoked.events
    assert "Task item was cancelled" in running.output and "Background task item was cancelled" in running.output


@BOTH
async def test_a_gather_is_no_thread(client: str) -> None:
    async with function("deadlines.handler", client=client) as running:
        running.api.timeout = 1.0
        invoked = await running.api.run(function_url("/gathered"))
        assert invoked.events.count("cancelled") == 2
    assert "in a thread" not in running.output and "never retrieved" not in running.output


@BOTH
@pytest.mark.parametrize("what", ["/until/TaskGroup", "/task", "hook"])
async def test_sigterm_while_what_follows_the_response_is_waited_for(client: str, what: str) -> None:
    async with function("deadlines.handler", client=client, env={"HOOK": "1"} if what == "hook" else {}) as running:
        invoked = await running.api.invoke(function_url("/fine" if what == "hook" else what))
        await invoked.closed.wait()
        while what == "hook" and "hook" not in invoked.events:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # until it waits, and for nothing else
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit() == 0
    ended = [entry for entry in running.api.log if entry in ("cancelled", "marked-as-done", "shutdown")]
    assert ended == ["cancelled"] * (2 if what == "/until/TaskGroup" else 1) + ["shutdown"]


@BOTH
async def test_an_object_that_does_not_like_to_be_asked(client: str) -> None:
    async with function("deadlines.handler", client=client) as running:
        invoked = await running.api.run(function_url("/attributes"))
        assert invoked.events == ["open", "prelude", "chunk", "close", "worked", "next"]


async def test_a_timer_that_is_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """As uvloop's are, by less than a millisecond: there is time until the limit, and not before is it up."""
    real = asyncio.wait

    def early(futures: Any, *, timeout: float | None = None, **kwargs: Any) -> Any:
        return real(futures, timeout=timeout / 2 if timeout and timeout > 0.01 else timeout, **kwargs)

    monkeypatch.setattr(asyncio, "wait", early)
    work = Work(Invocation("r"), Rules())
    work.limit = time.monotonic() + 0.2
    task = asyncio.create_task(asyncio.sleep(60))
    assert await _wait(work, [task]) == {task}
    assert time.monotonic() >= work.limit
    task.cancel()

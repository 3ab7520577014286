"""When the time is up, or the process has to end, what is under way is told where it waits, and does not go on."""

import asyncio
import json
import signal
import time
from typing import Any

import pytest

from adapter.background import _wait
from adapter.invocation import Invocation
from adapter.work import ReadyQueue, Rules, Work

from .events import Sent, function_url, http_api_event
from .runtime_api import Invoked, ManagedRuntimeAPI, function

BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])


def http_api(path: str) -> dict[str, Any]:
    return http_api_event(Sent(path))


def head(path: str) -> dict[str, Any]:
    return function_url(path, method="HEAD")


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


class TestAnAppThatAwaitsNothing:
    """Its pieces are taken as fast as it makes them: the loop turns all the same, and the deadline is heard of."""

    @BOTH
    @pytest.mark.parametrize("size", [1, 1000])
    @pytest.mark.parametrize("fate", ["streamed", "lost", "buffered", "head"])
    async def test_it_is_cancelled_at_the_deadline(self, client: str, size: int, fate: str) -> None:
        make = {"buffered": http_api, "head": head}.get(fate, function_url)
        async with function("deadlines.handler", client=client) as running:
            running.api.timeout = 1.5
            running.api.refuse_with = 413 if fate == "lost" else None
            invoked = await running.api.run(make(f"/busy/{size}"))
            assert invoked.events[-1] == "next"
            if fate == "streamed":
                assert invoked.failure[0] == "Function.DeadlineExceeded"
            if fate == "buffered":
                assert json.loads(invoked.result or b"")["statusCode"] == 504
            running.api.timeout = 30
            assert (await running.api.run(function_url("/fine"))).body == b'"fine"'
        assert running.api.log.count("shutdown") == 0

    @BOTH
    @pytest.mark.parametrize("status", [None, 413])
    async def test_it_may_be_a_streaming_handler(self, client: str, status: int | None) -> None:
        async with function("deadlines.busy_writer", client=client) as running:
            running.api.timeout = 1.5
            running.api.refuse_with = status
            assert "closed" in (await running.api.run({"is": "busy"})).events
            running.api.timeout = 30
            assert (await running.api.run({"is": "fine"})).raw == b"fine"

    async def test_others_go_on_beside_it(self) -> None:
        api = ManagedRuntimeAPI()
        env = {"AWS_LAMBDA_MAX_CONCURRENCY": "2"}
        async with function("deadlines.handler", client="adapter", api=api, env=env) as running:
            running.api.timeout = 6
            busy = await running.api.invoke(http_api("/busy/1"))
            for _ in range(3):
                invoked = await running.api.run(function_url("/fine"))
                assert invoked.body == b'"fine"' and not busy.finished.is_set()
            await asyncio.wait_for(busy.finished.wait(), 20)


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


async def ending_late(path: str, client: str, handler: str = "handler", seconds: float = 6.0) -> tuple[Invoked, str]:
    """An invocation that is under way at its deadline; one that is not follows in the same environment."""
    async with function(f"cleanup.{handler}", client=client) as running:
        running.api.timeout = seconds
        invoked = await running.api.run(function_url(path))
        running.api.timeout = 30
        assert (await running.api.run(function_url("/fine") if handler != "streamed" else {})).answered
    return invoked, running.output


@BOTH
@pytest.mark.parametrize("path", ["/route", "/dependency", "/stream", "/background", "/until", "/several"])
async def test_cleanup_has_half_of_the_margin(client: str, path: str) -> None:
    invoked, _ = await ending_late(path, client)
    assert "cleaned" in invoked.events and "cleaned-cut" not in invoked.events


@BOTH
@pytest.mark.parametrize("path", ["/shield", "/shield/awaited", "/shield/kept"])
async def test_what_is_shielded_or_begun_by_the_cleanup_ends_within_its_invocation(client: str, path: str) -> None:
    invoked, output = await ending_late(path, client)
    work = [event for event in invoked.events if event.startswith("commit")]
    assert work == ["commit", "committed"] and "commit was" not in output


@BOTH
async def test_what_is_shielded_is_cancelled_at_last_and_named(client: str) -> None:
    invoked, output = await ending_late("/shield/endless", client)
    assert "committed-cut" in invoked.events
    assert "Background task commit was cancelled; after" in output


@BOTH
async def test_a_task_that_nobody_waits_for_outlives_the_deadline(client: str) -> None:
    """At the end of its response, and while its handler is still under way; each kind is named once."""
    async with function("cleanup.short", client=client) as running:
        running.api.timeout = 1.5
        assert (await running.api.run(function_url("/left"))).body == b"2"
        assert (await running.api.run(function_url("/left", query="late=1"))).prelude["statusCode"] == 504
        assert (await running.api.run(function_url("/left"))).body == b"2"
    assert running.output.count("Task for_life, created at ") == running.output.count("drain_timeout") == 1
    assert "is still running at the deadline of RequestId" in running.output
    assert "Task for_life was cancelled" not in running.output


@BOTH
async def test_a_task_that_the_application_alone_knows_to_be_its_own_is_left_and_named(client: str) -> None:
    _, output = await ending_late("/as-completed", client, "short", 1.5)
    assert "Task left, created at " in output and "Task left was cancelled" not in output


@pytest.mark.parametrize("how", ["shield", "await"])
async def test_a_task_that_another_request_waits_for_is_not_cancelled(how: str) -> None:
    api, environment = ManagedRuntimeAPI(), {"AWS_LAMBDA_MAX_CONCURRENCY": "2"}
    async with function("cleanup.short", client="adapter", api=api, env=environment) as running:
        api.timeout = 2
        first = await api.invoke(function_url(f"/shared/{how}"))
        while api.log.count("waits") < 1:
            await asyncio.sleep(0.01)
        api.timeout = 30
        second = await api.run(function_url(f"/shared/{how}"))
        assert first.prelude["statusCode"] == 504
        assert (second.prelude["statusCode"], second.body) == (200, b'"token"')
    assert api.log.count("fetched") == 1 and "fetch was cancelled" not in running.output


async def test_of_a_loop_that_does_not_tell_something_is_always_ready() -> None:
    loop: Any = object()
    queue = ReadyQueue(loop)
    assert queue
    await queue.empty(3)
    assert queue

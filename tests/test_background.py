"""What an invocation started, it finishes: in order, inside its deadline, and seen when it fails."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adapter import (
    AppError,
    BackgroundFailure,
    ConfigurationError,
    DeadlineExceeded,
    Executor,
    StreamingAdapter,
    remaining_time,
    streamify,
    wait_until,
)
from adapter.background import _cancel_at_last
from adapter.environment import Environment
from adapter.invocation import Invocation, enter, leave
from adapter.work import Rules, Work

from .events import function_url
from .runtime_api import Function, Invoked, function
from .snippet import snippet

RESPONSE = ["open", "prelude", "chunk", "close"]


def lines(running: Function, pattern: str) -> list[str]:
    return [line for line in running.output.splitlines() if re.search(pattern, line)]


async def test_tasks_are_waited_for_and_those_that_they_start() -> None:
    async with function("aftermath.handler") as running:
        for _ in range(2):
            invoked = await running.api.run(function_url("/tasks"))
            assert invoked.events[:4] == RESPONSE
            assert sorted(invoked.events[4:-1]) == ["child", "first", "grandchild", "parent"]
            assert invoked.events[-1] == "next"
        assert (await running.api.run(function_url("/group"))).events == [*RESPONSE, "grouped", "next"]
        # Behind BaseHTTPMiddleware the route runs in a task of anyio's.
    async with function("aftermath.handler", env={"MIDDLEWARE": "1"}) as running:
        invoked = await running.api.run(function_url("/tasks"))
        assert sorted(invoked.events[4:-1]) == ["child", "first", "grandchild", "parent"]


async def test_without_a_drain_the_invocation_ends_with_its_handler() -> None:
    async with function("aftermath.without") as running:
        assert (await running.api.run(function_url("/tasks"))).events == [*RESPONSE, "next"]


async def test_a_kind_of_which_none_is_left_is_waited_for_again() -> None:
    async with function("aftermath.handler") as running:
        assert (await running.api.run(function_url("/held"))).events == [*RESPONSE, "next"]
        assert (await running.api.run(function_url("/held"))).events == [*RESPONSE, "next"]  # one lives
        assert (await running.api.run(function_url("/release"))).events == [*RESPONSE, "held", "held", "next"]
        assert (await running.api.run(function_url("/release", query="held=1"))).events == [*RESPONSE, "held", "next"]
    assert len(lines(running, "is still running")) == 1


async def test_a_kind_is_not_waited_for_while_one_of_several_is_left() -> None:
    async with function("aftermath.handler") as running:
        assert (await running.api.run(function_url("/held/several"))).events == [*RESPONSE, "next"]
        assert (await running.api.run(function_url("/release"))).events == [*RESPONSE, "held", "held", "next"]
        assert (await running.api.run(function_url("/held"))).events == [*RESPONSE, "held", "next"]
    assert len(lines(running, "is still running")) == 1


async def test_a_task_that_fails_after_its_invocation_has_ended_is_logged_as_its() -> None:
    async with function("aftermath.handler") as running:
        begun = await running.api.run(function_url("/held/failing"))
        assert begun.events == [*RESPONSE, "next"]
        assert (await running.api.run(function_url("/let-go"))).events == [*RESPONSE, "next"]
    assert len(lines(running, "is still running")) == 1
    assert (
        len(lines(running, rf"Background task held_and_failing \(.*\) failed in RequestId '{begun.request_id}'")) == 1
    )
    assert len(lines(running, "^LookupError: too late")) == 1


async def test_a_task_that_the_application_cancels_is_no_failure() -> None:
    async with function("aftermath.noting") as running:
        cancelled = await running.api.run_held(function_url("/cancel"), "cancelling")
        assert cancelled.events == [*RESPONSE, "cancelling", "next"]
    assert lines(running, "Background work of")[0].endswith("2 tasks run, 0 failed, 1 cancelled")
    assert not lines(running, "ERROR")


async def test_one_exception_of_two_tasks_is_one_failure() -> None:
    async with function("aftermath.noting") as running:
        invoked = await running.api.run(function_url("/twice"))
        assert invoked.events == [*RESPONSE, "failing:LookupError:True:36", "next"]
    assert len(lines(running, "^LookupError: ")) == 1


async def test_an_application_that_fails_when_its_background_tasks_are_done() -> None:
    async with function("aftermath.failing_at_last") as running:
        invoked = await running.api.run(function_url("/slow/short"))
        assert invoked.events == [*RESPONSE, "short", "of%20the%20application:RuntimeError:True:36", "next"]
    assert len(lines(running, "The application failed in RequestId .* already had the whole response, status 200")) == 1


async def test_an_endless_task_costs_one_drain_and_one_warning() -> None:
    async with function("aftermath.handler") as running:
        seconds = []
        for _ in range(4):
            begun = time.monotonic()
            assert (await running.api.run(function_url("/endless"))).events == [*RESPONSE, "next"]
            seconds.append(time.monotonic() - begun)
        assert (await running.api.run(function_url("/tasks"))).events[-1] == "next"
    assert seconds[0] > 0.3  # the drain's
    (warning,) = lines(running, "is still running")
    assert re.search(r"Task endless, created at \S+aftermath\.py:\d+, is still running 0\.3 s after", warning)


async def test_tasks_in_the_groups_of_the_lifespan_are_left_to_themselves_in_the_end() -> None:
    async with function("aftermath.handler") as running:
        assert (await running.api.run(function_url("/lifespan"))).events == [*RESPONSE, "next"]
        assert (await running.api.run(function_url("/endless"))).events == [*RESPONSE, "next"]
    # Each kind is named once; what is in the group of another task is a part of that.
    assert sorted(re.findall(r"Task (\S+), created at .* is still running", running.output)) == [
        "endless",
        "in_the_groups_of_the_lifespan.<locals>.with_children",
    ]


async def test_what_it_is_asked_to_wait_for() -> None:
    async with function("aftermath.handler") as running:
        for _ in range(2):
            invoked = await running.api.run(function_url("/until"))
            # What was begun before the response may be done before it, too.
            asked = ["coroutine", "executor", "from-a-thread", "from-a-thread-pool", "future", "pool"]
            assert sorted(set(invoked.events) - {*RESPONSE, "next"}) == asked
            assert invoked.events[-1] == "next"


async def test_failures_are_logged_once_with_name_and_request_id() -> None:
    async with function("aftermath.handler") as running:
        invoked = await running.api.run(function_url("/fail"))
        assert invoked.events == [*RESPONSE, "next"]
        assert (await running.api.run(function_url("/handled"))).body == b'"2"'
    request_id = re.escape(f"RequestId '{invoked.request_id}'")
    assert len(lines(running, rf"Background task failing \(\S+aftermath.py:\d+\) failed in {request_id}")) == 2
    assert len(lines(running, rf"Background task builtins.int failed in {request_id}")) == 1
    assert len(lines(running, "^LookupError: ")) == 2
    assert len(lines(running, "^ValueError: invalid literal")) == 2
    assert not lines(running, "never retrieved")
    record = lines(running, "Background work of RequestId")
    assert len(record) == 1
    assert record[0].endswith("3 tasks run, 4 failed, 0 cancelled")


async def test_a_failing_background_task_is_known_by_its_function() -> None:
    for env in ({}, {"MIDDLEWARE": "1"}):
        async with function("aftermath.handler", env=env) as running:
            invoked = await running.api.run(function_url("/background"))
            # The rest of the list is not begun: Starlette's rule.
            assert invoked.events == [*RESPONSE, "background", "background", "next"]
            assert (await running.api.run(function_url("/error"))).prelude["statusCode"] == 500
        failed, error = lines(running, "failed in RequestId .*; its caller already had the whole response")
        assert f"Background task aftermath.refuse failed in RequestId '{invoked.request_id}'" in failed
        assert len(lines(running, "^ValueError: refused")) == 1
        # A route's failure is none of background work: Starlette answers with a 500, and then raises it.
        assert "The application failed" in error and error.endswith("status 500")
        assert len(lines(running, "Background work of")) == 1
        assert lines(running, "Background work of")[0].endswith("2 tasks run, 1 failed, 0 cancelled")


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("handler", ["noting", "noting_in_a_group"])
async def test_it_is_known_by_its_function_also_where_the_application_raises_another(client: str, handler: str) -> None:
    """Starlette does, for an exception that has a handler; a middleware's task group does for all of them."""
    raised = {"plain": "ValueError", "refuse": "HTTPException", "charge": "Quota", "rename": "ValueError"}
    async with function(f"reasons.{handler}", client=client) as running:
        for path, status in (("works", 200), ("unavailable", 503)):
            for name, kind in raised.items():
                invoked = await running.api.run(function_url(f"/{path}/{name}"))
                assert invoked.prelude["statusCode"] == status
                (heard,) = invoked.events[4:-1]
                assert heard.startswith(f"reasons.{name}:{kind}:<BackgroundFailure_of_reasons.{name}:_{kind}(")
    for name in raised:
        assert running.output.count(f"Background task reasons.{name} failed in RequestId") == 2
    assert "The application failed" not in running.output


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_it_can_be_raised_whatever_the_status(client: str) -> None:
    async with function("reasons.raising_caught", client=client) as running:
        for path in ("works", "unavailable"):
            invoked = await running.api.run(function_url(f"/{path}/refuse"))
            assert invoked.events == [*RESPONSE, "next"]
    assert running.output.count("[ERROR] HTTPException: 404: the reason") == 2
    assert "failed in RequestId" not in running.output


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_it_is_known_though_its_response_is_lost(client: str) -> None:
    async with function("reasons.noting", client=client) as running:
        running.api.refuse_with = 413
        invoked = await running.api.run(function_url("/works/charge"))
        assert any(event.startswith("reasons.charge:Quota") for event in invoked.events)
    assert "Background task reasons.charge failed in RequestId" in running.output
    assert "its caller was gone" in running.output


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_a_name_is_found_without_the_applications_attribute_access(client: str) -> None:
    async with function("guarded.handler", client=client) as running:
        for path in ("/task", "/endless", "/until", "/background", "/method"):
            assert (await running.api.run(function_url(path))).events == [*RESPONSE, "next"]
        running.api.timeout = 2
        assert (await running.api.run(function_url("/late"))).events == [*RESPONSE, "next"]
    for name in (
        r"Background task Guarded\.fail \(\S+guarded\.py:\d+\) failed",
        r"Background task \S*_wrap_awaitable \(\S+guarded\.py:\d+\) failed",  # made by `wait_until`, for the app
        r"Background task guarded\.Guarded failed",
        r"Background task guarded\.Guarded\.fail failed",
        r"Task Guarded\.wait, created at \S+guarded\.py:\d+, is still running",
        r"Background task Guarded\.wait was cancelled",
        r"The after_response hook guarded\.Hook failed",
        r"The on_background_error hook guarded\.Hook failed",
    ):
        assert re.search(name, running.output), name


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("handler", ["handler", "raising"])
async def test_the_applications_own_exception_handler_hears_of_a_failed_task(client: str, handler: str) -> None:
    """That of the loop: in place of the log line, as behind a server."""
    async with function(f"reporting.{handler}", client=client) as running:
        invoked = await running.api.run(function_url("/task"))
        assert sorted(invoked.events[4:-1]) == ["heard:LookupError:Task", *(["noted"] if handler == "handler" else [])]
        until = await running.api.run(function_url("/until"))
        assert sorted(until.events[4:-1]) == ["heard:LookupError:Task", *(["noted"] if handler == "handler" else [])]
        callback = await running.api.run(function_url("/callback"))
        assert "heard:ZeroDivisionError:None" in callback.events
    assert "failed in RequestId" not in running.output
    assert running.output.count("[ERROR] LookupError: no tea") == (2 if handler == "raising" else 0)


def test_an_exception_handler_that_the_loop_has_stays() -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(print)
    assert Environment(loop=loop).loop.get_exception_handler() is print
    loop.close()


async def test_the_cost_record_has_fields() -> None:
    env = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO", "POWERTOOLS_METRICS_NAMESPACE": "tests"}
    async with function("aftermath.noting", env={**env, "POWERTOOLS_SERVICE_NAME": "a"}) as running:
        first = await running.api.run(function_url("/background"))
        await running.api.run(function_url("/pid"))  # which has none
    found = [json.loads(line) for line in running.output.splitlines() if "response_ms" in line]
    (record,), (metrics,) = ([e for e in found if "_aws" not in e], [e for e in found if "_aws" in e])
    assert record["requestId"] == first.request_id
    assert 0 < record["response_ms"] and 50 < record["background_ms"]
    figures = {"tasks_run": 2, "tasks_failed": 1, "tasks_cancelled": 0}
    assert {name: record[name] for name in figures} == figures
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "tests" and directive["Dimensions"] == [["service"]]
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert units == {"response_ms": "Milliseconds", "background_ms": "Milliseconds"} | dict.fromkeys(figures, "Count")
    assert {name: metrics[name] for name in figures} == {name: [value] for name, value in figures.items()}
    assert metrics["background_ms"] == [record["background_ms"]]
    assert metrics["function_request_id"] == first.request_id


@pytest.mark.parametrize("handler", ["noting", "noting_async"])
async def test_the_hook_for_failures(handler: str) -> None:
    async with function(f"aftermath.{handler}") as running:
        invoked = await running.api.run(function_url("/several"))
        assert sorted(invoked.events[4:-1]) == [
            "aftermath.refuse:ValueError:True:36",
            "background",
            "failing:LookupError:True:36",
        ]
        assert (await running.api.run(function_url("/pid"))).events == [*RESPONSE, "next"]
    assert len(lines(running, r"The on_background_error hook aftermath\.anote failed in RequestId")) == (
        2 if handler == "noting_async" else 0
    )


async def test_failures_can_be_raised() -> None:
    async with function("aftermath.raising") as running:
        one = await running.api.run(function_url("/background"))
        assert one.events == [*RESPONSE, "background", "background", "next"]  # and no post of it
        assert not running.api.log.count("refused")
        several = await running.api.run(function_url("/several"))
        assert several.events == [*RESPONSE, "background", "next"]
        assert (await running.api.run(function_url("/pid"))).events == [*RESPONSE, "next"]
    assert len(lines(running, r"^\[ERROR\] ValueError: refused")) == 1
    assert len(lines(running, r"^\[ERROR\] ExceptionGroup: background work has failed \(2 sub-exceptions\)")) == 1
    assert not lines(running, "failed in RequestId")


async def test_hooks_run_after_everything_in_order_whatever_happened() -> None:
    hooks = ["hook", "async-hook", "async-hook"]
    async with function("aftermath.hooked") as running:
        assert (await running.api.run(function_url("/pid"))).events == [*RESPONSE, *hooks, "next"]
        assert (await running.api.run(function_url("/error"))).events == [*RESPONSE, *hooks, "next"]
        invoked = await running.api.run(function_url("/background"))
        assert invoked.events == [*RESPONSE, "background", "background", *hooks, "next"]
    assert len(lines(running, r"The after_response hook aftermath\.broken failed in RequestId")) == 3
    assert len(lines(running, "^OSError: hook broken")) == 3


async def test_of_streamify() -> None:
    async with function("aftermath.streamed") as running:
        assert (await running.api.run({"do": "task"})).events == [
            "open",
            "chunk",
            "close",
            "later",
            "async-hook",
            "next",
        ]
        failed = await running.api.run({"do": "fail"})
        noted = "aftermath.streamed:ValueError:True:36"
        assert failed.events == ["open", "chunk", "close", noted, "async-hook", "next"]
    assert len(lines(running, "ValueError: after the end")) == 1


@pytest.mark.parametrize("handler", ["events", "decorated"])
async def test_of_event_handlers_under_the_asyncio_runtime(handler: str) -> None:
    async with function(f"aftermath.{handler}", client="adapter") as running:
        submitted = await running.api.run({"do": "executor"})
        assert (submitted.events, submitted.result) == (["executor", "async-hook", "response", "next"], b'"submitted"')
        failed = await running.api.run({"do": "fail"})
        assert b"nothing there" in (failed.error or b"") and failed.events == ["async-hook", "error", "next"]
        assert (await running.api.run(function_url("/pid"))).prelude["statusCode"] == 200


async def test_of_async_event_handlers_under_the_asyncio_runtime() -> None:
    async with function("aftermath.events_async", client="adapter") as running:
        assert (await running.api.run({"do": "task"})).events == ["later", "response", "next"]
        running.api.timeout = 1
        invoked = await running.api.run({"do": "long"})
        assert invoked.events == ["long", "cleaned", "cleaned-up", "error", "next"]


async def test_an_adapter_that_is_built_with_the_first_event() -> None:
    for client in ("awslambdaric", "adapter"):
        async with function("aftermath.lazy", client=client) as running:
            for _ in range(2):
                assert (await running.api.run(function_url("/tasks"))).prelude["statusCode"] == 200
        assert not running.api.log.count("refused")


async def test_of_event_handlers() -> None:
    async with function("aftermath.events") as running:
        submitted = await running.api.run({"do": "executor"})
        assert (submitted.events, submitted.result) == (["executor", "async-hook", "response", "next"], b'"submitted"')
        failed = await running.api.run({"do": "coroutine"})
        assert b"needs the event loop" in (failed.error or b"")
        failed = await running.api.run({"do": "fail"})
        assert b"nothing there" in (failed.error or b"") and failed.events == ["async-hook", "error", "next"]
    async with function("aftermath.events_async") as running:
        assert (await running.api.run({"do": "task"})).events == ["later", "response", "next"]
        running.api.timeout = 1
        invoked = await running.api.run({"do": "long"})
        assert invoked.events == ["long", "cleaned", "cleaned-up", "error", "next"]
        assert json.loads(invoked.error or b"")["errorType"] == "DeadlineExceeded"


async def test_the_docs(tmp_path: Path) -> None:
    async with function(
        "main.handler", env=snippet("adapter import Executor, StreamingAdapter, remaining_time", tmp_path)
    ) as running:
        assert (await running.api.run(function_url())).body == b'"hello"'
    # A print is two writes, and the other thread's can come between them: these are pieces, not lines.
    assert len(re.findall(r"in a thread", running.output)) == 1
    assert len(re.findall(r"seen: 2\d seconds are left", running.output)) == 1
    async with function("main.handler", env=snippet("adapter import BackgroundFailure", tmp_path)) as running:
        invoked = await running.api.run(function_url())
        assert invoked.body == b'"hello"'
    failed, last = running.output.splitlines()[-2:]
    said = rf"main\.work of {invoked.request_id} failed after \d\.\d s: ValueError\('no such report'\)"
    assert re.fullmatch(f"(ValueError: no such report)?{said}", failed)
    assert last == "last of all"


# The deadline


async def late(
    handler: str, event: Any, *, seconds: float = 1.0, env: dict[str, str] | None = None
) -> tuple[Function, Invoked]:
    """The invocation that comes late; a function that goes on to serve, in the same process."""
    async with function(f"aftermath.{handler}", env={"LONG": "2", **(env or {})}) as running:
        is_http = "do" not in event
        pid = (await running.api.run(function_url("/pid"))).body if is_http else b""
        running.api.timeout = seconds
        invoked = await running.api.run(event)
        running.api.timeout = 30
        if is_http:
            assert (await running.api.run(function_url("/pid"))).body == pid
        else:
            assert (await running.api.run({"do": "task"})).events[0] == "open"
    assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]
    assert not lines(running, "never retrieved|was destroyed")
    return running, invoked


CLEANED = ["long", "cleaned", "cleaned-up"]


@pytest.mark.parametrize("middleware", ["", "1"])
async def test_a_background_task_that_is_late_is_cancelled(middleware: str) -> None:
    running, invoked = await late("noting", function_url("/slow/background"), env={"MIDDLEWARE": middleware})
    assert invoked.events == [*RESPONSE, *CLEANED, "aftermath.long:DeadlineExceeded:True:36", "next"]
    (line,) = lines(running, r"^\[ERROR\].*")
    assert re.search(
        r"Background task aftermath\.long was cancelled; after \d\.\d s, \d\.\d s before the function's time", line
    )
    assert lines(running, "Background work of")[0].endswith("1 tasks run, 0 failed, 1 cancelled")


async def test_a_task_that_drain_timeout_asks_to_wait_for_is_cancelled_at_the_deadline() -> None:
    running, invoked = await late("draining", function_url("/slow/task"))
    assert invoked.events == [*RESPONSE, *CLEANED, "long:DeadlineExceeded:True:36", "next"]
    assert len(lines(running, "Background task long was cancelled; after")) == 1


async def test_what_it_was_asked_to_wait_for_is_cancelled() -> None:
    running, invoked = await late("handler", function_url("/slow/until"), env={"LONG": "2"})
    assert sorted(invoked.events[:-1]) == sorted([*RESPONSE, *CLEANED, "thread"])
    assert len(lines(running, "Background task long was cancelled")) == 1
    assert (
        len(lines(running, "Background task aftermath.long_in_thread runs in a thread, which cannot be cancelled")) == 1
    )


async def test_a_thread_cannot_be_cancelled() -> None:
    running, invoked = await late("handler", function_url("/slow/thread"))
    assert invoked.events == [*RESPONSE, "thread", "next"]
    (line,) = lines(running, r"^\[ERROR\].*")
    assert "Background task aftermath.long_in_thread runs in a thread, which cannot be cancelled: it goes on" in line


async def test_who_does_not_end_is_left_behind() -> None:
    running, invoked = await late("handler", function_url("/slow/stubborn"))
    assert invoked.events == [*RESPONSE, "stubborn", "declined", "declined", "next"]
    assert len(lines(running, "Background task aftermath.stubborn was cancelled, and has not ended in the time")) == 1


async def test_what_is_late_can_be_raised() -> None:
    running, invoked = await late("raising", function_url("/slow/background"))
    assert invoked.events == [*RESPONSE, *CLEANED, "next"]
    assert len(lines(running, r"^\[ERROR\] DeadlineExceeded: not done after")) == 1
    assert not lines(running, "was cancelled")


async def test_a_task_that_ends_when_it_is_cancelled_is_done() -> None:
    running, invoked = await late("draining", function_url("/slow/quits"))
    assert invoked.events == [*RESPONSE, "quits", "next"]
    assert not lines(running, r"^\[ERROR\]")


async def test_each_of_several_works_has_its_own_limit() -> None:
    loop = asyncio.get_running_loop()
    environment = Environment(loop=loop)
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(name)
            await asyncio.sleep(0.05)

    def begun(name: str, seconds: float) -> tuple[Work, asyncio.Task[Any]]:
        invocation = Invocation(name, deadline_ms=int((time.time() + seconds) * 1000))
        token = enter(invocation)
        under_way = Work(invocation, Rules())
        task = asyncio.Task(environment.conduct(under_way, work(name)), loop=loop)  # none of its own tasks
        leave(token)
        return under_way, task

    (_, second), (_, first), (third, cut) = begun("second", 0.8), begun("first", 0.4), begun("third", 30)
    with pytest.raises(DeadlineExceeded):
        await first
    assert ended == ["first"]
    third.shorten(0.1)
    with pytest.raises(DeadlineExceeded):
        await cut
    third.shorten(0.1)  # which is over, and stays so
    while not second.done() and not ended.count("second"):
        await asyncio.sleep(0.001)
    second.cancel()  # while it is being ended
    await asyncio.wait([second])
    assert ended == ["first", "third", "second"]
    loop.set_task_factory(None)
    loop.set_exception_handler(None)


async def test_who_is_out_of_time_is_cancelled_at_least_once() -> None:
    task = asyncio.create_task(asyncio.sleep(30))
    await asyncio.sleep(0)
    await _cancel_at_last({task}, time.monotonic() - 1)
    assert task.cancelled()


def test_a_failure_says_what_it_is() -> None:
    assert repr(BackgroundFailure("a.b", ValueError("c"), "d", 1)) == "<BackgroundFailure of a.b: ValueError('c')>"


@pytest.mark.parametrize("handler", ["handler", "buffered"])
@pytest.mark.parametrize("middleware", ["", "1"])
async def test_a_response_that_has_not_begun_is_a_504(handler: str, middleware: str) -> None:
    running, invoked = await late(handler, function_url("/slow/route"), env={"MIDDLEWARE": middleware})
    reply = invoked.prelude if handler == "handler" else json.loads(invoked.result or b"")
    assert reply["statusCode"] == 504
    assert set(invoked.events) >= {*CLEANED}
    (line,) = lines(running, r"^\[ERROR\].*")
    assert re.search(r"aftermath\.py:\d+.* was cancelled; .*its caller gets a 504", line)


async def test_a_buffered_reply_that_is_late_is_a_504() -> None:
    running, invoked = await late("buffered", function_url("/slow/stream"))
    assert json.loads(invoked.result or b"")["statusCode"] == 504
    assert json.loads(invoked.result or b"")["body"] == "Gateway Timeout"
    (line,) = lines(running, r"^\[ERROR\].*")
    assert "its response ends with an error" in line


async def test_a_blocking_route_that_is_late() -> None:
    running, invoked = await late("handler", function_url("/slow/blocking-route"))
    assert invoked.prelude["statusCode"] == 504
    assert len(lines(running, r"The application, at \S+aftermath\.py:\d+, runs in a thread, which cannot")) == 1


@pytest.mark.parametrize("handler", ["handler", "sse"])
@pytest.mark.parametrize("middleware", ["", "1"])
@pytest.mark.parametrize("what", ["stream", "events", "compressed"])
async def test_a_stream_that_is_late_ends_with_an_error(handler: str, what: str, middleware: str) -> None:
    running, invoked = await late(handler, function_url(f"/slow/{what}"), env={"MIDDLEWARE": middleware})
    kind, report = invoked.failure
    assert kind == "Function.DeadlineExceeded"
    assert re.fullmatch(r"not done after \d\.\d s, \d\.\d s before the function's time is up", report["errorMessage"])
    event = (
        b'\n\nevent: error\ndata: {"error": "deadline exceeded"}\n\n' if (handler, what) == ("sse", "events") else b""
    )
    assert invoked.body == b"data: one\n\n" + event
    assert {*CLEANED} <= {*invoked.events} and "after-it" not in invoked.events
    (line,) = lines(running, r"^\[ERROR\]")
    assert re.search(
        r"The application, at \S+aftermath\.py:\d+, was cancelled; .*its response ends with an error", line
    )


async def test_a_hook_that_does_not_end() -> None:
    running, invoked = await late("hanging_hook", function_url("/tasks"))
    assert invoked.events[:4] == RESPONSE and invoked.events[-2:] == ["hanging", "next"]
    assert (
        len(lines(running, r"The after_response hook aftermath\.hanging has not ended when the time of RequestId")) >= 1
    )


async def test_streamify_that_is_late() -> None:
    running, invoked = await late("streamed", {"do": "late"})
    assert invoked.events[:3] == CLEANED and "error" in invoked.events
    assert json.loads(invoked.error or b"")["errorType"] == "DeadlineExceeded"
    running, invoked = await late("streamed", {"do": "late stream"})
    assert invoked.failure[0] == "Function.DeadlineExceeded"
    running, invoked = await late("streamed", {"do": "late background"})
    assert invoked.events[:3] == ["open", "chunk", "close"] and not invoked.trailers
    assert len(lines(running, "was cancelled")) == 1
    running, invoked = await late("streamed", {"do": "late value"})
    assert json.loads(invoked.error or b"")["errorType"] == "DeadlineExceeded"
    running, invoked = await late("streamed_in_thread", {"do": "late"})
    assert invoked.events == ["open", "chunk", "close", "thread", "next"]


@pytest.mark.parametrize("handler", ["handler", "buffered"])
async def test_the_202_that_does_not_come(handler: str) -> None:
    async with function(f"aftermath.{handler}") as running:
        running.api.timeout = 1
        running.api.gate.clear()
        invoked = await running.api.run(function_url("/pid"))
        running.api.gate.set()
        running.api.timeout = 30
        assert invoked.events[0] in ("open", "response")
        assert (await running.api.run(function_url("/pid"))).answered
    assert len(lines(running, "did not get through: it was not taken before the deadline.*deadline_margin")) == 1
    # The application waits for that, and what it would have done in the background has not begun.
    assert not lines(running, "Background task")
    assert (
        len(lines(running, "^\\[ERROR\\].*The application, at .*, was cancelled; .*; its response was on its way$"))
        == 1
    )


async def test_remaining_time() -> None:
    async with function("aftermath.handler") as running:
        figures = json.loads((await running.api.run(function_url("/remaining"))).body)
    assert 25 < figures["here"] <= 29 and 25 < figures["copied"] <= figures["here"]
    assert figures["lambda"] > figures["thread"] > 25
    assert remaining_time() == float("inf")


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_what_an_earlier_request_has_begun_works_for_the_one_under_way(client: str) -> None:
    async with function("aftermath.without", client=client) as running:
        for _ in range(3):
            invoked = await running.api.run_held(function_url("/consumer"), "job", "submitted")
            figures = json.loads(invoked.body)
            assert figures["request_id"] == invoked.request_id
            assert 25 < figures["left"] <= 29
            assert sorted(invoked.events[-3:]) == ["job", "next", "submitted"]
            assert invoked.events[-1] == "next"
    assert "[ERROR]" not in running.output


# Outside Lambda


def test_outside_lambda_background_work_is_done_too() -> None:
    done: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def later() -> None:
            await asyncio.sleep(0)
            assert remaining_time() == float("inf")
            done.append("task")

        task = asyncio.create_task(later())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"1"})
        done.append(task.done())

    handler = StreamingAdapter(app, lifespan="off", after_response=lambda: done.append("hook"))
    assert handler(function_url("/"), {})["body"] == "1"
    assert done == [False, "task", "hook"]


def test_wait_until_needs_an_invocation() -> None:
    async def never() -> None: ...

    with pytest.raises(AppError, match="there is none, or it is over"):
        wait_until(never())
    with pytest.raises(AppError, match="there is none"):
        wait_until(Executor(1).submit(int))


def test_what_can_be_waited_for() -> None:
    @streamify
    async def handler(event: Any, response_stream: Any, context: Any) -> None:
        wait_until(7)  # type: ignore[arg-type]

    with pytest.raises(AppError, match="takes an awaitable or a concurrent.futures.Future, not 7"):
        handler({}, None)


@pytest.mark.parametrize(
    "rules",
    [
        {"drain_timeout": -1},
        {"drain_timeout": True},
        {"deadline_margin": "1"},
        {"deadline_margin": float("nan")},
        {"after_response": 7},
        {"after_response": [7]},
        {"on_background_error": 7},
    ],
)
def test_rules_are_checked(rules: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(rules))} must be"):
        streamify(**rules)


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("where", ["import", "lifespan", "request"])
@pytest.mark.parametrize("which", ["eager", "xray", "former"])
async def test_an_app_may_set_a_task_factory_of_its_own(client: str, where: str, which: str) -> None:
    if which == "eager" and sys.version_info < (3, 12):
        pytest.skip("asyncio.eager_task_factory is there from Python 3.12 on")
    env = {"FACTORY": f"{where} {which}"}
    async with function("task_factories.handler", client=client, env=env) as running:
        for _ in range(2):
            invoked = await running.api.run(function_url())
            assert invoked.body == b'"begun"'
            assert sorted(invoked.events) == sorted([*RESPONSE, "created", "grouped", "next"])
            assert invoked.events[-1] == "next"
    assert len(lines(running, r"Background task failing \(\S+task_factories\.py:\d+\) failed in RequestId")) == 2
    assert running.output.count("ERROR") == 2

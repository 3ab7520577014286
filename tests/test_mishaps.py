"""What seldom goes wrong ends its own invocation, with its reason, and leaves the next one whole."""

import json

import pytest

from .events import function_url
from .runtime_api import Function, Invoked, function

BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"}
FINE = ["open", "prelude", "chunk", "close", "next"]


async def run(handler: str, event: object, client: str, env: dict[str, str] | None = None) -> tuple[Invoked, Function]:
    """Twice, and then what is fine."""
    async with function(f"mishaps.{handler}", client=client, env=env) as running:
        first = await running.api.run(event)
        again = await running.api.run(event)
        assert again.events == first.events
        fine = await running.api.run(function_url("/fine"))
        if handler != "streamed":
            assert [event for event in fine.events if event not in ("before", "after", "notified")] == FINE
    assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]
    return first, running


@BOTH
class TestExceptionsThatAreNone:
    """Of `BaseException` only: a panic in a Rust extension."""

    async def test_of_a_route(self, client: str) -> None:
        invoked, running = await run("handler", function_url("/panic"), client)
        assert (invoked.events, invoked.prelude["statusCode"]) == (FINE, 500)
        assert running.output.count("Panic: called `Option::unwrap()`") == 2

    async def test_of_background_work(self, client: str) -> None:
        invoked, running = await run("handler", function_url("/panic/background"), client)
        assert (invoked.events, invoked.body) == (FINE, b'"answered"')
        assert running.output.count("Background task mishaps.panic failed") == 2

    async def test_of_a_streaming_handler(self, client: str) -> None:
        invoked, _ = await run("streamed", {"do": "panic"}, client)
        assert invoked.events == ["error", "next"]
        error = json.loads(invoked.error or b"")
        assert error["errorMessage"] == "the handler raised Panic: 'index out of bounds'"
        assert any('raise Panic("index out of bounds")' in line for line in error["stackTrace"])


@BOTH
@pytest.mark.parametrize("env", [{}, JSON], ids=["text", "json"])
class TestExceptionsThatCannotSayAnything:
    async def test_of_a_route(self, client: str, env: dict[str, str]) -> None:
        invoked, running = await run("handler", function_url("/mute"), client, env)
        assert (invoked.events, invoked.prelude["statusCode"]) == (FINE, 500)
        assert "mishaps.Mute: <exception str() failed>" in running.output

    async def test_in_mid_stream(self, client: str, env: dict[str, str]) -> None:
        invoked, _ = await run("handler", function_url("/mute/stream"), client, env)
        assert invoked.events == FINE
        assert invoked.failure[0] == "Function.Mute"

    async def test_of_a_streaming_handler(self, client: str, env: dict[str, str]) -> None:
        invoked, _ = await run("streamed", {"do": "mute"}, client, env)
        assert invoked.events == ["error", "next"]


@BOTH
@pytest.mark.parametrize("what", ["mute", "surrogate", "panic"])
async def test_event_handlers_exceptions(client: str, what: str) -> None:
    invoked, _ = await run("events", {"do": what}, client)
    message = json.loads(invoked.error or b"")["errorMessage"]
    said = {"mute": "<exception str() failed>", "surrogate": r"half a pair \ud83d", "panic": "index out of bounds"}
    assert said[what] in message


@BOTH
@pytest.mark.parametrize("what", ["mute/background", "surrogate", "panic/background"])
async def test_background_errors_that_are_raised(client: str, what: str) -> None:
    invoked, _ = await run("raising", function_url(f"/{what}"), client)
    assert (invoked.events, invoked.body) == (FINE, b'"answered"')


@BOTH
async def test_generator_exit_is_an_exception_as_any(client: str) -> None:
    invoked, _ = await run("handler", function_url("/closed"), client)
    assert (invoked.events, invoked.prelude["statusCode"]) == (FINE, 500)


@BOTH
@pytest.mark.parametrize("handler", ["handler", "traced", "events"])
async def test_an_exit_ends_the_process(client: str, handler: str) -> None:
    """Also where a handler in a thread waits for the loop."""
    async with function(f"mishaps.{handler}", client=client) as running:
        await running.api.invoke({"do": "exit"} if handler == "events" else function_url("/exit"))
        assert await running.exit() == 3


async def test_a_name_that_no_header_can_have() -> None:
    invoked, _ = await run("events", {"do": "name"}, "adapter")
    assert invoked.head[b"lambda-runtime-function-error-type"] == b"Function."
    assert json.loads(invoked.error or b"")["errorType"] == "Ошибка"


async def test_an_event_handler_that_stops_an_iteration() -> None:
    invoked, _ = await run("events", {"do": "stop"}, "adapter")
    assert json.loads(invoked.error or b"")["errorMessage"] == "a function that runs in a thread raised StopIteration"


@BOTH
@pytest.mark.parametrize("handler", ["of_an_object", "of_a_lambda"])
async def test_event_handlers_that_return_a_coroutine(client: str, handler: str) -> None:
    invoked, _ = await run(handler, {"do": "any"}, client)
    assert invoked.result == b'"awaited"'


@BOTH
@pytest.mark.parametrize("handler", ["traced", "of_a_subclass", "delegating"])
async def test_what_is_around_a_handler(client: str, handler: str) -> None:
    invoked, _ = await run(handler, function_url("/fine"), client)
    assert invoked.events == ["before", *FINE[:-1], "after", "next"]


@BOTH
async def test_a_lifespan_that_begins_in_an_invocation_is_none_of_its_work(client: str) -> None:
    async with function("mishaps.lazy", client=client) as running:
        first = await running.api.run(function_url("/fine"))
        assert first.events == ["startup", *FINE]
        assert (await running.api.run(function_url("/fine"))).events == FINE
    assert "still running" not in running.output
    async with function("mishaps.per_call", client=client) as running:
        assert (await running.api.run(function_url("/fine"))).events == ["startup", *FINE]
        assert (await running.api.run(function_url("/fine"))).events == FINE  # once per environment
    assert "still running" not in running.output


@BOTH
@pytest.mark.parametrize("query", ["", "twice=1"])
async def test_cancelled_background_work_that_is_to_be_raised(client: str, query: str) -> None:
    invoked, running = await run("raising", function_url("/cancelled", query=query), client)
    assert invoked.events == FINE
    error = "ExceptionGroup" if query else "AppError: mishaps.cancelled was cancelled"
    assert running.output.count(f"[ERROR] {error}") == 2


@BOTH
class TestWorkThatBeginsLate:
    async def test_of_a_job(self, client: str) -> None:
        """The job outlasts the drain, and leaves a task."""
        invoked, _ = await run("handler", function_url("/job"), client)
        assert invoked.events == [*FINE[:-1], "notified", "next"]

    async def test_of_the_hook_for_failures(self, client: str) -> None:
        invoked, _ = await run("dead_letters", function_url("/fails"), client)
        assert invoked.events == [*FINE[:-1], "notified", "next"]

    async def test_of_the_hooks_that_are_last(self, client: str) -> None:
        invoked, _ = await run("late_letters", function_url("/pid"), client)
        assert invoked.events[-2:] == ["notified", "next"]

    async def test_of_the_hook_for_failures_at_the_deadline(self, client: str) -> None:
        async with function("mishaps.dead_letters", client=client) as running:
            running.api.timeout = 2
            invoked = await running.api.run(function_url("/late"))
            assert invoked.events == [*FINE[:-1], "notified", "next"]
            running.api.timeout = 30
            assert (await running.api.run(function_url("/fine"))).events == FINE

    async def test_of_a_function_whose_decorator_is_that_of_an_endless_one(self, client: str) -> None:
        async with function("mishaps.handler", client=client) as running:
            assert (await running.api.run(function_url("/endless"))).events == FINE
            assert (await running.api.run(function_url("/short"))).events == [*FINE[:-1], "notified", "next"]
        assert running.output.count("is still running") == 1


@BOTH
async def test_any_name_of_an_argument(client: str) -> None:
    async with function("mishaps.handler", client=client) as running:
        invoked = await running.api.run_held(function_url("/named"), "named")
        assert invoked.events == [*FINE[:-1], "named", "next"]


@BOTH
async def test_an_iteration_that_stops_in_a_thread(client: str) -> None:
    stopped = "RuntimeError: a function that runs in a thread raised StopIteration"
    invoked, running = await run("handler", function_url("/stops"), client)
    assert invoked.events == FINE
    assert running.output.count(stopped) == 2
    invoked, running = await run("stopping_hook", function_url("/fails"), client)
    assert invoked.events == FINE
    assert running.output.count(stopped) == 2


@BOTH
async def test_a_configuration_of_logging_that_disables_what_is_there(client: str) -> None:
    invoked, running = await run("handler", function_url("/fails"), client, {"CONFIGURED": "1"})
    assert invoked.events == FINE
    assert running.output.count("Background task mishaps.failing failed") == 2
    assert running.output.count("ValueError: no tea") == 2

"""Lifespan: once per environment, in the init phase; and each way in which an app can answer it, or not."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable

import pytest

from adapter import AppError, LifespanFailure, StreamingAdapter
from adapter.lifespan import Lifespan
from adapter.types import LifespanMode, Message, Receive, Scope, Send

from .events import function_url
from .runtime_api import function

MODES: list[LifespanMode] = ["auto", "on"]


async def test_startup_is_once_before_the_first_event() -> None:
    async with function("starts.handler", env={"APP": "good"}) as running:
        first = await running.api.run(function_url("/state"))
        second = await running.api.run(function_url("/state"))
    assert [entry for entry in running.api.log if not entry.startswith(("open", "prelude", "chunk", "close"))] == [
        "startup",
        "next",
        "request",
        "next",
        "request",
        "next",
    ]
    # What one request puts into its state is not there in the next; what the lifespan gave is the same object.
    assert json.loads(first.body) == {"seen": 1, "extra": ["client", "extra", "seen"], "client": False}
    assert json.loads(second.body) == {"seen": 2, "extra": ["client", "extra", "seen"], "client": False}


async def test_a_failing_startup_is_an_init_error_with_the_traceback_of_the_app() -> None:
    async with function("starts.handler", env={"APP": "fails"}) as running:
        await running.api.invoke(function_url("/state"))
        assert await asyncio.wait_for(running.process.wait(), 20) == 1
    assert running.api.log == ["startup", "init error"]
    assert running.api.init_error["errorType"] == "ConnectionError"
    assert running.api.init_error["errorMessage"] == "no database"
    assert 'raise ConnectionError("no database")' in "".join(running.api.init_error["stackTrace"])
    assert running.output.count("[ERROR] ConnectionError: no database") == 1


async def test_a_startup_that_ends_the_process() -> None:
    async with function("starts.handler", env={"APP": "exits"}) as running:
        assert await asyncio.wait_for(running.process.wait(), 20) == 7
    assert running.api.log == ["startup"]


async def test_off_is_off() -> None:
    async with function("starts.handler", env={"APP": "off"}) as running:
        invoked = await running.api.run(function_url("/state"))
        assert invoked.prelude["statusCode"] == 500  # the app misses what its lifespan did not give it
    assert "startup" not in running.api.log


App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def start(app: App, mode: LifespanMode) -> Lifespan:
    lifespan = Lifespan(app, mode)
    await asyncio.wait_for(lifespan.startup(), 10)
    return lifespan


async def good(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    scope["state"]["key"] = "value"
    assert await receive() == {"type": "lifespan.startup"}
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == {"type": "lifespan.shutdown"}
    scope["state"]["key"] = "shut down"
    await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.parametrize("mode", MODES)
async def test_startup_and_shutdown(mode: LifespanMode) -> None:
    lifespan = await start(good, mode)
    assert lifespan.state == {"key": "value"}
    assert repr(lifespan) == "<Lifespan started>"
    await lifespan.shutdown()
    assert lifespan.state == {"key": "shut down"}
    assert repr(lifespan) == "<Lifespan stopped>"
    await lifespan.shutdown()  # nothing is left to do


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError("only http")


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    return


async def returns_after_receive(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def sends_first(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "lifespan.startup.complete"})


async def answers_as_to_a_request(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})


UNSUPPORTED: list[tuple[App, type[Exception], str]] = [
    (raises, NotImplementedError, "only http"),
    (returns, LifespanFailure, "does not speak the lifespan protocol"),
    (returns_after_receive, LifespanFailure, "does not speak the lifespan protocol"),
    (sends_first, AppError, "'lifespan.startup.complete' cannot come while the lifespan is called"),
    (answers_as_to_a_request, AppError, "'http.response.start' cannot come while the lifespan is starting up"),
]


@pytest.mark.parametrize(("app", "kind", "message"), UNSUPPORTED, ids=lambda value: getattr(value, "__name__", ""))
async def test_an_app_that_does_not_speak_it(
    app: App, kind: type[Exception], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lifespan = await start(app, "auto")
    assert repr(lifespan) == "<Lifespan unsupported>"
    assert "does not speak the lifespan protocol" in caplog.text
    await lifespan.shutdown()
    with pytest.raises(kind, match=message):
        await start(app, "on")


async def raises_in_startup(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise ZeroDivisionError("in startup")


async def says_failed(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def says_failed_and_raises(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "see the traceback"})
    raise ZeroDivisionError("in startup")


async def is_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise asyncio.CancelledError


class Panic(BaseException):
    """As that of Rust extensions."""


async def panics(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise Panic


async def sends_nonsense(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.nonsense"})


FAILING: list[tuple[App, type[Exception], str]] = [
    (raises_in_startup, ZeroDivisionError, "in startup"),
    (says_failed, LifespanFailure, "no database"),
    (says_failed_and_raises, ZeroDivisionError, "in startup"),
    (is_cancelled, LifespanFailure, "startup was cancelled"),
    (panics, LifespanFailure, "startup raised Panic"),
    (sends_nonsense, AppError, "'lifespan.nonsense' cannot come while the lifespan is starting up"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("app", "kind", "message"), FAILING, ids=lambda value: getattr(value, "__name__", ""))
async def test_an_app_that_fails_in_startup(app: App, kind: type[Exception], message: str, mode: LifespanMode) -> None:
    with pytest.raises(kind, match=message):
        await start(app, mode)


async def test_an_app_that_says_failed_and_stays_does_not_hang_the_init(monkeypatch: pytest.MonkeyPatch) -> None:
    forever = asyncio.Event()

    async def stays(scope: Scope, receive: Receive, send: Send) -> None:
        await says_failed(scope, receive, send)
        await forever.wait()

    monkeypatch.setattr("adapter.lifespan._LAST_WORDS", 0.01)
    with pytest.raises(LifespanFailure, match="no database"):
        await start(stays, "auto")
    forever.set()


async def test_shutdown_fails_as_the_app_says() -> None:
    def app_with(end: Callable[[Send], Awaitable[None]]) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await end(send)

        return app

    async def says(send: Send) -> None:
        await send({"type": "lifespan.shutdown.failed", "message": "left open"})

    async def throws(send: Send) -> None:
        raise ZeroDivisionError("in shutdown")

    async def stops(send: Send) -> None:
        return

    with pytest.raises(LifespanFailure, match="left open"):
        await (await start(app_with(says), "auto")).shutdown()
    with pytest.raises(ZeroDivisionError, match="in shutdown"):
        await (await start(app_with(throws), "auto")).shutdown()
    await (await start(app_with(stops), "auto")).shutdown()


@pytest.mark.parametrize("verdict", ["complete", "failed", ""])
async def test_an_app_that_asks_for_more_after_its_shutdown_ends(verdict: str) -> None:
    """It waits in vain behind uvicorn, which then ends it. In a test of Mangum's own it loops."""
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while len(asked) < 10:
            kind = (await receive())["type"]
            asked.append(kind)
            if kind == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif verdict:
                await send(
                    {"type": f"lifespan.shutdown.{verdict}", "message": "left open" if verdict == "failed" else ""}
                )

    lifespan = await start(app, "auto")
    if verdict == "failed":
        with pytest.raises(LifespanFailure, match="left open"):
            await lifespan.shutdown()
    else:
        await lifespan.shutdown()
    assert asked == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_lifespan_that_ends_too_early_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    crash = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await crash.wait()
        raise ZeroDivisionError("the task group of the lifespan")

    lifespan = await start(app, "auto")
    crash.set()
    while repr(lifespan) != "<Lifespan failed>":
        await asyncio.sleep(0)
    assert "has ended before its shutdown" in caplog.text
    assert "ZeroDivisionError: the task group of the lifespan" in caplog.text
    await lifespan.shutdown()


async def test_an_app_may_end_its_lifespan_unasked(caplog: pytest.LogCaptureFixture) -> None:
    """A server takes it so: that is no breach of the protocol."""

    def app_that_says(message: Message) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await serving.wait()
            await send(message)

        return app

    serving = asyncio.Event()
    for message, phase in (
        ({"type": "lifespan.shutdown.complete"}, "stopped"),
        ({"type": "lifespan.shutdown.failed", "message": "the consumer has died"}, "failed"),
    ):
        lifespan = await start(app_that_says(message), "on")
        serving.set()
        while repr(lifespan) != f"<Lifespan {phase}>":
            await asyncio.sleep(0)
        await lifespan.shutdown()
        serving.clear()
    while "died" not in caplog.text:
        await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.getMessage().endswith(" before its shutdown: 'the consumer has died'")


async def test_an_app_that_returns_at_once_has_started() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    assert repr(await start(app, "on")) == "<Lifespan stopped>"


async def test_an_app_that_fails_at_once_has_not(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise ZeroDivisionError("at once")

    with pytest.raises(ZeroDivisionError, match="at once"):
        await start(app, "auto")
    assert not caplog.records  # who raises it logs it


def test_outside_lambda_a_failing_startup_is_raised_with_its_cause_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("no pool") from ZeroDivisionError("no database")

    with pytest.raises(ValueError, match="no pool") as caught:
        StreamingAdapter(app)(function_url(), None)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert not caplog.records


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("log_format", ["Text", "JSON"])
@pytest.mark.parametrize("app", ["asyncio", "anyio"])
async def test_a_task_group_that_dies_while_the_app_serves_is_logged_with_its_reason(
    client: str, log_format: str, app: str
) -> None:
    env = {"APP": app, "AWS_LAMBDA_LOG_FORMAT": log_format}
    async with function("starts.handler", client=client, env=env) as running:
        assert (await running.api.run(function_url("/die"))).prelude["statusCode"] == 200
        assert (await running.api.run(function_url("/die"))).prelude["statusCode"] == 200  # it is served on
    assert running.output.count("The application's lifespan has ended before its shutdown") == 1
    assert running.output.count("LookupError: the queue is gone") == 1
    assert "cannot come while" not in running.output


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize(("app", "place"), [("waits", "await connected.wait()"), ("blocks", "released.acquire()")])
async def test_a_startup_that_does_not_answer_is_logged_with_its_place(client: str, app: str, place: str) -> None:
    async with function("starts.handler", client=client, env={"APP": app}) as running:
        assert running.process.stdout is not None
        said = b""
        while place.encode() not in said:
            said += await running.process.stdout.read(4096)
        assert "init error" not in running.api.log and "next" not in running.api.log
        running.process.kill()
    assert b"The application's lifespan startup has not answered for 3 s" in said
    assert b"in connect" in said and b"starts.py" in said
    assert b"asyncio" not in said.partition(b"It waits at")[2]


def block() -> None:
    time.sleep(0.005)


@pytest.mark.parametrize("blocks", [True, False])
async def test_a_startup_that_goes_on_waiting_is_logged_again(
    blocks: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        while len(caplog.records) < 3:
            if blocks:
                block()
            else:
                await asyncio.sleep(0.005)
        await send({"type": "lifespan.startup.complete"})

    monkeypatch.setattr("adapter.lifespan._PATIENCE", 0.01)
    await start(app, "auto")
    waits = [record.getMessage().partition("has not answered for ")[2].partition(" s,")[0] for record in caplog.records]
    assert waits[:3] == ["0.01", "0.02", "0.04"]
    assert "in app\n" in caplog.records[2].getMessage()


async def test_a_message_without_a_type() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        message: Message = {}
        await send(message)

    assert repr(await start(app, "auto")) == "<Lifespan unsupported>"

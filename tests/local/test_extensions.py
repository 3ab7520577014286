"""Internal extensions: the Extensions API row by row, and what one changes in the life of an environment."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from adapter.local.extensions import MAX_EXTENSIONS

from .conftest import PATIENCE, Gate, Terminal, gone, local_lambda
from .test_runtime_api import ACCEPTED, NEXT, Harness, Runtime, path

REGISTER = "/2020-01-01/extension/register"
EVENT_NEXT = "/2020-01-01/extension/event/next"
EMPTY: list[list[Any]] = [["open"], ["prelude", {}], ["end"]]


@pytest.fixture
async def harness(terminal: Terminal) -> AsyncIterator[Harness]:
    async with Harness(terminal) as harness:
        yield harness


def refused(error_type: str, message: str) -> tuple[int, dict[str, str]]:
    return 403, {"errorMessage": message, "errorType": error_type}


async def register(runtime: Runtime, *events: str, name: str = "one") -> tuple[int, Any]:
    body = json.dumps({"events": events}).encode()
    return await runtime.ask("POST", REGISTER, body, {"Lambda-Extension-Name": name})


class Extension:
    """A registered one, with a connection of its own."""

    def __init__(self, connection: Runtime, identifier: str) -> None:
        self.connection = connection
        self.headers = {"Lambda-Extension-Identifier": identifier}

    @classmethod
    async def of(cls, harness: Harness, *events: str, name: str = "one") -> Extension:
        connection = await harness.connect()
        assert (await register(connection, *events, name=name))[0] == 200
        return cls(connection, connection.headers["lambda-extension-identifier"])

    def next(self) -> None:
        self.connection.request("GET", EVENT_NEXT, headers=self.headers)

    async def nothing(self) -> None:
        """The reply is held back."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.connection.reader.read(1), 0.1)


async def runtime_next(harness: Harness) -> Runtime:
    """A runtime that has asked for its first event, and been heard."""
    runtime = await harness.connect()
    runtime.request("GET", NEXT)
    async with asyncio.timeout(PATIENCE):
        while harness.state().value != "Ready":
            await asyncio.sleep(0)
    return runtime


@pytest.mark.parametrize("events", [[], ["INVOKE"], ["INVOKE", "INVOKE"]])
async def test_register(harness: Harness, events: list[str]) -> None:
    runtime = await harness.connect()
    assert await register(runtime, *events) == (
        200,
        {"functionName": "local", "functionVersion": "$LATEST", "handler": "main.handler"},
    )
    uuid.UUID(runtime.headers["lambda-extension-identifier"])
    assert len(harness.api.extensions) == 1


@pytest.mark.parametrize("body", [b"{}", b'{"events": null}', b"null", b'{"events": [], "other": 1}'])
async def test_register_without_events(harness: Harness, body: bytes) -> None:
    runtime = await harness.connect()
    assert (await runtime.ask("POST", REGISTER, body, {"Lambda-Extension-Name": "one"}))[0] == 200


@pytest.mark.parametrize("headers", [{}, {"Lambda-Extension-Name": ""}])
async def test_register_without_a_name(harness: Harness, headers: dict[str, str]) -> None:
    runtime = await harness.connect()
    answer = await runtime.ask("POST", REGISTER, b'{"events": []}', headers)
    assert answer == refused("Extension.InvalidExtensionName", "Empty extension name")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"INVOKE"', b'{"events": "INVOKE"}', b'{"events": [1]}', b"\xff"])
async def test_register_with_a_body_that_is_none(harness: Harness, body: bytes) -> None:
    runtime = await harness.connect()
    status, value = await runtime.ask("POST", REGISTER, body, {"Lambda-Extension-Name": "one"})
    assert (status, value["errorType"]) == (403, "InvalidRequestFormat")
    assert not harness.api.extensions


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("SHUTDOWN", "ShutdownEventNotSupportedForInternalExtension"),
        ("invoke", "ErrorInvalidEventType"),
    ],
)
async def test_register_for_an_event_that_there_is_not(harness: Harness, event: str, reason: str) -> None:
    runtime = await harness.connect()
    assert await register(runtime, "INVOKE", event) == refused("Extension.InvalidEventType", f"{event}: {reason}")
    assert not harness.api.extensions


async def test_register_a_name_twice(harness: Harness) -> None:
    runtime = await harness.connect()
    await register(runtime)
    assert await register(runtime) == refused(
        "Extension.InvalidExtensionState", "Extension with this name already registered"
    )


async def test_register_too_many(harness: Harness) -> None:
    runtime = await harness.connect()
    for number in range(MAX_EXTENSIONS):
        assert (await register(runtime, name=str(number)))[0] == 200
    assert await register(runtime) == refused("Extension.TooManyExtensions", "Extension limit (10) reached")


async def test_register_after_the_first_next(harness: Harness) -> None:
    await runtime_next(harness)
    refusal = refused("Extension.RegistrationClosed", "Extension registration closed already")
    assert await register(await harness.connect()) == refusal
    assert not harness.api.extensions


@pytest.mark.parametrize(
    ("identifier", "error_type", "message"),
    [
        (None, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"),
        ("one", "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"),
        (str(uuid.UUID(int=1)), "Extension.UnknownExtensionIdentifier", f"Unknown extension {uuid.UUID(int=1)}"),
    ],
)
async def test_next_of_nobody_known(harness: Harness, identifier: str | None, error_type: str, message: str) -> None:
    extension = await Extension.of(harness)
    headers = {"Lambda-Extension-Identifier": identifier} if identifier else {}
    assert await extension.connection.ask("GET", EVENT_NEXT, headers=headers) == refused(error_type, message)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", REGISTER, 405),
        ("POST", EVENT_NEXT, 405),
        ("PUT", "/2022-07-01/telemetry", 404),
        ("PUT", "/2020-08-15/logs", 404),
        ("POST", "/2018-06-01/extension/register", 404),
    ],
)
async def test_unknown_path_and_wrong_method(harness: Harness, method: str, target: str, status: int) -> None:
    runtime = await harness.connect()
    assert (await runtime.ask(method, target))[0] == status


@pytest.mark.parametrize("events", [[], ["INVOKE"]])
async def test_the_init_waits_for_every_extension(harness: Harness, events: list[str]) -> None:
    extension = await Extension.of(harness, *events)
    await runtime_next(harness)
    assert not harness.api.ready
    assert not harness.api.changed.is_set()
    extension.next()
    await harness.changed()
    assert harness.api.ready


async def test_event(harness: Harness) -> None:
    extension = await Extension.of(harness, "INVOKE")
    extension.next()
    runtime = await runtime_next(harness)
    await harness.changed()
    await extension.nothing()
    invocation, _ = harness.invoke()
    assert await extension.connection.reply() == (
        200,
        {
            "eventType": "INVOKE",
            "deadlineMs": invocation.deadline_ms,
            "requestId": "request-1",
            "invokedFunctionArn": "arn:f",
            "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1-2-3"},
        },
    )
    uuid.UUID(extension.connection.headers["lambda-extension-event-identifier"])
    assert (await runtime.reply())[0] == 200


async def test_the_invocation_waits_for_the_extension(harness: Harness) -> None:
    subscribed, other = await Extension.of(harness, "INVOKE"), await Extension.of(harness, name="two")
    subscribed.next()
    other.next()
    runtime = await runtime_next(harness)
    await harness.changed()
    _, caller = harness.invoke()
    await runtime.reply()
    await subscribed.connection.reply()
    assert await runtime.ask("POST", path("response"), b"{}") == ACCEPTED
    # The caller has its answer, the runtime is ready for the next event: the extension is not.
    assert await caller.body() == b"{}"
    await runtime_next(harness)
    assert not harness.api.ready
    assert not harness.api.changed.is_set()
    subscribed.next()
    await harness.changed()
    assert harness.api.ready
    await other.nothing()


async def test_next_of_one_that_waits_already(harness: Harness) -> None:
    extension = await Extension.of(harness)
    extension.next()
    await extension.nothing()
    identifier = extension.headers["Lambda-Extension-Identifier"]
    again = await (await harness.connect()).ask("GET", EVENT_NEXT, headers=extension.headers)
    assert again == refused(
        "Extension.InvalidExtensionState",
        f"State transition from Ready to Ready failed for extension {identifier}. "
        "Error: State transition is not allowed",
    )


def settings(*steps: str) -> dict[str, str]:
    return {"RUNTIME_INIT": ";".join(steps)}


async def test_an_extension_keeps_the_invocation_open_after_the_runtime_is_done(gate: Gate) -> None:
    async with local_lambda(settings=settings(f"extension=INVOKE:{gate.port}")) as url:
        assert (await url.run(*EMPTY)).status_code == 200
        pid, go_on = await gate.reached()
        assert "extension INVOKE" in url.terminal.getvalue()
        # Another environment takes what comes meanwhile: this one is not free.
        following = asyncio.create_task(url.run(*EMPTY))
        other, go_on_too = await gate.reached()
        assert other != pid
        assert (await following).status_code == 200
        assert "REPORT" not in url.terminal.getvalue()
        go_on()
        go_on_too()
        await url.terminal.until("^REPORT", 2)


@pytest.mark.parametrize("how", ["stop", "idle", "timeout"])
@pytest.mark.parametrize("freeze", [True, False])
async def test_a_process_with_an_extension_ends_by_sigterm(gate: Gate, how: str, freeze: bool) -> None:
    steps = settings("extension=[]", "on_signal=exit", f"gate={gate.port}")
    idle, timeout = (0.2 if how == "idle" else PATIENCE), (0.5 if how == "timeout" else PATIENCE)
    async with local_lambda(settings=steps, freeze=freeze, idle=idle, timeout=timeout) as url:
        pid, go_on = await gate.reached()
        go_on()
        await url.terminal.until("^Function URL")
        if how == "timeout":
            assert (await url.run(["hang"])).status_code == 502
            await url.terminal.until("^signal SIGTERM$\n(?:.*\n)*?.* Task timed out after 0.50 seconds$")
            await url.terminal.until("^REPORT .*\tStatus: timeout$")
        elif how == "idle":
            await url.terminal.until("^An environment has had nothing to do for 0.2 seconds and ends$")
            await url.terminal.until("^signal SIGTERM$")
            await gone(pid)
        else:
            url.stop.set()
    await url.terminal.until("^signal SIGTERM$")
    await gone(pid)


@pytest.mark.parametrize("how", ["stop", "timeout"])
async def test_a_process_that_does_not_heed_sigterm_is_killed(gate: Gate, how: str) -> None:
    steps = settings("extension=[]", "on_signal=stubborn", f"gate={gate.port}")
    async with local_lambda(settings=steps, timeout=0.5) as url:
        pid, go_on = await gate.reached()
        go_on()
        await url.terminal.until("^Function URL")
        if how == "timeout":
            assert (await url.run(["child"], ["hang"])).status_code == 502
            await url.terminal.until("^REPORT .*\tStatus: timeout$")
            (child,) = await url.terminal.until(r"^child (\d+)$")
            await gone(int(child))
        else:
            url.stop.set()
    assert "signal SIGTERM" in url.terminal.getvalue()
    await gone(pid)


async def test_a_stop_does_not_wait_for_a_process_that_has_had_its_sigterm(gate: Gate) -> None:
    steps = settings("extension=[]", "on_signal=stubborn")
    async with local_lambda(settings=steps, timeout=0.5) as url:
        request = asyncio.create_task(url.run(["gate", gate.port]))
        pid, _ = await gate.reached()
        await url.terminal.until("^signal SIGTERM$")
        assert (await request).status_code == 502
        url.stop.set()
    assert url.terminal.getvalue().count("signal SIGTERM") == 1
    await gone(pid)


async def test_without_an_extension_there_is_no_sigterm() -> None:
    async with local_lambda(settings=settings("on_signal=stubborn"), timeout=0.5) as url:
        assert (await url.run(["hang"])).status_code == 502
        await url.terminal.until("^REPORT .*\tStatus: timeout$")
        assert (await url.run(*EMPTY)).status_code == 200
    assert "SIGTERM" not in url.terminal.getvalue()


async def test_a_response_after_a_stop_is_refused(gate: Gate) -> None:
    async with local_lambda(settings=settings("extension=[]")) as url:
        request = asyncio.create_task(url.run(["respond_at_sigterm"], ["gate", gate.port], ["hang"]))
        await gate.reached()
        url.stop.set()
        with pytest.raises(httpx.TransportError):
            await request
        await url.terminal.until("^response 400$")


@pytest.mark.parametrize("begun", [True, False])
async def test_a_response_after_the_deadline_is_refused(begun: bool) -> None:
    """The runtime posts one in the time that SIGTERM gives it."""
    steps: list[list[Any]] = [["open"], ["prelude", {}], ["chunk", "begun"]] if begun else []
    async with local_lambda(settings=settings("extension=[]"), timeout=0.5) as url:
        reply = await url.run(["respond_at_sigterm"], *steps, ["hang"])
        assert (reply.status_code, reply.content) == ((200, b"begun") if begun else (502, b"Internal Server Error"))
        await url.terminal.until("^REPORT .*\tStatus: timeout$")
    assert re.search("^response 400$", url.terminal.getvalue(), re.MULTILINE)

"""The Runtime API against AWS's own server, row by row: the same requests in the same states, the same answers."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapter.local.invocation import MAX_PAYLOAD, UnavailableError

from .conformance import (
    BLOCKED,
    INIT_ERROR,
    NEXT,
    PREFIX,
    STREAMING,
    Emulator,
    Engine,
    Managed,
    ManagedEmulator,
    OnDemand,
    OnDemandEmulator,
    Ours,
    mounts_of_its_own,
    path,
    runtime_interface_emulator,
)

Play = Callable[[Engine], Awaitable[None]]

BOTH, ON_DEMAND, MANAGED = ("on-demand", "managed"), ("on-demand",), ("managed",)


@dataclass(frozen=True)
class Scenario:
    play: Play
    timeout: int


SCENARIOS: dict[tuple[str, str], Scenario] = {}


def scenario(*modes: str, timeout: int = 60) -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        for mode in modes:
            SCENARIOS[mode, play.__name__] = Scenario(play, timeout)
        return play

    return add


NONCE = (
    "the emulator has no invocation ids on demand; Lambda has (awslabs/aws-lambda-rust-runtime#1159, "
    "aws/aws-lambda-dotnet#2508), and ours are checked as the emulator's engine for managed instances does it"
)
TRUNCATED = (
    "the emulator buffers a response before its Runtime API sees it, and its handler dies of this one; ours does what "
    "AWS's code for a caller who is served directly does (rapi/handler/invocationresponse.go)"
)
EARLY = (
    "Go's server reads up to 256 KiB of a body before it replies; ours replies at once, and reads the body after that"
)

# Where ours differs: (mode, scenario, row) -> why. That each is still there is asserted.
DIFFERENCES: dict[tuple[str, str, str], str] = {
    ("on-demand", "event", "invocation-id"): NONCE,
    ("on-demand", "event", "trace-id"): "the emulator gives it to extensions only; Lambda gives it to the runtime",
    ("on-demand", "running_wrong_invocation_id", "error"): NONCE,
    ("on-demand", "running_wrong_invocation_id", "response"): NONCE,
    ("on-demand", "running_wrong_invocation_id", "without"): NONCE,
    ("on-demand", "running_wrong_invocation_id", "finished"): NONCE,
    ("on-demand", "running_wrong_invocation_id", "caller"): NONCE,
    ("on-demand", "truncated_stream", "response"): TRUNCATED,
    ("on-demand", "truncated_stream", "next"): TRUNCATED,
    ("on-demand", "error_trailers_that_are_too_long", "response"): TRUNCATED,
    ("on-demand", "truncated_response", "response"): TRUNCATED,
    ("on-demand", "truncated_response", "next"): TRUNCATED,
    ("on-demand", "refusal_before_the_body", "response"): EARLY,
    ("managed", "started_init_error", "caller"): "the emulator gives the type only; ours what the runtime posted",
    ("managed", "error_trailer_that_is_not_base64", "caller"): (
        "the emulator drops it; ours shows it as it came, the quickest way for its author to see what is wrong"
    ),
    ("managed", "managed_responding_error", "error, in mid-stream"): (
        "what stands in for the caller in the emulator reads the whole body first; the code around it cancels that "
        "(invoke/running_invoke.go), as ours does"
    ),
    ("managed", "oversized_response", "caller"): "the emulator gives the type only; ours a message with it",
    ("managed", "refusal_before_the_body", "response"): EARLY,
}


@scenario(*BOTH)
async def started_unknown_id(engine: Engine) -> None:
    wire, _ = await engine.starting()
    for what in ("response", "error"):
        engine.seen[what] = await wire.ask("POST", path("of-nobody", what), b"{}")
    await engine.next(wire)


@scenario(*BOTH)
async def started_init_error(engine: Engine) -> None:
    wire, call = await engine.starting()
    headers = {"Lambda-Runtime-Function-Error-Type": "Runtime.NoTea"}
    engine.seen["init/error"] = await wire.ask("POST", INIT_ERROR, b'{"errorMessage":"none"}', headers)
    wire.close()
    # As it is expected to; ours has ended it by itself.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)
    if engine.managed:
        engine.seen["caller"] = await call
    elif isinstance(engine, Ours):
        # AWS's answers its caller with the error; ours may try the init again, as Lambda does.
        await engine.terminal.until("^INIT_REPORT")


@scenario(*BOTH)
async def event(engine: Engine) -> None:
    wire, _, _ = await engine.running()
    for name in ("aws-request-id", "deadline-ms", "invocation-id"):
        engine.seen[name] = f"lambda-runtime-{name}" in wire.headers
    for name in ("trace-id", "client-context", "cognito-identity", "aws-tenant-id"):
        engine.seen[name] = wire.headers.get(f"lambda-runtime-{name}")
    engine.seen["content-type"] = wire.headers["content-type"]


@scenario(*BOTH)
async def running_next(engine: Engine) -> None:
    wire, request_id, _ = await engine.running()
    other = await engine.connect()
    other.request("GET", NEXT)
    engine.seen["next"] = await other.reply_now()
    engine.seen["same id"] = other.headers.get("lambda-runtime-aws-request-id") == request_id
    engine.seen["response"] = await wire.ask("POST", path(request_id, "response"), b'"x"')


@scenario(*BOTH)
async def running_wrong_id(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    for what in ("response", "error"):
        engine.seen[what] = await wire.ask("POST", path("of-nobody", what), b"{}")
    engine.seen["right response"] = await wire.ask("POST", path(request_id, "response"), b'"x"')
    wire.request("GET", NEXT)
    engine.seen["caller"] = await call


@scenario(*BOTH)
async def running_wrong_invocation_id(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    headers = {"Lambda-Runtime-Invocation-Id": "of an earlier attempt"}
    for what in ("error", "response"):
        engine.seen[what] = await wire.ask("POST", path(request_id, what), b'"first"', headers)
    engine.seen["without"] = await wire.ask("POST", path(request_id, "response"), b'"second"')
    engine.seen["finished"] = await wire.ask("POST", path(request_id, "response"), b'"third"', headers)
    wire.request("GET", NEXT)
    engine.seen["caller"] = await call


@scenario(*BOTH)
async def running_right_invocation_id(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    headers = {}
    if "lambda-runtime-invocation-id" in wire.headers:
        headers["Lambda-Runtime-Invocation-Id"] = wire.headers["lambda-runtime-invocation-id"]
    engine.seen["error"] = await wire.ask("POST", path(request_id, "error"), b'{"errorMessage":"x"}', headers)
    wire.request("GET", NEXT)
    engine.seen["caller"] = await call


@scenario(*BOTH)
async def buffered_response(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    headers = {"Content-Type": "application/json"}
    engine.seen["response"] = await wire.ask("POST", path(request_id, "response"), b'{"the":"body"}', headers)
    engine.seen["second response"] = await wire.ask("POST", path(request_id, "response"), b"{}")
    engine.seen["error"] = await wire.ask("POST", path(request_id, "error"), b"{}")
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    engine.seen["caller"] = await call
    other = await engine.connect()
    engine.seen["after next: response"] = await other.ask("POST", path(request_id, "response"), b"{}")
    engine.seen["after next: error"] = await other.ask("POST", path(request_id, "error"), b"{}")
    following = engine.invoke(b'{"n":2}')
    engine.seen["the next event"] = await wire.reply()
    request_id = wire.headers["lambda-runtime-aws-request-id"]
    engine.seen["its response"] = await wire.ask("POST", path(request_id, "response"), b"")
    wire.request("GET", NEXT)
    engine.seen["its caller"] = await following


@scenario(*BOTH)
async def chunked_response_without_a_mode(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    wire.request("POST", path(request_id, "response"), headers={"Transfer-Encoding": "chunked"})
    wire.chunk(b"one ")
    engine.seen["before its end"] = await wire.reply_now()
    wire.chunk(b"two")
    wire.send(b"0\r\n\r\n")
    engine.seen["response"] = await wire.reply()
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    engine.seen["caller"] = await call


@scenario(*BOTH)
async def streamed_response(engine: Engine) -> None:
    wire, stream, request_id, call = await engine.responding()
    stream.chunk(b" second")
    engine.seen["before its end"] = await stream.reply_now()
    stream.send(b"0\r\n\r\n")
    engine.seen["response"] = await stream.reply()
    engine.seen["second response"] = await stream.ask("POST", path(request_id, "response"), b"{}")
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    engine.seen["caller"] = await call


@scenario(*BOTH)
async def empty_stream(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    wire.request("POST", path(request_id, "response"), b"0\r\n\r\n", STREAMING)
    engine.seen["response"] = await wire.reply()
    wire.request("GET", NEXT)
    engine.seen["caller"] = await call


DECLARED = "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
TRAILERS = (
    b"0\r\nLambda-Runtime-Function-Error-Type: Function.Oops\r\n"
    b"Lambda-Runtime-Function-Error-Body: " + base64.b64encode(b'{"errorMessage":"x"}') + b"\r\n\r\n"
)


async def end_with_trailers(engine: Engine, declared: str | None, trailers: bytes = TRAILERS) -> None:
    wire, request_id, call = await engine.running()
    headers = STREAMING if declared is None else {**STREAMING, "Trailer": declared}
    wire.request("POST", path(request_id, "response"), headers=headers)
    wire.chunk(b"body")
    wire.send(trailers)
    engine.seen["response"] = await wire.reply()
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    engine.seen["caller"] = await call


@scenario(*BOTH)
async def error_trailers(engine: Engine) -> None:
    await end_with_trailers(engine, DECLARED)


@scenario(*BOTH)
async def error_trailers_that_were_not_declared(engine: Engine) -> None:
    await end_with_trailers(engine, None)


@scenario(*BOTH)
async def error_trailers_where_another_was_declared(engine: Engine) -> None:
    await end_with_trailers(engine, "X-Other")


@scenario(*BOTH)
async def error_trailer_that_is_not_base64(engine: Engine) -> None:
    trailers = TRAILERS.partition(b"Body: ")[0] + b"Body: {plain}\r\n\r\n"
    await end_with_trailers(engine, DECLARED, trailers)


@scenario(*BOTH)
async def error_trailer_of_no_known_form(engine: Engine) -> None:
    await end_with_trailers(engine, DECLARED, TRAILERS.replace(b"Function.Oops", b"TypeError"))


async def end_with_long_trailers(engine: Engine, size: int) -> None:
    """Of this size, from the first one's name to the empty line."""
    head = TRAILERS.rpartition(b": ")[0].removeprefix(b"0\r\n") + b": "
    trailers = head + b"A" * (size - len(head) - len(b"\r\n\r\n")) + b"\r\n\r\n"
    wire, request_id, _ = await engine.running()
    wire.request("POST", path(request_id, "response"), headers={**STREAMING, "Trailer": DECLARED})
    wire.chunk(b"body")
    wire.send(b"0\r\n" + trailers)
    engine.seen["response"] = await wire.reply()


@scenario(*BOTH)
async def error_trailers_as_long_as_they_may_be(engine: Engine) -> None:
    await end_with_long_trailers(engine, 4096)


@scenario(*BOTH)
async def error_trailers_that_are_too_long(engine: Engine) -> None:
    await end_with_long_trailers(engine, 4097)


@scenario(*MANAGED)
async def error_trailers_of_a_buffered_response(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    wire.request("POST", path(request_id, "response"), headers={"Transfer-Encoding": "chunked", "Trailer": DECLARED})
    wire.chunk(b"body")
    wire.send(TRAILERS)
    engine.seen["response"] = await wire.reply()
    engine.seen["caller"] = await call


@scenario(*BOTH)
async def unknown_mode(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    headers = {"Lambda-Runtime-Function-Response-Mode": "Streaming"}
    engine.seen["response"] = await wire.ask("POST", path(request_id, "response"), b"{}", headers)
    engine.seen["second response"] = await wire.ask("POST", path(request_id, "response"), b"{}")
    engine.seen["error"] = await wire.ask("POST", path(request_id, "error"), b"{}")
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    if engine.managed:
        error_type, _ = await call
        engine.seen["caller"] = error_type


@scenario(*BOTH)
async def oversized_response(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    engine.seen["response"] = await wire.ask("POST", path(request_id, "response"), bytes(MAX_PAYLOAD + 1))
    other = await engine.connect()
    other.request("GET", NEXT)
    engine.seen["next"] = await other.reply_now()
    engine.seen["caller"] = await call


@scenario(*BOTH)
async def largest_response(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    engine.seen["response"] = await wire.ask("POST", path(request_id, "response"), bytes(MAX_PAYLOAD))
    wire.request("GET", NEXT)
    answer = await call
    engine.seen["caller"] = len(answer[1] if engine.managed else answer)


@scenario(*BOTH)
async def truncated_stream(engine: Engine) -> None:
    wire, stream, _, call = await engine.responding()
    stream.send(b"ff\r\nincomplete")
    stream.end_of_file()
    engine.seen["response"] = await stream.reply()
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    if engine.managed:
        error_type, _ = await call
        engine.seen["caller"] = error_type


@scenario(*BOTH)
async def truncated_response(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    other = await engine.connect()
    other.request("POST", path(request_id, "response"), b"half", {"Content-Length": "10"})
    other.end_of_file()
    engine.seen["response"] = await other.reply()
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    if engine.managed:
        error_type, _ = await call
        engine.seen["caller"] = error_type


@scenario(*BOTH)
async def error(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    body = b'{"errorMessage":"x","errorType":"Oops","stackTrace":[]}'
    headers = {"Lambda-Runtime-Function-Error-Type": "Function.Oops"}
    engine.seen["error"] = await wire.ask("POST", path(request_id, "error"), body, headers)
    engine.seen["response"] = await wire.ask("POST", path(request_id, "response"), b"{}")
    engine.seen["second error"] = await wire.ask("POST", path(request_id, "error"), b"{}")
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    engine.seen["caller"] = await call


@scenario(*MANAGED)
async def error_types(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    for sent in ("Runtime.Oops", "Function.oops", "Function.Oops1", "ValueError", None):
        headers = {"Lambda-Runtime-Function-Error-Type": sent} if sent else {}
        await wire.ask("POST", path(request_id, "error"), b"{}", headers)
        wire.request("GET", NEXT)
        engine.seen[f"caller, of {sent}"] = await call
        call = engine.invoke()
        await wire.reply()
        request_id = wire.headers["lambda-runtime-aws-request-id"]


@scenario(*BOTH)
async def large_error(engine: Engine) -> None:
    wire, request_id, _ = await engine.running()
    engine.seen["error"] = await wire.ask("POST", path(request_id, "error"), b"x" * (1024 * 1024 + 1))
    other = await engine.connect()
    engine.seen["response"] = await other.ask("POST", path(request_id, "response"), b"{}")


@scenario(*BOTH)
async def running_init_error(engine: Engine) -> None:
    wire, request_id, _ = await engine.running()
    engine.seen["init/error"] = await wire.ask("POST", INIT_ERROR, b"{}")
    engine.seen["again"] = await wire.ask("POST", INIT_ERROR, b"{}")
    engine.seen["response"] = await wire.ask("POST", path(request_id, "response"), b"{}")


@scenario(*BOTH)
async def responding_next(engine: Engine) -> None:
    wire, stream, _, _ = await engine.responding()
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    stream.send(b"0\r\n\r\n")
    engine.seen["response"] = await stream.reply()


@scenario(*BOTH)
async def responding_second_response(engine: Engine) -> None:
    wire, stream, request_id, call = await engine.responding()
    wire.request("POST", path(request_id, "response"), b"{}")
    engine.seen["second response"] = await wire.reply_now()
    stream.send(b"0\r\n\r\n")
    engine.seen["response"] = await stream.reply()
    if not engine.managed:
        engine.seen["second response, later"] = await wire.reply()
    wire.request("GET", NEXT)
    engine.seen["caller"] = await call


@scenario(*ON_DEMAND)
async def responding_error(engine: Engine) -> None:
    wire, stream, request_id, _ = await engine.responding()
    wire.request("POST", path(request_id, "error"), b"{}")
    engine.seen["error"] = await wire.reply_now()
    stream.send(b"0\r\n\r\n")
    engine.seen["response"] = await stream.reply()
    engine.seen["error, later"] = await wire.reply()


@scenario(*MANAGED)
async def managed_responding_error(engine: Engine) -> None:
    wire, stream, request_id, call = await engine.responding()
    headers = {"Lambda-Runtime-Function-Error-Type": "Function.Oops"}
    wire.request("POST", path(request_id, "error"), b'{"errorMessage":"x"}', headers)
    engine.seen["error, in mid-stream"] = await wire.reply_now()
    if engine.seen["error, in mid-stream"] == BLOCKED:
        stream.send(b"0\r\n\r\n")
        engine.seen["error"] = await wire.reply()
    else:
        engine.seen["error"] = engine.seen["error, in mid-stream"]
    engine.seen["the stream"] = await stream.reply()
    engine.seen["second error"] = await wire.ask("POST", path(request_id, "error"), b"{}")
    engine.seen["caller"] = await call


@scenario(*MANAGED)
async def parallel_next(engine: Engine) -> None:
    await engine.started()
    wires = [await engine.connect(), await engine.connect()]
    calls = []
    ids = []
    for n, wire in enumerate(wires):
        wire.request("GET", NEXT)
        calls.append(engine.invoke(b'{"n":%d}' % n))
        engine.seen[f"event {n}"] = await wire.reply()
        ids.append(wire.headers["lambda-runtime-aws-request-id"])
    for n in (1, 0):
        # On the other's connection: what counts is the id.
        engine.seen[f"response {n}"] = await wires[1 - n].ask("POST", path(ids[n], "response"), b'"of %d"' % n)
        # Over with its response: nobody has asked for the next event.
        engine.seen[f"caller {n}"] = await calls[n]


@scenario(*MANAGED)
async def no_worker(engine: Engine) -> None:
    await engine.started()
    wires = [await engine.connect(), await engine.connect()]
    for wire in wires:
        wire.request("GET", NEXT)
        engine.invoke()
        await wire.reply()
    try:
        await engine.call(b"{}")
    except UnavailableError:
        engine.seen["caller"] = "refused"


async def post_after_timeout(engine: Engine, what: str, then: str) -> None:
    wire, request_id, call = await engine.running()
    engine.seen["caller"] = (await call)[0]
    headers = {"Lambda-Runtime-Invocation-Id": wire.headers["lambda-runtime-invocation-id"]}
    engine.seen[what] = await wire.ask("POST", path(request_id, what), b"{}", headers)
    engine.seen[f"{then}, then"] = await wire.ask("POST", path(request_id, then), b"{}", headers)
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()


@scenario(*MANAGED, timeout=1)
async def response_after_timeout(engine: Engine) -> None:
    await post_after_timeout(engine, "response", "response")


@scenario(*MANAGED, timeout=1)
async def error_after_timeout(engine: Engine) -> None:
    await post_after_timeout(engine, "error", "response")


@scenario(*MANAGED)
async def oversized_stream(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    wire.request("POST", path(request_id, "response"), headers=STREAMING)
    wire.chunk(bytes(MAX_PAYLOAD))
    wire.chunk(b"x")
    wire.send(b"0\r\n\r\n")
    engine.seen["response"] = await wire.reply()
    engine.seen["caller"] = (await call)[0]


@scenario(*BOTH)
async def truncated_error(engine: Engine) -> None:
    wire, request_id, _ = await engine.running()
    other = await engine.connect()
    other.request("POST", path(request_id, "error"), b"half", {"Content-Length": "10"})
    other.end_of_file()
    engine.seen["error"] = await other.reply()
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()


@scenario(*BOTH)
async def exit_while_running(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    wire.close()  # as the end of a process does
    os.killpg(engine.pid, signal.SIGKILL)
    answer = await call
    if engine.managed:
        engine.seen["caller"] = answer[0]
    else:
        engine.seen["caller"] = {name: value.replace(request_id, "ID") for name, value in answer.items()}


@scenario(*MANAGED)
async def aborted_next(engine: Engine) -> None:
    await engine.started()
    wire = await engine.connect()
    wire.request("GET", NEXT)
    engine.seen["next"] = await wire.reply_now()
    wire.close()
    other = await engine.connect()
    other.request("GET", NEXT)
    engine.seen["another next"] = await other.reply_now()
    engine.seen["first caller"] = (await engine.invoke())[0]
    engine.invoke()
    engine.seen["second event"] = await other.reply()


@scenario(*ON_DEMAND)
async def ready_two_next(engine: Engine) -> None:
    wire, request_id, call = await engine.running()
    await wire.ask("POST", path(request_id, "response"), b'"x"')
    wire.request("GET", NEXT)
    await call
    other = await engine.connect()
    other.request("GET", NEXT)
    engine.seen["second next"] = await other.reply_now()
    engine.invoke(b'{"n":2}')
    engine.seen["event on the first"] = await wire.reply_now()
    engine.seen["event on the second"] = await other.reply_now()


@scenario(*BOTH)
async def refusal_before_the_body(engine: Engine) -> None:
    wire, _, _ = await engine.running()
    wire.request("POST", path("of-nobody", "response"), headers={"Content-Length": "10"})
    engine.seen["response"] = await wire.reply_now()


TARGETS = [
    ("GET", "/"),
    ("GET", PREFIX),
    ("GET", f"{PREFIX}/restore/next"),
    ("POST", f"{PREFIX}/restore/error"),
    ("GET", f"{NEXT}/"),
    ("GET", f"{NEXT}?a=b"),
    ("POST", path("a/b", "response")),
    ("POST", path("", "response")),
    ("POST", NEXT),
    ("HEAD", NEXT),
    ("GET", path("a", "response")),
    ("PUT", path("a", "error")),
    ("DELETE", path("a", "error")),
    ("GET", INIT_ERROR),
]


@scenario(*BOTH)
async def paths_and_methods(engine: Engine) -> None:
    _, request_id, _ = await engine.running()
    for method, target in TARGETS:
        wire = await engine.connect()
        wire.request(method, target)
        reply = await wire.reply_now()
        engine.seen[f"{method} {target}"] = (reply, wire.headers.get("content-type"), wire.headers.get("allow"))


@pytest.fixture(scope="session")
def binary(pytestconfig: pytest.Config) -> Path:
    return runtime_interface_emulator(pytestconfig.cache.mkdir("runtime-interface-emulator"))


def emulator(mode: str, binary: Path, timeout: int) -> Emulator:
    if mode == "on-demand":
        return OnDemandEmulator(binary, timeout)
    if not mounts_of_its_own():
        pytest.skip("AWS's engine for managed instances needs root, and mounts of its own (unshare --mount)")
    return ManagedEmulator(binary, timeout)


@pytest.mark.parametrize(("mode", "name"), SCENARIOS, ids=[f"{mode}-{name}" for mode, name in SCENARIOS])
async def test_same_as_aws(binary: Path, mode: str, name: str) -> None:
    scenario = SCENARIOS[mode, name]
    async with emulator(mode, binary, scenario.timeout) as theirs:
        await scenario.play(theirs)
    async with (OnDemand if mode == "on-demand" else Managed)(scenario.timeout) as ours:
        await scenario.play(ours)
    different = {
        row: (theirs.seen.get(row), ours.seen.get(row))
        for row in {**theirs.seen, **ours.seen}
        if theirs.seen.get(row) != ours.seen.get(row)
    }
    wanted = {row for m, n, row in DIFFERENCES if (m, n) == (mode, name)}
    assert set(different) == wanted, different

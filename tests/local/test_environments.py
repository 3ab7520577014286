"""Execution environments: which of them takes a request, how they end, what the log says."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import adapter.local.function as function_module
from adapter.local.listener import Listener

from .conftest import FUNCTIONS, Gate, alive, gone, local_lambda

EMPTY: list[list[Any]] = [["open"], ["prelude", {}], ["end"]]


def held(gate: Gate) -> list[list[Any]]:
    """Answers when the test says so."""
    return [["gate", gate.port], *EMPTY]


async def test_warm_environment_is_used_again() -> None:
    async with local_lambda("main.handler", scripted=False) as url:
        first = (await url.client.get("/")).json()["pid"]
        await url.terminal.until("^REPORT")
        assert (await url.client.get("/")).json()["pid"] == first
        reports = await url.terminal.until("^REPORT.*", 2)
        assert len(re.findall("^INIT_START", url.terminal.getvalue(), re.MULTILINE)) == 1
        number = r"\d+\.\d\d ms"
        head = rf"REPORT RequestId: [0-9a-f-]{{36}}\tDuration: {number}\tBilled Duration: \d+ ms\tMemory Size: 128 MB"
        assert re.fullmatch(rf"{head}\tMax Memory Used: \d+ MB\tInit Duration: {number}", reports[0])
        assert re.fullmatch(rf"{head}\tMax Memory Used: \d+ MB", reports[1])


async def test_log_of_an_invocation() -> None:
    async with local_lambda() as url:
        await url.run(["print", "one\rtwo"], *EMPTY, ["print", "no line end", ""])
        await url.terminal.until("^TIMELINE")
        lines = re.sub(r"[0-9a-f-]{36}", "<id>", url.terminal.getvalue()).splitlines()
        assert lines[0].startswith("INIT_START Runtime Version: python:3.")
        assert lines[1].startswith("Function URL: http://127.0.0.1:")
        assert lines[2:5] == ["START RequestId: <id> Version: $LATEST", "one", "two"]
        # The response's end and the function's lines meet in one terminal: of these two, either may be first.
        assert sorted(line.split("\t")[0] for line in lines[5:8]) == [
            "RESPONSE RequestId: <id>",
            "no line end",
            "response 202",
        ]
        assert lines[8] == "END RequestId: <id>"
        assert lines[9].startswith("REPORT RequestId: <id>\tDuration: ")
        figures = "init N ms | first byte N ms | stream N ms | background N ms"
        assert re.sub(r"[\d.]+ ms", "N ms", lines[10]) == f"TIMELINE RequestId: <id>  {figures}"


async def test_lines_that_are_very_long() -> None:
    async with local_lambda() as url:
        await url.run(["print", "x" * 1_000_000], *EMPTY)
        await url.terminal.until("^REPORT")
        assert url.terminal.getvalue().count("x") >= 1_000_000


async def test_a_thread_that_never_stops_printing_does_not_hold_up_the_report() -> None:
    async with local_lambda("main.chatter", scripted=False) as url:
        assert (await url.client.get("/")).text == '"said"'
        await url.terminal.until("^REPORT")


async def test_requests_at_one_time_have_environments_of_their_own(gate: Gate) -> None:
    async with local_lambda() as url:
        requests = [asyncio.create_task(url.run(*held(gate))) for _ in range(3)]
        arrivals = [await gate.reached() for _ in requests]
        assert len({pid for pid, _ in arrivals}) == 3
        for _, go_on in arrivals:
            go_on()
        assert [(await request).status_code for request in requests] == [200, 200, 200]


async def test_past_the_cap(gate: Gate) -> None:
    async with local_lambda(max_environments=1) as url:
        request = asyncio.create_task(url.run(*held(gate)))
        _, go_on = await gate.reached()
        refused = await url.run(*EMPTY)
        assert refused.status_code == 429
        assert refused.json() == {
            "Reason": "ConcurrentInvocationLimitExceeded",
            "Type": "User",
            "message": "Rate Exceeded.",
        }
        await url.terminal.until("^A request was refused with 429: no environment is free$")
        go_on()
        assert (await request).status_code == 200
        assert (await url.run(*EMPTY)).status_code == 200


async def test_environment_that_is_about_to_be_free_is_waited_for(gate: Gate) -> None:
    async with local_lambda() as url:
        reply = await url.run(*EMPTY, ["gate", gate.port])
        assert reply.status_code == 200
        # The answer has ended and GET /next has not come. A request now waits for it.
        pid, go_on = await gate.reached()
        following = asyncio.create_task(url.run(["gate", gate.port], *EMPTY))
        await asyncio.sleep(0.02)
        go_on()
        assert (again := await gate.reached())[0] == pid
        again[1]()
        assert (await following).status_code == 200
        assert url.terminal.getvalue().count("INIT_START") == 1


async def test_background_work_is_not_waited_for_long(gate: Gate) -> None:
    async with local_lambda() as url:
        await url.run(*EMPTY, ["gate", gate.port])
        pid, go_on = await gate.reached()
        following = asyncio.create_task(url.run(["gate", gate.port], *EMPTY))
        other, go_on_too = await gate.reached()
        assert other != pid
        go_on()
        go_on_too()
        assert (await following).status_code == 200


async def test_many_requests_and_few_environments(gate: Gate) -> None:
    async with local_lambda(max_environments=3) as url:
        requests = [asyncio.create_task(url.run(*held(gate))) for _ in range(12)]
        for _ in range(3):
            (await gate.reached())[1]()

        async def usher() -> None:
            while True:
                (await gate.reached())[1]()

        ushering = asyncio.create_task(usher())
        await asyncio.gather(*requests)
        ushering.cancel()
        statuses = [request.result().status_code for request in requests]
        assert set(statuses) <= {200, 429}
        assert statuses.count(200) >= 3
        assert url.terminal.getvalue().count("INIT_START") <= 3


async def test_timeout_before_the_response() -> None:
    async with local_lambda("main.sleep", scripted=False, timeout=1) as url:
        reply = await url.client.get("/")
        assert (reply.status_code, reply.text) == (502, "Internal Server Error")
        await url.terminal.until(
            r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [0-9a-f-]{36} Task timed out after 1\.00 seconds\n\n"
            r"END .*\nREPORT .*\tStatus: timeout$"
        )
        assert "asleep" in url.terminal.getvalue()


async def test_timeout_in_mid_stream() -> None:
    async with local_lambda(timeout=1) as url:
        reply = await url.run(["child"], ["open"], ["prelude", {}], ["chunk", "begun"], ["hang"])
        assert (reply.status_code, reply.content) == (200, b"begun")
        await url.terminal.until("Task timed out after 1.00 seconds")
        assert "Runtime.TruncatedResponse" not in url.terminal.getvalue()
        (child,) = await url.terminal.until(r"^child (\d+)$")
        await gone(int(child))


async def test_timeout_after_the_response() -> None:
    async with local_lambda(timeout=1) as url:
        reply = await url.run(["open"], ["prelude", {}], ["chunk", "whole"], ["end"], ["hang"])
        assert (reply.status_code, reply.content) == (200, b"whole")
        await url.terminal.until("Task timed out after 1.00 seconds")
        assert (await url.run(*EMPTY)).status_code == 200
        assert url.terminal.getvalue().count("INIT_START") == 2


async def test_crash_and_a_fresh_environment() -> None:
    async with local_lambda("main.die", scripted=False) as url:
        for count in (1, 2):
            assert (await url.client.get("/")).status_code == 502
            await url.terminal.until("Runtime exited with error: exit status 7\nRuntime.ExitError$", count)
        assert url.terminal.getvalue().count("INIT_START") == 2


async def test_killed_in_the_middle(gate: Gate) -> None:
    async with local_lambda() as url:
        request = asyncio.create_task(url.run(*held(gate)))
        pid, _ = await gate.reached()
        os.kill(pid, signal.SIGKILL)
        assert (await request).status_code == 502
        await url.terminal.until("Runtime exited with error: signal: killed")


async def test_killed_while_idle(gate: Gate) -> None:
    async with local_lambda() as url:
        request = asyncio.create_task(url.run(*held(gate)))
        pid, go_on = await gate.reached()
        go_on()
        await request
        await url.terminal.until("^REPORT")
        os.kill(pid, signal.SIGKILL)
        await url.terminal.until("^Runtime exited with error: signal: killed, between two invocations$")
        assert (await url.run(*EMPTY)).status_code == 200


def env_file(folder: Path, **variables: str) -> Path:
    file = folder / "variables.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    return file


async def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_SHELL", "shell")
    monkeypatch.setenv("FROM_BOTH", "shell")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_LAMBDA_MAX_CONCURRENCY", "2")
    file = env_file(tmp_path, FROM_BOTH="file", FROM_FILE="'a b'", TZ="Europe/Berlin")
    async with local_lambda("main.handler", scripted=False, env_file=file, memory=512) as url:
        result = (await url.client.get("/")).json()
    found = result["environment"]
    assert (found["FROM_SHELL"], found["FROM_BOTH"], found["FROM_FILE"]) == ("shell", "file", "a b")
    assert "AWS_LAMBDA_MAX_CONCURRENCY" not in found
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "eu-north-1"
    assert result["arn"] == "arn:aws:lambda:eu-north-1:123456789012:function:local"
    assert result["cwd"] == found["LAMBDA_TASK_ROOT"] == str(FUNCTIONS)
    assert found["PYTHONPATH"].split(os.pathsep)[0] == str(FUNCTIONS)
    assert found["_HANDLER"] == "main.handler"
    assert found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert found["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert found["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert found["AWS_EXECUTION_ENV"].startswith("AWS_Lambda_python3.")
    assert found["TZ"] == ":UTC"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", found["AWS_LAMBDA_RUNTIME_API"])


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("error", "Runtime.NoTea: there is none"),
        ("exit", "Runtime.ExitError: Runtime exited with error: exit status 4"),
    ],
)
async def test_init_that_fails(tmp_path: Path, how: str, error: str) -> None:
    file = env_file(tmp_path, RUNTIME_INIT=f"fail={how}")
    async with local_lambda(env_file=file, reload=True) as url:
        await url.terminal.until(
            r"^INIT_REPORT Init Duration: .* ms\tPhase: init\tStatus: error\tError Type: Runtime\."
        )
        await url.terminal.until("^Function URL")
        reply = await url.run(*EMPTY)
        assert (reply.status_code, reply.text) == (502, "Internal Server Error")
        file.write_text("")
        assert (await url.run(*EMPTY)).status_code == 200
    async with local_lambda(env_file=env_file(tmp_path, RUNTIME_INIT=f"fail={how}")) as url:
        await url.terminal.until(f"^The function failed its init: {error}$")


@pytest.mark.parametrize("concurrency", [None, 1])
async def test_without_a_descriptor_left(monkeypatch: pytest.MonkeyPatch, concurrency: int | None) -> None:
    async def none_left(self: Listener) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Listener, "start", none_left)
        async with local_lambda(reload=True, concurrency=concurrency) as url:
            assert (await url.run(*EMPTY)).status_code == 502
            await url.terminal.until("Too many open files")
            patched.undo()
            assert (await url.run(*EMPTY)).status_code == 200


async def test_init_that_takes_too_long(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_module, "INIT_LIMIT", 0.5)
    file = env_file(tmp_path, RUNTIME_INIT=f"gate={gate.port}")
    async with local_lambda(env_file=file) as url:
        first, _ = await gate.reached()
        await url.terminal.until(r"^INIT_REPORT .*\tPhase: init\tStatus: timeout$")
        assert not alive(first)
        # It is done again inside the first invocation, with the function's timeout.
        request = asyncio.create_task(url.run(*EMPTY))
        second, go_on = await gate.reached()
        assert second != first
        go_on()
        assert (await request).status_code == 200
        (report,) = await url.terminal.until("^REPORT.*")
        assert "Init Duration" not in report


async def test_init_that_takes_too_long_twice(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_module, "INIT_LIMIT", 0.5)
    file = env_file(tmp_path, RUNTIME_INIT=f"gate={gate.port}")
    async with local_lambda(env_file=file, timeout=0.5) as url:
        await url.terminal.until(r"^INIT_REPORT .*\tPhase: init\tStatus: timeout$")
        reply = await url.run(*EMPTY)
        assert (reply.status_code, reply.text) == (502, "Internal Server Error")
        await url.terminal.until("Task timed out after 0.50 seconds")


async def test_stopping_cuts_streams_and_leaves_nothing(gate: Gate) -> None:
    async with local_lambda() as url:
        async with url.stream(["open"], ["prelude", {}], ["chunk", "begun"], ["child"], ["gate", gate.port]) as reply:
            assert await anext(reply.aiter_raw()) == b"begun"
            pid, _ = await gate.reached()
            url.stop.set()
            await gone(pid)
            (child,) = await url.terminal.until(r"^child (\d+)$")
            await gone(int(child))

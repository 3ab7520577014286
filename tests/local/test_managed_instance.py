"""Managed instances: one environment, several invocations at a time, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

import adapter.local.managed_environment as managed_environment_module
import adapter.local.managed_instance as managed_instance_module
from adapter.local.configuration import Configuration
from adapter.local.invocation import FunctionError, Invocation, Response
from adapter.local.log import Log
from adapter.local.managed_instance import ManagedInstance

from .conftest import FUNCTIONS, SCRIPTED, Gate, LocalLambda, Terminal, alive, gone, local_lambda

EMPTY: list[list[Any]] = [["open"], ["prelude", {}], ["end"]]


def held(gate: Gate) -> list[list[Any]]:
    """Answers when the test says so."""
    return [["gate", gate.port], *EMPTY]


def env_file(folder: Path, init: str) -> Path:
    """`init` is what a scripted worker does first."""
    file = folder / "variables.env"
    file.write_text(f"RUNTIME_INIT={init}\n")
    return file


async def meet(url: LocalLambda, gate: Gate) -> httpx.Response:
    return await url.client.post("/", content=str(gate.port), headers={"content-type": "text/plain"})


async def test_awslambdaric_has_a_process_for_each_worker(gate: Gate) -> None:
    async with local_lambda("main.meet", scripted=False, concurrency=3) as url:
        requests = [asyncio.create_task(meet(url, gate)) for _ in range(3)]
        arrivals = [await gate.reached() for _ in requests]
        assert len({pid for pid, _ in arrivals}) == 3
        assert (await meet(url, gate)).status_code == 429
        for _, go_on in arrivals:
            go_on()
        answers = {(await request).json() for request in requests}
        assert answers == {pid for pid, _ in arrivals}
        assert url.terminal.getvalue().count("INIT_START") == 1
    for pid, _ in arrivals:
        await gone(pid)


async def test_variables_of_a_managed_instance() -> None:
    async with local_lambda("main.handler", scripted=False, concurrency=2) as url:
        found = (await url.client.get("/")).json()["environment"]
    assert found["AWS_LAMBDA_MAX_CONCURRENCY"] == "2"
    assert found["AWS_LAMBDA_INITIALIZATION_TYPE"] == "lambda-managed-instances"
    assert found["AWS_LAMBDA_LOG_FORMAT"] == "JSON"


async def test_log_of_an_invocation_on_a_managed_instance(gate: Gate) -> None:
    async with local_lambda("main.meet", scripted=False, concurrency=2) as url:
        requests = [asyncio.create_task(meet(url, gate)) for _ in range(2)]
        for _ in requests:
            (await gate.reached())[1]()
        await asyncio.gather(*requests)
        await url.terminal.until("^REPORT", 2)
        lines = url.terminal.getvalue().splitlines()
        ids = [line.split()[2] for line in lines if line.startswith("START RequestId: ")]
        assert len(set(ids)) == 2
        for request_id in ids:
            own = [line for line in lines if request_id in line]
            words = [word for line in own if (word := line.split()[0]) in ("START", "END", "REPORT")]
            assert words == ["START", "END", "REPORT"]
            (message,) = [json.loads(line) for line in own if line.startswith("{")]
            assert message["message"] == f"met {gate.port}"
            # What the function wrote before its response comes before its END.
            assert own.index(json.dumps(message)) < own.index(f"END RequestId: {request_id}")
        assert "Max Memory Used" not in url.terminal.getvalue()
        await url.terminal.until(r"^INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: success$")


async def test_tail_has_the_lines_of_its_invocation(terminal: Terminal) -> None:
    configuration = Configuration("main.fail", FUNCTIONS, concurrency=2)
    async with asyncio.TaskGroup() as tasks:
        function = ManagedInstance(configuration, Log(terminal), tasks)
        invocations = [Invocation(b"{}", "arn:f", f"request-{n}", "Root=1-2-3") for n in range(2)]
        for invocation in invocations:
            await function.invoke(invocation)
            assert isinstance(await invocation.answer, FunctionError)
            invocation.delivered()
            await invocation.finished.wait()
            assert invocation.outcome is not None
        await function.close()
    for n, invocation in enumerate(invocations):
        start, message, end, report = bytes(invocation.tail).decode().splitlines()
        assert json.loads(message)["errorMessage"] == "no\ntea"
        assert f"request-{n}" in start and f"request-{n}" in end and f"request-{n}" in report
        assert json.loads(message)["requestId"] == f"request-{n}"


async def test_invocation_is_over_with_its_response(gate: Gate) -> None:
    async with local_lambda(concurrency=2, timeout=0.5) as url:
        assert (await url.run(*EMPTY, ["gate", gate.port], ["print", "worked on"])).status_code == 200
        pid, go_on = await gate.reached()
        await url.terminal.until("^REPORT")
        # It has a worker less meanwhile.
        assert (await url.run(*EMPTY)).status_code == 200
        await asyncio.sleep(0.6)
        go_on()
        # The timeout is the invocation's, and that is long over.
        await url.terminal.until("^worked on$")
        assert alive(pid)
        assert "timed out" not in url.terminal.getvalue()


async def test_timeout_leaves_the_worker_alone(gate: Gate) -> None:
    async with local_lambda(concurrency=2, timeout=0.5) as url:
        request = asyncio.create_task(url.run(["gate", gate.port], ["post", "response", "late", {}]))
        pid, go_on = await gate.reached()
        assert (await request).status_code == 502
        await url.terminal.until("Task timed out after 0.50 seconds")
        await url.terminal.until("^REPORT .*\tStatus: timeout$")
        go_on()
        await url.terminal.until("^response 410$")
        requests = [asyncio.create_task(url.run(*held(gate))) for _ in range(2)]
        for _ in requests:
            same, go_on = await gate.reached()
            assert same == pid
            go_on()
        assert [(await request).status_code for request in requests] == [200, 200]


async def test_timeout_in_mid_stream_on_a_managed_instance(terminal: Terminal, gate: Gate) -> None:
    configuration = Configuration("scripted", FUNCTIONS, concurrency=1, timeout=0.5, command=SCRIPTED)
    event = json.dumps({"body": json.dumps([["open"], ["chunk", "begun"], ["gate", gate.port], ["end"]])}).encode()
    async with asyncio.TaskGroup() as tasks:
        function = ManagedInstance(configuration, Log(terminal), tasks)
        invocation = Invocation(event, "arn:f", "request-1", "Root=1-2-3")
        await function.invoke(invocation)
        response = await invocation.answer
        assert isinstance(response, Response)
        assert [chunk async for chunk in response] == [b"begun"]
        assert response.error is not None
        assert response.error.type == "Sandbox.Timedout"
        invocation.delivered()
        await invocation.finished.wait()
        assert invocation.outcome == response.error
        _, go_on = await gate.reached()
        go_on()
        await terminal.until("^response 410$")
        await function.close()


async def test_worker_that_ends_the_process_ends_every_invocation(gate: Gate) -> None:
    async with local_lambda(concurrency=2) as url:
        request = asyncio.create_task(url.run(*held(gate)))
        pid, _ = await gate.reached()
        assert (await url.run(["exit", 7])).status_code == 502
        assert (await request).status_code == 502
        await url.terminal.until("^RequestId: .* Error: Runtime exited with error: exit status 7$", 2)
        await url.terminal.until("^REPORT .*\tStatus: error\tError Type: Runtime.ExitError$", 2)
        assert not alive(pid)
        assert (await url.run(*EMPTY)).status_code == 200
        assert url.terminal.getvalue().count("INIT_START") == 2


async def test_response_that_was_sent_before_the_end_is_the_callers() -> None:
    async with local_lambda(concurrency=1) as url:
        reply = await url.run(["open"], ["prelude", {}], ["chunk", "x" * 1000], ["end"], ["exit", 7])
        assert (reply.status_code, len(reply.content)) == (200, 1000)
        await url.terminal.until("exit status 7, between two invocations$")
        assert (await url.run(*EMPTY)).status_code == 200


async def test_killed_while_its_workers_are_idle(gate: Gate) -> None:
    async with local_lambda(concurrency=2) as url:
        request = asyncio.create_task(url.run(*held(gate)))
        pid, go_on = await gate.reached()
        go_on()
        await request
        await url.terminal.until("^REPORT")
        os.kill(pid, signal.SIGKILL)
        await url.terminal.until("^Runtime exited with error: signal: killed, between two invocations$")
        assert (await url.run(*EMPTY)).status_code == 200


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("error", "Runtime.NoTea: there is none"),
        ("exit", "Runtime.ExitError: Runtime exited with error: exit status 4"),
    ],
)
async def test_init_of_a_managed_instance_that_fails(tmp_path: Path, how: str, error: str) -> None:
    file = env_file(tmp_path, f"fail={how}")
    async with local_lambda(env_file=file, reload=True, concurrency=1) as url:
        await url.terminal.until(
            r"^INIT_REPORT Init Duration: .* ms\tPhase: init\tStatus: error\tError Type: Runtime\."
        )
        await url.terminal.until("^Function URL")
        assert (await url.run(*EMPTY)).status_code == 502
        file.write_text("")
        assert (await url.run(*EMPTY)).status_code == 200
    async with local_lambda(env_file=env_file(tmp_path, f"fail={how}"), concurrency=1) as url:
        await url.terminal.until(f"^The function failed its init: {error}$")


async def test_init_of_a_managed_instance_that_takes_too_long(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed_environment_module, "INIT_LIMIT", 0.5)
    file = env_file(tmp_path, f"gate={gate.port}")
    async with local_lambda(env_file=file, concurrency=1, timeout=0.5) as url:
        pid, _ = await gate.reached()
        await url.terminal.until(r"^INIT_REPORT .*\tPhase: init\tStatus: timeout$")
        await url.terminal.until("^The function failed its init: Sandbox.Timedout: ")
        await gone(pid)


async def test_worker_that_is_still_starting_is_waited_for(tmp_path: Path, gate: Gate) -> None:
    file = env_file(tmp_path, f"gate={gate.port}")
    async with local_lambda(env_file=file, concurrency=2) as url:
        _, first = await gate.reached()
        _, second = await gate.reached()
        first()
        request = asyncio.create_task(url.run(*held(gate)))
        _, go_on = await gate.reached()
        other = asyncio.create_task(url.run(*EMPTY))
        # Longer than a request waits for one that is busy.
        await asyncio.wait({other}, timeout=0.3)
        assert not other.done()
        second()
        assert (await other).status_code == 200
        go_on()
        assert (await request).status_code == 200


async def test_workers_that_never_come_are_not_waited_for_for_ever(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed_instance_module, "WORKERS_LIMIT", 0.0)
    file = env_file(tmp_path, f"gate={gate.port}")
    async with local_lambda(env_file=file, concurrency=2) as url:
        _, first = await gate.reached()
        await gate.reached()
        first()
        request = asyncio.create_task(url.run(*held(gate)))
        _, go_on = await gate.reached()
        assert (await url.run(*EMPTY)).status_code == 429
        go_on()
        assert (await request).status_code == 200


async def test_reload_of_a_managed_instance(terminal: Terminal, gate: Gate) -> None:
    configuration = Configuration("main.meet", FUNCTIONS, concurrency=2)
    event = json.dumps({"body": str(gate.port)}).encode()
    async with asyncio.TaskGroup() as tasks:
        function = ManagedInstance(configuration, Log(terminal), tasks)
        pids = []
        busy = Invocation(event, "arn:f", "request-1", "Root=1-2-3")
        await function.invoke(busy)
        pid, go_on = await gate.reached()
        function.reload()
        other = Invocation(event, "arn:f", "request-2", "Root=1-2-3")
        await function.invoke(other)
        other_pid, other_goes_on = await gate.reached()
        assert other_pid != pid
        assert alive(pid)
        for release, invocation in ((go_on, busy), (other_goes_on, other)):
            release()
            answer = await invocation.answer
            assert isinstance(answer, Response)
            pids.append(int(b"".join([chunk async for chunk in answer])))
            invocation.delivered()
            await invocation.finished.wait()
        assert pids == [pid, other_pid]
        await gone(pid)
        assert alive(other_pid)
        # One that is only starting is not waited for.
        function.reload()
        function.reload()
        assert await asyncio.wait_for(function.start(), 20) is None
        await gone(other_pid)
        await function.close()


async def test_stopping_a_managed_instance_leaves_nothing(gate: Gate) -> None:
    async with local_lambda(concurrency=2) as url:
        async with url.stream(["open"], ["prelude", {}], ["chunk", "begun"], ["child"], ["gate", gate.port]) as reply:
            assert await anext(reply.aiter_raw()) == b"begun"
            pid, _ = await gate.reached()
            url.stop.set()
            await gone(pid)
            (child,) = await url.terminal.until(r"^child (\d+)$")
            await gone(int(child))

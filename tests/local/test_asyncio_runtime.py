"""The asyncio runtime under the local Lambda, and under AWS's own Runtime API server: invocations, and the end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..events import function_url
from .conformance import (
    Emulator,
    ManagedEmulator,
    OnDemandEmulator,
    mounts_of_its_own,
    runtime_interface_emulator,
)
from .conftest import FUNCTIONS, LocalLambda, Terminal, local_lambda

ROOT = FUNCTIONS.parents[2]
RUNTIME: dict[str, Any] = {"scripted": False, "client": "adapter"}


async def started(terminal: Terminal) -> int:
    """The function's process."""
    (pid,) = await terminal.until(r"^(?:\{.*)?startup of (\d+)")
    return int(pid)


async def test_one_process_for_one_invocation_after_another() -> None:
    async with local_lambda("ending.handler", **RUNTIME) as url:
        pids = {(await url.client.get("/pid")).json() for _ in range(3)}
        assert pids == {await started(url.terminal)}
    # The local Lambda ends it as Lambda does.
    assert url.terminal.getvalue().rstrip().endswith("shutdown")


async def test_idle_it_is_ended() -> None:
    async with local_lambda("ending.handler", idle=0.2, **RUNTIME) as url:
        await url.client.get("/pid")
        await url.terminal.until("^shutdown$")


async def test_a_timeout_is_answered_before_it_comes() -> None:
    async with local_lambda("ending.handler", timeout=1, **RUNTIME) as url:
        assert (await url.client.get("/stream/5")).text == "begun "
        await url.terminal.until("^REPORT")
        assert (await url.client.get("/pid")).status_code == 200
        log = url.terminal.getvalue()
        assert log.count("startup of") == 1 and "Task timed out" not in log


@pytest.mark.parametrize("concurrency", [None, 8])
class TestSigterm:
    """From anybody: the local Lambda would cut off what is under way before it sends one."""

    async def test_streaming(self, concurrency: int | None) -> None:
        async with local_lambda("ending.handler", concurrency=concurrency, **RUNTIME) as url:
            answer = asyncio.create_task(url.client.get("/stream/0.1"))
            await url.terminal.until("^streaming$")
            os.kill(await started(url.terminal), signal.SIGTERM)
            assert (await answer).text == "begun done"
            await url.terminal.until("^shutdown$")

    async def test_background(self, concurrency: int | None) -> None:
        async with local_lambda("ending.handler", concurrency=concurrency, **RUNTIME) as url:
            assert (await url.client.get("/background/0.1")).text == '"answered"'
            await url.terminal.until("^working$")
            os.kill(await started(url.terminal), signal.SIGTERM)
            await url.terminal.until("^worked\nshutdown$")

    async def test_what_cannot_be_finished(self, concurrency: int | None) -> None:
        async with local_lambda("ending.handler", concurrency=concurrency, **RUNTIME) as url:
            answer = asyncio.create_task(url.client.get("/stream/10"))
            await url.terminal.until("^streaming$")
            begun = time.monotonic()
            os.kill(await started(url.terminal), signal.SIGTERM)
            assert (await answer).text == "begun "
            await url.terminal.until("^shutdown$")
            await url.terminal.until("Runtime exited without providing a reason|REPORT")
            assert time.monotonic() - begun < 0.6

    async def test_idle(self, concurrency: int | None) -> None:
        async with local_lambda("ending.handler", concurrency=concurrency, freeze=False, **RUNTIME) as url:
            await url.client.get("/pid")
            os.kill(await started(url.terminal), signal.SIGTERM)
            await url.terminal.until("^shutdown$")
            # The next one starts a new process.
            assert (await url.client.get("/pid")).status_code == 200


async def test_managed_instances_are_one_process() -> None:
    async with local_lambda("ending.handler", concurrency=64, **RUNTIME) as url:
        answers = await asyncio.gather(*[url.client.get("/meet/64") for _ in range(64)])
        assert {answer.json()["pid"] for answer in answers} == {await started(url.terminal)}
    assert url.terminal.getvalue().count("INIT_START") == 1


@pytest.fixture
def binary(pytestconfig: pytest.Config) -> Path:
    assert pytestconfig.cache is not None
    return runtime_interface_emulator(pytestconfig.cache.mkdir("runtime-interface-emulator"))


class OnDemandFunction(OnDemandEmulator):
    """The asyncio runtime as AWS's emulator's."""

    @property
    def command(self) -> tuple[str, ...]:
        return self.emulator(sys.executable, "-m", "adapter", "ending.handler")

    @property
    def variables(self) -> dict[str, str]:
        return {"PYTHONPATH": f"{FUNCTIONS}:{ROOT}", "_HANDLER": "ending.handler"}


class ManagedFunction(ManagedEmulator):
    """The same on its managed instance: its bootstrap's user has to be able to run this interpreter."""

    concurrency = 64

    @property
    def command(self) -> tuple[str, ...]:
        script = (
            'mount -t tmpfs tmpfs /var && mkdir -p /var/task /var/python && mount --bind "$1" /var/python'
            ' && mount -t tmpfs -o mode=755 tmpfs "/$(echo "$1" | cut -d/ -f2)" && mkdir -p "$1"'
            ' && mount --bind /var/python "$1" && echo "$0" >/var/task/bootstrap && chmod 755 /var/task/bootstrap'
            ' && shift && exec "$@"'
        )
        bootstrap = f"#!/bin/sh\nexec {sys.executable} -m adapter ending.handler\n"
        unshare = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, bootstrap)
        return (*unshare, sys.base_prefix, *self.emulator())

    @property
    def variables(self) -> dict[str, str]:
        return {
            "PYTHONPATH": f"{FUNCTIONS}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_LAMBDA_MAX_CONCURRENCY": str(self.concurrency),
        }


async def get(emulator: Emulator, path: str) -> httpx.Response:
    return await emulator.post(json.dumps(function_url(path)).encode())

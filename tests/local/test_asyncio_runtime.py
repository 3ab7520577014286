"""The asyncio runtime under the local Lambda, and under AWS's own Runtime API server: invocations, and the end."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapter.local.configuration import Configuration
from adapter.local.log import Log
from adapter.local.managed_runtime_api import ManagedRuntimeAPI

from ..events import function_url
from .conformance import (
    Emulator,
    ManagedEmulator,
    OnDemandEmulator,
    mounts_of_its_own,
    runtime_interface_emulator,
)
from .conftest import FUNCTIONS, Terminal, gone, local_lambda

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
            # A managed instance logs in JSON, from INFO on: the record of what the work has cost is there, too.
            await url.terminal.until('^worked\n(?:.*"background_ms".*\n)?shutdown$')

    async def test_what_cannot_be_finished(self, concurrency: int | None) -> None:
        async with local_lambda("ending.handler", concurrency=concurrency, **RUNTIME) as url:
            answer = asyncio.create_task(url.client.get("/stream/10"))
            await url.terminal.until("^streaming$")
            begun = time.monotonic()
            os.kill(await started(url.terminal), signal.SIGTERM)
            assert (await answer).text == "begun "
            await url.terminal.until("^shutdown$")
            await url.terminal.until("Runtime exited without providing a reason|REPORT")
            assert time.monotonic() - begun < 5  # of ten

    async def test_idle(self, concurrency: int | None) -> None:
        async with local_lambda("ending.handler", concurrency=concurrency, freeze=False, **RUNTIME) as url:
            await url.client.get("/pid")
            os.kill(pid := await started(url.terminal), signal.SIGTERM)
            await url.terminal.until("^shutdown$")
            await gone(pid)
            if concurrency is not None:
                await url.terminal.until("Runtime exited without providing a reason, between two invocations")
                # The next one starts a new process.
                assert (await url.client.get("/pid")).status_code == 200


async def test_managed_instances_are_one_process() -> None:
    async with local_lambda("ending.handler", concurrency=64, **RUNTIME) as url:
        answers = await asyncio.gather(*[url.client.get("/meet/64") for _ in range(64)])
        assert {answer.json()["pid"] for answer in answers} == {await started(url.terminal)}
    assert url.terminal.getvalue().count("INIT_START") == 1
    assert url.terminal.getvalue().rstrip().endswith("shutdown")


async def test_extensions_of_a_managed_instance(terminal: Terminal) -> None:
    api = ManagedRuntimeAPI(Configuration("handler", FUNCTIONS), Log(terminal))
    await api.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://{api.address}/2020-01-01/extension", trust_env=False) as client:
            named = {"Lambda-Extension-Name": "name"}
            refused = await client.post("/register", headers=named, json={"events": ["INVOKE"]})
            assert refused.status_code == 403
            assert refused.json()["errorMessage"] == "No events allowed for internal extensions"
            assert (await client.get("/event/next")).status_code == 403
            assert (await client.get("/register")).status_code == 405
            registered = await client.post("/register", headers=named, json={"events": []})
            assert registered.status_code == 200 and len(api.extensions) == 1
            identifier = registered.headers["lambda-extension-identifier"]
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/event/next", headers={"Lambda-Extension-Identifier": identifier}, timeout=0.2)
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://{api.address}/2018-06-01/runtime/invocation/next", timeout=0.2)
            late = await client.post("/register", headers={"Lambda-Extension-Name": "late"}, json={"events": []})
            assert late.json()["errorType"] == "Extension.RegistrationClosed"
    finally:
        await api.close()


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
    """The same on its managed instance, whose user need not be able to enter the folders above what it runs."""

    concurrency = 64
    FOLDERS = {
        "/var/python": sys.base_prefix,
        "/var/packages": sysconfig.get_path("purelib"),
        "/var/project": str(ROOT),
    }
    MODULES = f"/var/project/{FUNCTIONS.relative_to(ROOT)}", "/var/project", "/var/packages"

    @classmethod
    def with_mounts(cls, *command: str) -> tuple[str, ...]:
        binds = "".join(f' && mkdir {there} && mount --bind "${n}" {there}' for n, there in enumerate(cls.FOLDERS, 1))
        script = (
            f"umask 022 && mount -t tmpfs tmpfs /var{binds} && shift {len(cls.FOLDERS)} && mkdir /var/task"
            ' && echo "$0" >/var/task/bootstrap && chmod 755 /var/task/bootstrap && exec "$@"'
        )
        python = f"/var/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        bootstrap = f"#!/bin/sh\nexec {python} -m adapter ending.handler\n"
        unshare = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, bootstrap)
        return (*unshare, *cls.FOLDERS.values(), *command)

    @property
    def command(self) -> tuple[str, ...]:
        return self.with_mounts(*self.emulator())

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LD_LIBRARY_PATH": "/var/python/lib",
            "PYTHONPATH": ":".join(self.MODULES),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_LAMBDA_MAX_CONCURRENCY": str(self.concurrency),
        }

    @classmethod
    @functools.cache
    def unreadable(cls) -> str:
        """Return what the user of AWS's emulator cannot read: files of a clone under a umask of 077, for one."""
        functions, project, packages = cls.MODULES
        files = (f"{functions}/ending.py", f"{project}/adapter/asgi.py", f"{packages}/fastapi/__init__.py")
        check = 'for file; do test -r "$file" || echo "$file"; done'
        as_its_user = ("setpriv", "--reuid", "993", "--clear-groups", "/bin/sh", "-c", check, "sh", *files)
        return subprocess.run(cls.with_mounts(*as_its_user), capture_output=True, text=True, check=True).stdout


async def get(emulator: Emulator, path: str) -> httpx.Response:
    return await emulator.post(json.dumps(function_url(path)).encode())


class TestOnDemandEmulator:
    async def test_invocations(self, binary: Path) -> None:
        async with OnDemandFunction(binary, timeout=30) as emulator:
            for _ in range(3):
                answer = (await get(emulator, "/background/0.1")).content
                prelude, _, text = answer.partition(bytes(8))
                assert (json.loads(prelude)["statusCode"], text) == (200, b'"answered"')
            assert emulator.terminal.getvalue().count("startup of") == 1
            assert emulator.terminal.getvalue().count("worked") == 3

    @pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
    async def test_a_failure_in_mid_stream(self, binary: Path, client: str) -> None:
        """Of FastAPI's, whose tracebacks are long: AWS's server takes trailers of up to 4096 bytes."""

        class Function(OnDemandFunction):
            command = property(lambda self: self.emulator(sys.executable, "-m", client, "ending.handler"))

        async with Function(binary, timeout=30) as emulator:
            for _ in range(2):
                assert (await get(emulator, "/broken")).content.partition(bytes(8))[2].startswith(b"begun ")
            assert (await get(emulator, "/pid")).status_code == 200
            assert emulator.terminal.getvalue().count("startup of") == 1
            assert "did not get through" not in emulator.terminal.getvalue()

    @pytest.mark.parametrize("path", ["/stream/0.1", "/background/0.1", "/stream/10", "/background/10"])
    async def test_sigterm(self, binary: Path, path: str) -> None:
        async with OnDemandFunction(binary, timeout=30) as emulator:
            answer = asyncio.create_task(get(emulator, path))
            await emulator.terminal.until("^streaming$|^working$")
            begun = time.monotonic()
            os.kill(await started(emulator.terminal), signal.SIGTERM)
            text = (await answer).content.partition(bytes(8))[2]
            assert time.monotonic() - begun < 5  # of ten
            await emulator.terminal.until("^shutdown$")
            if path.startswith("/background"):
                assert text == b'"answered"'
                assert ("worked" in emulator.terminal.getvalue()) == (path == "/background/0.1")
            else:
                # It passes on nothing before the end, and no trailers.
                assert text == (b"begun done" if path == "/stream/0.1" else b"begun ")

    async def test_sigterm_of_an_idle_one(self, binary: Path) -> None:
        async with OnDemandFunction(binary, timeout=30) as emulator:
            await get(emulator, "/pid")
            os.kill(await started(emulator.terminal), signal.SIGTERM)
            await emulator.terminal.until("^shutdown$")

    async def test_it_sends_one_itself(self, binary: Path) -> None:
        """At a timeout, which only code can run into that cannot be cancelled: since an extension is registered."""
        async with OnDemandFunction(binary, timeout=2) as emulator:
            await get(emulator, "/pid")
            answer = (await get(emulator, "/blocked/2.2")).content
            await emulator.terminal.until("^shutdown$")
        assert b"Task timed out after 2.00 seconds" in answer


@pytest.mark.skipif(not mounts_of_its_own(), reason="it takes root, and mount namespaces")
class TestManagedEmulator:
    @pytest.fixture(autouse=True)
    def readable(self) -> None:
        if unreadable := ManagedFunction.unreadable():
            pytest.skip(f"the emulator's user, 993, cannot read {unreadable.split()}")

    async def test_64_invocations_in_one_process(self, binary: Path) -> None:
        async with ManagedFunction(binary, timeout=30) as emulator:
            await emulator.terminal.until("startup of")
            answers = await asyncio.gather(*[get(emulator, "/meet/64") for _ in range(64)])
            bodies = [json.loads(answer.content.partition(bytes(8))[2]) for answer in answers]
            assert {body["pid"] for body in bodies} == {await started(emulator.terminal)}

    @pytest.mark.parametrize("path", ["/stream/0.1", "/background/0.1"])
    async def test_sigterm(self, binary: Path, path: str) -> None:
        async with ManagedFunction(binary, timeout=30) as emulator:
            await emulator.terminal.until("startup of")
            answer = asyncio.create_task(get(emulator, path))
            await emulator.terminal.until("^streaming$|^working$")
            os.kill(await started(emulator.terminal), signal.SIGTERM)
            text = (await answer).content.partition(bytes(8))[2]
            await emulator.terminal.until("^shutdown$")
            assert text == (b"begun done" if path == "/stream/0.1" else b'"answered"')
            assert ("worked" in emulator.terminal.getvalue()) == (path == "/background/0.1")

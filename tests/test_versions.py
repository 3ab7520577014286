"""The order of events under every release of awslambdaric since 2.2, each in a virtual environment of its own.

A managed runtime carries any of them for months. A new release is to be added to ``VERSIONS``; until it is, it is tried
as "the newest".
"""

import asyncio
import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from .events import function_url
from .runtime_api import ManagedRuntimeAPI, function

VERSIONS = [
    *("2.2.0", "2.2.1"),
    *("3.0.0", "3.0.1", "3.0.2", "3.1.0", "3.1.1"),
    *("4.0.0", "4.0.1", "4.0.2", "4.0.3", "4.0.4", "4.1.0", "4.2.0", "4.2.1", "4.2.2"),
]
NEWEST = "the newest"
FAULTLESS = {"/async": 1, "/sync": 1, "/stream": 3, "/plain/json": 1}


@pytest.fixture(scope="module", params=[*VERSIONS, NEWEST])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with this awslambdaric; all else is found where the tests found it."""
    version = newest() if request.param == NEWEST else request.param
    if request.param == NEWEST and version in VERSIONS:
        pytest.skip(f"the newest awslambdaric, {version}, is one of the others")
    folder = tmp_path_factory.mktemp("awslambdaric") / version
    venv.create(folder, symlinks=True, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        + ["--target", str(site), f"awslambdaric=={version}"],
        capture_output=True,
        text=True,
    )
    if "No matching distribution" in installed.stderr:
        pytest.skip(f"awslambdaric {version} has no wheel for Python {sys.version_info.major}.{sys.version_info.minor}")
    assert installed.returncode == 0, installed.stderr
    here = [sysconfig.get_path("purelib"), str(Path(__file__).parent.parent)]
    (site / "rest.pth").write_text("\n".join(here) + "\n")
    return str(folder / "bin" / "python")


def newest() -> str:
    """The newest release on the registry for this Python."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        + ["--only-binary", ":all:", "--report", "-", "awslambdaric"],
        capture_output=True,
        text=True,
        check=True,
    )
    version: str = json.loads(found.stdout)["install"][0]["metadata"]["version"]
    return version


def version_of(python: str) -> tuple[int, ...]:
    return tuple(map(int, Path(python).parent.parent.name.split(".")))


@pytest.mark.parametrize("middleware", ["", "all"])
async def test_the_order_of_events(python: str, middleware: str) -> None:
    async with function("background.handler", python=python, env={"MIDDLEWARE": middleware}) as running:
        for path, chunks in FAULTLESS.items():
            invoked = await running.api.run(function_url(path, headers={"accept-encoding": "identity"}))
            assert invoked.events[: chunks + 3] == ["open", "prelude", *["chunk"] * chunks, "close"]
            assert invoked.events[chunks + 3] == "background"
            assert invoked.events[-1] == "next"
            # The native client of releases before 4.0.2 does not hand the id on: what is not seen cannot be echoed.
            echoed = invoked.head.get(b"lambda-runtime-invocation-id", b"").decode()
            assert echoed == (invoked.invocation_id if version_of(python) >= (4, 0, 2) else "")
    assert not [event for event in running.api.log if event.startswith(("refused", "broken"))]


async def test_errors_and_results_go_the_old_way(python: str) -> None:
    async with function("streams.phases", python=python) as running:
        invoked = await running.api.run({"at": "before"})
        assert invoked.events == ["error", "next"]
        invoked = await running.api.run({"at": "after"})
        assert invoked.events == ["open", "chunk", "close", "next"]
    assert not [event for event in running.api.log if event.startswith(("refused", "broken"))]


async def test_the_asyncio_runtime(python: str) -> None:
    env = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
    async with function("logs.handler", python=python, client="adapter", env=env) as running:
        invoked = await running.api.run({})
        assert invoked.result == b"null"
    lines = [line for line in running.output.splitlines() if line.startswith("{")]
    assert [json.loads(line)["requestId"] for line in lines[1:]] == [invoked.request_id] * (len(lines) - 1)
    async with function("background.handler", python=python, client="adapter") as running:
        invoked = await running.api.run(function_url("/async"))
        assert invoked.events[-3:] == ["background", "background-done", "next"]
        assert invoked.head[b"lambda-runtime-invocation-id"].decode() == invoked.invocation_id


class TestManagedInstances:
    """awslambdaric forks a process for each invocation that it has at a time: from 4.0 on, and three ways so far."""

    @pytest.fixture
    def env(self, python: str) -> dict[str, str]:
        if version_of(python) < (4,):
            pytest.skip("there were no Managed Instances")
        return {"AWS_LAMBDA_MAX_CONCURRENCY": "2", "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}

    @pytest.mark.parametrize("handler", ["handler", "second", "streamed"])
    async def test_each_process_has_its_own_loop_and_startup(
        self, python: str, env: dict[str, str], handler: str
    ) -> None:
        api = ManagedRuntimeAPI()
        async with function(f"workers.{handler}", python=python, api=api, env=env) as running:
            await self.both_wait(api)
            startups = [entry for entry in api.log if entry.startswith("startup")]
            assert len(set(startups)) == len(startups) == 2
            for _ in range(3):
                both = [await running.api.invoke(function_url("/")) for _ in range(2)]
                await self.both_wait(api)
                pids = [json.loads(invoked.body if handler != "streamed" else invoked.raw) for invoked in both]
                assert all(pid == consumer for pid, consumer, _ in pids)
                assert {f"startup-{pid}" for pid, *_ in pids} == set(startups)
            imported_before = [f"startup-{imported_in}" not in startups for *_, imported_in in pids]
            assert imported_before == [version_of(python) in ((4, 1, 0), (4, 2, 0))] * 2
        assert not [event for event in api.log if event.startswith(("refused", "broken"))]

    async def both_wait(self, api: ManagedRuntimeAPI) -> None:
        async with asyncio.timeout(30):
            while api.waiting < 2 or not api._pending.empty():
                await asyncio.sleep(0.01)

    async def test_a_startup_that_fails_fails_the_init(self, python: str, env: dict[str, str]) -> None:
        api = ManagedRuntimeAPI()
        async with function("workers.handler", python=python, api=api, env={**env, "FAILS": "1"}) as running:
            await asyncio.wait_for(api.init_failed.wait(), 30)
            await running.exit(30)
            assert api.init_error["errorMessage"] == "no database"
            assert "next" not in api.log


def test_it_is_the_version_that_was_asked_for(python: str) -> None:
    script = "import awslambdaric, awslambdaric.lambda_runtime_client as c; print(awslambdaric.__version__, c.__file__)"
    out = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout
    version, file = out.split()
    assert version == Path(python).parent.parent.name
    assert file.startswith(str(Path(python).parent.parent))

"""The order of events under each awslambdaric that a managed runtime carries, in a virtual environment of its own."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from .events import function_url
from .runtime_api import function

VERSIONS = ["2.2", "3.1", "4.0", "4.2"]
FAULTLESS = {"/async": 1, "/sync": 1, "/stream": 3, "/plain/json": 1}


@pytest.fixture(scope="module", params=VERSIONS)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with this awslambdaric; all else is found where the tests found it."""
    folder = tmp_path_factory.mktemp("awslambdaric") / request.param
    venv.create(folder, symlinks=True, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        + ["--target", str(site), f"awslambdaric=={request.param}.*"],
        capture_output=True,
        text=True,
    )
    if "No matching distribution" in installed.stderr:
        pytest.skip(
            f"awslambdaric {request.param} has no wheel for Python {sys.version_info.major}.{sys.version_info.minor}"
        )
    assert installed.returncode == 0, installed.stderr
    here = [sysconfig.get_path("purelib"), str(Path(__file__).parent.parent)]
    (site / "rest.pth").write_text("\n".join(here) + "\n")
    return str(folder / "bin" / "python")


@pytest.mark.parametrize("middleware", ["", "all"])
async def test_the_order_of_events(python: str, middleware: str) -> None:
    async with function("background.handler", python=python, env={"MIDDLEWARE": middleware}) as running:
        for path, chunks in FAULTLESS.items():
            invoked = await running.api.run(function_url(path, headers={"accept-encoding": "identity"}))
            assert invoked.events[: chunks + 3] == ["open", "prelude", *["chunk"] * chunks, "close"]
            assert invoked.events[chunks + 3] == "background"
            assert invoked.events[-1] == "next"
            # The native client of 2.2 and 3.1 does not hand the id on: what is not seen cannot be echoed.
            echoed = invoked.head.get(b"lambda-runtime-invocation-id", b"").decode()
            assert echoed == ("" if Path(python).parent.parent.name in ("2.2", "3.1") else invoked.invocation_id)
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


def test_it_is_the_version_that_was_asked_for(python: str) -> None:
    script = "import awslambdaric, awslambdaric.lambda_runtime_client as c; print(awslambdaric.__version__, c.__file__)"
    out = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout
    version, file = out.split()
    assert version.startswith(Path(python).parent.parent.name)
    assert file.startswith(str(Path(python).parent.parent))

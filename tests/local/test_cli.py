"""The command line, as a process of its own: `python -m adapter.local`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from adapter import __version__

from .conftest import FUNCTIONS, PATIENCE, Gate, alive, gone

PID = """\
import os

def handler(event, context):
    return {"pid": os.getpid(), "answer": ANSWER, "value": os.environ.get("VALUE")}

ANSWER = 1
"""


class Output:
    """A process's output, and a way to wait for what it will say."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.text = ""

    async def until(self, pattern: str, count: int = 1) -> str:
        """The match with this number."""
        if self.process.stdout is None:
            raise RuntimeError("started with a pipe")
        async with asyncio.timeout(PATIENCE):
            while len(found := re.findall(pattern, self.text, re.MULTILINE)) < count:
                data = await self.process.stdout.read(65536)
                assert data, f"{pattern!r} is not in\n{self.text}"
                self.text += data.decode()
        return str(found[count - 1])

    async def rest(self) -> str:
        if self.process.stdout is None:
            raise RuntimeError("started with a pipe")
        self.text += (await asyncio.wait_for(self.process.stdout.read(), PATIENCE)).decode()
        return self.text

    async def get(self, path: str = "/") -> httpx.Response:
        url = await self.until("^Function URL: (http://[^ ]+)/ ")
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            return await client.get(path)


@contextlib.asynccontextmanager
async def cli(*arguments: str, cwd: Path = FUNCTIONS) -> AsyncIterator[Output]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapter.local", *arguments, cwd=cwd, stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    output = Output(process)
    try:
        yield output
    finally:
        if process.returncode is None:
            process.kill()
        await output.rest()
        await process.wait()


async def finished(*arguments: str, cwd: Path = FUNCTIONS) -> tuple[int | None, str]:
    async with cli(*arguments, cwd=cwd) as output:
        await output.rest()
        await asyncio.wait_for(output.process.wait(), PATIENCE)
    return output.process.returncode, output.text


async def test_version() -> None:
    assert await finished("--version") == (0, f"function-url {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["main:handler"], "the handler is module.attribute, such as main.handler, not 'main:handler'"),
        (["main"], "the handler is module.attribute, such as main.handler, not 'main'"),
        (["main."], "the handler is module.attribute, such as main.handler, not 'main.'"),
        (["a b.c"], "the handler is module.attribute, such as main.handler, not 'a b.c'"),
        (["main.handler", "--app-dir", "nowhere"], "--app-dir: there is no folder 'nowhere'"),
        (["main.handler", "--env-file", "nothing"], "--env-file: there is no file 'nothing'"),
        (["main.handler", "--timeout", "901"], "--timeout: Lambda's are up to 900 seconds, not 901"),
        (["main.handler", "--timeout", "0"], "--timeout: Lambda's are up to 900 seconds, not 0"),
        (["main.handler", "--memory", "64"], "--memory: Lambda's are from 128 to 10240 MB, not 64"),
        (["main.handler", "--port", "65536"], "--port: from 0 to 65535, not 65536"),
        (["main.handler", "--max-environments", "0"], "--max-environments: at least 1, not 0"),
    ],
)
async def test_wrong_arguments(arguments: list[str], complaint: str) -> None:
    assert await finished(*arguments) == (2, f"function-url: {complaint}\n")


async def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, output = await finished("main.handler", "--port", port)
    assert status == 1
    assert output == f"function-url: cannot listen on 127.0.0.1, port {port}: Address already in use\n"


async def test_host_that_does_not_exist() -> None:
    status, output = await finished("main.handler", "--host", "no.such.host.invalid")
    assert status == 1
    assert re.fullmatch(r"function-url: cannot listen on no\.such\.host\.invalid, port 8000: .+\n", output)


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        ("nowhere.handler", "Runtime.ImportModuleError: Unable to import module 'nowhere': No module named 'nowhere'"),
        ("main.nothing", "Runtime.HandlerNotFound: Handler 'nothing' missing on module 'main'"),
    ],
)
async def test_init_error(handler: str, error: str) -> None:
    status, output = await finished(handler, "--port", "0")
    assert status == 3
    assert f"[ERROR] {error}\n" in output
    assert output.splitlines()[-1] == f"The function failed its init: {error}"
    assert "Function URL" not in output


async def test_handler_in_a_package(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "main.py").write_text(PID)
    for handler in ("pkg.main.handler", "pkg/main.handler"):
        async with cli(handler, "--port", "0", "--app-dir", str(tmp_path)) as output:
            assert (await output.get()).json()["answer"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("function", ["idle", "busy"])
async def test_signal(number: signal.Signals, function: str) -> None:
    async with cli("main.handler" if function == "idle" else "main.sleep", "--port", "0") as output:
        if function == "idle":
            pid = (await output.get()).json()["pid"]
        else:
            await output.until("^Function URL")
            request = asyncio.create_task(output.get())
            await output.until("^asleep$")
            pid = only_child(output.process.pid)
        output.process.send_signal(number)
        assert await asyncio.wait_for(output.process.wait(), PATIENCE) == 0
        assert not alive(pid)
        assert "Traceback" not in await output.rest()
        if function == "busy":
            with pytest.raises(httpx.TransportError):
                await request


async def test_ctrl_c_during_the_init(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import time\nprint('importing')\ntime.sleep(60)\n")
    async with cli("main.handler", "--port", "0", cwd=tmp_path) as output:
        await output.until("^importing$")
        pid = only_child(output.process.pid)
        output.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(output.process.wait(), PATIENCE) == 0
        assert not alive(pid)
        assert "Traceback" not in await output.rest()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a signal for the parent's death")
@pytest.mark.parametrize("function", ["idle", "busy"])
async def test_sigkill_leaves_no_process(function: str) -> None:
    async with cli("main.handler" if function == "idle" else "main.sleep", "--port", "0") as output:
        await output.until("^Function URL")
        if function == "busy":
            request = asyncio.create_task(output.get())
            await output.until("^asleep$")
        pid = only_child(output.process.pid)
        output.process.kill()
        await output.process.wait()
        await gone(pid)
        if function == "busy":
            with pytest.raises(httpx.TransportError):
                await request


async def test_the_process_is_awslambdaric_itself() -> None:
    async with cli("main.handler", "--port", "0") as output:
        pid = (await output.get()).json()["pid"]
        assert pid == only_child(output.process.pid)
        assert command_line(pid) == [sys.executable, "-m", "awslambdaric", "main.handler"]
        assert os.getsid(pid) == os.getpgid(pid) == pid


async def test_env_file_and_reload(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(PID)
    (tmp_path / "local.env").write_text("VALUE=one\n")
    async with cli("main.handler", "--port", "0", "--reload", "--env-file", "local.env", cwd=tmp_path) as output:
        first = (await output.get()).json()
        assert (first["answer"], first["value"]) == (1, "one")
        (tmp_path / "main.py").write_text(PID.replace("ANSWER = 1", "ANSWER = 22"))
        await output.until("^main.py changed: environments of the old code end, a new one starts$")
        await output.until("^INIT_START", 2)
        second = (await output.get()).json()
        assert second["answer"] == 22
        await gone(first["pid"])
        (tmp_path / "local.env").write_text("VALUE=two\n")
        await output.until("^local.env changed")
        assert (await output.get()).json()["value"] == "two"
        await gone(second["pid"])
        # What cannot be imported is said, and served as Lambda would; the next change repairs it.
        (tmp_path / "main.py").write_text("import tea\n")
        await output.until(
            r"^\[ERROR\] Runtime.ImportModuleError: Unable to import module 'main': No module named 'tea'$"
        )
        assert (await output.get()).status_code == 502
        (tmp_path / "main.py").write_text(PID.replace("ANSWER = 1", "ANSWER = 333"))
        await output.until("^main.py changed", 3)
        assert (await output.get()).json()["answer"] == 333


async def test_reload_lets_a_busy_environment_finish(tmp_path: Path) -> None:
    async with Gate() as gate:
        wait = f"""\
import os, socket

def handler(event, context):
    with socket.create_connection(("127.0.0.1", {gate.port})) as gate:
        gate.sendall(b"%d\\n" % os.getpid())
        gate.recv(1)
    return "old"
"""
        (tmp_path / "main.py").write_text(wait)
        async with cli("main.handler", "--port", "0", "--reload", cwd=tmp_path) as output:
            url = await output.until("^Function URL: (http://[^ ]+)/ ")
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
                request = asyncio.create_task(client.get("/"))
                pid, go_on = await gate.reached()
                (tmp_path / "main.py").write_text(PID)
                await output.until("^main.py changed")
                assert (await client.get("/")).json()["answer"] == 1
                assert alive(pid)
                go_on()
                assert (await request).json() == "old"
                await gone(pid)


def command_line(pid: int) -> list[str]:
    return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]


def only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)

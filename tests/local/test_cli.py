"""The command line, as a process of its own: `python -m adapter.local`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter import __version__
from adapter.local.command_line import parse
from adapter.local.configuration import Configuration
from adapter.local.env_file import read_env_file
from adapter.local.files import FileError

from .conftest import FUNCTIONS, PATIENCE, Gate, alive, gone

ROOT = Path(__file__).parent.parent.parent

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
async def cli(
    *arguments: str,
    cwd: Path = FUNCTIONS,
    variables: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "adapter.local"),
    under: Sequence[str] = (),
) -> AsyncIterator[Output]:
    process = await asyncio.create_subprocess_exec(
        *(*under, sys.executable, *program, *arguments),
        cwd=cwd,
        stdout=PIPE,
        stderr=STDOUT,
        env=variables,
        start_new_session=True,
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


async def test_wrong_arguments_end_it_with_status_2() -> None:
    complaint = "the handler is module.attribute, such as main.handler, not 'main:handler'"
    assert await finished("main:handler") == (2, f"function-url: {complaint}\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "which handler? Give one, such as main.handler; there is no template.yaml here to say it"),
        (["main"], "the handler is module.attribute, such as main.handler, not 'main'"),
        (["main."], "the handler is module.attribute, such as main.handler, not 'main.'"),
        (["a b.c"], "the handler is module.attribute, such as main.handler, not 'a b.c'"),
        (["main.handler", "--function", "F"], "--function: there is no template.yaml here"),
        (["--template", "nothing.yaml"], "nothing.yaml: No such file or directory"),
        (["main.handler", "--app-dir", "nowhere"], "--app-dir: there is no folder 'nowhere'"),
        (["main.handler", "--env-file", "nothing"], "--env-file: there is no file 'nothing'"),
        (["main.handler", "--env-file", sys.executable], f"--env-file: {sys.executable!r} is no text in UTF-8"),
        *(
            (
                ["main.handler", "--timeout", seconds],
                f"--timeout: Lambda's are up to 900 seconds (5400 with --concurrency), not {seconds}",
            )
            for seconds in ("901", "5400", "0", "nan")
        ),
        *(
            (
                ["main.handler", "--concurrency", "2", "--timeout", seconds],
                f"--timeout: Lambda's are up to 5400 seconds (900 without --concurrency), not {seconds}",
            )
            for seconds in ("5401", "0", "nan", "inf")
        ),
        *(
            (
                ["main.handler", "--memory", megabytes],
                "--memory: Lambda's are from 128 to 10240 MB (2048 to 32768 with --concurrency), not " + megabytes,
            )
            for megabytes in ("64", "127", "10241", "32768")
        ),
        *(
            (
                ["main.handler", "--concurrency", "2", "--memory", megabytes],
                "--memory: Lambda's are from 2048 to 32768 MB (128 to 10240 without --concurrency), not " + megabytes,
            )
            for megabytes in ("128", "2047", "32769")
        ),
        (["main.handler", "--port", "65536"], "--port: from 0 to 65535, not 65536"),
        (["main.handler", "--max-environments", "0"], "--max-environments: at least 1, not 0"),
        (["main.handler", "--concurrency", "0"], "--concurrency: at least 1, not 0"),
        (["main.handler", "--queue", "-1"], "--queue: 0 seconds or more, not -1"),
        (["main.handler", "--queue", "inf"], "--queue: 0 seconds or more, not inf"),
        (["main.handler", "--idle", "0"], "--idle: more than 0 seconds, not 0"),
        (["main.handler", "--idle", "nan"], "--idle: more than 0 seconds, not nan"),
        (["main.handler", "--front", "grpc"], "--front: one of alb, http-api, rest-api, not 'grpc'"),
        (["main.handler", "--front", "function-url"], "--front: one of alb, http-api, rest-api, not 'function-url'"),
        (["main.handler", "--front", "alb=x"], "--front: a port is from 0 to 65535, not 'x'"),
        (["main.handler", "--front", "alb=65536"], "--front: a port is from 0 to 65535, not '65536'"),
        (["main.handler", "--front", "alb=" + "9" * 5000], f"--front: a port is from 0 to 65535, not '{'9' * 5000}'"),
        (
            ["main.handler", "--allow-host", "http://evil.test"],
            "--allow-host: a name such as example.com, without scheme and port, not 'http://evil.test'",
        ),
        (
            ["main.handler", "--allow-host", "evil.test:80"],
            "--allow-host: a name such as example.com, without scheme and port, not 'evil.test:80'",
        ),
        (["main.handler", "--template", "a\nb\x1b[2J"], "a\\nb\\x1b[2J: No such file or directory"),
        (["main.handler", "--front", "alb=8000"], "--front: port 8000 is there twice"),
        (["main.handler", "--front", "alb", "--front", "alb"], "--front: alb is there twice"),
        (
            ["main.handler", "--port", "65535", "--front", "alb"],
            "--front: the next port would be 65536; there is none above 65535",
        ),
        (
            ["main.handler", "--memory", "much"],
            "argument --memory: invalid int value: 'much' (--help says what there is)",
        ),
        (["main.handler", "--tea"], "unrecognized arguments: --tea (--help says what there is)"),
        (
            ["main.handler", "--log-format", "xml"],
            "argument --log-format: invalid choice: 'xml' (choose from text, json) (--help says what there is)",
        ),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    further_fronts: None,
) -> None:
    monkeypatch.chdir(FUNCTIONS)
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    # Choices have quotation marks before Python 3.12.
    assert capsys.readouterr().err.replace("'text', 'json'", "text, json") == f"function-url: {complaint}\n"


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [
        ([], {"function-url": 8000}),
        (["--port", "0", "--front", "alb"], {"function-url": 0, "alb": 0}),
        (["--front", "http-api", "--front", "alb"], {"function-url": 8000, "http-api": 8001, "alb": 8002}),
        (["--front", "alb=9000", "--front", "http-api"], {"function-url": 8000, "alb": 9000, "http-api": 8001}),
        (["--port", "80", "--front", "alb=0"], {"function-url": 80, "alb": 0}),
    ],
)
def test_ports(arguments: list[str], ports: dict[str, int], further_fronts: None) -> None:
    assert parse(["main.handler", *arguments]).ports == ports


@pytest.fixture
def further_fronts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.local.command_line.FURTHER_FRONTS", ["alb", "http-api", "rest-api"])


def test_limits() -> None:
    configuration = parse(["main.handler"]).configuration
    assert (configuration.timeout, configuration.memory, configuration.invoke_mode) == (30, 128, "RESPONSE_STREAM")
    assert configuration == Configuration("main.handler", Path.cwd())
    arguments = (
        "main.handler --timeout 1.5 --memory 4096 --max-environments 2 --queue 0 --idle 7 --concurrency 3 --no-freeze"
        " --throttle --invoke-mode BUFFERED --log-format json --host ::1 --reload"
    )
    asked = parse(arguments.split())
    assert asked.configuration == Configuration(
        "main.handler",
        Path.cwd(),
        memory=4096,
        timeout=1.5,
        max_environments=2,
        invoke_mode="BUFFERED",
        freeze=False,
        queue=0,
        idle=7,
        concurrency=3,
        throttle=True,
        log_format="json",
    )
    assert (asked.host, asked.reload) == ("::1", True)


@pytest.mark.parametrize(
    ("arguments", "timeout", "memory"),
    [
        ("--timeout 900 --memory 10240", 900, 10_240),
        ("--memory 128", 30, 128),
        ("--concurrency 2", 30, 2_048),
        ("--concurrency 2 --timeout 5400 --memory 32768", 5_400, 32_768),
        ("--concurrency 2 --timeout 0.5 --memory 2048", 0.5, 2_048),
    ],
)
def test_the_bounds_are_those_of_on_demand_or_of_managed_instances(arguments: str, timeout: float, memory: int) -> None:
    configuration = parse(["main.handler", *arguments.split()]).configuration
    assert (configuration.timeout, configuration.memory) == (timeout, memory)


def test_allowed_hosts() -> None:
    """Who listens at a name has that one too."""
    arguments = "main.handler --host App.test --allow-host Tunnel.Example. --allow-host .example.com"
    assert parse(arguments.split()).allowed_hosts == ["app.test", "tunnel.example", ".example.com"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A=1\n\n\nfoo bar\nB=2\n", "has no NAME=value in line 4"),
        ("A='x\nB=1\n", "has no NAME=value in line 1"),
        ("A=a\0b\n", "has a variable in line 1 that has a NUL in its value"),
        ("'A=B'=c\n", "has a variable in line 1 that has no name that a process can have"),
        (
            "A0=xxxxxxxx\n" + "".join(f"A{n}=${{A{n - 1}}}${{A{n - 1}}}\n" for n in range(1, 60)),
            r"come to too much, from line 15 on",
        ),
        ("A=xxxxxxxx\n" + "A=${A}${A}\n" * 60, "come to too much, from line 15 on"),
        ("A=" + "${" * 16_000, "come to too much, from line 1 on"),
        (
            "A=" + "\U0001f600" * 8_000 + "\n" + "B=${A}${A}${A}${A}${A}\n",
            "has a variable in line 2 that has more than 131,072 bytes",
        ),
        ("#" * 40_000, "has more than 32,768 bytes"),
        ("AWS_REGION=a b\n", "AWS_REGION: up to 64 letters, digits, - and _ (it is part of an ARN), not 'a b'"),
        (
            'AWS_DEFAULT_REGION="a\\nb"\n',
            "AWS_REGION: up to 64 letters, digits, - and _ (it is part of an ARN), not 'a\\nb'",
        ),
        ("AWS_LAMBDA_FUNCTION_NAME=caf\u00e9\n", "not 'caf\u00e9'"),
    ],
)
def test_an_env_file_that_cannot_be_used_is_refused(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FUNCTIONS)
    monkeypatch.delenv("AWS_REGION", raising=False)
    (tmp_path / "odd.env").write_text(text)
    with pytest.raises(SystemExit) as ended:
        parse(["main.handler", "--env-file", str(tmp_path / "odd.env")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("function-url: ")
    assert line.endswith(complaint)


ENV_PARTS = [
    "A",
    "B",
    "=",
    "\n",
    "'",
    '"',
    "${A}",
    "${B:-x}",
    "${",
    "#",
    " ",
    "\\",
    "export ",
    "\u00e9",
    "\r",
    "\t",
    "\ufeff",
]


@given(st.lists(st.sampled_from(ENV_PARTS), max_size=25).map("".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_an_env_file_is_read_as_python_dotenv_does_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.env"
    path.write_text(text, "utf-8", newline="")
    try:
        values = read_env_file(path)
    except FileError:
        return
    assert values == {name: value for name, value in dotenv_values(path).items() if value is not None}


@pytest.mark.parametrize("module", ["adapter.py", "adapter/__init__.py"])
def test_a_module_of_our_name(module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text("")
    arguments = ["main.handler", "--app-dir", str(tmp_path)]
    assert parse(arguments).notes == []
    with pytest.raises(SystemExit) as ended:
        parse([*arguments, "--runtime", "adapter"])
    assert ended.value.code == 2
    assert f"'{tmp_path / module}' hides the package of that name" in capsys.readouterr().err
    assert parse(["main.handler", "--app-dir", str(ROOT), "--runtime", "adapter"]).configuration.client == "adapter"


def test_a_wrapper_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FUNCTIONS)
    monkeypatch.setenv("AWS_LAMBDA_EXEC_WRAPPER", "/opt/wrapper")
    (note,) = parse(["main.handler"]).notes
    assert note.startswith("AWS_LAMBDA_EXEC_WRAPPER is not run here")


def test_a_relative_pythonpath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's is relative to where that is; an env file's to where the function is, as it would be on Lambda."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"libs{os.pathsep}/opt")
    (tmp_path / "local.env").write_text("PYTHONPATH=libs\n")
    arguments = ["main.handler", "--app-dir", str(FUNCTIONS)]
    for more, parts in (([], [str(tmp_path / "libs"), "/opt"]), (["--env-file", "local.env"], ["libs"])):
        variables = parse([*arguments, *more]).configuration.variables("")
        assert variables["PYTHONPATH"].split(os.pathsep) == [str(FUNCTIONS), *parts]


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: function-url [options] [handler]\n\nServe a Lambda function")
    assert max(map(len, text.splitlines())) <= 80
    groups = ["the function:", "limits, as on Lambda:", "fronts:", "terminal:"]
    assert [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")] == groups


async def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, output = await finished("main.handler", "--port", port)
    assert status == 1
    assert output == f"function-url: cannot listen on 127.0.0.1, port {port}: Address already in use\n"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b"])
async def test_host_that_does_not_exist(host: str) -> None:
    status, output = await finished("main.handler", "--host", host)
    assert status == 1
    assert re.fullmatch(rf"function-url: cannot listen on {re.escape(host)}, port 8000: .+\n", output)


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


async def test_an_init_that_fails_with_deep_json(tmp_path: Path) -> None:
    """Ends it as any other does that fails."""
    (tmp_path / "main.py").write_text(
        """
import http.client, os, sys
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
headers = {"Lambda-Runtime-Function-Error-Type": "Runtime.NoTea"}
connection.request("POST", "/2018-06-01/runtime/init/error", '{"errorType":' + "[" * 100_000, headers)
sys.exit(connection.getresponse().status)
"""
    )
    status, output = await finished("main.handler", "--port", "0", cwd=tmp_path)
    assert status == 3
    assert output.splitlines()[-1] == "The function failed its init: Runtime.NoTea"
    assert "Traceback" not in output


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


async def test_it_ends_quietly_when_nobody_reads_on() -> None:
    """As in ``| head``."""
    readable, writable = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.local", "main.handler", "--port", "0"),
        cwd=FUNCTIONS,
        stdout=writable,
        stderr=PIPE,
    )
    os.close(writable)
    with open(readable) as terminal:  # noqa: ASYNC230  # there is nothing else to do meanwhile
        url = next(line.split()[2] for line in iter(terminal.readline, "") if line.startswith("Function URL"))
        pid = only_child(process.pid)
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        with contextlib.suppress(httpx.TransportError):  # START is what nobody reads
            await client.get(url)
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, errors) == (0, b"")
    assert not alive(pid)


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a signal for the parent's death")
@pytest.mark.parametrize("folder", ["short", "long/" + "/".join(["x" * 60] * 4)], ids=["short", "long"])
async def test_sigkill_leaves_nothing_in_the_temporary_folder(folder: str, tmp_path: Path) -> None:
    """Nor is the folder's name too long for a socket."""
    temporary = tmp_path / folder
    temporary.mkdir(parents=True)
    arguments = ("main.handler", "--port", "0", "--concurrency", "2")
    async with cli(*arguments, variables={**os.environ, "TMPDIR": str(temporary)}) as output:
        pid = (await output.get()).json()["pid"]
        await output.until("^pid ")
        output.process.kill()
        await output.process.wait()
        await gone(pid)
    assert list(temporary.iterdir()) == []


async def test_the_process_is_awslambdaric_itself() -> None:
    async with cli("main.handler", "--port", "0") as output:
        pid = (await output.get()).json()["pid"]
        assert pid == only_child(output.process.pid)
        assert command_line(pid) == [sys.executable, "-m", "awslambdaric", "main.handler"]
        assert os.getsid(pid) == os.getpgid(pid) == pid


SECOND_FRONT = """\
from adapter.local.server import FRONTS
FRONTS["second"] = FRONTS["function-url"]
from adapter.local.__main__ import main
main()
"""


async def test_each_front_listens_on_a_port_of_its_own() -> None:
    arguments = ("main.handler", "--port", "0", "--front", "second")
    async with cli(*arguments, program=("-c", SECOND_FRONT)) as output:
        await output.until("^Function URL: ", 2)
        urls = re.findall("^Function URL: (http://[^ ]+) ", output.text, re.MULTILINE)
        assert len(set(urls)) == 2
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            assert [(await client.get(url)).status_code for url in urls] == [200, 200]


async def test_no_arguments_in_the_root_of_this_repository() -> None:
    """template.yaml says it all; but for the port, which is another one here."""
    async with cli("--port", "0", cwd=ROOT) as output:
        url = await output.until("^Function URL: (http://[^ ]+)/ ")
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            assert (await client.get("/reports")).status_code == 200
            # Set by the template, and to nothing.
            assert (await client.post("/slack/command")).status_code == 503
        await output.until("^REPORT .*Memory Size: 512 MB", 2)
        first, second = output.text.splitlines()[:2]
        assert first == "template.yaml: Function: timeout 30 s, memory 512 MB, RESPONSE_STREAM"
        assert second == (
            "template.yaml: Function: not set, since only a deployed stack knows: REPORTS_TABLE (!Ref Reports);"
            " --env-file can say them"
        )


async def test_what_the_function_of_a_template_sees(tmp_path: Path) -> None:
    """Process environment < template < env file; options before the template."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text(
        "import os\n\ndef handler(event, context):\n    return dict(os.environ)\n"
    )
    (tmp_path / "template.yml").write_text(
        """\
Resources:
  Tea:
    Type: AWS::Serverless::Function
    Properties:
      Handler: main.handler
      CodeUri: code
      MemorySize: 256
      Events: {Pour: {Type: Api, Properties: {Path: /pour, Method: post}}}
      Environment:
        Variables: {SHELL_AND_TEMPLATE: template, TEMPLATE_AND_FILE: template, CUP: !Ref Cup, GIVEN: !Ref Pot}
"""
    )
    (tmp_path / "local.env").write_text("TEMPLATE_AND_FILE=file\nGIVEN=file\n")
    variables = {**os.environ, "SHELL_AND_TEMPLATE": "shell", "SHELL": "shell"}
    async with cli(
        "--port", "0", "--env-file", "local.env", "--memory", "300", cwd=tmp_path, variables=variables
    ) as output:
        seen = (await output.get()).json()
        wanted = {
            "SHELL": "shell",
            "SHELL_AND_TEMPLATE": "template",
            "TEMPLATE_AND_FILE": "file",
            "GIVEN": "file",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "300",
            "LAMBDA_TASK_ROOT": str(tmp_path / "code"),
        }
        assert {name: seen.get(name) for name in wanted} == wanted
        assert "CUP" not in seen
        assert output.text.splitlines()[:2] == [
            "template.yml: Tea: timeout 3 s, memory 300 MB, RESPONSE_STREAM, as it has no function URL to go by"
            " (for its API: --front rest-api)",
            "template.yml: Tea: not set, since only a deployed stack knows: CUP (!Ref Cup); --env-file can say them",
        ]


async def test_template_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources:\n  Tea: [\n")
    status, output = await finished(cwd=tmp_path)
    assert status == 2
    assert re.fullmatch(r"function-url: template\.yaml, line \d: [^\n]+\n", output)


async def test_json_log() -> None:
    async with cli("main.handler", "--port", "0", "--log-format", "json") as output:
        url = await output.until("Function URL: (http://[^ ]+)/ ")
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            environment = (await client.get("/")).json()["environment"]
        await output.until("local.timeline.*\n")
        assert (environment["AWS_LAMBDA_LOG_FORMAT"], environment["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "INFO")
        assert {json.loads(line)["type"] for line in output.text.splitlines()} == {
            "platform.initStart",
            "local",
            "platform.start",
            "function",
            "local.response",
            "platform.runtimeDone",
            "platform.report",
            "local.timeline",
        }


async def test_on_a_terminal() -> None:
    """Lambda's lines have no colours and are what they are in a pipe; under REPORT is the timeline."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    colourless = ("NO_COLOR", "COLUMNS")
    variables = {name: value for name, value in os.environ.items() if name not in colourless}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.local", "main.handler", "--port", "0"),
        cwd=FUNCTIONS,
        stdout=theirs,
        stderr=theirs,
        env={**variables, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        async with asyncio.timeout(PATIENCE), httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            text = await asyncio.to_thread(read_until, ours, r"Ctrl-C ends it\)\r\n")
            (url,) = re.findall(r"http://[^ ]+", text)
            await client.get(url)
            text += await asyncio.to_thread(read_until, ours, r"TIMELINE[^\n]*\r\n")
    finally:
        process.kill()
        await process.wait()
        os.close(ours)
    lines = re.sub(r"[0-9a-f-]{36}", "<id>", text).split("\r\n")
    *lambdas, timeline, end = lines
    assert "\x1b" not in "".join(lambdas)
    assert lambdas[2] == "START RequestId: <id> Version: $LATEST"
    assert lambdas[-2] == "END RequestId: <id>"
    assert re.fullmatch(r"REPORT RequestId: <id>\tDuration: .*\tInit Duration: \d+\.\d\d ms", lambdas[-1])
    assert timeline.startswith("TIMELINE \x1b[35m")
    assert len(re.sub(r"\x1b\[[\d;]*m", "", timeline)) == 100
    assert end == ""


FORGED = (
    "\x1b[2J\x1b]0;title\x07\r\n\x9b1mEND RequestId: forged\nREPORT RequestId: forged\r"
    "START RequestId: forged Version: $LATEST"
)


async def test_a_request_s_path_on_a_terminal(tmp_path: Path) -> None:
    """Whatever is in it, it moves no cursor, and nothing that it says is taken for Lambda's."""
    (tmp_path / "main.py").write_text(
        """
import logging, sys
from urllib.parse import unquote

def handler(event, context):
    path = unquote(event["rawPath"])
    print(path)
    logging.error("%s", path)
    raise ValueError(path)
"""
    )
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.local", "main.handler", "--port", "0"),
        cwd=tmp_path,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        async with asyncio.timeout(PATIENCE), httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            text = await asyncio.to_thread(read_until, ours, r"Ctrl-C ends it\)\r\n")
            (url,) = re.findall(r"http://[^ ]+", text)
            await client.get(f"{url}{quote(FORGED)}")
            text += await asyncio.to_thread(read_until, ours, r"\r\nTIMELINE[^\n]*\r\n")
    finally:
        process.kill()
        await process.wait()
        os.close(ours)
    lines, _, _ = text.replace("\r\n", "\n").rpartition("\nTIMELINE")
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f]", lines)
    assert "\\x1b[2J\\x1b]0;title\\x07" in lines
    assert lines.count("RequestId: forged") >= 9
    for name in ("START", "END", "REPORT"):
        assert len(re.findall(rf"^{name} RequestId: [0-9a-f-]{{36}}\b", lines, re.MULTILINE)) == 1
        assert len(re.findall(rf"^> (\\x9b1m)?{name} RequestId: forged", lines, re.MULTILINE)) >= 3
        assert not re.findall(rf"^{name} RequestId: forged", lines, re.MULTILINE)


def read_until(terminal: int, pattern: str) -> str:
    text = b""
    while not re.search(pattern.encode(), text):
        text += os.read(terminal, 65536)
    return text.decode()


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


@pytest.mark.parametrize("more", [(), ("--concurrency", "1")], ids=["on demand", "managed instance"])
async def test_a_process_that_cannot_be_started(tmp_path: Path, more: Sequence[str]) -> None:
    """Fails its own environment; the next one is started with what is there then."""
    (tmp_path / "main.py").write_text(PID)
    (tmp_path / "local.env").write_text("VALUE=one\n")
    arguments = ("main.handler", "--port", "0", "--env-file", "local.env", *more)
    async with cli(*arguments, cwd=tmp_path) as output:
        first = (await output.get()).json()
        (tmp_path / "local.env").write_bytes(b"VALUE=caf\xe9\n")
        os.kill(first["pid"], signal.SIGKILL)
        await gone(first["pid"])
        said = "^Runtime.InvalidEntrypoint: The function's process cannot be started: 'utf-8' codec can't"
        async with asyncio.timeout(PATIENCE):
            while not re.search(said, output.text, re.MULTILINE):
                # The first of these can still have met the process that was killed, and failed of that.
                assert (await output.get()).status_code == 502
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await output.until(said)
        (tmp_path / "local.env").write_text("VALUE=two\n")
        assert (await output.get()).json()["value"] == "two"


async def test_reload_during_the_first_init(tmp_path: Path) -> None:
    async with Gate() as gate:
        slow = f"""\
import os, socket

with socket.create_connection(("127.0.0.1", {gate.port})) as gate:
    gate.sendall(b"%d\\n" % os.getpid())
    gate.recv(1)

"""
        (tmp_path / "main.py").write_text(slow + PID)
        async with cli("main.handler", "--port", "0", "--reload", cwd=tmp_path) as output:
            _, go_on = await gate.reached()
            (tmp_path / "main.py").write_text(PID.replace("ANSWER = 1", "ANSWER = 22"))
            await asyncio.sleep(0.2)  # it is seen in that time, and must be remembered
            go_on()
            await output.until("^main.py changed")
            assert (await output.get()).json()["answer"] == 22


async def test_reload_after_the_folder_was_replaced(tmp_path: Path) -> None:
    """As a build does it."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text(PID)
    async with cli("main.handler", "--port", "0", "--reload", "--app-dir", str(app), cwd=tmp_path) as output:
        assert (await output.get()).json()["answer"] == 1
        shutil.rmtree(app)
        app.mkdir()
        (app / "main.py").write_text(PID.replace("ANSWER = 1", "ANSWER = 22"))
        await output.until("changed: environments of the old code end")
        async with asyncio.timeout(PATIENCE):
            while (reply := await output.get()).status_code != 200 or reply.json()["answer"] != 22:
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)  # for the new watch
        (app / "main.py").write_text(PID.replace("ANSWER = 1", "ANSWER = 333"))
        async with asyncio.timeout(PATIENCE):
            while (await output.get()).json()["answer"] != 333:
                await asyncio.sleep(0.1)


async def test_what_is_beside_the_env_file_is_no_code(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text(PID)
    (tmp_path / ".env").write_text("VALUE=one\n")
    arguments = ("main.handler", "--port", "0", "--reload", "--app-dir", str(app), "--env-file", ".env")
    async with cli(*arguments, cwd=tmp_path) as output:
        await output.until("^Function URL")
        (tmp_path / "other.py").write_text("")
        (tmp_path / ".env").write_text("VALUE=two\n")
        await output.until("changed: environments")
        assert (await output.get()).json()["value"] == "two"
        assert re.findall("^(.*) changed", output.text, re.MULTILINE) == [".env"]


async def test_sighup_ends_it_cleanly() -> None:
    """As the end of a terminal does; what is frozen between two invocations must not be left."""
    # Whoever runs the tests may have had it ignored.
    async with cli("main.handler", "--port", "0", under=("env", "--default-signal=HUP")) as output:
        pid = (await output.get()).json()["pid"]
        output.process.send_signal(signal.SIGHUP)
        assert await asyncio.wait_for(output.process.wait(), PATIENCE) == 0
        assert not alive(pid)


async def test_a_log_that_cannot_be_written_ends_it() -> None:
    async with cli("main.handler", "--port", "0", under=("sh", "-c", 'exec "$@" >/dev/full', "sh")) as output:
        await output.until(r"^The log cannot be written, and so this ends: \[Errno 28\] No space left on device")
        assert await asyncio.wait_for(output.process.wait(), PATIENCE) == 0
    assert "Traceback" not in output.text


async def test_nohup_is_heard() -> None:
    async with cli("main.handler", "--port", "0", under=("nohup",)) as output:
        await output.until("^Function URL")
        output.process.send_signal(signal.SIGHUP)
        assert (await output.get()).status_code == 200


async def test_reload_beside_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(PID)
    async with cli("main.handler", "--port", "0", "--reload", cwd=tmp_path) as output:
        assert (await output.get()).json()["answer"] == 1
        await asyncio.to_thread(os.close, os.open(os.fsencode(tmp_path) + b"/caf\xe9.txt", os.O_CREAT))
        await asyncio.sleep(0.5)  # for the new watch
        async with asyncio.timeout(PATIENCE):
            for number in itertools.count(2):
                (tmp_path / "main.py").write_text(PID.replace("ANSWER = 1", f"ANSWER = {number}"))
                await asyncio.sleep(0.5)
                if (await output.get()).json()["answer"] > 1:
                    break


def has_namespaces_for_users() -> bool:
    return subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_namespaces_for_users(), reason="user namespaces cannot be made here")
@pytest.mark.parametrize("limit", ["max_inotify_watches", "max_inotify_instances"])
async def test_what_cannot_be_watched_is_said(tmp_path: Path, limit: str) -> None:
    (tmp_path / "main.py").write_text(PID)
    under = ("unshare", "-Ur", "sh", "-ec", f'echo 0 > /proc/sys/user/{limit}; exec "$@"', "sh")
    async with cli("main.handler", "--port", "0", "--reload", cwd=tmp_path, under=under) as output:
        await output.until("cannot be watched, and a change there goes unnoticed")
        assert (await output.get()).status_code == 200


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

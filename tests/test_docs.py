"""Every snippet of README and docs is run, and prints what it says it prints."""

import ast
import asyncio
import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapter.response import EVENTS, TABLE

from .events import function_url
from .snippet import install_line, with_installed

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(language: str) -> list[Any]:
    return [
        pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, (kind, code) in enumerate(FENCE.findall(page.read_text()))
        if kind == language
    ]


class Context:
    aws_request_id = "a request id"


# The last lines of a snippet of docs/streamify.md.
SAID = re.compile(r"^# In a unit test it returns (.+)$(?:\n# and prints (.+)$)?", re.MULTILINE)

# Run under awslambdaric, by the tests named after these.
ELSEWHERE = re.compile(
    r"^(from|import) (aws_lambda_powertools|mcp|opentelemetry|sentry_sdk|slack_bolt|sqlalchemy)\b"
    r"|^from adapter import BackgroundFailure|^from adapter import .*wait_until",
    re.MULTILINE,
)


@pytest.mark.parametrize("code", [param for param in snippets("python") if not ELSEWHERE.search(param.values[0])])
def test_python(code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real_sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: real_sleep(0))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    namespace: dict[str, Any] = {}
    exec(compile(code, "snippet", "exec"), namespace)
    if "handler" not in namespace:
        return  # it sets something up
    if "event_handler=" in code:
        assert namespace["handler"]({"Records": []}, Context()) == {"batchItemFailures": []}
        return
    reply = namespace["handler"](function_url(), Context())
    if said := SAID.search(code):
        assert reply == ast.literal_eval(said[1])
        assert capsys.readouterr().out == (f"{said[2]}\n" if said[2] else "")
    elif "streamify" in namespace:
        assert reply == "Hello my request id is: a request id"
        assert capsys.readouterr().out == "response sent\ndone waiting\n"
    else:
        assert (reply["statusCode"], reply["body"]) == (200, '"hello"')
        assert capsys.readouterr().out == "five seconds of work\n"


THIRD_PARTY = re.compile(rf"^(?:from|import) (?!(?:adapter|{'|'.join(sys.stdlib_module_names)})\b)\w", re.MULTILINE)


def installed_snippets() -> Iterator[Any]:
    """The Python snippets that import more than the library, each with the commands directly before it."""
    for page in PAGES:
        text = page.read_text()
        for number, found in enumerate(FENCE.finditer(text)):
            if found[1] == "python" and THIRD_PARTY.search(found[2]):
                before = text[: found.start()]
                commands = before.rpartition("```sh\n")[2] if before.endswith("```\n\n") else ""
                yield pytest.param(commands + found[2], found[2], id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize(("shown", "code"), list(installed_snippets()))
def test_each_snippet_says_what_to_install(shown: str, code: str, tmp_path: Path) -> None:
    """With those packages, and no others, its module can be imported where Lambda would import it."""
    (tmp_path / "main.py").write_text(code)
    variables = {
        "LAMBDA_TASK_ROOT": "/var/task",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "DATABASE_URL": "postgresql+asyncpg://localhost/any",
        "SLACK_SIGNING_SECRET": "any",
    }
    env = {"PATH": os.environ["PATH"], **variables, **with_installed(install_line(shown), tmp_path)}
    done = subprocess.run([sys.executable, "-c", "import main"], env=env, capture_output=True, text=True)
    # With a token, Bolt would ask Slack whose it is: without one it ends here, with all that it needs imported.
    assert done.returncode == 0 or "variable `SLACK_BOT_TOKEN`" in done.stderr, done.stderr


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[int, Path]]:
    """``make run``, on another port; and where its output goes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = ROOT / f".make-run-{port}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "run", f"PORT={port}"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            try:
                connection.request("GET", "/reports")
                assert connection.getresponse().status == 200
                break
            except ConnectionError:
                assert time.monotonic() < deadline and process.poll() is None, log.read_text()
                time.sleep(0.1)
            finally:
                connection.close()
        yield port, log
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        log.unlink()


def run_here(command: str) -> bool:
    """Cloning, installing and this very suite are for CI and the reader: they are checked below, not run."""
    return command.startswith(("curl", "time curl"))


def reported(log: Path, request_id: str) -> int:
    """Wait until an invocation is over; its milliseconds."""
    deadline = time.monotonic() + 20
    while not (report := re.search(rf"REPORT RequestId: {request_id}\tDuration: (\d+)", log.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return int(report[1])


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("code", snippets("console"))
def test_console(code: str, served: tuple[int, Path]) -> None:
    port, log = served
    for block in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, expected = block.partition("\n")
        command = command.partition(" #")[0].strip()
        if not run_here(command):
            continue
        run = subprocess.run(
            ["bash", "-c", command.replace(":8000", f":{port}").replace("curl", "curl -s")],
            capture_output=True,
            text=True,
            check=True,
        )
        pattern = "".join(".*?" if part == "…" else re.escape(part) for part in re.split("(…)", expected.rstrip()))
        assert re.match(pattern, run.stdout + run.stderr, re.DOTALL), run.stdout + run.stderr
        if command.startswith("time"):
            assert 5000 <= reported(log, run.stdout.split()[-1]) < 8000


def test_the_log_in_the_readme_is_what_is_printed(served: tuple[int, Path]) -> None:
    """Line for line, but for ids and figures."""
    port, log = served
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/hello") as response:
        reported(log, response.read().decode().split()[-1])
    (shown,) = [param.values[0] for param in snippets("text")]
    printed = log.read_text()
    for line in shown.splitlines():
        pattern = re.sub(r"[0-9a-f]{8}(\\-[0-9a-f]{4}){3}\\-[0-9a-f]{12}", "[0-9a-f-]{36}", re.escape(line))
        pattern = re.sub(r"\d+\\\.\d+", r"[0-9.]+", pattern)
        pattern = re.sub(r"(Billed\\ Duration:\\ |Used:\\ )\d+", r"\1[0-9]+", pattern)
        assert re.search(f"^{pattern}$", printed, re.MULTILINE), line


@contextlib.contextmanager
def local_lambda(folder: Path, *arguments: str) -> Iterator[int]:
    """The local Lambda as started in ``folder``; the port of its function URL."""
    command = [sys.executable, "-m", "adapter.local", *arguments, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            (port,) = next(found for line in served.stdout if (found := re.findall(r"^Function URL: .*:(\d+)/", line)))
            yield int(port)
        finally:
            served.send_signal(signal.SIGINT)


def of_readme(what: str) -> str:
    """The one Python snippet of the README that has this in it."""
    (code,) = [
        code for param in snippets("python") if str(param.id).startswith("README") and what in (code := param.values[0])
    ]
    return str(code)


# As the AWS CLI is without an account, and without what the machine's owner has set for it.
AWS_CLI = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def test_the_invoke_api_in_the_docs(tmp_path: Path) -> None:
    """The README's handler in main.py, and what docs/local-lambda.md says to paste beside it."""
    (console,) = [code for param in snippets("console") if "aws lambda invoke" in (code := str(param.values[0]))]
    (tmp_path / "main.py").write_text(of_readme("streamify"))
    with local_lambda(tmp_path, "main.handler") as port:
        for block in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            line, _, expected = block.partition("\n")
            run = subprocess.run(
                ["bash", "-c", line.replace(":8000", f":{port}")],
                cwd=tmp_path,
                env={**os.environ, **AWS_CLI},
                capture_output=True,
                text=True,
            )
            pattern = ".*".join(map(re.escape, expected.strip().split("…")))
            assert re.fullmatch(pattern, run.stdout.strip(), re.DOTALL), run.stdout + run.stderr


def test_the_template_in_the_docs(tmp_path: Path) -> None:
    """docs/deploy.md: beside the README's app as main.py it is all that is needed."""
    (template,) = [code for param in snippets("yaml") if "Transform:" in (code := str(param.values[0]))]
    (tmp_path / "template.yaml").write_text(template)
    (tmp_path / "main.py").write_text(of_readme("StreamingAdapter(app)"))
    with local_lambda(tmp_path) as port, urllib.request.urlopen(f"http://127.0.0.1:{port}/") as response:
        assert (response.status, response.read()) == (200, b'"hello"')


def test_the_aws_cli_of_the_docs_makes_a_url_that_streams() -> None:
    """docs/deploy.md: what the commands ask of Lambda, which is here a server that says yes to everything."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    commands = re.findall(r"(?:^|`)(aws lambda [a-z-]+-(?:config|permission) .*?)(?:`|$)", page, re.MULTILINE)
    asked: list[tuple[str, str, dict[str, Any]]] = []

    class Lambda(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.command, self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(201)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_PUT = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: pytest's output is for failures."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lambda) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            for command in commands:
                where = f"--endpoint-url http://127.0.0.1:{server.server_port}"
                subprocess.run(["bash", "-c", f"{command} {where}"], env={**os.environ, **AWS_CLI}, check=True)
        finally:
            server.shutdown()
    url, function = "/2021-10-31/functions/my-function/url", "/2015-03-31/functions/my-function/policy"
    anybody = {"Principal": "*"}
    assert asked == [
        ("POST", url, {"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}),
        *(
            ("POST", function, {"StatementId": name, **anybody, **permission})
            for name, permission in (
                ("url", {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"}),
                ("function", {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True}),
            )
        ),
        ("PUT", url, {"InvokeMode": "RESPONSE_STREAM"}),
    ]


@pytest.mark.parametrize("code", snippets("sh") + snippets("console"))
def test_commands_exist(code: str) -> None:
    """The commands that are not run here name targets, packages and programs that are."""
    makefile = (ROOT / "Makefile").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    for command in re.findall(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*([a-z].*?)(?: #.*)?$", code, re.MULTILINE):
        match command.split()[:2]:
            case ["make", target]:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE)
            case ["pip", "install"]:
                assert re.search(r'^name = "lambda-stream-adapter"$', project, re.MULTILINE)
                assert "[local]" not in command or re.search(r"^local = \[$", project, re.MULTILINE)
            case ["function-url", *_]:
                assert 'function-url = "adapter.local.__main__:main"' in project
                assert "pip install 'lambda-stream-adapter[local]'" in code


def test_the_table_in_the_docs_is_the_table() -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    words = {"head": "head", "data": "data", "end": "end", "failure": "error trailers"}
    for state, row in TABLE.items():
        cells = []
        for event in EVENTS:
            after, writes = row.get(event) or ("–", ())
            written = ", ".join(words[write] for write in writes)
            cells.append(f"{after}: *{written}*" if written else after)
        assert f"| **{state}** | {' | '.join(cells)} |" in page


def test_the_house_in_the_docs_is_the_house() -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    for module in (ROOT / "adapter").glob("*.py"):
        if module.name != "__init__.py":
            assert f"`{module.name}`" in page, module.name


def test_the_version_is_in_the_changelog() -> None:
    from adapter import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()

"""What the docs say of SAM, by the real `sam`: build, the questions of `sam deploy --guided`, the zip that it uploads.

CloudFormation and S3 are a server here that says yes to everything.
"""

import datetime
import http.server
import io
import os
import platform
import re
import select
import shutil
import subprocess
import sys
import textwrap
import threading
import urllib.parse
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .events import function_url
from .runtime_api import function
from .test_docs import AWS_CLI, ROOT, of_readme, snippets

SAM = "aws-sam-cli==1.170.0"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
(VARIABLES,) = [code for param in snippets("yaml") if "AWS_LAMBDA_EXEC_WRAPPER" in (code := str(param.values[0]))]
QUESTION = "has no authentication. Is this okay?"


@pytest.fixture(scope="module")
def sam() -> str:
    """The path of the program, in a virtual environment that is made once. Skips the test where it cannot be had."""
    folder = ROOT / ".cache" / SAM.replace("==", "-")
    program = folder / "bin" / "sam"
    if not program.exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--retries", "1", SAM]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{SAM} cannot be had: {done.stderr[-200:]}")
    return str(program)


class AWS(http.server.ThreadingHTTPServer):
    """As much of CloudFormation, S3 and STS as `sam deploy` asks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.uploads: list[bytes] = []
        # The fields of the CreateChangeSet call; a stack is there once its change set has been executed.
        self.change_set: dict[str, str] = {}
        self.executed = False

    @property
    def zip(self) -> bytes:
        (uploaded,) = [upload for upload in self.uploads if upload.startswith(b"PK")]
        return uploaded

    @property
    def parameters(self) -> dict[str, str]:
        named = {
            key.removesuffix("ParameterKey"): value
            for key, value in self.change_set.items()
            if key.endswith("ParameterKey")
        }
        return {name: self.change_set[f"{key}ParameterValue"] for key, name in named.items()}

    def call(self, action: str, fields: dict[str, str]) -> tuple[int, str]:
        """The status of the reply, and its result or its error's message."""
        name = fields.get("StackName", "")
        managed = name == "aws-sam-cli-managed-default"
        now = datetime.datetime.now(datetime.UTC).isoformat()
        stack = f"<StackName>{name}</StackName><StackId>arn:{name}</StackId>"
        status = "CREATE_COMPLETE" if managed or self.executed else "REVIEW_IN_PROGRESS"
        match action:
            case "GetCallerIdentity":
                return 200, "<Account>123456789012</Account>"
            case "DescribeStacks" if not managed and not self.change_set:
                return 400, f"Stack with id {name} does not exist"
            case "DescribeStacks":
                stack += f"<CreationTime>{now}</CreationTime><StackStatus>{status}</StackStatus>"
                if managed:
                    stack += "<Tags><member><Key>ManagedStackSource</Key><Value>AwsSamCli</Value></member></Tags>"
                    output = "<OutputKey>SourceBucket</OutputKey><OutputValue>managed-by-sam</OutputValue>"
                    stack += f"<Outputs><member>{output}</member></Outputs>"
                return 200, f"<Stacks><member>{stack}</member></Stacks>"
            case "CreateChangeSet":
                self.change_set = fields
                return 200, "<Id>arn:changes</Id><StackId>arn:stack</StackId>"
            case "DescribeChangeSet":
                return 200, "<Status>CREATE_COMPLETE</Status><Changes/>"
            case "ExecuteChangeSet":
                self.executed = True
                return 200, ""
            case "DescribeStackEvents":
                stack += (
                    f"<LogicalResourceId>{name}</LogicalResourceId><PhysicalResourceId>arn:{name}</PhysicalResourceId>"
                )
                stack += (
                    f"<EventId>{now}</EventId><Timestamp>{now}</Timestamp><ResourceStatus>{status}</ResourceStatus>"
                )
                stack += "<ResourceType>AWS::CloudFormation::Stack</ResourceType>"
                return 200, f"<StackEvents><member>{stack}</member></StackEvents>"
            case _:
                return 400, f"{action} is not expected"


class Reply(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AWS

    def do_POST(self) -> None:
        sent = urllib.parse.parse_qs(
            self.rfile.read(int(self.headers["content-length"])).decode(), keep_blank_values=True
        )
        fields = {name: values[0] for name, values in sent.items()}
        action = fields["Action"]
        status, text = self.server.call(action, fields)
        if status == 200:
            text = f"<{action}Response><{action}Result>{text}</{action}Result></{action}Response>"
        else:
            text = (
                f"<ErrorResponse><Error><Code>ValidationError</Code><Message>{text}</Message></Error></ErrorResponse>"
            )
        self.answer(status, text.encode())

    def do_HEAD(self) -> None:
        self.answer(404)

    def do_PUT(self) -> None:
        self.server.uploads.append(self.rfile.read(int(self.headers["content-length"])))
        self.answer(200)

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", '"etag"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest's output is for failures."""


@pytest.fixture
def aws() -> Iterator[AWS]:
    with AWS() as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()


def environment(aws: AWS) -> dict[str, str]:
    """Variables for `sam` without an account, with the Python that runs the tests first on PATH."""
    named = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.server_port}", "SAM_CLI_TELEMETRY": "0", "NO_COLOR": "1"}
    return {**os.environ, **AWS_CLI, **named}


# With a terminal of its own, at which the questions are asked.
AT_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def guided(sam: str, folder: Path, aws: AWS) -> list[str]:
    """Deploy from `folder`; the questions, each answered with Enter, but for the one for which the docs say `y`."""
    questions: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, sam, "deploy", "--guided"],
        cwd=folder,
        env=environment(aws),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        output = ""
        try:
            while select.select([process.stdout], [], [], 120)[0] and (read := os.read(process.stdout.fileno(), 65536)):
                output += re.sub(r"\x1b\[[0-9;]*m", "", read.decode())
                question = output.rpartition("\n")[2]
                if re.fullmatch(r"\t\w.*: ", question):
                    questions.append(question.strip())
                    assert len(set(questions)) == len(questions), output
                    process.stdin.write(b"y\n" if QUESTION in question else b"\n")
                    process.stdin.flush()
                    output += "\n"
            assert process.wait(60) == 0, output
        finally:
            process.kill()
    return questions


def deployed(sam: str, folder: Path, aws: AWS, template: str) -> list[str]:
    """Build and deploy as the docs say, for the Python and the machine of the tests. Returns the questions of `sam`."""
    template, runtimes = re.subn(r"Runtime: python3\.\d+", f"Runtime: {VERSION}", template)
    assert runtimes == 1
    (folder / "template.yaml").write_text(template)
    subprocess.run([sam, "build"], cwd=folder, env=environment(aws), check=True)
    return guided(sam, folder, aws)


@pytest.fixture
def task(sam: str, aws: AWS, tmp_path: Path) -> Path:
    """/var/task, as the docs have it made: docs/deploy.md's template, with docs/runtime.md's variable and script, and
    the README's app as main.py; then the zip that `sam deploy` has uploaded, unzipped with the modes that it has.
    """
    (template,) = [code for param in snippets("yaml") if "Transform:" in (code := str(param.values[0]))]
    (script,) = [code for param in snippets("sh") if "exec-wrapper" in (code := str(param.values[0]))]
    architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    properties = textwrap.indent(f"Architectures: [{architecture}]\n{VARIABLES}", " " * 6)
    (tmp_path / "main.py").write_text(of_readme("StreamingAdapter(app)"))
    (tmp_path / "requirements.txt").write_text(f"{ROOT}\nfastapi\n")
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    deployed(sam, tmp_path, aws, template.replace("      Timeout:", f"{properties}      Timeout:"))
    folder = tmp_path / "task"
    with zipfile.ZipFile(io.BytesIO(aws.zip)) as archive:
        for member in archive.infolist():
            Path(archive.extract(member, folder)).chmod(member.external_attr >> 16)
    return folder


async def test_the_wrapper_of_the_docs_runs_out_of_the_zip_that_sam_makes(task: Path) -> None:
    wrapper: str = yaml.safe_load(VARIABLES)["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"]
    # An interpreter that has nothing of the tests' own, and what Lambda would have it run.
    python = str(Path(sys.base_prefix) / "bin" / VERSION)
    command = [wrapper.replace("/var/task", str(task)), python, "/var/runtime/bootstrap.py"]
    env = {"LAMBDA_TASK_ROOT": str(task)}
    async with function("main.handler", command=command, env=env, without=["PYTHONPATH"]) as running:
        invoked = await running.api.run(function_url())
        assert (invoked.body, invoked.events) == (b'"hello"', ["open", "prelude", "chunk", "close", "next"])
        assert running.api.extensions  # which the asyncio runtime alone registers
    assert "five seconds of work" in running.output


def test_the_repositorys_template_is_deployed_by_enter_and_one_yes(sam: str, aws: AWS, tmp_path: Path) -> None:
    for folder in ("adapter", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path)
    questions = deployed(sam, tmp_path, aws, (ROOT / "template.yaml").read_text())
    assert [question for question in questions if "Parameter" in question] == [
        "Parameter AuthType [NONE]:",
        "Parameter SlackSecretName []:",
    ]
    assert [question for question in questions if QUESTION in question]
    assert aws.executed
    assert aws.parameters == {"AuthType": "NONE", "SlackSecretName": ""}
    # From then on it asks for nothing.
    aws.change_set, aws.executed = {}, False
    subprocess.run([sam, "deploy"], cwd=tmp_path, env=environment(aws), stdin=subprocess.DEVNULL, check=True)
    assert aws.executed
    assert aws.parameters == {"AuthType": "NONE", "SlackSecretName": ""}
    with zipfile.ZipFile(io.BytesIO(aws.uploads[0])) as archive:
        assert {"main.py", "page.html", "adapter/asgi.py"} <= set(archive.namelist())


@pytest.mark.parametrize("page", ["README.md", "docs/deploy.md", "examples/fastapi_app/README.md"])
def test_each_page_that_deploys_says_what_sam_wants(page: str) -> None:
    """The one answer that is not Enter, and the Python that `sam build` looks for on PATH."""
    text = (ROOT / page).read_text()
    assert "sam deploy --guided" in text and QUESTION in text
    (runtime,) = re.findall(r"Runtime: (\S+)", (ROOT / "template.yaml").read_text())
    assert re.search(rf"`?sam build`? .*{re.escape(runtime)}`?.* on PATH|on PATH, here a `{re.escape(runtime)}`", text)
    assert "sam build --use-container" in text

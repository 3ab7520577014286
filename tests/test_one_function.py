"""One function for every trigger: the example app, behind all fronts of one local Lambda, in one run."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "fastapi_app"
TITLES = {
    "Function URL": "url",
    "HTTP API": "http-api",
    "REST API": "rest-api",
    "Application Load Balancer": "alb",
}
SQS = {
    "Records": [
        {"messageId": "1", "body": '{"title": "sales"}', "eventSource": "aws:sqs"},
        {"messageId": "2", "body": "no JSON", "eventSource": "aws:sqs"},
    ]
}


class LocalLambda:
    def __init__(self, ports: dict[str, str], process: subprocess.Popen[str], folder: Path) -> None:
        self.ports = ports
        self.process = process
        self.folder = folder

    def curl(self, front: str, *arguments: str) -> str:
        *options, path = arguments
        command = ["curl", "-sS", *options, f"http://127.0.0.1:{self.ports[front]}{path}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def invoke(self, payload: object) -> Any:
        aws = str(Path(sys.executable).with_name("aws"))
        endpoint = f"http://127.0.0.1:{self.ports['url']}"
        command = [aws, "lambda", "invoke", "--endpoint-url", endpoint, "--function-name", "f"]
        command += ["--payload", json.dumps(payload), "out.json"]
        environment = {
            **os.environ,
            **{"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"},
            **{"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"},
        }
        run = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=True)
        assert json.loads(run.stdout)["StatusCode"] == 200 and "FunctionError" not in run.stdout
        return json.loads((self.folder / "out.json").read_text())

    def line(self, pattern: str) -> str:
        """The next line that has the pattern."""
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if re.search(pattern, line))


@pytest.fixture
def local_lambda(tmp_path: Path) -> Iterator[LocalLambda]:
    command = [sys.executable, "-m", "adapter.local", "main.handler", "--port", "0", "--app-dir", str(FOLDER)]
    for front in ("http-api", "rest-api", "alb"):
        command += ["--front", front]
    environment = {**os.environ, "WORK_SECONDS": "1", "REPORTS_FILE": str(tmp_path / "reports.sqlite3")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ports: dict[str, str] = {}
            while len(ports) < 4:
                line = process.stdout.readline()
                assert line, "the local Lambda has ended"
                if found := re.match(r"(.*): http://127\.0\.0\.1:(\d+)/", line):
                    ports[TITLES[found[1]]] = found[2]
            yield LocalLambda(ports, process, tmp_path)
        finally:
            process.send_signal(signal.SIGINT)


def test_one_function_answers_them_all(local_lambda: LocalLambda) -> None:
    for front in local_lambda.ports:
        # The 1 s of work is after the reply: its statement is logged when the caller has its answer.
        greeting = local_lambda.curl(front, "/hello")
        request_id = re.fullmatch(r"Hello my request id is: (\S+)\n", greeting)
        assert request_id is not None, front
        local_lambda.line(f"^RESPONSE RequestId: {request_id[1]}\tStatus: 200")
        local_lambda.line("^done waiting")
        local_lambda.line(f"^REPORT RequestId: {request_id[1]}")
        redirected = local_lambda.curl(front, "-L", "-o", os.devnull, "-w", "%{http_code}", "/reports/")
        assert redirected == "200"
    assert local_lambda.invoke(SQS) == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    ordered = local_lambda.invoke({"any": "thing"})["report"]
    reports = json.loads(local_lambda.curl("alb", "/reports"))
    assert {report["content"] for report in reports if report["content"]} == {
        "Ordered by the message 'sales'.",
        "Ordered by a direct invocation.",
    }
    report = json.loads(local_lambda.curl("http-api", f"/reports/{ordered}"))
    assert report == {"id": ordered, "status": "ready", "content": "Ordered by a direct invocation."}

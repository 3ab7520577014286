"""The example app under uvicorn: every route, and that its work goes on after the response."""

import asyncio
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import uvicorn
from botocore.stub import Stubber
from slack_sdk.signature import SignatureVerifier
from starlette.types import ASGIApp, Receive, Scope, Send

import main
from reports import DynamoReports, Reports, SQLiteReports, open_reports

FOLDER = Path(__file__).parent.parent / "examples" / "fastapi_app"
DEADLINE = 20.0  # seconds until a test gives up; nothing here takes a tenth of it
SECRET = "a signing secret"


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("waited in vain")
        time.sleep(0.01)


@contextmanager
def uvicorn_serving(app: ASGIApp) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(DEADLINE)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        # slack_sdk sends through a proxy even what goes to 127.0.0.1
        if name.startswith(("AWS_", "REPORTS_", "SLACK_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REPORTS_FILE", str(tmp_path / "reports.sqlite3"))
    monkeypatch.setenv("SLACK_SIGNING_SECRET", SECRET)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """All work after a response waits here, so that "before" and "after" need no clock."""
    opened = threading.Event()

    def work() -> None:
        if not opened.wait(DEADLINE):
            pytest.fail("the work was never let go on")

    async def sleep(seconds: float) -> None:
        await asyncio.to_thread(work)

    monkeypatch.setattr(main, "work", work)
    monkeypatch.setattr(main, "asyncio", SimpleNamespace(sleep=sleep))
    yield opened
    opened.set()


@pytest.fixture
def client(environment: None) -> Iterator[httpx.Client]:
    with uvicorn_serving(main.app) as url, httpx.Client(base_url=url, timeout=DEADLINE) as client:
        yield client


# -- tokens


def sse(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    event = "message"
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            event = value
        elif field == "data":
            yield event, json.loads(value)
            event = "message"


def test_tokens_are_an_event_stream_that_ends_with_done(client: httpx.Client) -> None:
    with client.stream("GET", "/tokens", params={"prompt": "Ünïcode?", "delay": 0}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
        *tokens, done = sse(response.iter_lines())
    assert {event for event, _ in tokens} == {"message"}
    assert len(tokens) > 10
    assert "".join(token for _, token in tokens).startswith("You asked: “Ünïcode?” ")
    assert done == ("done", {"tokens": len(tokens)})


def test_a_token_arrives_before_the_next_one_is_made(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    second = threading.Event()

    async def model(prompt: str, delay: float) -> AsyncIterator[str]:
        yield "first"
        await asyncio.to_thread(second.wait, DEADLINE)
        yield "second" if second.is_set() else "too late"

    monkeypatch.setattr(main, "model", model)
    with client.stream("GET", "/tokens") as response:
        events = sse(response.iter_lines())
        assert next(events) == ("message", "first")
        second.set()
        assert list(events) == [("message", "second"), ("done", {"tokens": 2})]


@pytest.mark.parametrize("query", [{"delay": "-1"}, {"delay": "60"}, {"delay": "soon"}, {"prompt": "x" * 61}])
def test_the_token_stream_is_bounded(client: httpx.Client, query: dict[str, str]) -> None:
    assert client.get("/tokens", params=query).status_code == 422


# -- hello


def test_hello_prints_after_its_response(
    client: httpx.Client, gate: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    response = client.get("/hello")
    assert response.text.startswith("Hello my request id is: ")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    printed: list[str] = []

    def has_printed(line: str) -> bool:
        printed.extend(capsys.readouterr().out.splitlines())
        return line in printed

    eventually(lambda: has_printed("response sent"))
    gate.set()
    eventually(lambda: has_printed("done waiting"))
    assert printed == ["response sent", "done waiting"]


def test_hello_tells_the_request_id_of_its_invocation() -> None:
    async def invoked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["aws.context"] = SimpleNamespace(aws_request_id="8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        await main.app(scope, receive, send)

    with pytest.MonkeyPatch.context() as patch, uvicorn_serving(invoked) as url:
        patch.setattr(main, "WORK_SECONDS", 0)
        text = httpx.get(f"{url}/hello", timeout=DEADLINE).text
    assert text == "Hello my request id is: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\n"


def test_the_handler_answers_an_event_in_a_unit_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "WORK_SECONDS", 0)
    event = {
        "version": "2.0",
        "rawPath": "/hello",
        "rawQueryString": "",
        "headers": {"host": "abc.lambda-url.us-east-1.on.aws"},
        "requestContext": {
            "domainName": "abc.lambda-url.us-east-1.on.aws",
            "http": {"method": "GET", "path": "/hello"},
        },
        "isBase64Encoded": False,
    }
    reply = main.handler(event, SimpleNamespace(aws_request_id="8476a536"))
    assert (reply["statusCode"], reply["body"]) == (200, "Hello my request id is: 8476a536\n")
    assert capsys.readouterr().out == "response sent\ndone waiting\n"


# -- the slash command


@pytest.fixture
def response_url() -> Iterator[tuple[str, "queue.Queue[Any]"]]:
    """What Slack has listening behind a response_url."""
    posted: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/commands/T1/2/x", posted
        server.shutdown()
        thread.join(DEADLINE)


def signed(body: bytes | str, *, secret: str = SECRET, age: float = 0) -> dict[str, str]:
    timestamp = str(int(time.time() - age))
    signature = SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body)
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": signature or "",
    }


def test_slack_is_answered_at_once_and_sent_the_result_later(
    client: httpx.Client,
    gate: threading.Event,
    response_url: tuple[str, "queue.Queue[Any]"],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, posted = response_url
    body = urlencode({"command": "/report", "text": "sales & costs", "response_url": url, "user_id": "U1"})
    answer = client.post("/slack/command", content=body, headers=signed(body))
    assert answer.status_code == 200
    assert answer.json() == {"response_type": "ephemeral", "text": "Working on /report sales & costs …"}
    assert posted.empty()
    gate.set()
    assert posted.get(timeout=DEADLINE) == {"text": "/report sales & costs is done.", "response_type": "ephemeral"}
    eventually(lambda: "Slack took the result" in capsys.readouterr().out)


BODY = urlencode({"command": "/report", "response_url": "http://127.0.0.1:9/"})


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(BODY, signed(BODY, secret="another"), id="wrong secret"),
        pytest.param(BODY + "&text=more", signed(BODY), id="body changed"),
        pytest.param(BODY, signed(BODY, age=6 * 60), id="stale"),
        pytest.param(BODY, {}, id="unsigned"),
        pytest.param(BODY, signed(BODY) | {"X-Slack-Request-Timestamp": "soon"}, id="timestamp no number"),
        pytest.param(BODY, signed(BODY) | {"X-Slack-Signature": "v0=\xe9"}, id="signature not ASCII"),
        pytest.param(b"text=\xff", signed(BODY), id="body not UTF-8"),
    ],
)
def test_what_slack_has_not_signed_is_refused(
    client: httpx.Client, body: str | bytes, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "answer_slack", lambda *args: pytest.fail("the command was run"))
    latin1 = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    response = client.post("/slack/command", content=body, headers=latin1)
    assert response.status_code == 401
    assert response.json() == {"detail": "Not signed by Slack, or more than five minutes ago."}


def test_a_signed_request_without_a_response_url_is_no_command(client: httpx.Client) -> None:
    assert client.post("/slack/command", content="ssl_check=1", headers=signed("ssl_check=1")).status_code == 400


@pytest.mark.parametrize("secret", ["", None])
def test_without_a_secret_the_command_says_what_is_missing(
    client: httpx.Client, secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLACK_SIGNING_SECRET")
    if secret is not None:
        monkeypatch.setenv("SLACK_SIGNING_SECRET", secret)
    response = client.post("/slack/command", content=BODY, headers=signed(BODY))
    assert response.status_code == 503
    assert "SLACK_SIGNING_SECRET" in response.json()["detail"]


def test_nobody_signs_for_slack_unless_asked_to(client: httpx.Client) -> None:
    assert client.post("/slack/demo").status_code == 404


# -- reports


def test_a_report_is_pending_until_its_background_task_has_made_it(client: httpx.Client, gate: threading.Event) -> None:
    ordered = client.post("/reports")
    assert ordered.status_code == 202
    report = ordered.json()
    assert report["status"] == "pending"
    assert ordered.headers["location"] == f"/reports/{report['id']}"
    assert client.get(ordered.headers["location"]).json() == report

    gate.set()
    eventually(lambda: client.get(ordered.headers["location"]).json()["status"] == "ready")
    ready = client.get(ordered.headers["location"]).json()
    assert ready["id"] == report["id"]
    assert ready["content"].endswith("after the response had ended.")
    assert client.get("/reports").json() == [ready]


def test_the_latest_reports_come_first(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "work", lambda: None)
    ordered = [client.post("/reports").json()["id"] for _ in range(12)]
    assert [report["id"] for report in client.get("/reports").json()] == ordered[:1:-1]


def test_an_unknown_report_is_not_found(client: httpx.Client) -> None:
    response = client.get("/reports/nope")
    assert (response.status_code, response.json()) == (404, {"detail": "No such report."})


def test_reports_outlive_the_app_that_ordered_them(gate: threading.Event) -> None:
    gate.set()
    with uvicorn_serving(main.app) as url:  # which ends when its background tasks have ended
        report_id = httpx.post(f"{url}/reports", timeout=DEADLINE).json()["id"]
    kept = open_reports().get(report_id)
    assert kept is not None
    assert kept.status == "ready"


def test_the_sqlite_store(tmp_path: Path) -> None:
    store: Reports = SQLiteReports(tmp_path / "r.sqlite3")
    report = store.add()
    assert store.get(report.id) == report
    assert store.finish(report.id, "text")
    assert store.get(report.id) == report.model_copy(update={"status": "ready", "content": "text"})
    assert store.get("nope") is None
    assert not store.finish("nope", "text")


def test_the_file_is_in_the_current_folder_or_where_that_is_read_only_in_the_temporary_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REPORTS_FILE")
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    open_reports()
    assert (here / "reports.sqlite3").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as root, permissions would not stop us
    open_reports()
    assert (temporary / "reports.sqlite3").exists()


@pytest.fixture
def dynamo(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Reports, Stubber]]:
    monkeypatch.setenv("REPORTS_TABLE", "some-table")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    store = open_reports()
    assert isinstance(store, DynamoReports)
    with Stubber(store.client) as stubber:  # refuses calls and answers that DynamoDB's own model does not allow
        yield store, stubber
        stubber.assert_no_pending_responses()


def test_dynamodb_adds_a_pending_report(dynamo: tuple[Reports, Stubber], monkeypatch: pytest.MonkeyPatch) -> None:
    store, stubber = dynamo
    monkeypatch.setattr("secrets.token_hex", lambda length: "ab" * length)
    stubber.add_response("put_item", {})
    report = store.add()
    assert report.id.endswith("-" + "ab" * 8)
    assert report.status == "pending"


def test_dynamodb_finishes_a_report_that_exists(dynamo: tuple[Reports, Stubber]) -> None:
    store, stubber = dynamo
    stubber.add_response(
        "update_item",
        {},
        {
            "TableName": "some-table",
            "Key": {"kind": {"S": "report"}, "id": {"S": "1"}},
            "ConditionExpression": "attribute_exists(id)",
            "UpdateExpression": "SET #status = :ready, content = :content",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":ready": {"S": "ready"}, ":content": {"S": "text"}},
        },
    )
    assert store.finish("1", "text")
    stubber.add_client_error("update_item", "ConditionalCheckFailedException")
    assert not store.finish("2", "text")


def test_dynamodb_reads_reports(dynamo: tuple[Reports, Stubber]) -> None:
    store, stubber = dynamo
    key = {"kind": {"S": "report"}, "id": {"S": "1"}}
    ready = key | {"status": {"S": "ready"}, "content": {"S": "text"}}
    asked = {"TableName": "some-table", "Key": key, "ConsistentRead": True}
    stubber.add_response("get_item", {"Item": ready}, asked)
    found = store.get("1")
    assert found is not None
    assert found.model_dump() == {"id": "1", "status": "ready", "content": "text"}

    stubber.add_response("get_item", {}, asked)
    assert store.get("1") is None

    stubber.add_response(
        "query",
        {"Items": [ready, key | {"id": {"S": "0"}, "status": {"S": "pending"}}]},
        {
            "TableName": "some-table",
            "KeyConditionExpression": "kind = :kind",
            "ExpressionAttributeValues": {":kind": {"S": "report"}},
            "ScanIndexForward": False,
            "Limit": 10,
        },
    )
    assert [(report.id, report.status, report.content) for report in store.latest(10)] == [
        ("1", "ready", "text"),
        ("0", "pending", None),
    ]


# -- the page, and the app as it is run


def test_the_page_is_one_file_with_nothing_from_elsewhere(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text == (FOLDER / "page.html").read_text()
    assert "//" not in response.text.replace(" // ", "")
    assert client.get("/docs").status_code == 200


def test_uvicorn_runs_the_app_from_its_folder_and_the_demo_plays_slack(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"SLACK_DEMO": "1", "WORK_SECONDS": "0.01", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=FOLDER, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:

            def accepts() -> bool:
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            eventually(accepts)
            with httpx.Client(base_url=url, timeout=DEADLINE) as client:
                demo = client.post("/slack/demo").json()
                answer = client.post("/slack/command", content=demo["body"], headers=demo["headers"])
                assert answer.json()["text"] == "Working on /report sales of last week …"
                eventually(lambda: client.get(f"/reports/{demo['inbox']}").json()["status"] == "ready")
                message = client.get(f"/reports/{demo['inbox']}").json()["content"]
                assert message == "/report sales of last week is done."
                assert client.post("/slack/demo/nope", json={"text": "hi"}).status_code == 404
        finally:
            server.send_signal(signal.SIGINT)
        output, _ = server.communicate(timeout=DEADLINE)
    assert output == "Slack took the result of '/report sales of last week': 200 \"ok\"\n"

"""The example's page, in a browser, in front of the local function URL: what a person would see."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

FOLDER = Path(__file__).parent.parent / "examples" / "fastapi_app"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# As root in a container there is no sandbox, and what a browser asks of its maker's servers has no place in a test.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Of a site that its own DNS server says to be this machine.
    "--host-resolver-rules=MAP evil.test 127.0.0.1",
]
DEADLINE = 60.0  # seconds; a cold start on a busy machine takes a few of them
WORK_SECONDS = 3.0

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def function_url(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | {
        "REPORTS_FILE": str(tmp_path_factory.mktemp("reports") / "reports.sqlite3"),
        "SLACK_DEMO": "1",
        "SLACK_SIGNING_SECRET": "a signing secret",
        "WORK_SECONDS": str(WORK_SECONDS),
    }
    command = [sys.executable, "-m", "adapter.local", "--port", str(port), "--app-dir", str(FOLDER), "main.handler"]
    try:
        with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as server:
            try:
                wait_for(port, server)
                yield f"http://127.0.0.1:{port}/"
                server.send_signal(signal.SIGINT)
                assert server.wait(DEADLINE) == 0
            finally:
                server.kill()
    finally:
        print(log.read_text())  # pytest shows it beside a failure


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + DEADLINE
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"the local function URL does not serve (exit status {server.poll()})")


@pytest.fixture(scope="module")
def page(function_url: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(DEADLINE * 1000)
        expect.set_options(timeout=DEADLINE * 1000)
        page.goto(function_url)
        yield page
        browser.close()


@pytest.fixture(autouse=True)
def no_errors_on_the_page(page: Page) -> Iterator[None]:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield
    assert errors == []


def milliseconds(page: Page, selector: str) -> int:
    return int(page.locator(selector).get_attribute("data-ms") or "")


def test_tokens_appear_one_after_another(page: Page) -> None:
    # Counted when the page changes, by the page itself: a reply that came in one piece would be one count, or few.
    page.evaluate(
        """() => {
            const list = document.getElementById("tokens");
            window.seen = [];
            new MutationObserver(() => window.seen.push([list.children.length, performance.now()]))
                .observe(list, {childList: true});
        }"""
    )
    page.click("#tokens-start")
    expect(page.locator("#tokens-status .answered")).to_contain_text("tokens in")
    seen = [(count, at) for count, at in page.evaluate("window.seen") if count]
    total = page.locator("#tokens li").count()
    assert total > 10
    # A busy machine may bunch a few tokens; it does not bunch half of them, nor two seconds' worth.
    assert len({count for count, _ in seen}) > total / 2
    assert seen[-1][0] == total
    assert seen[-1][1] - seen[0][1] > total / 2 * 150
    assert page.locator("#tokens").inner_text().startswith("You")


def test_hello_is_answered_and_the_log_shows_the_work_after_it(page: Page, log: Path) -> None:
    page.click("#hello-start")
    expect(page.locator("#hello-status")).to_contain_text("Hello my request id is: ")
    assert milliseconds(page, "#hello-status") < WORK_SECONDS * 1000
    expect(page.locator("#hello-result")).to_contain_text("log")
    deadline = time.monotonic() + DEADLINE
    while "done waiting" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    before, _, after = log.read_text().partition("response sent")
    assert "done waiting" in after
    assert "done waiting" not in before


def test_the_report_is_pending_when_its_request_returns_and_ready_later(page: Page) -> None:
    page.click("#report-start")
    expect(page.locator("#report-status")).to_contain_text("status pending")
    expect(page.locator("#report-result")).to_contain_text("after the response had ended")
    assert worked_on(page, "report") > WORK_SECONDS / 2


def test_slack_is_answered_and_gets_the_result_later(page: Page) -> None:
    page.click("#slack-start")
    expect(page.locator("#slack-status")).to_contain_text("Working on /report")
    expect(page.locator("#slack-result")).to_contain_text("/report sales of last week is done.")
    assert worked_on(page, "slack") > WORK_SECONDS / 2


def worked_on(page: Page, card: str) -> float:
    """Seconds from the answer to the result. From the answer, because before it there may be a cold start."""
    return (milliseconds(page, f"#{card}-result") - milliseconds(page, f"#{card}-status")) / 1000


class AnySite(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>any site</title>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def any_site() -> Iterator[int]:
    """The port of another site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), AnySite) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1", "localhost"])
def test_another_sites_page_does_not_invoke_the_function(
    page: Page, function_url: str, log: Path, any_site: int, host: str
) -> None:
    """A POST of text/plain, with an event of its choice, needs nobody's leave: the page just cannot read the reply."""
    invoke = f"{function_url}2015-03-31/functions/any/invocations"
    with page.context.browser.new_context() as context, context.new_page() as other:  # type: ignore[union-attr]
        other.goto(f"http://{host}:{any_site}/")
        starts = log.read_text().count("START RequestId")
        other.evaluate("url => fetch(url, {method: 'POST', mode: 'no-cors', body: '{}'})", invoke)
        assert log.read_text().count("A request was refused with 403: a web page in a browser sent it")
        assert log.read_text().count("START RequestId") == starts
        # And where the browser goes to the reply.
        other.set_content(
            f"""<form method="post" enctype="text/plain" action="{invoke}"><input name='{{"forged": "' value='"}}'>
            <button>send</button></form>"""
        )
        with other.expect_response(invoke) as response:
            other.click("button")
        assert response.value.status == 403


@pytest.mark.parametrize("path", ["", "2015-03-31/functions/any/invocations"])
def test_a_site_whose_name_becomes_this_machines_reads_nothing(
    page: Page, function_url: str, log: Path, path: str
) -> None:
    with page.context.browser.new_context() as context, context.new_page() as other:  # type: ignore[union-attr]
        starts = log.read_text().count("START RequestId")
        url = function_url.replace("127.0.0.1", "evil.test")
        response = other.goto(url)
        assert response is not None
        assert response.status == 403
        assert "--allow-host NAME" in other.inner_text("body")
        status = other.evaluate(
            "url => fetch(url, {method: 'POST', body: '{}'}).then(reply => reply.status)", url + path
        )
        assert status == 403
        assert log.read_text().count("START RequestId") == starts

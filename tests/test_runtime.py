"""The asyncio runtime, as a process under a Runtime API that records; beside awslambdaric where they must agree."""

import asyncio
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h11
import pytest

from adapter.runtime import Worker

from .events import function_url
from .runtime_api import FUNCTIONS, Function, Invoked, ManagedRuntimeAPI, RuntimeAPI, function

STOPPED = "a function that runs in a thread raised StopIteration"
BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
ACCENTS = {"a": "é☕", "n": 12345678901234567890123, "list": [1.5, None, True]}


def body(invoked: Invoked) -> Any:
    return json.loads(invoked.body)


class ResettingRuntimeAPI(RuntimeAPI):
    """Begins one of its replies, and resets the connection: both are there when the function looks."""

    function: asyncio.subprocess.Process | None = None  # while it is to be done
    to = ""  # what the request's path ends with

    async def _route(
        self, http: h11.Connection, request: h11.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int | None, bytes, list[tuple[str, str]]]:
        function = self.function
        if function is None or not request.target.decode().endswith(self.to):
            return await super()._route(http, request, reader, writer)
        self.function = None
        while not isinstance(await self._event(http, reader), h11.EndOfMessage):
            pass
        function.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, function.pid, os.WSTOPPED | os.WNOWAIT)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await writer.wait_closed()
        function.send_signal(signal.SIGCONT)
        return None, b"", []


@pytest.mark.parametrize("path", ["/async", "/sync", "/stream", "/plain/json"])
async def test_one_invocation_after_another(path: str) -> None:
    async with function("background.handler", client="adapter") as running:
        for _ in range(3):
            invoked = await running.api.run(function_url(path))
            assert invoked.prelude["statusCode"] == 200
            assert invoked.events[0] == "open" and invoked.events[-1] == "next"
            assert invoked.events.index("close") < invoked.events.index("background")
            assert invoked.head[b"lambda-runtime-invocation-id"].decode() == invoked.invocation_id
        assert len(set(running.api.posts_on)) == 1
        assert running.api.extensions == [(b"lambda-stream-adapter", {"events": []})]
        assert running.api.extension_waits.is_set()
    assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]


class TestHandlers:
    @pytest.mark.parametrize("handler", ["plain", "asynchronous", "an_object", "of_a_decorator"])
    async def test_a_function_of_any_kind(self, handler: str) -> None:
        async with function(f"kinds.{handler}", client="adapter") as running:
            for _ in range(2):
                invoked = await running.api.run(ACCENTS)
                assert invoked.result is not None
                result = json.loads(invoked.result)
                assert result["event"] == ACCENTS
                assert result["seen"] == "nothing"
                assert result["current"] == [invoked.request_id, result["trace"]]
                assert result.get("thread", True) == (handler != "of_a_decorator" or result["thread"])
                assert invoked.head[b"content-type"] == b"application/json"

    async def test_garbage_is_collected_but_not_looked_for_in_what_was_imported(self) -> None:
        async with function("kinds.collected", client="adapter") as running:
            assert (await running.api.run({})).result == b"[true, true]"

    async def test_a_trace_id_is_not_kept(self) -> None:
        async with function("kinds.plain", client="adapter") as running:
            first = await running.api.run({})
            running.api.with_trace_id = False
            second = await running.api.run({})
            third = await running.api.run({})
        assert json.loads(first.result or b"")["trace"].startswith("Root=")
        assert json.loads(second.result or b"")["trace"] is None
        assert json.loads(third.result or b"")["trace"] is None

    async def test_they_see_what_awslambdaric_shows_them(self) -> None:
        results = []
        for client in ("awslambdaric", "adapter"):
            async with function("kinds.plain", client=client, env={"LAMBDA_TASK_ROOT": "/var/task"}) as running:
                invoked = await running.api.run(ACCENTS)
            assert invoked.result is not None
            results.append(json.loads(invoked.result.replace(invoked.request_id.encode(), b"ID")))
        assert results[0].pop("current") is None  # which a function of awslambdaric's alone has not
        assert results[1].pop("current")[0] == "ID"
        assert results[0] == results[1]
        assert results[0]["context"]["function_name"] == "'f'"

    @BOTH
    async def test_bytes(self, client: str) -> None:
        async with function("kinds.raw", client=client) as running:
            invoked = await running.api.run({})
        assert (invoked.result, invoked.head[b"content-type"]) == (b"\x00\xff", b"application/unknown")

    @pytest.mark.parametrize("handler", ["kinds.streamed_and_watched", "endings.inside", "endings.decorated"])
    async def test_decorators_and_handlers_around_ours_are_run(self, handler: str) -> None:
        async with function(handler, client="adapter") as running:
            first, second = [await running.api.run(function_url("/background/0")) for _ in range(2)]
        if "watched" in handler:
            assert second.events == ["before", "before", "open", "chunk", "close", "after", "after", "next"]
            assert second.raw == b"streamed"
        else:
            assert first.body == b'"answered"'
            around = ["before", "after"] if "decorated" in handler else []
            inner = ["open", "prelude", "chunk", "close", "working", "worked"]
            assert second.events == [*around[:1], *inner, *around[1:], "next"]

    async def test_a_streaming_handler_that_does_not_stream(self) -> None:
        async with function("kinds.streamed", client="adapter") as running:
            for _ in range(3):
                invoked = await running.api.run({"value": "é"})
                assert invoked.result == b'{"value": "\\u00e9"}' or json.loads(invoked.result or b"") == {"value": "é"}
                assert (await running.api.run({})).raw == b"streamed"
            assert len(set(running.api.posts_on)) == 1


class TestErrors:
    @pytest.mark.parametrize("handler", ["broken", "broken_async"])
    @pytest.mark.parametrize("error", ["value", "named", "surrogate", "stop", "cancelled"])
    async def test_an_exception_is_the_invocations_error(self, handler: str, error: str) -> None:
        async with function(f"kinds.{handler}", client="adapter") as running:
            invoked = await running.api.run({"raise": error})
            assert (await running.api.run({"raise": error})).error is not None
        assert invoked.error is not None
        value = json.loads(invoked.error)
        assert value["requestId"] == invoked.request_id
        expected = {
            "value": ("ValueError", "no\ntea"),
            "named": ("OddlyNamed_2", "odd"),
            "surrogate": ("ValueError", r"'half a pair \udc80'"),
            "stop": ("RuntimeError", STOPPED if handler == "broken" else None),
            "cancelled": ("AppError", "the handler was cancelled"),
        }[error]
        assert value["errorType"] == expected[0]
        assert expected[1] is None or value["errorMessage"] == expected[1]
        assert invoked.head[b"lambda-runtime-function-error-type"] == f"Function.{expected[0]}".encode()
        cause = json.loads(invoked.head[b"lambda-runtime-function-xray-error-cause"])
        assert cause["exceptions"][0]["type"] == expected[0]
        assert f"[ERROR] {expected[0]}" in running.output
        if error not in ("stop", "cancelled"):
            assert value["stackTrace"][0].startswith(f'  File "{FUNCTIONS / "kinds.py"}"')
            assert cause["paths"] == [str(FUNCTIONS / "kinds.py")]

    async def test_it_passes_what_is_around_a_handler_of_ours(self) -> None:
        async with function("kinds.failing_and_watched", client="adapter") as running:
            invoked = await running.api.run({})
        assert invoked.events == ["before", "after", "error", "next"]
        assert json.loads(invoked.error or b"")["errorMessage"] == "no tea"

    async def test_it_looks_as_under_awslambdaric(self) -> None:
        seen = []
        for client in ("awslambdaric", "adapter"):
            async with function("kinds.broken", client=client) as running:
                invoked = await running.api.run({"raise": "value"})
                assert invoked.error is not None
                cause = json.loads(invoked.head[b"lambda-runtime-function-xray-error-cause"])
            last = running.output.replace(invoked.request_id, "ID")
            seen.append((json.loads(invoked.error) | {"requestId": "ID"}, cause, last))
        assert seen[0] == seen[1]

    @pytest.mark.parametrize(
        ("event", "headers"),
        [(b"{", []), (b"", []), (b"{}", [("Lambda-Runtime-Client-Context", "{")])],
    )
    async def test_what_cannot_be_read(self, event: bytes, headers: list[tuple[str, str]]) -> None:
        errors = []
        for client in ("awslambdaric", "adapter"):
            async with function("kinds.plain", client=client) as running:
                running.api.further_headers = headers
                invoked = await running.api.run(None, raw=event)
            assert invoked.error is not None
            errors.append(json.loads(invoked.error) | {"requestId": ""})
        assert errors[0] == errors[1]
        assert invoked.head[b"lambda-runtime-function-error-type"].startswith(b"Runtime.")

    async def test_what_cannot_be_written(self) -> None:
        async with function("kinds.unwritable", client="adapter") as running:
            invoked = await running.api.run({})
        assert invoked.error is not None
        assert json.loads(invoked.error)["errorType"] == "Runtime.MarshalError"

    async def test_a_cause_that_is_too_long_is_left_out(self) -> None:
        async with function("kinds.broken", client="adapter") as running:
            invoked = await running.api.run({"raise": "long"})
        assert invoked.error is not None and len(invoked.error) > 2_000_000
        assert b"lambda-runtime-function-xray-error-cause" not in invoked.head

    @BOTH
    async def test_sys_exit_ends_the_process(self, client: str) -> None:
        async with function("kinds.broken", client=client) as running:
            await running.api.invoke({"raise": "exit"})
            assert await running.exit() == 3

    async def test_after_the_response_an_error_is_for_the_log(self) -> None:
        async with function("streams.phases", client="adapter") as running:
            invoked = await running.api.run({"at": "after"})
            assert invoked.error is None and "close" in invoked.events
        assert "[ERROR]" in running.output


class TestEvents:
    @pytest.mark.parametrize("size", [0, 70_000, 6 * 1024 * 1024])
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_of_any_size(self, size: int, chunked: bool) -> None:
        async with function("kinds.plain", client="adapter") as running:
            running.api.chunked_events = chunked
            for _ in range(2):
                invoked = await running.api.run("x" * size)
                assert invoked.result is not None
                assert json.loads(invoked.result)["event"] == "x" * size

    @BOTH
    async def test_that_are_no_json(self, client: str) -> None:
        async with function("kinds.shown", client=client) as running:
            running.api.further_headers = [("Content-Type", "text/plain")]
            invoked = await running.api.run(None, raw=b"text")
        assert invoked.result == b"\"b'text'\""

    async def test_without_the_extra(self) -> None:
        env = {"PYTHONPATH": f"{FUNCTIONS / 'without_fast'}:{FUNCTIONS}:{FUNCTIONS.parents[1]}"}
        async with function("kinds.plain", client="adapter", env=env) as running:
            invoked = await running.api.run(ACCENTS)
            assert json.loads(invoked.result or b"")["event"] == ACCENTS


@pytest.mark.parametrize("fast", [True, False])
class TestTheRuntimeApi:
    @pytest.fixture
    def env(self, fast: bool) -> dict[str, str]:
        folders = [FUNCTIONS, FUNCTIONS.parents[1]]
        return {"PYTHONPATH": os.pathsep.join(map(str, folders if fast else [FUNCTIONS / "without_fast", *folders]))}

    @pytest.mark.parametrize("status", [400, 403, 410, 413])
    @pytest.mark.parametrize("handler", ["kinds.plain", "kinds.broken", "endings.handler"])
    async def test_a_refusal_is_logged_and_the_next_event_is_asked_for(
        self, env: dict[str, str], handler: str, status: int
    ) -> None:
        async with function(handler, client="adapter", env=env) as running:
            event = {"raise": "value"} if handler == "kinds.broken" else function_url("/background/0")
            running.api.refuse_with = status
            assert (await running.api.run(event)).events[0] == f"refused {status}" or handler == "kinds.plain"
            assert (await running.api.run(event)).answered
        assert f"did not get through: the Runtime API answered {status}" in running.output

    async def test_a_container_error_ends_the_process(self, env: dict[str, str]) -> None:
        async with function("kinds.plain", client="adapter", env=env) as running:
            running.api.refuse_with = 500
            await running.api.invoke({})
            assert await running.exit() == 1
        assert "container error" in running.output

    async def test_a_post_that_is_lost(self, env: dict[str, str]) -> None:
        async with function("kinds.plain", client="adapter", env=env) as running:
            running.api.drop_after_head = True
            await running.api.run({})
            assert (await running.api.run({})).result is not None
        assert "did not get through: the connection was lost" in running.output

    async def test_connections_that_are_closed_are_opened_again(self, env: dict[str, str]) -> None:
        async with function("endings.handler", client="adapter", env=env) as running:
            running.api.close_after_reply = True
            running.api.close_after_event = True
            for _ in range(3):
                assert (await running.api.run(function_url("/background/0"))).body == b'"answered"'
            assert len(set(running.api.posts_on)) == 3

    async def test_an_event_that_cannot_be_fetched_is_asked_for_again(self, env: dict[str, str]) -> None:
        async with function("kinds.plain", client="adapter", env=env) as running:
            running.api.next_fails = [
                b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
                b"",
                b"SSH-2.0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nit",
            ]
            assert (await running.api.run({})).result is not None
            assert (await running.api.run({})).result is not None
        assert "the Runtime API answered 403 'no'" in running.whole
        assert "the Runtime API answered 200 'it'" in running.whole
        assert "closed by the Runtime API" in running.whole
        assert "did not answer in HTTP/1.1" in running.whole

    @pytest.mark.parametrize("to", ["/next", "/response"])
    @pytest.mark.parametrize("handler", ["kinds.plain", "endings.handler"])
    async def test_a_reset_that_comes_with_a_part_of_a_reply_is_seen_at_once(
        self, env: dict[str, str], handler: str, to: str
    ) -> None:
        api = ResettingRuntimeAPI()
        async with function(handler, client="adapter", env=env, api=api) as running:
            event = function_url("/background/0")
            await running.api.run(event)
            api.to, api.function = to, running.process
            for _ in range(2):
                invoked = await running.api.invoke(event)
                await asyncio.wait_for(invoked.finished.wait(), 20)  # the deadline is in 30 s
            assert invoked.result is not None or invoked.body == b'"answered"'
        assert "the connection was lost: [Errno 104] Connection reset by peer" in running.whole

    async def test_nor_can_one_with_a_header_that_is_none(self, env: dict[str, str]) -> None:
        async with function("kinds.plain", client="adapter", env=env) as running:
            running.api.next_fails = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon\r\n\r\n{}"]
            assert (await running.api.run({})).result is not None
        assert "the Runtime API sent a bad header: 'no colon'" in running.whole

    @pytest.mark.parametrize("handler", ["kinds.plain", "kinds.asynchronous", "endings.handler"])
    async def test_whatever_comes_with_an_event_the_next_one_is_asked_for(
        self, env: dict[str, str], handler: str
    ) -> None:
        event = json.dumps(function_url("/background/0")).encode()
        odd = [
            *[
                ("Aws-Request-Id", value)
                for value in ("a\0b", "é☕", "\x01", "a b", "", "a\nb", "a\rb", "x" * 10_000, "../x")
            ],
            *[("Deadline-Ms", value) for value in ("9" * 5000, "9" * 15, "-1", "1e400", "NaN", "٣", "0", "")],
            *[("Trace-Id", value) for value in ("Root=\0", "é☕", "\udcff", "\n", "x" * 100_000)],
            *[("Invocation-Id", value) for value in ("\0", "é☕", "\udcff", "a\nb")],
            *[("Client-Context", value) for value in ("{", "[]", "7", "\0")],
            *[("Cognito-Identity", value) for value in ("{", "[]", "7", "\0")],
            *[("Invoked-Function-Arn", value) for value in ("\0", "é☕")],
            *[("Aws-Tenant-Id", value) for value in ("\0", "é☕")],
        ]
        async with function(handler, client="adapter", env=env) as running:
            for name, value in odd:
                fields = {"Aws-Request-Id": "unknown", "Deadline-Ms": str(int((time.time() + 30) * 1000)), name: value}
                head = "".join(f"Lambda-Runtime-{field}: {value}\r\n" for field, value in fields.items())
                length = f"Content-Length: {len(event)}\r\nContent-Type: application/json\r\n"
                reply = f"HTTP/1.1 200 OK\r\n{length}{head}\r\n".encode(errors="surrogateescape") + event
                running.api.next_fails.append(reply)
            fine = await running.api.run(function_url("/background/0"))
            assert not running.api.next_fails
            assert fine.result is not None or fine.body == b'"answered"'
        assert "exception was never retrieved" not in running.whole and "Exception in callback" not in running.whole

    async def test_but_not_for_ever(self, env: dict[str, str]) -> None:
        async with function("kinds.plain", client="adapter", env=env) as running:
            running.api.next_fails = [b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"] * 5
            assert await running.exit() == 1
        assert running.output.count("another try is made") == 4
        assert "No events can be fetched any more" in running.output

    async def test_nor_after_a_container_error(self, env: dict[str, str]) -> None:
        async with function("kinds.plain", client="adapter", env=env) as running:
            running.api.next_fails = [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]
            assert await running.exit() == 1
        assert "another try" not in running.output

    async def test_nor_when_nobody_listens(self, env: dict[str, str]) -> None:
        async with function("kinds.plain", client="adapter", env=env) as running:
            await running.api.run({})
            await running.api.close()
            assert await running.exit() == 1
        assert "no connection to the Runtime API" in running.output

    async def test_what_nobody_asked_for_ends_the_connection(self, env: dict[str, str]) -> None:
        async with function("endings.handler", client="adapter", env=env) as running:
            invoked = await running.api.invoke(function_url("/background/1"))
            await asyncio.wait_for(invoked.closed.wait(), 20)
            for connection in running.api.connections:
                connection.write(b"HTTP/1.1 200 OK\r\n")
            await asyncio.wait_for(invoked.finished.wait(), 20)
            assert (await running.api.run(function_url("/background/0"))).body == b'"answered"'


class TestInit:
    @pytest.mark.parametrize("handler", ["kinds", "missing.handler", "kinds.missing", "sys.exit", "raises.handler"])
    async def test_an_error_is_that_of_awslambdaric(self, handler: str, tmp_path: Path) -> None:
        (tmp_path / "raises.py").write_text("raise OSError('at import')\n")
        seen = []
        for client in ("awslambdaric", "adapter"):
            env = {"PYTHONPATH": f"{tmp_path}:{FUNCTIONS}:{FUNCTIONS.parents[1]}"}
            async with function(handler, client=client, env=env) as running:
                assert await running.exit() == 1
                seen.append((running.api.init_error, running.output))
        assert seen[0][0] == seen[1][0]
        assert seen[0][0]["errorType"]
        # awslambdaric has a word of warning before it.
        assert seen[0][1].endswith(seen[1][1])

    async def test_a_lifespan_that_fails(self) -> None:
        async with function("starts.handler", client="adapter", env={"APP": "fails"}) as running:
            assert await running.exit() == 1
        assert running.api.init_error["errorMessage"] == "no database"

    @pytest.mark.parametrize("arguments", [[], ["a.b", "c"]])
    async def test_usage(self, arguments: list[str]) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adapter", *arguments), stderr=asyncio.subprocess.PIPE
        )
        _, error = await process.communicate()
        assert process.returncode == 2 and b"usage: python -m adapter" in error

    async def test_it_runs_nowhere_but_on_lambda(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adapter", "a.b"), stderr=asyncio.subprocess.PIPE
        )
        _, error = await process.communicate()
        assert process.returncode == 2 and b"python -m adapter.local --runtime adapter" in error

    @pytest.mark.parametrize("value", ["none", "0", "-1"])
    async def test_a_concurrency_that_is_none(self, value: str) -> None:
        async with function("kinds.plain", client="adapter", env={"AWS_LAMBDA_MAX_CONCURRENCY": value}) as running:
            assert await running.exit() == 1
        assert f"AWS_LAMBDA_MAX_CONCURRENCY must be a number of invocations, not '{value}'" in running.output

    async def test_an_awslambdaric_that_is_not_as_known(self, tmp_path: Path) -> None:
        (tmp_path / "awslambdaric").mkdir()
        (tmp_path / "awslambdaric" / "__init__.py").write_text("__version__ = '9.9'\n")
        (tmp_path / "awslambdaric" / "bootstrap.py").write_text("def _get_handler(): ...\n")
        env = {"PYTHONPATH": f"{tmp_path}:{FUNCTIONS}:{FUNCTIONS.parents[1]}"}
        async with function("kinds.plain", client="adapter", env=env) as running:
            assert await running.exit() == 1
        (line,) = running.output.splitlines()
        assert line.startswith("awslambdaric 9.9 has no _AWS_LAMBDA_LOG_FORMAT, _AWS_LAMBDA_LOG_LEVEL, _setup_logging,")


class TestLogs:
    @pytest.mark.parametrize("format", ["Text", "JSON"])
    @pytest.mark.parametrize("level", ["", "INFO", "ERROR"])
    @pytest.mark.parametrize("framed", [False, True])
    async def test_they_are_those_of_awslambdaric(self, format: str, level: str, framed: bool, tmp_path: Path) -> None:
        seen = []
        for client in ("awslambdaric", "adapter"):
            env = {"AWS_LAMBDA_LOG_FORMAT": format, "AWS_LAMBDA_LOG_LEVEL": level or "WARN"}
            with (tmp_path / client).open("w+b") as frames:
                if framed:
                    env["_LAMBDA_TELEMETRY_LOG_FD"] = str(frames.fileno())
                async with function("logs.handler", client=client, env=env, descriptors=[frames.fileno()]) as running:
                    invoked = await running.api.run({})
                    running.process.terminate()
                    await running.exit()
                frames.seek(0)
                output = running.output + frames.read().decode("latin-1")
            output = output.replace(invoked.request_id, "ID")
            output = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "TIME", output)
            if framed:
                output = re.sub(r"(\xa5Z\x00.\0\0..).{8}", r"\1TIME", output, flags=re.DOTALL)
            seen.append(output)
        assert seen[0] == seen[1]
        assert "ID" in seen[0]


class TestTheEnd:
    """SIGTERM in every phase: what can be finished is, then the lifespan is, and the status is 0."""

    async def begin(self, running: Function, path: str, event: str) -> Invoked:
        """Invoked, and so far."""
        invoked = await running.api.invoke(function_url(path))
        async with asyncio.timeout(20):
            while event not in invoked.events:
                await asyncio.sleep(0.005)
        return invoked

    @BOTH
    async def test_idle(self, client: str) -> None:
        async with function("endings.handler", client=client) as running:
            await running.api.run(function_url("/background/0"))
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert running.api.log[-1] == "shutdown"
            assert running.api.extensions == [(b"lambda-stream-adapter", {"events": []})]

    @BOTH
    async def test_before_the_first_event(self, client: str) -> None:
        async with function("endings.handler", client=client) as running:
            async with asyncio.timeout(20):
                while "next" not in running.api.log:
                    await asyncio.sleep(0.005)
            running.process.send_signal(signal.SIGTERM)
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert running.api.log == ["startup", "next", "shutdown"]

    @BOTH
    async def test_streaming(self, client: str) -> None:
        async with function("endings.handler", client=client) as running:
            invoked = await self.begin(running, "/slow/0.1", "chunk")
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert (invoked.body, invoked.trailers) == (b"begun done", {})
            assert running.api.log[-2:] == ["close", "shutdown"]

    @BOTH
    async def test_streaming_for_too_long(self, client: str) -> None:
        async with function("endings.handler", client=client) as running:
            invoked = await self.begin(running, "/slow/10", "chunk")
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert (invoked.body, invoked.failure[0]) == (b"begun ", "Function.DeadlineExceeded")
            message = invoked.failure[1]["errorMessage"]
            assert message.endswith(" s, as Lambda ends the environment (SIGTERM)")
            assert running.api.log[-2:] == ["close", "shutdown"]

    @BOTH
    async def test_background(self, client: str) -> None:
        async with function("endings.handler", client=client) as running:
            await self.begin(running, "/background/0.1", "working")
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert running.api.log[-3:] == ["working", "worked", "shutdown"]

    @BOTH
    async def test_background_for_too_long(self, client: str) -> None:
        async with function("endings.handler", client=client) as running:
            await self.begin(running, "/background/10", "working")
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert running.api.log[-1] == "shutdown" and "worked" not in running.api.log
        (line,) = re.findall(r"Background task endings\.work was cancelled; after .*", running.output)
        assert re.match(r".* s, as Lambda ends the environment \(SIGTERM\), in RequestId", line)
        assert "time" not in line

    @BOTH
    async def test_a_hook_for_too_long(self, client: str) -> None:
        async with function("endings.hooked", client=client) as running:
            await self.begin(running, "/background/0", "hooked")
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert running.api.log[-1] == "shutdown"
        (line,) = re.findall(r"The after_response hook endings\.hook has not ended .*", running.output)
        assert line.endswith(", as Lambda ends the environment (SIGTERM)")

    @BOTH
    async def test_a_thread_that_nobody_can_end(self, client: str) -> None:
        async with function("endings.handler", client=client) as running:
            invoked = await self.begin(running, "/stuck", "stuck")
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert invoked.prelude["statusCode"] == 504
            assert "shutdown" in running.api.log

    @BOTH
    @pytest.mark.parametrize("shutdown", ["fails", "slow", "cancelled"])
    async def test_a_shutdown_that_is_none(self, client: str, shutdown: str) -> None:
        async with function("endings.handler", client=client, env={"SHUTDOWN": shutdown}) as running:
            await running.api.run(function_url("/background/0"))
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
        said = {"fails": "no goodbye", "slow": "were not done after 0.4", "cancelled": "shutdown was cancelled"}
        assert said[shutdown] in running.output

    @BOTH
    @pytest.mark.parametrize("shutdown", ["slow", "in time"])
    async def test_a_slow_shutdown_after_the_last_invocation(self, client: str, shutdown: str) -> None:
        async with function("endings.handler", client=client, env={"SHUTDOWN": shutdown}) as running:
            # The asyncio runtime takes SIGTERM in the loop, so that no app can see whether it has come.
            path = "/until_sigterm" if client == "awslambdaric" else "/slow/0.05"
            invoked = await self.begin(running, path, "chunk")
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert invoked.body == b"begun done"

    async def test_a_result_that_nobody_takes(self) -> None:
        async with function("kinds.plain", client="adapter") as running:
            await running.api.run({})
            running.api.gate.clear()
            invoked = await running.api.invoke({})
            async with asyncio.timeout(20):
                while invoked.result is None:
                    await asyncio.sleep(0.005)
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
        assert "The process ends before RequestId" in running.output

    def test_a_worker_asks_for_nothing_more(self, caplog: pytest.LogCaptureFixture) -> None:
        runtime: Any = SimpleNamespace(ending=0)
        worker = Worker(runtime)
        worker.ask()
        worker.lost("the connection was lost")
        assert not caplog.records

    @BOTH
    async def test_the_functions_own_handler_is_called_last(self, client: str) -> None:
        async with function("endings.handler", client=client, env={"FORMER": "1"}) as running:
            await running.api.run(function_url("/background/0"))
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert running.api.log[-1] == "shutdown"
        assert running.output == "the function's own\n"

    @BOTH
    async def test_without_extensions(self, client: str) -> None:
        api = RuntimeAPI()
        api.has_extensions = False
        async with function("endings.handler", client=client, api=api, env={"AWS_LAMBDA_LOG_LEVEL": "INFO"}) as running:
            assert (await running.api.run(function_url("/background/0"))).body == b'"answered"'
        assert "There will be no SIGTERM" in running.output and "answered 404" in running.output


class TestSnapStart:
    ENV = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}

    @BOTH
    async def test_startup_is_before_the_snapshot(self, client: str) -> None:
        async with function("endings.handler", client=client, env=self.ENV) as running:
            running.api.restored.set()
            assert (await running.api.run(function_url("/background/0"))).body == b'"answered"'
            assert running.api.log[:3] == ["startup", "snapshot", "next"]

    @BOTH
    async def test_or_after_the_restore(self, client: str) -> None:
        async with function("endings.handler", client=client, env={**self.ENV, "AFTER_RESTORE": "1"}) as running:
            running.api.restored.set()
            assert (await running.api.run(function_url("/background/0"))).body == b'"answered"'
            assert running.api.log[:3] == ["snapshot", "startup", "next"]
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit(2) == 0
            assert running.api.log[-1] == "shutdown"

    @BOTH
    async def test_one_startup_of_an_app_that_has_two_adapters(self, client: str) -> None:
        env = {**self.ENV, "AFTER_RESTORE": "1"}
        async with function("endings.second", client=client, env=env) as running:
            running.api.restored.set()
            assert (await running.api.run(function_url("/background/0"))).body == b'"answered"'
            assert running.api.log.count("startup") == 1

    @BOTH
    async def test_the_option_is_for_snapshots_only(self, client: str) -> None:
        async with function("endings.handler", client=client, env={"AFTER_RESTORE": "1"}) as running:
            await running.api.run(function_url("/background/0"))
            assert running.api.log[:2] == ["startup", "next"]

    @BOTH
    async def test_connections_of_before_are_of_no_use(self, client: str) -> None:
        """What was open when the snapshot was taken is closed when it is restored."""
        async with function("endings.handler", client=client, env=self.ENV) as running:
            async with asyncio.timeout(20):
                while "snapshot" not in running.api.log:
                    await asyncio.sleep(0.005)
            for connection in running.api.connections[:-1]:
                connection.transport.abort()
            running.api.restored.set()
            assert (await running.api.run(function_url("/background/0"))).body == b'"answered"'

    @BOTH
    @pytest.mark.parametrize(("hook", "status"), [("before", 64), ("after", 65)])
    async def test_a_hook_that_fails(self, client: str, hook: str, status: int) -> None:
        async with function("hooks.handler", client=client, env={**self.ENV, "FAILS": hook}) as running:
            running.api.restored.set()
            assert await running.exit() == status
            error = running.api.init_error if hook == "before" else running.api.restore_error
        assert error["errorMessage"] == f"{hook} failed"


WITHOUT_UVLOOP = {"PYTHONPATH": f"{FUNCTIONS / 'without_fast'}:{FUNCTIONS}:{FUNCTIONS.parents[1]}"}


@pytest.fixture(scope="module", params=["nest_asyncio", "nest_asyncio2"])
def nesting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A package that LLM libraries call at their import, and where it is: not among those of the other tests."""
    folder = str(tmp_path_factory.mktemp(request.param))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, request.param]
    subprocess.run(command, check=True)
    return request.param, folder


class TestTheLoop:
    """``--loop``, as uvicorn's; ``ADAPTER_LOOP``, where there are no arguments."""

    @pytest.mark.parametrize(
        ("options", "variable", "module"),
        [
            ([], "", "uvloop"),
            ([], "asyncio", "asyncio.unix_events"),
            (["--loop", "asyncio"], "uvloop", "asyncio.unix_events"),
            (["--loop=uvloop"], "asyncio", "uvloop"),
            (["--loop", "auto"], "asyncio", "uvloop"),
        ],
    )
    async def test_it_can_be_chosen(self, options: list[str], variable: str, module: str) -> None:
        for arguments in {("kinds.on_a_loop", *options), (*options, "kinds.on_a_loop")}:
            command = (sys.executable, "-m", "adapter", *arguments)
            async with function("kinds.on_a_loop", command=command, env={"ADAPTER_LOOP": variable}) as running:
                assert json.loads((await running.api.run({})).result or b"") == module

    async def test_auto_is_asyncio_without_uvloop(self) -> None:
        async with function("kinds.on_a_loop", client="adapter", env=WITHOUT_UVLOOP) as running:
            assert json.loads((await running.api.run({})).result or b"") == "asyncio.unix_events"

    @pytest.mark.parametrize(
        ("env", "message"),
        [
            ({"ADAPTER_LOOP": "trio"}, "ADAPTER_LOOP must be one of auto, asyncio, uvloop, not 'trio'"),
            (
                {"ADAPTER_LOOP": "uvloop", **WITHOUT_UVLOOP},
                "uvloop is not installed: install it, or choose --loop auto",
            ),
        ],
    )
    async def test_one_that_is_not_to_be_had_fails_with_one_line(self, env: dict[str, str], message: str) -> None:
        async with function("kinds.on_a_loop", client="adapter", env=env) as running:
            assert await running.exit() == 1
        assert running.output == f"{message}\n"

    @pytest.mark.parametrize("chosen", ["", "auto", "asyncio"])
    async def test_a_library_that_nests_loops_works(self, nesting: tuple[str, str], chosen: str) -> None:
        package, folder = nesting
        env = {
            "PYTHONPATH": f"{folder}:{FUNCTIONS}:{FUNCTIONS.parents[1]}",
            "NESTS_BY": package,
            "ADAPTER_LOOP": chosen,
        }
        async with function("nested.handler", client="adapter", env=env) as running:
            for _ in range(3):
                assert (await running.api.run(function_url("/"))).body == b"42"


class TestTheWrapper:
    """``AWS_LAMBDA_EXEC_WRAPPER``: Lambda runs it with the command that it would have run itself."""

    @pytest.mark.parametrize("layer", [False, True])
    async def test_it_is_the_asyncio_runtime(self, tmp_path: Path, layer: bool) -> None:
        task, runtime = tmp_path / "task", tmp_path / "runtime"
        task.mkdir()
        runtime.mkdir()
        (task / "main.py").write_text(
            "import os, subprocess, sys\nimport kinds, own, theirs\n\n"
            "subprocess.run([sys.executable, '-c', 'import theirs'], check=True)\n"
            "def handler(*_): return own.WHERE\n"
        )
        (task / "own.py").write_text("WHERE = 'task'\n")
        (runtime / "own.py").write_text("WHERE = 'runtime'\n")
        (runtime / "theirs.py").write_text("")
        # A folder of packages with a .pth, as `pip install --target` makes it.
        (task / "own.pth").write_text(f"{FUNCTIONS}\n")
        package = FUNCTIONS.parents[1] / "adapter"
        if not layer:
            (task / "adapter").symlink_to(package)
        wrapper = (package if layer else task / "adapter") / "exec-wrapper"
        env = {"LAMBDA_TASK_ROOT": str(task)}
        command = [str(wrapper), sys.executable, str(runtime / "bootstrap.py")]
        async with function("main.handler", command=command, without=["PYTHONPATH"], env=env) as running:
            invoked = await running.api.run({})
            assert invoked.result == b'"task"'
            assert running.api.extensions

    async def test_a_pythonpath_takes_the_place_of_layers(self, tmp_path: Path) -> None:
        wrapper = FUNCTIONS.parents[1] / "adapter" / "exec-wrapper"
        command = [str(wrapper), sys.executable, str(tmp_path / "bootstrap.py")]
        env = {"LAMBDA_TASK_ROOT": str(tmp_path)}
        async with function("kinds.path", command=command, env=env) as running:
            invoked = await running.api.run({})
        path = json.loads(invoked.result or b"")
        assert path[:4] == [str(tmp_path), str(FUNCTIONS.parents[1]), str(tmp_path), str(FUNCTIONS)]
        assert "/opt/python" not in path


class TestManagedInstances:
    ENV = {"AWS_LAMBDA_MAX_CONCURRENCY": "2", "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}

    @pytest.mark.parametrize("handler", ["kinds.broken", "kinds.broken_async"])
    @pytest.mark.parametrize("fast", [True, False])
    async def test_sys_exit_ends_its_own_invocation_only(self, handler: str, fast: bool) -> None:
        api = ManagedRuntimeAPI()
        env = self.ENV
        if not fast:
            env = {**env, "PYTHONPATH": f"{FUNCTIONS / 'without_fast'}:{FUNCTIONS}:{FUNCTIONS.parents[1]}"}
        async with function(handler, client="adapter", api=api, env=env) as running:
            waiting = await running.api.invoke({"wait": 0.5} if handler == "kinds.broken_async" else {"raise": "value"})
            for _ in range(3):
                error = (await running.api.run({"raise": "exit"})).error
                assert error is not None
                assert json.loads(error)["errorMessage"] == "the handler has called sys.exit(3)"
            await asyncio.wait_for(waiting.finished.wait(), 20)
            assert waiting.result == b'"waited"' or handler == "kinds.broken"
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit() == 0

    async def test_at_its_end_each_invocation_is_finished(self) -> None:
        api = ManagedRuntimeAPI()
        async with function("endings.handler", client="adapter", api=api, env=self.ENV) as running:
            sent = [await running.api.invoke(function_url(f"/slow/{seconds}")) for seconds in (0.2, 0.25)]
            async with asyncio.timeout(20):
                while any(len(invoked.chunks) < 3 for invoked in sent):
                    await asyncio.sleep(0.005)
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit() == 0
            assert all(invoked.body.startswith(b"begun ") and invoked.closed.is_set() for invoked in sent)

    @pytest.mark.parametrize("headers", [[], [("Lambda-Runtime-Client-Context", "{}")]])
    async def test_nothing_of_a_context_is_another_invocations(self, headers: list[tuple[str, str]]) -> None:
        api = ManagedRuntimeAPI()
        api.further_headers = headers
        async with function("kinds.identified", client="adapter", api=api, env=self.ENV) as running:
            both = [await running.api.invoke(name) for name in ("first", "second")]
            for invoked, name in zip(both, ("first", "second"), strict=True):
                await asyncio.wait_for(invoked.finished.wait(), 20)
                assert json.loads(invoked.result or b"") == [None, name]

    async def test_the_trace_id_is_not_in_the_environment(self) -> None:
        api = ManagedRuntimeAPI()
        async with function("kinds.asynchronous", client="adapter", api=api, env=self.ENV) as running:
            invoked = await running.api.run({})
        result = json.loads(invoked.result or b"")
        assert result["trace"] is None and result["current"][1].startswith("Root=")

    @pytest.mark.parametrize("count", [int(os.environ.get("ISOLATION", 2000))])
    async def test_everything_is_its_own_invocations(self, count: int) -> None:
        concurrency = 64
        env = {
            "AWS_LAMBDA_MAX_CONCURRENCY": str(concurrency),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
        }
        api = ManagedRuntimeAPI()
        async with function("endings.handler", client="adapter", api=api, env=env) as running:
            sent = [await api.invoke(function_url(f"/ids/{number}")) for number in range(count)]
            async with asyncio.timeout(50):
                for invoked in sent:
                    await invoked.finished.wait()
                while api.waiting < concurrency:
                    await asyncio.sleep(0.01)
            assert api.most == concurrency
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit() == 0
        lines: dict[str, list[str]] = {}
        for line in running.output.splitlines():
            logged = json.loads(line)
            lines.setdefault(logged["requestId"], []).append(logged["message"])
        for number, invoked in enumerate(sent):
            assert body(invoked) == {
                "request_id": invoked.request_id,
                "places": [invoked.request_id],
                "number": number,
            }
            assert lines.pop(invoked.request_id) == [f"{what} {number}" for what in ("begin", "thread", "background")]
        assert not lines
        assert not [entry for entry in api.log if entry.startswith(("refused", "broken"))]


@pytest.mark.parametrize("handler", ["background.handler", "kinds.plain"])
async def test_a_loss_is_logged_with_its_own_invocations_id(handler: str) -> None:
    """Though it is heard of on a connection that another invocation has opened."""
    async with function(handler, client="adapter", env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as running:
        await running.api.run(function_url("/async"))
        running.api.refuse_with = 413
        lost = await running.api.run(function_url("/async"))
    (line,) = [json.loads(line) for line in running.output.splitlines() if "did not get through" in line]
    assert lost.request_id in line["message"]
    assert line["requestId"] == lost.request_id

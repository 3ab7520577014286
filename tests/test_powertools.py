"""Under Powertools' decorators on the handler: what background work logs, counts and traces is the invocation's own."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .events import EVENTS, Sent, function_url
from .runtime_api import function
from .snippet import snippet

RESPONSE = ["open", "prelude", "chunk", "close"]


class Daemon:
    """As much of X-Ray's daemon as is sent to."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        socket.setblocking(False)
        socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*socket.getsockname())

    def arrived(self) -> dict[str, Any]:
        """What lies in the socket, by name. A datagram is there when its sender goes on: nothing is waited for."""
        segments = {}
        with contextlib.suppress(BlockingIOError):
            while True:
                _, _, document = self._socket.recv(65536).partition(b"\n")
                segment = json.loads(document)
                segments[segment["name"]] = segment
        return segments


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        yield Daemon(opened)


def printed(output: str) -> list[dict[str, Any]]:
    """What was printed as JSON, in order: log lines, and metrics, which awslambdaric's own lines do not end before."""
    return [json.loads(document) for document in re.findall(r'\{"(?:level|_aws)":.*', output)]


async def test_log_lines_and_metrics_of_background_work() -> None:
    async with function("decorated.handler") as running:
        invocations = [await running.api.run(function_url(f"/reports/{number}")) for number in range(2)]
        assert all(invoked.events == [*RESPONSE, "next"] for invoked in invocations)
        failed = await running.api.run(function_url("/fails/2"))
        assert failed.prelude["statusCode"] == 200
    lines = printed(running.output)
    # The metrics come when the handler returns: what is printed between two of them is one invocation's.
    ends = [number for number, line in enumerate(lines) if "_aws" in line]
    assert len(ends) == 3
    for number, invoked in enumerate(invocations):
        *logged, metrics = lines[0 if number == 0 else ends[number - 1] + 1 : ends[number] + 1]
        assert logged[0]["message"] == "asked"
        assert {line["message"] for line in logged[1:]} == {"worked", "worked in a task", "worked in a thread"}
        assert {line["function_request_id"] for line in logged} == {invoked.request_id}
        assert {line["number"] for line in logged} == {number}
        counted = {name: metrics[name] for name in ("Worked", "WorkedInAThread", "WorkedInATask")}
        assert counted == {"Worked": [number], "WorkedInAThread": [number], "WorkedInATask": [number]}
    assert lines[ends[2]]["Worked"] == [2]  # of the invocation whose other task failed
    assert running.output.count("ValueError: in the background") == 1


async def test_segments_of_background_work(daemon: Daemon) -> None:
    env = {"AWS_XRAY_DAEMON_ADDRESS": daemon.address, "LAMBDA_TASK_ROOT": "/var/task"}  # without it, Tracer is off
    async with function("decorated.handler", env=env) as running:
        for number, parent in enumerate(("53995c3f42cd8ad8", "53995c3f42cd8ad9")):
            root = f"1-5759e988-bd862e3fe1be46a99427279{number}"
            running.api.trace_id = f"Root={root};Parent={parent};Sampled=1"
            await running.api.run(function_url(f"/reports/{number}"))
            segments = daemon.arrived()
            assert set(segments) == {"## handler", "## decorated.work", "## decorated.work_in_a_thread"}
            assert {segment["trace_id"] for segment in segments.values()} == {root}
            assert not any(segment["in_progress"] for segment in segments.values())
            assert segments["## decorated.work"]["parent_id"] == segments["## handler"]["id"]
            # X-Ray's SDK goes by the thread: in another one it begins at the invocation's own segment.
            assert (
                segments["## decorated.work_in_a_thread"]["parent_id"] == segments["## handler"]["parent_id"] == parent
            )
            assert max(segments.values(), key=lambda segment: segment["end_time"]) == segments["## handler"]


async def test_the_cost_of_background_work_as_a_metric() -> None:
    async with function("decorated.handler", env={"POWERTOOLS_METRICS_NAMESPACE": "Functions"}) as running:
        await running.api.run(function_url("/fails/1"))
    (cost,) = [line for line in printed(running.output) if "background_ms" in line]
    (described,) = cost["_aws"]["CloudWatchMetrics"]
    assert described["Namespace"] == "Functions"
    names = {metric["Name"] for metric in described["Metrics"]}
    assert names == {"response_ms", "background_ms", "tasks_run", "tasks_failed", "tasks_cancelled"}
    assert (cost["tasks_run"], cost["tasks_failed"], cost["tasks_cancelled"]) == ([2], [1], [0])
    assert cost["background_ms"][0] >= 10


SENT = Sent("/a/b", "POST", "q=1&r=2", (("x-name", "v"), ("content-type", "text/plain")), ("c=3",), "é".encode())
DATA_CLASSES = {
    "function URL": "LambdaFunctionUrlEvent",
    "HTTP API 2.0": "APIGatewayProxyEventV2",
    "HTTP API 1.0": "APIGatewayProxyEvent",
    "REST API": "APIGatewayProxyEvent",
    "ALB": "ALBEvent",
    "ALB multi-value": "ALBEvent",
    "Lattice V2": "VPCLatticeEventV2",
    "Lattice V1": "VPCLatticeEvent",
}
QUEUE = {"Records": [{"messageId": "1", "body": "{}", "eventSource": "aws:sqs"}]}


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_a_data_class_is_an_event(client: str) -> None:
    seen = {"query": [["q", "1"], ["r", "2"]], "name": "v", "cookies": {"c": "3"}, "body": "é"}
    async with function("data_classes.handler", client=client) as running:
        for name, data_class in DATA_CLASSES.items():
            invoked = await running.api.run({**EVENTS[name](SENT), "DataClass": data_class})
            if name == "function URL":
                body, events = json.loads(invoked.body), ["open", "prelude", "chunk", "close"]
            else:
                assert invoked.result is not None
                body, events = json.loads(json.loads(invoked.result)["body"]), ["response"]
            path = "/prod/a/b" if name == "REST API" else "/a/b"
            assert body == {"kind": data_class, "path": path, **seen}, name
            assert invoked.events == [*events, "background", "next"]
        for more, data_class in (({}, "SQSEvent"), ({"ByPath": True}, "SQSEvent")):
            invoked = await running.api.run({**QUEUE, **more, "DataClass": data_class})
            assert invoked.result is not None
            result = json.loads(invoked.result)
            assert result.pop("kind") == data_class
            assert result == ({"event": QUEUE} if more else {"first": QUEUE["Records"][0]})


async def test_the_docs(tmp_path: Path) -> None:
    async with function("main.handler", env=snippet("aws_lambda_powertools", tmp_path)) as running:
        invoked = await running.api.run(function_url())
        assert invoked.body == b'"hello"'
    made, metrics = printed(running.output)
    assert (made["message"], made["function_request_id"]) == ("made", invoked.request_id)
    assert metrics["Made"] == [1]

"""Under OpenTelemetry: spans of a request and of its background work are at the collector before the next event."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from .collector import Collector, collecting
from .events import function_url
from .runtime_api import function
from .snippet import snippet

RESPONSE = ["open", "prelude", "chunk", "close"]


class Traces:
    """The spans that have arrived, and what an export of them is called in the list of events."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def read(self, body: bytes) -> list[str]:
        request = ExportTraceServiceRequest.FromString(body)
        self.spans = [
            span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return ["spans"]

    def named(self, name: str) -> Span:
        (span,) = [span for span in self.spans if span.name == name]
        return span


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
async def collector(traces: Traces) -> AsyncIterator[Collector]:
    async with collecting(traces.read) as collector:
        yield collector


async def test_spans_are_out_before_the_next_event(traces: Traces, collector: Collector) -> None:
    async with function("traced.handler", env={"COLLECTOR": f"http://{collector.address}/v1/traces"}) as running:
        collector.api = running.api
        for _ in range(2):
            invoked = await running.api.run(function_url("/reports"))

            assert invoked.events[:4] == RESPONSE
            assert sorted(invoked.events[4:-2]) == ["background", "task", "thread"]
            assert invoked.events[-2:] == ["spans", "next"]
            server = traces.named("GET /reports")
            assert not server.parent_span_id and server.kind == Span.SPAN_KIND_SERVER
            assert {span.trace_id for span in traces.spans} == {server.trace_id}
            assert traces.named("work").parent_span_id == traces.named("BackgroundTask work").span_id
            assert traces.named("BackgroundTask work").parent_span_id == server.span_id

        failed = await running.api.run(function_url("/fails"))
        assert failed.prelude["statusCode"] == 500
        assert failed.events == [*RESPONSE, "spans", "next"]
        assert traces.named("GET /fails").status.code == Status.STATUS_CODE_ERROR

        failed = await running.api.run(function_url("/background-fails"))
        assert failed.prelude["statusCode"] == 200
        assert failed.events == [*RESPONSE, "spans", "next"]
        assert traces.named("BackgroundTask fail").status.message == "ValueError: in the background"


async def test_a_collector_that_does_not_answer(traces: Traces, collector: Collector) -> None:
    """It costs the exporter's timeout, and the caller nothing; the next spans come."""
    env = {"COLLECTOR": f"http://{collector.address}/v1/traces", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    async with function("traced.handler", env=env) as running:
        collector.api, collector.delay = running.api, 60
        invoked = await running.api.run(function_url("/background-fails"))
        assert invoked.events == [*RESPONSE, "next"]
        collector.delay = 0
        invoked = await running.api.run(function_url("/background-fails"))
        assert invoked.events == [*RESPONSE, "spans", "next"]
    assert "Failed to export spans" in running.output


AUTOMATIC = {
    "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
    "OTEL_BSP_SCHEDULE_DELAY": "60000",
    "OTEL_BLRP_SCHEDULE_DELAY": "60000",
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
}
SIGNALS = ("TRACES", "METRICS", "LOGS")


def only(signal: str, collector: Collector) -> dict[str, str]:
    exporters = {f"OTEL_{other}_EXPORTER": "otlp" if other == signal else "none" for other in SIGNALS}
    return {**AUTOMATIC, **exporters, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}"}


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("handler", ["handler", "second"])
async def test_fastapis_own_spans_are_out_before_the_next_event(
    traces: Traces, collector: Collector, client: str, handler: str
) -> None:
    pytest.importorskip("fastapi.telemetry")
    hook = ["hook"] if handler == "handler" else []
    async with function(f"auto_traced.{handler}", env=only("TRACES", collector), client=client) as running:
        collector.api = running.api
        for _ in range(2):
            invoked = await running.api.run(function_url("/reports"))
            assert invoked.events == [*RESPONSE, "background", *hook, "spans", "next"]
            assert traces.named("work").trace_id == traces.named("GET /reports").trace_id
        failed = await running.api.run(function_url("/fails"))
        assert failed.events == [*RESPONSE, *hook, "spans", "next"]


@pytest.mark.parametrize("signal", ["METRICS", "LOGS"])
async def test_so_are_its_metrics_and_logs(signal: str) -> None:
    pytest.importorskip("fastapi.telemetry")
    async with (
        collecting(lambda body: [signal]) as collector,
        function("auto_traced.handler", env=only(signal, collector)) as running,
    ):
        collector.api = running.api
        for _ in range(2):
            assert (await running.api.run(function_url("/fails"))).events == [*RESPONSE, "hook", signal, "next"]


async def test_the_docs(traces: Traces, collector: Collector, tmp_path: Path) -> None:
    env = {
        **snippet("opentelemetry", tmp_path),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}",
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
    }
    async with function("main.handler", env=env) as running:
        collector.api = running.api
        invoked = await running.api.run(function_url())
        assert invoked.body == b'"hello"'
        assert invoked.events == [*RESPONSE, "spans", "next"]
        # The server's span ends with the response, as the docs say.
        server, work = traces.named("GET /"), traces.named("work")
        assert server.end_time_unix_nano < work.start_time_unix_nano
        assert traces.named("BackgroundTask work").parent_span_id == server.span_id

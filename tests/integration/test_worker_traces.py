"""One trace, from the producer's span over a real worker to the container, as an OpenTelemetry collector gets it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import celery
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from jaas_submit import Client
from jaas_submit.model.wire_names import TASK_RUN
from tests.support.jobs import LONG, ended, shell
from tests.support.wait import eventually
from tests.support.worker import Installation

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                data = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def of(self, trace_id: str) -> dict[str, Any]:
        return {span.name: span for span in self.spans if span.trace_id.hex() == trace_id}


@pytest.fixture(scope="module")
def collector(jaas: Installation) -> Iterator[Collector]:
    """A collector, and a worker that sends to it."""
    made = Collector()
    jaas.worker(traces=True, OTEL_EXPORTER_OTLP_ENDPOINT=made.url, OTEL_BSP_SCHEDULE_DELAY="100").start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def check(collector: Collector, trace_id: str, parent: str, flags: str, told: str, *more: str) -> None:
    """Check that a trace has an attempt with its four parts below a span, and that the container was told of it.

    Args:
        collector: what was sent.
        trace_id: the trace.
        parent: id of the span that the attempt is below.
        flags: of the trace, in hexadecimal.
        told: the container's TRACEPARENT.
        more: names of further spans in the trace.
    """
    wanted = {"jaas.attempt", "jaas.queue", "jaas.launch", "jaas.run", "jaas.result", *more}
    eventually(lambda: set(collector.of(trace_id)) == wanted, LONG, lambda: str(collector.spans))
    found = collector.of(trace_id)
    whole = found["jaas.attempt"]
    assert whole.parent_span_id.hex() == parent
    assert {found[name].parent_span_id for name in wanted - {"jaas.attempt", *more}} == {whole.span_id}
    assert told == f"00-{trace_id}-{whole.span_id.hex()}-{flags}"


def test_one_trace_from_a_foreign_message_to_the_container(
    client: Client, foreign: celery.Celery, collector: Collector
) -> None:
    # As opentelemetry-instrumentation-celery, or any other program, sends it.
    spec = shell("echo $TRACEPARENT").to_wire()
    sent = foreign.send_task(
        TASK_RUN, kwargs={"spec": spec}, queue=client.queue, headers={"traceparent": PARENT}, task_id="traced"
    )
    assert sent.get(timeout=LONG)["exit_code"] == 0
    _, trace_id, parent_id, flags = PARENT.split("-")
    check(collector, trace_id, parent_id, flags, ended(client, "traced").stdout.strip())


def test_one_trace_from_the_producers_own_span_to_the_container(
    client: Client, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with provider.get_tracer("app").start_as_current_span("their request") as theirs:
        handle = client.submit(shell("echo $TRACEPARENT"))
    told = ended(client, handle.id).stdout.strip()
    context = theirs.get_span_context()
    trace_id = f"{context.trace_id:032x}"
    eventually(lambda: {"their request", "jaas.submit"} <= set(collector.of(trace_id)), LONG)
    submitted = collector.of(trace_id)["jaas.submit"]
    assert submitted.parent_span_id.hex() == f"{context.span_id:016x}"
    flags = f"{context.trace_flags:02x}"
    check(collector, trace_id, submitted.span_id.hex(), flags, told, "their request", "jaas.submit")
    provider.shutdown()

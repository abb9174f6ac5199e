"""One trace, from the producer's span over a real worker to the container, as an OpenTelemetry collector gets it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import celery
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from jaas_submit import Client
from jaas_submit.names import TASK_RUN
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


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_one_trace_from_the_producer_to_the_container(
    jaas: Installation, client: Client, foreign: celery.Celery, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    jaas.worker(traces=True).start()
    # As opentelemetry-instrumentation-celery, or any other program, sends it.
    spec = shell("echo $TRACEPARENT").to_wire()
    sent = foreign.send_task(
        TASK_RUN, kwargs={"spec": spec}, queue=client.queue, headers={"traceparent": PARENT}, task_id="traced"
    )
    assert sent.get(timeout=LONG)["exit_code"] == 0
    told = ended(client, "traced").stdout.strip()
    _, trace_id, parent_id, _ = PARENT.split("-")
    wanted = {"jaas.attempt", "jaas.queue", "jaas.launch", "jaas.run", "jaas.result"}
    eventually(lambda: set(collector.of(trace_id)) == wanted, LONG, lambda: str(collector.spans))
    found = collector.of(trace_id)
    whole = found.pop("jaas.attempt")
    assert whole.parent_span_id.hex() == parent_id
    assert {span.parent_span_id for span in found.values()} == {whole.span_id}
    assert told == f"00-{trace_id}-{whole.span_id.hex()}-01"

"""A job that is submitted inside a span continues its trace: the record says so."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jaas_submit import Client, JobSpec


def test_a_submitted_job_is_in_its_producers_trace(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with (
        Client(redis_url, queue=prefix, prefix=prefix) as client,
        provider.get_tracer("app").start_as_current_span("their request") as theirs,
    ):
        handle = client.submit(JobSpec(image="x"))
        many = client.submit_many([JobSpec(image="x"), JobSpec(image="y")])
        told = [client.ledger.queries.get(job.id).traceparent.split("-") for job in (handle, *many)]
    assert {parts[1] for parts in told} == {f"{theirs.get_span_context().trace_id:032x}"}
    ours = {f"{span.context.span_id:016x}": span for span in exporter.get_finished_spans()}
    assert all(ours[parts[2]].kind is trace.SpanKind.PRODUCER for parts in told)

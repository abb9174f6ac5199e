"""One trace from the producer's span to the attempt's end. Without tracing, OpenTelemetry is not imported."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jaas_submit.client.tracing import producing
from jaas_submit.model.causes import Cause
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import JobState
from jaas_worker.telemetry.tracing import AttemptTimes, NoTracer, Tracer, make_tracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = datetime.now(UTC)
TIMES = AttemptTimes(NOW.timestamp() - 9, NOW.timestamp() - 7, NOW.timestamp() - 6, NOW.timestamp())


def attempt(**fields: Any) -> Attempt:
    told = {
        "number": 1,
        "state": JobState.SUCCEEDED,
        "cause": Cause.EXIT,
        "exit_code": 0,
        "started_at": NOW - timedelta(seconds=5),
        "finished_at": NOW - timedelta(seconds=1),
    }
    return Attempt(**{**told, **fields})


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    return make_tracer(True, exporter)


def spans(exporter: InMemorySpanExporter) -> dict[str, Any]:
    return {span.name: span for span in exporter.get_finished_spans()}


def seconds(span: Any) -> float:
    return float(round((span.end_time - span.start_time) / 1e9, 3))


def test_an_attempt_is_one_span_with_its_four_parts(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    tracer.attempt_ended(PARENT, "j", attempt(), TIMES)
    found = spans(exporter)
    lengths = {name: seconds(span) for name, span in found.items()}
    assert lengths == {"jaas.queue": 2, "jaas.launch": 1, "jaas.run": 4, "jaas.result": 1, "jaas.attempt": 9}
    whole = found.pop("jaas.attempt")
    assert f"{whole.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{whole.parent.span_id:016x}" == PARENT.split("-")[2]
    assert {span.parent.span_id for span in found.values()} == {whole.context.span_id}
    assert len({span.context.span_id for span in found.values()}) == 4
    assert whole.attributes["jaas.job.id"] == "j"
    assert whole.status.is_unset


def test_the_container_continues_the_attempts_span(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    told = tracer.for_container(PARENT, "j", 2)
    tracer.attempt_ended(PARENT, "j", attempt(number=2), TIMES)
    context = spans(exporter)["jaas.attempt"].context
    assert told == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def test_another_worker_makes_the_same_span(exporter: InMemorySpanExporter) -> None:
    for _ in range(2):
        make_tracer(True, exporter).attempt_ended(PARENT, "j", attempt(), TIMES)
    ids = [s.context.span_id for s in exporter.get_finished_spans() if s.name == "jaas.attempt"]
    assert len(set(ids)) == 1


def test_attempts_without_a_producers_trace_share_one(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    told = [tracer.for_container("", "j", number) for number in (1, 2)]
    for number in (1, 2):
        tracer.attempt_ended("", "j", attempt(number=number), TIMES)
    whole = [span for span in exporter.get_finished_spans() if span.name == "jaas.attempt"]
    assert len({span.context.trace_id for span in whole}) == 1
    assert [text.split("-")[2] for text in told] == [f"{span.context.span_id:016x}" for span in whole]


def test_a_producer_that_does_not_sample_is_obeyed(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    unsampled = PARENT[:-2] + "00"
    tracer.attempt_ended(unsampled, "j", attempt(), TIMES)
    assert exporter.get_finished_spans() == ()
    assert tracer.for_container(unsampled, "j", 1).endswith("-00")


def test_a_bad_end_is_an_error(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    tracer.attempt_ended(PARENT, "j", attempt(state=JobState.FAILED, exit_code=3, reason="exit (3)"), TIMES)
    status = spans(exporter)["jaas.attempt"].status
    assert (status.status_code, status.description) == (trace.StatusCode.ERROR, "exit (3)")


def test_what_is_not_known_has_no_span(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    never = attempt(started_at=None, finished_at=None)
    tracer.attempt_ended(PARENT, "j", never, AttemptTimes(None, None, None, NOW.timestamp()))
    assert list(spans(exporter)) == ["jaas.attempt"]


@pytest.mark.parametrize("bad", ["", "garbage", "00-xyz", PARENT + "-more"])
def test_a_bad_traceparent_is_ignored(tracer: Tracer, exporter: InMemorySpanExporter, bad: str) -> None:
    tracer.attempt_ended(bad, "j", attempt(), TIMES)
    assert spans(exporter)["jaas.attempt"].parent is None


def test_a_worker_that_does_not_trace_hands_the_producers_trace_on() -> None:
    assert isinstance(make_tracer(False), NoTracer)
    assert NoTracer().for_container(PARENT, "j", 1) == PARENT


def test_without_a_provider_there_is_no_trace() -> None:
    with producing("x") as traceparent:
        assert traceparent == ""


@pytest.mark.parametrize("before", ["", "sys.modules['opentelemetry'] = None"], ids=["there", "not installed"])
def test_nothing_is_imported_where_nobody_traces(before: str) -> None:
    """redis-py imports API and SDK by itself where they are installed."""
    code = (
        f"import sys; {before}\n"
        "import jaas_submit, jaas_worker.app\n"
        "from jaas_submit.client.tracing import producing\n"
        "from jaas_worker.telemetry.tracing import make_tracer\n"
        "make_tracer(False)\n"
        "with producing('x') as told: assert told == ''\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.exporter')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

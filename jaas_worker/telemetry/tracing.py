"""OpenTelemetry on the worker's side (extra ``jaas[otel]``): queue, launch, run and result of each attempt, as spans.

Spans are made when the attempt has ended, from recorded times: none is open while a container runs for hours, and a
worker that adopts a job loses none. An attempt's span id is derived from the job's id, so that any worker that records
the outcome makes the span that the container got as TRACEPARENT.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol

from jaas_submit.errors import SpecError, how_to_install
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import JobState

__all__ = ["ENV_TRACEPARENT", "AttemptTimes", "NoTracer", "Tracer", "make_tracer"]

ENV_TRACEPARENT: Final = "TRACEPARENT"

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")

_ids: ContextVar[tuple[int, int]] = ContextVar("jaas_trace_ids")
"""Trace and span id of the present span."""


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """The times of an attempt's events, in seconds since the epoch; None if unknown to this worker."""

    queued: float | None
    claimed: float | None
    launched: float | None
    written: float


class Tracer(Protocol):
    """Makes spans of attempts."""

    def for_container(self, traceparent: str, job_id: str, attempt: int) -> str:
        """Return the ``traceparent`` for an attempt's container; empty if there is none."""

    def attempt_ended(self, traceparent: str, job_id: str, attempt: Attempt, times: AttemptTimes) -> None:
        """Make the spans of an attempt whose outcome was recorded."""

    def close(self) -> None:
        """Send the remaining spans."""


class NoTracer:
    """Traces nothing; a container still continues its producer's trace."""

    def for_container(self, traceparent: str, job_id: str, attempt: int) -> str:  # noqa: ARG002 (the protocol's)
        return traceparent

    def attempt_ended(self, traceparent: str, job_id: str, attempt: Attempt, times: AttemptTimes) -> None:
        pass

    def close(self) -> None:
        pass


def _derived(text: str, digits: int) -> int:
    return int(sha256(text.encode()).hexdigest()[:digits], 16) or 1


def _nanoseconds(moment: float | datetime) -> int:
    seconds = moment.timestamp() if isinstance(moment, datetime) else moment
    return int(seconds * 1e9)


def make_tracer(enabled: bool, exporter: Any = None) -> Tracer:
    """Return the tracer of attempts.

    Args:
        enabled: False imports nothing.
        exporter: None sends by OTLP over HTTP, to the address in the standard OTEL_EXPORTER_OTLP_... variables.

    Raises:
        SpecError: OpenTelemetry is not installed.
    """
    if not enabled:
        return NoTracer()
    try:
        return _OpenTelemetryTracer(exporter)
    except ImportError as error:
        raise SpecError(f"JAAS_TRACES: {error}; {how_to_install('otel')}", field="traces") from error


def _id_generator() -> Any:
    """Return what makes the ids of the attempt's own span, and random ones for those below it."""
    from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

    random_ids = RandomIdGenerator()

    class DerivedIds(IdGenerator):
        def generate_trace_id(self) -> int:
            trace_id = _ids.get((0, 0))[0]
            return trace_id or random_ids.generate_trace_id()

        def generate_span_id(self) -> int:
            span_id = _ids.get((0, 0))[1]
            return span_id or random_ids.generate_span_id()

    return DerivedIds()


class _OpenTelemetryTracer:
    """Traces by OpenTelemetry.

    Args:
        exporter: as for ``make_tracer``.

    Raises:
        ImportError: OpenTelemetry is not installed.
    """

    def __init__(self, exporter: Any) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            processor: Any = BatchSpanProcessor(OTLPSpanExporter())
        else:
            processor = SimpleSpanProcessor(exporter)
        resource = Resource.create({"service.name": "jaas-worker"})
        self._provider = TracerProvider(resource=resource, id_generator=_id_generator(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("jaas")

    def for_container(self, traceparent: str, job_id: str, attempt: int) -> str:
        match = _TRACEPARENT.match(traceparent)
        trace_id = match[1] if match else f"{_derived(job_id, 32):032x}"
        return f"00-{trace_id}-{_derived(f'{job_id}/{attempt}', 16):016x}-{match[3] if match else '01'}"

    def attempt_ended(self, traceparent: str, job_id: str, attempt: Attempt, times: AttemptTimes) -> None:
        from opentelemetry import trace

        parent = None
        if match := _TRACEPARENT.match(traceparent):
            remote = trace.SpanContext(int(match[1], 16), int(match[2], 16), True, trace.TraceFlags(int(match[3], 16)))
            parent = trace.set_span_in_context(trace.NonRecordingSpan(remote))
        begin = min(t for t in (times.queued, times.claimed, times.launched, times.written) if t is not None)
        token = _ids.set((_derived(job_id, 32), _derived(f"{job_id}/{attempt.number}", 16)))
        try:
            span = self._tracer.start_span(
                "jaas.attempt",
                parent,
                kind=trace.SpanKind.CONSUMER,
                attributes=_attributes(job_id, attempt),
                start_time=_nanoseconds(begin),
            )
        finally:
            _ids.reset(token)
        if attempt.state is not JobState.SUCCEEDED:
            span.set_status(trace.StatusCode.ERROR, attempt.reason)
        below = trace.set_span_in_context(span)
        parts = (
            ("jaas.queue", times.queued, times.claimed),
            ("jaas.launch", times.launched, attempt.started_at),
            ("jaas.run", attempt.started_at, attempt.finished_at),
            ("jaas.result", attempt.finished_at, times.written),
        )
        for name, start, end in parts:
            if start is not None and end is not None:
                first = _nanoseconds(start)
                part = self._tracer.start_span(name, below, start_time=first)
                part.end(max(_nanoseconds(end), first))  # the nodes' clocks may differ
        span.end(max(_nanoseconds(times.written), _nanoseconds(begin)))

    def close(self) -> None:
        self._provider.shutdown()


def _attributes(job_id: str, attempt: Attempt) -> dict[str, str | int]:
    told: dict[str, str | int | None] = {
        "jaas.job.id": job_id,
        "jaas.attempt": attempt.number,
        "jaas.state": str(attempt.state),
        "jaas.cause": str(attempt.cause),
        "jaas.exit_code": attempt.exit_code,
        "container.image.name": attempt.image,
        "container.id": attempt.container_id,
        "host.name": attempt.node,
    }
    return {name: value for name, value in told.items() if value is not None}

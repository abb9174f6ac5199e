"""OpenTelemetry on the producer's side: a job continues the trace that it was submitted in.

Nothing is imported: a program without OpenTelemetry has no trace, and one with it has loaded the API itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["producing"]


@contextmanager
def producing(name: str, **attributes: str | int) -> Iterator[str]:
    """Make a span for the submission of jobs, if the program uses OpenTelemetry.

    Args:
        name: of the span.
        attributes: of the span; underscores in names become dots.

    Yields:
        The span's ``traceparent``; empty if nothing is traced.
    """
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        yield ""
        return
    told = {key.replace("_", "."): value for key, value in attributes.items()}
    tracer = trace.get_tracer("jaas")
    with tracer.start_as_current_span(name, kind=trace.SpanKind.PRODUCER, attributes=told) as span:
        context = span.get_span_context()
        if context.is_valid:
            yield f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        else:
            yield ""

"""A worker's metrics, and its HTTP endpoint for Prometheus. No series names a job, so their number never grows.

Counters and histograms count this worker's work: sum them over workers. Metrics named ``jaas_ledger_...`` are the same
in every worker, because all read one ledger: take the maximum.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import prometheus_client as prometheus

from jaas_submit.errors import EngineUnavailable, JaasError, LedgerUnavailable
from jaas_submit.model.causes import Cause
from jaas_submit.model.logs import LogStatus
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import JobState
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["Metrics"]

logger = logging.getLogger(__name__)

_SHORT: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)


class Metrics:
    """The metrics of one worker, in a separate registry."""

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        prometheus.PlatformCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> prometheus.Histogram:
            return prometheus.Histogram(name, text, labels, buckets=buckets, registry=registry)

        self.jobs_ended = counter("jaas_jobs_ended", "Jobs whose outcome this worker recorded.", "state", "cause")
        self.attempts_ended = counter("jaas_attempts_ended", "Attempts that ended, the retried ones too.", "cause")
        self.retries = counter("jaas_retries", "Attempts that were followed by another one.", "cause")
        self.launches = counter("jaas_launches", "Services created or found by their name.")
        self.steps_repeated = counter(
            "jaas_steps_repeated", "Steps of a job that were repeated.", "reason"
        )  # reason: redis, engine, other, unexpected
        self.logs = counter("jaas_logs_read", "Container outputs read, by status.", "status")
        self.queue_wait = histogram("jaas_queue_wait_seconds", "From submission to a worker's claim.", _LONG)
        self.launch = histogram("jaas_launch_seconds", "From the service's creation to the container's start.", _SHORT)
        self.completion = histogram(
            "jaas_completion_seconds", "From the container's end, by its node's clock, to the outcome's record.", _SHORT
        )
        self.run = histogram("jaas_run_seconds", "How long containers ran.", _LONG)
        self.engine_seconds = histogram(
            "jaas_engine_request_seconds", "Response time of the engine's API.", _SHORT, "operation"
        )
        self.engine_errors = counter(
            "jaas_engine_errors", "Requests that the engine refused or did not answer.", "operation", "kind"
        )
        self.repairs = counter("jaas_repairs", "Repairs of the reconciler.", "kind")
        self.rounds = counter("jaas_reconciler_rounds", "Rounds of the reconciler.", "result")
        self.lease_renewals = counter("jaas_lease_renewals", "Renewals of this worker's lease.", "result")
        self.engine_up = prometheus.Gauge(
            "jaas_engine_up",
            "Whether the engine answers and has a leader; if not, the worker takes no jobs.",
            registry=registry,
        )
        self.engine_up.set(1)
        self.redis_away = counter("jaas_redis_unavailable_seconds", "Seconds for which Redis did not answer.")
        # A counter that appears with its first event shows no increase, so all possible labels exist from the start.
        for cause in Cause:
            self.attempts_ended.labels(cause)
            self.retries.labels(cause)
            self.jobs_ended.labels(JobState.FAILED, cause)
        self.jobs_ended.labels(JobState.SUCCEEDED, Cause.EXIT)
        self.jobs_ended.labels(JobState.CANCELLED, Cause.CANCELLED)
        for status in LogStatus:
            self.logs.labels(status)
        for kind in ("taken_over", "republished", "removed", "restored", "expired", "copied"):
            self.repairs.labels(kind)
        for result in ("ok", "lost", "failed"):
            self.lease_renewals.labels(result)
        for result in ("ok", "failed"):
            self.rounds.labels(result)
        for reason in ("redis", "engine", "other", "unexpected"):
            self.steps_repeated.labels(reason)

    def step_repeated(self, error: BaseException) -> None:
        """Count a step that has to be repeated, by its error's type."""
        reason = "unexpected"
        if isinstance(error, LedgerUnavailable):
            reason = "redis"
        elif isinstance(error, EngineUnavailable):
            reason = "engine"
        elif isinstance(error, JaasError):
            reason = "other"
        self.steps_repeated.labels(reason).inc()

    def claimed(self, created_at: datetime) -> None:
        """Count how long a new job has waited for its claim."""
        self.queue_wait.observe(_since(created_at))

    def attempt_ended(self, attempt: Attempt, launched_at: float | None, *, retried: bool) -> None:
        """Count the end of an attempt, after it was recorded.

        Args:
            attempt: how it ended.
            launched_at: when this worker created its service, in seconds since the epoch; None if another one did.
            retried: whether another attempt follows; if not, the job has ended.
        """
        self.attempts_ended.labels(attempt.cause).inc()
        if retried:
            self.retries.labels(attempt.cause).inc()
        else:
            self.jobs_ended.labels(attempt.state, attempt.cause).inc()
        if attempt.container_id is not None:
            self.logs.labels(attempt.log_status).inc()
        if attempt.started_at is not None and launched_at is not None:
            self.launch.observe(max(attempt.started_at.timestamp() - launched_at, 0.0))
        if attempt.finished_at is not None:
            self.completion.observe(_since(attempt.finished_at))
        if attempt.duration is not None:
            self.run.observe(attempt.duration)

    def serve(self, port: int, address: str) -> Callable[[], None]:
        """Serve GET /metrics; return the function that stops it. A port in use does not prevent jobs from running.

        Args:
            port: TCP port; 0 serves nothing.
            address: to listen on.
        """
        if not port:
            return lambda: None
        try:
            server, thread = prometheus.start_http_server(port, address, self.registry)
        except OSError as error:
            logger.error(  # noqa: TRY400 (a setting, not a defect: one line)
                "no metrics on %s:%d: %s", address, port, error, extra=action(Action.METRICS_FAILED)
            )
            return lambda: None
        logger.info("metrics on %s:%d", address, port, extra=action(Action.METRICS_STARTED))

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return close


def _since(moment: datetime) -> float:
    return max(time.time() - moment.timestamp(), 0.0)

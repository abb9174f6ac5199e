"""The worker's metrics: the right series, none for a single job, and no stale figure while Redis is away."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable, LedgerUnavailable, SpecError
from jaas_submit.ledger import Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.logs import LogStatus
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import JobState
from jaas_worker.swarm.engine import Engine, Frame
from jaas_worker.swarm.measured import measured
from jaas_worker.telemetry.ledger_monitor import LedgerMonitor
from jaas_worker.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, f"{name}{labels} is missing"
    return found


NOW = datetime.now(UTC)


def attempt(**fields: Any) -> Attempt:
    told = {
        "number": 1,
        "state": JobState.FAILED,
        "cause": Cause.EXIT,
        "container_id": "c",
        "started_at": NOW - timedelta(seconds=10),
        "finished_at": NOW - timedelta(seconds=4),
    }
    return Attempt(**{**told, **fields})


def test_the_end_of_a_job(metrics: Metrics) -> None:
    metrics.attempt_ended(attempt(), NOW.timestamp() - 12, retried=False)
    assert value(metrics, "jaas_jobs_ended_total", state="FAILED", cause="exit") == 1
    assert value(metrics, "jaas_attempts_ended_total", cause="exit") == 1
    assert value(metrics, "jaas_logs_read_total", status="complete") == 1
    assert value(metrics, "jaas_launch_seconds_sum") == pytest.approx(2)
    assert value(metrics, "jaas_run_seconds_sum") == pytest.approx(6)
    assert value(metrics, "jaas_completion_seconds_sum") >= 4


def test_an_attempt_that_is_retried_ends_no_job(metrics: Metrics) -> None:
    metrics.attempt_ended(attempt(cause=Cause.OOM), None, retried=True)
    assert value(metrics, "jaas_retries_total", cause="oom") == 1
    assert value(metrics, "jaas_launch_seconds_count") == 0
    assert value(metrics, "jaas_jobs_ended_total", state="FAILED", cause="oom") == 0


def test_an_attempt_that_never_ran(metrics: Metrics) -> None:
    never = attempt(cause=Cause.REFUSED, container_id=None, started_at=None, finished_at=None)
    metrics.attempt_ended(never, None, retried=False)
    assert value(metrics, "jaas_run_seconds_count") == 0
    assert value(metrics, "jaas_logs_read_total", status="complete") == 0


def test_a_clock_ahead_makes_no_negative_time(metrics: Metrics) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    metrics.attempt_ended(attempt(finished_at=ahead), ahead.timestamp(), retried=False)
    metrics.claimed(ahead)
    sums = ("jaas_completion_seconds_sum", "jaas_launch_seconds_sum", "jaas_queue_wait_seconds_sum")
    assert [value(metrics, name) for name in sums] == [0, 0, 0]


def test_unavailable_output_is_counted(metrics: Metrics) -> None:
    metrics.attempt_ended(attempt(log_status=LogStatus.UNAVAILABLE), None, retried=False)
    assert value(metrics, "jaas_logs_read_total", status="unavailable") == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LedgerUnavailable("x"), "redis"),
        (EngineUnavailable("x"), "engine"),
        (SpecError("x"), "other"),
        (KeyError("x"), "unexpected"),
    ],
)
def test_why_steps_are_repeated(metrics: Metrics, error: Exception, reason: str) -> None:
    metrics.step_repeated(error)
    assert value(metrics, "jaas_steps_repeated_total", reason=reason) == 1


class _Engine:
    host = "unix:///x"

    def info(self) -> str:
        return "fine"

    def create(self, _request: object) -> None:
        raise EngineRefused("no")

    def find(self, _name: str) -> None:
        raise EngineUnavailable("?")

    def remove(self, _service: str) -> None:
        raise EngineNotFound("gone")

    def logs(self) -> Iterator[Frame]:
        yield Frame("stdout", b"x")
        raise EngineUnavailable("in the middle")

    def events(self) -> Iterator[int]:
        yield 1


@pytest.fixture
def engine(metrics: Metrics) -> Any:
    return measured(cast("Engine", _Engine()), metrics)


def test_each_request_to_the_engine_is_timed(metrics: Metrics, engine: Any) -> None:
    assert [engine.info(), engine.info()] == ["fine", "fine"]
    assert value(metrics, "jaas_engine_request_seconds_count", operation="info") == 2
    assert engine.host == "unix:///x"


def test_errors_of_the_engine_are_counted_by_kind(metrics: Metrics, engine: Any) -> None:
    with pytest.raises(EngineRefused):
        engine.create({})
    with pytest.raises(EngineUnavailable):
        engine.find("x")
    assert value(metrics, "jaas_engine_errors_total", operation="create", kind="refused") == 1
    assert value(metrics, "jaas_engine_errors_total", operation="find", kind="unavailable") == 1


def test_a_stream_that_breaks_is_counted(metrics: Metrics, engine: Any) -> None:
    with pytest.raises(EngineUnavailable):
        list(engine.logs())
    assert value(metrics, "jaas_engine_errors_total", operation="logs", kind="unavailable") == 1


def test_endless_events_are_not_timed(metrics: Metrics, engine: Any) -> None:
    assert list(engine.events()) == [1]
    assert metrics.registry.get_sample_value("jaas_engine_request_seconds_count", {"operation": "events"}) is None


class _Ledger:
    away = False
    oldest = 7.5

    @property
    def queries(self) -> _Ledger:
        return self

    def counts_and_ages(self) -> dict[JobState, tuple[int, float]]:
        if self.away:
            raise LedgerUnavailable("Redis does not answer")
        return dict.fromkeys(JobState, (3, self.oldest))

    def workers(self) -> list[dict[str, Any]]:
        versions: list[dict[str, str]] = [{"version": "2"}, {"version": "1"}, {"version": "2"}, {}]
        return [{**version, "holder": "w", "queue": "jaas"} for version in versions]

    @property
    def health(self) -> _Ledger:
        return self

    def oldest_queued(self) -> dict[str, int]:
        assert self.oldest > 10
        return {"jaas": 2, "nope": 1}


@pytest.fixture
def ledger() -> _Ledger:
    return _Ledger()


@pytest.fixture
def monitor(ledger: _Ledger, metrics: Metrics) -> LedgerMonitor:
    return LedgerMonitor(
        cast("Ledger", ledger),
        metrics,
        60,
        stats=lambda: {"waiting": 1, "in_flight": 2},
        queue_length=lambda: 5,
        about={"version": "2", "queue": "jaas"},
        limit=10,
    )


def test_what_the_ledger_says(metrics: Metrics, monitor: LedgerMonitor) -> None:
    monitor.look()
    assert value(metrics, "jaas_ledger_jobs", state="QUEUED") == 3
    assert value(metrics, "jaas_ledger_oldest_seconds", state="QUEUED") == 7.5
    assert metrics.registry.get_sample_value("jaas_ledger_oldest_seconds", {"state": "SUCCEEDED"}) is None
    assert value(metrics, "jaas_ledger_workers", version="2") == 2
    assert value(metrics, "jaas_ledger_workers", version="unknown") == 1
    assert value(metrics, "jaas_ledger_queue_messages", queue="jaas") == 5
    assert value(metrics, "jaas_worker_jobs", phase="in_flight") == 2
    assert value(metrics, "jaas_worker_jobs_limit") == 10
    assert value(metrics, "jaas_worker_info", version="2", queue="jaas") == 1
    assert value(metrics, "jaas_redis_up") == 1


def test_jobs_in_a_queue_that_nobody_takes(metrics: Metrics, ledger: _Ledger, monitor: LedgerMonitor) -> None:
    monitor.look()
    assert metrics.registry.get_sample_value("jaas_ledger_unserved_jobs", {"queue": "nope"}) is None
    ledger.oldest = 11.0
    monitor.look()
    assert value(metrics, "jaas_ledger_unserved_jobs", queue="nope") == 1
    assert value(metrics, "jaas_ledger_unserved_jobs", queue="jaas") == 0


def test_while_redis_is_away_old_figures_are_not_shown(
    metrics: Metrics, ledger: _Ledger, monitor: LedgerMonitor
) -> None:
    monitor.look()
    ledger.away = True
    monitor.look()
    assert value(metrics, "jaas_redis_up") == 0
    assert metrics.registry.get_sample_value("jaas_ledger_jobs", {"state": "QUEUED"}) is None
    assert value(metrics, "jaas_worker_jobs", phase="in_flight") == 2
    assert value(metrics, "jaas_redis_unavailable_seconds_total") > 0


def test_the_endpoint(metrics: Metrics) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    close = metrics.serve(port, "127.0.0.1")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    close()
    assert "jaas_launch_seconds_bucket" in text
    assert "process_resident_memory_bytes" in text


def test_a_port_that_is_taken_is_no_reason_to_stop(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        metrics.serve(taken.getsockname()[1], "127.0.0.1")()
    assert "no metrics on 127.0.0.1" in caplog.text


def test_no_port_means_no_endpoint(metrics: Metrics) -> None:
    metrics.serve(0, "127.0.0.1")()

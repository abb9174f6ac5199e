"""Figures of the whole ledger, as this worker last saw them, and how many jobs it holds itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.explain.workers import WorkerLoad, takers
from jaas_submit.ledger import Ledger
from jaas_submit.model.states import TERMINAL, JobState
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.telemetry.metrics import Metrics

__all__ = ["LedgerMonitor"]

logger = logging.getLogger(__name__)

_SOON_S: Final = 10.0
"""Seconds within which a job is taken as a rule; while all are, no queue is looked at."""


class LedgerMonitor(Collector):
    """Reads the ledger every few seconds and shows the last values; a scrape never waits for Redis.

    Args:
        ledger: the records.
        metrics: the registry.
        interval: seconds between two reads.
        stats: jobs that this worker holds, by phase.
        queue_length: messages in this worker's queue.
        about: the worker's report about itself: texts only.
        limit: jobs that this worker may hold.
    """

    def __init__(
        self,
        ledger: Ledger,
        metrics: Metrics,
        interval: float,
        *,
        stats: Callable[[], Mapping[str, int]],
        queue_length: Callable[[], int],
        about: Mapping[str, str],
        limit: int,
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._interval = interval
        self._stats = stats
        self._queue_length = queue_length
        self._about = about
        self._limit = limit
        self._families: list[Metric] = []
        self._redis_up = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="jaas-monitor", daemon=True)
        metrics.registry.register(self)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def look(self) -> None:
        """Read once. Values from before an outage are not shown during it, because they would look current."""
        started = time.monotonic()
        try:
            self._families = list(self._read())
            self._redis_up = 1
        except Exception as error:
            self._families, self._redis_up = [], 0
            self._metrics.redis_away.inc(time.monotonic() - started)
            if not isinstance(error, LedgerUnavailable):
                raise

    def _read(self) -> Iterator[Metric]:
        standing = self._ledger.queries.counts_and_ages()
        jobs = GaugeMetricFamily("jaas_ledger_jobs", "Jobs in the ledger, of all workers.", labels=["state"])
        oldest = GaugeMetricFamily("jaas_ledger_oldest_seconds", "Age of the oldest job in a state.", labels=["state"])
        for state in JobState:
            count, age = standing[state]
            jobs.add_metric([state], count)
            if state not in TERMINAL:
                oldest.add_metric([state], age)
        yield jobs
        yield oldest
        workers = GaugeMetricFamily("jaas_ledger_workers", "Live workers, by version.", labels=["version"])
        alive = self._ledger.queries.workers()
        versions = [str(worker.get("version", "unknown")) for worker in alive]
        for version in sorted(set(versions)):
            workers.add_metric([version], versions.count(version))
        yield workers
        queue = GaugeMetricFamily("jaas_ledger_queue_messages", "Messages in the queue.", labels=["queue"])
        queue.add_metric([self._about.get("queue", "")], self._queue_length())
        yield queue
        yield self._unserved(alive, standing[JobState.QUEUED][1])

    def _unserved(self, alive: Sequence[Mapping[str, Any]], oldest: float) -> Metric:
        """Return how many jobs wait in queues that nobody takes; nothing is read while all jobs are taken soon."""
        found = GaugeMetricFamily(
            "jaas_ledger_unserved_jobs",
            "Of the 500 jobs that have been QUEUED longest: those in a queue that no live worker takes.",
            labels=["queue"],
        )
        own = self._about.get("queue", "")
        found.add_metric([own], 0)  # so that the series is there
        if oldest > _SOON_S:
            workers = [WorkerLoad.model_validate(worker) for worker in alive]
            for queue, count in sorted(self._ledger.health.oldest_queued().items()):
                if queue != own and not takers(queue, workers):
                    found.add_metric([queue], count)
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield the present values; called for each scrape."""
        stats = dict(self._stats())
        window = stats.pop("window", 0)
        mine = GaugeMetricFamily("jaas_worker_jobs", "Jobs that this worker holds.", labels=["phase"])
        for phase, count in stats.items():
            mine.add_metric([phase], count)
        yield mine
        yield GaugeMetricFamily("jaas_worker_launch_window", "Limit of services that may be starting at once.", window)
        yield GaugeMetricFamily("jaas_worker_jobs_limit", "Limit of jobs in flight.", self._limit)
        yield GaugeMetricFamily("jaas_redis_up", "Whether Redis answered the last read.", self._redis_up)
        info = GaugeMetricFamily(
            "jaas_worker_info", "Always 1; the labels describe the worker.", labels=list(self._about)
        )
        info.add_metric(list(self._about.values()), 1)
        yield info
        yield from self._families

    def _loop(self) -> None:
        while not self._closed.is_set():
            started = time.monotonic()
            try:
                self.look()
            except Exception:  # metrics are missing until the next read
                logger.exception("reading the ledger failed", extra=action(Action.STEP_FAILED))
            self._closed.wait(self._interval)
            if not self._redis_up:
                self._metrics.redis_away.inc(min(time.monotonic() - started, self._interval))

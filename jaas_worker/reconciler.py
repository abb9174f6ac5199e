"""Repairs what crashes leave behind: jobs without a holder, lost messages, services nobody removed, old indexes."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from jaas_submit.errors import EngineRefused, TemporaryError
from jaas_submit.ledger import Ledger
from jaas_submit.names import LABEL_ATTEMPT, LABEL_JOB, LABEL_PREFIX
from jaas_worker.engine import Engine, ServiceView
from jaas_worker.settings import Settings

__all__ = ["Reconciler", "Repairs"]

logger = logging.getLogger(__name__)

_SWEEP_INTERVAL = 30.0
"""Seconds between two rounds of the duties that one worker does for all."""

_LEFT_FOR = 30.0
"""Seconds after a job's end before a service that is still there counts as left behind."""


class Repairs(NamedTuple):
    """What one round did."""

    taken_over: list[str]
    """Jobs whose holder was gone."""
    rung_again: list[str]
    """QUEUED jobs whose message was lost."""
    removed: list[str]
    """Services of jobs that had ended."""
    forgotten: int
    """Expired records removed from the indexes."""


class Reconciler:
    """One duty of every worker, every few seconds.

    Args:
        settings: intervals.
        ledger: the records.
        engine: the swarm.
        holder: this worker.
        inject: hands a job to this worker's own pool, as if its message had arrived.
        knows: tells whether this worker has a job in its hands already.
        room: how many more jobs this worker would take now.
        queue_length: how many messages wait in a queue.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        engine: Engine,
        holder: str,
        *,
        inject: Callable[[str], None],
        knows: Callable[[str], bool],
        room: Callable[[], int],
        queue_length: Callable[[str], int],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._engine = engine
        self._holder = holder
        self._inject = inject
        self._knows = knows
        self._room = room
        self._queue_length = queue_length
        self._next_sweep = 0.0
        self._next_ring = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="jaas-reconciler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; returns when the round that is under way is over."""
        self._closed.set()
        self._thread.join(self._settings.engine_timeout)

    def _loop(self) -> None:
        while not self._closed.is_set():
            try:
                self.run_once()
            except (TemporaryError, EngineRefused) as error:
                logger.warning("reconciling failed for now: %s", error)
            except Exception:  # the next round may work, and it must come
                logger.exception("reconciling failed")
            self._closed.wait(self._settings.reconcile_interval)

    def run_once(self) -> Repairs:
        """Do one round.

        Raises:
            TemporaryError: Redis or the engine did not answer; the next round goes on from there.
        """
        taken_over = self._take_over()
        rung_again: list[str] = []
        if time.monotonic() >= self._next_ring:
            self._next_ring = time.monotonic() + self._settings.republish_after / 4
            rung_again = self._ring_again()
        removed: list[str] = []
        forgotten = 0
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_INTERVAL
            if self._ledger.lock("sweep", self._holder, 2 * _SWEEP_INTERVAL):
                removed = self._remove_left_behind()
                forgotten = self._ledger.sweep()
        return Repairs(taken_over, rung_again, removed, forgotten)

    def _take_over(self) -> list[str]:
        """Go on with jobs whose holder's lease has run out, or who were handed over."""
        self._ledger.reap()
        return self._take(self._ledger.orphans(pause=self._settings.lease))

    def _ring_again(self) -> list[str]:
        """Take QUEUED jobs whose message must have been lost."""
        most = self._room()
        if most <= 0:
            return []
        queue = self._settings.queue
        empty = [queue] if self._queue_length(queue) == 0 else []
        after = self._settings.republish_after
        return self._take(self._ledger.unheard(after, 3 * after, empty, most))

    def _take(self, job_ids: Iterable[str]) -> list[str]:
        taken = [job_id for job_id in job_ids if not self._knows(job_id)]
        for job_id in taken:
            self._inject(job_id)
        if taken:
            logger.info("took %d jobs that nobody held: %s", len(taken), ", ".join(taken[:5]))
        return taken

    def _remove_left_behind(self) -> list[str]:
        """Remove services whose job has ended: a worker died between writing the outcome down and removing it."""
        services = self._engine.services(f"{LABEL_PREFIX}={self._settings.prefix}")
        by_job: dict[str, list[ServiceView]] = defaultdict(list)
        for service in services:
            by_job[service.labels.get(LABEL_JOB, "")].append(service)
        now = datetime.fromtimestamp(self._ledger.now(), UTC)
        removed = []
        for record in self._ledger.find(list(by_job)):
            grace = self._settings.late_launch_grace if record.late else _LEFT_FOR
            if (now - record.updated_at).total_seconds() <= grace:
                continue
            for service in by_job[record.id]:
                # Of a job that goes on, the services of earlier attempts are left behind.
                over = record.terminal or service.labels.get(LABEL_ATTEMPT) in {str(a.number) for a in record.attempts}
                if over and self._engine.remove(service.id):
                    logger.info("removed service %s, whose attempt has ended", service.name)
                    removed.append(service.name)
        return removed

"""Takes jobs over that nobody holds: their worker died or was told to stop, or their next attempt is due.

So are jobs that came after others, and that nobody has begun with.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from jaas_submit.ledger import Due, Ledger
from jaas_worker.maintenance.ports import Worker
from jaas_worker.maintenance.take_jobs import take_jobs
from jaas_worker.settings import Settings
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["UnownedJobs"]

logger = logging.getLogger(__name__)

_MAX_READY_PER_ROUND: Final = 500
"""Upper limit of ready jobs that a round takes."""


class UnownedJobs:
    """A duty of every worker.

    Args:
        settings: the lease.
        ledger: the records.
        worker: takes the jobs.
    """

    def __init__(self, settings: Settings, ledger: Ledger, worker: Worker) -> None:
        self._settings = settings
        self._ledger = ledger
        self._worker = worker
        self._next_own = 0.0

    def run_once(self, due: Due) -> list[str]:
        """Take the jobs over; return their ids.

        Args:
            due: what the ledger says is to be done.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        if due.reap:
            self._ledger.maintenance.reap()
        if time.monotonic() >= self._next_own:
            self._next_own = time.monotonic() + self._settings.lease / 3
            if self._worker.let_go_of_unknown():
                due = due._replace(unowned=True)
        for job_id in self._ledger.maintenance.end_overdue() if due.end_overdue else ():
            logger.info("job %s: not started in time", job_id, extra=action(Action.JOB_OVERDUE, job_id=job_id))
        # Without an engine this worker can only report ended jobs to Celery.
        away = self._worker.away()
        found: list[str] = []
        if due.unowned or due.reap or due.end_overdue:
            found = self._unowned(away)
        # Jobs that have not been started wait in Redis while all workers are full; there may be any number of them.
        most = min(self._worker.room(), _MAX_READY_PER_ROUND)
        if (due.ready or due.end_overdue or found) and most > 0 and not away:
            found += self._ledger.maintenance.ready(self._settings.lease, most)
        return take_jobs(self._ledger, self._worker, found)

    def _unowned(self, away: bool) -> list[str]:
        """Return the jobs without a holder that this worker can go on with."""
        found = self._ledger.maintenance.unowned(pause=0.0 if away else self._settings.lease)
        if not found:
            return []
        records = self._ledger.queries.find(found)
        for job_id in set(found) - {record.id for record in records}:
            self._ledger.maintenance.set_aside(job_id)
        ended = [record.id for record in records if record.terminal]
        self._worker.have_ended(ended)
        return ended if away else [record.id for record in records]

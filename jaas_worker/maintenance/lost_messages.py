"""Takes QUEUED jobs whose message must have been lost."""

from __future__ import annotations

from jaas_submit.ledger import Ledger
from jaas_worker.maintenance.ports import Worker
from jaas_worker.maintenance.take_jobs import take_jobs
from jaas_worker.settings import Settings

__all__ = ["LostMessages"]


class LostMessages:
    """A duty of every worker.

    Args:
        settings: the queue, and when a message that did not arrive counts as lost.
        ledger: the records.
        worker: takes the jobs.
    """

    def __init__(self, settings: Settings, ledger: Ledger, worker: Worker) -> None:
        self._settings = settings
        self._ledger = ledger
        self._worker = worker

    def run_once(self) -> list[str]:
        """Take the jobs, as many as the worker has room for; return their ids.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        most = self._worker.room()
        if most <= 0:
            return []
        queue, after = self._settings.queue, self._settings.republish_after
        empty = not self._worker.queue_length(queue)
        lost = self._ledger.maintenance.lost_messages(queue, after, 3 * after, most, empty=empty)
        return take_jobs(self._ledger, self._worker, lost)

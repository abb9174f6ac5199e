"""Notices between this worker and other processes, through the ledger: cancellations and container exits.

Nothing depends on a notice. A cancellation is also in the job's record; an exit is also reported by the swarm.
"""

from __future__ import annotations

import logging
import threading
import time

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Ledger
from jaas_worker.lifecycle.job_table import JobTable
from jaas_worker.lifecycle.step_executor import StepExecutor
from jaas_worker.telemetry.audit_log import log_acts
from jaas_worker.tracking.exit_notice import read_exit
from jaas_worker.tracking.subscriber import listen
from jaas_worker.tracking.tracker import Tracker

__all__ = ["Cancellations", "ExitNotices"]

logger = logging.getLogger(__name__)

_MISSED_S = 10.0
"""Seconds between two searches for cancellations whose notice was lost."""


class Cancellations:
    """Receives requests to cancel jobs, and searches for those whose notice was lost.

    Args:
        ledger: where they are.
        holder: this worker process.
        table: its jobs.
        executor: stops them.
    """

    def __init__(self, ledger: Ledger, holder: str, table: JobTable, executor: StepExecutor) -> None:
        self._ledger = ledger
        self._holder = holder
        self._table = table
        self._executor = executor
        self._closed = threading.Event()
        self._next_check = 0.0
        self._thread = threading.Thread(target=self._listen, name="jaas-cancels", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; it ends within a second and is not waited for."""
        self._closed.set()

    def check(self) -> None:
        """Find cancellations whose notice was lost, if a search is due."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _MISSED_S
        try:
            if ids := self._ledger.ownership.cancellations_for(self._holder):
                for job_id, why in self._ledger.ownership.cancel_reasons(ids).items():
                    self._executor.cancelled(job_id, why)
                # If this process dies before that, the worker that adopts the jobs reads it in their records.
                self._ledger.ownership.acknowledge_cancellations(self._holder, ids)
        except LedgerUnavailable as error:
            logger.debug("cancellations: %s", error)

    def _listen(self) -> None:
        listen("cancellations", self._ledger.ownership.cancellations, self._heard, self._closed, self._check_soon)

    def _heard(self, job_id: str) -> None:
        if job_id in self._table:
            for record in self._ledger.queries.find([job_id]):
                log_acts(job_id, record.audit)
            self._executor.cancelled(job_id, self._ledger.ownership.cancel_reasons([job_id]).get(job_id, "cancelled"))

    def _check_soon(self) -> None:
        self._next_check = 0.0  # missed cancellations are in the ledger


class ExitNotices:
    """Receives container exits that the agents of other nodes forward.

    Args:
        ledger: passes the notices on.
        tracker: gets the received exits.
    """

    def __init__(self, ledger: Ledger, tracker: Tracker) -> None:
        self._ledger = ledger
        self._tracker = tracker
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="jaas-exit-notices", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; it ends within a second and is not waited for."""
        self._closed.set()

    def _listen(self) -> None:
        listen("container exits", self._ledger.ownership.exits, self._heard, self._closed)

    def _heard(self, text: str) -> None:
        if event := read_exit(text):
            self._tracker.exited_elsewhere(event)
        else:
            logger.debug("a notice of a container's exit cannot be read: another version has sent it")

"""Cancels the jobs of batches that a rule has stopped, or whose canceller died before it had cancelled them all."""

from __future__ import annotations

from jaas_submit.errors import UnknownJob, UnreadableRecord
from jaas_submit.ledger import Ledger

__all__ = ["CancelledBatches"]


class CancelledBatches:
    """A duty of one worker for all.

    Args:
        ledger: the records.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def run_once(self) -> None:
        """Cancel what is left of the batches.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        for batch_id in self._ledger.batches.cancelling():
            try:
                self._ledger.batches.cancel_jobs(batch_id)
            except (UnknownJob, UnreadableRecord):  # expired, or unreadable and named in the log
                self._ledger.batches.cancellation_done(batch_id)

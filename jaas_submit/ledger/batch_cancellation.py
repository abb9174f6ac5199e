"""Cancelling the open jobs of a cancelled batch: the producer does it, or a worker where the producer has died."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jaas_submit.model.ids import batch_job_id

if TYPE_CHECKING:
    from jaas_submit.ledger import Ledger

__all__ = ["cancel_jobs"]

_CHUNK: Final = 500
"""Records that are read at once."""


def cancel_jobs(ledger: Ledger, batch_id: str) -> int:
    """Cancel the open jobs of a batch that is marked as cancelled; return how many there were.

    Args:
        ledger: the records.
        batch_id: the batch's id.

    Raises:
        UnknownJob: there is no such batch.
        LedgerUnavailable: Redis does not answer; the same call goes on.
    """
    batch = ledger.batches.get(batch_id)
    count = 0
    for first in range(0, batch.span, _CHUNK):
        numbers = range(first, min(first + _CHUNK, batch.span))
        records = ledger.queries.find([batch_job_id(batch_id, index) for index in numbers])
        if ids := [record.id for record in records if not record.terminal]:
            ledger.submission.cancel_many(ids, batch.cancelled)
            count += len(ids)
    ledger.batches.cancellation_done(batch_id)
    return count

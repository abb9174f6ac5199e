"""Map/reduce: a batch, and reduces over its outputs."""

from __future__ import annotations

from jaas_submit.client.batch import Batch, Show, shown
from jaas_submit.client.job_handle import JobHandle
from jaas_submit.client.maps.reduces import levels_of
from jaas_submit.client.session import Session
from jaas_submit.client.wait import batch_records
from jaas_submit.errors import SpecError
from jaas_submit.model.result import JobResult

__all__ = ["MapReduce", "map_reduce_of"]


class MapReduce:
    """A batch of maps and the tree of reduces over its outputs.

    When maps are replayed in place, other reduces may follow. ``wait`` and ``cancel`` find them; so does
    ``Client.map_reduce_of``, with the id.

    Args:
        session: the connections.
        maps: the batch of maps.
        levels: the batches of reduces, the last of which has one job.
    """

    def __init__(self, session: Session, maps: Batch, levels: list[Batch]) -> None:
        self.id = maps.id
        self._session = session
        self.maps = maps
        self.levels = levels

    @property
    def final(self) -> JobHandle:
        """The last reduce job."""
        return self.levels[-1].job(0)

    def wait(self, timeout: float | None = None, *, progress: bool | Show = False) -> JobResult:
        """Wait for the last reduce and return its result.

        Args:
            timeout: seconds to wait in all; None waits for ever.
            progress: as in ``Batch.wait``, for the maps.

        Raises:
            BatchFailed: too few maps succeeded, or a reduce failed.
            WaitTimeout: the time has passed; the jobs go on.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        self.refresh()
        batches = [batch.id for batch in (self.maps, *self.levels)]
        with shown(progress) as show:
            for status in self._session.run(batch_records(self._session.ledger, batches, timeout)):
                if status.id == self.maps.id:
                    show(status)
        return self.final.result()

    def refresh(self) -> None:
        """Read which reduces follow the maps now.

        Raises:
            UnknownJob: there is no such batch.
            LedgerUnavailable: Redis does not answer.
        """
        found = levels_of(self._session, self.maps.status)
        self.levels = [Batch(self._session, one) for one in found]

    def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel the jobs that have not ended; return their number.

        Args:
            why: the reason, kept in the records.
        """
        self.refresh()
        return sum(batch.cancel(why) for batch in (*reversed(self.levels), self.maps))


def map_reduce_of(session: Session, batch_id: str) -> MapReduce:
    """Return a map/reduce by the id of one of its batches; see ``Client.map_reduce_of``."""
    record = session.ledger.batches.get(batch_id)
    while record.reduces:
        record = session.ledger.batches.get(record.reduces)
    if not record.reduced_by:
        raise SpecError(f"batch {batch_id}: no reduces follow it; client.batch(id) is all of it")
    return MapReduce(session, Batch(session, record.id), [Batch(session, one) for one in levels_of(session, record)])

"""Map/reduce: a batch, and reduces over its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from jaas_submit.client.batch import Batch, Show, shown
from jaas_submit.client.job_handle import JobHandle
from jaas_submit.client.maps.reduces import levels_of, reduces_now
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

    def wait(self, timeout: float | timedelta | None = None, *, progress: bool | Show = False) -> JobResult:
        """Wait for the last reduce and return its result.

        Args:
            timeout: seconds to wait in all; None waits for ever.
            progress: as in ``Batch.wait``, for the maps.

        Raises:
            BatchFailed: too few maps succeeded, or a reduce failed.
            WaitTimeout: the time has passed; the jobs go on.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        with shown(progress) as show:
            then = partial(reduces_now, self._session, self.id)
            records = batch_records(self._session.ledger, [self.id], timeout, then=then)
            for status in self._session.run(records):
                if status.id == self.id:
                    show(status)
        self._use(levels_of(self._session, self.maps.status))
        return self.final.result()

    def refresh(self) -> None:
        """Read which reduces follow the maps now.

        When the maps have ended and their reduces are those of earlier outputs, the process that replayed the maps has
        died before it submitted others. This submits them.

        Raises:
            UnknownJob: there is no such batch.
            SpecError: the reduces of the earlier outputs have expired.
            LedgerUnavailable: Redis does not answer.
        """
        self._use(reduces_now(self._session, self.id))

    def _use(self, levels: Sequence[str]) -> None:
        self.levels = [Batch(self._session, one) for one in levels]

    def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel the jobs that have not ended; return their number.

        Args:
            why: the reason, kept in the records.
        """
        self._use(levels_of(self._session, self.maps.status))
        return sum(batch.cancel(why) for batch in (*reversed(self.levels), self.maps))


def map_reduce_of(session: Session, batch_id: str) -> MapReduce:
    """Return a map/reduce by the id of one of its batches; see ``Client.map_reduce_of``."""
    record = session.ledger.batches.get(batch_id)
    while record.reduces:
        record = session.ledger.batches.get(record.reduces)
    if not record.reduced_by:
        raise SpecError(f"batch {batch_id}: no reduces follow it; client.batch(id) is all of it")
    made = MapReduce(session, Batch(session, record.id), [])
    made.refresh()
    return made

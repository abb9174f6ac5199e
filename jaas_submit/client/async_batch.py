"""``AsyncBatch`` and ``AsyncMapReduce``: the methods of ``Batch`` and ``MapReduce`` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

from jaas_submit.client.async_job_handle import AsyncJobHandle
from jaas_submit.client.batch import Batch, BatchReference, Show, shown
from jaas_submit.client.map_reduce import MapReduce
from jaas_submit.client.maps.per_node import results_by_node
from jaas_submit.client.maps.reduces import reduces_now
from jaas_submit.client.session import AsyncSession
from jaas_submit.client.wait import batch_records, batch_results
from jaas_submit.model.records import AuditEntry, BatchRecord, JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState

__all__ = ["AsyncBatch", "AsyncMapReduce"]


class AsyncBatch(BatchReference):
    """A batch of jobs, for asyncio; the methods of ``Batch``, with the same arguments and errors.

    Args:
        session: the connections.
        batch_id: the batch's id.
        existing: as for ``Batch``.
        difference: as for ``Batch``.
    """

    def __init__(self, session: AsyncSession, batch_id: str, *, existing: int = 0, difference: str = "") -> None:
        super().__init__(batch_id)
        self.existing = existing
        self.difference = difference
        self._session = session
        self.sync = Batch(session.sync, batch_id)

    async def status(self) -> BatchRecord:
        """Return the batch's present record; see ``Batch.status``."""
        return await asyncio.to_thread(lambda: self.sync.status)

    def job(self, index: int) -> AsyncJobHandle:
        """Return a handle on the job for one input; see ``Batch.job``."""
        return AsyncJobHandle(self._session, self.sync.job(index).id)

    async def records(self, *states: JobState) -> AsyncIterator[JobRecord]:
        """Yield the records of the batch's jobs in the order of its inputs; see ``Batch.records``."""
        records = self.sync.records(*states)
        while (record := await asyncio.to_thread(next, records, None)) is not None:
            yield record

    async def failed(self) -> list[JobRecord]:
        """Return the records of the jobs that did not succeed; see ``Batch.failed``."""
        return await asyncio.to_thread(lambda: self.sync.failed)

    async def reasons(self) -> str:
        """Return why jobs did not succeed, counted; see ``Batch.reasons``."""
        return await asyncio.to_thread(self.sync.reasons)

    async def results(
        self,
        *,
        ordered: bool = False,
        timeout: float | timedelta | None = None,
        offset: int = 0,
        progress: Show | None = None,
    ) -> AsyncIterator[JobResult]:
        """Yield the results of the batch's jobs, successes and failures; see ``Batch.results``. It occupies no
        thread."""
        ledger = self._session.sync.ledger
        steps = batch_results(ledger, self.id, ordered=ordered, timeout=timeout, offset=offset, progress=progress)
        async for result in self._session.run(steps):
            yield result

    async def by_node(self, timeout: float | timedelta | None = None) -> dict[str, JobResult]:
        """Return the results of a batch ``per_node`` by the nodes' host names; see ``Batch.by_node``."""
        found = {result.job_id: result async for result in self.results(timeout=timeout)}
        return await asyncio.to_thread(lambda: results_by_node(self.sync.records(), found))

    async def wait(
        self, timeout: float | timedelta | None = None, *, check: bool = True, progress: bool | Show = False
    ) -> BatchRecord:
        """Wait until all jobs of the batch have ended; see ``Batch.wait``. It occupies no thread."""
        steps = batch_records(self._session.sync.ledger, [self.id], timeout, check=check)
        with shown(progress) as show:
            async for status in self._session.run(steps):
                show(status)
        return status

    async def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel every job of the batch that has not ended; see ``Batch.cancel``."""
        return await asyncio.to_thread(self.sync.cancel, why)

    async def hold(self, why: str = "") -> None:
        """Let no worker start a job of the batch; see ``Batch.hold``."""
        await asyncio.to_thread(self.sync.hold, why)

    async def release(self, why: str = "") -> None:
        """Let workers start the jobs of the batch again; see ``Batch.release``."""
        await asyncio.to_thread(self.sync.release, why)

    async def audit(self) -> tuple[AuditEntry, ...]:
        """Return who submitted the batch, and who cancelled it; see ``Batch.audit``."""
        return await asyncio.to_thread(self.sync.audit)

    async def retry_failed(self, *, in_place: bool = False, **changes: Any) -> AsyncBatch:
        """Submit the jobs that did not succeed again; see ``Batch.retry_failed``."""
        batch = await asyncio.to_thread(lambda: self.sync.retry_failed(in_place=in_place, **changes))
        return AsyncBatch(self._session, batch.id)


class AsyncMapReduce:
    """A batch of maps and the tree of reduces over its outputs, for asyncio; the methods of ``MapReduce``.

    Args:
        session: the connections.
        maps: the batch of maps.
        levels: the batches of reduces, the last of which has one job.
    """

    def __init__(self, session: AsyncSession, maps: AsyncBatch, levels: list[AsyncBatch]) -> None:
        self.id = maps.id
        self._session = session
        self.maps = maps
        self.levels = levels

    @classmethod
    def of(cls, session: AsyncSession, made: MapReduce) -> AsyncMapReduce:
        """Return the same map/reduce for asyncio.

        Args:
            session: the connections.
            made: the map/reduce.
        """
        maps = AsyncBatch(session, made.maps.id, existing=made.maps.existing, difference=made.maps.difference)
        return cls(session, maps, [AsyncBatch(session, level.id) for level in made.levels])

    @property
    def final(self) -> AsyncJobHandle:
        """The last reduce job."""
        return self.levels[-1].job(0)

    async def wait(self, timeout: float | timedelta | None = None, *, progress: bool | Show = False) -> JobResult:
        """Wait for the last reduce and return its result; see ``MapReduce.wait``. It occupies no thread."""
        session = self._session.sync
        with shown(progress) as show:
            then = partial(reduces_now, session, self.id)
            records = batch_records(session.ledger, [self.id], timeout, then=then)
            async for status in self._session.run(records):
                if status.id == self.id:
                    show(status)
        await self.refresh()
        return await self.final.result()

    async def refresh(self) -> None:
        """Read which reduces follow the maps now; see ``MapReduce.refresh``."""
        sync = MapReduce(self._session.sync, self.maps.sync, [])
        await asyncio.to_thread(sync.refresh)
        self.levels = [AsyncBatch(self._session, level.id) for level in sync.levels]

    async def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel the jobs that have not ended; see ``MapReduce.cancel``."""
        sync = MapReduce(self._session.sync, self.maps.sync, [])
        count = await asyncio.to_thread(sync.cancel, why)
        self.levels = [AsyncBatch(self._session, level.id) for level in sync.levels]
        return count

"""``AsyncBatch`` and ``AsyncMapReduce``: the verbs of ``Batch`` and ``MapReduce`` for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

from jaas_submit.batch import Batch, MapReduce
from jaas_submit.connection import AsyncSubscription
from jaas_submit.errors import LedgerUnavailable, WaitTimeout
from jaas_submit.records import BatchRecord, JobRecord, JobResult
from jaas_submit.states import JobState

if TYPE_CHECKING:
    from jaas_submit.async_client import AsyncClient, AsyncJobHandle

__all__ = ["AsyncBatch", "AsyncMapReduce"]

_LOOK_AGAIN: Final = 2.0
"""Seconds after which the ledger is asked although nothing was published: a notice may have been lost."""


class AsyncBatch:
    """A batch of jobs, for asyncio. Waiting holds no thread.

    Args:
        client: whose connections it uses.
        batch_id: the batch's id.
    """

    def __init__(self, client: AsyncClient, batch_id: str) -> None:
        self.id = batch_id
        self._client = client
        self.sync = Batch(client.sync, batch_id)

    def __repr__(self) -> str:
        return f"AsyncBatch({self.id!r})"

    async def status(self) -> BatchRecord:
        """Return how the batch stands now: counts per state, total, and its end."""
        return await asyncio.to_thread(self._client.sync.ledger.batches.get, self.id)

    def job(self, index: int) -> AsyncJobHandle:
        """Return a handle on the job for one input, counted from 0."""
        return self._client.handle(self.sync.job(index).id)

    async def records(self, *states: JobState) -> AsyncIterator[JobRecord]:
        """Yield the records of the batch's jobs in the order of its inputs; see ``Batch.records``."""
        records = self.sync.records(*states)
        while (record := await asyncio.to_thread(next, records, None)) is not None:
            yield record

    async def failed(self) -> list[JobRecord]:
        """Return the records of the jobs that did not succeed (failed, cancelled or skipped)."""
        return await asyncio.to_thread(lambda: self.sync.failed)

    async def reasons(self) -> str:
        """Return why jobs did not succeed, counted; see ``Batch.reasons``."""
        return await asyncio.to_thread(self.sync.reasons)

    async def results(
        self, *, ordered: bool = False, timeout: float | None = None, offset: int = 0
    ) -> AsyncIterator[JobResult]:
        """Yield the results of the batch's jobs, good and bad, until all have ended; see ``Batch.results``.

        Args:
            ordered: True yields them in the order of the inputs, False as they arrive.
            timeout: seconds to wait in all; None waits for ever.
            offset: how many to pass over, in the order in which they arrive: what was seen before.

        Raises:
            WaitTimeout: the time is over; the batch goes on.
        """
        held: dict[int, JobResult] = {}
        wanted = 0
        async for job_id in self._ended(timeout, 0 if ordered else offset):
            result = await self._client.result(job_id)
            if not ordered:
                yield result
                continue
            held[result.index or 0] = result
            while wanted in held:
                yield held.pop(wanted)
                wanted += 1

    async def _ended(self, timeout: float | None, seen: int = 0) -> AsyncIterator[str]:
        deadline = None if timeout is None else time.monotonic() + timeout
        ledger = self._client.sync.ledger
        while True:
            # A lost connection ends the subscription; the list says what was missed meanwhile.
            async with AsyncSubscription(
                self._client.redis, f"{ledger.queries.changes_channel}batch:{self.id}"
            ) as changes:
                while True:
                    status = await self.status()
                    while ids := await asyncio.to_thread(ledger.batches.ended_jobs, self.id, seen):
                        seen += len(ids)
                        for job_id in ids:
                            yield job_id
                    if status.done:
                        return
                    pause = _LOOK_AGAIN if deadline is None else min(_LOOK_AGAIN, deadline - time.monotonic())
                    if pause <= 0:
                        raise WaitTimeout(f"{status.sentence()} after {timeout:g} s; it goes on")
                    try:
                        await changes.next(pause)
                    except LedgerUnavailable:
                        break

    async def wait(
        self,
        timeout: float | None = None,
        *,
        check: bool = True,
        progress: bool | Callable[[BatchRecord], None] = False,
    ) -> BatchRecord:
        """Wait until all jobs of the batch have ended; see ``Batch.wait``.

        Args:
            timeout: seconds to wait; None waits for ever.
            check: raise when fewer jobs succeeded than the quorum asks for.
            progress: a function is called with the batch's record whenever a job has ended; True draws a progress bar
                on standard error (needs rich), and occupies a thread.

        Raises:
            BatchFailed: the quorum was missed; the text counts the causes.
            WaitTimeout: the time is over; the batch goes on.
        """
        if progress is True:
            return await asyncio.to_thread(self.sync.wait, timeout, check=check, progress=True)
        async for _ in self._ended(timeout):
            if callable(progress):
                progress(await self.status())
        return await asyncio.to_thread(self.sync.wait, check=check)

    async def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel every job of the batch that has not ended; see ``Batch.cancel``."""
        return await asyncio.to_thread(self.sync.cancel, why)

    async def retry_failed(self, **changes: Any) -> AsyncBatch:
        """Submit the jobs that did not succeed once more, as a new batch; see ``Batch.retry_failed``."""
        batch = await asyncio.to_thread(lambda: self.sync.retry_failed(**changes))
        return AsyncBatch(self._client, batch.id)


class AsyncMapReduce:
    """A batch of maps and the tree of reduces over its outputs, for asyncio; see ``MapReduce``.

    Args:
        client: whose connections it uses.
        submitted: what was submitted.
    """

    def __init__(self, client: AsyncClient, submitted: MapReduce) -> None:
        self.maps = AsyncBatch(client, submitted.maps.id)
        self.levels = [AsyncBatch(client, level.id) for level in submitted.levels]
        self.sync = submitted

    @property
    def final(self) -> AsyncJobHandle:
        """The last reduce job."""
        return self.levels[-1].job(0)

    async def wait(self, timeout: float | None = None) -> JobResult:
        """Wait for the last reduce and return its result; see ``MapReduce.wait``.

        Args:
            timeout: seconds to wait in all; None waits for ever.

        Raises:
            BatchFailed: too few maps succeeded, or a reduce failed.
            WaitTimeout: the time is over; the jobs go on.
        """
        # The last level ends last, whatever the others come to; what it says is then said without waiting.
        await self.levels[-1].wait(timeout, check=False)
        return await asyncio.to_thread(self.sync.wait)

    async def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel all that has not ended; return how many jobs that were."""
        return await asyncio.to_thread(self.sync.cancel, why)

"""``AsyncJobHandle``: the methods of ``JobHandle`` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from jaas_submit.client.job_handle import JobHandle, JobReference, change_in
from jaas_submit.client.session import AsyncSession
from jaas_submit.client.wait import job_records, job_result
from jaas_submit.ledger import Change
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState

__all__ = ["AsyncJobHandle"]


class AsyncJobHandle(JobReference):
    """A submitted job, for asyncio; the methods of ``JobHandle``, with the same arguments and errors.

    Args:
        session: the connections.
        job_id: the job's id, which is Celery's task id too.
        existing: whether ``submit`` found a job with its key and enqueued nothing.
    """

    def __init__(self, session: AsyncSession, job_id: str, *, existing: bool = False) -> None:
        super().__init__(job_id, existing=existing)
        self._session = session
        self.sync = JobHandle(session.sync, job_id, existing=existing)

    async def record(self) -> JobRecord:
        """Return the job's present record; see ``JobHandle.record``."""
        return await asyncio.to_thread(self.sync.record)

    async def state(self) -> JobState:
        """Return the job's state now; see ``JobHandle.state``."""
        return (await self.record()).state

    async def wait(self, timeout: float | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for the end of the job and return its result; see ``JobHandle.wait``. It occupies no thread."""
        steps = job_result(self._session.sync.ledger, self.id, timeout, check)
        (result,) = [found async for found in self._session.run(steps)]
        return result

    async def follow(self, timeout: float | None = None) -> AsyncIterator[Change]:
        """Yield the job's transitions as they happen; see ``JobHandle.follow``. It occupies no thread."""
        async for record in self._session.run(job_records(self._session.sync.ledger, self.id, timeout)):
            yield change_in(record)

    async def result(self) -> JobResult:
        """Return the result of a job that has ended; see ``JobHandle.result``."""
        return await asyncio.to_thread(self.sync.result)

    async def logs(self, attempt: int | None = None) -> Logs:
        """Return the captured output; see ``JobHandle.logs``."""
        return await asyncio.to_thread(self.sync.logs, attempt)

    async def cancel(self, why: str = "cancelled by the producer") -> JobState:
        """Request the cancellation of the job; see ``JobHandle.cancel``."""
        return await asyncio.to_thread(self.sync.cancel, why)

"""``AsyncJobHandle``: the methods of ``JobHandle`` for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, overload

from jaas_submit.client.job_handle import JobHandle, JobReference, change_in
from jaas_submit.client.live_output.findings import Output
from jaas_submit.client.live_output.job_output import JobOutput
from jaas_submit.client.live_output.text import Decoder
from jaas_submit.client.session import AsyncSession
from jaas_submit.client.wait import job_records, job_result
from jaas_submit.ledger import Change
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import AuditEntry, JobRecord
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

    async def done(self) -> bool:
        """Return whether the job has ended; see ``JobHandle.done``."""
        return (await self.record()).terminal

    async def wait(self, timeout: float | timedelta | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for the end of the job and return its result; see ``JobHandle.wait``. It occupies no thread."""
        steps = job_result(self._session.sync.ledger, self.id, timeout, check)
        (result,) = [found async for found in self._session.run(steps)]
        return result

    async def follow(self, timeout: float | timedelta | None = None) -> AsyncIterator[Change]:
        """Yield the job's transitions as they happen; see ``JobHandle.follow``. It occupies no thread."""
        async for record in self._session.run(job_records(self._session.sync.ledger, self.id, timeout)):
            yield change_in(record)

    async def result(self) -> JobResult:
        """Return the result of a job that has ended; see ``JobHandle.result``."""
        return await asyncio.to_thread(self.sync.result)

    @overload
    def logs(self, attempt: int | None = None) -> Coroutine[Any, Any, Logs]: ...

    @overload
    def logs(
        self,
        attempt: int | None = None,
        *,
        follow: Literal[True],
        text: Literal[False] = False,
        since: datetime | None = None,
        tail: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> AsyncIterator[Output]: ...

    @overload
    def logs(
        self,
        attempt: int | None = None,
        *,
        follow: Literal[True],
        text: Literal[True],
        since: datetime | None = None,
        tail: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> AsyncIterator[str]: ...

    def logs(
        self,
        attempt: int | None = None,
        *,
        follow: bool = False,
        text: bool = False,
        since: datetime | None = None,
        tail: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> Any:  # the overloads say what
        """Return the captured output, or follow it; see ``JobHandle.logs``.

        ``await handle.logs()``, and ``async for piece in handle.logs(follow=True)``, which occupies no thread.
        """
        if not follow:
            return asyncio.to_thread(self.sync.logs, attempt)
        sync = self._session.sync
        output = JobOutput(sync.ledger, sync.feeds(), self.id, attempt, since, tail)
        found = (event async for event in self._session.run(output.steps(timeout)) if not isinstance(event, JobRecord))
        if not text:
            return found
        decoder = Decoder()
        return (part async for event in found if (part := decoder.text(event)))

    async def download(self, to: str | os.PathLike[str] = ".", attempt: int | None = None) -> list[Path]:
        """Copy the files that the job handed out into a folder; see ``JobHandle.download``."""
        return await asyncio.to_thread(self.sync.download, to, attempt)

    async def cancel(self, why: str = "cancelled by the producer") -> JobState:
        """Request the cancellation of the job; see ``JobHandle.cancel``."""
        return await asyncio.to_thread(self.sync.cancel, why)

    async def hold(self, why: str = "") -> None:
        """Let no worker start the job, which waits; see ``JobHandle.hold``."""
        await asyncio.to_thread(self.sync.hold, why)

    async def release(self, why: str = "") -> None:
        """Let workers start the job again; see ``JobHandle.release``."""
        await asyncio.to_thread(self.sync.release, why)

    async def audit(self) -> tuple[AuditEntry, ...]:
        """Return who submitted, cancelled or replayed the job; see ``JobHandle.audit``."""
        return await asyncio.to_thread(self.sync.audit)

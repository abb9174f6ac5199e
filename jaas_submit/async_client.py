"""``AsyncClient``: the verbs of ``Client`` for asyncio. Each is carried out in a thread; waiting takes none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import celery

from jaas_submit.async_batch import AsyncBatch, AsyncMapReduce
from jaas_submit.client import Client
from jaas_submit.connection import AsyncSubscription, connect_async
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.explain import Explanation
from jaas_submit.ledger import Change, NewJob
from jaas_submit.names import DEFAULT_PREFIX, DEFAULT_QUEUE
from jaas_submit.placement import NodeFit
from jaas_submit.records import BatchRecord, JobRecord, JobResult, Logs
from jaas_submit.spec import JobSpec
from jaas_submit.states import Cause, JobState
from jaas_submit.waiting import Watch

__all__ = ["AsyncClient", "AsyncJobHandle"]


class AsyncJobHandle:
    """A submitted job, for asyncio; the verbs of ``JobHandle``.

    Args:
        client: whose connections it uses.
        job_id: the job's id, which is Celery's task id too.
        existing: whether ``submit`` found a job with its key and enqueued nothing.
    """

    def __init__(self, client: AsyncClient, job_id: str, *, existing: bool = False) -> None:
        self.id = job_id
        self.existing = existing
        self._client = client

    def __repr__(self) -> str:
        return f"AsyncJobHandle({self.id!r})"

    async def record(self) -> JobRecord:
        """Return what the ledger knows of the job now."""
        return await asyncio.to_thread(self._client.sync.ledger.queries.get, self.id)

    async def state(self) -> JobState:
        """Return the job's state now."""
        return (await self.record()).state

    async def wait(self, timeout: float | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for the end of the job; see ``JobHandle.wait``. No thread is held while it waits."""
        async for _ in self.follow(timeout):
            pass
        return await asyncio.to_thread(self._client.sync.wait, self.id, 0.0, check=check)

    async def follow(self, timeout: float | None = None) -> AsyncIterator[Change]:
        """Yield the job's transitions as they happen; see ``JobHandle.follow``."""
        channel = self._client.sync.ledger.queries.changes_channel + self.id
        watch = Watch(timeout)
        while True:
            try:
                async with AsyncSubscription(self._client.redis, channel) as changes:
                    while True:
                        record = await self.record()
                        if change := watch.news(record):
                            yield change
                        if record.terminal:
                            return
                        await changes.next(watch.pause(record))
            except LedgerUnavailable as error:
                await asyncio.sleep(watch.bear(error))

    async def result(self) -> JobResult:
        """Return the result of a job that has ended; see ``JobHandle.result``."""
        return await asyncio.to_thread(self._client.sync.result, self.id)

    async def logs(self, attempt: int | None = None) -> Logs:
        """Return the captured output; see ``JobHandle.logs``."""
        return await asyncio.to_thread(self._client.sync.logs, self.id, attempt)

    async def cancel(self, why: str = "cancelled by the producer") -> JobState:
        """Ask for the end of the job; see ``Client.cancel``."""
        return await asyncio.to_thread(self._client.sync.cancel, self.id, why)


class AsyncClient:
    """``Client`` for asyncio, with the same verbs and arguments."""

    def __init__(
        self,
        url: str | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        prefix: str = DEFAULT_PREFIX,
        app: celery.Celery | None = None,
        store: str | None = None,
    ) -> None:
        self.sync = Client(url, queue=queue, prefix=prefix, app=app, store=store)
        self.redis = connect_async(self.sync.url)

    def __repr__(self) -> str:
        return f"Async{self.sync!r}"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client may not be used again."""
        await self.redis.aclose()
        await asyncio.to_thread(self.sync.close)

    async def submit(self, spec: JobSpec, **options: Any) -> AsyncJobHandle:
        """Enqueue a job; see ``Client.submit`` for the options."""
        handle = await asyncio.to_thread(self.sync.submit, spec, **_of_sync(options))
        return AsyncJobHandle(self, handle.id, existing=handle.existing)

    async def replay(self, job_id: str, **changes: Any) -> AsyncJobHandle:
        """Submit the description of a job that has ended once more; see ``Client.replay``."""
        handle = await asyncio.to_thread(self.sync.replay, job_id, **changes)
        return AsyncJobHandle(self, handle.id)

    async def submit_many(self, specs: Iterable[JobSpec]) -> list[AsyncJobHandle]:
        """Submit several different jobs; see ``Client.submit_many``."""
        return [AsyncJobHandle(self, h.id) for h in await asyncio.to_thread(self.sync.submit_many, specs)]

    async def submit_records(self, jobs: Iterable[NewJob]) -> int:
        """Enqueue many jobs in bulk; see ``Client.submit_records``."""
        return await asyncio.to_thread(self.sync.submit_records, jobs)

    async def map(self, spec: JobSpec, inputs: Iterable[Any], **options: Any) -> AsyncBatch:
        """Submit one job for each input; see ``Client.map`` for the options."""
        batch = await asyncio.to_thread(self.sync.map, spec, inputs, **_of_sync(options))
        return AsyncBatch(self, batch.id)

    async def map_reduce(
        self, map_spec: JobSpec, inputs: Iterable[Any], reduce_spec: JobSpec, **options: Any
    ) -> AsyncMapReduce:
        """Submit map jobs, and reduce jobs over their outputs; see ``Client.map_reduce`` for the options."""
        submitted = await asyncio.to_thread(self.sync.map_reduce, map_spec, inputs, reduce_spec, **options)
        return AsyncMapReduce(self, submitted)

    def batch(self, batch_id: str) -> AsyncBatch:
        """Return a batch that was submitted earlier, here or elsewhere."""
        return AsyncBatch(self, batch_id)

    async def batches(self, limit: int = 100) -> list[BatchRecord]:
        """Return the records of batches, youngest first."""
        return await asyncio.to_thread(self.sync.batches, limit)

    async def fetch(self, value: Any) -> Any:
        """Return an output, from the store where it stands for a value there; see ``Client.fetch``."""
        return await asyncio.to_thread(self.sync.fetch, value)

    def handle(self, job_id: str) -> AsyncJobHandle:
        """Return a handle on a job that was submitted earlier, here or elsewhere."""
        return AsyncJobHandle(self, job_id)

    async def wait(self, job_id: str, timeout: float | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for a job by its id; see ``JobHandle.wait``."""
        return await self.handle(job_id).wait(timeout, check=check)

    async def result(self, job_id: str) -> JobResult:
        """Return the result of a job that has ended; see ``Client.result``."""
        return await asyncio.to_thread(self.sync.result, job_id)

    async def logs(self, job_id: str, attempt: int | None = None) -> Logs:
        """Return the captured output of a job; see ``Client.logs``."""
        return await asyncio.to_thread(self.sync.logs, job_id, attempt)

    async def cancel(self, job_id: str, why: str = "cancelled by the producer") -> JobState:
        """Ask for the end of a job; see ``Client.cancel``."""
        return await asyncio.to_thread(self.sync.cancel, job_id, why)

    async def explain(self, job_id: str) -> Explanation:
        """Return why a job waits, or why it ended; see ``Client.explain``."""
        return await asyncio.to_thread(self.sync.explain, job_id)

    async def placement(self, spec: JobSpec) -> tuple[NodeFit, ...]:
        """Return on which nodes a job would fit; see ``Client.placement``."""
        return await asyncio.to_thread(self.sync.placement, spec)

    async def active(self, labels: Mapping[str, str] | None = None) -> list[JobRecord]:
        """Return the records of all jobs that have not ended; see ``Client.active``."""
        return await asyncio.to_thread(self.sync.active, labels)

    async def history(
        self,
        state: JobState | None = None,
        limit: int = 100,
        *,
        labels: Mapping[str, str] | None = None,
        cause: Cause | None = None,
    ) -> list[JobRecord]:
        """Return records, youngest first; see ``Client.history``."""
        return await asyncio.to_thread(self.sync.history, state, limit, labels=labels, cause=cause)


def _of_sync(options: dict[str, Any]) -> dict[str, Any]:
    """Return options in which batches that a job comes after are what ``Client`` knows."""

    def known(value: Any) -> Any:
        return value.sync if isinstance(value, AsyncBatch) else value

    # A list stays a list, and what is no list stays that: Client says what is wrong with it.
    return {
        name: [known(one) for one in value] if isinstance(value, list | tuple) else known(value)
        for name, value in options.items()
    }

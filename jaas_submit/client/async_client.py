"""``AsyncClient``: the methods of ``Client`` for asyncio. Each runs in a thread; waiting needs none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaas_submit.batch_model.failure_limit import MaxFailures
from jaas_submit.batch_model.input_keys import KeyOf
from jaas_submit.batch_model.new_job import KEY_TTL, NewJob
from jaas_submit.client.async_batch import AsyncBatch, AsyncMapReduce
from jaas_submit.client.async_job_handle import AsyncJobHandle
from jaas_submit.client.batch import BatchReference
from jaas_submit.client.client import Client
from jaas_submit.client.dependencies import Dependency, On
from jaas_submit.client.job_handle import JobReference, ids_of
from jaas_submit.client.queues.async_queues import AsyncQueues
from jaas_submit.client.session import AsyncSession
from jaas_submit.client.wait import ended_jobs
from jaas_submit.connection import AsyncSubscription, connect_async
from jaas_submit.explain.explanation import Explanation
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import BatchRecord, JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.states import JobState
from jaas_submit.placement.placement import NodeFit
from jaas_submit.signing import Signer
from jaas_submit.usage.report import UsageReport

if TYPE_CHECKING:
    import celery

__all__ = ["AsyncClient"]


class AsyncClient:
    """``Client`` for asyncio: the same methods, arguments and errors.

    Args:
        url: this and the others are as for ``Client``.
        queue: Celery queue of the workers.
        prefix: first part of the ledger's Redis keys.
        app: your own Celery app, to use its broker and result backend for the messages.
        store: URL of the store of large values.
        signer: signs the descriptions.

    Make it, and use it, in one event loop.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        queue: str | None = None,
        prefix: str | None = None,
        app: celery.Celery | None = None,
        store: str | None = None,
        signer: Signer | None = None,
    ) -> None:
        self.sync = Client(url, queue=queue, prefix=prefix, app=app, store=store, signer=signer)
        self._redis = connect_async(self.sync.url)
        self.session = AsyncSession(self.sync.session, partial(AsyncSubscription, self._redis))
        """The connections that handles and batches use."""

    @property
    def queues(self) -> AsyncQueues:
        """The queues of this installation; see ``Client.queues``."""
        return AsyncQueues(self.sync.queues)

    def __repr__(self) -> str:
        return type(self).__name__ + repr(self.sync).removeprefix(type(self.sync).__name__)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client may not be used again."""
        await self._redis.aclose()
        await asyncio.to_thread(self.sync.close)

    async def submit(
        self,
        spec: JobSpec | Mapping[str, Any],
        *,
        key: str | None = None,
        key_ttl: float | timedelta = KEY_TTL,
        after: Sequence[Dependency] = (),
        on: On = "success",
        input: Any = None,
        files: Mapping[str, str | os.PathLike[str]] | None = None,
        not_before: datetime | float | str | None = None,
    ) -> AsyncJobHandle:
        """Enqueue a job; see ``Client.submit``."""
        handle = await asyncio.to_thread(
            self.sync.submit,
            spec,
            key=key,
            key_ttl=key_ttl,
            after=after,
            on=on,
            input=input,
            files=files,
            not_before=not_before,
        )
        return AsyncJobHandle(self.session, handle.id, existing=handle.existing)

    async def submit_many(self, specs: Iterable[JobSpec | Mapping[str, Any]]) -> list[AsyncJobHandle]:
        """Submit several different jobs; see ``Client.submit_many``."""
        handles = await asyncio.to_thread(self.sync.submit_many, specs)
        return [AsyncJobHandle(self.session, handle.id) for handle in handles]

    async def submit_records(self, jobs: Iterable[NewJob]) -> int:
        """Enqueue many jobs in bulk; see ``Client.submit_records``."""
        return await asyncio.to_thread(self.sync.submit_records, jobs)

    async def replay(self, job_id: str, *, in_place: bool = False, **changes: Any) -> AsyncJobHandle:
        """Submit the description of an ended job again; see ``Client.replay``."""
        handle = await asyncio.to_thread(self.sync.replay, job_id, in_place=in_place, **changes)
        return AsyncJobHandle(self.session, handle.id)

    async def map(
        self,
        spec: JobSpec | Mapping[str, Any],
        inputs: Iterable[Any] = (),
        *,
        per_node: bool = False,
        name: str = "",
        max_parallel: int | None = None,
        min_success: float | None = None,
        max_failures: MaxFailures | None = None,
        key: str | None = None,
        key_of: KeyOf | None = None,
        again: bool = False,
        as_file: bool | None = None,
        speculate: Speculation | float | None = None,
        after: Sequence[Dependency] = (),
        after_each: BatchReference | str | None = None,
        on: On = "success",
        not_before: datetime | float | str | None = None,
    ) -> AsyncBatch:
        """Submit one job for each input, or each node; see ``Client.map``. The inputs are read in a thread."""
        batch = await asyncio.to_thread(
            self.sync.map,
            spec,
            inputs,
            per_node=per_node,
            name=name,
            max_parallel=max_parallel,
            min_success=min_success,
            max_failures=max_failures,
            key=key,
            key_of=key_of,
            again=again,
            as_file=as_file,
            speculate=speculate,
            after=after,
            after_each=after_each,
            on=on,
            not_before=not_before,
        )
        return AsyncBatch(self.session, batch.id, existing=batch.existing, difference=batch.difference)

    async def map_reduce(
        self,
        map_spec: JobSpec | Mapping[str, Any],
        inputs: Iterable[Any],
        reduce_spec: JobSpec | Mapping[str, Any],
        *,
        fan_in: int = 256,
        name: str = "",
        max_parallel: int | None = None,
        min_success: float | None = None,
        max_failures: MaxFailures | None = None,
        key: str | None = None,
        key_of: KeyOf | None = None,
        again: bool = False,
        as_file: bool | None = None,
        speculate: Speculation | float | None = None,
    ) -> AsyncMapReduce:
        """Submit map jobs, and reduce jobs over their outputs; see ``Client.map_reduce``."""
        made = await asyncio.to_thread(
            self.sync.map_reduce,
            map_spec,
            inputs,
            reduce_spec,
            fan_in=fan_in,
            name=name,
            max_parallel=max_parallel,
            min_success=min_success,
            max_failures=max_failures,
            key=key,
            key_of=key_of,
            again=again,
            as_file=as_file,
            speculate=speculate,
        )
        return AsyncMapReduce.of(self.session, made)

    async def map_reduce_of(self, batch_id: str) -> AsyncMapReduce:
        """Return a map/reduce that was submitted earlier; see ``Client.map_reduce_of``."""
        return AsyncMapReduce.of(self.session, await asyncio.to_thread(self.sync.map_reduce_of, batch_id))

    async def batch(self, batch_id: str, *, lazy: bool = False) -> AsyncBatch:
        """Return a batch that was submitted earlier, here or elsewhere; see ``Client.batch``."""
        await asyncio.to_thread(self.sync.batch, batch_id, lazy=lazy)
        return AsyncBatch(self.session, batch_id)

    async def batches(self, limit: int = 100) -> list[BatchRecord]:
        """Return the records of batches, youngest first; see ``Client.batches``."""
        return await asyncio.to_thread(self.sync.batches, limit)

    async def handle(self, job_id: str, *, lazy: bool = False) -> AsyncJobHandle:
        """Return a handle on a job that was submitted earlier, here or elsewhere; see ``Client.handle``."""
        await asyncio.to_thread(self.sync.handle, job_id, lazy=lazy)
        return AsyncJobHandle(self.session, job_id)

    async def as_completed(
        self, jobs: Iterable[JobReference | str], timeout: float | timedelta | None = None
    ) -> AsyncIterator[AsyncJobHandle]:
        """Yield a handle on each job as it ends; see ``Client.as_completed``. It occupies no thread."""
        async for job_id in self.session.run(ended_jobs(self.sync.ledger, ids_of(jobs), timeout)):
            yield AsyncJobHandle(self.session, job_id)

    async def gather(
        self,
        jobs: Iterable[JobReference | str],
        timeout: float | timedelta | None = None,
        *,
        check: bool | None = None,
    ) -> list[JobResult]:
        """Wait for several jobs; return their results in the same order; see ``Client.gather``."""
        ids = ids_of(jobs)
        async for _ in self.as_completed(ids, timeout):
            pass
        return [await AsyncJobHandle(self.session, job_id).wait(check=check) for job_id in ids]

    async def wait(
        self, job_id: str, timeout: float | timedelta | None = None, *, check: bool | None = None
    ) -> JobResult:
        """Wait for a job by its id; see ``JobHandle.wait``."""
        return await AsyncJobHandle(self.session, job_id).wait(timeout, check=check)

    async def result(self, job_id: str) -> JobResult:
        """Return the result of a job that has ended; see ``JobHandle.result``."""
        return await asyncio.to_thread(self.sync.result, job_id)

    async def logs(self, job_id: str, attempt: int | None = None) -> Logs:
        """Return the captured output of a job; see ``JobHandle.logs``."""
        return await asyncio.to_thread(self.sync.logs, job_id, attempt)

    async def download(self, job_id: str, to: str | os.PathLike[str] = ".", attempt: int | None = None) -> list[Path]:
        """Copy the files that a job handed out into a folder; see ``JobHandle.download``."""
        return await asyncio.to_thread(self.sync.download, job_id, to, attempt)

    async def cancel(self, job_id: str, why: str = "cancelled by the producer") -> JobState:
        """Request the cancellation of a job, durably; see ``JobHandle.cancel``."""
        return await asyncio.to_thread(self.sync.cancel, job_id, why)

    async def forget(self, job_id: str) -> None:
        """Delete the record and the output of a job that has ended; see ``Client.forget``."""
        await asyncio.to_thread(self.sync.forget, job_id)

    async def fetch(self, value: Any) -> Any:
        """Return an output, read from the store if it is a reference; see ``Client.fetch``."""
        return await asyncio.to_thread(self.sync.fetch, value)

    async def explain(self, job_id: str) -> Explanation:
        """Return why a job waits, or why it ended; see ``Client.explain``."""
        return await asyncio.to_thread(self.sync.explain, job_id)

    async def placement(self, spec: JobSpec | Mapping[str, Any]) -> tuple[NodeFit, ...]:
        """Return on which nodes a job would fit; see ``Client.placement``."""
        return await asyncio.to_thread(self.sync.placement, spec)

    async def refusals(self, spec: JobSpec | Mapping[str, Any]) -> tuple[str, ...]:
        """Return why the workers' policy would refuse a job; see ``Client.refusals``."""
        return await asyncio.to_thread(self.sync.refusals, spec)

    async def active(self, labels: Mapping[str, str] | None = None) -> list[JobRecord]:
        """Return the records of all jobs that have not ended; see ``Client.active``."""
        return await asyncio.to_thread(self.sync.active, labels)

    async def usage(self, by: str = "image", since: float | str = "24h") -> UsageReport:
        """Return what jobs used, in groups, beside what they reserved; see ``Client.usage``."""
        return await asyncio.to_thread(self.sync.usage, by, since)

    async def history(
        self,
        state: JobState | str | None = None,
        limit: int = 100,
        *,
        labels: Mapping[str, str] | None = None,
        cause: Cause | str | None = None,
    ) -> list[JobRecord]:
        """Return records, youngest first; see ``Client.history``."""
        return await asyncio.to_thread(self.sync.history, state, limit, labels=labels, cause=cause)

"""The producer's library: ``Client`` and ``AsyncClient``, with the same verbs, and ``job`` for Celery canvas."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import celery
import redis
import redis.asyncio
from celery.canvas import Signature

from jaas_submit import broker
from jaas_submit.batch import Batch, MapReduce, batch_id_of, submit_map, submit_reduces
from jaas_submit.errors import LedgerUnavailable, SpecError, WaitTimeout
from jaas_submit.explain import Explanation, NodeFit, explain, placement
from jaas_submit.ledger import KEY_TTL, Change, Ledger, NewJob, connect
from jaas_submit.names import DEFAULT_PREFIX, DEFAULT_QUEUE, TASK_RUN
from jaas_submit.records import BatchRecord, CapturedOutput, JobRecord, JobResult, Logs, LogStatus
from jaas_submit.spec import JobSpec
from jaas_submit.states import Cause, JobState
from jaas_submit.store import Store
from jaas_submit.tracing import producing

__all__ = ["AsyncClient", "AsyncJobHandle", "Client", "JobHandle", "default_url", "job"]

_CHUNK: Final = 500
"""Jobs that are written in one transaction: Redis serves nobody else for some 20 ms."""

_PATIENCE: Final = 60.0
"""Seconds that ``wait`` and ``follow`` bear a Redis that does not answer, once it has answered them."""

_LOOK_AGAIN: Final = 2.0
"""Seconds after which a waiting client reads the record even if no notice came: pub/sub may lose one."""


def default_url() -> str:
    """Return the Redis URL that is used when none is given: JAAS_REDIS_URL, CELERY_BROKER_URL or Redis on this host.

    JAAS_REDIS_URL_FILE names a file with the URL, for passwords kept as a swarm secret.
    """
    if path := os.environ.get("JAAS_REDIS_URL_FILE"):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            raise SpecError(f"JAAS_REDIS_URL_FILE: {error}") from error
    return os.environ.get("JAAS_REDIS_URL") or os.environ.get("CELERY_BROKER_URL") or "redis://127.0.0.1:6379/0"


def job(spec: JobSpec, *, queue: str = DEFAULT_QUEUE) -> Signature[Any]:
    """Return the Celery signature of a job, for chain, group and chord of your own app.

    The job's record is written by the worker that receives the message. Within a chain or chord it gets
    what the task before it returned as its input (of a job, the ``output``), unless it has an input of its own.

    Args:
        spec: the job's description.
        queue: Celery queue of the jaas workers.
    """
    return Signature(
        TASK_RUN,
        kwargs={"spec": spec.to_wire()},
        options={"queue": queue, **broker.task_options(spec)},
    )


class _Patience:
    """How long one who waits puts up with a Redis that is away.

    Args:
        deadline: when the waiting is over anyhow, by the monotonic clock; None when never.
    """

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._answered: float | None = None

    def renew(self) -> None:
        """Redis has answered."""
        self._answered = time.monotonic()

    def bear(self, error: Exception) -> float:
        """Return the seconds to wait before the next try.

        Raises:
            LedgerUnavailable: it never answered, has not for too long, or the time is over.
        """
        now = time.monotonic()
        over = self._deadline is not None and now >= self._deadline
        if self._answered is None or now - self._answered > _PATIENCE or over:
            raise error if isinstance(error, LedgerUnavailable) else LedgerUnavailable(str(error)) from error
        return 1.0


On = Literal["success", "failure", "finish"]
"""How a job or batch must have ended for what comes after it to run."""


def _dependencies(after: Sequence[Dependency], on: On) -> tuple[tuple[str, str], ...]:
    if on not in get_args(On):
        raise SpecError(f"on: must be success, failure or finish, not {on!r}", field="on")
    if isinstance(after, str | JobHandle | Batch):
        raise SpecError("after: give a list, such as [handle]", field="after")
    return tuple((f"batch:{one.id}" if isinstance(one, Batch) else getattr(one, "id", str(one)), on) for one in after)


class JobHandle:
    """A submitted job.

    Args:
        client: whose connections it uses.
        job_id: the job's id, which is Celery's task id too.
        existing: whether ``submit`` found a job with its key and enqueued nothing.
    """

    def __init__(self, client: Client, job_id: str, *, existing: bool = False) -> None:
        self.id = job_id
        self.existing = existing
        self._client = client

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def record(self) -> JobRecord:
        """Return what the ledger knows of the job now.

        Raises:
            UnknownJob: its record has expired.
        """
        return self._client.ledger.get(self.id)

    @property
    def state(self) -> JobState:
        """The job's state now."""
        return self.record().state

    def wait(self, timeout: float | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for the end of the job and return its result.

        Args:
            timeout: seconds to wait; None waits for ever. The job goes on when the time is over.
            check: True raises when the job ended badly, False never does; None takes the description's ``check``
                (True by default).

        Raises:
            JobFailed: the job ended badly; ``.result`` is the whole result.
            JobCancelled: the job was cancelled.
            WaitTimeout: the time is over.
            UnknownJob: the record has expired.
        """
        for _ in self.follow(timeout):
            pass
        result = self._client.result(self.id)
        if check is None:
            spec = self.record().spec
            check = spec.check if spec else True
        return result.check() if check else result

    def follow(self, timeout: float | None = None) -> Iterator[Change]:
        """Yield the job's transitions as they happen, from its present state on, and end with its terminal one.

        Args:
            timeout: seconds to wait in all; None waits for ever.

        Raises:
            WaitTimeout: the time is over.
            UnknownJob: there is no record.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        ledger = self._client.ledger
        seen: Change | None = None
        patience = _Patience(deadline)
        while True:
            # A lost connection ends the subscription; the record says what was missed meanwhile.
            try:
                with ledger.changes(self.id) as changes:
                    while True:
                        record = ledger.get(self.id)
                        patience.renew()
                        change = Change(record.state, record.detail, record.reported)
                        if seen is None or (change.state, change.detail) != (seen.state, seen.detail):
                            seen = change
                            yield change
                        if record.terminal:
                            return
                        pause = _LOOK_AGAIN
                        if deadline is not None:
                            pause = min(pause, deadline - time.monotonic())
                            if pause <= 0:
                                raise WaitTimeout(f"job {self.id} is {record.state} after {timeout:g} s; it goes on")
                        changes.next(pause)
            except LedgerUnavailable as error:
                time.sleep(patience.bear(error))

    def result(self) -> JobResult:
        """Return the result of a job that has ended, without raising when it ended badly.

        Raises:
            ValueError: it has not ended yet.
            UnknownJob: there is no record.
        """
        return self._client.result(self.id)

    def logs(self, attempt: int | None = None) -> Logs:
        """Return the captured output, with time and stream of each line.

        Args:
            attempt: which attempt, counted from 1; None means the last one.
        """
        return self._client.logs(self.id, attempt)

    def cancel(self, why: str = "cancelled by the producer") -> JobState:
        """Ask for the end of the job; see ``Client.cancel``."""
        return self._client.cancel(self.id, why)


Dependency = JobHandle | Batch | str
"""What a job may come after: a handle, a batch, or a job's id."""


class Client:
    """Submits jobs and follows them.

    Args:
        url: Redis URL; None takes JAAS_REDIS_URL, CELERY_BROKER_URL or Redis on this host.
        queue: Celery queue of the workers.
        prefix: first part of the ledger's Redis keys; the workers must use the same.
        app: your own Celery app, if its broker and result backend shall be used for the messages.
        store: URL of the store of large values; the workers must have the same. None takes JAAS_STORE_URL.

    Nothing is connected until the first call. Safe to share between threads; make one for each process.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        prefix: str = DEFAULT_PREFIX,
        app: celery.Celery | None = None,
        store: str | None = None,
    ) -> None:
        self.url = url or default_url()
        where = os.environ.get("JAAS_STORE_URL") if store is None else store
        self.store = Store(where, prefix) if where else None
        self.queue = queue
        self.ledger = Ledger(connect(self.url), prefix)
        self.app = app or broker.celery_app(self.url)

    def __repr__(self) -> str:
        return f"Client({_without_password(self.url)!r}, queue={self.queue!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client may not be used again."""
        self.ledger.client.close()
        self.app.close()

    def submit(
        self,
        spec: JobSpec,
        *,
        key: str | None = None,
        key_ttl: float = KEY_TTL,
        after: Sequence[Dependency] = (),
        on: On = "success",
        input: Any = None,  # the field's name in the description
    ) -> JobHandle:
        """Enqueue a job: write its record, then publish its message.

        When this returns, the job is in the ledger and will run, even if the message should get lost.

        Args:
            spec: the description.
            key: idempotency key, such as ``payroll-2026-11``: as long as a job with this key is known, its handle is
                returned and nothing is enqueued, whatever the description.
            key_ttl: seconds for which the key leads to the job (7 days by default).
            after: jobs and batches that this one comes after (handles, batches or ids of jobs).
            on: how they must have ended for this job to run: ``success``, ``failure`` or ``finish`` (either way). Else
                it is SKIPPED, with the reason. A batch succeeds by its quorum.
            input: the job's input, in place of the description's; a large one goes into the store, where there is one.

        Raises:
            LedgerUnavailable: Redis did not take the record; nothing was enqueued, as far as is known.
        """
        if key is not None and not key.strip():
            raise SpecError("key: must not be empty; leave it out for a job that may be submitted twice", field="key")
        job_id = str(uuid.uuid4())
        if input is not None:
            spec = JobSpec.parse({**spec.to_wire(), "input": self._kept(job_id, input)})
        return self._submit(spec, job_id, key=key or "", key_ttl=key_ttl, after=_dependencies(after, on))

    def _kept(self, job_id: str, value: Any) -> Any:
        """Return an input, or a reference to it where it is large and there is a store."""
        return value if self.store is None else self.store.keep(job_id, "input.json", value)

    def fetch(self, value: Any) -> Any:
        """Return an output; one that stands for a value in the store (``{"$ref": ...}``) is read from there.

        Args:
            value: what ``result.output`` holds.

        Raises:
            JaasError: it is not there any more: it goes with the job's record.
            StoreUnavailable: the store does not answer.
        """
        # Only what lies in our own store: what a container prints must not make us read anything else.
        return json.loads(self.store.read(value)) if self.store is not None and self.store.holds(value) else value

    def _submit(self, spec: JobSpec, job_id: str = "", **more: Any) -> JobHandle:
        job_id = job_id or str(uuid.uuid4())
        with producing("jaas.submit", jaas_job_id=job_id) as traceparent:
            new = NewJob(job_id, spec, self.queue, traceparent=traceparent, **more)
            made = self.ledger.create_many([new])[0]
            # Its own id although it is not new: the first reply was lost, and the record is ours.
            if made.job_id == job_id and made.state is JobState.QUEUED:
                # The record is the job; should the message not get through, a worker takes the record up without it.
                with contextlib.suppress(LedgerUnavailable):
                    broker.publish(self.app, job_id, spec, self.queue)
        return JobHandle(self, made.job_id, existing=made.job_id != job_id)

    def submit_records(self, jobs: Iterable[NewJob]) -> int:
        """Enqueue many jobs in bulk: records and messages in chunks, each chunk in one transaction.

        Args:
            jobs: read one by one; those that are there already are left alone.

        Returns:
            How many there were.
        """
        count = 0
        rest = iter(jobs)
        while chunk := list(itertools.islice(rest, _CHUNK)):
            with producing("jaas.submit", jaas_jobs=len(chunk)) as traceparent:
                chunk = [replace(job, traceparent=traceparent) for job in chunk] if traceparent else chunk
                made = self.ledger.create_many(chunk)
                ready = [
                    (job.job_id, job.spec)
                    for job, answer in zip(chunk, made, strict=True)
                    if answer.new and answer.state is JobState.QUEUED and job.spec
                ]
                with contextlib.suppress(LedgerUnavailable):
                    broker.publish_many(self.app, ready, self.queue)
            count += len(chunk)
        return count

    def replay(self, job_id: str, **changes: Any) -> JobHandle:
        """Submit the description of a job that has ended once more, linked to the original.

        Args:
            job_id: the job that gave up (or succeeded).
            changes: fields of the description to be replaced, such as ``limits={"memory": "2G"}``; of objects (``env``,
                ``limits``, ``retry``, ...) only the entries that are named.

        Raises:
            UnknownJob: there is no record.
            SpecError: the job has not ended, its record holds no description, or a change is not valid.
        """
        record = self.ledger.get(job_id)
        if not record.terminal:
            raise SpecError(f"job {job_id} is {record.state}; only a job that has ended can be replayed")
        if record.spec is None:
            raise SpecError(f"job {job_id} had no valid description, so that there is nothing to replay")
        return self._submit(record.spec.changed(changes), replay_of=job_id)

    def submit_many(self, specs: Iterable[JobSpec]) -> list[JobHandle]:
        """Submit several different jobs; return their handles in the same order. For one job per input see ``map``."""
        jobs = [NewJob(str(uuid.uuid4()), spec, self.queue) for spec in specs]
        self.submit_records(jobs)
        return [JobHandle(self, job.job_id) for job in jobs]

    def map(
        self,
        spec: JobSpec,
        inputs: Iterable[Any],
        *,
        name: str = "",
        max_parallel: int | None = None,
        min_success: float = 1.0,
        key: str | None = None,
        as_file: bool | None = None,
        after: Sequence[Dependency] = (),
        after_each: Batch | str | None = None,
        on: On = "success",
    ) -> Batch:
        """Submit one job for each input.

        Args:
            spec: the description; ``{item}``, ``{item.name}`` and ``{index}`` in its command, its entry point and the
                values of its environment are filled in for each input.
            inputs: any JSON values, up to 100,000; read one by one and not kept.
            name: for people.
            max_parallel: how many of the jobs may be active at once; None sets no limit.
            min_success: part of the jobs that must succeed for the batch to succeed.
            key: idempotency key: submitting with the same key once more (after a crash in the middle, say) adds only
                what is missing, and returns the same batch.
            as_file: True hands each input over as the file /run/jaas/input.json, which JAAS_INPUT names; None does so
                where the description has no place for it.
            after: jobs and batches that all of them come after; see ``submit``.
            after_each: a batch: job i comes after job i of that one.
            on: see ``submit``.

        Raises:
            SpecError: a description is not valid with its input; jobs before it have been submitted, the batch is not
                complete, and the same call with the same key goes on with it.
        """
        batch_id, fields = self._new_batch(name, max_parallel, min_success, key)
        each = None if after_each is None else (after_each.id if isinstance(after_each, Batch) else after_each, on)
        submit_map(
            self,
            spec,
            inputs,
            batch_id=batch_id,
            fields=fields,
            after=_dependencies(after, on),
            after_each=each,
            as_file=as_file,
        )
        return Batch(self, batch_id)

    def map_reduce(
        self,
        map_spec: JobSpec,
        inputs: Iterable[Any],
        reduce_spec: JobSpec,
        *,
        fan_in: int = 256,
        name: str = "",
        max_parallel: int | None = None,
        min_success: float = 1.0,
        key: str | None = None,
        as_file: bool | None = None,
    ) -> MapReduce:
        """Submit one map job for each input, and reduce jobs over their outputs.

        The reduces start once, when every map has ended and enough of them well; a tree of them where there are more
        outputs than ``fan_in``. Each gets its inputs as JSON lines (index, state, output) in the file that JAAS_INPUT
        names. Where too few maps succeed, the reduces are SKIPPED.

        Args:
            map_spec: as in ``map``; it should declare an ``output``.
            inputs: as in ``map``.
            reduce_spec: the description of each reduce; it should declare an ``output`` of the kind that it reads.
            fan_in: how many outputs one reduce job takes at most.
            name: for people.
            max_parallel: how many maps may be active at once.
            min_success: part of the maps that must succeed.
            key: as in ``map``.
            as_file: as in ``map``.
        """
        if fan_in < 2:
            raise SpecError("fan_in: must be 2 at least, or a tree of reduces would never end", field="fan_in")
        batch_id, fields = self._new_batch(name, max_parallel, min_success, key)
        total = submit_map(self, map_spec, inputs, batch_id=batch_id, fields=fields, as_file=as_file)
        return MapReduce(Batch(self, batch_id), submit_reduces(self, reduce_spec, batch_id, total, fan_in))

    def _new_batch(
        self, name: str, max_parallel: int | None, min_success: float, key: str | None
    ) -> tuple[str, dict[str, Any]]:
        if max_parallel is not None and max_parallel < 1:
            raise SpecError("max_parallel: must be 1 at least; leave it out for no limit", field="max_parallel")
        if not 0 <= min_success <= 1:
            raise SpecError("min_success: must be between 0 and 1, such as 0.95", field="min_success")
        fields = {"name": name, "max_parallel": max_parallel or 0, "min_success": min_success}
        return batch_id_of(key, self.ledger.prefix), fields

    def batch(self, batch_id: str) -> Batch:
        """Return a batch that was submitted earlier, here or elsewhere."""
        return Batch(self, batch_id)

    def batches(self, limit: int = 100) -> list[BatchRecord]:
        """Return the records of batches, youngest first."""
        return self.ledger.batches(limit)

    def handle(self, job_id: str) -> JobHandle:
        """Return a handle on a job that was submitted earlier, here or elsewhere."""
        return JobHandle(self, job_id)

    def wait(self, job_id: str, timeout: float | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for a job by its id; see ``JobHandle.wait``."""
        return self.handle(job_id).wait(timeout, check=check)

    def result(self, job_id: str) -> JobResult:
        """Return the result of a job that has ended.

        Raises:
            ValueError: it has not ended yet.
            UnknownJob: there is no record.
        """
        record = self.ledger.get(job_id)
        last = record.last
        logs = self.ledger.logs(job_id, last.number) if last else None
        return _result(record, logs)

    def logs(self, job_id: str, attempt: int | None = None) -> Logs:
        """Return the captured output of a job.

        Args:
            job_id: the job's id.
            attempt: which attempt, counted from 1; None means the last one.

        Raises:
            UnknownJob: there is no record.
        """
        record = self.ledger.get(job_id)
        # An end between two attempts (cancelled, deadline) has no number and no output of its own.
        last = next((ended.number for ended in reversed(record.attempts) if ended.number), record.attempt)
        number = attempt or last
        return self.ledger.logs(job_id, number) or _no_logs(record)

    def cancel(self, job_id: str, why: str = "cancelled by the producer") -> JobState:
        """Ask for the end of a job, durably: it is carried out even when no worker is up now.

        Args:
            job_id: the job's id.
            why: the reason, kept in the record.

        Returns:
            The state the job was in. One that had not been launched is CANCELLED at once; of one that had ended
            already nothing changes.

        Raises:
            UnknownJob: there is no record.
        """
        state, done = self.ledger.cancel(job_id, why)
        if done:
            # For those who wait for Celery's result. Should this process die before it, the worker that receives the
            # message does the same.
            record = self.ledger.get(job_id)
            with contextlib.suppress(redis.RedisError, OSError):
                self.app.backend.mark_as_revoked(record.task_id, reason=why, store_result=True)
        return state

    def explain(self, job_id: str) -> Explanation:
        """Return why a job waits, or why it ended, in plain words.

        Raises:
            UnknownJob: there is no record.
        """
        record = self.ledger.get(job_id)
        ahead = self.ledger.ahead(job_id) if record.state is JobState.QUEUED else 0
        now = datetime.fromtimestamp(self.ledger.now(), UTC)
        return explain(record, self.ledger.cluster(), ahead, len(self.ledger.workers()), now)

    def placement(self, spec: JobSpec) -> tuple[NodeFit, ...]:
        """Return on which nodes a job would fit, before it is submitted; empty when no worker has told of any node."""
        cluster = self.ledger.cluster()
        return placement(spec, cluster) if cluster else ()

    def history(
        self,
        state: JobState | None = None,
        limit: int = 100,
        *,
        labels: Mapping[str, str] | None = None,
        cause: Cause | None = None,
    ) -> list[JobRecord]:
        """Return records, youngest first.

        Args:
            state: only jobs in this state; FAILED ones are the dead letters.
            limit: at most so many.
            labels: only jobs whose description has all these labels.
            cause: only jobs whose last attempt ended by this cause.
        """
        found: list[JobRecord] = []
        for record in self._scan(state):
            if not _has_labels(record, labels):
                continue
            if cause and not (record.last and record.last.cause is cause):
                continue
            found.append(record)
            if len(found) >= limit:
                break
        return found

    def active(self, labels: Mapping[str, str] | None = None) -> list[JobRecord]:
        """Return the records of all jobs that have not ended.

        Args:
            labels: only jobs whose description has all these labels.
        """
        found: list[JobRecord] = []
        ids = self.ledger.active()
        for start in range(0, len(ids), _CHUNK):
            records = self.ledger.find(ids[start : start + _CHUNK])
            found += [record for record in records if not record.terminal and _has_labels(record, labels)]
        return found

    def _scan(self, state: JobState | None, page: int = 500) -> Iterator[JobRecord]:
        offset = 0
        seen: set[str] = set()
        while ids := self.ledger.ids(state, page, offset):
            # While we read, younger jobs push the others down the list.
            yield from self.ledger.find([job_id for job_id in ids if job_id not in seen])
            seen.update(ids)
            offset += len(ids)


class AsyncJobHandle:
    """A submitted job, for asyncio; the verbs of ``JobHandle``."""

    def __init__(self, client: AsyncClient, job_id: str) -> None:
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"AsyncJobHandle({self.id!r})"

    async def record(self) -> JobRecord:
        """Return what the ledger knows of the job now."""
        return await asyncio.to_thread(self._client.sync.ledger.get, self.id)

    async def wait(self, timeout: float | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for the end of the job; see ``JobHandle.wait``. No thread is held while it waits."""
        async for _ in self.follow(timeout):
            pass
        return await asyncio.to_thread(self._client.sync.wait, self.id, 0.0, check=check)

    async def follow(self, timeout: float | None = None) -> AsyncIterator[Change]:
        """Yield the job's transitions as they happen; see ``JobHandle.follow``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        seen: Change | None = None
        patience = _Patience(deadline)
        while True:
            try:
                async with self._client.redis.pubsub(ignore_subscribe_messages=True) as changes:
                    await changes.subscribe(self._client.sync.ledger.changes_channel + self.id)
                    await changes.get_message(timeout=5)
                    while True:
                        record = await self.record()
                        patience.renew()
                        change = Change(record.state, record.detail, record.reported)
                        if seen is None or (change.state, change.detail) != (seen.state, seen.detail):
                            seen = change
                            yield change
                        if record.terminal:
                            return
                        pause = _LOOK_AGAIN
                        if deadline is not None:
                            pause = min(pause, deadline - time.monotonic())
                            if pause <= 0:
                                raise WaitTimeout(f"job {self.id} is {record.state} after {timeout:g} s; it goes on")
                        await changes.get_message(timeout=pause)
            except (redis.RedisError, LedgerUnavailable) as error:
                await asyncio.sleep(patience.bear(error))

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
    ) -> None:
        self.sync = Client(url, queue=queue, prefix=prefix, app=app)
        self.redis = redis.asyncio.Redis.from_url(self.sync.url)

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
        handle = await asyncio.to_thread(self.sync.submit, spec, **options)
        return AsyncJobHandle(self, handle.id)

    async def replay(self, job_id: str, **changes: Any) -> AsyncJobHandle:
        """Submit the description of a job that has ended once more; see ``Client.replay``."""
        handle = await asyncio.to_thread(self.sync.replay, job_id, **changes)
        return AsyncJobHandle(self, handle.id)

    async def submit_many(self, specs: Iterable[JobSpec]) -> list[AsyncJobHandle]:
        """Submit several different jobs; see ``Client.submit_many``."""
        return [AsyncJobHandle(self, h.id) for h in await asyncio.to_thread(self.sync.submit_many, specs)]

    async def map(self, spec: JobSpec, inputs: Iterable[Any], **options: Any) -> Batch:
        """Submit one job for each input; see ``Client.map``. The batch's own methods block."""
        return await asyncio.to_thread(self.sync.map, spec, inputs, **options)

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


def _result(record: JobRecord, logs: Logs | None) -> JobResult:
    captured = logs or _no_logs(record)
    output = CapturedOutput(
        stdout=captured.stdout, stderr=captured.stderr, status=captured.status, reason=captured.reason
    )
    return JobResult.of(record, output)


def _has_labels(record: JobRecord, labels: Mapping[str, str] | None) -> bool:
    return not labels or (record.spec is not None and labels.items() <= record.spec.labels.items())


def _no_logs(record: JobRecord) -> Logs:
    if not record.terminal:
        return Logs(
            status=LogStatus.UNAVAILABLE, reason=f"the job is {record.state}; output is stored when it has ended"
        )
    if record.last and record.last.container_id is None:
        return Logs(reason="no container ran, so there is no output")
    return Logs(status=LogStatus.UNAVAILABLE, reason="the output has expired")


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.split('//')[0]}//***@{tail}" if at else url

"""Many jobs as one: progress, results as they arrive, partial failure, map/reduce. Reachable by id from any process."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from jaas_submit.errors import JaasError, LedgerUnavailable, SpecError, WaitTimeout
from jaas_submit.ids import batch_id_of, batch_job_id
from jaas_submit.ledger import Ledger, NewJob
from jaas_submit.records import BatchRecord, JobRecord, JobResult
from jaas_submit.spec import JobSpec
from jaas_submit.states import JobState
from jaas_submit.templates import fill

if TYPE_CHECKING:
    from jaas_submit.client import Client
    from jaas_submit.handle import JobHandle

__all__ = [
    "Batch",
    "BatchFailed",
    "MapReduce",
    "cancel_jobs",
    "reduce_sizes",
    "submit_map",
    "submit_reduces",
]

_CHUNK: Final = 500
_LOOK_AGAIN: Final = 2.0


class BatchFailed(JaasError):
    """Fewer jobs of a batch succeeded than its quorum asks for.

    Args:
        message: how many, and why the others failed.
        record: the batch.
    """

    def __init__(self, message: str, record: BatchRecord) -> None:
        super().__init__(message)
        self.record = record


def reduce_sizes(count: int, fan_in: int) -> list[int]:
    """Return how many jobs each level of a tree of reduces has, the last one being 1.

    Args:
        count: how many outputs there are.
        fan_in: how many outputs one reduce job takes at most.
    """
    sizes: list[int] = []
    while not sizes or count > 1:
        count = max(math.ceil(count / fan_in), 1)
        sizes.append(count)
    return sizes


class Batch:
    """A batch of jobs, one for each input.

    Args:
        client: whose connections it uses.
        batch_id: the batch's id.
    """

    def __init__(self, client: Client, batch_id: str) -> None:
        self.id = batch_id
        self._client = client

    def __repr__(self) -> str:
        return f"Batch({self.id!r})"

    @property
    def status(self) -> BatchRecord:
        """How the batch stands now: counts per state, total, and its end."""
        return self._client.ledger.batch(self.id)

    def job(self, index: int) -> JobHandle:
        """Return a handle on the job for one input, counted from 0."""
        return self._client.handle(batch_job_id(self.id, index))

    def records(self, *states: JobState) -> Iterator[JobRecord]:
        """Yield the records of the batch's jobs in the order of its inputs.

        Args:
            states: only jobs in these states; none given means all.
        """
        ledger = self._client.ledger
        for numbers in _pages(self.status.span):
            for record in ledger.find([batch_job_id(self.id, index) for index in numbers]):
                if not states or record.state in states:
                    yield record

    @property
    def failed(self) -> list[JobRecord]:
        """Records of the jobs that did not succeed (failed, cancelled or skipped)."""
        return list(self.records(JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED))

    def results(
        self,
        *,
        ordered: bool = False,
        timeout: float | None = None,
        offset: int = 0,
        tick: Callable[[], None] | None = None,
    ) -> Iterator[JobResult]:
        """Yield the results of the batch's jobs, good and bad, until all have ended.

        Args:
            ordered: True yields them in the order of the inputs, False as they arrive.
            timeout: seconds to wait in all; None waits for ever.
            offset: how many to pass over, in the order in which they arrive: what was seen before.
            tick: called about every two seconds at least while it waits, such as to show how the batch stands.

        Raises:
            WaitTimeout: the time is over; the batch goes on.
        """
        if not ordered:
            for job_id in self._ended(timeout, offset, tick):
                yield self._client.result(job_id)
            return
        held: dict[int, JobResult] = {}
        wanted = 0
        for job_id in self._ended(timeout, 0, tick):
            result = self._client.result(job_id)
            held[result.index or 0] = result
            while wanted in held:
                yield held.pop(wanted)
                wanted += 1
        # Where Redis has lost records there are gaps.
        yield from (held[index] for index in sorted(held))

    def _ended(self, timeout: float | None, seen: int = 0, tick: Callable[[], None] | None = None) -> Iterator[str]:
        deadline = None if timeout is None else time.monotonic() + timeout
        ledger = self._client.ledger
        while True:
            # A lost connection ends the subscription; the list says what was missed meanwhile.
            with ledger.batch_changes(self.id) as changes:
                while True:
                    status = self.status
                    while ids := ledger.ended_of(self.id, seen):
                        seen += len(ids)
                        yield from ids
                    if status.done:
                        return
                    if tick is not None:
                        tick()
                    pause = _LOOK_AGAIN
                    if deadline is not None:
                        pause = min(pause, deadline - time.monotonic())
                        if pause <= 0:
                            raise WaitTimeout(f"{status.sentence()} after {timeout:g} s; it goes on")
                    try:
                        changes.next(pause)
                    except LedgerUnavailable:
                        break

    def wait(
        self,
        timeout: float | None = None,
        *,
        check: bool = True,
        progress: bool | Callable[[BatchRecord], None] = False,
    ) -> BatchRecord:
        """Wait until all jobs of the batch have ended.

        Args:
            timeout: seconds to wait; None waits for ever.
            check: raise when fewer jobs succeeded than the quorum asks for.
            progress: True draws a progress bar on standard error (needs rich); a function is called with the batch's
                record whenever a job has ended.

        Raises:
            BatchFailed: the quorum was missed; the text counts the causes.
            WaitTimeout: the time is over; the batch goes on.
        """
        if progress is True:
            self._draw(timeout)
        else:
            told = 0.0
            for _ in self._ended(timeout):
                if callable(progress) and time.monotonic() - told > 0.1:
                    told = time.monotonic()
                    progress(self.status)
        status = self.status
        if callable(progress):
            progress(status)
        if check and status.state is not JobState.SUCCEEDED:
            raise BatchFailed(f"{status.sentence()}; {self.reasons()}", status)
        return status

    def _draw(self, timeout: float | None) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            for _ in self._ended(timeout):
                pass
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(self.status.name or "jobs", total=self.status.total)
            for _ in self._ended(timeout):
                bar.advance(task)

    def reasons(self) -> str:
        """Return why jobs did not succeed, counted: ``3 x exit code 4, 1 x image``."""
        counts: Counter[str] = Counter()
        for record in self.records(JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED):
            last = record.last
            code = last.exit_code if last else None
            counts[f"exit code {code}" if code else str(last.cause if last else record.state.lower())] += 1
        return ", ".join(f"{count:,} x {what}" for what, count in counts.most_common()) or "no failures"

    def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel every job of the batch that has not ended; none is added or started any more.

        It is durable: should this process die in the middle, a worker cancels the rest.

        Returns:
            How many jobs that were.
        """
        self._client.ledger.cancel_batch(self.id, why)
        return cancel_jobs(self._client.ledger, self.id)

    def retry_failed(self, **changes: Any) -> Batch:
        """Submit the jobs that did not succeed once more, as a new batch whose inputs keep their order.

        Args:
            changes: fields of the description to be replaced, such as ``limits={"memory": "2G"}``; of ``env`` only the
                variables given. JAAS_BATCH_ID and JAAS_INDEX still name the input: of which batch, and which one.

        Raises:
            SpecError: the batch has not ended, or a change is not valid.
        """
        status = self.status
        if not status.done:
            raise SpecError(f"batch {self.id} has not ended; its failed jobs can be retried when it has")
        failed = [record for record in self.failed if record.spec is not None]

        def changed(spec: JobSpec) -> JobSpec:
            wire = spec.to_wire()
            if isinstance(env := changes.get("env"), Mapping):
                return JobSpec.parse({**wire, **changes, "env": {**wire.get("env", {}), **env}})
            return JobSpec.parse({**wire, **changes})

        jobs = ((changed(r.spec) if r.spec else None, r.id) for r in failed)
        batch_id = batch_id_of(None, "")
        self._client.ledger.create_batch(
            batch_id,
            name=status.name,
            max_parallel=status.max_parallel,
            min_success=status.min_success,
            speculate=status.speculate,
        )
        made = (
            NewJob(batch_job_id(batch_id, i), spec, self._client.queue, batch=batch_id, index=i, replay_of=old)
            for i, (spec, old) in enumerate(jobs)
        )
        self._client.submit_records(made)
        self._client.ledger.close_batch(batch_id, len(failed))
        return Batch(self._client, batch_id)


def cancel_jobs(ledger: Ledger, batch_id: str) -> int:
    """Cancel the open jobs of a batch that is marked as cancelled; return how many there were.

    Args:
        ledger: the records.
        batch_id: the batch's id.
    """
    batch = ledger.batch(batch_id)
    count = 0
    for numbers in _pages(batch.span):
        records = ledger.find([batch_job_id(batch_id, index) for index in numbers])
        if ids := [record.id for record in records if not record.terminal]:
            ledger.cancel_many(ids, batch.cancelled)
            count += len(ids)
    ledger.batch_cancelled(batch_id)
    return count


def _pages(count: int) -> Iterator[range]:
    for first in range(0, count, _CHUNK):
        yield range(first, min(first + _CHUNK, count))


class MapReduce:
    """A batch of maps and the tree of reduces over its outputs.

    Args:
        maps: the batch of maps.
        levels: the batches of reduces, the last of which has one job.
    """

    def __init__(self, maps: Batch, levels: list[Batch]) -> None:
        self.maps = maps
        self.levels = levels

    @property
    def final(self) -> JobHandle:
        """The last reduce job."""
        return self.levels[-1].job(0)

    def wait(
        self, timeout: float | None = None, *, progress: bool | Callable[[BatchRecord], None] = False
    ) -> JobResult:
        """Wait for the last reduce and return its result.

        Raises:
            BatchFailed: too few maps succeeded, or a reduce failed.
            WaitTimeout: the time is over; the jobs go on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for batch in (self.maps, *self.levels):
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            batch.wait(left, progress=progress if batch is self.maps else False)
        return self.final.result()

    def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel all that has not ended; return how many jobs that were."""
        return sum(batch.cancel(why) for batch in (*reversed(self.levels), self.maps))


def submit_map(
    client: Client,
    spec: JobSpec,
    inputs: Iterable[Any],
    *,
    batch_id: str,
    fields: dict[str, Any],
    after: tuple[tuple[str, str], ...] = (),
    after_each: tuple[str, str] | None = None,
    as_file: bool | None = None,
) -> int:
    """Submit one job for each input; return how many. Repeating it adds only what is missing.

    Args:
        client: the client.
        spec: the description, with places for the input.
        inputs: the inputs, read one by one.
        batch_id: the batch's id.
        fields: fields of the batch's record.
        after: what each job comes after.
        after_each: id of a batch, and on what: job i comes after job i of that batch.
        as_file: see ``templates.fill``.
    """
    # The description must be good before anything is written.
    client.ledger.create_batch(batch_id, **fields)

    def made() -> Iterator[NewJob]:
        for index, item in enumerate(inputs):
            job_id = batch_job_id(batch_id, index)
            filled = fill(spec, item, index, batch_id, as_file=as_file, keep=partial(client._kept, job_id))
            each = ((batch_job_id(after_each[0], index), after_each[1]),) if after_each else ()
            yield NewJob(job_id, filled, client.queue, batch=batch_id, index=index, after=after + each)

    total = client.submit_records(made())
    client.ledger.close_batch(batch_id, total)
    return total


def submit_reduces(client: Client, spec: JobSpec, maps_id: str, total: int, fan_in: int) -> list[Batch]:
    """Submit the reduces over a batch's outputs; return their batches. Repeating it adds only what is missing."""
    levels: list[Batch] = []
    source, outputs = maps_id, total
    for number, size in enumerate(reduce_sizes(total, fan_in)):
        batch_id = str(uuid.uuid5(uuid.UUID(maps_id), f"reduce-{number}"))
        client.ledger.create_batch(batch_id, name=f"reduce {number + 1}", reduces=source)
        jobs = [
            NewJob(
                batch_job_id(batch_id, index),
                JobSpec.parse(
                    {
                        **spec.to_wire(),
                        "gather": {
                            "batch": source,
                            "first": index * fan_in,
                            "count": max(min(fan_in, outputs - index * fan_in), 0),
                        },
                    }
                ),
                client.queue,
                batch=batch_id,
                index=index,
                after=((f"batch:{source}", "success"),),
            )
            for index in range(size)
        ]
        client.submit_records(jobs)
        client.ledger.close_batch(batch_id, size)
        levels.append(Batch(client, batch_id))
        source, outputs = batch_id, size
    return levels

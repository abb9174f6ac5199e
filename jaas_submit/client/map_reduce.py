"""Submitting a batch: one job for each input, and reduces over their outputs."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from jaas_submit.batch_model.new_job import NewJob, StartTime
from jaas_submit.batch_model.templates import fill
from jaas_submit.client.batch import Batch, Show, shown
from jaas_submit.client.enqueue import enqueue_many
from jaas_submit.client.job_handle import JobHandle
from jaas_submit.client.session import Session
from jaas_submit.client.wait import batch_records
from jaas_submit.errors import SpecError
from jaas_submit.model.ids import batch_id_of, batch_job_id
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.result import JobResult
from jaas_submit.model.speculation import Speculation

__all__ = ["MapReduce", "NewBatch", "reduce_sizes", "submit_map", "submit_reduces"]


_AT_ONCE: Final = StartTime()


class MapReduce:
    """A batch of maps and the tree of reduces over its outputs.

    Args:
        session: the connections.
        maps: the batch of maps.
        levels: the batches of reduces, the last of which has one job.
    """

    def __init__(self, session: Session, maps: Batch, levels: list[Batch]) -> None:
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
        batches = [batch.id for batch in (self.maps, *self.levels)]
        with shown(progress) as show:
            for status in self._session.run(batch_records(self._session.ledger, batches, timeout)):
                if status.id == self.maps.id:
                    show(status)
        return self.final.result()

    def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel the jobs that have not ended; return their number.

        Args:
            why: the reason, kept in the records.
        """
        return sum(batch.cancel(why) for batch in (*reversed(self.levels), self.maps))


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch that is to be submitted; see ``Client.map`` for the fields.

    Raises:
        SpecError: ``max_parallel`` or ``min_success`` is out of bounds, or ``speculate`` is not valid.
    """

    name: str
    max_parallel: int | None
    min_success: float
    key: str | None
    speculate: Speculation | float | None

    def __post_init__(self) -> None:
        if self.max_parallel is not None and self.max_parallel < 1:
            raise SpecError("max_parallel: must be 1 at least; leave it out for no limit", field="max_parallel")
        if not 0 <= self.min_success <= 1:
            raise SpecError("min_success: must be between 0 and 1, such as 0.95", field="min_success")

    def create(self, session: Session, spec: JobSpec) -> str:
        """Write the batch's record, if there is none yet; return its id.

        Args:
            session: the connections.
            spec: the description of its jobs.

        Raises:
            SpecError: its jobs may not run twice.
        """
        plan = Speculation.of(self.speculate)
        if plan and not spec.idempotent:
            raise SpecError(
                "speculate: two containers of one job may run at once; if that does no harm, say idempotent=True in "
                "the description",
                field="speculate",
            )
        batch_id = batch_id_of(self.key, session.ledger.prefix)
        create = partial(
            session.ledger.batches.create,
            batch_id,
            name=self.name,
            max_parallel=self.max_parallel or 0,
            min_success=self.min_success,
            speculate=plan,
        )
        session.write(create)
        return batch_id


def submit_map(
    session: Session,
    batch_id: str,
    spec: JobSpec,
    inputs: Iterable[Any],
    *,
    after: tuple[tuple[str, str], ...] = (),
    after_each: tuple[str, str] | None = None,
    as_file: bool | None = None,
    start: StartTime = _AT_ONCE,
) -> int:
    """Submit one job for each input; return how many. Repeating it adds only what is missing.

    Args:
        session: the connections.
        batch_id: id of the batch, whose record is there.
        spec: the description, with placeholders for the input.
        inputs: the inputs, read one by one.
        after: what each job comes after.
        after_each: id of a batch and the required outcome: job i comes after job i of that batch.
        as_file: see ``templates.fill``.
        start: when they may start.

    Raises:
        SpecError: a description is not valid with its input, or the batch takes no more jobs.
        UnknownJob: a job or batch that they come after is unknown.
        LedgerUnavailable: Redis does not answer.
    """

    def made() -> Iterator[NewJob]:
        for index, item in enumerate(inputs):
            job_id = batch_job_id(batch_id, index)
            filled = fill(spec, item, index, batch_id, as_file=as_file, keep=partial(session.keep, job_id))
            each = ((batch_job_id(after_each[0], index), after_each[1]),) if after_each else ()
            yield NewJob(
                job_id,
                filled,
                session.queue,
                batch=batch_id,
                index=index,
                after=after + each,
                not_before=start.not_before,
                delay=start.delay,
            )

    total = enqueue_many(session, made())
    session.ledger.batches.close(batch_id, total)
    return total


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


def submit_reduces(session: Session, spec: JobSpec, maps_id: str, total: int, fan_in: int) -> list[Batch]:
    """Submit the reduces over a batch's outputs; return their batches. Repeating it adds only what is missing.

    Args:
        session: the connections.
        spec: the description of each reduce.
        maps_id: id of the batch whose outputs are reduced.
        total: how many jobs that batch has.
        fan_in: how many outputs one reduce job takes at most.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    levels: list[Batch] = []
    source, outputs = maps_id, total
    for number, size in enumerate(reduce_sizes(total, fan_in)):
        batch_id = str(uuid.uuid5(uuid.UUID(maps_id), f"reduce-{number}"))
        session.ledger.batches.create(batch_id, name=f"reduce {number + 1}", reduces=source)
        jobs = []
        for index in range(size):
            first = index * fan_in
            gather = {"batch": source, "first": first, "count": max(min(fan_in, outputs - first), 0)}
            jobs.append(
                NewJob(
                    batch_job_id(batch_id, index),
                    JobSpec.parse({**spec.to_wire(), "gather": gather}),
                    session.queue,
                    batch=batch_id,
                    index=index,
                    after=((f"batch:{source}", "success"),),
                )
            )
        enqueue_many(session, jobs)
        session.ledger.batches.close(batch_id, size)
        levels.append(Batch(session, batch_id))
        source, outputs = batch_id, size
    return levels

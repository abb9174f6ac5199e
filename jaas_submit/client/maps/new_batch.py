"""A batch that is to be submitted, and how its inputs become jobs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from jaas_submit.batch_model.failure_limit import MaxFailures, max_failures_text
from jaas_submit.batch_model.input_keys import KeyOf
from jaas_submit.batch_model.new_job import NewJob, StartTime
from jaas_submit.batch_model.templates import fill
from jaas_submit.client.files.send import send_files
from jaas_submit.client.maps.per_node import on_node
from jaas_submit.client.session import Session
from jaas_submit.connection.caller import caller
from jaas_submit.errors import SpecError
from jaas_submit.model.ids import batch_id_of, batch_job_id
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.validation import plain_input

__all__ = ["NewBatch", "Submitted", "Template"]

_AT_ONCE: Final = StartTime()


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch that is to be submitted; see ``Client.map`` for the fields.

    Raises:
        SpecError: a field is out of bounds or not valid.
    """

    name: str = ""
    max_parallel: int | None = None
    min_success: float | None = None
    max_failures: MaxFailures | None = None
    key: str | None = None
    key_of: KeyOf | None = None
    again: bool = False
    speculate: Speculation | float | None = None

    def __post_init__(self) -> None:
        if self.max_parallel is not None and self.max_parallel < 1:
            raise SpecError("max_parallel: must be 1 at least; leave it out for no limit", field="max_parallel")
        if self.min_success is not None and not 0 <= self.min_success <= 1:
            raise SpecError("min_success: must be between 0 and 1, such as 0.95", field="min_success")
        max_failures_text(self.max_failures)
        for name in ("key_of", "again"):
            if getattr(self, name) and not self.key:
                raise SpecError(f"{name}: needs a key, by which the batch is found again", field=name)

    def settings(self) -> dict[str, Any]:
        """Return the fields of the batch's record."""
        return {
            "name": self.name,
            "max_parallel": self.max_parallel or 0,
            "min_success": self.min_success,
            "max_failures": max_failures_text(self.max_failures),
            "speculate": Speculation.of(self.speculate),
        }

    def create(self, session: Session, spec: JobSpec) -> tuple[str, JobSpec]:
        """Write the batch's record, if there is none yet; return its id, and the description with its files sent.

        Args:
            session: the connections.
            spec: the description of its jobs.

        Raises:
            QueueClosed: it is new, and the queue is draining.
            SpecError: its jobs may not run twice, a file cannot be sent, or nobody could hand out their files.
            StoreUnavailable: a file could not be stored.
        """
        session.check([spec])
        if Speculation.of(self.speculate) and not spec.idempotent:
            raise SpecError(
                "speculate: two containers of one job may run at once; if that does no harm, say idempotent=True in "
                "the description",
                field="speculate",
            )
        batch_id = batch_id_of(self.key, session.ledger.prefix)
        if not (self.key and session.ledger.batches.find([batch_id])):
            session.ledger.queues.check_takes_jobs(session.queue)
        sent = send_files(session, spec, f"batch:{batch_id}")  # once for all of its jobs
        session.write(partial(session.ledger.batches.create, batch_id, by=caller(), **self.settings()))
        return batch_id, sent


class Submitted(NamedTuple):
    """What a call has submitted."""

    total: int
    """How many inputs it has."""
    existing: int = 0
    """For how many of them there was a job already."""
    difference: str = ""
    """What differs between the batch that was there and this call, in one sentence; empty if nothing does."""


@dataclass(frozen=True, slots=True)
class Template:
    """How inputs become jobs.

    Args:
        spec: the description, with placeholders for the input.
        after: what each job comes after.
        after_each: id of a batch and the required outcome: the job for input i comes after that of input i there.
        as_file: see ``templates.fill``.
        start: when they may start.
        per_node: each input is a node, on which the job is to run (see ``per_node.node_inputs``).
    """

    spec: JobSpec
    after: tuple[tuple[str, str], ...] = ()
    after_each: tuple[str, str] | None = None
    as_file: bool | None = None
    start: StartTime = _AT_ONCE
    per_node: bool = False

    def job(self, session: Session, batch_id: str, item: Any, place: int, **fields: Any) -> NewJob:
        """Return the job for an input.

        Args:
            session: the connections.
            batch_id: id of the batch.
            item: the input, as the producer's program has it.
            place: its number in the batch.
            fields: further fields of the job.

        Raises:
            SpecError: the description is not valid with its input.
        """
        job_id = fields.pop("job_id", None) or batch_job_id(batch_id, place)
        item = plain_input(item, f"inputs.{place}")
        spec = on_node(self.spec, item) if self.per_node else self.spec
        filled = fill(spec, item, place, batch_id, as_file=self.as_file, keep=partial(session.keep, job_id))
        return NewJob(
            job_id,
            filled,
            session.queue,
            batch=batch_id,
            index=place,
            not_before=self.start.not_before,
            delay=self.start.delay,
            **fields,
        )

    def dependencies(self, session: Session, first: int, count: int) -> list[tuple[tuple[str, str], ...]]:
        """Return what the jobs for some consecutive inputs come after."""
        if self.after_each is None:
            return [self.after] * count
        batch_id, on = self.after_each
        ledger = session.ledger
        places = ledger.queries.batch_order(batch_id, first, count) or []
        places += range(first + len(places), first + count)
        return [(*self.after, (one, on)) for one in ledger.queries.batch_job_ids(batch_id, places)]

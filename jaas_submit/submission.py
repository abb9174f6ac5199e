"""Enqueueing: the record and the message. And what a job may come after."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, get_args

import celery

from jaas_submit import broker
from jaas_submit.batch import Batch
from jaas_submit.errors import LedgerUnavailable, SpecError
from jaas_submit.handle import JobHandle
from jaas_submit.ledger import Created, Ledger, NewJob
from jaas_submit.records import JobRecord
from jaas_submit.spec import JobSpec
from jaas_submit.states import JobState
from jaas_submit.tracing import producing

__all__ = ["Dependency", "On", "dependencies", "enqueue", "enqueue_many", "spec_again"]

_CHUNK: Final = 500
"""Jobs that are written in one transaction: Redis serves nobody else for some 20 ms."""

Dependency = JobHandle | Batch | str
"""What a job may come after: a handle, a batch, or a job's id."""

On = Literal["success", "failure", "finish"]
"""How a job or batch must have ended for what comes after it to run."""


def dependencies(after: Sequence[Dependency], on: On) -> tuple[tuple[str, str], ...]:
    """Return what the ledger is told of a job's dependencies: id (or ``batch:ID``) and on what, for each.

    Raises:
        SpecError: one of the two is nothing of the kind.
    """
    if on not in get_args(On):
        raise SpecError(f"on: must be success, failure or finish, not {on!r}", field="on")
    if isinstance(after, str | JobHandle | Batch):
        raise SpecError("after: give a list, such as [handle]", field="after")
    return tuple((f"batch:{one.id}" if isinstance(one, Batch) else getattr(one, "id", str(one)), on) for one in after)


def spec_again(record: JobRecord, changes: Mapping[str, Any]) -> JobSpec:
    """Return the description with which a job is replayed.

    Args:
        record: the job.
        changes: fields to be replaced; see ``Client.replay``.

    Raises:
        SpecError: the job has not ended, its record holds no description, or a change is not valid.
    """
    if not record.terminal:
        raise SpecError(f"job {record.id} is {record.state}; only a job that has ended can be replayed")
    if record.spec is None:
        raise SpecError(f"job {record.id} had no valid description, so that there is nothing to replay")
    return record.spec.changed(changes)


def enqueue(ledger: Ledger, app: celery.Celery | None, job: NewJob) -> Created:
    """Write a job's record and its message.

    Args:
        ledger: the records.
        app: publishes the message when the record is there; None puts it into a queue of the ledger's own Redis, in one
            step with the record.
        job: what is written.

    Returns:
        What became of it.

    Raises:
        LedgerUnavailable: Redis did not take the record. A message that an app did not take is no error.
    """
    with producing("jaas.submit", jaas_job_id=job.job_id) as traceparent:
        made = ledger.submission.create_many([_complete(job, traceparent, app)])[0]
        # Its own id although it is not new: the first reply was lost, and the record is ours.
        if app is not None and made.job_id == job.job_id and made.state is JobState.QUEUED:
            _publish(app, [job])
    return made


def enqueue_many(ledger: Ledger, app: celery.Celery | None, jobs: Iterable[NewJob]) -> int:
    """Write many records and their messages, in chunks; see ``Client.submit_records``."""
    count = 0
    rest = iter(jobs)
    while chunk := list(itertools.islice(rest, _CHUNK)):
        with producing("jaas.submit", jaas_jobs=len(chunk)) as traceparent:
            made = ledger.submission.create_many([_complete(job, traceparent, app) for job in chunk])
            if app is not None:
                answers = zip(chunk, made, strict=True)
                _publish(app, [job for job, answer in answers if answer.new and answer.state is JobState.QUEUED])
        count += len(chunk)
    return count


def _complete(job: NewJob, traceparent: str, app: celery.Celery | None) -> NewJob:
    wakeup = ""
    if app is None and job.spec is not None:
        wakeup = broker.packed(job.job_id, job.spec, job.queue, job.batch, job.index)
    return replace(job, traceparent=traceparent or job.traceparent, wakeup=wakeup)


def _publish(app: celery.Celery, jobs: Sequence[NewJob]) -> None:
    # The record is the job; should the message not get through, a worker takes the record up without it.
    with contextlib.suppress(LedgerUnavailable):
        broker.publish_many(app, jobs)

"""Submitting ended jobs again: one job, or the jobs of a batch that did not succeed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.client.enqueue import enqueue, enqueue_many
from jaas_submit.client.queries import UNSUCCESSFUL, batch_jobs
from jaas_submit.client.session import Session
from jaas_submit.errors import SpecError
from jaas_submit.model.ids import batch_id_of, batch_job_id
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import JobRecord

__all__ = ["replay_failed", "replay_job", "replayed_spec"]


def replayed_spec(record: JobRecord, changes: Mapping[str, Any]) -> JobSpec:
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


def replay_job(session: Session, job_id: str, changes: Mapping[str, Any]) -> str:
    """Replay a job; return the new one's id. See ``Client.replay``."""
    record = session.ledger.queries.get(job_id)
    new = NewJob(str(uuid.uuid4()), replayed_spec(record, changes), record.queue, replay_of=job_id)
    return enqueue(session, new).job_id


def replay_failed(session: Session, batch_id: str, changes: Mapping[str, Any]) -> str:
    """Replay the jobs of a batch that did not succeed; return the new batch's id. See ``Batch.retry_failed``."""
    status = session.ledger.batches.get(batch_id)
    if not status.done:
        raise SpecError(f"batch {batch_id} has not ended; its failed jobs can be retried when it has")
    failed = [(r.id, r.spec.changed(changes)) for r in batch_jobs(session.ledger, batch_id, UNSUCCESSFUL) if r.spec]
    new_id = batch_id_of(None, "")
    session.ledger.batches.create(
        new_id,
        name=status.name,
        max_parallel=status.max_parallel,
        min_success=status.min_success,
        speculate=status.speculate,
    )
    enqueue_many(
        session,
        (
            NewJob(batch_job_id(new_id, index), spec, session.queue, batch=new_id, index=index, replay_of=old)
            for index, (old, spec) in enumerate(failed)
        ),
    )
    session.ledger.batches.close(new_id, len(failed))
    return new_id

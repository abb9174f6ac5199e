"""Submitting ended jobs again: one job, or the jobs of a batch that did not succeed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.client.enqueue import CHUNK, enqueue, enqueue_many
from jaas_submit.client.maps.reduces import renew_reduces
from jaas_submit.client.queries import UNSUCCESSFUL, batch_jobs
from jaas_submit.client.session import Session
from jaas_submit.errors import SpecError
from jaas_submit.model.ids import batch_id_of, batch_job_id, retry_id_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import JobRecord
from jaas_submit.model.states import JobState

__all__ = ["replay_failed", "replay_in_place", "replay_job", "replayed_spec"]


def replayed_spec(session: Session, record: JobRecord, changes: Mapping[str, Any]) -> JobSpec:
    """Return the description with which a job is replayed.

    Args:
        session: the connections.
        record: the job.
        changes: fields to be replaced; see ``Client.replay``.

    Raises:
        SpecError: the job has not ended, its record holds no description, or a change is not valid; or the client
            signs, and its key has not signed that description.
    """
    if not record.terminal:
        raise SpecError(f"job {record.id} is {record.state}; only a job that has ended can be replayed")
    spec = session.spec_again(record)
    if spec is None:
        raise SpecError(f"job {record.id} had no valid description, so that there is nothing to replay")
    return spec.changed(changes)


def replay_job(session: Session, job_id: str, changes: Mapping[str, Any]) -> str:
    """Replay a job; return the new one's id. See ``Client.replay``."""
    record = session.ledger.queries.get(job_id)
    new_id = str(uuid.uuid4())
    spec = replayed_spec(session, record, _kept(session, new_id, changes))
    return enqueue(session, NewJob(new_id, spec, record.queue, replay_of=job_id, changed=_names(changes))).job_id


def _names(changes: Mapping[str, Any]) -> str:
    return ", ".join(sorted(changes))


def _kept(session: Session, job_id: str, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**changes, "input": session.keep(job_id, changes["input"])} if changes.get("input") is not None else changes


def replay_in_place(session: Session, job_ids: Sequence[str], changes: Mapping[str, Any]) -> dict[str, str]:
    """Replay ended jobs of batches so that the new jobs take their places; see ``Client.replay``.

    Args:
        session: the connections.
        job_ids: their ids, or those of jobs that had the places before them.
        changes: fields to be replaced.

    Returns:
        The id of the job in the place of each; of one that still runs or has succeeded since, if another call was
        first.

    Raises:
        UnknownJob: there is no record.
        SpecError: a job is in no batch, has not ended, no longer counts, or a change is not valid.
    """
    places: dict[str, str] = {}
    jobs: list[NewJob] = []
    batches: dict[str, None] = {}
    for asked in (session.ledger.queries.get(job_id) for job_id in job_ids):
        record = _in_place(session, asked)
        batches[record.batch] = None
        if record.id != asked.id and (not record.terminal or record.state is JobState.SUCCEEDED):
            places[asked.id] = record.id
            continue
        places[asked.id] = retry_id_of(record.id)
        if places[asked.id] not in {job.job_id for job in jobs}:
            jobs.append(_replacement(session, record, changes))
    _take_places(session, list(batches), jobs)
    return places


def _take_places(session: Session, batch_ids: Sequence[str], jobs: Sequence[NewJob]) -> None:
    """Enqueue jobs that take the places of others, and then the reduces over the batches' new outputs.

    If this process dies in between, the next replay in place submits the reduces, and so does whoever reads them.
    """
    in_parts = len(jobs) > CHUNK
    for batch_id in batch_ids if in_parts else ():
        session.ledger.batches.spare_ended(batch_id)
    enqueue_many(session, jobs)
    for batch_id in batch_ids:
        if in_parts:
            session.ledger.batches.spare_ended(batch_id, over=True)
        renew_reduces(session, batch_id)


def _in_place(session: Session, record: JobRecord) -> JobRecord:
    """Return the record of the job that has a job's place in its batch now."""
    if not record.batch or record.index is None or record.copy_of:
        raise SpecError(
            f"in_place: job {record.id} has no place in a batch; replay it without in_place", field="in_place"
        )
    (now,) = session.ledger.queries.batch_job_ids(record.batch, [record.index])
    found = record if now == record.id else session.ledger.queries.get(now)
    if found.left:
        raise SpecError(f"in_place: job {found.id} does not count in its batch: {found.left}", field="in_place")
    return found


def _replacement(session: Session, record: JobRecord, changes: Mapping[str, Any]) -> NewJob:
    new_id = retry_id_of(record.id)
    return NewJob(
        new_id,
        replayed_spec(session, record, _kept(session, new_id, changes)),
        record.queue,
        batch=record.batch,
        index=record.index or 0,
        replay_of=record.id,
        replaces=record.id,
        changed=_names(changes),
    )


def replay_failed(session: Session, batch_id: str, changes: Mapping[str, Any], *, in_place: bool = False) -> str:
    """Replay the jobs of a batch that did not succeed; return the batch's id. See ``Batch.retry_failed``."""
    status = session.ledger.batches.get(batch_id)
    if in_place:
        _replay_failed_in_place(session, batch_id, changes)
        return batch_id
    if not status.done:
        raise SpecError(f"batch {batch_id} has not ended; its failed jobs can be retried when it has")
    records = batch_jobs(session.ledger, batch_id, UNSUCCESSFUL)
    failed = [(record.id, replayed_spec(session, record, changes)) for record in records if record.spec]
    new_id = batch_id_of(None, "")
    session.ledger.queues.check_takes_jobs(session.queue)
    session.ledger.batches.create(
        new_id,
        name=status.name,
        max_parallel=status.max_parallel,
        min_success=status.min_success,
        max_failures=status.max_failures or None,
        speculate=status.speculate,
    )
    names = _names(changes)
    enqueue_many(
        session,
        (
            NewJob(
                batch_job_id(new_id, index),
                spec,
                session.queue,
                batch=new_id,
                index=index,
                replay_of=old,
                changed=names,
            )
            for index, (old, spec) in enumerate(failed)
        ),
    )
    session.ledger.batches.close(new_id, len(failed))
    return new_id


def _replay_failed_in_place(session: Session, batch_id: str, changes: Mapping[str, Any]) -> None:
    records = batch_jobs(session.ledger, batch_id, UNSUCCESSFUL)
    _take_places(session, [batch_id], [_replacement(session, record, changes) for record in records if record.spec])

"""Enqueueing: the records, and their wake-up messages."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.client.files.send import with_sent_files
from jaas_submit.client.session import Session
from jaas_submit.client.tracing import producing
from jaas_submit.connection.caller import caller
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Created
from jaas_submit.messaging.messages import packed
from jaas_submit.model.states import JobState
from jaas_submit.signing import Signer, ToSign

if TYPE_CHECKING:
    import celery

__all__ = ["CHUNK", "enqueue", "enqueue_many"]

CHUNK: Final = 500
"""Jobs that are written in one transaction, which blocks Redis for some 20 ms."""


def enqueue(session: Session, job: NewJob) -> Created:
    """Write a job's record and its message.

    Without a separate publisher the message is put into a queue of the ledger's Redis, in one step with the record.
    Otherwise it is published after the record is written.

    Args:
        session: the connections.
        job: what is written.

    Returns:
        The result.

    Raises:
        UnknownJob: a job or batch that it comes after is unknown.
        SpecError: its batch takes no more jobs, or nobody could hand out its files.
        LedgerUnavailable: Redis did not confirm the record. A message that could not be published is no error.
    """
    session.check([job.spec])
    (job,) = with_sent_files(session, [job])
    with producing("jaas.submit", jaas_job_id=job.job_id) as traceparent:
        jobs = _complete([job], traceparent, session)
        made = session.write(lambda: session.ledger.submission.create_many(jobs))[0]
        # Its own id although it is not new: an earlier reply was lost, and the record is this job's.
        if session.publisher is not None and made.job_id == job.job_id and made.state is JobState.QUEUED:
            _publish(session.publisher, [job])
    return made


def enqueue_many(session: Session, jobs: Iterable[NewJob]) -> int:
    """Write many records and their messages, in chunks; see ``Client.submit_records``."""
    count = 0
    rest = iter(jobs)
    while taken := list(itertools.islice(rest, CHUNK)):
        session.check(job.spec for job in taken)
        chunk = with_sent_files(session, taken)
        with producing("jaas.submit", jaas_jobs=len(chunk)) as traceparent:
            jobs = _complete(chunk, traceparent, session)
            made = session.write(partial(session.ledger.submission.create_many, jobs))
            if session.publisher is not None:
                answers = zip(chunk, made, strict=True)
                new = [job for job, answer in answers if answer.new and answer.state is JobState.QUEUED]
                _publish(session.publisher, new)
        count += len(chunk)
    return count


def _complete(jobs: Sequence[NewJob], traceparent: str, session: Session) -> list[NewJob]:
    made = []
    tokens, who = _signed(jobs, session.signer), caller()
    for job in jobs:
        wakeup = ""
        if session.publisher is None and job.spec is not None:
            wakeup = packed(job.job_id, job.spec, job.queue, job.batch, job.index)
        trace = traceparent or job.traceparent
        made.append(replace(job, traceparent=trace, wakeup=wakeup, by=who, signed=tokens.get(job.job_id, job.signed)))
    return made


def _signed(jobs: Sequence[NewJob], signer: Signer | None) -> dict[str, str]:
    """Return job id -> token of those that are to be signed."""
    if signer is None:
        return {}
    now = time.time()
    wanted = [
        ToSign(job.spec.to_json(), job.job_id, job.not_before if job.delay is None else now + job.delay)
        for job in jobs
        if job.spec is not None and not job.signed
    ]
    return dict(zip((one.job_id for one in wanted), signer.sign_many(wanted), strict=True))


def _publish(publisher: celery.Celery, jobs: Sequence[NewJob]) -> None:
    from jaas_submit.messaging.publisher import publish_many

    # The record is the job; if the message is lost, a worker republishes the job.
    with contextlib.suppress(LedgerUnavailable):
        publish_many(publisher, jobs)

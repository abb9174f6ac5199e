"""The ledger for producers: new jobs, and cancellations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from jaas_submit.batch_model.new_job import KEY_TTL, NewJob
from jaas_submit.connection.connection import answers, as_text, redis_errors
from jaas_submit.errors import BatchClosed, LedgerUnavailable, SpecError, UnknownJob
from jaas_submit.ledger.base import Part, queue_closed
from jaas_submit.ledger.encoding import cancelled
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.states import JobState, read_as
from jaas_submit.model.wire_names import TRACEPARENT

__all__ = ["Created", "Submission"]

MOST_REVOKED: Final = 10_000
"""Ids of revoked jobs without a record that are kept."""


class Created(NamedTuple):
    """The result for a new job."""

    new: bool
    """False: there is a job with this id or key already."""
    job_id: str
    state: JobState
    """QUEUED: its message has to be published, unless it had a ``wakeup``. WAITING and SKIPPED: not. Empty: a known
    key's record has expired."""


class Submission(Part):
    """Operations of producers: submit and cancel jobs."""

    def create(
        self, job_id: str, spec: JobSpec | None, queue: str, task_id: str = "", message: str = "", signed: str = ""
    ) -> bool:
        """Write the record of a new job, in state QUEUED.

        Args:
            job_id: the job's id.
            spec: the description; None if a foreign message had no valid one.
            queue: the queue that its message goes to.
            task_id: Celery's task id if it differs from the job's id.
            message: the Celery message as JSON, if it cannot be rebuilt (foreign producers).
            signed: the token that holds the description; empty for an unsigned one.

        Returns:
            Whether the record is new; False leaves the existing one unchanged.
        """
        return self.create_once(job_id, spec, queue, task_id=task_id, message=message, signed=signed) is None

    def create_once(
        self,
        job_id: str,
        spec: JobSpec | None,
        queue: str,
        *,
        key: str = "",
        key_ttl: float = KEY_TTL,
        task_id: str = "",
        message: str = "",
        replay_of: str = "",
        signed: str = "",
    ) -> str | None:
        """Write the record of a new job unless there is one with this id or this key; see ``create``.

        Args:
            job_id: the job's id.
            spec: the description.
            queue: the queue that its message goes to.
            key: idempotency key; empty means none.
            key_ttl: seconds for which the key is kept.
            task_id: see ``create``.
            message: see ``create``.
            replay_of: id of the job that this one repeats.
            signed: see ``create``.

        Returns:
            None if the record is new, or the id of the existing job.
        """
        made = self.create_many(
            [NewJob(job_id, spec, queue, task_id, message, key, key_ttl, replay_of, signed=signed)]
        )[0]
        return None if made.new else made.job_id

    def take_in(self, job: NewJob, tag: str, pause: float) -> Created:
        """Write the record of a foreign producer's job and acknowledge its message, in one step.

        Where the id has a record already, nothing is changed, and the message stays unacknowledged. No replica has to
        confirm: a promoted one has either the message or the record.

        Args:
            job: with its message.
            tag: under which the message is noted as unacknowledged.
            pause: seconds for which no other worker takes the job, unless it waits for its time.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        return self._create([job], received=[tag, pause])[0]

    def create_many(self, jobs: Sequence[NewJob]) -> list[Created]:
        """Write the records of new jobs, and those messages that go with them, all of them in one transaction.

        Args:
            jobs: at most some hundreds, because the transaction blocks Redis.

        Returns:
            The result for each job.

        Raises:
            UnknownJob: a job or batch that one of them comes after is unknown; the others are written.
            BatchClosed: a batch takes no more jobs; jobs before that are written.
            QueueClosed: a queue is draining; jobs of other queues before that are written.
            SpecError: a job cannot take the place of another, or two calls give one place to different inputs.
            LedgerUnavailable: also if the URL asks for replicas and they do not confirm the records; the master has
                them then.
        """
        made = self._create(jobs)
        if not self._base.replicated(*(self._key("job", one.job_id) for one in made)):
            what = f"job {jobs[0].job_id}" if len(jobs) == 1 else f"{len(jobs)} new jobs"
            raise LedgerUnavailable(
                f"{what}: written, but {self._base.replicas} replicas do not confirm that they have it"
            )
        return made

    def _create(self, jobs: Sequence[NewJob], **more: object) -> list[Created]:
        what = "the new job" if len(jobs) == 1 else f"{len(jobs)} new jobs"
        texts = (text for job in jobs for text in (job.stored_spec, job.message, job.wakeup))
        answers = self._base.run("submission/create", what, *texts, jobs=[_arguments(job) | more for job in jobs])
        made = []
        for job, (code, *rest) in zip(jobs, answers, strict=True):
            if code == 2:
                other = as_text(rest[0]).replace("batch:", "batch ")
                raise UnknownJob(f"after: {other} is not known; its record may have expired")
            if code == 3:
                raise BatchClosed(f"batch {job.batch} has been cancelled or is complete; it takes no more jobs")
            if code == 4:
                raise SpecError(
                    f"key: another call submits other inputs to batch {job.batch} at the same time; repeat this one "
                    "when that is over",
                    field="key",
                )
            if code == 6:
                raise queue_closed(job.queue)
            if code == 5:
                why = as_text(rest[0])
                kind = BatchClosed if why.startswith("batch ") else SpecError
                raise kind(f"in_place: {why}", field="in_place")
            made.append(Created(code == 1, as_text(rest[0]), read_as(JobState, as_text(rest[1]))))
        return made

    def cancel(self, job_id: str, why: str, by: str = "") -> tuple[JobState, bool]:
        """Request the cancellation of a job; durable: it is carried out even if no worker is up now.

        Args:
            job_id: the job's id.
            why: the reason.
            by: who asks for it; empty if a worker does.

        Returns:
            The state before, and whether this call made the job CANCELLED (it was not launched).

        Raises:
            UnknownJob: there is no record.
        """
        done, state = self._base.run_for(
            job_id, "submission/cancel", why=why, by=by or None, attempt=cancelled(why), ttl=self._base.ttl
        )
        if not state:
            raise UnknownJob(f"no job {job_id} is known; its record may have expired")
        return read_as(JobState, as_text(state)), bool(done)

    def revoke(self, job_id: str) -> bool:
        """Record that a foreign job, which has no record before a worker claims it, must not run.

        The newest 10,000 ids are kept, for as long as records are.

        Args:
            job_id: the job's id.

        Returns:
            Whether the id was recorded; False if the job has a record.
        """
        ttl = int(self._base.ttl)
        return bool(self._base.run_for(job_id, "submission/revoke", most=MOST_REVOKED, ttl=ttl))

    def forget(self, job_id: str, attempts: int) -> None:
        """Delete the record and the output of a job that has ended and that Celery has the result of.

        Its entries in the indexes, and its files in a store, go with those of expired records.

        Args:
            job_id: the job's id.
            attempts: how many it had.
        """
        logs = [self._key("log", job_id, number) for number in range(1, attempts + 1)]
        with redis_errors(f"job {job_id}"):
            self._client.delete(self._key("job", job_id), *logs)

    def cancel_many(self, job_ids: Sequence[str], why: str, batch: str) -> None:
        """Request the cancellation of some hundred jobs of a batch; see ``cancel``. Unknown ids are skipped.

        Args:
            job_ids: the jobs.
            why: the reason.
            batch: their batch's id; nothing is cancelled if the batch's cancellation has been lifted meanwhile.
        """
        attempt = cancelled(why)
        with redis_errors(f"{len(job_ids)} jobs"):
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                named = {"id": job_id, "why": why, "attempt": attempt, "ttl": self._base.ttl, "batch": batch}
                self._base.add_to(pipe, "submission/cancel", **named)
            answers(pipe)


def _arguments(job: NewJob) -> dict[str, object]:
    """Return the script's arguments for a job, without defaults to save space."""
    said: dict[str, object] = {"id": job.job_id, "queue": job.queue}
    if job.task_id not in {"", job.job_id}:
        said["task_id"] = job.task_id
    if job.key:
        said |= {"key": job.key, "key_ttl": max(int(job.key_ttl), 1)}
    if job.spec and (latest := min((t for t in (job.spec.expires, job.spec.deadline) if t), default=0.0)):
        said["start_within"] = latest
    times = (("not_before", job.not_before), ("delay", job.delay), ("expires_at", job.expires_at))
    said |= {name: value for name, value in times if value is not None}
    if job.batch:
        said |= {"batch": job.batch, "index": job.index}
        named_in_batch = (("input", job.input_key), ("digest", job.input_digest), ("replaces", job.replaces))
        said |= {name: value for name, value in named_in_batch if value}
    after = ""
    if job.after:
        said["after"] = job.after
        after = json.dumps(job.after)
    if job.changed:
        said["changed"] = job.changed
    named = (
        ("after", after),
        ("key", job.key),
        ("by", job.by),
        ("replay_of", job.replay_of),
        (TRACEPARENT, job.traceparent),
    )
    theirs = (("expires_at", job.expires_at), ("celery_priority", job.celery_priority))
    fields = {name: value for name, value in named if value}
    if fields := fields | {name: str(value) for name, value in theirs if value is not None}:
        said["fields"] = fields
    return said

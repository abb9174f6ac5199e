"""The ledger, as producers use it: new jobs, and the wish that one ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from jaas_submit.errors import LedgerUnavailable, SpecError, UnknownJob
from jaas_submit.ledger.base import Base
from jaas_submit.ledger.connection import answers, as_text, reach
from jaas_submit.ledger.lua_jobs import CANCEL, CREATE
from jaas_submit.ledger.rows import cancelled
from jaas_submit.names import TRACEPARENT
from jaas_submit.spec import JobSpec
from jaas_submit.states import JobState, read_as

__all__ = ["KEY_TTL", "Created", "NewJob", "ProducerPart"]

KEY_TTL: Final = 7 * 86400
"""Seconds for which an idempotency key leads to its job, unless the producer says otherwise."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be written down."""

    job_id: str
    spec: JobSpec | None
    queue: str
    task_id: str = ""
    message: str = ""
    key: str = ""
    key_ttl: float = KEY_TTL
    replay_of: str = ""
    batch: str = ""
    index: int = 0
    after: tuple[tuple[str, str], ...] = ()
    """Ids of jobs (or ``batch:ID``), and on what: success, failure or finish."""
    traceparent: str = ""
    doorbell: str = ""
    """The Celery message, as its queue in the ledger's own Redis holds it, which is written together with the record.
    Empty where it goes elsewhere."""


class Created(NamedTuple):
    """What became of a new job."""

    new: bool
    """False: there is a job with this id or key already."""
    job_id: str
    state: JobState
    """QUEUED: its message has to be published, unless it had a ``doorbell``. WAITING and SKIPPED: not. Empty: a known
    key's record has expired."""


class ProducerPart(Base):
    """What producers do."""

    def create(self, job_id: str, spec: JobSpec | None, queue: str, task_id: str = "", message: str = "") -> bool:
        """Write the record of a new job, in state QUEUED.

        Args:
            job_id: the job's id.
            spec: the description; None where a foreign message held none that is valid.
            queue: the queue that its message goes to.
            task_id: Celery's task id where it differs from the job's id.
            message: the Celery message as JSON, where only this copy could be published again (foreign producers).

        Returns:
            Whether the record is new; False leaves the one that is there untouched.
        """
        return self.create_once(job_id, spec, queue, task_id=task_id, message=message) is None

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
    ) -> str | None:
        """Write the record of a new job unless there is one with this id or this key; see ``create``.

        Args:
            job_id: the job's id.
            spec: the description.
            queue: the queue that its message goes to.
            key: idempotency key; empty means none.
            key_ttl: seconds for which the key leads to this job.
            task_id: see ``create``.
            message: see ``create``.
            replay_of: id of the job that this one repeats.

        Returns:
            None when the record is new, else the id of the job that is there already.
        """
        made = self.create_many(
            [NewJob(job_id, spec, queue, task_id, message, key=key, key_ttl=key_ttl, replay_of=replay_of)]
        )[0]
        return None if made.new else made.job_id

    def create_many(self, jobs: Sequence[NewJob]) -> list[Created]:
        """Write the records of new jobs, and those messages that go with them, all of them in one transaction.

        Args:
            jobs: at most some hundreds: Redis serves nobody else meanwhile.

        Returns:
            For each job what became of it.

        Raises:
            UnknownJob: a job or batch that one of them is to come after is not known; the others are written all the
                same.
            SpecError: a batch takes no more jobs.
            LedgerUnavailable: also where the URL asks for replicas and they do not confirm that they have the records;
                the master has them then.
        """
        what = f"job {jobs[0].job_id}" if len(jobs) == 1 else f"{len(jobs)} new jobs"
        arguments = (part for nth, job in enumerate(jobs) for part in (job.job_id, *_create_arguments(job, nth)))
        answers = self._run_all(what, CREATE, *arguments)
        made = []
        for job, (code, *rest) in zip(jobs, answers, strict=True):
            if code == 2:
                other = as_text(rest[0]).replace("batch:", "batch ")
                raise UnknownJob(f"after: {other} is not known; its record may have expired")
            if code == 3:
                raise SpecError(f"batch {job.batch} has been cancelled or is complete; it takes no more jobs")
            made.append(Created(code == 1, as_text(rest[0]), read_as(JobState, as_text(rest[1]))))
        if not self.replicated(*(self._key("job", one.job_id) for one in made)):
            raise LedgerUnavailable(f"{what}: written, but {self.replicas} replicas do not confirm that they have it")
        return made

    def cancel(self, job_id: str, why: str) -> tuple[JobState, bool]:
        """Ask for the end of a job; durable, so that it is carried out even when no worker is up now.

        Returns:
            The state before, and whether the job is CANCELLED by this very call (nobody had launched it).

        Raises:
            UnknownJob: there is no record.
        """
        done, state, _ = self._run(CANCEL, job_id, why, cancelled(why), self.ttl)
        if not state:
            raise UnknownJob(f"no job {job_id} is known; its record may have expired")
        return read_as(JobState, as_text(state)), bool(done)

    def cancel_many(self, job_ids: Sequence[str], why: str) -> None:
        """Ask for the end of some hundred jobs; see ``cancel``. Ids that are not known are passed over."""
        dumped = cancelled(why)
        with reach(f"{len(job_ids)} jobs"):
            pipe = self.client.pipeline(transaction=False)
            for job_id in job_ids:
                key = self._key("job", job_id)
                self._script(CANCEL)(keys=[key], args=[self.prefix, job_id, why, dumped, self.ttl], client=pipe)
            answers(pipe)


def _create_arguments(job: NewJob, nth: int = 0) -> list[str | float]:
    spec = job.spec
    latest = min((t for t in (spec.expires, spec.deadline) if t), default=0.0) if spec else 0.0
    after = json.dumps(job.after) if job.after else ""
    named = (("after", after), ("key", job.key), ("replay_of", job.replay_of), (TRACEPARENT, job.traceparent))
    options: dict[str, object] = {}
    if fields := {name: value for name, value in named if value}:
        options["fields"] = fields
    if job.batch:
        options |= {"batch": job.batch, "index": job.index}
    if job.after:
        options["after"] = job.after
    if nth:
        options["nth"] = nth
    text = spec.to_json() if spec else ""
    ttl = max(int(job.key_ttl), 1)
    rare = json.dumps(options) if options else ""
    return [text, job.queue, job.task_id or job.job_id, job.message, job.key, ttl, latest, rare, job.doorbell]

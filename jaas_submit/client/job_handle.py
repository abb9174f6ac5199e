"""``JobHandle``: a producer's operations on a submitted job."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, overload

from jaas_submit.client import queries
from jaas_submit.client.files.download import download
from jaas_submit.client.files.whole_output import whole_output
from jaas_submit.client.live_output.findings import Output
from jaas_submit.client.live_output.job_output import JobOutput
from jaas_submit.client.live_output.text import Decoder
from jaas_submit.client.session import Session
from jaas_submit.client.wait import ended_jobs, job_records, job_result
from jaas_submit.connection.caller import caller
from jaas_submit.errors import JaasError, SpecError, UnknownJob
from jaas_submit.ledger import Change
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import AuditEntry, JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState

__all__ = ["JobHandle", "JobReference", "JobsById", "change_in", "ids_of"]


class JobReference:
    """A job by its id, which is Celery's task id too; other jobs may come after it.

    Args:
        job_id: the job's id.
        existing: whether ``submit`` found a job with its key and enqueued nothing.
    """

    def __init__(self, job_id: str, *, existing: bool = False) -> None:
        self.id = job_id
        self.existing = existing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return other.id == self.id if isinstance(other, JobReference) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)


class JobHandle(JobReference):
    """A submitted job.

    Every call may raise LedgerUnavailable: Redis does not answer.

    Args:
        session: the connections.
        job_id: the job's id, which is Celery's task id too.
        existing: whether ``submit`` found a job with its key and enqueued nothing.
    """

    def __init__(self, session: Session, job_id: str, *, existing: bool = False) -> None:
        super().__init__(job_id, existing=existing)
        self._session = session

    def record(self) -> JobRecord:
        """Return the job's present record.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        return self._session.ledger.queries.get(self.id)

    @property
    def state(self) -> JobState:
        """The job's state now.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        return self.record().state

    def done(self) -> bool:
        """Return whether the job has ended.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        return self.record().terminal

    def _repr_html_(self) -> str:
        """Return the job as a table, for notebooks; without Redis its id alone."""
        try:
            return queries.html_of_job(self.record())
        except JaasError as error:
            return queries.html_table([("job", self.id), ("", str(error))])

    def wait(self, timeout: float | timedelta | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for the end of the job and return its result.

        Args:
            timeout: seconds to wait; None waits for ever. The job goes on when the time has passed.
            check: True raises if the job failed, False never does; None takes the description's ``check``
                (True by default).

        Raises:
            JobFailed: the job failed; ``.result`` is the whole result.
            JobCancelled: the job was cancelled, or skipped because of a job or batch before it.
            WaitTimeout: the time has passed.
            UnknownJob: there is no record, or it has expired.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        (result,) = self._session.run(job_result(self._session.ledger, self.id, timeout, check))
        return result

    def follow(self, timeout: float | timedelta | None = None) -> Iterator[Change]:
        """Yield the job's transitions as they happen, from its present state on, and end with its terminal one.

        Args:
            timeout: seconds to wait in all; None waits for ever.

        Raises:
            WaitTimeout: the time has passed.
            UnknownJob: there is no record, or it has expired.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        for record in self._session.run(job_records(self._session.ledger, self.id, timeout)):
            yield change_in(record)

    def result(self) -> JobResult:
        """Return the result of a job that has ended, without raising if it failed.

        Raises:
            ValueError: it has not ended yet.
            UnknownJob: there is no record, or it has expired.
        """
        return queries.result(self._session.ledger, self.id)

    @overload
    def logs(self, attempt: int | None = None) -> Logs: ...

    @overload
    def logs(
        self,
        attempt: int | None = None,
        *,
        follow: Literal[True],
        text: Literal[False] = False,
        since: datetime | None = None,
        tail: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> Iterator[Output]: ...

    @overload
    def logs(
        self,
        attempt: int | None = None,
        *,
        follow: Literal[True],
        text: Literal[True],
        since: datetime | None = None,
        tail: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> Iterator[str]: ...

    def logs(
        self,
        attempt: int | None = None,
        *,
        follow: bool = False,
        text: bool = False,
        since: datetime | None = None,
        tail: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> Any:  # the overloads say what
        """Return the captured output, with time and stream of each line; or follow it while the job runs.

        Following yields ``Piece``s: bytes of one stream, as the container wrote them. Between them it says what is
        ``Missing``, where another attempt's output begins (``AttemptBegins``) and ends (``AttemptEnds``), and if the
        output can only be shown at the end (``NotLive``). Output that was written before is read first; after the
        job's end the stored output is.

        Without ``follow``, what is cut out of a long output is read from the store, if there is one.

        Args:
            attempt: which attempt, counted from 1; None means the last one, or the present one and all after it.
            follow: yield the output while it is written, up to the job's end.
            text: yield text instead; it is read as UTF-8, and what is missing is marked in it.
            since: only output from this time on; with ``follow``.
            tail: only so many of the lines that are there already, and all new ones; with ``follow``.
            timeout: seconds to follow in all; None follows to the end.

        Raises:
            UnknownJob: there is no record, or it has expired.
            WaitTimeout: the time has passed.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        if not follow:
            return whole_output(self._session, self.id, attempt)
        output = JobOutput(self._session.ledger, self._session.feeds(), self.id, attempt, since, tail)
        found = (event for event in self._session.run(output.steps(timeout)) if not isinstance(event, JobRecord))
        if not text:
            return found
        decoder = Decoder()
        return (part for event in found if (part := decoder.text(event)))

    def download(self, to: str | os.PathLike[str] = ".", attempt: int | None = None) -> list[Path]:
        """Copy the files that the job handed out (``outputs``) into a folder; return their paths there.

        They get the paths that they had in the container: ``/out/a.pdf`` becomes ``TO/out/a.pdf``. Each is checked
        against its digest. ``result().outputs`` says which files there are, and whether any are missing.

        Args:
            to: the folder; it is made if there is none. Files that are there are replaced.
            attempt: which attempt, counted from 1; None means the last one.

        Raises:
            JobNotEnded: the job has not ended.
            SpecError: it was submitted without ``outputs``, has no such attempt, or there is no store.
            JaasError: a file is not in the store any more, is not what the job handed out, or would lead elsewhere.
            StoreUnavailable: the store does not answer.
            UnknownJob: there is no record, or it has expired.
        """
        return list(download(self._session, self.id, to, attempt))

    def cancel(self, why: str = "cancelled by the producer") -> JobState:
        """Request the cancellation of the job, durably: it is carried out even if no worker is up now.

        Args:
            why: the reason, kept in the record.

        Returns:
            The state the job was in. A job that was not launched is CANCELLED at once; an ended job does not change.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        state, done = self._session.ledger.submission.cancel(self.id, why, caller())
        if done:
            from jaas_submit.messaging.publisher import mark_revoked

            # For programs that wait for Celery's result. If this process dies first, the worker that receives the
            # message does the same.
            mark_revoked(self._session.app(), self.record().task_id, why)
        return state

    def hold(self, why: str = "") -> None:
        """Let no worker start the job, which waits, until ``release``.

        Args:
            why: the reason, for people.

        Raises:
            JobNotWaiting: it has been started, or has ended.
            UnknownJob: there is no record, or it has expired.
        """
        self._session.ledger.holds.hold(self.id, caller(), why)

    def release(self, why: str = "") -> None:
        """Let workers start the job again; see ``hold``."""
        self._session.ledger.holds.hold(self.id, caller(), why, release=True)

    def audit(self) -> tuple[AuditEntry, ...]:
        """Return who submitted the job, and who cancelled or replayed it: the newest 20 entries.

        ``by`` is what the client says of itself, unless ``producer`` is set: then a worker has verified a signature.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        return self.record().history


def change_in(record: JobRecord) -> Change:
    """Return what ``follow`` yields for a record."""
    return Change(record.state, record.detail, record.reported)


def ids_of(jobs: Iterable[JobReference | str]) -> list[str]:
    """Return the ids of jobs.

    Args:
        jobs: their handles or ids.

    Raises:
        SpecError: it is a text, or holds something else.
    """
    if isinstance(jobs, str | JobReference):
        raise SpecError("jobs: give a list, such as [handle]", field="jobs")
    found = [one.id if isinstance(one, JobReference) else one for one in jobs]
    if not all(isinstance(one, str) for one in found):
        raise SpecError("jobs: give handles, or ids as texts", field="jobs")
    return found


class JobsById:
    """The methods of ``Client`` about jobs that were submitted earlier, here or elsewhere."""

    session: Session

    def handle(self, job_id: str, *, lazy: bool = False) -> JobHandle:
        """Return a handle on a job that was submitted earlier, here or elsewhere.

        Args:
            job_id: the job's id.
            lazy: do not ask Redis whether there is such a job; for one that a Celery app has sent and no worker has
                received yet. Its methods raise UnknownJob then.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        if not lazy and job_id not in self.session.ledger.queries.existing([job_id]):
            raise UnknownJob(f"no job {job_id} is known; its record may have expired")
        return JobHandle(self.session, job_id)

    def as_completed(
        self, jobs: Iterable[JobReference | str], timeout: float | timedelta | None = None
    ) -> Iterator[JobHandle]:
        """Yield a handle on each job as it ends, whether well or not.

        Args:
            jobs: handles or ids of jobs; a batch yields its own (``Batch.results`` has their results).
            timeout: seconds to wait in all; None waits for ever.

        Raises:
            WaitTimeout: the time has passed.
            UnknownJob: one of them has no record, or it has expired.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        for job_id in self.session.run(ended_jobs(self.session.ledger, ids_of(jobs), timeout)):
            yield JobHandle(self.session, job_id)

    def gather(
        self,
        jobs: Iterable[JobReference | str],
        timeout: float | timedelta | None = None,
        *,
        check: bool | None = None,
    ) -> list[JobResult]:
        """Wait for several jobs; return their results in the same order.

        Args:
            jobs: see ``as_completed``.
            timeout: seconds to wait in all; None waits for ever.
            check: see ``JobHandle.wait``; when all have ended, the first one that did not succeed raises.

        Raises:
            JobFailed: a job failed.
            JobCancelled: a job was cancelled, or skipped.
            WaitTimeout: the time has passed.
            UnknownJob: one of them has no record, or it has expired.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        ids = ids_of(jobs)
        for _ in self.as_completed(ids, timeout):
            pass
        return [JobHandle(self.session, job_id).wait(check=check) for job_id in ids]

    def wait(self, job_id: str, timeout: float | timedelta | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for a job by its id; see ``JobHandle.wait``."""
        return JobHandle(self.session, job_id).wait(timeout, check=check)

    def result(self, job_id: str) -> JobResult:
        """Return the result of a job that has ended; see ``JobHandle.result``."""
        return JobHandle(self.session, job_id).result()

    def logs(self, job_id: str, attempt: int | None = None) -> Logs:
        """Return the captured output of a job; see ``JobHandle.logs``."""
        return JobHandle(self.session, job_id).logs(attempt)

    def download(self, job_id: str, to: str | os.PathLike[str] = ".", attempt: int | None = None) -> list[Path]:
        """Copy the files that a job handed out into a folder; see ``JobHandle.download``."""
        return JobHandle(self.session, job_id).download(to, attempt)

    def cancel(self, job_id: str, why: str = "cancelled by the producer") -> JobState:
        """Request the cancellation of a job, durably; see ``JobHandle.cancel``."""
        return JobHandle(self.session, job_id).cancel(why)

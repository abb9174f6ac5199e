"""``JobHandle``: a producer's operations on a submitted job."""

from __future__ import annotations

from collections.abc import Iterator

from jaas_submit.client import queries
from jaas_submit.client.session import Session
from jaas_submit.client.wait import job_records, job_result
from jaas_submit.ledger import Change
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState

__all__ = ["JobHandle", "JobReference", "change_in"]


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

    def wait(self, timeout: float | None = None, *, check: bool | None = None) -> JobResult:
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

    def follow(self, timeout: float | None = None) -> Iterator[Change]:
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

    def logs(self, attempt: int | None = None) -> Logs:
        """Return the captured output, with time and stream of each line.

        Args:
            attempt: which attempt, counted from 1; None means the last one.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        return queries.logs(self._session.ledger, self.id, attempt)

    def cancel(self, why: str = "cancelled by the producer") -> JobState:
        """Request the cancellation of the job, durably: it is carried out even if no worker is up now.

        Args:
            why: the reason, kept in the record.

        Returns:
            The state the job was in. A job that was not launched is CANCELLED at once; an ended job does not change.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        state, done = self._session.ledger.submission.cancel(self.id, why)
        if done:
            from jaas_submit.messaging.publisher import mark_revoked

            # For programs that wait for Celery's result. If this process dies first, the worker that receives the
            # message does the same.
            mark_revoked(self._session.app(), self.record().task_id, why)
        return state


def change_in(record: JobRecord) -> Change:
    """Return what ``follow`` yields for a record."""
    return Change(record.state, record.detail, record.reported)

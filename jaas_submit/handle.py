"""``JobHandle``: what a producer does with a job that it has submitted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Change
from jaas_submit.records import JobRecord, JobResult, Logs
from jaas_submit.states import JobState
from jaas_submit.waiting import Watch

if TYPE_CHECKING:
    from jaas_submit.client import Client

__all__ = ["JobHandle"]


class JobHandle:
    """A submitted job.

    Args:
        client: whose connections it uses.
        job_id: the job's id, which is Celery's task id too.
        existing: whether ``submit`` found a job with its key and enqueued nothing.
    """

    def __init__(self, client: Client, job_id: str, *, existing: bool = False) -> None:
        self.id = job_id
        self.existing = existing
        self._client = client

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def record(self) -> JobRecord:
        """Return what the ledger knows of the job now.

        Raises:
            UnknownJob: its record has expired.
        """
        return self._client.ledger.queries.get(self.id)

    @property
    def state(self) -> JobState:
        """The job's state now."""
        return self.record().state

    def wait(self, timeout: float | None = None, *, check: bool | None = None) -> JobResult:
        """Wait for the end of the job and return its result.

        Args:
            timeout: seconds to wait; None waits for ever. The job goes on when the time is over.
            check: True raises when the job ended badly, False never does; None takes the description's ``check``
                (True by default).

        Raises:
            JobFailed: the job ended badly; ``.result`` is the whole result.
            JobCancelled: the job was cancelled, or skipped because of what it was to come after.
            WaitTimeout: the time is over.
            UnknownJob: the record has expired.
        """
        for _ in self.follow(timeout):
            pass
        result = self._client.result(self.id)
        if check is None:
            spec = self.record().spec
            check = spec.check if spec else True
        return result.check() if check else result

    def follow(self, timeout: float | None = None) -> Iterator[Change]:
        """Yield the job's transitions as they happen, from its present state on, and end with its terminal one.

        Args:
            timeout: seconds to wait in all; None waits for ever.

        Raises:
            WaitTimeout: the time is over.
            UnknownJob: there is no record.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        ledger = self._client.ledger
        watch = Watch(timeout)
        while True:
            # A lost connection ends the subscription; the record says what was missed meanwhile.
            try:
                with ledger.queries.changes(self.id) as changes:
                    while True:
                        record = ledger.queries.get(self.id)
                        if change := watch.news(record):
                            yield change
                        if record.terminal:
                            return
                        changes.next(watch.pause(record))
            except LedgerUnavailable as error:
                time.sleep(watch.bear(error))

    def result(self) -> JobResult:
        """Return the result of a job that has ended, without raising when it ended badly.

        Raises:
            ValueError: it has not ended yet.
            UnknownJob: there is no record.
        """
        return self._client.result(self.id)

    def logs(self, attempt: int | None = None) -> Logs:
        """Return the captured output, with time and stream of each line.

        Args:
            attempt: which attempt, counted from 1; None means the last one.
        """
        return self._client.logs(self.id, attempt)

    def cancel(self, why: str = "cancelled by the producer") -> JobState:
        """Ask for the end of the job; see ``Client.cancel``."""
        return self._client.cancel(self.id, why)

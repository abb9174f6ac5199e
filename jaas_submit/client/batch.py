"""``Batch``: many jobs as one. Reachable by its id from any process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from jaas_submit.client import queries
from jaas_submit.client.job_handle import JobHandle
from jaas_submit.client.maps.per_node import results_by_node
from jaas_submit.client.replay import replay_failed
from jaas_submit.client.session import Session
from jaas_submit.client.wait import batch_records, batch_results
from jaas_submit.connection.caller import caller
from jaas_submit.errors import JaasError
from jaas_submit.model.bounds import counted
from jaas_submit.model.ids import batch_job_id
from jaas_submit.model.records import AuditEntry, BatchRecord, JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState

__all__ = ["Batch", "BatchReference", "Show", "shown"]

_LINE_EVERY_S: Final = 5.0
"""Seconds between two lines of progress where rich is not installed."""

Show = Callable[[BatchRecord], None]
"""Called with a batch's record, to show its progress."""


class BatchReference:
    """A batch by its id; jobs may come after it.

    Args:
        batch_id: the batch's id.
    """

    def __init__(self, batch_id: str) -> None:
        self.id = batch_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return other.id == self.id if isinstance(other, BatchReference) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)


class Batch(BatchReference):
    """A batch of jobs, one for each input.

    Every call may raise UnknownJob: there is no such batch, or its record has expired; and LedgerUnavailable: Redis
    does not answer.

    Args:
        session: the connections.
        batch_id: the batch's id.
        existing: for how many of its inputs ``map`` found a job.
        difference: what differs between the batch that ``map`` found by its key and that call, in one sentence; empty
            if nothing does.
    """

    def __init__(self, session: Session, batch_id: str, *, existing: int = 0, difference: str = "") -> None:
        super().__init__(batch_id)
        self.existing = existing
        self.difference = difference
        self._session = session

    @property
    def status(self) -> BatchRecord:
        """The batch's present record: counts per state, total, and outcome."""
        return self._session.ledger.batches.get(self.id)

    def job(self, index: int) -> JobHandle:
        """Return a handle on the first job for one input.

        A job that took its place (``replay`` with ``in_place``) is in ``records``.

        Args:
            index: the input's number in the batch, counted from 0.
        """
        return JobHandle(self._session, batch_job_id(self.id, index))

    def __len__(self) -> int:
        """Return the number of its inputs, so far."""
        status = self.status
        return status.size if status.left else status.span

    def __bool__(self) -> bool:  # without asking Redis for the length
        return True

    def __iter__(self) -> Iterator[JobHandle]:
        """Yield a handle on the job for each input, in the order of the inputs; on the one that counts now."""
        return (JobHandle(self._session, job_id) for job_id in self._job_ids())

    def _job_ids(self) -> Sequence[str]:
        return queries.batch_job_ids(self._session.ledger, self.id)

    def __getitem__(self, index: int) -> JobHandle:
        """Return a handle on the job for one input, by its position; a negative index counts from the end."""
        ids = self._job_ids()
        if not -len(ids) <= index < len(ids):
            raise IndexError(f"batch {self.id} has {counted(len(ids), 'job')}, and none with index {index}")
        return JobHandle(self._session, ids[index])

    def _repr_html_(self) -> str:
        """Return the batch as a table, for notebooks; without Redis its id alone."""
        try:
            return queries.html_of_batch(self.status)
        except JaasError as error:
            return queries.html_table([("batch", self.id), ("", str(error))])

    def records(self, *states: JobState) -> Iterator[JobRecord]:
        """Yield the records of the batch's jobs in the order of its inputs.

        Args:
            states: only jobs in these states; none given means all.
        """
        return queries.batch_jobs(self._session.ledger, self.id, states)

    @property
    def failed(self) -> list[JobRecord]:
        """Records of the jobs that did not succeed (failed, cancelled or skipped), in the order of the inputs."""
        return list(self.records(*queries.UNSUCCESSFUL))

    def reasons(self) -> str:
        """Return why jobs did not succeed, counted: ``3 x exit code 4, 1 x image``."""
        return queries.reasons(self._session.ledger, self.id)

    def results(
        self,
        *,
        ordered: bool = False,
        timeout: float | timedelta | None = None,
        offset: int = 0,
        progress: Show | None = None,
    ) -> Iterator[JobResult]:
        """Yield the results of the batch's jobs, successes and failures, until all have ended.

        Args:
            ordered: True yields them in the order of the inputs, False as they arrive. Results after an input whose job
                Redis has lost come at the batch's end.
            timeout: seconds to wait in all; None waits for ever.
            offset: how many results to skip, in the order in which they arrive. Ignored with ``ordered``.
            progress: called with the batch's record while it waits, every two seconds at least.

        Raises:
            WaitTimeout: the time has passed; the batch goes on.
            UnknownJob: there is no such batch, or the record of one of its jobs has expired.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        return self._session.run(
            batch_results(
                self._session.ledger, self.id, ordered=ordered, timeout=timeout, offset=offset, progress=progress
            )
        )

    def by_node(self, timeout: float | timedelta | None = None) -> dict[str, JobResult]:
        """Return the results of a batch ``per_node`` by the nodes' host names, when all have ended.

        Args:
            timeout: seconds to wait in all; None waits for ever.

        Raises:
            WaitTimeout: the time has passed; the batch goes on.
            UnknownJob: there is no such batch, or the record of one of its jobs has expired.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        found = {result.job_id: result for result in self.results(timeout=timeout)}
        return results_by_node(self.records(), found)

    def wait(
        self, timeout: float | timedelta | None = None, *, check: bool = True, progress: bool | Show = False
    ) -> BatchRecord:
        """Wait until all jobs of the batch have ended; return its record.

        Args:
            timeout: seconds to wait; None waits for ever.
            check: raise when fewer jobs succeeded than the quorum asks for.
            progress: True shows the progress on standard error: a bar with rich, else plain lines; a function is called
                with the batch's record at once and whenever jobs have ended.

        Raises:
            BatchFailed: the quorum was missed; the text counts the causes.
            WaitTimeout: the time has passed; the batch goes on.
            UnknownJob: there is no such batch, or its record has expired.
            LedgerUnavailable: Redis did not answer at all, or not for a minute.
        """
        steps = batch_records(self._session.ledger, [self.id], timeout, check=check)
        with shown(progress) as show:
            for status in self._session.run(steps):
                show(status)
        return status

    def cancel(self, why: str = "cancelled by the producer") -> int:
        """Cancel every job of the batch that has not ended; no job is added or started afterwards.

        ``map`` with the same key and ``again`` lifts it.

        It is durable: if this process dies in the middle, a worker cancels the rest.

        Args:
            why: the reason, kept in the records.

        Returns:
            Number of cancelled jobs.
        """
        self._session.ledger.batches.cancel(self.id, why, caller())
        return self._session.ledger.batches.cancel_jobs(self.id)

    def hold(self, why: str = "") -> None:
        """Let no worker start a job of the batch until ``release``. What runs goes on.

        Args:
            why: the reason, for people.

        Raises:
            JobNotWaiting: it has ended.
        """
        self._session.ledger.holds.hold_batch(self.id, caller(), why)

    def release(self, why: str = "") -> None:
        """Let workers start the jobs of the batch again; see ``hold``. Jobs that are held one by one stay so."""
        self._session.ledger.holds.hold_batch(self.id, caller(), why, release=True)

    def audit(self) -> tuple[AuditEntry, ...]:
        """Return who submitted the batch, and who cancelled it; see ``JobHandle.audit``."""
        return self.status.history

    def retry_failed(self, *, in_place: bool = False, **changes: Any) -> Batch:
        """Submit the jobs that did not succeed again, as a new batch whose inputs keep their order, or in place.

        Args:
            in_place: the new jobs take the places of the old ones in this batch, which then ends anew; see
                ``Client.replay``.
            changes: fields of the description to be replaced, as in ``Client.replay``. JAAS_BATCH_ID and JAAS_INDEX
                still name the original batch and input.

        Returns:
            The new batch; with ``in_place`` this one.

        Raises:
            SpecError: the batch has not ended, or a change is not valid.
        """
        return Batch(self._session, replay_failed(self._session, self.id, changes, in_place=in_place))


@contextmanager
def shown(progress: bool | Show) -> Iterator[Show]:
    """Yield the function that shows a batch's progress.

    Args:
        progress: as in ``Batch.wait``.
    """
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda _: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield _plain_lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("jobs", total=None)
        yield lambda status: bar.update(
            task, description=status.name or "jobs", completed=status.ended, total=status.total
        )


def _plain_lines() -> Show:
    """Return a function that prints a line on standard error now and then, and one at the end."""
    last = float("-inf")

    def show(status: BatchRecord) -> None:
        nonlocal last
        now = time.monotonic()
        if status.done or now - last >= _LINE_EVERY_S:
            last = now
            print(status.sentence(), file=sys.stderr, flush=True)

    return show

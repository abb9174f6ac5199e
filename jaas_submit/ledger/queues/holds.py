"""Jobs and batches that somebody holds: they are not started until they are released."""

from __future__ import annotations

from jaas_submit.connection.connection import as_text
from jaas_submit.errors import JobNotWaiting, UnknownJob
from jaas_submit.ledger.base import Part
from jaas_submit.ledger.queues.rules import OPENED_AT_ONCE
from jaas_submit.model.states import JobState, read_as

__all__ = ["Holds"]

_WAITS = frozenset({JobState.WAITING, JobState.QUEUED, JobState.BACKOFF})


class Holds(Part):
    """Holding and releasing what waits. Again for the same job or batch it does no harm."""

    def hold(self, job_id: str, by: str, why: str = "", *, release: bool = False) -> JobState:
        """Let no worker start a job that waits, or let them start it again.

        Args:
            job_id: the job's id.
            by: who does it.
            why: the reason, for people.
            release: it may be started again.

        Returns:
            The job's state.

        Raises:
            UnknownJob: there is no record.
            JobNotWaiting: it is not WAITING, QUEUED or in BACKOFF.
        """
        named = {"by": by, "why": why, "release": release}
        found = as_text(self._base.run_for(job_id, "queues/hold", **named))
        if not found:
            raise UnknownJob(f"no job {job_id} is known; its record may have expired")
        state = read_as(JobState, found)
        if state not in _WAITS:
            raise JobNotWaiting(
                f"job {job_id} is {state}: only a job that waits can be held or released; `jaas cancel` stops one that "
                "runs"
            )
        return state

    def hold_batch(self, batch_id: str, by: str, why: str = "", *, release: bool = False) -> None:
        """Let no worker start a job of a batch, or let them start them again; what runs goes on.

        Args:
            batch_id: the batch's id.
            by: who does it.
            why: the reason, for people.
            release: they may be started again.

        Raises:
            UnknownJob: there is no such batch.
            JobNotWaiting: it has ended.
        """
        named = {"batch": batch_id, "by": by, "why": why, "release": release, "most": OPENED_AT_ONCE}
        done = int(self._base.run("queues/hold_batch", f"batch {batch_id}", **named))
        if done == -2:
            raise UnknownJob(f"no batch {batch_id} is known; its record may have expired")
        if done == -1:
            raise JobNotWaiting(f"batch {batch_id} has ended; only one that has not can be held or released")

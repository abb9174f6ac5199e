"""The ledger for the worker that holds a job: from the claim to the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from jaas_submit.connection.connection import answers, as_text, redis_errors
from jaas_submit.connection.subscription import Subscription
from jaas_submit.errors import UnreadableRecord
from jaas_submit.ledger.base import SET_ASIDE, Part
from jaas_submit.ledger.encoding import dump_attempts, parse_row
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import Attempt, JobRecord
from jaas_submit.model.states import TERMINAL, TRANSITIONS, JobState

__all__ = ["Claim", "ClaimAction", "Ownership"]


class ClaimAction(StrEnum):
    """What the worker has to do after a claim."""

    LAUNCH = "launch"  # the job is new: create attempt 1
    ADOPT = "adopt"  # its holder is gone: continue the present attempt
    REPLAY = "replay"  # it has ended, and the result may still have to reach Celery
    DONE = "done"  # it has ended, and Celery has the result: this message is a duplicate
    HELD = "held"  # another live worker holds it: this message is a duplicate
    EARLY = "early"  # its next attempt is not due yet: this message is a duplicate
    KEPT = "kept"  # it may not start now, for instance because its queue is paused; the ledger keeps it
    NEWER = "newer"  # it is in a state that only a newer version knows: leave it
    UNKNOWN = "unknown"  # there is no record


@dataclass(frozen=True, slots=True)
class Claim:
    """Answer to a claim."""

    action: ClaimAction
    """What to do."""
    state: str
    """The record's, before the claim."""
    record: JobRecord | None = field(default=None, compare=False, repr=False)
    """After the claim, if the worker holds the job now."""


class _Ended(NamedTuple):
    """Further data of an attempt's outcome."""

    number: int = 0
    logs: Logs | None = None
    attempts: str = ""
    output: str = ""


class Ownership(Part):
    """A worker's operations on the jobs that it holds."""

    def claim(self, job_id: str, holder: str) -> Claim:
        """Become the holder of a job whose message arrived, unless another live worker holds it.

        Args:
            job_id: the job's id.
            holder: this worker process; its lease must be live (``Maintenance.renew_lease``).

        Raises:
            UnreadableRecord: the record is unreadable. Workers ignore it for an hour.
        """
        action, state, *row = self._base.run_for(job_id, "ownership/claim", holder=holder)
        try:
            record = parse_row(job_id, row[0]) if row else None
        except UnreadableRecord as error:
            self.release(job_id, holder, SET_ASIDE)
            raise self._base.cannot_read(f"job {job_id}", error) from None
        return Claim(ClaimAction(as_text(action)), as_text(state), record)

    def move(self, job_id: str, holder: str, to: JobState, *, detail: str = "", **fields: str | float) -> bool:
        """Move a job that this worker holds to another state (or update fields within its state).

        Args:
            job_id: the job's id.
            holder: this worker; the record must name it.
            to: a state that is not terminal.
            detail: the swarm's reason, for people.
            fields: further fields of the record, such as ``node``.

        Returns:
            False when the record has another holder or is in a state that does not lead there: the caller drops it.
        """
        return bool(self._move(job_id, holder, to, detail, fields)[0])

    def finish(
        self,
        job_id: str,
        holder: str,
        attempts: Sequence[Attempt],
        logs: Logs | None = None,
        output: str | None = None,
        *,
        late: bool = False,
    ) -> JobRecord | None:
        """Write the outcome of a job that this worker holds: state, attempts and logs in one step.

        Args:
            job_id: the job's id.
            holder: this worker; the record must name it.
            attempts: all attempts; the last one decides the state.
            logs: captured output of the last attempt; None if no container ran.
            output: the job's typed output as JSON; None when it has none.
            late: the attempt's service may still appear, because of a late request.

        Returns:
            The present record; None if it has another holder or has ended: the caller drops the job.
        """
        last = attempts[-1]
        fields: dict[str, str | float] = {}
        if last.node:
            fields["node"] = last.node
        if last.started_at:
            fields["started_at"] = last.started_at.timestamp()
        if late:
            fields["late"] = 1
        dumped = dump_attempts(attempts)
        done, *answer = self._move(
            job_id, holder, last.state, last.reason, fields, _Ended(last.number, logs, dumped, output or "")
        )
        if not done:
            # The reply to the first call may have been lost and the script repeated. Besides the holder only the job's
            # copy writes an outcome, with other attempts.
            state, owner, theirs = map(as_text, answer[:3])
            if (state, owner) != (last.state, holder) or theirs not in {"", dumped}:
                return None
        return parse_row(job_id, answer[-1])

    def back_off(
        self,
        job_id: str,
        holder: str,
        attempts: Sequence[Attempt],
        logs: Logs | None,
        delay: float | None,
        detail: str,
        *,
        late: bool = False,
    ) -> tuple[bool, str]:
        """Record the outcome of an attempt and that another follows; this worker releases the job.

        Args:
            job_id: the job's id.
            holder: this worker; the record must name it.
            attempts: all attempts so far.
            logs: captured output of the last one; None if no container ran.
            delay: seconds until the next attempt; None when only the job's copy may still succeed (speculation).
            detail: for people.
            late: the attempt's service may still appear, because of a late request.

        Returns:
            Whether it was done, and if not, why the job ends anyway: it is to be cancelled, or has no copy. Empty if
            the record has another holder or state: the caller drops the job.
        """
        answer = self._base.run_for(
            job_id,
            "ownership/back_off",
            _packed(logs),
            dump_attempts(attempts),
            holder=holder,
            sources=[state for state, targets in TRANSITIONS.items() if JobState.BACKOFF in targets],
            pause=delay,
            detail=detail,
            attempt=attempts[-1].number,
            ttl=self._base.ttl,
            late=late,
        )
        why = {2: as_text(answer[-1]), 3: "it has no copy"}.get(answer[0], "")
        return answer[0] == 1, why

    def _move(
        self,
        job_id: str,
        holder: str,
        to: JobState,
        detail: str,
        fields: dict[str, str | float],
        ended: _Ended | None = None,
    ) -> list[Any]:
        """Return the answer of the script: whether it was done, and its further values."""
        sources = [state for state, targets in TRANSITIONS.items() if to in targets or (state is to not in TERMINAL)]
        end = ended or _Ended()
        answer: list[Any] = self._base.run_for(
            job_id,
            "ownership/move",
            _packed(end.logs),
            end.attempts,
            end.output,
            holder=holder,
            sources=sources,
            to=to,
            detail=detail,
            # As texts: a Lua number would lose a time's last digits.
            fields={name: str(value) for name, value in fields.items()},
            attempt=end.number,
            ttl=self._base.ttl,
        )
        return answer

    def mark_reported(self, job_id: str, holder: str) -> bool:
        """Record that the outcome has reached Celery; the holder releases the job, and the record starts to expire."""
        return bool(self._base.run_for(job_id, "ownership/mark_reported", holder=holder, ttl=self._base.ttl))

    def release(self, job_id: str, holder: str, pause: float = 0.0) -> bool:
        """Release a job without an outcome, so that another worker continues it.

        Args:
            job_id: the job's id.
            holder: this worker; the record must name it.
            pause: seconds for which no worker looks for it.
        """
        return bool(self._base.run_for(job_id, "ownership/release", holder=holder, pause=pause))

    def foreign_message(self, job_id: str) -> str:
        """Return the foreign Celery message of a job as JSON, empty where it can be made from the record."""
        with redis_errors(f"job {job_id}"):
            return as_text(self._client.hget(self._key("job", job_id), "message") or "")

    def held_by(self, holder: str) -> set[str]:
        """Return the ids of the jobs that this worker holds."""
        with redis_errors("held jobs"):
            return {as_text(item) for item in self._client.smembers(self._key("held", holder))}

    def offer(self, job_ids: Sequence[str]) -> None:
        """Let other workers take jobs at once whose message this worker has received and not claimed.

        Args:
            job_ids: the jobs; those that wake-up messages announce are skipped.
        """
        if not job_ids:
            return
        with redis_errors(f"{len(job_ids)} jobs"):
            pipe = self._client.pipeline(transaction=False)
            pipe.zadd(self._key("ready"), dict.fromkeys(job_ids, 0.0), xx=True)
            pipe.publish(self._channel("available"), job_ids[0])
            pipe.execute()

    def cancellations_for(self, holder: str) -> list[str]:
        """Return ids of jobs that were to be cancelled while this worker held them, until it has acknowledged that."""
        with redis_errors("cancellations"):
            return [as_text(item) for item in self._client.smembers(self._key("stop", holder))]

    def acknowledge_cancellations(self, holder: str, job_ids: Sequence[str]) -> None:
        """Record that this worker knows the cancellations of these jobs."""
        with redis_errors("cancellations"):
            self._client.srem(self._key("stop", holder), *job_ids)

    def cancel_reasons(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return id and reason of those jobs that are to be cancelled."""
        with redis_errors("cancellations"):
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(self._key("job", job_id), "cancel")
            found = zip(job_ids, answers(pipe), strict=True)
            return {job_id: as_text(why) for job_id, why in found if why and not isinstance(why, Exception)}

    def exits(self) -> Subscription:
        """Return a subscription to the forwarded exits of all jobs."""
        return Subscription(self._client, self._channel("exits"))

    def cancellations(self) -> Subscription:
        """Return a subscription to the ids of jobs that are to be cancelled."""
        return Subscription(self._client, self._channel("cancels"))


def _packed(logs: Logs | None) -> bytes:
    return b"" if logs is None else logs.pack()

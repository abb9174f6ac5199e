"""The ledger's batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isfinite
from typing import Any, Final

from jaas_submit.connection.connection import answers, as_text, redis_errors, wrong_type
from jaas_submit.connection.subscription import Subscription
from jaas_submit.errors import SpecError, UnknownJob
from jaas_submit.ledger.base import Base, Part
from jaas_submit.ledger.encoding import parse_batch, reading
from jaas_submit.ledger.queries import Queries
from jaas_submit.ledger.submission import Submission
from jaas_submit.model.bounds import whole
from jaas_submit.model.ids import copy_id_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import BatchRecord
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.states import JobState

__all__ = ["DROPPED", "Batches"]

DROPPED: Final = "the latest call with its batch's key does not have its input"

PAGE: Final = 500
"""Records that are read at once."""


class Batches(Part):
    """What is done with batches as a whole; their jobs are jobs like any other.

    Args:
        base: of the ledger that it is a part of.
        queries: of the same ledger.
        submission: of the same ledger.
    """

    def __init__(self, base: Base, queries: Queries, submission: Submission) -> None:
        super().__init__(base)
        self._queries = queries
        self._submission = submission

    def create(self, batch_id: str, *, speculate: Speculation | None = None, **fields: str | float | None) -> bool:
        """Write the record of a batch, before its jobs.

        Args:
            batch_id: the batch's id.
            speculate: when its slowest jobs are started a second time; None for never.
            fields: name, max_parallel (0: no limit), min_success (part of the jobs that must succeed), max_failures
                (how many may fail, such as 3 or 10%), ...

        Returns:
            False if there was one already; it does not change.
        """
        key = self._key("batch", batch_id)
        with redis_errors(f"batch {batch_id}"):
            pipe = self._client.pipeline()
            pipe.hsetnx(key, "created_at", repr(self._base.now()))
            for name, value in fields.items():
                # Also of what it has not, so that a later call does not give it that.
                pipe.hsetnx(key, name, "" if value is None else value)
            if speculate is not None:
                pipe.hsetnx(key, "speculate", speculate.model_dump_json())
                pipe.sadd(self._key("speculating"), batch_id)
            pipe.zadd(self._key("batches"), {batch_id: self._base.now()}, nx=True)
            return bool(pipe.execute()[0])

    def speculating(self) -> list[str]:
        """Return the ids of batches that have not ended and whose slowest jobs may be started a second time."""
        with redis_errors("batches"):
            return [as_text(item) for item in self._client.smembers(self._key("speculating"))]

    def stop_speculating(self, batch_id: str) -> None:
        """Remove an ended batch from these."""
        with redis_errors(f"batch {batch_id}"):
            self._client.srem(self._key("speculating"), batch_id)

    def running_jobs(self, batch_ids: Collection[str], most: int = 10_000) -> dict[str, dict[str, float]]:
        """Return for each batch its jobs that run now and have no copy, and for how many seconds they have run.

        Args:
            batch_ids: the batches.
            most: how many RUNNING jobs are read, the oldest first.
        """
        with redis_errors("running jobs"):
            rows: list[Any] = self._client.zrange(self._key("state", JobState.RUNNING), 0, most - 1, withscores=True)
            pipe = self._client.pipeline(transaction=False)
            for job_id, _ in rows:
                pipe.hmget(self._key("job", as_text(job_id)), "batch", "copied_by", "copy_of")
            read = answers(pipe)
        now = self._base.now()
        found: dict[str, dict[str, float]] = {batch_id: {} for batch_id in batch_ids}
        for (job_id, since), row in zip(rows, read, strict=True):
            if isinstance(row, Exception) or not isfinite(since):
                continue  # the reader of the whole record reports it
            batch, copied_by, copy_of = row
            if batch and as_text(batch) in found and not copied_by and not copy_of:
                found[as_text(batch)][as_text(job_id)] = now - since
        return found

    def start_copy(self, job_id: str, spec: JobSpec, detail: str, signed: str = "") -> bool:
        """Write the record of a running job's copy; any worker may claim it.

        Args:
            job_id: the job that runs for too long.
            spec: the copy's description.
            detail: the job's detail from now on, for people.
            signed: the job's token, if it has one: the copy has the same, and its worker makes the copy's description.

        Returns:
            False when it no longer runs, has a copy, or its batch has no room for one.
        """
        named = {"copy_of": job_id, "start_within": spec.deadline or None, "detail": detail}
        return bool(self._base.run_for(copy_id_of(job_id), "batches/start_copy", signed or spec.to_json(), **named))

    def inputs(self, batch_id: str) -> dict[str, tuple[int, str]]:
        """Return the place of each input of a batch by its key, and its digest where that is stored."""
        with redis_errors(f"batch {batch_id}"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hgetall(self._key("batch", batch_id, "inputs"))
            (found,) = answers(pipe)
        if not isinstance(found, dict):
            raise self._base.cannot_read(f"batch {batch_id}", found)
        read = ((as_text(key), as_text(text).partition(" ")) for key, text in found.items())
        with reading():
            return {key: (whole(place), digest) for key, (place, _, digest) in read}

    def open(self, batch_id: str, *, again: bool = False) -> None:
        """Let a batch take further jobs, until it is closed again.

        Args:
            batch_id: the batch's id.
            again: also one that was cancelled or stopped.

        Raises:
            UnknownJob: there is none.
            SpecError: it was cancelled or stopped.
        """
        code, *why = self._base.run("batches/open", f"batch {batch_id}", batch=batch_id, again=again or None)
        if code == 0:
            raise UnknownJob(f"no batch {batch_id} is known; its record may have expired")
        if code == 2:
            raise SpecError(
                f"key: its batch {batch_id} has ended early ({as_text(why[0])}); again=True (--again) submits what did "
                "not succeed again",
                field="key",
            )
        if code == 3:
            raise SpecError(
                f"again: the jobs of batch {batch_id} are still being cancelled; repeat the call when it has ended",
                field="again",
            )

    def spare_ended(self, batch_id: str, *, over: bool = False) -> None:
        """Let a batch's jobs that have not succeeded break no rule while a call replaces them, some hundred at once.

        Args:
            batch_id: the batch's id.
            over: they have been replaced: all jobs count again.
        """
        self._base.run("batches/spare", f"batch {batch_id}", batch=batch_id, over=over or None)

    def arrange(self, batch_id: str, out: Sequence[str], back: Sequence[str], order: Sequence[int] | None) -> int:
        """Record in which order a batch's inputs are, and which of its jobs count.

        Args:
            batch_id: the batch's id.
            out: jobs that count no more if they have ended.
            back: jobs that count again.
            order: the places of the inputs in their order; empty for the order of the places, None for no change.

        Returns:
            How many jobs count no more by this.
        """
        named = {"batch": batch_id, "out": out, "back": back, "why": DROPPED, "order": order}
        return int(self._base.run("batches/arrange", f"batch {batch_id}", **named))

    def set_reduces(self, batch_id: str, reduced_by: str, fan_in: int) -> None:
        """Record which batch reduces a batch's outputs, and how many of them one job takes."""
        with redis_errors(f"batch {batch_id}"):
            self._client.hset(self._key("batch", batch_id), mapping={"reduced_by": reduced_by, "fan_in": fan_in})

    def close(self, batch_id: str, total: int) -> None:
        """Record that all jobs of a batch have been submitted; it ends with the last of them.

        Args:
            batch_id: the batch's id.
            total: how many there are.
        """
        self._base.run("batches/close", f"batch {batch_id}", batch=batch_id, total=total)

    def cancel(self, batch_id: str, why: str, by: str = "") -> bool:
        """Record, durably, that a batch is to be cancelled: it gets no further jobs, and starts none.

        Its open jobs then have to be cancelled (``cancel_jobs``); should the caller die before that, a worker does it.

        Args:
            batch_id: the batch's id.
            why: the reason.
            by: who asks for it; empty if a worker does.

        Returns:
            False if it had already ended.

        Raises:
            UnknownJob: there is no such batch.
        """
        answer = int(self._base.run("batches/cancel", f"batch {batch_id}", batch=batch_id, why=why, by=by or None))
        if answer == 0:
            raise UnknownJob(f"no batch {batch_id} is known; its record may have expired")
        return answer == 1

    def cancel_jobs(self, batch_id: str) -> int:
        """Cancel the open jobs of a batch that is marked as cancelled; return how many there were.

        Args:
            batch_id: the batch's id.

        Raises:
            UnknownJob: there is no such batch.
            LedgerUnavailable: Redis does not answer; the same call goes on.
        """
        batch = self.get(batch_id)
        count = 0
        for first in range(0, batch.span, PAGE):
            numbers = range(first, min(first + PAGE, batch.span))
            records = self._queries.find(self._queries.batch_job_ids(batch_id, numbers))
            if ids := [record.id for record in records if not record.terminal]:
                self._submission.cancel_many(ids, batch.cancelled, batch_id)
                count += len(ids)
        # One that was started again meanwhile may have been cancelled again: that is left to the next round.
        if self.get(batch_id).generation == batch.generation:
            self.cancellation_done(batch_id)
        return count

    def cancelling(self) -> list[str]:
        """Return ids of cancelled batches whose jobs may not all be cancelled yet."""
        with redis_errors("batches"):
            return [as_text(item) for item in self._client.smembers(self._key("cancelling"))]

    def cancellation_done(self, batch_id: str) -> None:
        """Record that every open job of a cancelled batch is cancelled."""
        with redis_errors(f"batch {batch_id}"):
            self._client.srem(self._key("cancelling"), batch_id)

    def get(self, batch_id: str) -> BatchRecord:
        """Return a batch's record.

        Raises:
            UnknownJob: there is no such batch.
            UnreadableRecord: the record is unreadable.
        """
        found = self.find([batch_id])
        if found:
            return found[0]
        if why := self._base.unreadable.get(f"batch {batch_id}"):
            raise self._base.cannot_read(f"batch {batch_id}", why)
        raise UnknownJob(f"no batch {batch_id} is known; its record may have expired")

    def recent(self, limit: int = 100) -> list[BatchRecord]:
        """Return the records of batches, youngest first."""
        with redis_errors("batches"):
            ids = [as_text(item) for item in self._client.zrevrange(self._key("batches"), 0, limit - 1)]
        return self.find(ids)

    def find(self, batch_ids: Sequence[str]) -> list[BatchRecord]:
        """Return the existing records of these batches, in the given order; see ``Queries.find``."""
        with redis_errors("batches"):
            pipe = self._client.pipeline(transaction=False)
            for batch_id in batch_ids:
                pipe.hgetall(self._key("batch", batch_id))
            return list(self._base.readable(batch_ids, answers(pipe), parse_batch, "batch"))

    def ended_jobs(self, batch_id: str, offset: int = 0, limit: int = 500) -> list[str]:
        """Return ids of a batch's jobs that have ended, in the order in which they did.

        Args:
            batch_id: the batch's id.
            offset: how many to skip.
            limit: at most this many.

        Raises:
            UnreadableRecord: the key holds no list of ids.
        """
        import redis

        with redis_errors(f"batch {batch_id}"):
            try:
                found = self._client.lrange(self._key("batch", batch_id, "ended"), offset, offset + limit - 1)
            except redis.ResponseError as error:
                wrong_type(error)
                raise self._base.cannot_read(f"batch {batch_id}", error) from error
        return [as_text(item) for item in found]

    def waiting_before(self, batch_id: str, job_id: str) -> int | None:
        """Return how many jobs wait for a slot of the batch before this one; None if it does not wait for one."""
        with redis_errors(f"batch {batch_id}"):
            rank = self._client.zrank(self._key("batch", batch_id, "waiting"), job_id)
        return rank if isinstance(rank, int) else None

    def changes(self, batch_id: str) -> Subscription:
        """Return a subscription to the outcomes of a batch's jobs; use it in a ``with`` statement."""
        return Subscription(self._client, self._channel("changes", "batch", batch_id))

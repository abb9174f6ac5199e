"""The ledger, as everybody reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from jaas_submit.connection.connection import as_text, redis_errors
from jaas_submit.connection.subscription import Subscription
from jaas_submit.errors import UnknownJob
from jaas_submit.ledger.base import Part
from jaas_submit.ledger.encoding import parse_record
from jaas_submit.placement import Cluster
from jaas_submit.records import JobRecord, Logs
from jaas_submit.states import TERMINAL, JobState, is_terminal, read_as

__all__ = ["Change", "Outline", "Queries"]


_MOST_ASKED_AHEAD: Final = 2000
"""Jobs ahead that are asked for their queue; of more, all count, as an exact number would cost more than it tells."""


class Change(NamedTuple):
    """One notice from the changes channel."""

    state: JobState
    detail: str
    reported: bool


class Outline(NamedTuple):
    """What those need of a record who look at very many."""

    id: str
    state: JobState
    updated_at: float
    """By Redis' clock, in seconds since the epoch."""
    late: bool
    ended: frozenset[int]
    """Numbers of the attempts that have ended."""
    reported: bool
    """Celery has the result."""

    @property
    def terminal(self) -> bool:
        """Whether the job has ended; of a state that only a newer version knows, its report tells."""
        return is_terminal(self.state) or self.reported


class Queries(Part):
    """What is known of jobs and workers."""

    def get(self, job_id: str) -> JobRecord:
        """Return a job's record.

        Raises:
            UnknownJob: there is none.
        """
        found = self.find([job_id])
        if not found:
            raise UnknownJob(f"no job {job_id} is known; its record may have expired")
        return found[0]

    def find(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Return the records of those of the jobs that have one, in the order given."""
        with redis_errors("records"):
            if len(job_ids) == 1:  # by far the most frequent; a pipeline costs its caller more
                rows: list[Any] = [self._client.hgetall(self._key("job", job_ids[0]))]
            else:
                pipe = self._client.pipeline(transaction=False)
                for job_id in job_ids:
                    pipe.hgetall(self._key("job", job_id))
                rows = pipe.execute()
        return [parse_record(i, row) for i, row in zip(job_ids, rows, strict=True) if row]

    def outlines(self, job_ids: Sequence[str]) -> list[Outline]:
        """Return the outlines of those of the jobs that have a record: a tenth of the work of ``find``."""
        with redis_errors("records"):
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hmget(self._key("job", job_id), "state", "updated_at", "late", "attempts", "reported")
            rows = pipe.execute()
        return [
            Outline(
                job_id,
                read_as(JobState, as_text(state)),
                float(updated_at),
                late == b"1",
                frozenset(attempt["number"] for attempt in json.loads(attempts or b"[]")),
                reported == b"1",
            )
            for job_id, (state, updated_at, late, attempts, reported) in zip(job_ids, rows, strict=True)
            if state
        ]

    def logs(self, job_id: str, attempt: int) -> Logs | None:
        """Return the captured output of an attempt; None where none is kept."""
        with redis_errors(f"job {job_id}"):
            data = self._client.get(self._key("log", job_id, attempt))
        return Logs.unpack(data) if isinstance(data, bytes) else None

    def ids(self, state: JobState | None = None, limit: int = 100, offset: int = 0) -> list[str]:
        """Return ids of jobs, youngest first.

        Args:
            state: only jobs in this state (ordered by when they came into it).
            limit: at most so many.
            offset: how many to pass over first.
        """
        key = self._key("state", state) if state else self._key("jobs")
        with redis_errors("jobs"):
            return [as_text(item) for item in self._client.zrevrange(key, offset, offset + limit - 1)]

    def active(self) -> list[str]:
        """Return the ids of all jobs that have not ended, as they were at one moment, youngest first in each state."""
        with redis_errors("jobs"):
            pipe = self._client.pipeline()  # one transaction: no job moves on from one state to the next in between
            for state in JobState:
                if state not in TERMINAL:
                    pipe.zrevrange(self._key("state", state), 0, -1)
            return [as_text(job_id) for ids in pipe.execute() for job_id in ids]

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs there are in each state."""
        with redis_errors("counts"):
            pipe = self._client.pipeline(transaction=False)
            for state in JobState:
                pipe.zcard(self._key("state", state))
            return dict(zip(JobState, pipe.execute(), strict=True))

    def counts_and_ages(self) -> dict[JobState, tuple[int, float]]:
        """Return for each state how many jobs are in it, and for how many seconds the oldest of them has been."""
        with redis_errors("counts"):
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            for state in JobState:
                pipe.zcard(self._key("state", state))
                pipe.zrange(self._key("state", state), 0, 0, withscores=True)
            (seconds, micros), *answers = pipe.execute()
        now = seconds + micros / 1e6
        pairs = zip(JobState, answers[::2], answers[1::2], strict=True)
        return {state: (count, max(now - oldest[0][1], 0.0) if oldest else 0.0) for state, count, oldest in pairs}

    def ahead(self, job_id: str, queue: str) -> int:
        """Return how many QUEUED jobs of a queue were submitted before this one."""
        key = self._key("state", JobState.QUEUED)
        with redis_errors("queue"):
            rank = self._client.zrank(key, job_id)
            if not isinstance(rank, int) or rank > _MOST_ASKED_AHEAD:
                return rank if isinstance(rank, int) else 0
            pipe = self._client.pipeline(transaction=False)
            for other in self._client.zrange(key, 0, rank - 1) if rank else ():
                pipe.hget(self._key("job", as_text(other)), "queue")
            return sum(found is not None and as_text(found) == queue for found in pipe.execute())

    def queue_length(self, lists: Sequence[str]) -> int:
        """Return how many messages wait in a queue.

        Args:
            lists: the names of Redis' lists that the queue is made of, one for each priority.
        """
        with redis_errors("queue"):
            pipe = self._client.pipeline(transaction=False)
            for name in lists:
                pipe.llen(name)
            return sum(pipe.execute())

    def workers(self) -> list[dict[str, Any]]:
        """Return what each live worker says about itself, with the number of jobs it holds."""
        with redis_errors("workers"):
            seconds, micros = self._client.time()
            holders = [
                as_text(h) for h in self._client.zrangebyscore(self._key("holders"), seconds + micros / 1e6, "+inf")
            ]
            pipe = self._client.pipeline(transaction=False)
            for holder in holders:
                pipe.get(self._key("info", holder))
                pipe.scard(self._key("held", holder))
            answers = pipe.execute()
        return [
            {"holder": holder, "jobs": answers[2 * i + 1], **json.loads(answers[2 * i] or "{}")}
            for i, holder in enumerate(holders)
        ]

    def cluster(self) -> Cluster | None:
        """Return what a worker saw last of the swarm's nodes; None when none has told anything for an hour."""
        with redis_errors("nodes"):
            text = self._client.get(self._key("cluster"))
        return Cluster.model_validate_json(text) if isinstance(text, bytes) else None

    def changes(self, job_id: str) -> Subscription:
        """Return a subscription to the transitions of one job; use it in a ``with`` statement."""
        return Subscription(self._client, self._key("changes", job_id))

    @property
    def changes_channel(self) -> str:
        """Prefix of the channels on which transitions are published, for asynchronous clients."""
        return self._key("changes", "")

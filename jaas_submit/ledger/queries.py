"""The ledger for readers."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from jaas_submit.connection.connection import answers, as_text, is_refusal, redis_errors, wrong_type
from jaas_submit.connection.subscription import Subscription
from jaas_submit.errors import UnknownJob
from jaas_submit.ledger.base import Part
from jaas_submit.ledger.encoding import parse_record, reading
from jaas_submit.model.bounds import bounded, shown, whole
from jaas_submit.model.cluster import Cluster
from jaas_submit.model.ids import batch_job_id
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import JobRecord
from jaas_submit.model.states import TERMINAL, JobState, is_terminal, read_as

__all__ = ["Change", "Outline", "Queries"]


_SHORTEST_ID: Final = 4
IDS_PER_READ: Final = 5000
_MOST_CANDIDATES: Final = 4
"""How short an id may be, how many ids are read at once, and how many a message about an ambiguous one names."""

_MOST_PLATFORMS: Final = 50

_MOST_ASKED_AHEAD: Final = 2000
"""Number of jobs ahead whose queue is checked; beyond that all count, because an exact number would be expensive."""


class Change(NamedTuple):
    """One notice of the changes channel."""

    state: JobState
    detail: str
    reported: bool


class Outline(NamedTuple):
    """The fields of a record for callers that read very many."""

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
        """Whether the job has ended; in a state that only a newer version knows, ``reported`` decides."""
        return is_terminal(self.state) or self.reported


def _outline(job_id: str, row: Sequence[bytes | None]) -> Outline | None:
    state, updated_at, late, attempts, reported = row
    if not state:
        return None
    with reading():
        return Outline(
            job_id,
            read_as(JobState, as_text(state)),
            float(updated_at or b""),
            late == b"1",
            frozenset(int(attempt["number"]) for attempt in json.loads(attempts or b"[]")),
            reported == b"1",
        )


def _states(without: Container[JobState] = ()) -> list[str]:
    return [f"state:{state}" for state in JobState if state not in without]


def _age(now: float, oldest: Sequence[tuple[bytes, float]] | None) -> float:
    age = now - oldest[0][1] if oldest else 0.0
    return max(age, 0.0) if isfinite(age) else 0.0


_MOST_OF_INFO: Final = 64 * 1024
_TEXTS: Final = frozenset({"version", "host", "node", "node_id", "log_driver", "engine", "queue", "engine_unavailable"})
_NUMBERS: Final = frozenset(
    {"pid", "clock_ahead", "max_in_flight", "waiting", "starting", "window", "in_flight", "room"}
)


def _is_as_said(name: str, value: object) -> bool:
    """Return whether a worker's report about itself has the expected form; unknown fields may be anything."""
    if name in _TEXTS:
        return isinstance(value, str)
    if name in {"queues", "logins"}:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if name in _NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return True


class Queries(Part):
    """Reads of jobs and workers."""

    def get(self, job_id: str) -> JobRecord:
        """Return a job's record.

        Raises:
            UnknownJob: there is none.
            UnreadableRecord: the record is unreadable.
        """
        found = self.find([job_id])
        if found:
            return found[0]
        if why := self._base.unreadable.get(f"job {job_id}"):
            raise self._base.cannot_read(f"job {job_id}", why)
        raise UnknownJob(f"no job {job_id} is known; its record may have expired")

    def full_id(self, text: str, kind: str = "job") -> str:
        """Return the id of the one job or batch that a text is the beginning of.

        Args:
            text: an id, or at least four of its first characters.
            kind: ``job`` or ``batch``.

        Returns:
            The text itself, if it is a known id, or the beginning of none.

        Raises:
            UnknownJob: it is the beginning of several ids.
        """
        with redis_errors(f"{kind} {text}"):
            if len(text) < _SHORTEST_ID or self._client.exists(self._key(kind, text)):
                return text
            index, start, found = self._key("batches" if kind == "batch" else "jobs"), 0, list[str]()
            while page := self._client.zrevrange(index, start, start + IDS_PER_READ - 1):
                found += [name for one in page if (name := as_text(one)).startswith(text)]
                start += len(page)
        found = list(dict.fromkeys(found))  # younger jobs may have moved an id from one page to the next
        if len(found) > 1:
            some = ", ".join(found[:_MOST_CANDIDATES]) + (", ..." if len(found) > _MOST_CANDIDATES else "")
            plural = f"{kind}es" if kind == "batch" else f"{kind}s"
            raise UnknownJob(f"{text} is the beginning of {len(found):,} {plural}' ids: {some}; write more of it")
        return found[0] if found else text

    def find(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Return the existing records of these jobs, in the given order.

        Unreadable ones are skipped; ``unreadable`` names them.
        """
        with redis_errors("records"):
            if len(job_ids) == 1:  # the most frequent case; a pipeline would cost more
                rows = [self._hash(self._key("job", job_ids[0]))]
            else:
                pipe = self._client.pipeline(transaction=False)
                for job_id in job_ids:
                    pipe.hgetall(self._key("job", job_id))
                rows = answers(pipe)
        return list(self._base.readable(job_ids, rows, parse_record))

    def _hash(self, key: str) -> Any:
        import redis

        try:
            return self._client.hgetall(key)
        except redis.ResponseError as error:
            return wrong_type(error)

    def existing(self, job_ids: Sequence[str]) -> set[str]:
        """Return those of the jobs that have a record."""
        with redis_errors("records"):
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.exists(self._key("job", job_id))
            return {job_id for job_id, there in zip(job_ids, pipe.execute(), strict=True) if there}

    def batch_order(self, batch_id: str, first: int = 0, count: int | None = None) -> list[int] | None:
        """Return the places of a batch's inputs in the order of the latest call; None if that is the places' own.

        Args:
            batch_id: the batch's id.
            first: position of the first one.
            count: how many; None for all.
        """
        with redis_errors(f"batch {batch_id}"):
            pipe = self._client.pipeline(transaction=False)
            pipe.exists(self._key("batch", batch_id, "order"))
            pipe.lrange(self._key("batch", batch_id, "order"), first, -1 if count is None else first + count - 1)
            there, found = answers(pipe)
        return [whole(as_text(one)) for one in found] if there and isinstance(found, list) else None

    def batch_job_ids(self, batch_id: str, places: Sequence[int]) -> list[str]:
        """Return the id of the job at each of some places of a batch; see ``batch_order``.

        Args:
            batch_id: the batch's id.
            places: indexes, some hundred.
        """
        own = [batch_job_id(batch_id, place) for place in places]
        if not own:
            return []
        with redis_errors(f"batch {batch_id}"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hmget(self._key("batch", batch_id, "places"), [str(place) for place in places])
            (found,) = answers(pipe)
        if not isinstance(found, list):
            return own
        return [as_text(other) if other else one for one, other in zip(own, found, strict=True)]

    def gathered(self, batch_id: str, first: int, count: int) -> list[JobRecord]:
        """Return the existing records of the jobs for some consecutive inputs of a batch.

        Args:
            batch_id: the batch's id.
            first: position of the first input, counted from 0.
            count: how many.
        """
        places = self.batch_order(batch_id, first, count) if count else []
        return self.find(self.batch_job_ids(batch_id, range(first, first + count) if places is None else places))

    def outlines(self, job_ids: Sequence[str]) -> list[Outline]:
        """Return the outlines of those of the jobs that have a record: a tenth of the work of ``find``."""
        with redis_errors("records"):
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hmget(self._key("job", job_id), "state", "updated_at", "late", "attempts", "reported")
            rows = answers(pipe)
        return list(self._base.readable(job_ids, rows, _outline))

    def logs(self, job_id: str, attempt: int) -> Logs | None:
        """Return the captured output of an attempt; None if there is none."""
        with redis_errors(f"job {job_id}"):
            data = self._value(self._key("log", job_id, attempt))
        try:
            return Logs.unpack(data) if data is not None else None
        except ValueError as error:
            return Logs(status=LogStatus.UNAVAILABLE, reason=f"what is kept of it cannot be read: {error}")

    def ids(self, state: JobState | None = None, limit: int = 100, offset: int = 0) -> list[str]:
        """Return ids of jobs, youngest first.

        Args:
            state: only jobs in this state (ordered by when they entered it).
            limit: at most this many.
            offset: how many to skip first.
        """
        key = self._key("state", state) if state else self._key("jobs")
        with redis_errors("jobs"):
            return [as_text(item) for item in self._client.zrevrange(key, offset, offset + limit - 1)]

    def _value(self, key: str) -> bytes | None:
        """Return a text as Redis holds it; invalid JSON if the key holds another type."""
        import redis

        try:
            found = self._client.get(key)
        except redis.ResponseError as error:
            wrong_type(error)
            return b"\xff"
        return found if isinstance(found, bytes) else None

    def active(self) -> list[str]:
        """Return the ids of all jobs that have not ended, at one moment, youngest first in each state."""
        with redis_errors("jobs"):
            pipe = self._client.pipeline()  # one transaction: no job moves on from one state to the next in between
            for state in JobState:
                if state not in TERMINAL:
                    pipe.zrevrange(self._key("state", state), 0, -1)
            return [as_text(job_id) for ids in self._base.sound(pipe, *_states(TERMINAL)) for job_id in ids or ()]

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs there are in each state."""
        with redis_errors("counts"):
            pipe = self._client.pipeline(transaction=False)
            for state in JobState:
                pipe.zcard(self._key("state", state))
            return {s: count or 0 for s, count in zip(JobState, self._base.sound(pipe, *_states()), strict=True)}

    def counts_and_ages(self) -> dict[JobState, tuple[int, float]]:
        """Return for each state how many jobs are in it, and for how many seconds the oldest of them has been."""
        with redis_errors("counts"):
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            for state in JobState:
                pipe.zcard(self._key("state", state))
                pipe.zrange(self._key("state", state), 0, 0, withscores=True)
            names = [name for name in _states() for _ in range(2)]
            (seconds, micros), *found = self._base.sound(pipe, *names)
        now = seconds + micros / 1e6
        pairs = zip(JobState, found[::2], found[1::2], strict=True)
        return {state: (count or 0, _age(now, oldest)) for state, count, oldest in pairs}

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
            return sum(isinstance(found, bytes) and as_text(found) == queue for found in answers(pipe))

    def queue_length(self, lists: Sequence[str]) -> int:
        """Return how many messages wait in a queue.

        Args:
            lists: the names of Redis' lists that the queue is made of, one for each priority. In one that is no list
                no message waits.

        Raises:
            LedgerUnavailable: Redis does not answer, or refuses.
        """
        with redis_errors("queue"):
            pipe = self._client.pipeline(transaction=False)
            for name in lists:
                pipe.llen(name)
            found = pipe.execute(raise_on_error=False)
            for one in found:
                if is_refusal(one):
                    wrong_type(one)
            return sum(one for one in found if isinstance(one, int))

    def workers(self) -> list[dict[str, Any]]:
        """Return each live worker's report about itself, with the number of jobs it holds."""
        with redis_errors("workers"):
            seconds, micros = self._client.time()
            live = self._client.pipeline(transaction=False)
            live.zrangebyscore(self._key("holders"), seconds + micros / 1e6, "+inf")
            holders = [as_text(holder) for holder in self._base.sound(live, "holders")[0] or ()]
            pipe = self._client.pipeline(transaction=False)
            for holder in holders:
                pipe.get(self._key("info", holder))
                pipe.scard(self._key("held", holder))
            found = answers(pipe)
        return [self._worker(holder, *pair) for holder, *pair in zip(holders, found[::2], found[1::2], strict=True)]

    def _worker(self, holder: str, info: Any, jobs: Any) -> dict[str, Any]:
        about: dict[str, Any] = {}
        try:
            said = json.loads(bounded(as_text(info), _MOST_OF_INFO)) if info else {}
            about = {name: value for name, value in said.items() if _is_as_said(name, value)}
            wrong = "" if about == said else f"it says {shown(', '.join(said.keys() - about.keys()))} in no known form"
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            wrong = f"it says of itself what is no JSON object: {shown(str(error))}"
        if isinstance(jobs, Exception):
            jobs, wrong = 0, "the set of the jobs that it holds is none"
        if wrong:
            self._base.cannot_read(f"worker {holder}", wrong)
        else:
            self._base.unreadable.pop(f"worker {holder}", None)
        return {**about, "holder": holder, "jobs": jobs}

    def cluster(self) -> Cluster | None:
        """Return the last view of the swarm's nodes; None if no worker has reported for an hour."""
        with redis_errors("nodes"):
            text = self._value(self._key("cluster"))
        try:
            return Cluster.model_validate_json(text) if text is not None else None
        except ValueError:  # the next report replaces it
            self._base.cannot_read(f"key {self._key('cluster')}", "it does not describe the nodes")
            return None

    def platforms(self, image: str) -> tuple[str, ...]:
        """Return what an image runs on, as its registry told a worker in the last day; empty if that is not known.

        Args:
            image: as in a job description.
        """
        with redis_errors("platforms"):
            text = self._value(self._key("platforms", image))
        return tuple((text or b"").decode("ascii", "ignore").split()[:_MOST_PLATFORMS])

    def changes(self, job_id: str) -> Subscription:
        """Return a subscription to the transitions of one job; use it in a ``with`` statement."""
        return Subscription(self._client, self._channel("changes", job_id))

    @property
    def changes_channel(self) -> str:
        """Prefix of the channels on which transitions are published, for asynchronous clients."""
        return self._channel("changes", "")

"""The ledger for cluster-wide duties: leases; jobs that are unowned, overdue, lost or expired."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from jaas_submit.connection.connection import as_text, redis_errors
from jaas_submit.connection.subscription import Subscription
from jaas_submit.ledger.base import SET_ASIDE, Base, Part
from jaas_submit.ledger.encoding import dump_attempts
from jaas_submit.ledger.queries import Queries
from jaas_submit.model.causes import Cause
from jaas_submit.model.cluster import Cluster
from jaas_submit.model.ids import copy_id_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import MESSAGE_EXPIRED, Attempt, JobRecord
from jaas_submit.model.states import TERMINAL, JobState

__all__ = ["Due", "Maintenance"]

_PLATFORMS_KEPT_S: Final = 86400


class Due(NamedTuple):
    """The duties with pending work; each is done by the call of that name."""

    release_dependents: bool
    reap: bool
    end_overdue: bool
    unowned: bool
    ready: bool
    cancelling: bool
    opening: bool = False


class Maintenance(Part):
    """Repairs of the ledger while workers come and go.

    Args:
        base: of the ledger that it is a part of.
        queries: of the same ledger.
    """

    def __init__(self, base: Base, queries: Queries) -> None:
        super().__init__(base)
        self._queries = queries

    def due(self) -> Due:
        """Return the pending work: usually none, which takes one round trip instead of six."""
        with redis_errors("maintenance"):
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            pipe.llen(self._key("pending_dependents"))
            pipe.scard(self._key("cancelling"))
            pipe.scard(self._key("opening"))
            names = ("holders", "deadlines", "due", "unowned", "ready")
            for name in names:
                pipe.zrange(self._key(name), 0, 0, withscores=True)
            found = self._base.sound(pipe, "pending_dependents", "cancelling", "opening", *names)
        (seconds, micros), dependents, cancelling, opening, *oldest = found
        now = float(seconds) + float(micros) / 1e6
        holders, deadlines, retries, unowned, ready = (bool(one) and float(one[0][1]) <= now for one in oldest)
        later = (bool(cancelling), bool(opening))
        return Due(bool(dependents), holders, deadlines, retries or unowned, ready, *later)

    def renew_lease(self, holder: str, ttl: float, info: dict[str, Any]) -> bool:
        """Take or renew a worker's lease.

        Args:
            holder: the worker process.
            ttl: seconds until it runs out.
            info: the worker's report about itself, for operators.

        Returns:
            False if the lease had expired and others may have adopted its jobs.
        """
        return bool(self._base.run("maintenance/renew_lease", "lease", holder=holder, ttl=ttl, info=json.dumps(info)))

    def drop_lease(self, holder: str) -> None:
        """End a worker's lease at once (shutdown); its jobs have no holder after the next ``reap``."""
        with redis_errors("lease"):
            self._client.zadd(self._key("holders"), {holder: 0}, xx=True)
            self._client.delete(self._key("info", holder))

    def reap(self, most: int = 500) -> list[str]:
        """Take the jobs from workers whose lease has expired; return their ids."""
        return [as_text(item) for item in self._base.run("maintenance/reap", "leases", most=most)]

    def unowned(self, pause: float, most: int = 100) -> list[str]:
        """Return ids of jobs to be taken over: their holder is gone, or released them.

        Args:
            pause: seconds until the same job is returned again if nobody claims it.
            most: at most this many.
        """
        return [as_text(item) for item in self._base.run("maintenance/unowned", "unowned jobs", most=most, pause=pause)]

    def ready(self, pause: float, most: int = 100) -> list[str]:
        """Return ids of ready jobs: the jobs before them have ended, or they are copies.

        Args:
            pause: seconds until the same job is returned again if nobody claims it.
            most: at most this many; the others wait for workers with room.
        """
        return [as_text(item) for item in self._base.run("maintenance/ready", "ready jobs", most=most, pause=pause)]

    def available(self) -> Subscription:
        """Return a subscription to the ids of jobs that may be taken over or started right now."""
        return Subscription(self._client, self._channel("available"))

    def end_overdue(self, most: int = 100) -> list[str]:
        """End jobs whose ``expires`` or ``deadline`` passed before they were started; return their ids.

        So does the ``deadline`` of those that are kept between two attempts, such as in a paused queue.

        A job whose Celery message has expired is CANCELLED, as Celery has it.

        Args:
            most: at most this many.
        """
        ids = [as_text(item) for item in self._base.run("maintenance/overdue", "deadlines", most=most)]
        if not ids:
            return []
        now = self._base.now()
        ended = []
        records = self._queries.find(ids)
        for job_id in set(ids) - {record.id for record in records}:
            self.set_aside(job_id)
        for record in records:
            if record.spec is None:
                self._look_later(record.id, now + 1)
                continue
            # One that has been started is here if it was kept in BACKOFF; only its deadline ends it.
            started = record.state not in {JobState.QUEUED, JobState.WAITING}
            attempt = _overdue(record, record.spec, now, started=started)
            if attempt is None and started:
                self._look_at_its_end(record, record.spec)
            elif attempt and self._end(record.id, attempt, started):  # jobs of one transaction are a microsecond apart
                ended.append(record.id)
        return ended

    def _end(self, job_id: str, attempt: Attempt, started: bool) -> bool:
        dumped = dump_attempts([attempt])[1:-1]
        named = {"attempt": dumped, "state": attempt.state, "why": attempt.reason, "ttl": self._base.ttl}
        return bool(self._base.run_for(job_id, "maintenance/end_overdue", started=started, **named))

    def _look_at_its_end(self, record: JobRecord, spec: JobSpec) -> None:
        if spec.deadline is not None:
            self._look_later(record.id, record.created_at.timestamp() + spec.deadline)
            return
        with redis_errors(f"job {record.id}"):
            self._client.zrem(self._key("deadlines"), record.id)

    def set_aside(self, job_id: str) -> None:
        """Make all workers ignore a job with an unreadable record for an hour."""
        at = self._base.now() + SET_ASIDE
        with redis_errors(f"job {job_id}"):
            for name in ("unowned", "ready", "deadlines"):
                self._client.zadd(self._key(name), {job_id: at}, xx=True)

    def _look_later(self, job_id: str, at: float) -> None:
        """Look at a job again at a time, such as one that a newer version can read meanwhile."""
        with redis_errors(f"job {job_id}"):
            self._client.zadd(self._key("deadlines"), {job_id: at}, xx=True)

    def release_dependents(self) -> bool:
        """Continue with the dependents of ended jobs and batches that had too many for one script.

        Returns:
            Whether there is still more.
        """
        return bool(self._base.run("maintenance/release_dependents", "dependents"))

    def lost_messages(
        self, queue: str, margin: float, pause: float, most: int = 100, *, empty: bool = False
    ) -> list[str]:
        """Return ids of QUEUED jobs whose message must have been lost.

        Args:
            queue: the queue that their messages went to.
            margin: seconds after which a message that has not arrived counts as lost, if messages of jobs that are this
                much younger have arrived, or the queue is empty.
            pause: seconds until the same job is returned again if nobody claims it.
            most: at most this many; the oldest 5,000 QUEUED jobs are read.
            empty: no message waits in the queue now.
        """
        named = {"queue": queue, "margin": margin, "pause": pause, "most": most, "empty": empty}
        found = self._base.run("maintenance/lost_messages", "lost messages", **named)
        return [as_text(item) for item in found]

    def identity(self) -> str:
        """Return this ledger's own id: services carry it to name their installation."""
        key = self._key("identity")
        with redis_errors("identity"):
            found = self._client.get(key)
            if found is None:  # an agent may read it only: a worker writes it
                self._client.set(key, uuid.uuid4().hex[:16], nx=True)
                found = self._client.get(key)
            return as_text(found)

    def secret(self) -> str:
        """Return what this ledger's references to stored values are signed with; it is shown nowhere."""
        key = self._key("secret")
        with redis_errors("secret"):
            found = self._client.get(key)
            if found is None:
                self._client.set(key, secrets.token_hex(32), nx=True)
                found = self._client.get(key)
            return as_text(found)

    def restore(
        self,
        job_id: str,
        spec: JobSpec,
        queue: str,
        attempt: int,
        batch: str = "",
        index: int = 0,
        copy_of: str = "",
        replaces: str = "",
        signed: str = "",
    ) -> bool:
        """Rebuild a record that Redis has lost (it came back with older data), for an existing service.

        If the batch's record is lost too, it is rebuilt without name, quorum and total: submitting again with its key
        completes it.

        Args:
            job_id: the job's id.
            spec: the description in the service's labels.
            queue: the workers' queue.
            attempt: which attempt the service is.
            batch: id of the batch it belongs to.
            index: the input's number in the batch.
            copy_of: id of the job that it is a copy of.
            replaces: id of the job whose place in the batch it took.
            signed: the token in the service's labels; empty if it has none.

        Returns:
            False if there is a record.
        """
        named = {"queue": queue, "attempt": attempt, "copy": copy_id_of(job_id)}
        member = {"batch": batch, "index": index, "copy_of": copy_of or None, "replaces": replaces or None}
        stored = signed or spec.to_json()
        return bool(self._base.run_for(job_id, "maintenance/restore", stored, **named, **(member if batch else {})))

    def expired(self, most: int = 1000) -> list[str]:
        """Return the ids of jobs whose record has expired: ``sweep`` will forget them.

        Args:
            most: how many of the oldest are read: of all, and of each terminal state.
        """
        with redis_errors("sweep"):
            pipe = self._client.pipeline(transaction=False)
            for key in (self._key("jobs"), *(self._key("state", state) for state in sorted(TERMINAL))):
                pipe.zrange(key, 0, most - 1)
            ids = list({as_text(item): None for found in pipe.execute() for item in found})
            for job_id in ids:
                pipe.exists(self._key("job", job_id))
            return [job_id for job_id, there in zip(ids, pipe.execute(), strict=True) if not there]

    def sweep(self, most: int = 1000) -> int:
        """Remove expired records from the indexes, and batches that ended as long ago.

        Args:
            most: how many of the oldest are read: of all, and of each terminal state.

        Returns:
            How many were removed.
        """
        return int(self._base.run("maintenance/sweep", "sweep", most=most, ttl=self._base.ttl))

    def take_duty(self, name: str, holder: str, ttl: float) -> bool:
        """Take or keep a cluster-wide duty; False when another worker has it."""
        return bool(self._base.run("maintenance/take_duty", "duty", name=name, holder=holder, ttl=ttl))

    def save_cluster(self, cluster: Cluster) -> None:
        """Store a worker's view of the swarm's nodes, for programs without an engine."""
        with redis_errors("nodes"):
            self._client.set(self._key("cluster"), cluster.model_dump_json(), ex=3600)

    def save_platforms(self, image: str, platforms: Sequence[str]) -> None:
        """Store what an image runs on, for programs that ask no registry.

        Args:
            image: as in a job description.
            platforms: such as ``linux/amd64``.
        """
        with redis_errors("platforms"):
            self._client.set(self._key("platforms", image), " ".join(platforms), ex=_PLATFORMS_KEPT_S)


def _overdue(record: JobRecord, spec: JobSpec, now: float, *, started: bool) -> Attempt | None:
    """Return the last attempt of a job that nobody has started in time; None if it still has time."""
    state, over = JobState.FAILED, spec.too_late(now - record.created_at.timestamp(), started=started)
    if over is None and not started and record.message_expired(now):
        state, over = JobState.CANCELLED, (Cause.CANCELLED, MESSAGE_EXPIRED)
    if over is None:
        return None
    cause, why = over
    decision = f"never retried after cause {cause}"
    ended = datetime.fromtimestamp(now, UTC)
    return Attempt(number=0, state=state, cause=cause, reason=why, finished_at=ended, decision=decision)

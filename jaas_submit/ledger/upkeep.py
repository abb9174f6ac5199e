"""The ledger, as those use it who look after all jobs: leases, orphans, what is overdue, lost or expired."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from jaas_submit.ids import copy_id_of
from jaas_submit.ledger.base import SET_ASIDE
from jaas_submit.ledger.connection import Subscription, as_text, reach
from jaas_submit.ledger.lua_jobs import OVERDUE, RESTORE
from jaas_submit.ledger.lua_upkeep import (
    LOCK,
    ORPHANS,
    OVER_TIME,
    REAP,
    RELEASED,
    RENEW,
    SWEEP,
    UNHEARD,
)
from jaas_submit.ledger.readers import ReaderPart
from jaas_submit.ledger.rows import dump_attempts
from jaas_submit.placement import Cluster
from jaas_submit.records import Attempt
from jaas_submit.spec import JobSpec
from jaas_submit.states import TERMINAL, JobState

__all__ = ["Due", "UpkeepPart"]


class Due(NamedTuple):
    """What there is to do for who looks after all jobs; each by the call of that name."""

    settle_rest: bool
    reap: bool
    end_overdue: bool
    orphans: bool
    released: bool


class UpkeepPart(ReaderPart):
    """What keeps the ledger right while workers come and go."""

    def due(self) -> Due:
        """Return what there is to do: mostly nothing, which one round trip tells instead of five."""
        with reach("upkeep"):
            pipe = self.client.pipeline(transaction=False)
            pipe.time()
            pipe.llen(self._key("settling"))
            names = ("holders", "deadlines", "due", "orphans", "released")
            for name in names:
                pipe.zrange(self._key(name), 0, 0, withscores=True)
            (seconds, micros), settling, *oldest = self._sound(pipe, "settling", *names)
        now = float(seconds) + float(micros) / 1e6
        holders, deadlines, retries, orphans, released = (bool(one) and float(one[0][1]) <= now for one in oldest)
        return Due(bool(settling), holders, deadlines, retries or orphans, released)

    def renew(self, holder: str, ttl: float, info: dict[str, Any]) -> bool:
        """Take or renew a worker's lease.

        Args:
            holder: the worker process.
            ttl: seconds until it runs out.
            info: what the worker says about itself, for operators.

        Returns:
            False when the lease had run out and its jobs may have been given to others.
        """
        return bool(self._run_all("lease", RENEW, holder, ttl, json.dumps(info)))

    def drop_lease(self, holder: str) -> None:
        """End a worker's lease at once (shutdown); jobs that it still holds become orphans at the next ``reap``."""
        with reach("lease"):
            self.client.zadd(self._key("holders"), {holder: 0}, xx=True)
            self.client.delete(self._key("info", holder))

    def reap(self, most: int = 500) -> list[str]:
        """Take the jobs from workers whose lease has run out; return their ids."""
        return [as_text(item) for item in self._run_all("leases", REAP, most)]

    def orphans(self, pause: float, most: int = 100) -> list[str]:
        """Return ids of jobs that somebody has to take over: their holder is gone, or gave them up.

        Args:
            pause: seconds until the same job is returned again if nobody claims it.
            most: at most so many.
        """
        return [as_text(item) for item in self._run_all("orphans", ORPHANS, most, pause)]

    def released(self, pause: float, most: int = 100) -> list[str]:
        """Return ids of QUEUED jobs of which no message tells: what they came after has ended, or they are copies.

        Args:
            pause: seconds until the same job is returned again if nobody claims it.
            most: at most so many; the others wait here for workers that have room.
        """
        return [as_text(item) for item in self._run_all("released jobs", RELEASED, most, pause)]

    def new_orphans(self) -> Subscription:
        """Return a subscription to the ids of jobs that may be taken over or started right now."""
        return Subscription(self.client, self._key("orphaned"))

    def end_overdue(self, most: int = 100) -> list[str]:
        """End jobs that nobody has started in the time they had (``expires``, ``deadline``); return their ids.

        Args:
            most: at most so many.
        """
        ids = [as_text(item) for item in self._run_all("deadlines", OVER_TIME, most)]
        if not ids:
            return []
        now = self.now()
        ended = []
        records = self.find(ids)
        for job_id in set(ids) - {record.id for record in records}:
            self.set_aside(job_id)
        for record in records:
            if record.spec is None:
                self._look_later(record.id, now + 1)
                continue
            over = record.spec.too_late(now - record.created_at.timestamp(), started=False)
            if over is None:  # of many jobs made in one transaction, each is a microsecond younger than the one before
                continue
            cause, why = over
            attempt = Attempt(
                number=0,
                state=JobState.FAILED,
                cause=cause,
                reason=why,
                finished_at=datetime.fromtimestamp(now, UTC),
                decision=f"never retried after cause {cause}",
            )
            if self._run(OVERDUE, record.id, dump_attempts([attempt])[1:-1], why, self.ttl):
                ended.append(record.id)
        return ended

    def set_aside(self, job_id: str) -> None:
        """Have nobody look for an hour at a job whose record cannot be read."""
        at = self.now() + SET_ASIDE
        with reach(f"job {job_id}"):
            for name in ("orphans", "released", "deadlines"):
                self.client.zadd(self._key(name), {job_id: at}, xx=True)

    def _look_later(self, job_id: str, at: float) -> None:
        """Have a job that this version cannot read stand behind the others; a newer version reads it meanwhile."""
        with reach(f"job {job_id}"):
            self.client.zadd(self._key("deadlines"), {job_id: at}, xx=True)

    def unheard(self, queue: str, margin: float, pause: float, most: int = 100, *, empty: bool = False) -> list[str]:
        """Return ids of QUEUED jobs whose message must have been lost.

        Args:
            queue: the queue that their messages went to.
            margin: seconds after which a message that has not arrived counts as lost, if messages of jobs younger by as
                much have arrived, or the queue is empty.
            pause: seconds until the same job is returned again if nobody claims it.
            most: at most so many; the oldest 5,000 QUEUED jobs are looked at.
            empty: no message waits in the queue now.
        """
        found = self._run_all("unheard", UNHEARD, most, pause, margin, queue, int(empty))
        return [as_text(item) for item in found]

    def identity(self) -> str:
        """Return this ledger's own id: services tell by it which installation they belong to."""
        key = self._key("identity")
        with reach("identity"):
            self.client.set(key, uuid.uuid4().hex[:16], nx=True)
            return as_text(self.client.get(key))

    def restore(
        self, job_id: str, spec: JobSpec, queue: str, attempt: int, batch: str = "", index: int = 0, copy_of: str = ""
    ) -> bool:
        """Make a record again that Redis has lost (it came back older than it was), for a service that exists.

        Where the batch's record is lost, too, it is made again, without name, quorum and total: submitting with its key
        once more completes it.

        Args:
            job_id: the job's id.
            spec: the description, as the service tells it.
            queue: the workers' queue.
            attempt: which attempt the service is.
            batch: id of the batch it belongs to.
            index: which of the batch's inputs it is for.
            copy_of: id of the job that it is a copy of.

        Returns:
            False when there is a record after all.
        """
        member: dict[str, object] = {"copy": copy_id_of(job_id)}
        if batch:
            member |= {"batch": batch, "index": index}
        if copy_of:
            member["copy_of"] = copy_of
        return bool(self._run(RESTORE, job_id, spec.to_json(), queue, attempt, json.dumps(member)))

    def expired(self, most: int = 1000) -> list[str]:
        """Return the ids of jobs whose record has expired: ``sweep`` will forget them.

        Args:
            most: how many of the oldest are looked at: of all, and of those in each state that is an end.
        """
        with reach("sweep"):
            pipe = self.client.pipeline(transaction=False)
            for key in (self._key("jobs"), *(self._key("state", state) for state in sorted(TERMINAL))):
                pipe.zrange(key, 0, most - 1)
            ids = list({as_text(item): None for found in pipe.execute() for item in found})
            for job_id in ids:
                pipe.exists(self._key("job", job_id))
            return [job_id for job_id, there in zip(ids, pipe.execute(), strict=True) if not there]

    def sweep(self, most: int = 1000) -> int:
        """Remove expired records from the indexes, and batches that ended as long ago.

        Args:
            most: how many of the oldest are looked at: of all, and of those in each state that is an end.

        Returns:
            How many were removed.
        """
        return int(self._run_all("sweep", SWEEP, most, self.ttl))

    def lock(self, name: str, holder: str, ttl: float) -> bool:
        """Take or keep a cluster-wide duty; False when another worker has it."""
        return bool(self._run_all("duty", LOCK, name, holder, ttl))

    def tell_cluster(self, cluster: Cluster) -> None:
        """Keep what a worker saw of the swarm's nodes, for those who have no engine to ask."""
        with reach("nodes"):
            self.client.set(self._key("cluster"), cluster.model_dump_json(), ex=3600)

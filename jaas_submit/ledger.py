"""The ledger: every job's record in Redis. The only module that knows Redis keys and scripts.

Keys (P is the prefix, "jaas" by default)::

    P:job:ID            hash    the record: state, spec (JSON), queue, task_id, attempt, holder, detail, node, cancel,
                                created_at, updated_at, started_at, attempts (JSON), message (foreign producers' only),
                                reported, late, asked_at, image, note, due_at, key, replay_of, replayed_by, batch,
                                index, active, needs, output
    P:log:ID:ATTEMPT    string  packed Logs of one attempt
    P:batch:ID          hash    a batch: created_at, name, size, total (once all are submitted), max_parallel, active,
                                min_success, n:STATE (how many jobs are in it), cancelled, done, state, reason, ended_at
    P:batch:ID:line     zset    ids that wait for their batch's max_parallel -> index
    P:batch:ID:ended    list    ids in the order in which they ended
    P:batches           zset    id -> created_at
    P:cancelling        set     ids of batches that are to be cancelled and whose jobs may not all know of it
    P:after:ID          set     "id|on" of jobs that come after this one; ID may be batch:ID
    P:jobs              zset    id -> created_at: for lists
    P:state:STATE       zset    id -> since: for counts, lists and stale QUEUED records
    P:held:HOLDER       set     ids that this worker process holds
    P:due               zset    ids in state BACKOFF -> time at which the next attempt is due
    P:deadlines         zset    ids in state QUEUED or WAITING -> time at which they are over without having started
    P:key:KEY           string  idempotency key -> id, with a time to live
    P:holders           zset    holder -> time at which its lease runs out
    P:orphans           zset    ids whose holder is gone -> time from which somebody has to take them over
    P:heard             hash    queue -> created_at of the youngest record whose message arrived
    P:info:HOLDER       string  what a worker says about itself (JSON), with the lease's time to live
    P:cluster           string  the swarm's nodes as a worker saw them last (JSON), for an hour
    P:identity          string  this ledger's id, made once
    P:lock:NAME         string  who does a cluster-wide duty now, with a time to live
    P:changes:ID        channel one JSON object a transition
    P:changes:batch:ID  channel ids of a batch's jobs that ended; "done" at its end
    P:cancels           channel ids to cancel
    P:orphaned          channel ids that may be taken over or started at once

Rules that keep it right:

* Every transition is one Lua script: it compares (state, holder) and sets record, indexes and channel together, so
  there is nothing between two commands for a crash to hit.
* Every time is Redis' own (TIME inside the scripts): clocks of workers and producers do not matter.
* A worker may change a record only while it is the record's holder. One that was suspended past its lease finds
  another holder there and drops the job.
* A terminal record is never changed again, except for `reported` and its expiry.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from jaas_submit import ledger_scripts as scripts
from jaas_submit.errors import LedgerUnavailable, SpecError, UnknownJob
from jaas_submit.explain import Cluster
from jaas_submit.names import DEFAULT_PREFIX
from jaas_submit.records import Attempt, BatchRecord, JobRecord, Logs
from jaas_submit.spec import JobSpec
from jaas_submit.states import TERMINAL, TRANSITIONS, Cause, JobState
from jaas_submit.tracing import TRACEPARENT

__all__ = [
    "KEY_TTL",
    "Change",
    "Claim",
    "ClaimAction",
    "Created",
    "Ledger",
    "NewJob",
    "Subscription",
    "connect",
    "parse_record",
]

T = TypeVar("T")

RECORD_TTL: Final = 7 * 86400
"""Seconds that a record and its logs are kept after the job has ended."""

KEY_TTL: Final = 7 * 86400
"""Seconds for which an idempotency key leads to its job, unless the producer says otherwise."""


class ClaimAction(StrEnum):
    """What the worker that received a message has to do."""

    LAUNCH = "launch"  # the job is new: create attempt 1
    ADOPT = "adopt"  # its holder is gone: go on with the attempt that is under way
    REPLAY = "replay"  # it has ended, and the result may still have to reach Celery
    DONE = "done"  # it has ended, and Celery has the result: this message is a copy
    HELD = "held"  # another live worker has it: this message is a copy
    EARLY = "early"  # its next attempt is not due yet: this message is a copy
    UNKNOWN = "unknown"  # there is no record


class Claim(NamedTuple):
    """Answer to a claim: what to do, and the state the record was in."""

    action: ClaimAction
    state: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be written down."""

    job_id: str
    spec: JobSpec | None
    queue: str
    task_id: str = ""
    message: str = ""
    key: str = ""
    key_ttl: float = KEY_TTL
    replay_of: str = ""
    batch: str = ""
    index: int = 0
    after: tuple[tuple[str, str], ...] = ()
    """Ids of jobs (or ``batch:ID``), and on what: success, failure or finish."""
    traceparent: str = ""


class Created(NamedTuple):
    """What became of a new job."""

    new: bool
    """False: there is a job with this id or key already."""
    job_id: str
    state: JobState
    """QUEUED: its message has to be published. WAITING and SKIPPED: not."""


class Change(NamedTuple):
    """One notice from the changes channel."""

    state: JobState
    detail: str
    reported: bool


def connect(url: str, **options: Any) -> redis.Redis:
    """Return a Redis client that reconnects, and that gives up on an answer after 10 seconds.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        options: further arguments of ``redis.Redis.from_url``.

    Raises:
        SpecError: the URL is of no such form.
    """
    settings: dict[str, Any] = {
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 30,
        # Scripts are idempotent (compare-and-set), so that repeating one after a lost reply is safe.
        "retry": Retry(ExponentialBackoff(cap=1, base=0.05), 3),
    }
    try:
        client: redis.Redis = redis.Redis.from_url(url, **{**settings, **options})
    except ValueError as error:
        raise SpecError(f"Redis URL: {error}") from None
    return client


@contextmanager
def _reach(what: str) -> Iterator[None]:
    """Map Redis' errors to ours."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError) as error:
        raise LedgerUnavailable(f"{what}: Redis does not answer ({error})") from error
    except redis.ResponseError as error:
        # OOM, READONLY, MISCONF, NOREPLICAS, LOADING: the server refuses for now.
        # A pipeline's error quotes the command, which may hold a description.
        said = str(error).rpartition("caused error: ")[2]
        raise LedgerUnavailable(f"{what}: Redis refuses ({said})") from error


class Ledger:
    """All that is done with records.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: first part of every key.
        ttl: seconds that a record is kept after the job has ended.

    Every method raises LedgerUnavailable when Redis cannot be reached or refuses; the same call may then be repeated.
    """

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX, ttl: float = RECORD_TTL) -> None:
        self.client = client
        self.prefix = prefix
        self.ttl = int(ttl)
        script = client.register_script
        self._create = script(scripts.HEAD + scripts.CREATE)
        self._claim = script(scripts.HEAD + scripts.CLAIM)
        self._move = script(scripts.HEAD + scripts.MOVE)
        self._back_off = script(scripts.HEAD + scripts.BACK_OFF)
        self._reported = script(scripts.HEAD + scripts.REPORTED)
        self._cancel = script(scripts.HEAD + scripts.CANCEL)
        self._release = script(scripts.HEAD + scripts.RELEASE)
        self._renew = script(scripts.RENEW)
        self._reap = script(scripts.REAP)
        self._orphans = script(scripts.ORPHANS)
        self._overdue = script(scripts.HEAD + scripts.OVERDUE)
        self._unheard = script(scripts.UNHEARD)
        self._close = script(scripts.HEAD + scripts.CLOSE)
        self._cancel_batch = script(scripts.HEAD + scripts.CANCEL_BATCH)
        self._restore = script(scripts.HEAD + scripts.RESTORE)
        self._lock = script(scripts.LOCK)
        self._sweep = script(scripts.SWEEP)

    def __repr__(self) -> str:
        return f"Ledger(prefix={self.prefix!r})"

    def _key(self, *parts: object) -> str:
        return ":".join([self.prefix, *map(str, parts)])

    def _run(self, script: Callable[..., Any], job_id: str, *args: Any) -> Any:
        with _reach(f"job {job_id}"):
            return script(keys=[self._key("job", job_id)], args=[self.prefix, job_id, *args])

    def _run_all(self, what: str, script: Callable[..., Any], *args: Any) -> Any:
        with _reach(what):
            return script(args=[self.prefix, *args])

    # -- producers --------------------------------------------------------------------------------------------------

    def create(self, job_id: str, spec: JobSpec | None, queue: str, task_id: str = "", message: str = "") -> bool:
        """Write the record of a new job, in state QUEUED.

        Args:
            job_id: the job's id.
            spec: the description; None where a foreign message held none that is valid.
            queue: the queue that its message goes to.
            task_id: Celery's task id where it differs from the job's id.
            message: the Celery message as JSON, where only this copy could be published again (foreign producers).

        Returns:
            Whether the record is new; False leaves the one that is there untouched.
        """
        return self.create_once(job_id, spec, queue, task_id=task_id, message=message) is None

    def create_once(
        self,
        job_id: str,
        spec: JobSpec | None,
        queue: str,
        *,
        key: str = "",
        key_ttl: float = KEY_TTL,
        task_id: str = "",
        message: str = "",
        replay_of: str = "",
    ) -> str | None:
        """Write the record of a new job unless there is one with this id or this key; see ``create``.

        Args:
            job_id: the job's id.
            spec: the description.
            queue: the queue that its message goes to.
            key: idempotency key; empty means none.
            key_ttl: seconds for which the key leads to this job (as long as its record exists).
            task_id: see ``create``.
            message: see ``create``.
            replay_of: id of the job that this one repeats.

        Returns:
            None when the record is new, else the id of the job that is there already.
        """
        made = self.create_many(
            [NewJob(job_id, spec, queue, task_id, message, key=key, key_ttl=key_ttl, replay_of=replay_of)]
        )[0]
        return None if made.new else made.job_id

    def create_many(self, jobs: Sequence[NewJob]) -> list[Created]:
        """Write the records of new jobs, all of them in one transaction.

        Args:
            jobs: at most some hundreds: Redis serves nobody else meanwhile.

        Returns:
            For each job what became of it.

        Raises:
            UnknownJob: a job or batch that one of them is to come after is not known; the others are written all the
                same.
            SpecError: a batch takes no more jobs.
        """
        with _reach(f"job {jobs[0].job_id}" if len(jobs) == 1 else f"{len(jobs)} new jobs"):
            pipe = self.client.pipeline()
            for job in jobs:
                self._create(
                    keys=[self._key("job", job.job_id)],
                    args=[self.prefix, job.job_id, *_create_arguments(job)],
                    client=pipe,
                )
            answers = pipe.execute()
        made = []
        for job, (code, *rest) in zip(jobs, answers, strict=True):
            if code == 2:
                what = _text(rest[0]).replace("batch:", "batch ")
                raise UnknownJob(f"after: {what} is not known; its record may have expired")
            if code == 3:
                raise SpecError(f"batch {job.batch} has been cancelled or is complete; it takes no more jobs")
            made.append(Created(code == 1, _text(rest[0]), JobState(_text(rest[1]))))
        return made

    def cancel(self, job_id: str, why: str) -> tuple[JobState, bool]:
        """Ask for the end of a job; durable, so that it is carried out even when no worker is up now.

        Returns:
            The state before, and whether the job is CANCELLED by this very call (nobody had launched it).

        Raises:
            UnknownJob: there is no record.
        """
        attempt = Attempt(
            number=0, state=JobState.CANCELLED, cause=Cause.CANCELLED, reason=why, finished_at=datetime.now(UTC)
        )
        done, state, _ = self._run(self._cancel, job_id, why, _dump_attempts([attempt])[1:-1], self.ttl)
        if not state:
            raise UnknownJob(f"no job {job_id} is known; its record may have expired")
        return JobState(_text(state)), bool(done)

    # -- workers ----------------------------------------------------------------------------------------------------

    def claim(self, job_id: str, holder: str) -> Claim:
        """Become the holder of a job whose message arrived, unless a live worker is.

        Args:
            job_id: the job's id.
            holder: this worker process; its lease must be live (``renew``).
        """
        action, state = self._run(self._claim, job_id, holder)
        return Claim(ClaimAction(_text(action)), _text(state))

    def move(self, job_id: str, holder: str, to: JobState, *, detail: str = "", **fields: object) -> bool:
        """Move a job that this worker holds to another state (or update fields within its state).

        Args:
            job_id: the job's id.
            holder: this worker; the record must name it.
            to: a state that is not terminal.
            detail: what the swarm says, for people.
            fields: further fields of the record, such as ``node``.

        Returns:
            False when the record has another holder or is in a state that does not lead there: the caller drops it.
        """
        return self._moved(job_id, holder, to, detail, fields)

    def finish(
        self,
        job_id: str,
        holder: str,
        attempts: Sequence[Attempt],
        logs: Logs | None = None,
        output: str | None = None,
    ) -> bool:
        """Write the outcome of a job that this worker holds: state, attempts and logs in one step.

        Args:
            job_id: the job's id.
            holder: this worker; the record must name it.
            attempts: all attempts; the last one decides the state.
            logs: captured output of the last attempt; None where no container ran.
            output: the job's typed output as JSON; None when it has none.

        Returns:
            False when the record has another holder or has ended already: the caller drops it.
        """
        last = attempts[-1]
        fields: dict[str, object] = {"attempts": _dump_attempts(attempts), "detail": last.reason}
        if last.node:
            fields["node"] = last.node
        if last.started_at:
            fields["started_at"] = last.started_at.timestamp()
        if output is not None:
            fields["output"] = output
        return self._moved(job_id, holder, last.state, last.reason, fields, logs, last.number)

    def back_off(
        self, job_id: str, holder: str, attempts: Sequence[Attempt], logs: Logs | None, delay: float, detail: str
    ) -> tuple[bool, str]:
        """Write the end of an attempt down, and that another follows; this worker lets go of the job.

        Args:
            job_id: the job's id.
            holder: this worker; the record must name it.
            attempts: all attempts so far.
            logs: captured output of the last one; None where no container ran.
            delay: seconds until the next attempt.
            detail: for people.

        Returns:
            Whether it was done, and else why the job is to be cancelled instead (empty when the record has another
            holder or state: the caller drops it).
        """
        sources = ",".join(state for state, targets in TRANSITIONS.items() if JobState.BACKOFF in targets)
        log_key = self._key("log", job_id, attempts[-1].number) if logs is not None else ""
        packed = logs.pack() if logs is not None else b""
        dumped = _dump_attempts(attempts)
        answer = self._run(self._back_off, job_id, holder, sources, delay, detail, log_key, packed, self.ttl, dumped)
        return answer[0] == 1, _text(answer[1]) if answer[0] == 2 else ""

    def _moved(
        self,
        job_id: str,
        holder: str,
        to: JobState,
        detail: str,
        fields: dict[str, object],
        logs: Logs | None = None,
        attempt: int = 0,
    ) -> bool:
        sources = [state for state, targets in TRANSITIONS.items() if to in targets or (state is to not in TERMINAL)]
        fields = {"detail": detail, **fields}
        pairs = [item for pair in fields.items() for item in pair]
        log_key = self._key("log", job_id, attempt) if logs is not None else ""
        packed = logs.pack() if logs is not None else b""
        done, *answer = self._run(
            self._move, job_id, holder, ",".join(sources), str(to), detail, log_key, packed, self.ttl, *pairs
        )
        if not done and to in TERMINAL:
            # The reply to our own finish may have been lost and the script sent again: only the holder writes this.
            return _text(answer[0]) == to and _text(answer[1]) == holder
        return bool(done)

    def reported(self, job_id: str, holder: str) -> bool:
        """Note that the outcome has reached Celery; the holder lets go of the job, and the record starts to expire."""
        return bool(self._run(self._reported, job_id, holder, self.ttl))

    def release(self, job_id: str, holder: str) -> bool:
        """Give a job up without an outcome, for another worker to go on with it."""
        return bool(self._run(self._release, job_id, holder))

    def message(self, job_id: str) -> str:
        """Return the foreign Celery message of a job as JSON, empty where it can be made from the record."""
        with _reach(f"job {job_id}"):
            return _text(self.client.hget(self._key("job", job_id), "message") or "")

    def holds(self, holder: str) -> set[str]:
        """Return the ids of the jobs that this worker holds."""
        with _reach("held jobs"):
            return {_text(item) for item in self.client.smembers(self._key("held", holder))}

    def cancels_among(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return id and reason of those jobs that are to be cancelled."""
        with _reach("cancellations"):
            pipe = self.client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(self._key("job", job_id), "cancel")
            return {i: _text(why) for i, why in zip(job_ids, pipe.execute(), strict=True) if why}

    def renew(self, holder: str, ttl: float, info: dict[str, Any]) -> bool:
        """Take or renew a worker's lease.

        Args:
            holder: the worker process.
            ttl: seconds until it runs out.
            info: what the worker says about itself, for operators.

        Returns:
            False when the lease had run out and its jobs may have been given to others.
        """
        return bool(self._run_all("lease", self._renew, holder, ttl, json.dumps(info)))

    def drop_lease(self, holder: str) -> None:
        """End a worker's lease at once (shutdown); jobs that it still holds become orphans at the next ``reap``."""
        with _reach("lease"):
            self.client.zadd(self._key("holders"), {holder: 0}, xx=True)
            self.client.delete(self._key("info", holder))

    def reap(self, most: int = 500) -> list[str]:
        """Take the jobs from workers whose lease has run out; return their ids."""
        return [_text(item) for item in self._run_all("leases", self._reap, most)]

    def orphans(self, pause: float, most: int = 100) -> list[str]:
        """Return ids of jobs that somebody has to take over: their holder is gone, or gave them up.

        Args:
            pause: seconds until the same job is returned again if nobody claims it.
            most: at most so many.
        """
        return [_text(item) for item in self._run_all("orphans", self._orphans, most, pause)]

    def end_overdue(self, most: int = 100) -> list[str]:
        """End jobs that nobody has started in the time they had (``expires``, ``deadline``); return their ids.

        Args:
            most: at most so many.
        """
        now = self.now()
        with _reach("deadlines"):
            ids = [_text(i) for i in self.client.zrangebyscore(self._key("deadlines"), "-inf", now, 0, most)]
        ended = []
        for record in self.find(ids) if ids else ():
            over = record.spec.too_late(now - record.created_at.timestamp(), started=False) if record.spec else None
            if over is None:
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
            if self._run(self._overdue, record.id, _dump_attempts([attempt])[1:-1], why, self.ttl):
                ended.append(record.id)
        return ended

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
        found = self._run_all("unheard", self._unheard, most, pause, margin, queue, int(empty))
        return [_text(item) for item in found]

    def identity(self) -> str:
        """Return this ledger's own id: services tell by it which installation they belong to."""
        key = self._key("identity")
        with _reach("identity"):
            self.client.set(key, uuid.uuid4().hex[:16], nx=True)
            return _text(self.client.get(key))

    def restore(self, job_id: str, spec: JobSpec, queue: str, attempt: int) -> bool:
        """Make a record again that Redis has lost (it came back older than it was), for a service that exists.

        Args:
            job_id: the job's id.
            spec: the description, as the service tells it.
            queue: the workers' queue.
            attempt: which attempt the service is.

        Returns:
            False when there is a record after all.
        """
        return bool(self._run(self._restore, job_id, spec.to_json(), queue, attempt))

    def expired(self, most: int = 1000) -> list[str]:
        """Return the ids of those of the oldest ``most`` jobs whose record has expired: ``sweep`` will forget them."""
        with _reach("sweep"):
            ids = [_text(item) for item in self.client.zrange(self._key("jobs"), 0, most - 1)]
            pipe = self.client.pipeline(transaction=False)
            for job_id in ids:
                pipe.exists(self._key("job", job_id))
            return [job_id for job_id, there in zip(ids, pipe.execute(), strict=True) if not there]

    def sweep(self, most: int = 1000) -> int:
        """Remove expired records from the indexes, and batches that ended as long ago.

        Args:
            most: how many of the oldest are looked at.

        Returns:
            How many were removed.
        """
        return int(self._run_all("sweep", self._sweep, most, self.ttl))

    def lock(self, name: str, holder: str, ttl: float) -> bool:
        """Take or keep a cluster-wide duty; False when another worker has it."""
        return bool(self._run_all("duty", self._lock, name, holder, ttl))

    # -- batches -----------------------------------------------------------------------------------------------------

    def create_batch(self, batch_id: str, **fields: str | float) -> bool:
        """Write the record of a batch, before its jobs are.

        Args:
            batch_id: the batch's id.
            fields: name, max_parallel (0: no limit), min_success (part of the jobs that must succeed), ...

        Returns:
            False when there was one already; it is left as it is.
        """
        key = self._key("batch", batch_id)
        with _reach(f"batch {batch_id}"):
            pipe = self.client.pipeline()
            pipe.hsetnx(key, "created_at", repr(self.now()))
            for name, value in fields.items():
                pipe.hsetnx(key, name, value)
            pipe.zadd(self._key("batches"), {batch_id: self.now()}, nx=True)
            return bool(pipe.execute()[0])

    def close_batch(self, batch_id: str, total: int) -> None:
        """Note that all jobs of a batch have been submitted; it ends when the last of them has.

        Args:
            batch_id: the batch's id.
            total: how many there are.
        """
        self._run_all(f"batch {batch_id}", self._close, batch_id, total)

    def cancel_batch(self, batch_id: str, why: str) -> bool:
        """Note, durably, that a batch is to be cancelled: it gets no further jobs, and none of it is started any more.

        Its open jobs then have to be cancelled (``cancel_many``); should the caller die before that, a worker does it.

        Returns:
            False when it had ended already.

        Raises:
            UnknownJob: there is none.
        """
        answer = int(self._run_all(f"batch {batch_id}", self._cancel_batch, batch_id, why))
        if answer == 0:
            raise UnknownJob(f"no batch {batch_id} is known; its record may have expired")
        return answer == 1

    def cancel_many(self, job_ids: Sequence[str], why: str) -> None:
        """Ask for the end of some hundred jobs; see ``cancel``. Ids that are not known are passed over."""
        attempt = Attempt(
            number=0, state=JobState.CANCELLED, cause=Cause.CANCELLED, reason=why, finished_at=datetime.now(UTC)
        )
        dumped = _dump_attempts([attempt])[1:-1]
        with _reach(f"{len(job_ids)} jobs"):
            pipe = self.client.pipeline(transaction=False)
            for job_id in job_ids:
                key = self._key("job", job_id)
                self._cancel(keys=[key], args=[self.prefix, job_id, why, dumped, self.ttl], client=pipe)
            pipe.execute()

    def batches_to_cancel(self) -> list[str]:
        """Return ids of cancelled batches whose jobs may not all know of it."""
        with _reach("batches"):
            return [_text(item) for item in self.client.smembers(self._key("cancelling"))]

    def batch_cancelled(self, batch_id: str) -> None:
        """Note that every open job of a cancelled batch has been told."""
        with _reach(f"batch {batch_id}"):
            self.client.srem(self._key("cancelling"), batch_id)

    def batch(self, batch_id: str) -> BatchRecord:
        """Return a batch's record.

        Raises:
            UnknownJob: there is none.
        """
        with _reach(f"batch {batch_id}"):
            row = self.client.hgetall(self._key("batch", batch_id))
        if not row:
            raise UnknownJob(f"no batch {batch_id} is known; its record may have expired")
        return _parse_batch(batch_id, row)

    def batches(self, limit: int = 100) -> list[BatchRecord]:
        """Return the records of batches, youngest first."""
        with _reach("batches"):
            ids = [_text(item) for item in self.client.zrevrange(self._key("batches"), 0, limit - 1)]
            pipe = self.client.pipeline(transaction=False)
            for batch_id in ids:
                pipe.hgetall(self._key("batch", batch_id))
            return [_parse_batch(i, row) for i, row in zip(ids, pipe.execute(), strict=True) if row]

    def ended_of(self, batch_id: str, offset: int = 0, limit: int = 500) -> list[str]:
        """Return ids of a batch's jobs that have ended, in the order in which they did.

        Args:
            batch_id: the batch's id.
            offset: how many to pass over.
            limit: at most so many.
        """
        with _reach(f"batch {batch_id}"):
            found = self.client.lrange(self._key("batch", batch_id, "ended"), offset, offset + limit - 1)
        return [_text(item) for item in found]

    def batch_changes(self, batch_id: str) -> Subscription:
        """Return a subscription to the ends of a batch's jobs; use it in a ``with`` statement."""
        return Subscription(self.client, self._key("changes", "batch", batch_id))

    def new_orphans(self) -> Subscription:
        """Return a subscription to the ids of jobs that may be taken over or started right now."""
        return Subscription(self.client, self._key("orphaned"))

    # -- everybody --------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> JobRecord:
        """Return a job's record.

        Raises:
            UnknownJob: there is none.
        """
        return self._one(job_id, self.find([job_id]))

    @staticmethod
    def _one(job_id: str, found: list[JobRecord]) -> JobRecord:
        if not found:
            raise UnknownJob(f"no job {job_id} is known; its record may have expired")
        return found[0]

    def find(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Return the records of those of the jobs that have one, in the order given."""
        with _reach("records"):
            pipe = self.client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hgetall(self._key("job", job_id))
            rows = pipe.execute()
        return [parse_record(i, row) for i, row in zip(job_ids, rows, strict=True) if row]

    def logs(self, job_id: str, attempt: int) -> Logs | None:
        """Return the captured output of an attempt; None where none is kept."""
        with _reach(f"job {job_id}"):
            data = self.client.get(self._key("log", job_id, attempt))
        return Logs.unpack(data) if isinstance(data, bytes) else None

    def ids(self, state: JobState | None = None, limit: int = 100, offset: int = 0) -> list[str]:
        """Return ids of jobs, youngest first.

        Args:
            state: only jobs in this state (ordered by when they came into it).
            limit: at most so many.
            offset: how many to pass over first.
        """
        key = self._key("state", state) if state else self._key("jobs")
        with _reach("jobs"):
            return [_text(item) for item in self.client.zrevrange(key, offset, offset + limit - 1)]

    def active(self) -> list[str]:
        """Return the ids of all jobs that have not ended, as they were at one moment, youngest first in each state."""
        with _reach("jobs"):
            pipe = self.client.pipeline()  # one transaction: no job moves on from one state to the next in between
            for state in JobState:
                if state not in TERMINAL:
                    pipe.zrevrange(self._key("state", state), 0, -1)
            return [_text(job_id) for ids in pipe.execute() for job_id in ids]

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs there are in each state."""
        with _reach("counts"):
            pipe = self.client.pipeline(transaction=False)
            for state in JobState:
                pipe.zcard(self._key("state", state))
            return dict(zip(JobState, pipe.execute(), strict=True))

    def standing(self) -> dict[JobState, tuple[int, float]]:
        """Return for each state how many jobs are in it, and for how many seconds the oldest of them has been."""
        with _reach("counts"):
            pipe = self.client.pipeline(transaction=False)
            pipe.time()
            for state in JobState:
                pipe.zcard(self._key("state", state))
                pipe.zrange(self._key("state", state), 0, 0, withscores=True)
            (seconds, micros), *answers = pipe.execute()
        now = seconds + micros / 1e6
        pairs = zip(JobState, answers[::2], answers[1::2], strict=True)
        return {state: (count, max(now - oldest[0][1], 0.0) if oldest else 0.0) for state, count, oldest in pairs}

    def workers(self) -> list[dict[str, Any]]:
        """Return what each live worker says about itself, with the number of jobs it holds."""
        with _reach("workers"):
            seconds, micros = self.client.time()
            holders = [
                _text(h) for h in self.client.zrangebyscore(self._key("holders"), seconds + micros / 1e6, "+inf")
            ]
            pipe = self.client.pipeline(transaction=False)
            for holder in holders:
                pipe.get(self._key("info", holder))
                pipe.scard(self._key("held", holder))
            answers = pipe.execute()
        return [
            {"holder": holder, "jobs": answers[2 * i + 1], **json.loads(answers[2 * i] or "{}")}
            for i, holder in enumerate(holders)
        ]

    def now(self) -> float:
        """Return Redis' clock, in seconds since the epoch."""
        with _reach("clock"):
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6

    def tell_cluster(self, cluster: Cluster) -> None:
        """Keep what a worker saw of the swarm's nodes, for those who have no engine to ask."""
        with _reach("nodes"):
            self.client.set(self._key("cluster"), cluster.model_dump_json(), ex=3600)

    def cluster(self) -> Cluster | None:
        """Return what a worker saw last of the swarm's nodes; None when none has told anything for an hour."""
        with _reach("nodes"):
            text = self.client.get(self._key("cluster"))
        return Cluster.model_validate_json(text) if isinstance(text, bytes) else None

    def ahead(self, job_id: str) -> int:
        """Return how many QUEUED jobs were submitted before this one."""
        with _reach("queue"):
            rank = self.client.zrank(self._key("state", JobState.QUEUED), job_id)
        return rank if isinstance(rank, int) else 0

    def changes(self, job_id: str) -> Subscription:
        """Return a subscription to the transitions of one job; use it in a ``with`` statement."""
        return Subscription(self.client, self._key("changes", job_id))

    def cancellations(self) -> Subscription:
        """Return a subscription to the ids of jobs that are to be cancelled."""
        return Subscription(self.client, self._key("cancels"))

    @property
    def changes_channel(self) -> str:
        """Prefix of the channels on which transitions are published, for asynchronous clients."""
        return self._key("changes", "")


class Subscription:
    """A pub/sub subscription. Read the record after ``__enter__``: what was published before it is not seen."""

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        self._channel = channel

    def __enter__(self) -> Subscription:
        with _reach("subscription"):
            self._pubsub.subscribe(self._channel)
            # The confirmation must have arrived, else a change right now would be missed.
            self._pubsub.get_message(timeout=5)
        return self

    def __exit__(self, *_: object) -> None:
        self._pubsub.close()

    def next(self, timeout: float) -> str | None:
        """Return the next message, or None when there is none within the time.

        Args:
            timeout: seconds.
        """
        with _reach("subscription"):
            message = self._pubsub.get_message(timeout=max(timeout, 0.001))
        return _text(message["data"]) if message else None


def _create_arguments(job: NewJob) -> list[str | float]:
    spec = job.spec
    latest = min((t for t in (spec.expires, spec.deadline) if t), default=0.0) if spec else 0.0
    named = (("key", job.key), ("replay_of", job.replay_of), (TRACEPARENT, job.traceparent))
    options: dict[str, object] = {"fields": {name: value for name, value in named if value}}
    if job.batch:
        options |= {"batch": job.batch, "index": job.index}
    if job.after:
        options["after"] = job.after
    text = spec.to_json() if spec else ""
    ttl = max(int(job.key_ttl), 1)
    return [text, job.queue, job.task_id or job.job_id, job.message, job.key, ttl, latest, json.dumps(options)]


def parse_record(job_id: str, row: dict[bytes, bytes]) -> JobRecord:
    """Return the record that a hash holds."""
    fields = {_text(k): _text(v) for k, v in row.items()}
    spec: JobSpec | None = None
    if fields.get("spec"):
        try:
            spec = JobSpec.parse(fields["spec"])
        except SpecError:  # written by a newer version; the job can be listed all the same
            spec = None
    return JobRecord(
        id=job_id,
        state=JobState(fields["state"]),
        queue=fields.get("queue", ""),
        spec=spec,
        task_id=fields.get("task_id", job_id),
        attempt=int(fields.get("attempt", 0)),
        holder=fields.get("holder", ""),
        detail=fields.get("detail", ""),
        node=fields.get("node") or None,
        cancel=fields.get("cancel", ""),
        created_at=_time(fields["created_at"]),
        updated_at=_time(fields["updated_at"]),
        started_at=_time(fields["started_at"]) if fields.get("started_at") else None,
        attempts=tuple(Attempt.model_validate(item) for item in json.loads(fields.get("attempts") or "[]")),
        reported=fields.get("reported") == "1",
        late=fields.get("late") == "1",
        due_at=_time(fields["due_at"]) if fields.get("due_at") else None,
        image=fields.get("image", ""),
        note=fields.get("note", ""),
        key=fields.get("key", ""),
        traceparent=fields.get(TRACEPARENT, ""),
        batch=fields.get("batch", ""),
        index=int(fields["index"]) if fields.get("index") else None,
        output=json.loads(fields["output"]) if fields.get("output") else None,
        replay_of=fields.get("replay_of", ""),
        replayed_by=fields.get("replayed_by", ""),
    )


def _parse_batch(batch_id: str, row: Mapping[Any, Any]) -> BatchRecord:
    fields = {_text(k): _text(v) for k, v in row.items()}
    counts = {JobState(name[2:]): int(value) for name, value in fields.items() if name.startswith("n:") and int(value)}
    return BatchRecord(
        id=batch_id,
        name=fields.get("name", ""),
        created_at=_time(fields["created_at"]),
        ended_at=_time(fields["ended_at"]) if fields.get("ended_at") else None,
        state=JobState(fields["state"]) if fields.get("state") else None,
        reason=fields.get("reason", ""),
        total=int(fields["total"]) if "total" in fields else None,
        size=int(fields.get("size", 0)),
        counts=counts,
        max_parallel=int(float(fields.get("max_parallel", 0))),
        min_success=float(fields.get("min_success", 1)),
        cancelled=fields.get("cancelled", ""),
        reduced_by=fields.get("reduced_by", ""),
        reduces=fields.get("reduces", ""),
    )


def _dump_attempts(attempts: Sequence[Attempt]) -> str:
    return json.dumps([attempt.model_dump(mode="json", exclude_defaults=True) for attempt in attempts])


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(float(text), UTC)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

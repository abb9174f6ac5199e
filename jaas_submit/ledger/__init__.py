"""The ledger: every job's record in Redis. The only package that knows Redis keys and scripts.

``Ledger`` is what everybody uses. It is made of parts, one for each kind of caller: producers, workers, those who look
after everything (upkeep), batches, readers, and those who ask why a job waits. The scripts are in the modules
``lua_*``.

Keys (P is the prefix, "jaas" by default)::

    P:job:ID            hash    the record: state, spec (JSON), queue, task_id, attempt, holder, detail, node, cancel,
                                created_at, updated_at, started_at, attempts (JSON), message (foreign producers' only),
                                reported, late, asked_at, image, note, due_at, key, replay_of, replayed_by, batch,
                                index, active, needs, after (JSON), output, copy_of, copied_by, waits_for_copy
    P:log:ID:ATTEMPT    string  packed Logs of one attempt
    P:batch:ID          hash    a batch: created_at, name, size, total (once all are submitted), max_parallel, active,
                                min_success, n:STATE (how many jobs are in it), cancelled, done, state, reason,
                                ended_at, speculate (JSON), copies (how many jobs run twice), span
    P:batch:ID:line     zset    ids that wait for their batch's max_parallel -> index
    P:batch:ID:ended    list    ids in the order in which they ended
    P:batches           zset    id -> created_at
    P:cancelling        set     ids of batches that are to be cancelled and whose jobs may not all know of it
    P:speculating       set     ids of open batches whose slowest jobs may be started a second time
    P:settling          list    [id or batch:ID, state, why, root] (JSON): ended, and P:after:ID is not empty yet
    P:after:ID          set     "id|on" of jobs that come after this one; ID may be batch:ID
    P:jobs              zset    id -> created_at: for lists
    P:state:STATE       zset    id -> since: for counts, lists and stale QUEUED records
    P:held:HOLDER       set     ids that this worker process holds
    P:stop:HOLDER       set     those of them that are to be cancelled, until the holder knows of it
    P:due               zset    ids in state BACKOFF -> time at which the next attempt is due
    P:deadlines         zset    ids in state QUEUED or WAITING -> time at which they are over without having started
    P:key:KEY           string  idempotency key -> id, with a time to live
    P:holders           zset    holder -> time at which its lease runs out
    P:orphans           zset    ids whose holder is gone -> time from which somebody has to take them over
    P:released          zset    QUEUED ids of which no message tells -> time from which somebody with room takes them
    P:heard             hash    queue -> created_at of the youngest record whose message arrived
    P:claimed           hash    queue -> time of the newest claim of one of its jobs
    P:info:HOLDER       string  what a worker says about itself (JSON), with the lease's time to live
    P:seen:HOLDER       string  that this worker process had a lease before, for a day
    P:cluster           string  the swarm's nodes as a worker saw them last (JSON), for an hour
    P:identity          string  this ledger's id, made once
    P:lock:NAME         string  who does a cluster-wide duty now, with a time to live
    P:replicated        string  written to see whether replicas keep up, for a minute
    P:changes:ID        channel one JSON object a transition
    P:changes:batch:ID  channel ids of a batch's jobs that ended; "done" at its end
    P:cancels           channel ids to cancel
    P:ends:HOLDER       channel how containers ended (JSON), from the workers on whose nodes they ran
    P:orphaned          channel ids that may be taken over or started at once; "settling" when P:settling has something

Rules that keep it right:

* Every transition is one Lua script: it compares (state, holder) and sets record, indexes and channel together, so
  there is nothing between two commands for a crash to hit.
* Every time is Redis' own (TIME inside the scripts): clocks of workers and producers do not matter.
* A worker may change a record only while it is the record's holder. One that was suspended past its lease finds
  another holder there and drops the job.
* A terminal record is never changed again, except for `reported` and its expiry, `replayed_by`, and the wish
  (`cancel`) that its holder stop what still runs because a copy was faster.
"""

from __future__ import annotations

from jaas_submit.ledger.around import AroundPart
from jaas_submit.ledger.connection import AsyncSubscription, Subscription, connect, connect_async
from jaas_submit.ledger.health import HealthPart
from jaas_submit.ledger.producers import KEY_TTL, Created, NewJob, ProducerPart
from jaas_submit.ledger.readers import Change, Outline
from jaas_submit.ledger.rows import parse_record
from jaas_submit.ledger.upkeep import Due, UpkeepPart
from jaas_submit.ledger.workers import Claim, ClaimAction, WorkerPart

__all__ = [
    "KEY_TTL",
    "AsyncSubscription",
    "Change",
    "Claim",
    "ClaimAction",
    "Created",
    "Due",
    "Ledger",
    "NewJob",
    "Outline",
    "Subscription",
    "connect",
    "connect_async",
    "parse_record",
]


class Ledger(ProducerPart, WorkerPart, UpkeepPart, AroundPart, HealthPart):
    """All that is done with records.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: first part of every key.
        ttl: seconds that a record is kept after the job has ended.

    Every method raises LedgerUnavailable when Redis cannot be reached or refuses; the same call may then be repeated.
    """

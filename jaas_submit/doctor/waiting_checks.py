"""The checks of `jaas doctor` about jobs that wait in vain: no worker takes their queue, or no node can take them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from jaas_submit.client.client import Client
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.explain.workers import WorkerLoad, takers
from jaas_submit.messaging.queues import jobs_in, lists_of
from jaas_submit.model.bounds import counted
from jaas_submit.model.cluster import Cluster, Node
from jaas_submit.model.records import JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import FOREIGN_QUEUE
from jaas_submit.placement.placement import NodeFit, as_the_swarm_says, fit, what_is_lacking

__all__ = ["waiting_checks"]

_SECOND_LOOK: Final = 2.0
"""Seconds until the second read: a message is taken within milliseconds."""

_PENDING: Final = 500
_NAMED: Final = 3


def waiting_checks(client: Client, second_look: float = _SECOND_LOOK) -> list[Check]:
    """Return the checks of jobs that wait in vain; nothing if Redis does not answer.

    Args:
        client: whose Redis, queue and prefix are checked.
        second_look: seconds between two reads of messages that may be taken in a moment.
    """
    try:
        workers = [WorkerLoad.model_validate(worker) for worker in client.ledger.queries.workers()]
        cluster = client.ledger.queries.cluster()
        return [
            Check("installation", Verdict.OK, f"prefix {client.ledger.prefix!r}, queue {client.queue!r}"),
            *_other_prefixes(client, workers),
            *_unserved(client, workers),
            *_paused(client),
            *_foreign_messages(client, workers, second_look),
            *(_nodes(cluster) if cluster else []),
            *(_unplaceable(client, cluster) if cluster else []),
        ]
    except LedgerUnavailable:  # which another check reports
        return []


def _other_prefixes(client: Client, workers: Sequence[WorkerLoad]) -> list[Check]:
    """Return the workers of other prefixes, if there is none with this one: one of both is a mistake."""
    if workers or not (others := client.ledger.health.other_prefixes()):
        return []
    found = ", ".join(f"{counted(count, 'worker')} with {name!r}" for name, count in list(others.items())[:_NAMED])
    fix = "name the prefix that is meant with --prefix or JAAS_PREFIX; workers, producers and this command must agree"
    return [Check("prefix", Verdict.WARN, f"no worker with prefix {client.ledger.prefix!r}, but {found}", fix)]


def _unserved(client: Client, workers: Sequence[WorkerLoad]) -> list[Check]:
    """Return the queues that no live worker takes, and that have jobs or are the one that was asked about."""
    if not workers:  # which another check reports
        return []
    jobs = {client.queue: 0, **client.ledger.health.oldest_queued()}
    unserved = {queue: count for queue, count in sorted(jobs.items()) if not takers(queue, workers)}
    if not unserved:
        return []
    named = ", ".join(f"{queue!r} ({counted(count, 'job')} QUEUED)" for queue, count in unserved.items())
    served = ", ".join(sorted({repr(worker.queue) for worker in workers}))
    fix = (
        f"start a worker with JAAS_QUEUE={next(iter(unserved))}, or name a queue that has workers ({served}) with "
        "--queue or JAAS_QUEUE"
    )
    return [Check("unserved queues", Verdict.WARN, f"no worker takes {named}", fix)]


def _paused(client: Client) -> list[Check]:
    """Return the queues of which nothing is started."""
    paused = [queue for queue in client.queues.list() if queue.rules.paused]
    if not paused:
        return []
    parts = []
    for queue in paused:
        done = next((entry for entry in reversed(queue.audit) if entry.what == "pause"), None)
        who = f", by {done.by} at {done.at:%Y-%m-%d %H:%M} UTC" if done else ""
        parts.append(f"{queue.name} ({counted(queue.messages + queue.kept, 'job')} waiting{who})")
    return [Check("paused queues", Verdict.WARN, ", ".join(parts), f"`jaas queue resume {paused[0].name}` starts them")]


def _foreign_messages(client: Client, workers: Sequence[WorkerLoad], second_look: float) -> list[Check]:
    """Return the jobs that were sent without a queue and that nobody takes."""
    if client.queue == FOREIGN_QUEUE:
        return []
    redis = client.ledger.client
    if not jobs_in(redis, FOREIGN_QUEUE):
        return []
    time.sleep(second_look)
    if not jobs_in(redis, FOREIGN_QUEUE):
        return []
    count = client.ledger.queries.queue_length(lists_of(FOREIGN_QUEUE))
    if takers(FOREIGN_QUEUE, workers):
        fix = (
            "restart the workers: they leave that queue when another application's task is in it, and say so in the log"
        )
    else:
        fix = f'send jobs with queue="{client.queue}", or start a worker with JAAS_TAKE_DEFAULT_QUEUE=true'
    detail = (
        f"{counted(count, 'message')} in Celery's queue {FOREIGN_QUEUE!r}, jobs among them, and no worker takes any"
    )
    return [Check("default queue", Verdict.WARN, detail, fix)]


def _nodes(cluster: Cluster) -> list[Check]:
    """Return whether all nodes of the swarm can take jobs."""
    down = [node.hostname for node in cluster.nodes if node.state != "ready"]
    away = [node for node in cluster.nodes if node.state == "ready" and node.availability != "active"]
    if not down and not away:
        return [Check("nodes", Verdict.OK, f"{counted(len(cluster.nodes), 'node')}, all ready and active")]
    parts = [f"{name} is down" for name in down] + [f"{node.hostname} is set to {node.availability}" for node in away]
    fixes = ["start Docker or the machine of a node that is down"] if down else []
    fixes += ["`docker node update --availability active NODE` lets a node take jobs again"] if away else []
    detail = f"{', '.join(parts)}; {len(cluster.nodes) - len(down) - len(away)} of {len(cluster.nodes)} take jobs"
    return [Check("nodes", Verdict.WARN, detail, "; ".join(fixes))]


def _unplaceable(client: Client, cluster: Cluster) -> list[Check]:
    """Return the PENDING jobs that no node could take even if nothing else ran there."""
    empty = [node.model_copy(update={"free_cpus": node.cpus, "free_memory": node.memory}) for node in cluster.nodes]
    ids = client.ledger.queries.ids(JobState.PENDING, _PENDING)
    found = [record for record in client.ledger.queries.find(ids) if _fits_nowhere(record, empty)]
    if not found:
        return []
    parts = [f"job {record.id}: {_lacking(record, empty)}" for record in found[:_NAMED]]
    more = f"; and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    fix = (
        "see `jaas explain ID`; add a node or a label, or cancel and replay with less: `jaas replay --set memory=1G ID`"
    )
    return [Check("jobs without a node", Verdict.WARN, f"{'; '.join(parts)}{more}", fix)]


def _fits_nowhere(record: JobRecord, nodes: Sequence[Node]) -> bool:
    if record.spec is None or record.state is not JobState.PENDING:
        return False
    return not any(one.fits for one in _fit(record, nodes))


def _lacking(record: JobRecord, nodes: Sequence[Node]) -> str:
    return what_is_lacking(_fit(record, nodes)) or "there is no node"


def _fit(record: JobRecord, nodes: Sequence[Node]) -> tuple[NodeFit, ...]:
    spec: Any = record.spec
    return as_the_swarm_says([fit(spec, node, platforms=record.platforms) for node in nodes], record.detail)

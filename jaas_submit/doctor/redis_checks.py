"""The checks of `jaas doctor` that need Redis only. jaas_worker/doctor.py has those of the engine."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any, Final

from jaas_submit.access.roles import Role
from jaas_submit.client.client import Client
from jaas_submit.connection import master_address, server_info
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.messaging.permissions import missing_rules, role_of, user_of
from jaas_submit.messaging.queues import lists_of, unacknowledged, unread_lists
from jaas_submit.model.bounds import counted
from jaas_submit.model.states import JobState

__all__ = ["messages_in", "redis_checks"]

_API_REFUSED: Final = "client version "
"""In what an engine says to a client whose version of the API it does not take."""

_READERS: Final = (Role.WORKER, Role.OPERATOR, Role.PRODUCER, Role.VIEWER)
"""Who may read the ledger."""

_CLOCK_TOLERANCE_S: Final = 2.0
_NEARLY_FULL: Final = 0.9


def redis_checks(client: Client) -> list[Check]:
    """Return the checks of Redis, its clock, the workers and the queue.

    Args:
        client: whose Redis, queue and prefix are checked.
    """
    try:
        before = time.time()
        remote = client.ledger.now()
        clock = remote - (before + time.time()) / 2
    except LedgerUnavailable as error:
        fix = "start Redis, or name the right one with --redis or JAAS_REDIS_URL"
        return [Check("redis", Verdict.FAIL, str(error), fix)]
    try:
        role, permissions = _permissions(client)
        if role is None:
            return permissions
        if role not in _READERS:
            skipped = Check("workers", Verdict.SKIP, f"not looked at: {_named(role)} may not read the ledger")
            return [*permissions, *_server(client), skipped]
        workers = client.ledger.queries.workers()
        return [
            *permissions,
            *_server(client),
            _clock(clock),
            _workers(workers),
            *_versions(workers),
            *_worker_clocks(workers),
            *_engines_away(workers),
            _queue(client),
            # Only a worker's user may see the names of all keys.
            *(_unread_lists(client) if role is Role.WORKER else ()),
            *(_other_consumers(client) if role is Role.WORKER else ()),
        ]
    except LedgerUnavailable as error:
        fix = "see to it that the Redis stays up and lets this user run INFO, PUBLISH and EVALSHA"
        return [Check("redis", Verdict.FAIL, f"went away, or refuses a command: {error}", fix)]


def _named(role: Role) -> str:
    return f"{'an' if role is Role.AGENT else 'a'} {role}"


def _permissions(client: Client) -> tuple[Role | None, list[Check]]:
    """Return what the user is for, and the rules that it lacks; no check if it has all that a worker needs."""
    where = (client.ledger.client, client.ledger.prefix, [client.queue])
    missing = missing_rules(*where)
    if not missing:
        return Role.WORKER, []
    user = user_of(client.ledger.client)
    if role := role_of(*where):
        detail = f"user {user} may do what {_named(role)} does, and not what a worker does"
        return role, [Check("permissions", Verdict.OK, detail)]
    detail = f"user {user} lacks ACL rules that a worker needs: {' '.join(missing)}"
    fix = f"run `redis-cli ACL SETUSER {user} {' '.join(missing)}`"
    return None, [Check("permissions", Verdict.FAIL, detail, fix)]


def _server(client: Client) -> list[Check]:
    # INFO has all that is needed, so that CONFIG, which managed services forbid, is not.
    info: dict[str, Any] = server_info(client.ledger.client)
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "of unknown version")
    # The server that Sentinel named.
    where = master_address(client.ledger.client)
    server = f"{name} {version}{f' at {where[0]}:{where[1]}' if where else ''}"
    return [_role(info, server), _append_only(info), _memory(info), *(_replication(info) if where else [])]


def _role(info: dict[str, Any], server: str) -> Check:
    if info.get("role") == "slave":
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        return Check("redis", Verdict.FAIL, f"{server}, a read-only replica", f"connect to its master, {master}")
    return Check("redis", Verdict.OK, server)


def _replication(info: dict[str, Any]) -> list[Check]:
    """Return the master's own state of replication: an isolated master loses its writes."""
    # There when both min-replicas-to-write and min-replicas-max-lag are set.
    good = info.get("min_slaves_good_slaves")
    bound = "writes need none of them (min-replicas-to-write 0)" if good is None else f"for writes {good} count"
    return [Check("replication", Verdict.OK, f"connected replicas: {info.get('connected_slaves', 0)}; {bound}")]


def _append_only(info: dict[str, Any]) -> Check:
    if info.get("aof_enabled"):
        return Check("append-only file", Verdict.OK, "on")
    fix = "start Redis with `--appendonly yes`: without it a restart loses jobs"
    return Check("append-only file", Verdict.FAIL, "off", fix)


def _memory(info: dict[str, Any]) -> Check:
    policy, used, most = info.get("maxmemory_policy", ""), int(info["used_memory"]), int(info.get("maxmemory") or 0)
    detail = f"{used / 2**20:.1f} MiB used {f'of {most / 2**20:.1f} MiB' if most else 'and no limit'}, {policy}"
    if policy != "noeviction":
        # Without a limit nothing is evicted now, but one command can change that.
        verdict = Verdict.FAIL if most else Verdict.WARN
        fix = "start Redis with `--maxmemory-policy noeviction`, or it deletes jobs when its memory is full"
        return Check("memory", verdict, detail, fix)
    if most and used > _NEARLY_FULL * most:
        return Check("memory", Verdict.WARN, detail, "raise `maxmemory`, or keep records for a shorter time")
    return Check("memory", Verdict.OK, detail)


def _clock(ahead: float) -> Check:
    detail = f"Redis' is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) <= _CLOCK_TOLERANCE_S:
        return Check("clock", Verdict.OK, detail)
    fix = "synchronise both machines' clocks (NTP); jobs are not affected, but the times shown are inconsistent"
    return Check("clock", Verdict.WARN, detail, fix)


def _workers(workers: list[dict[str, Any]]) -> Check:
    if not workers:
        fix = "start one with `jaas worker` on a swarm manager (same Redis, same prefix); jobs wait until then"
        return Check("workers", Verdict.WARN, "none is alive", fix)
    jobs = sum(int(worker["jobs"]) for worker in workers)
    return Check("workers", Verdict.OK, f"{counted(len(workers), 'worker')} alive, holding {counted(jobs, 'job')}")


def _versions(workers: list[dict[str, Any]]) -> list[Check]:
    """Return whether all workers are of one version; nothing if there is none."""
    by_version: dict[str, list[str]] = defaultdict(list)
    for worker in workers:
        by_version[str(worker.get("version", "unknown"))].append(str(worker.get("node") or worker["holder"]))
    if not workers:
        return []
    if len(by_version) == 1:
        return [Check("versions", Verdict.OK, f"all workers are jaas {next(iter(by_version))}")]
    found = "; ".join(f"{version} on {', '.join(sorted(nodes))}" for version, nodes in sorted(by_version.items()))
    fix = "fine during an update; otherwise finish it: older workers refuse what only newer ones can read"
    return [Check("versions", Verdict.WARN, found, fix)]


def _worker_clocks(workers: list[dict[str, Any]]) -> list[Check]:
    """Return the workers whose clock differs from Redis', as they measured it themselves."""
    wrong = [
        f"{worker.get('node') or worker['holder']}: {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
        for worker in workers
        if abs(ahead := float(worker.get("clock_ahead", 0.0))) > _CLOCK_TOLERANCE_S
    ]
    fix = "synchronise these nodes' clocks (NTP); jobs are not affected, but the times shown are inconsistent"
    return [Check("workers' clocks", Verdict.WARN, "; ".join(wrong), fix)] if wrong else []


def _engines_away(workers: list[dict[str, Any]]) -> list[Check]:
    """Return the workers that take no new jobs because their engine does not answer, or has no leader."""
    away = [
        f"{worker.get('node') or worker['holder']}: {why}"
        for worker in workers
        if (why := worker.get("engine_unavailable"))
    ]
    fix = "see `docker node ls` there; new jobs go to the other workers, and the jobs that these hold wait"
    if any(_API_REFUSED in why for why in away):
        fix = "Docker, or a proxy in front of it, takes another version of its API now: restart these workers"
    return [Check("workers' engines", Verdict.WARN, "; ".join(away), fix)] if away else []


def _other_consumers(client: Client) -> list[Check]:
    """Return whether a Celery worker that is not jaas' takes messages from the queue.

    The shortest visibility_timeout among all Celery clients of a Redis database counts for all, but for jaas' workers.
    """
    taken = unacknowledged(client.ledger.client, client.queue)
    if not taken:
        return []
    fix = (
        f"stop the Celery worker that consumes {client.queue!r} and is no `jaas worker`: it discards jobs, and its "
        "visibility_timeout counts for what it holds"
    )
    return [
        Check(
            "other consumers", Verdict.FAIL, f"another client holds {counted(taken, 'message')} of {client.queue}", fix
        )
    ]


def messages_in(client: Client) -> int:
    """Return how many messages wait in the client's queue.

    Args:
        client: whose queue.

    Raises:
        LedgerUnavailable: Redis does not answer, or refuses.
    """
    return client.ledger.queries.queue_length(lists_of(client.queue))


def _queue(client: Client) -> Check:
    queued = client.ledger.queries.counts()[JobState.QUEUED]
    return Check(
        "queue",
        Verdict.OK,
        f"{client.queue}: {counted(messages_in(client), 'message')}; {counted(queued, 'job')} QUEUED",
    )


def _unread_lists(client: Client) -> list[Check]:
    """Return whether jobs wait in lists that no worker reads, because of their producer's transport options."""
    found = unread_lists(client.ledger.client, client.queue)
    if not found:
        return []
    fix = (
        "workers read the lists of a queue that kombu names with its own separator or with ':', without a key prefix: "
        "correct sep and global_keyprefix in the producer's broker_transport_options"
    )
    named = ", ".join(f"{count} in {name!r}" for name, count in sorted(found.items()))
    return [Check("unread lists", Verdict.FAIL, f"jobs wait in lists that no worker reads: {named}", fix)]

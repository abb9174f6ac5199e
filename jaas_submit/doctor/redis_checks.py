"""The checks of `jaas doctor` that need Redis only. jaas_worker/doctor.py has those of the engine."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections import defaultdict
from enum import StrEnum
from typing import Any, Final, NamedTuple

import kombu.exceptions
import redis

from jaas_submit.client.client import Client
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.model.states import JobState

__all__ = ["Check", "Verdict", "flower_checks", "messages_in", "redis_checks"]

_API_REFUSED: Final = "client version "
"""In what an engine says to a client whose version of the API it does not take."""

_CLOCK_TOLERANCE_S: Final = 2.0
_FLOWER: Final = "http://127.0.0.1:5555"
_FLOWER_TIMEOUT_S: Final = 5.0
_SAMPLE: Final = 500
"""Unacknowledged messages that are looked at."""
_NEARLY_FULL: Final = 0.9


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARN = "warn"  # works, but something is not as it should be
    FAIL = "FAIL"  # jobs cannot run, or can get lost
    SKIP = "skip"  # was not looked at


class Check(NamedTuple):
    """One line of the doctor's answer."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""
    """What to do about it, in one sentence; empty when all is well."""


def redis_checks(client: Client) -> list[Check]:
    """Return what is to be said about Redis, its clock, the workers and the queue.

    Args:
        client: whose Redis, queue and prefix are looked at.
    """
    try:
        before = time.time()
        remote = client.ledger.now()
        clock = remote - (before + time.time()) / 2
    except LedgerUnavailable as error:
        fix = "start Redis, or name the right one with --redis or JAAS_REDIS_URL"
        return [Check("redis", Verdict.FAIL, str(error), fix)]
    try:
        workers = client.ledger.queries.workers()
        return [
            *_server(client),
            _clock(clock),
            _workers(workers),
            *_versions(workers),
            *_worker_clocks(workers),
            *_engines_away(workers),
            _queue(client),
            *_other_consumers(client),
        ]
    except (LedgerUnavailable, redis.RedisError, kombu.exceptions.OperationalError, OSError) as error:
        fix = "see to it that the Redis stays up and lets this user run INFO, PUBLISH and EVALSHA"
        return [Check("redis", Verdict.FAIL, f"went away, or refuses a command: {error}", fix)]


def _server(client: Client) -> list[Check]:
    # INFO has all that is needed, so that CONFIG, which managed services forbid, is not.
    info: dict[str, Any] = client.ledger.client.info()
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "of unknown version")
    # Where Sentinel was asked: which server it named.
    where = getattr(client.ledger.client.connection_pool, "master_address", None)
    server = f"{name} {version}{f' at {where[0]}:{where[1]}' if where else ''}"
    return [_role(info, server), _append_only(info), _memory(info), *(_replication(info) if where else [])]


def _role(info: dict[str, Any], server: str) -> Check:
    if info.get("role") == "slave":
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        return Check("redis", Verdict.FAIL, f"{server}, a read-only replica", f"connect to its master, {master}")
    return Check("redis", Verdict.OK, server)


def _replication(info: dict[str, Any]) -> list[Check]:
    """Return what the master itself says of its replicas: what an isolated one takes is lost."""
    # There when both min-replicas-to-write and min-replicas-max-lag are set.
    good = info.get("min_slaves_good_slaves")
    bound = "writes need none of them (min-replicas-to-write 0)" if good is None else f"for writes {good} count"
    return [Check("replication", Verdict.OK, f"connected replicas: {info.get('connected_slaves', 0)}; {bound}")]


def _append_only(info: dict[str, Any]) -> Check:
    if info.get("aof_enabled"):
        return Check("append-only file", Verdict.OK, "on")
    fix = "start Redis with `--appendonly yes`: without it jobs get lost when it is restarted"
    return Check("append-only file", Verdict.FAIL, "off", fix)


def _memory(info: dict[str, Any]) -> Check:
    policy, used, most = info.get("maxmemory_policy", ""), int(info["used_memory"]), int(info.get("maxmemory") or 0)
    detail = f"{used / 2**20:.1f} MiB used of {f'{most / 2**20:.1f} MiB' if most else 'any number'}, {policy}"
    if policy != "noeviction":
        # Without a limit nothing is evicted now, but that is one command away.
        verdict = Verdict.FAIL if most else Verdict.WARN
        fix = "start Redis with `--maxmemory-policy noeviction`, else it deletes jobs when its memory is full"
        return Check("memory", verdict, detail, fix)
    if most and used > _NEARLY_FULL * most:
        return Check("memory", Verdict.WARN, detail, "raise `maxmemory`, or keep records for a shorter time")
    return Check("memory", Verdict.OK, detail)


def _clock(ahead: float) -> Check:
    detail = f"Redis' is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) <= _CLOCK_TOLERANCE_S:
        return Check("clock", Verdict.OK, detail)
    fix = "synchronise both machines' clocks (NTP); jobs run all the same, but the times shown do not fit together"
    return Check("clock", Verdict.WARN, detail, fix)


def _workers(workers: list[dict[str, Any]]) -> Check:
    if not workers:
        fix = "start one with `jaas worker` on a swarm manager (same Redis, same prefix); jobs wait until then"
        return Check("workers", Verdict.WARN, "none is alive", fix)
    jobs = sum(int(worker["jobs"]) for worker in workers)
    return Check("workers", Verdict.OK, f"{len(workers)} workers alive, holding {jobs} jobs")


def _versions(workers: list[dict[str, Any]]) -> list[Check]:
    """Return whether all workers are of one version; nothing where there is none to compare."""
    by_version: dict[str, list[str]] = defaultdict(list)
    for worker in workers:
        by_version[str(worker.get("version", "unknown"))].append(str(worker.get("node") or worker["holder"]))
    if not workers:
        return []
    if len(by_version) == 1:
        return [Check("versions", Verdict.OK, f"all workers are jaas {next(iter(by_version))}")]
    found = "; ".join(f"{version} on {', '.join(sorted(nodes))}" for version, nodes in sorted(by_version.items()))
    fix = "fine while an update is under way; else finish it: the older ones refuse what only the newer ones can read"
    return [Check("versions", Verdict.WARN, found, fix)]


def _worker_clocks(workers: list[dict[str, Any]]) -> list[Check]:
    """Return the workers whose clock differs from Redis', as they measured it themselves."""
    wrong = [
        f"{worker.get('node') or worker['holder']}: {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
        for worker in workers
        if abs(ahead := float(worker.get("clock_ahead", 0.0))) > _CLOCK_TOLERANCE_S
    ]
    fix = "synchronise these nodes' clocks (NTP); jobs run all the same, but the times shown do not fit together"
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

    kombu notes a message that was received and not acknowledged in the hash "unacked", which all Celery clients of a
    Redis database share, and the shortest visibility_timeout among them counts for all; jaas' workers have one of
    their own.
    """
    answer: Any = client.ledger.client.hscan("unacked", count=_SAMPLE)
    noted: dict[bytes, bytes] = answer[1]
    taken = 0
    for entry in noted.values():
        with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
            taken += json.loads(entry)[2] == client.queue
    if not taken:
        return []
    fix = (
        f"stop the Celery worker that consumes {client.queue!r} and is no `jaas worker`: it discards jobs, and its "
        "visibility_timeout counts for what it holds"
    )
    return [Check("other consumers", Verdict.FAIL, f"{taken} messages of {client.queue} are with somebody else", fix)]


def flower_checks(url: str | None) -> list[Check]:
    """Return whether Flower asks for a password.

    Args:
        url: where it is; None looks at its usual port on this host, and says nothing when nobody answers there.
    """
    where = (url or _FLOWER).rstrip("/")
    if not where.startswith(("http://", "https://")):
        return [Check("flower", Verdict.FAIL, f"{where} is no URL", "set JAAS_FLOWER_URL to http://HOST:PORT")]
    try:
        # Its own page first: whatever else listens on that port is not ours to judge.
        with urllib.request.urlopen(f"{where}/api/workers", timeout=_FLOWER_TIMEOUT_S) as answer:  # noqa: S310 (http, see above)
            is_flower = answer.headers.get("Content-Type", "").startswith("application/json")
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            return [Check("flower", Verdict.OK, f"{where} asks for a password")]
        fix = "see Flower's log, and whether JAAS_FLOWER_URL is its own address"
        return [Check("flower", Verdict.WARN, f"{where} answers with status {error.code}", fix)] if url else []
    except OSError as error:
        fix = "see `docker service ps jaas_flower`, or correct JAAS_FLOWER_URL"
        return [Check("flower", Verdict.WARN, f"{where} does not answer ({error})", fix)] if url else []
    if not is_flower:
        return []
    fix = "start it with docker/flowerconfig.py, or with --basic_auth: whoever reaches it can cancel and submit jobs"
    return [Check("flower", Verdict.FAIL, f"{where} is open to everybody", fix)]


def messages_in(client: Client) -> int:
    """Return how many messages wait in the client's queue.

    Args:
        client: whose queue.

    Raises:
        LedgerUnavailable: Redis does not answer, or refuses.
    """
    with client.app.connection_for_read() as connection:
        try:
            channel: Any = connection.default_channel  # celery-types know AMQP's channel only
            return int(channel.queue_declare(client.queue, passive=True).message_count)
        except connection.channel_errors:  # no worker has ever asked for it, and no message waits
            return 0
        except (redis.RedisError, kombu.exceptions.OperationalError, OSError) as error:
            raise LedgerUnavailable(f"queue {client.queue}: Redis does not answer ({error})") from error


def _queue(client: Client) -> Check:
    queued = client.ledger.queries.counts()[JobState.QUEUED]
    return Check("queue", Verdict.OK, f"{client.queue}: {messages_in(client)} messages; {queued} jobs QUEUED")

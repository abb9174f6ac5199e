"""The checks of `jaas doctor` that need Redis only. jaas_worker/doctor.py has those of the engine."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any, Final, NamedTuple

import kombu.exceptions
import redis

from jaas_submit.client import Client
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.states import JobState

__all__ = ["Check", "Verdict", "redis_checks"]

_CLOCK_TOLERANCE: Final = 2.0
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
        return [*_server(client), _clock(clock), _workers(client), _queue(client)]
    except (LedgerUnavailable, redis.RedisError, kombu.exceptions.OperationalError, OSError) as error:
        fix = "see to it that the Redis stays up and lets this user run INFO, PUBLISH and EVALSHA"
        return [Check("redis", Verdict.FAIL, f"went away, or refuses a command: {error}", fix)]


def _server(client: Client) -> list[Check]:
    # INFO has all that is needed, so that CONFIG, which managed services forbid, is not.
    info: dict[str, Any] = client.ledger.client.info()
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "of unknown version")
    return [_role(info, f"{name} {version}"), _append_only(info), _memory(info)]


def _role(info: dict[str, Any], server: str) -> Check:
    if info.get("role") == "slave":
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        return Check("redis", Verdict.FAIL, f"{server}, a read-only replica", f"connect to its master, {master}")
    return Check("redis", Verdict.OK, server)


def _append_only(info: dict[str, Any]) -> Check:
    if info.get("aof_enabled"):
        return Check("append-only file", Verdict.OK, "on")
    fix = "start Redis with `--appendonly yes`, else jobs of the last minutes are lost when it is restarted"
    return Check("append-only file", Verdict.WARN, "off", fix)


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
    if abs(ahead) <= _CLOCK_TOLERANCE:
        return Check("clock", Verdict.OK, detail)
    fix = "synchronise both machines' clocks (NTP); jobs run all the same, but the times shown do not fit together"
    return Check("clock", Verdict.WARN, detail, fix)


def _workers(client: Client) -> Check:
    workers = client.ledger.workers()
    if not workers:
        fix = "start one with `jaas worker` on a swarm manager (same Redis, same prefix); jobs wait until then"
        return Check("workers", Verdict.WARN, "none is alive", fix)
    jobs = sum(int(worker["jobs"]) for worker in workers)
    return Check("workers", Verdict.OK, f"{len(workers)} alive, with {jobs} jobs in their hands")


def _queue(client: Client) -> Check:
    queued = client.ledger.counts()[JobState.QUEUED]
    with client.app.connection_for_read() as connection:
        try:
            channel: Any = connection.default_channel  # celery-types know AMQP's channel only
            messages = channel.queue_declare(client.queue, passive=True).message_count
        except connection.channel_errors:  # no worker has ever asked for it, and no message waits
            messages = 0
    return Check("queue", Verdict.OK, f"{client.queue}: {messages} messages; {queued} jobs QUEUED")

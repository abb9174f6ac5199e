"""The ACL rules that a worker's user of Redis needs, and which it lacks: Redis' errors name no key and no rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import redis

from jaas_submit.connection import redis_errors
from jaas_submit.messaging.queues import lists_of

__all__ = ["missing_rules", "user_of"]

_BEFORE, _AFTER = "run the '", "' command"
"""Around the name of the command in Redis' error."""

_PROBE: Final = "permission-check"
"""Last part of the names of keys and channels that are tried: nobody uses them."""


def missing_rules(client: redis.Redis, prefix: str, queue: str) -> list[str]:
    """Return the ACL rules that a worker's user of Redis lacks, in the form of ACL SETUSER; empty if it has all.

    It tries one key or channel of each kind with commands that change nothing.

    Args:
        client: with the worker's user.
        prefix: of this installation's keys.
        queue: of jobs.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    with redis_errors("permissions"):
        found = [_missing(rule, attempt) for rule, attempt in _attempts(client, prefix, queue)]
    return list(dict.fromkeys(rule for rule in found if rule))


def user_of(client: redis.Redis) -> str:
    """Return the name of a client's user in Redis.

    Args:
        client: as ``connect`` makes it.
    """
    return str(client.connection_pool.connection_kwargs.get("username") or "default")


def _attempts(client: Any, prefix: str, queue: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each rule with what works only where it holds."""
    db = client.connection_pool.connection_kwargs.get("db") or 0
    keys = {
        f"~{prefix}:*": [f"{prefix}:{_PROBE}"],
        f"~{queue}*": lists_of(queue)[:2],
        "~celery*": ["celery", f"celery-task-meta-{_PROBE}"],
        "~_kombu.binding*": [f"_kombu.binding.{_PROBE}"],
        "~*.celery.pidbox*": [f"{_PROBE}.celery.pidbox", f"{_PROBE}.reply.celery.pidbox"],
    }
    for rule, names in keys.items():
        # It reads and writes, and changes nothing.
        yield rule, lambda names=names: [client.ltrim(name, 0, -1) for name in names]  # type: ignore[misc] # bound at once
    channels = {
        f"&{prefix}:*": f"{prefix}:{_PROBE}",
        "&celery-task-meta-*": f"celery-task-meta-{_PROBE}",
        f"&/{db}.celeryev/*": f"/{db}.celeryev/{_PROBE}",
    }
    for rule, name in channels.items():
        yield rule, lambda name=name: client.publish(name, "")  # type: ignore[misc] # as above
    # kombu subscribes by pattern, and for a pattern the rule has to be the very same.
    yield f"&/{db}.celery.pidbox", lambda: _subscribe(client, f"/{db}.celery.pidbox")
    yield "+eval", lambda: client.eval("return 1", 0)
    yield "+evalsha", lambda: client.evalsha("0" * 40, 0)


def _missing(rule: str, attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except redis.exceptions.NoPermissionError as error:
        command, named, _ = str(error).partition(_BEFORE)[2].partition(_AFTER)
        return f"+{command}" if named else rule
    except redis.ResponseError:  # not for want of permission: no such script, no list, full, read-only
        pass
    return ""


def _subscribe(client: Any, pattern: str) -> None:
    with client.pubsub() as subscription:
        subscription.psubscribe(pattern)
        subscription.get_message(timeout=5)

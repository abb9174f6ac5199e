"""The ACL rules that a program's user of Redis needs, and which it lacks: Redis' errors name no key and no rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import redis

from jaas_submit.access.acl import channel_rule, key_rule
from jaas_submit.access.roles import Installation, Role, grants_of
from jaas_submit.connection import database_of, redis_errors

__all__ = ["missing_rules", "role_of", "user_of"]

_BEFORE, _AFTER = "run the '", "' command"
"""Around the name of the command in Redis' error."""

_PROBE: Final = "permission-check"
"""Part of the names of keys and channels that are tried: nobody uses them."""

_ROLES: Final = (Role.WORKER, Role.OPERATOR, Role.PRODUCER, Role.CELERY, Role.FLOWER, Role.VIEWER, Role.AGENT)
"""Who may do most comes first."""


def missing_rules(client: redis.Redis, prefix: str, queues: Sequence[str], role: Role = Role.WORKER) -> list[str]:
    """Return the ACL rules that a user of Redis lacks, in the form of ACL SETUSER; empty if it has all.

    It tries one key or channel of each kind with commands that change nothing.

    Args:
        client: with the user.
        prefix: of this installation's keys.
        queues: of jobs.
        role: what the user is for.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    of = Installation(prefix, queues, database_of(client))
    with redis_errors("permissions"):
        found = [_missing(rule, attempt) for rule, attempt in _attempts(client, of, role)]
    return list(dict.fromkeys(rule for rule in found if rule))


def role_of(client: redis.Redis, prefix: str, queues: Sequence[str]) -> Role | None:
    """Return the role whose rules a user of Redis has, the one with most of them first; None if it has those of none.

    Args:
        client: with the user.
        prefix: of this installation's keys.
        queues: of jobs.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    found = [role for role in _ROLES if not missing_rules(client, prefix, queues, role)]
    # Before Redis 7 there are no rules for reading alone: some roles differ by their names only.
    named = [role for role in found if user_of(client).endswith(f"-{role}")]
    return next(iter([*named, *found]), None)


def user_of(client: redis.Redis) -> str:
    """Return the name of a client's user in Redis.

    Args:
        client: as ``connect`` makes it.
    """
    return str(client.connection_pool.connection_kwargs.get("username") or "default")


def _attempts(client: Any, of: Installation, role: Role) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each rule with what works only where it holds."""
    grants = grants_of(role, of)
    for key in dict.fromkeys(grants.keys):
        name, rule = _example(key.pattern), key_rule(key)
        if "r" in key.access:
            yield rule, lambda name=name: client.get(name)  # type: ignore[misc] # bound at once
        if "w" in key.access:
            yield rule, lambda name=name: client.zrem(name, _PROBE)  # type: ignore[misc] # as above
    for pattern in grants.channels:
        # kombu subscribes to these by pattern, and for a pattern the rule has to be the very same.
        by_pattern = pattern.endswith(".celery.pidbox") or (role is Role.FLOWER and ".celeryev/" in pattern)
        name = pattern if by_pattern else _example(pattern)
        subscribe = _psubscribe if by_pattern else _subscribe
        yield channel_rule(pattern), lambda name=name, subscribe=subscribe: subscribe(client, name)  # type: ignore[misc] # as above
    if "publish" in grants.commands and grants.channels:
        yield channel_rule(grants.channels[0]), lambda: client.publish(_example(grants.channels[0]), "")
    if "eval" in grants.commands:
        yield "+eval", lambda: client.eval("return 1", 0)
        yield "+evalsha", lambda: client.evalsha("0" * 40, 0)


def _example(pattern: str) -> str:
    """Return a name that a pattern of ``grants_of`` fits; for a whole name it is that name."""
    name = pattern.replace("??[0-9]", "\x06\x163").replace(":[0-9]", ":3")
    return re.sub(r"\\(.)", r"\1", re.sub(r"(?<!\\)\*", _PROBE, name))


def _missing(rule: str, attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except redis.exceptions.NoPermissionError as error:
        command, named, _ = str(error).partition(_BEFORE)[2].partition(_AFTER)
        return f"+{command}" if named else rule
    except redis.ResponseError:  # not for want of permission: no such script, another type, full, read-only
        pass
    return ""


def _subscribe(client: Any, channel: str) -> None:
    with client.pubsub() as subscription:
        subscription.subscribe(channel)
        subscription.get_message(timeout=5)


def _psubscribe(client: Any, pattern: str) -> None:
    with client.pubsub() as subscription:
        subscription.psubscribe(pattern)
        subscription.get_message(timeout=5)

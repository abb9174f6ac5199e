"""The kinds of program that use an installation's Redis, and the keys, channels and commands that each needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from jaas_submit.model.wire_names import FOREIGN_QUEUE, channel_prefix

__all__ = ["LEDGER_KEYS", "Access", "Grants", "Installation", "Key", "Role", "grants_of"]

Access = Literal["", "r", "w", "rw"]


class Role(StrEnum):
    """A kind of program, each with a user of its own in Redis."""

    WORKER = "worker"
    AGENT = "agent"
    PRODUCER = "producer"
    OPERATOR = "operator"  # a person or program that changes queues, too
    VIEWER = "viewer"
    CELERY = "celery"  # a producer that is a Celery app of its own, without jaas
    FLOWER = "flower"
    HEALTH = "health"  # a health check
    ADMIN = "admin"  # a person who operates Redis
    REPLICA = "replica"  # a replica, at its master
    SENTINEL = "sentinel"  # a Sentinel, at the servers that it watches
    FINDER = "finder"  # whoever asks a Sentinel for the master; the other users are at the servers


class Installation(NamedTuple):
    """Whose keys and channels are meant.

    Args:
        prefix: of the keys.
        queues: Celery queues of the workers, and of the tasks that follow jobs.
        database: number of the Redis database.
    """

    prefix: str
    queues: Sequence[str]
    database: int = 0


class Key(NamedTuple):
    """Keys that a pattern names, and what may be done with them."""

    pattern: str
    access: Access = "rw"


@dataclass(frozen=True, slots=True)
class Grants:
    """What a role may do.

    Args:
        keys: by their patterns.
        channels: patterns of their names.
        commands: in lower case; ``command|subcommand`` is one subcommand.
    """

    keys: tuple[Key, ...]
    channels: tuple[str, ...]
    commands: tuple[str, ...]


LEDGER_KEYS: Final[dict[str, tuple[Access, Access, Access]]] = {
    # key: producer, viewer, agent
    "job:*": ("rw", "r", ""),
    "log:*": ("rw", "r", ""),
    "jobs": ("rw", "r", ""),
    "state:*": ("rw", "r", ""),
    "key:*": ("rw", "r", ""),
    "after:*": ("rw", "r", ""),
    "pending_dependents": ("rw", "r", ""),
    "revoked": ("rw", "r", ""),
    "deadlines": ("rw", "r", ""),
    "due": ("rw", "r", ""),
    "unowned": ("rw", "r", ""),
    "ready": ("rw", "r", ""),
    "unacked": ("", "", ""),
    "unacked_index": ("", "", ""),
    "newest_received": ("r", "r", ""),
    "last_claim": ("r", "r", ""),
    "holders": ("r", "r", ""),
    "held:*": ("r", "r", ""),
    "stop:*": ("w", "", ""),
    "info:*": ("r", "r", ""),
    "seen:*": ("", "", ""),
    "lock:*": ("", "", ""),
    "batch:*": ("rw", "r", ""),
    "batches": ("rw", "r", ""),
    "cancelling": ("rw", "r", ""),
    "speculating": ("rw", "r", ""),
    "cluster": ("r", "r", ""),
    "platforms:*": ("r", "r", ""),
    "identity": ("r", "r", "r"),
    "noted:*": ("", "", ""),
    "in_flight:*": ("", "", ""),
    "queues": ("r", "r", ""),
    "rule_changes": ("r", "r", ""),
    "kept:*": ("rw", "r", ""),
    "opening": ("rw", "r", ""),
    "secret": ("rw", "", ""),
    "sent:*": ("rw", "", ""),
    "sent_files": ("rw", "", ""),
    "sent_left": ("rw", "", ""),
    "replicated": ("rw", "", ""),
    "watch:*": ("rw", "", "r"),
    "feed:*": ("rw", "", "rw"),
    "whole:*": ("w", "", "w"),
    "agent:*": ("r", "r", "rw"),
    "files:*": ("w", "", "rw"),
    "agents": ("r", "r", "rw"),
    "output:*": ("rw", "", "rw"),
}
"""The keys in docs/ledger.md without their prefix, and what a producer, a viewer and an agent may do with each. A
worker may do all with all of them."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CONNECT: Final = ("hello", "auth", "ping", "echo", "select", "client|setname", "client|setinfo", "time", "info")
_SCRIPTS: Final = ("eval", "evalsha", "script|load", "script|exists")
_SUBSCRIBE: Final = ("subscribe", "unsubscribe")
_READ: Final = _words(
    "exists type get mget strlen hget hkeys hmget hgetall hexists hlen lrange lindex llen scard smembers sismember "
    "srandmember ttl zcard zcount zrange zrangebyscore zrank zrevrange zscore xrange"
)
_TRANSACTION: Final = ("multi", "exec")
_WRITE: Final = _words(
    "set expire pexpire unlink del copy hset hsetnx hdel hincrby rpush lpush rpop lpop sadd srem spop "
    "zadd zrem zremrangebyscore zremrangebyrank zpopmin xadd xtrim ltrim publish"
)
_CONSUME: Final = _words("brpop blpop blmove lmove lpop lrem psubscribe punsubscribe")
_CELERY: Final = (
    *_TRANSACTION,
    *_SCRIPTS,
    *_words(
        "get mget set setex expire del unlink exists append incr incrby watch unwatch llen lpush rpush brpop blpop "
        "rpop lpop lrem ltrim lrange sadd srem smembers scard zadd zrem zcount zrange zrangebyscore zrevrangebyscore "
        "hset hget hdel publish subscribe unsubscribe psubscribe punsubscribe"
    ),
)
_AGENT: Final = _words(
    "get set exists hget hmget hgetall hset hsetnx hdel expire ttl unlink del rpush lpop lindex llen zadd zrem zrange "
    "zrevrange zremrangebyscore xadd xrange xtrim publish"
)


def grants_of(role: Role, of: Installation) -> Grants:
    """Return what a role may do.

    Args:
        role: the kind of program.
        of: the installation.
    """
    return _MAKERS[role](of)


def _worker(of: Installation) -> Grants:
    own = (Key(f"{_plain(of.prefix)}:*"), *_lists(of.queues), *_lists([FOREIGN_QUEUE]))
    more = (*_SCRIPTS, *_READ, *_WRITE, *_TRANSACTION, *_CONSUME, *_SUBSCRIBE, "scan", "hscan", "wait")
    commands = tuple(dict.fromkeys((*_CONNECT, *more, *_CELERY)))
    results = (Key("celery-task-meta-*"), Key("celery-taskset-meta-*"))
    return Grants(
        (*own, *results, *_control()),
        (f"{_channels(of)}:*", "celery-task-meta-*", *_fanout(of)),
        commands,
    )


def _producer(of: Installation) -> Grants:
    keys = (*_ledger(of, 0), *_lists(of.queues))
    named = ("changes:*", "cancels", "available", "watch", "output:*")
    channels = tuple(f"{_channels(of)}:{one}" for one in named)
    commands = (*_CONNECT, *_SCRIPTS, *_READ, *_WRITE, *_TRANSACTION, *_SUBSCRIBE, "wait")
    return Grants(keys, channels, commands)


def _operator(of: Installation) -> Grants:
    producer = _producer(of)
    own = tuple(Key(f"{_plain(of.prefix)}:{name}") for name in ("queues", "rule_changes"))
    return Grants((*producer.keys, *own), producer.channels, producer.commands)


def _viewer(of: Installation) -> Grants:
    keys = (*_ledger(of, 1), *_lists(of.queues, "r"))
    return Grants(keys, (f"{_channels(of)}:changes:*",), (*_CONNECT, *_READ, *_TRANSACTION, *_SUBSCRIBE))


def _agent(of: Installation) -> Grants:
    channels = tuple(f"{_channels(of)}:{one}" for one in ("exits", "watch", "files", "output:*"))
    return Grants(tuple(_ledger(of, 2)), channels, (*_CONNECT, *_SCRIPTS, *_AGENT, *_SUBSCRIBE))


def _celery(of: Installation) -> Grants:
    results = (Key("celery-task-meta-*"), Key("celery-taskset-meta-*"))
    keys = (*_lists(of.queues), *_lists([FOREIGN_QUEUE]), *results, *_control())
    return Grants(keys, ("celery-task-meta-*", *_fanout(of)), (*_CONNECT, *_CELERY))


def _flower(of: Installation) -> Grants:
    keys = (*_lists([*of.queues, FOREIGN_QUEUE], "r"), Key("celery-task-meta-*", "r"), Key("celeryev.*"), *_control())
    return Grants(keys, ("celery-task-meta-*", *_fanout(of)), (*_CONNECT, *_CELERY))


def _health(_of: Installation) -> Grants:
    return Grants((), (), ("ping",))


def _admin(_of: Installation) -> Grants:
    return Grants((Key("*"),), ("*",), ("@all",))


def _replica(_of: Installation) -> Grants:
    # https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/, "ACL rules for Sentinel and replicas"
    return Grants((), (), ("psync", "replconf", "ping"))


def _sentinel(_of: Installation) -> Grants:
    # The same page of Redis' documentation.
    named = ("multi", "slaveof", "ping", "exec", "subscribe", "config|rewrite", "role", "publish", "info")
    return Grants((), ("*",), (*named, "client|setname", "client|kill", "script|kill"))


def _finder(_of: Installation) -> Grants:
    named = ("auth", "hello", "ping", "info", "role", "client|setname", "client|setinfo", "subscribe", "unsubscribe")
    asked = ("get-master-addr-by-name", "master", "masters", "replicas", "sentinels", "ckquorum")
    return Grants((), ("+switch-master",), (*named, *(f"sentinel|{one}" for one in asked)))


_MAKERS: Final = {
    Role.WORKER: _worker,
    Role.AGENT: _agent,
    Role.PRODUCER: _producer,
    Role.OPERATOR: _operator,
    Role.VIEWER: _viewer,
    Role.CELERY: _celery,
    Role.FLOWER: _flower,
    Role.HEALTH: _health,
    Role.ADMIN: _admin,
    Role.REPLICA: _replica,
    Role.SENTINEL: _sentinel,
    Role.FINDER: _finder,
}


def _ledger(of: Installation, column: Literal[0, 1, 2]) -> Iterator[Key]:
    for name, columns in LEDGER_KEYS.items():
        if access := columns[column]:
            yield Key(f"{_plain(of.prefix)}:{name}", access)


def _lists(queues: Sequence[str], access: Access = "rw") -> Iterator[Key]:
    """Yield the lists that queues are made of: one for each priority (``jaas_submit.messaging.queues``)."""
    for name in map(_plain, dict.fromkeys(queues)):
        yield Key(name, access)
        yield Key(f"{name}:[0-9]", access)
        yield Key(f"{name}??[0-9]", access)  # the separator of kombu is two control characters


def _control() -> Iterator[Key]:
    """Yield the keys of kombu's exchanges, and of Celery's remote control."""
    yield Key("_kombu.binding*")
    # Where kombu notes messages that its clients have not acknowledged. jaas' workers have keys of their own for that.
    yield from map(Key, ("unacked", "unacked_index", "unacked_mutex"))
    yield Key("*.celery.pidbox*")


def _fanout(of: Installation) -> tuple[str, ...]:
    """Return the channels of Celery's events and of its remote control."""
    return f"/{of.database}.celeryev/*", f"/{of.database}.celery.pidbox"


def _channels(of: Installation) -> str:
    return _plain(channel_prefix(of.prefix, of.database))


def _plain(name: str) -> str:
    """Return a pattern that names one name only."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", name)

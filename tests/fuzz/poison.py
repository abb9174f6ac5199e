"""What is done to a key in Redis: another type, other fields, other bytes, strange members."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any, Final

import redis

from jaas_submit.model.states import JobState
from tests.fuzz.mutations import mutate, mutate_bytes
from tests.fuzz.odd import ODD, as_json, odd
from tests.fuzz.scene import BATCHES, VICTIMS
from tests.fuzz.specimens import bomb

__all__ = ["OWN", "SHARED", "Poison", "poison"]

OWN: Final = (
    *(f"job:{victim}" for victim in VICTIMS),
    *(f"job:{victim}" for victim in VICTIMS),  # twice as likely as the rest
    "log:bad-ended:1",
    "log:bad-ended:1",
    f"batch:{BATCHES['bad']}",
    f"batch:{BATCHES['bad']}:line",
    f"batch:{BATCHES['bad']}:ended",
    f"batch:{BATCHES['bad']}:inputs",
    f"batch:{BATCHES['bad']}:order",
    f"batch:{BATCHES['bad']}:places",
    "after:bad-orphan",
    "held:bad-worker",
    "stop:bad-worker",
    "info:living-worker",
    "seen:bad-worker",
    "key:bad-key",
    "cluster",
)
"""Keys of one record: what is wrong with one may harm nothing else."""

INDEXES: Final = (
    "jobs",
    "unowned",
    "ready",
    "due",
    "deadlines",
    "holders",
    "batches",
    *(f"state:{state}" for state in JobState),
)
SETS: Final = ("cancelling", "speculating", "held:bad-worker", "stop:bad-worker", "after:bad-orphan")
SHARED: Final = (
    *INDEXES,
    "cancelling",
    "speculating",
    "pending_dependents",
    "newest_received",
    "last_claim",
    "identity",
    "lock:sweep",
    "lock:speculate",
)
"""Keys that all share: of one with another type a documented error tells, and nothing else."""

_STRANGE_IDS: Final = (
    "",
    "a b",
    "x" * 3000,
    "\n",
    "..",
    "*",
    "{a}",
    "bad\x00id",
    f"batch:{BATCHES['bad']}",
    "no-such-job",
    "☃",
)
_SCORES: Final = (0.0, -1.0, 1e300, float("inf"), float("-inf"), 1.5)


class Poison:
    """What a case does to the keys.

    Args:
        title: what, for people.
        commands: for Redis, without the prefix of their keys.
        shared: whether all share the key.
    """

    def __init__(self, title: str, commands: list[tuple[Any, ...]], *, shared: bool = False) -> None:
        self.title = title
        self.commands = commands
        self.shared = shared

    def apply(self, client: redis.Redis, prefix: str) -> None:
        """Do it."""
        for name, key, *rest in self.commands:
            client.execute_command(name, f"{prefix}:{key}", *rest)  # type: ignore[no-untyped-call] # redis-py leaves it untyped


def _another_type(rng: random.Random, key: str) -> tuple[str, list[tuple[Any, ...]]]:
    kinds: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("a string", ("SET", key, "1")),
        ("a list", ("RPUSH", key, "1")),
        ("a set", ("SADD", key, "1")),
        ("a sorted set", ("ZADD", key, 1, "1")),
        ("a hash", ("HSET", key, "a", "1")),
        ("a stream", ("XADD", key, "*", "a", "1")),
        ("nothing", ("DEL", key)),
    )
    name, command = rng.choice(kinds)
    return f"is {name}", [("DEL", key), command]


def _bytes(rng: random.Random, old: bytes) -> tuple[bytes, str]:
    """Return another value of a field or a string: in its own form where it is JSON, or any bytes."""
    roll = rng.random()
    if roll < 0.35:
        try:
            tree, done = mutate(rng, json.loads(old))
            return as_json(tree), done
        except ValueError:
            pass
    if roll < 0.7:
        one = odd(rng)
        text = one.value if isinstance(one.value, str) else as_json(one).decode()
        return text.encode("utf-8", "surrogatepass"), one.name
    return mutate_bytes(rng, old)


def _fields(rng: random.Random, key: str, row: dict[bytes, bytes]) -> tuple[str, list[tuple[Any, ...]]]:
    name = rng.choice(sorted(row))
    roll = rng.random()
    if roll < 0.2:
        return f"has no {name.decode()}", [("HDEL", key, name)]
    if roll < 0.35:
        strange = rng.choice(
            (
                *(b"", b"\xff\xfe", b"n:", b"n:\xff", b"new", b"index", b"due_at", b"output", b"after", b"speculate"),
                *(b"not_before", b"expires_at", b"celery_priority"),
            )
        )
        value, done = _bytes(rng, b"1")
        return f"has {strange!r}: {done}", [("HSET", key, strange, value)]
    value, done = _bytes(rng, row[name])
    return f"{name.decode()}: {done}", [("HSET", key, name, value)]


def _log(rng: random.Random) -> tuple[bytes, str]:
    tree, done = mutate(
        rng, {"status": "complete", "reason": "", "lines": [["", "stdout", "a\n"], ["t", "stderr", "b"]]}
    )
    packed = zlib.compress(as_json(tree))
    if rng.random() < 0.2:
        return rng.choice(
            (
                (bomb("application/x-gzip"), "a bomb"),
                (zlib.compress(b"[" * 5_000_000), "five million brackets"),
                (zlib.compress(b'{"a":' * 1_000_000), "a million objects inside each other"),
                (zlib.compress(b"9" * 1_000_000), "a number of a million digits"),
            )
        )
    if rng.random() < 0.4:
        return mutate_bytes(rng, packed)
    return packed, done


def poison(rng: random.Random, client: redis.Redis, prefix: str) -> Poison:
    """Return what a case does to the scene.

    Args:
        rng: decides.
        client: of the Redis with the scene, which is looked at.
        prefix: of its keys.
    """
    roll = rng.random()
    if roll < 0.1:
        key = rng.choice(SHARED)
        done, commands = _another_type(rng, key)
        return Poison(f"{key}: {done}", commands, shared=True)
    if roll < 0.3:
        return _strange_members(rng)
    key = rng.choice(OWN)
    full = f"{prefix}:{key}"
    kind = client.type(full)
    if rng.random() < 0.25 or kind not in {b"hash", b"string"}:
        done, commands = _another_type(rng, key)
    elif kind == b"hash":
        row: Any = client.hgetall(full)
        done, commands = _fields(rng, key, row)
    else:
        old: Any = client.get(full)
        value, done = _log(rng) if key.startswith("log:") else _bytes(rng, old)
        commands = [("SET", key, value)]
    return Poison(f"{key}: {done}", commands)


def _strange_members(rng: random.Random) -> Poison:
    """Put ids of no job into an index, or of jobs whose record is of another type."""
    strange: Any = rng.choice(_STRANGE_IDS) if rng.random() < 0.8 else rng.choice((b"\xff\xfe", b"\xed\xa0\x80"))
    if rng.random() < 0.2:
        text = rng.choice([one.token for one in ODD if one.token] + ["[1]", "{}", '["a"]', '["a","b","c","d"]', "x"])
        return Poison(f"pending_dependents: has {text[:30]!r}", [("RPUSH", "pending_dependents", text)])
    if rng.random() < 0.3:
        key = rng.choice(SETS)
        return Poison(f"{key}: has {strange[:20]!r}", [("SADD", key, strange)])
    key, score = rng.choice(INDEXES), rng.choice(_SCORES)
    commands: list[tuple[Any, ...]] = [("ZADD", key, score, strange)]
    done = f"{key}: has {strange[:20]!r} at {score}"
    if rng.random() < 0.5:
        what, more = _another_type(rng, f"job:{strange if isinstance(strange, str) else 'x'}")
        commands += more
        done += f", whose record {what}"
    return Poison(done, commands)

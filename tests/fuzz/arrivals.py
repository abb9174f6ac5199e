"""What is sent to a worker: queue entries, broadcasts of Celery's remote control, notices, and records to take up."""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from jaas_submit.messaging.messages import WAKEUP
from jaas_submit.messaging.queues import lists_of
from tests.fuzz.corpus import CORPUS
from tests.fuzz.mutations import mutate, mutate_bytes
from tests.fuzz.odd import DEEPER, LIMIT, as_json, odd
from tests.fuzz.specimens import EVENT, KINDS_OF_BODY, SPECS, entry, message, new_id, packed

__all__ = ["BROKER_KEYS", "CHANNELS", "INDEXES", "Address", "Arrival", "arrival", "carried_id", "waits"]


class Address(NamedTuple):
    """Where a worker is reached."""

    prefix: str
    queue: str
    holder: str
    """Its name in the ledger."""
    channels: str
    """First part of the installation's channels."""


class Arrival(NamedTuple):
    """One thing that arrives."""

    title: str
    commands: tuple[tuple[Any, ...], ...]
    """For Redis."""
    entry: bytes = b""
    """What stands in the queue, where it is an entry."""
    job_id: str = ""
    """Of a record whose job has to end: it is found, and nothing but its message is damaged."""
    until_gone: str = ""
    """A key that expires, before which nothing else is sent."""


def _entry(rng: random.Random, to: Address) -> Arrival:
    kind = rng.choice(list(KINDS_OF_BODY))
    envelope, body = message(rng, kind, to.queue)
    done = []
    roll = rng.random()
    if roll < 0.65:
        body, what = mutate(rng, body)
        done.append(f"in its body {what}")
    if roll > 0.45:
        envelope, what = mutate(rng, envelope)
        done.append(f"outside of its body {what}")
    if rng.random() < 0.25:
        name, value = rng.choice(_NONSENSE)
        envelope, body = _with(envelope, body, name, value)
        done.append(f"{name} is {json.dumps(value)[:60]}")
    raw = as_json(body)
    if rng.random() < 0.15:
        raw, what = mutate_bytes(rng, raw)
        done.append(f"its body: {what}")
    envelope, raw, what = packed(rng, envelope, raw)
    if rng.random() < 0.1 and isinstance(envelope, dict):
        envelope = {**envelope, "content-type": rng.choice(_CONTENT)}
        done.append(f"as {envelope['content-type']}")
    text = entry(envelope, raw)
    if rng.random() < 0.2:
        text, more = mutate_bytes(rng, text)
        what = f"{what} {more}"
    name = rng.choice(lists_of(to.queue))
    if rng.random() < 0.05:  # under the same id and the same delivery tag
        return Arrival(f"entry ({kind}), twice: {'; '.join([*done, what])}", (("LPUSH", name, text, text),), text)
    return Arrival(f"entry ({kind}): {'; '.join([*done, what])}", (("LPUSH", name, text),), text)


def _with(envelope: Any, body: Any, name: str, value: Any) -> tuple[Any, Any]:
    """Return envelope and body with something set in the headers, the properties, or what is to happen afterwards."""
    where, _, field = name.partition(".")
    if where == "after":
        is_list = isinstance(body, list) and len(body) == 3
        return envelope, [*body[:2], {field: value}] if is_list else {**body, field: value} if isinstance(
            body, dict
        ) else body
    if isinstance(envelope, dict) and isinstance(envelope.get(where), dict):
        envelope = {**envelope, where: {**envelope[where], field: value}}
    return envelope, body


def _task(**fields: Any) -> dict[str, Any]:
    return {
        "task": "theirs.a",
        "args": [],
        "kwargs": {},
        "options": {},
        "subtask_type": None,
        "immutable": False,
        **fields,
    }


_NONSENSE: Final[tuple[tuple[str, Any], ...]] = (
    ("headers.eta", "2999-01-01T00:00:00+00:00"),
    ("headers.eta", "1999-01-01T00:00:00+00:00"),
    ("headers.eta", "2999-01-01T00:00:00"),
    ("headers.expires", "2999-01-01T00:00:00+00:00"),
    ("headers.expires", "0002-01-01T00:00:00+00:00"),
    ("headers.expires", "2020-01-01T00:00:00+00:00"),
    ("headers.timelimit", [1e9, -1]),
    ("headers.timelimit", [None, 0]),
    ("headers.retries", -5),
    ("headers.group", "no-such-group"),
    ("headers.group_index", "x"),
    ("headers.replaced_task_nesting", "x"),
    ("headers.ignore_result", "yes"),
    ("headers.stamped_headers", ["a", "a", "no-such"]),
    ("headers.shadow", "x" * 60_000),
    ("headers.traceparent", "00-zz-zz-zz"),
    ("headers.jaas_taken_over", True),
    ("headers.jaas-defect", "x" * 60_000),
    ("headers.jaas_batch", "no-such-batch"),
    ("properties.priority", 10**9),
    ("properties.priority", "high"),
    ("properties.delivery_tag", "another's"),
    ("properties.reply_to", "no-such-queue"),
    ("after.chord", _task(kwargs={"a": 1}, options={"task_id": "x", "queue": "theirs"}, chord_size=-1)),
    ("after.chord", {"task": "theirs.a"}),
    ("after.chain", [_task(task="", options={"countdown": "soon"})]),
    ("after.chain", [_task(subtask_type="chord", kwargs={"header": 1})]),
    ("after.callbacks", [_task(options={"queue": "", "eta": "tomorrow"})]),
    ("after.callbacks", [_task(subtask_type="no-such-type")]),
    ("after.errbacks", [_task(options={"expires": []})]),
)
"""What has the type that it should have, or nearly so, and means nothing."""

_CONTENT: Final = (
    "application/x-python-serialize",
    "application/x-yaml",
    "application/x-msgpack",
    "text/plain",
    "\n",
    "a/b",
)

_COMMANDS: Final[tuple[dict[str, Any], ...]] = (
    {"method": "ping", "arguments": {}},
    {"method": "revoke", "arguments": {"task_id": "x", "terminate": True, "signal": "SIGTERM"}},
    {"method": "terminate", "arguments": {"task_id": ["x"], "signal": "SIGTERM"}},
    {"method": "revoke_by_stamped_headers", "arguments": {"headers": {"who": "me"}, "terminate": False}},
    {"method": "time_limit", "arguments": {"task_name": "other", "soft": 1, "hard": 2}},
    {"method": "rate_limit", "arguments": {"task_name": "other", "rate_limit": "1/s"}},
    {"method": "query_task", "arguments": {"ids": ["x"]}},
    {"method": "active", "arguments": {"safe": True}},
    {"method": "stats", "arguments": {}},
    {"method": "conf", "arguments": {"with_defaults": True}},
    {"method": "hello", "arguments": {"from_node": "other@host", "revoked": {"a": 1.0}}},
    {"method": "election", "arguments": {"id": "x", "topic": "task", "action": None}},
)


def _broadcast(rng: random.Random, to: Address) -> Arrival:
    """Return something on the channel of Celery's remote control; any database's client reaches it."""
    command = {**rng.choice(_COMMANDS), "destination": None, "pattern": None, "matcher": None}
    if rng.random() < 0.5:
        command |= {"reply_to": {"exchange": "reply.celery.pidbox", "routing_key": new_id(rng)}, "ticket": new_id(rng)}
    return _published(rng, "/0.celery.pidbox", "broadcast", command, {"clock": 1, "expires": None})


def _event(rng: random.Random, to: Address) -> Arrival:
    """Return an event as other Celery workers send it."""
    fields = {"hostname": "other@host", "utcoffset": 0, "pid": 1, "clock": 5, "timestamp": 1.0, "freq": 2.0}
    body = {**fields, "type": rng.choice(("worker-heartbeat", "worker-online", "worker-elect", "worker-offline"))}
    return _published(rng, "/0.celeryev/worker.heartbeat", "event", body, {"hostname": "other@host"})


def _published(rng: random.Random, channel: str, what: str, body: Any, headers: Any) -> Arrival:
    done = ""
    if rng.random() < 0.7:
        body, done = mutate(rng, body)
    raw = as_json(body)
    envelope: Any = {
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": channel.partition(".")[2].partition("/")[0], "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": new_id(rng),
        },
    }
    if not done or rng.random() < 0.3:
        envelope, more = mutate(rng, envelope)
        done = f"{done}; outside of its body {more}"
    text = entry(envelope, raw)
    if rng.random() < 0.3:
        text, more = mutate_bytes(rng, text)
        done = f"{done}; {more}"
    return Arrival(f"{what}: {done}", (("PUBLISH", channel, text),))


CHANNELS: Final = ("exits", "cancels", "available", "changes")
"""First words of jaas' own channels, of which workers hear the first three."""

INDEXES: Final = ("ready", "unowned", "state:QUEUED", "jobs")
"""Where a worker finds jobs to take up."""

_HUGE_OR_DEEP: Final = (
    ("a million brackets", b"[" * 1_000_000),
    ("a million objects inside each other", b'{"a":' * 1_000_000),
    ("3 MB of text", b'"' + b"x" * 3_000_000 + b'"'),
    ("3 MB of no text", b"\xff" * 3_000_000),
    ("a number of a million digits", b"9" * 1_000_000),
    ("nothing", b""),
)


def _notice(rng: random.Random, to: Address) -> Arrival:
    """Return a notice on one of jaas' own channels."""
    kind = rng.choice(CHANNELS)
    channel, specimen = {
        "exits": ("exits", json.dumps({**EVENT, "job_id": new_id(rng)}).encode()),
        "cancels": ("cancels", new_id(rng).encode()),
        "available": ("available", rng.choice((b"pending_dependents", new_id(rng).encode()))),
        "changes": (f"changes:{new_id(rng)}", b'{"state":"RUNNING","detail":""}'),
    }[kind]
    roll = rng.random()
    if roll < 0.15:
        done, raw = rng.choice(_HUGE_OR_DEEP)
    elif kind == "exits" and roll < 0.75:
        tree, done = mutate(rng, json.loads(specimen))
        raw = as_json(tree)
    elif roll < 0.6:
        one = odd(rng)
        raw, done = as_json(one), one.name
    else:
        raw, done = mutate_bytes(rng, specimen)
    return Arrival(f"notice on {kind}: {done}", (("PUBLISH", f"{to.channels}:{channel}", raw),))


def _record(rng: random.Random, to: Address) -> Arrival:
    """Return the record of a job that some worker has to take up."""
    job_id = new_id(rng)
    message = {
        "headers": {"lang": "py", "task": "jaas.run", "id": job_id, "retries": 0},
        "body": base64.b64encode(json.dumps([[], {"spec": SPECS["plain"]}, {}]).encode()).decode(),
        "properties": {"correlation_id": job_id, "content_type": "application/json", "content_encoding": "utf-8"},
    }
    fields: dict[str, Any] = {
        "state": "QUEUED",
        "spec": json.dumps(SPECS["plain"]),
        "queue": to.queue,
        "task_id": job_id,
        "attempt": "0",
        "created_at": "1796000000.5",
        "updated_at": "1796000000.5",
        "attempts": "[]",
    }
    if rng.random() < 0.5:
        tree, done = mutate(rng, message)
        fields["message"], done = as_json(tree), f"message: {done}"
    else:
        name = rng.choice(list(fields))
        if rng.random() < 0.5:
            one = odd(rng)
            value = one.value if isinstance(one.value, str) else as_json(one).decode()
            fields[name], done = value.encode("utf-8", "surrogatepass"), f"{name}: {one.name}"
        else:
            fields[name], what = mutate_bytes(rng, fields[name].encode())
            done = f"{name}: {what}"
    readable = done.startswith("message: ")
    flat = [part for pair in fields.items() for part in pair]
    key = f"{to.prefix}:job:{job_id}"
    if rng.random() < 0.15:
        commands: list[tuple[Any, ...]] = [("SET", key, "1")]
        done, readable = "is a string", False
    else:
        commands = [("HSET", key, *flat)]
    index = rng.choice(INDEXES)
    commands += [("ZADD", f"{to.prefix}:{index}", 0, job_id), ("PUBLISH", f"{to.channels}:available", job_id)]
    return Arrival(
        f"record in {index}: {done}", tuple(commands), job_id=job_id if readable and index == "ready" else ""
    )


_MISPLACE: Final = (
    "redis.call('DEL', KEYS[1]) redis.call(ARGV[1], KEYS[1], unpack(ARGV, 3)) redis.call('PEXPIRE', KEYS[1], ARGV[2])"
)
_FREE: Final = "if redis.call('EXISTS', KEYS[1]) == 1 then return end "
_MISPLACED_MS: Final = 300

BROKER_KEYS: Final = ("unacked", "unacked_index", "unacked_ended", "unacked_redelivered")
"""Keys of the transport's own notes."""


def _misplaced(rng: random.Random, to: Address) -> Arrival:
    """Return another kind of value at a key of the transport, for a moment in which a good message comes."""
    lists = lists_of(to.queue)
    key = rng.choice((*(f"{to.prefix}:{name}" for name in BROKER_KEYS), *lists))
    kind, made = rng.choice(
        (
            ("a string", ("SET", "1")),
            ("a set", ("SADD", "1")),
            ("a stream", ("XADD", "*", "a", "1")),
            ("a list", ("RPUSH", "1")),
            ("a hash", ("HSET", "a", "1")),
            ("a sorted set", ("ZADD", "1", "a")),
        )
    )
    if key in lists and kind == "a list":
        kind, made = "a string", ("SET", "1")
    envelope, body = message(rng, "Celery's protocol 2", to.queue)
    text = entry(envelope, as_json(body))
    # What waits in a list must not go: it is left alone while it holds something.
    script = _FREE + _MISPLACE if key in lists else _MISPLACE
    place = ("EVAL", script, 1, key, made[0], _MISPLACED_MS, *made[1:])
    good = ("LPUSH", rng.choice([name for name in lists if name != key]), text)
    return Arrival(f"{key} is {kind}", (place, good), text, until_gone=key)


_KINDS: Final[tuple[tuple[int, Callable[[random.Random, Address], Arrival]], ...]] = (
    (12, _entry),
    (3, _broadcast),
    (1, _event),
    (2, _notice),
    (2, _record),
    (1, _misplaced),
)


def arrival(rng: random.Random, number: int, to: Address) -> Arrival:
    """Return something that arrives.

    Args:
        rng: decides.
        number: of the case; the first ones come from the corpus.
        to: where the worker is reached.
    """
    if number < len(CORPUS):
        title, make = CORPUS[number]
        commands = make(rng, to.queue, to.prefix)
        name, _, text, *_ = commands[0]
        return Arrival(title, tuple(commands), text if name == "LPUSH" else b"")
    return rng.choices([make for _, make in _KINDS], [weight for weight, _ in _KINDS])[0](rng, to)


def _read(raw: bytes) -> dict[str, Any]:
    """Return a queue entry's headers, or the fields in its body for version 1; empty if it cannot be read."""
    if len(raw) > LIMIT:
        return {}
    try:
        whole = json.loads(raw.decode())
        headers = whole["headers"]
        if not isinstance(headers, dict) or _depth(whole) >= DEEPER:
            return {}
    except (ValueError, RecursionError, KeyError, TypeError):
        return {}
    return headers if "task" in headers or not _is_strict(raw) else {**_version_1(whole), **headers}


def _is_strict(raw: bytes) -> bool:
    """Return whether an entry has no numbers but JSON's: else nobody looks for an id within its body."""
    try:
        json.loads(raw.decode(), parse_float=_finite, parse_constant=_finite, parse_int=_finite)
    except ValueError:
        return False
    return True


def _version_1(whole: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a message of Celery's first protocol has in its body, where that is plain JSON."""
    if whole["headers"].get("compression") or whole.get("content-type") != "application/json":
        return {}
    if whole.get("content-encoding", "utf-8") != "utf-8":
        return {}
    try:
        encoded = whole["properties"].get("body_encoding") == "base64"
        body = base64.b64decode(whole["body"]) if encoded else whole["body"].encode()
        fields = json.loads(body.decode(), parse_float=_finite, parse_constant=_finite, parse_int=_finite)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}
    # What kombu marks with a type of its own it may fail to read.
    plain = isinstance(fields, dict) and _depth(fields) < DEEPER and b'"__type__"' not in body
    return fields if plain else {}


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("JSON has no such number")
    return number


def _depth(tree: Any, most: int = DEEPER) -> int:
    """Return how deep something is nested, at most as deep as nobody takes."""
    if most == 0 or not isinstance(tree, dict | list):
        return 0
    inside = tree.values() if isinstance(tree, dict) else tree
    return 1 + max((_depth(one, most - 1) for one in inside), default=0)


def carried_id(raw: bytes) -> str:
    """Return the task id that a queue entry carries where everybody can read it; else an empty text.

    So it is for a message of our own client, which is dropped where there is no record of its job.

    Args:
        raw: the entry.
    """
    fields = _read(raw)
    found = fields.get("id")
    if fields.get(WAKEUP) or not isinstance(found, str) or not 0 < len(found) <= 1024:
        return ""
    try:
        found.encode()
    except UnicodeEncodeError:
        return ""
    return found


def waits(raw: bytes) -> bool:
    """Return whether a message is a job that waits until its time has come.

    Args:
        raw: the entry.
    """
    return bool(_read(raw).get("eta"))

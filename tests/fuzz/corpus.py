"""What has stopped a worker once, or is just at a bound: the first cases of level ``worker``, whatever the seed."""

from __future__ import annotations

import bz2
import json
import random
from collections.abc import Callable
from typing import Any, Final

from tests.fuzz.odd import LIMIT, Odd, as_json
from tests.fuzz.specimens import KINDS_OF_BODY, bomb, entry, message, new_id

__all__ = ["CORPUS"]

Command = tuple[Any, ...]

_BY_NAME: Final = "Celery's protocol 2"
_DECODED: Final = 4 * 2**20
"""Bytes that an entry's body may have once it is no longer compressed."""


def _queued(text: bytes, queue: str) -> list[Command]:
    return [("LPUSH", queue, text)]


def _changed(rng: random.Random, queue: str, body: Any = None, *, raw: bytes = b"", **properties: Any) -> bytes:
    """Return a message with another body, or other properties."""
    envelope, own = message(rng, _BY_NAME, queue)
    envelope["properties"] |= properties
    return entry(envelope, raw or as_json(own if body is None else body))


def _compressed(rng: random.Random, queue: str, kind: str, raw: bytes) -> bytes:
    envelope, _ = message(rng, _BY_NAME, queue)
    envelope["headers"]["compression"] = kind
    return entry(envelope, raw)


def _padded(rng: random.Random, queue: str, size: int) -> bytes:
    """Return a good message of so many bytes."""
    text = _changed(rng, queue)
    return text[:-1] + b" " * (size - len(text)) + b"}"


def _exchange(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    where = {"exchange": Odd("1e999", float("inf"), "1e999"), "routing_key": queue}
    return _queued(_changed(rng, queue, delivery_info=where), queue)


def _routing_key(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    where = {"exchange": "", "routing_key": Odd("half a pair", "\ud800", '"\\ud800"')}
    return _queued(_changed(rng, queue, raw=b"no JSON", delivery_info=where), queue)


def _raw_newline(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    return _queued(_changed(rng, queue).replace(b'"lang":"py"', b'"lang":"p\ny"'), queue)


def _duration(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    spec = {"image": "a", "stop_grace": "1" * 64_000}
    return _queued(_changed(rng, queue, [[], {"spec": spec}, {}]), queue)


def _deep_body(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    return _queued(_changed(rng, queue, raw=b"[" * 1_000_000), queue)


def _half_a_pair_as_description(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    return _queued(_changed(rng, queue, raw=b'[[], {"spec": "\\ud800"}, {}]'), queue)


def _bomb(kind: str) -> Callable[[random.Random, str, str], list[Command]]:
    return lambda rng, queue, prefix: _queued(_compressed(rng, queue, kind, bomb(kind)), queue)


def _large_when_decoded(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    padded = as_json([[], {"spec": {"image": "a"}}, {}]) + b" " * _DECODED
    return _queued(_compressed(rng, queue, "application/x-bz2", bz2.compress(padded)), queue)


def _as_large_as_allowed_when_decoded(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    body = as_json([[], {"spec": {"image": "a"}}, {}])
    return _queued(_compressed(rng, queue, "application/x-bz2", bz2.compress(body.ljust(_DECODED))), queue)


def _as_large_as_allowed(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    return _queued(_padded(rng, queue, LIMIT), queue)


def _larger_than_allowed(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    return _queued(_padded(rng, queue, LIMIT + 1), queue)


def _deep_broadcast(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    return [("PUBLISH", f"/{database}.celery.pidbox", b"[" * 100_000) for database in (0, 5)]


def _deep_broadcast_inside(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    envelope, _ = message(rng, _BY_NAME, "")
    return [("PUBLISH", "/0.celery.pidbox", entry(envelope, b"[" * 100_000))]


def _deep_event(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    return [("PUBLISH", "/0.celeryev/worker.heartbeat", b"[" * 100_000)]


def _election(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    envelope, _ = message(rng, _BY_NAME, "")
    envelope["headers"] = {"clock": 1}
    body = {"method": "election", "arguments": {"id": "x", "topic": "task", "action": None}, "destination": None}
    return [("PUBLISH", "/0.celery.pidbox", entry(envelope, as_json(body)))]


def _wrong_type(index: str) -> Callable[[random.Random, str, str], list[Command]]:
    def make(rng: random.Random, queue: str, prefix: str) -> list[Command]:
        job_id = new_id(rng)
        return [("SET", f"{prefix}:job:{job_id}", "1"), ("ZADD", f"{prefix}:{index}", 0, job_id)]

    return make


def _pending(rng: random.Random, queue: str, prefix: str) -> list[Command]:
    return [("RPUSH", f"{prefix}:pending_dependents", json.dumps(None))]


def _for_later(kind: str) -> Callable[[random.Random, str, str], list[Command]]:
    """Return what makes a message with an eta that nobody lives to see: a worker must not keep it."""

    def make(rng: random.Random, queue: str, prefix: str) -> list[Command]:
        envelope, body = message(rng, kind, queue)
        place = body if isinstance(body, dict) else envelope["headers"]
        place["eta"] = "2999-01-01T00:00:00+00:00"
        return _queued(entry(envelope, as_json(body)), queue)

    return make


CORPUS: Final[tuple[tuple[str, Callable[[random.Random, str, str], list[Command]]], ...]] = (
    ("an exchange that no script can encode", _exchange),
    ("a routing key that cannot be written as UTF-8, in a message that is refused", _routing_key),
    ("a raw newline, which cjson reads and Python does not", _raw_newline),
    ("a duration of 64,000 digits", _duration),
    ("a body of a million brackets", _deep_body),
    ("half a surrogate pair for a description", _half_a_pair_as_description),
    ("a bomb of bz2", _bomb("application/x-bz2")),
    ("a bomb of zlib", _bomb("application/x-gzip")),
    ("a bomb of lzma", _bomb("application/x-lzma")),
    ("larger than allowed once it is decoded", _large_when_decoded),
    ("as large as allowed once it is decoded", _as_large_as_allowed_when_decoded),
    ("as large as allowed", _as_large_as_allowed),
    ("larger than allowed", _larger_than_allowed),
    ("deep JSON for the remote control", _deep_broadcast),
    ("deep JSON inside of a broadcast", _deep_broadcast_inside),
    ("deep JSON among events", _deep_event),
    ("an election among workers", _election),
    *((f"a record of another type in {index}", _wrong_type(index)) for index in ("ready", "unowned", "state:QUEUED")),
    ("null among what has ended", _pending),
    *((f"an eta in 2999 ({kind})", _for_later(kind)) for kind in KINDS_OF_BODY),
)
"""What it is, and what makes the commands for Redis, from a random source, a queue and a prefix."""

"""Valid specimens of all that arrives, as plain JSON values."""

from __future__ import annotations

import base64
import bz2
import hmac
import lzma
import random
import uuid
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from tests.fuzz.odd import as_json

__all__ = [
    "AUDIENCE",
    "COMPRESSIONS",
    "DURATIONS",
    "EVENT",
    "KINDS_OF_BODY",
    "SECRET",
    "SIZES",
    "SPECS",
    "entry",
    "header_of",
    "message",
    "new_id",
    "packed",
    "signed",
]

AUDIENCE: Final = "fuzz"
SECRET: Final = b"a secret of the fuzzer, known to all"
"""For signed descriptions: prefix of the installation, and the key \"k\" of the producer \"team\"."""

SPECS: Final[dict[str, dict[str, Any]]] = {
    "plain": {"image": "alpine:3.20", "command": ["true"]},
    "full": {
        "version": 1,
        "image": "registry.example:5000/team/app@sha256:" + "0" * 64,
        "entrypoint": ["/bin/sh"],
        "command": ["-c", "echo $A"],
        "env": {"A": "b", "URL": "http://a/?b=c"},
        "networks": ["net"],
        "mounts": [
            {"source": "/data", "target": "/d", "read_only": True},
            {"type": "volume", "source": "v", "target": "/v"},
            {"type": "tmpfs", "target": "/t"},
        ],
        "secrets": ["s", {"source": "t", "target": "/t/u", "uid": "1", "gid": "2", "mode": 256}],
        "constraints": ["node.labels.zone==eu", "node.role != manager"],
        "limits": {"cpus": 0.5, "memory": "512M"},
        "reservations": {"cpus": 0.1, "memory": 33554432},
        "user": "1000:1000",
        "workdir": "/w",
        "name": "n-1",
        "labels": {"team": "a"},
        "healthcheck": True,
        "registry": "registry.example:5000",
        "stop_signal": "SIGINT",
        "stop_grace": "1m30s",
        "pending_timeout": 5,
        "run_timeout": "1h",
        "deadline": 7.5,
        "expires": "500ms",
        "input": {"a": [1, 2.5, None, "x"]},
        "output": "json",
        "retry": {
            "max_attempts": 2,
            "max_cluster_retries": 1,
            "rules": [{"action": "retry", "causes": ["exit"], "exit_codes": [[1, 5], 7], "reason": "^a+b$"}],
            "backoff": {"kind": "constant", "delay": "1s", "factor": 3, "cap": 60, "jitter": "none"},
            "avoid_failed_nodes": True,
            "memory_factor": 1.5,
            "memory_cap": "1G",
        },
        "idempotent": True,
        "on_node_lost": "retry",
        "lost_after": "60s",
        "check": False,
    },
    "gathering": {"image": "a", "gather": {"batch": "b-1", "first": 0, "count": 3}, "output": "text"},
}
"""Descriptions of jobs."""

DURATIONS: Final = ("90", "60s", "1h30m", "500ms", "1d2h3m4s5ms", "1.5h", 90, 0.25)
SIZES: Final = ("512M", "1.5GiB", "100", "7 kb", 4096, 1.5)

EVENT: Final[dict[str, Any]] = {
    "kind": "die",
    "service_id": "s" * 25,
    "task_id": "t" * 25,
    "job_id": "5a0e9a6c-9a0f-4f0c-a4f6-4b2f1f5c1b1e",
    "container_id": "c" * 64,
    "exit_code": 0,
    "at": "2026-11-23T12:00:00.123456789Z",
}
"""A container's end, as one worker tells another of it."""

_NO_LIMIT: Final = 600 * 2**20
"""Bytes that come out of a compression bomb: far more than the bound on a worker's memory allows."""


def new_id(rng: random.Random) -> str:
    """Return a task id, always the same one from the same random source."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _headers(task_id: str) -> dict[str, Any]:
    """Return what Celery writes (protocol 2)."""
    return {
        "lang": "py",
        "task": "jaas.run",
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def _signature(name: str) -> dict[str, Any]:
    return {
        "task": name,
        "args": [],
        "kwargs": {},
        "options": {"queue": "theirs"},
        "subtask_type": None,
        "immutable": False,
    }


def message(rng: random.Random, kind: str, queue: str) -> tuple[dict[str, Any], Any]:
    """Return a queue entry without its body, and the body.

    Args:
        rng: decides on ids.
        kind: one of ``KINDS_OF_BODY``.
        queue: where it goes.
    """
    task_id = new_id(rng)
    headers, body = KINDS_OF_BODY[kind](task_id)
    envelope = {
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "correlation_id": task_id,
            "reply_to": new_id(rng),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": new_id(rng),
        },
    }
    return envelope, body


def _version_2(task_id: str) -> tuple[dict[str, Any], Any]:
    return _headers(task_id), [
        [],
        {"spec": SPECS["plain"]},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]


def _version_1(task_id: str) -> tuple[dict[str, Any], Any]:
    body = {
        "task": "jaas.run",
        "id": task_id,
        "args": [],
        "kwargs": {"spec": SPECS["plain"]},
        "group": None,
        "retries": 0,
        "eta": None,
        "expires": None,
        "utc": True,
        "callbacks": None,
        "errbacks": None,
        "timelimit": [None, None],
        "taskset": None,
        "chord": None,
    }
    return {}, body


def _in_a_canvas(task_id: str) -> tuple[dict[str, Any], Any]:
    after = {
        "callbacks": [_signature("theirs.a")],
        "errbacks": [_signature("theirs.b")],
        "chain": [_signature("theirs.c")],
        "chord": None,
    }
    return {**_headers(task_id), "stamps": {"a": "b"}, "stamped_headers": ["a"]}, [[1], {"spec": SPECS["plain"]}, after]


def signed(text: bytes, header: Any) -> str:
    """Return a token with a right signature, whatever is in it."""
    head = as_json(header)
    start = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, text))
    signature = base64.urlsafe_b64encode(hmac.digest(SECRET, start, "sha256")).rstrip(b"=")
    return (start + b"." + signature).decode()


def header_of(task_id: str) -> dict[str, Any]:
    """Return the header of a good token."""
    named = {"alg": "HS256", "kid": "k", "typ": "jaas-description", "iss": "team", "aud": AUDIENCE, "jti": task_id}
    return {**named, "iat": 0, "exp": 2**40}


def _signed(task_id: str) -> tuple[dict[str, Any], Any]:
    return _headers(task_id), [[], {"spec": signed(as_json(SPECS["plain"]), header_of(task_id))}, {}]


def _ours(task_id: str) -> tuple[dict[str, Any], Any]:
    headers = {
        "lang": "py",
        "task": "jaas.run",
        "id": task_id,
        "jaas_wakeup": True,
        "argsrepr": "()",
        "kwargsrepr": "()",
    }
    return {**headers, "jaas_batch": task_id, "jaas_index": 3}, [[], {}, {}]


KINDS_OF_BODY: Final[dict[str, Callable[[str], tuple[dict[str, Any], Any]]]] = {
    "Celery's protocol 2": _version_2,
    "Celery's protocol 1": _version_1,
    "part of a canvas": _in_a_canvas,
    "signed": _signed,
    "our client's": _ours,
}
"""Kinds of messages: headers and body by the task id."""


def _repeated(compress: Callable[[bytes], bytes]) -> bytes:
    """Return a bomb of many streams, which bz2 and lzma read as one."""
    piece = b" " * (4 * 2**20)
    return compress(piece) * (_NO_LIMIT // len(piece))


def _zlib_bomb() -> bytes:
    packer = zlib.compressobj(9)
    piece = b" " * 2**20
    parts = [packer.compress(piece) for _ in range(_NO_LIMIT // len(piece))]
    return b"".join([*parts, packer.flush()])


@cache
def bomb(kind: str) -> bytes:
    """Return some KB that become very many bytes.

    Args:
        kind: of compression, as Celery's header names it.
    """
    return _zlib_bomb() if "gzip" in kind else _repeated(COMPRESSIONS[kind])


COMPRESSIONS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "application/x-gzip": zlib.compress,
    "application/x-bz2": bz2.compress,
    "application/x-lzma": lzma.compress,
}
"""By the name in the header ``compression``."""


def entry(envelope: Any, body: bytes) -> bytes:
    """Return a queue entry as it stands in Redis.

    Args:
        envelope: all but the body; it may be anything after mutations.
        body: goes in, in base64, where there still is a place for it.
    """
    if isinstance(envelope, dict):
        envelope = {"body": base64.b64encode(body).decode(), **envelope}
    return as_json(envelope)


def packed(rng: random.Random, envelope: Any, body: bytes) -> tuple[Any, bytes, str]:
    """Return an entry's envelope and body, sometimes compressed, and what was done.

    Args:
        rng: decides.
        envelope: has the headers.
        body: its bytes.
    """
    if not isinstance(envelope, dict) or not isinstance(envelope.get("headers"), dict) or rng.random() > 0.12:
        return envelope, body, ""
    kind = rng.choice(list(COMPRESSIONS))
    headers = {**envelope["headers"], "compression": kind}
    if rng.random() < 0.25:
        return {**envelope, "headers": headers}, bomb(kind), f"a bomb of {kind}"
    return {**envelope, "headers": headers}, COMPRESSIONS[kind](body), f"compressed as {kind}"

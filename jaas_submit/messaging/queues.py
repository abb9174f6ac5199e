"""A queue as it is in Redis: the lists that it is made of, and the messages that somebody has not acknowledged."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

import redis
from kombu.transport.redis import PRIORITY_STEPS, Channel

from jaas_submit.connection import redis_errors

__all__ = ["lists_of", "unacknowledged"]

_SAMPLE: Final = 500
"""Number of unacknowledged messages that are checked."""


def lists_of(queue: str) -> list[str]:
    """Return the names of the Redis lists that a queue is made of: one for each priority, as kombu names them.

    Args:
        queue: the Celery queue.
    """
    return [f"{queue}{Channel.sep}{step}" if step else queue for step in PRIORITY_STEPS]


def unacknowledged(client: redis.Redis, queue: str) -> int:
    """Return how many messages of a queue were received and not acknowledged, of the first 500 that Redis names.

    kombu notes them in the hash "unacked", which all Celery clients of a Redis database share. jaas' workers have one
    of their own, so that these are with somebody else.

    Args:
        client: a connection to the broker's Redis.
        queue: the Celery queue.

    Raises:
        LedgerUnavailable: Redis does not answer, or refuses.
    """
    with redis_errors(f"queue {queue}"):
        answer: Any = client.hscan("unacked", count=_SAMPLE)
    noted: dict[bytes, bytes] = answer[1]
    taken = 0
    for entry in noted.values():
        with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
            taken += json.loads(entry)[2] == queue
    return taken

"""A queue as it is in Redis: the lists that it is made of, and the messages that somebody has not acknowledged."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Final

import redis

from jaas_submit.connection import as_text, redis_errors
from jaas_submit.model.wire_names import TASK_RUN

__all__ = ["jobs_in", "lists_of", "unacknowledged", "unread_lists"]

_SEPARATORS: Final = ("\x06\x16", ":")
"""Between queue and priority in the names of kombu's lists: the default, and the one in Celery's documentation."""

_PRIORITIES: Final = range(10)

_SAMPLE: Final = 500
"""Number of unacknowledged messages that are checked."""

_SCAN: Final = 5000
_MAX_SCANS: Final = 400
"""Of so many keys each: at most two million keys, with a millisecond or two of Redis' time for each scan."""

_OLDEST: Final = 10
"""Messages at the end of each list that are looked at."""

_ENTRY: Final = 64 * 1024
"""Bytes at both ends of an entry in which its task is searched."""


def lists_of(queue: str) -> list[str]:
    """Return the names of the Redis lists that a queue may be made of, the most urgent first.

    ``priority_steps`` and ``sep`` in a producer's transport options decide which of them it writes to. By default these
    are the lists of the priorities 0, 3, 6 and 9.

    Args:
        queue: the Celery queue.
    """
    more = [f"{queue}{separator}{priority}" for priority in _PRIORITIES if priority for separator in _SEPARATORS]
    return [queue, *more]


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


def jobs_in(client: redis.Redis, queue: str) -> int:
    """Return how many jobs are among the messages of a queue that have waited for longest.

    Args:
        client: a connection to the broker's Redis.
        queue: the Celery queue.

    Raises:
        LedgerUnavailable: Redis does not answer, or refuses.
    """
    count = 0
    with redis_errors(f"queue {queue}"):
        pipe: Any = client.pipeline(transaction=False)
        for name in lists_of(queue):
            pipe.lrange(name, -_OLDEST, -1)
        for entries in pipe.execute(raise_on_error=False):
            if isinstance(entries, list):
                count += sum(_is_job(entry) for entry in entries)
    return count


def _is_job(entry: bytes) -> bool:
    return f'"{TASK_RUN}"'.encode() in entry[:_ENTRY] + entry[-_ENTRY:]


def unread_lists(client: redis.Redis, queue: str) -> dict[str, int]:
    """Return the lists with jobs that have a queue's name in theirs and that no worker reads, and their lengths.

    Args:
        client: a connection to the broker's Redis.
        queue: the Celery queue.

    Raises:
        LedgerUnavailable: Redis does not answer, or refuses.
    """
    with redis_errors(f"queue {queue}"):
        return _unread_lists(client, queue)


def _unread_lists(client: Any, queue: str) -> dict[str, int]:
    read = {name.encode() for name in lists_of(queue)}
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", queue)
    found: dict[str, int] = {}
    cursor = 0
    for _ in range(_MAX_SCANS):
        cursor, names = client.scan(cursor, match=f"*{pattern}*", count=_SCAN, _type="list")
        for name in set(names) - read:
            entry = client.lindex(name, -1)
            if entry and _is_job(entry):
                found[as_text(name)] = client.llen(name)
        if not cursor:
            break
    return found

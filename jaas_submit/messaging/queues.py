"""What the broker says of a queue, for `jaas doctor`: how many messages wait in it, and how many others hold."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

import celery
import kombu.exceptions
import redis

from jaas_submit.connection import redis_errors
from jaas_submit.errors import LedgerUnavailable

__all__ = ["messages_in", "unacknowledged"]

_SAMPLE: Final = 500
"""Unacknowledged messages that are looked at."""


def messages_in(app: celery.Celery, queue: str) -> int:
    """Return how many messages wait in a queue.

    Args:
        app: whose broker is asked.
        queue: the Celery queue.

    Raises:
        LedgerUnavailable: Redis does not answer, or refuses.
    """
    with app.connection_for_read() as connection:
        try:
            channel: Any = connection.default_channel  # celery-types know AMQP's channel only
            return int(channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:  # no worker has ever asked for it, and no message waits
            return 0
        except (redis.RedisError, kombu.exceptions.OperationalError, OSError) as error:
            raise LedgerUnavailable(f"queue {queue}: Redis does not answer ({error})") from error


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

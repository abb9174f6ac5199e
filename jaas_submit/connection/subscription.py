"""Subscriptions to Redis' channels, for threads and for asyncio."""

from __future__ import annotations

import os
import threading
import time
from copy import copy
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from jaas_submit.connection.connection import as_text, redis_errors
from jaas_submit.errors import LedgerUnavailable

if TYPE_CHECKING:
    import redis
    import redis.asyncio
    from redis.client import PubSub

__all__ = ["AsyncSubscription", "Subscription"]

_DRAIN_S: Final = 0.5
"""Seconds for the confirmation that a subscription has ended."""

_KEPT_S: Final = 5.0
"""Seconds for which a connection is used again."""


class _Spares:
    """Of each client, the connection of a subscription that has ended, for the next one.

    redis-py closes the connection of a subscription that ends. To connect anew takes eight round trips.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[redis.Redis, tuple[int, float, PubSub]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):  # the thread that holds it is not in the child
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def take(self, client: redis.Redis) -> PubSub:
        """Return one that has no channel.

        Args:
            client: as ``connect`` makes it.
        """
        with self._lock:
            process, since, kept = self._kept.pop(client, (0, 0.0, None))
        if kept is not None:
            # After a fork it is the parent's. After a while Redis may have gone without a word.
            if process == os.getpid() and time.monotonic() - since < _KEPT_S:
                return kept
            kept.close()
        from redis.client import PubSub

        # Not the client's own pool: its next command would get a connection from there that has been closed.
        pool = copy(client.connection_pool)
        pool.reset()
        return PubSub(pool, ignore_subscribe_messages=True)

    def keep(self, client: redis.Redis, pubsub: PubSub) -> None:
        """Keep one for the next subscription, or close it.

        Args:
            client: whose it is.
            pubsub: as ``take`` returned it.
        """
        try:
            with redis_errors("subscription"):
                pubsub.unsubscribe()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
                until = time.monotonic() + _DRAIN_S
                while pubsub.subscribed and (left := until - time.monotonic()) > 0:
                    pubsub.get_message(timeout=left)
        except LedgerUnavailable:
            pubsub.close()
            return
        with self._lock:
            kept = not pubsub.subscribed and client not in self._kept
            if kept:
                self._kept[client] = os.getpid(), time.monotonic(), pubsub
        if not kept:
            pubsub.close()


_SPARES: Final = _Spares()


class Subscription:
    """A pub/sub subscription. Read the record after ``__enter__``: earlier messages are not seen.

    Args:
        client: as ``connect`` makes it.
        channel: the channel's name.
        others: names of further channels.
    """

    def __init__(self, client: redis.Redis, channel: str, *others: str) -> None:
        self._client = client
        self._pubsub = _SPARES.take(client)
        self._channels = [channel, *others]
        self._sound = False
        """No call has failed: half an answer may have been read, or Redis may be away."""

    def __enter__(self) -> Subscription:
        with redis_errors("subscription"):
            self._pubsub.subscribe(*self._channels)
            # The confirmations must have arrived, or a change now would be missed.
            for _ in self._channels:
                self._pubsub.get_message(timeout=5)
        self._sound = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._sound:
            _SPARES.keep(self._client, self._pubsub)
        else:
            self._pubsub.close()

    def next(self, timeout: float) -> str | None:
        """Return the next message, or None if none arrives in time.

        Args:
            timeout: seconds.
        """
        self._sound, sound = False, self._sound
        with redis_errors("subscription"):
            message = self._pubsub.get_message(timeout=max(timeout, 0.001))
        self._sound = sound
        return as_text(message["data"]) if message else None


class AsyncSubscription:
    """``Subscription`` for asyncio.

    Args:
        client: as ``connect_async`` makes it.
        channel: the channel's name.
        others: names of further channels.
    """

    def __init__(self, client: redis.asyncio.Redis, channel: str, *others: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._channels = [channel, *others]

    async def __aenter__(self) -> AsyncSubscription:
        with redis_errors("subscription"):
            await self._pubsub.subscribe(*self._channels)
            for _ in self._channels:
                await self._pubsub.get_message(timeout=5)
        return self

    async def __aexit__(self, *_: object) -> None:
        with redis_errors("subscription"):
            await self._pubsub.aclose()  # type: ignore[no-untyped-call] # redis-py leaves it untyped

    async def next(self, timeout: float) -> str | None:
        """Return the next message, or None if none arrives in time.

        Args:
            timeout: seconds.
        """
        with redis_errors("subscription"):
            message = await self._pubsub.get_message(timeout=timeout)
        return as_text(message["data"]) if message else None

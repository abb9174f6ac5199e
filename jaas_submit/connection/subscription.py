"""Subscriptions to Redis' channels, for threads and for asyncio."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from jaas_submit.connection.connection import as_text, redis_errors

if TYPE_CHECKING:
    import redis
    import redis.asyncio

__all__ = ["AsyncSubscription", "Subscription"]


class Subscription:
    """A pub/sub subscription. Read the record after ``__enter__``: earlier messages are not seen.

    Args:
        client: as ``connect`` makes it.
        channel: the channel's name.
        others: names of further channels.
    """

    def __init__(self, client: redis.Redis, channel: str, *others: str) -> None:
        from redis.client import PubSub

        # redis-py closes the connection of a subscription that ends, and the client's next command would get it from
        # the pool and connect anew: 0.8 ms for a submit that follows a wait. So it is not the client's pool.
        pool = copy(client.connection_pool)
        pool.reset()
        self._pubsub = PubSub(pool, ignore_subscribe_messages=True)
        self._channels = [channel, *others]

    def __enter__(self) -> Subscription:
        with redis_errors("subscription"):
            self._pubsub.subscribe(*self._channels)
            # The confirmations must have arrived, or a change now would be missed.
            for _ in self._channels:
                self._pubsub.get_message(timeout=5)
        return self

    def __exit__(self, *_: object) -> None:
        self._pubsub.close()

    def next(self, timeout: float) -> str | None:
        """Return the next message, or None if none arrives in time.

        Args:
            timeout: seconds.
        """
        with redis_errors("subscription"):
            message = self._pubsub.get_message(timeout=max(timeout, 0.001))
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

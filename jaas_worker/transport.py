"""kombu's Redis transport, which survives a queue entry that is no message.

The stock transport raises in the middle of the event loop when an entry is not JSON, or not a message: the worker ends,
and the entry is lost. Measured with kombu 5.7.0: `LPUSH jaas garbage` ends a Celery worker with JSONDecodeError.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import redis

__all__ = ["Channel", "Transport"]

logger = logging.getLogger(__name__)


class Channel(redis.Channel):
    """Reports entries that are no JSON."""

    connection: Any

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc] # not in the stubs
        except UnicodeDecodeError as error:
            self.connection.poisoned(self, "?", len(error.object), "it is not UTF-8 text")
        except ValueError as error:
            self.connection.poisoned(self, "?", len(getattr(error, "doc", "")), f"it is not JSON ({error})")
        return True


class Transport(redis.Transport):
    """Reports entries that are no messages."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        channel = self.channels[0] if self.channels else None
        if channel is not None:
            try:
                channel.Message(message, channel=channel)
            except Exception as error:  # noqa: BLE001 (whatever is wrong with it, it is no message)
                self.poisoned(channel, queue or "?", len(str(message)), f"it is no message of Celery ({error!r})")
                return
        super()._deliver(message, queue)

    def poisoned(self, channel: Any, queue: str, size: int, reason: str) -> None:
        """Hand a bad entry to whoever records it. Its content is not shown: it may be a job's, cut in half."""
        sink = channel.connection.client.transport_options.get("on_poison")
        text = f"a queue entry of {size:,} characters could not be read: {reason}"
        logger.error("%s", text)
        if sink is not None:
            sink(queue, text)

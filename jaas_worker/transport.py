"""kombu's Redis transport, which survives a queue entry that is no message.

The stock transport raises in the middle of the event loop when an entry is not JSON, or not a message: the worker ends,
and the entry is lost. Measured with kombu 5.7.0: `LPUSH jaas garbage` ends a Celery worker with JSONDecodeError.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from kombu.transport import redis

from jaas_worker.logsetup import Action, action

__all__ = ["Channel", "Transport"]

logger = logging.getLogger(__name__)


class Channel(redis.Channel):
    """Reports entries that are no JSON."""

    connection: Any

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc] # not in the stubs
        except UnicodeDecodeError as error:
            self.connection.poisoned("?", len(error.object), "it is not UTF-8 text")
        except ValueError as error:
            self.connection.poisoned("?", len(getattr(error, "doc", "")), f"it is not JSON ({error})")
        return True


class Transport(redis.Transport):
    """Reports entries that are no messages."""

    Channel = Channel

    sinks: ClassVar[list[Callable[[str, str], None]]] = []
    """Who records an entry: called with queue and reason. Of the class, because Celery makes the instances; among the
    transport's options they would break `inspect stats`, which sends those as JSON."""

    def _deliver(self, message: Any, queue: str | None) -> None:
        channel = self.channels[0] if self.channels else None
        if channel is not None:
            try:
                channel.Message(message, channel=channel)
            except Exception as error:  # noqa: BLE001 (whatever is wrong with it, it is no message)
                self.poisoned(queue or "?", len(str(message)), f"it is no message of Celery ({error!r})")
                return
        super()._deliver(message, queue)

    def poisoned(self, queue: str, size: int, reason: str) -> None:
        """Hand a bad entry to whoever records it. Its content is not shown: it may be a job's, cut in half."""
        text = f"a queue entry of {size:,} characters could not be read: {reason}"
        logger.error("%s", text, extra=action(Action.JOB_REFUSED))
        for record in self.sinks:
            record(queue, text)

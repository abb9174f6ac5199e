"""``AsyncQueues``: the methods of ``Queues`` for asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

from jaas_submit.client.queues.queues import Queue, Queues

__all__ = ["AsyncQueues"]


class AsyncQueues:
    """The queues of an installation, for asyncio; the methods of ``Queues``. Each runs in a thread.

    Args:
        sync: what they call.
    """

    def __init__(self, sync: Queues) -> None:
        self.sync = sync

    async def create(self, name: str, **fields: Any) -> Queue:
        """Make a queue; see ``Queues.create``."""
        return await asyncio.to_thread(self.sync.create, name, **fields)

    async def list(self) -> tuple[Queue, ...]:
        """Return all queues, by name."""
        return await asyncio.to_thread(self.sync.list)

    async def describe(self, name: str) -> Queue:
        """Return a queue; see ``Queues.describe``."""
        return await asyncio.to_thread(self.sync.describe, name)

    async def set(self, name: str, **fields: Any) -> Queue:
        """Change what is said of a queue; see ``Queues.set``."""
        return await asyncio.to_thread(self.sync.set, name, **fields)

    async def pause(self, name: str, why: str = "") -> Queue:
        """Start none of its jobs from now on; see ``Queues.pause``."""
        return await asyncio.to_thread(self.sync.pause, name, why)

    async def resume(self, name: str, why: str = "") -> Queue:
        """Start its jobs again, and take new ones; see ``Queues.resume``."""
        return await asyncio.to_thread(self.sync.resume, name, why)

    async def drain(self, name: str, why: str = "") -> Queue:
        """Take no new jobs from now on; see ``Queues.drain``."""
        return await asyncio.to_thread(self.sync.drain, name, why)

    async def delete(self, name: str) -> None:
        """Delete a queue that is draining and has no jobs; see ``Queues.delete``."""
        await asyncio.to_thread(self.sync.delete, name)

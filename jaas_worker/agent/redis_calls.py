"""An agent's calls to Redis, made on threads of their own, so that the loop that follows containers never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.output import DEFAULT_SHARE, AgentLeases, Ends, Feeds, FileTransfers, WholeOutputs
from jaas_worker.agent.timing import TIMING, Timing

if TYPE_CHECKING:
    import redis

__all__ = ["RedisCalls"]

T = TypeVar("T")

_THREADS: Final = 2
"""So that ends do not wait behind feeds."""


class RedisCalls:
    """Redis, for an agent.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: of the installation.
        timing: the agent's pauses.
        share: part of Redis' ``maxmemory`` that all live output may use.
    """

    def __init__(self, client: redis.Redis, prefix: str, timing: Timing = TIMING, share: float = DEFAULT_SHARE) -> None:
        self.ends = Ends(client, prefix)
        self._pause = timing.redis_retry
        self.feeds = Feeds(client, prefix, share)
        self.outputs = WholeOutputs(client, prefix, share)
        self.leases = AgentLeases(client, prefix)
        self.transfers = FileTransfers(client, prefix, share)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="jaas-agent-redis")

    async def call(self, ask: Callable[[], T]) -> T:
        """Return what a call returns.

        Args:
            ask: the call.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, ask)

    async def until_answered(self, ask: Callable[[], T], away: Callable[[Exception], None]) -> T:
        """Return what a call returns, however long Redis is away.

        Args:
            ask: the call; it may be repeated.
            away: is told of each attempt that failed.
        """
        while True:
            try:
                return await self.call(ask)
            except LedgerUnavailable as error:
                away(error)
                await asyncio.sleep(self._pause)

    def close(self) -> None:
        """End the threads after the calls that run."""
        self._pool.shutdown(wait=False, cancel_futures=True)

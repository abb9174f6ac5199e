"""Feeds of jobs on nodes without an agent: the worker that holds the job writes them, from the swarm's log call.

That call hangs while a node is down, and shows no end of its own. So a silent connection is given up and begun anew,
and the feed ends ``unavailable``: its watchers read the rest from the ledger, with a status that the worker knows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.output import FeedEnd, Wanted
from jaas_worker.agent.feed_writer import FeedWriter, Target
from jaas_worker.agent.node_engine import NodeEngine
from jaas_worker.agent.redis_calls import RedisCalls
from jaas_worker.agent.timing import Timing
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["RunningService", "SwarmFeeds"]

logger = logging.getLogger(__name__)

_UNTIL_HELD_S: Final = 10.0
"""Seconds for which a watched job is kept that this worker does not hold; watchers repeat what nobody answers."""

_NO_AGENT: Final = "its node has no agent"


class RunningService(NamedTuple):
    """The service of a job that this worker holds and whose container runs."""

    service_id: str
    attempt: int
    node_id: str
    scrubbed: bool = False
    """The values of its secret variables are replaced in its output."""


class _Source:
    """What is known of such a container: nothing but whether it still runs."""

    def __init__(self, service: RunningService) -> None:
        self.service = service
        self.exited = asyncio.Event()

    def present(self) -> tuple[int, int]:
        return 0, 0

    async def end(self) -> FeedEnd:
        return FeedEnd("unavailable", _NO_AGENT)


class SwarmFeeds:
    """Writes the feeds of a worker's jobs on nodes without an agent.

    Args:
        engine: a manager's.
        calls: Redis.
        holder: this process, for people.
        holds: whether this worker holds a job.
        running: returns the service of a job that runs here; None of one that does not.
        timing: its pauses.
    """

    def __init__(
        self,
        engine: NodeEngine,
        calls: RedisCalls,
        holder: str,
        holds: Callable[[str], bool],
        running: Callable[[str], RunningService | None],
        timing: Timing,
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._holder = holder
        self._holds = holds
        self._running = running
        self._timing = timing
        self._watched: dict[str, float] = {}
        """Job -> until when it is kept although this worker does not hold it."""
        self._more = asyncio.Event()
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._sources: dict[str, _Source] = {}

    def watched(self, notice: str) -> None:
        """Take note that somebody watches a job; call it on the loop.

        Args:
            notice: the job's id, a blank, and the feed's id.
        """
        # It may be this worker's soon: who watches a job may do so from its submission on.
        self._watched[notice.partition(" ")[0]] = time.monotonic() + _UNTIL_HELD_S
        self._more.set()

    async def run(self) -> None:
        """Write feeds until the task is cancelled."""
        try:
            while True:
                if not (self._watched or self._sources):
                    await self._more.wait()
                self._more.clear()
                now = time.monotonic()
                for job_id in [job_id for job_id, until in self._watched.items() if until < now]:
                    if not self._holds(job_id):
                        del self._watched[job_id]
                for job_id, source in list(self._sources.items()):
                    if self._running(job_id) != source.service:
                        source.exited.set()
                        del self._sources[job_id]
                try:
                    await self._begin()
                except LedgerUnavailable as error:
                    logger.debug("feeds: %s", error)
                await asyncio.sleep(self._timing.engine_retry)
        finally:
            for task in self._writers.values():
                task.cancel()

    async def _begin(self) -> None:
        """Begin to write what is wanted of jobs that run."""
        mine = [job_id for job_id in self._watched if self._holds(job_id)]
        there = {job_id: service for job_id in mine if (service := self._running(job_id))}
        wanted = await self._calls.call(lambda: self._calls.feeds.wanted(sorted(there))) if there else {}
        for job_id, service in there.items():
            new = [one for one in wanted.get(job_id, ()) if one.feed not in self._writers]
            new = [one for one in new if one.attempt == service.attempt]
            if job_id not in wanted:  # nobody watches any more
                self._watched.pop(job_id, None)
            if not new:
                continue
            lease = await self._calls.call(partial(self._calls.leases.get, service.node_id))
            if lease is not None:
                continue
            source = self._sources.setdefault(job_id, _Source(service))
            for one in new:
                self._write(source, one)

    def _write(self, source: _Source, wanted: Wanted) -> None:
        target = Target(self._calls, wanted, self._holder)
        service_id = source.service.service_id
        writer = FeedWriter(
            target, self._engine, service_id, source, self._timing, service=True, scrub=source.service.scrubbed
        )

        async def run() -> None:
            try:
                await writer.run()
            except Exception:  # others are written on
                logger.exception("feed %s cannot be written", wanted.feed, extra=action(Action.STEP_FAILED))
            finally:
                self._writers.pop(wanted.feed, None)

        self._writers[wanted.feed] = asyncio.ensure_future(run())

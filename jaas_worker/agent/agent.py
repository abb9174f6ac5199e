"""Follows the containers of one node: what they print, and how they end.

It sees its own engine only, and needs no manager. Nothing depends on it: of a node without an agent the worker reads
what the swarm hands out. One process per node follows; a lease in Redis decides which one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from jaas_submit.errors import EngineRefused, EngineUnavailable, LedgerUnavailable, TemporaryError
from jaas_submit.model.wire_names import LABEL_LEDGER
from jaas_submit.output import FeedEnd, Wanted, WholeOutput
from jaas_worker.agent.feed_writer import FeedWriter, Target
from jaas_worker.agent.follower import Follower
from jaas_worker.agent.node_engine import NodeEngine, NodeEvent
from jaas_worker.agent.node_facts import tell_facts
from jaas_worker.agent.redis_calls import RedisCalls
from jaas_worker.agent.timing import TIMING, Timing
from jaas_worker.agent.usage.meter import Pace, UsageMeter
from jaas_worker.swarm.engine import ContainerRef, EngineEvent, SwarmInfo
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.tracking.exit_notice import forward_exit

__all__ = ["NodeAgent"]

logger = logging.getLogger(__name__)

_STALE_S: Final = 5.0
"""Seconds after an exit when forwarding it is useless: the swarm has reported it."""

_MAX_ENDING: Final = 8
"""Containers whose output is read and written at the same time after their exit, at most."""

_MAX_ENDED: Final = 64
"""Outputs that are kept for the worker in the same process."""


class _LeaseLost(Exception):
    """Another process follows this node's containers now."""


class _Followed:
    """One container, as the agent's tasks share it; the source of its feeds."""

    def __init__(self, follower: Follower, meter: UsageMeter) -> None:
        self.follower = follower
        self.meter = meter
        self.exit: NodeEvent | None = None
        self.told = asyncio.Event()
        """Set when the engine has told of the exit."""
        self.output: asyncio.Future[WholeOutput] = asyncio.get_running_loop().create_future()

    @property
    def exited(self) -> asyncio.Event:
        return self.follower.exited

    def present(self) -> tuple[int, int]:
        return self.follower.tally.bytes("stdout"), self.follower.tally.bytes("stderr")

    async def end(self) -> FeedEnd:
        whole = await asyncio.shield(self.output)
        # Head and tail are cut at the cap; the feed is not.
        fine = whole.status in {"complete", "truncated"}
        return FeedEnd("complete" if fine else whole.status, "" if fine else whole.reason, whole.stdout, whole.stderr)


class NodeAgent:
    """Follows the containers of one node.

    Args:
        engine: the node's.
        calls: Redis.
        cap: bytes kept of each stream of a container.
        holder: this process, in the node's lease.
        version: of jaas.
        holds: whether the worker in this process holds a job; it gets the output from ``output_of``.
        timing: its pauses.
    """

    def __init__(
        self,
        engine: NodeEngine,
        calls: RedisCalls,
        cap: int,
        holder: str,
        version: str,
        holds: Callable[[str], bool],
        timing: Timing = TIMING,
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._cap = cap
        self._holder = holder
        self._version = version
        self._holds = holds
        self._timing = timing
        self._pace = Pace()
        self._node = ""
        self._followed: dict[str, _Followed] = {}
        self._ended: OrderedDict[str, WholeOutput] = OrderedDict()
        self._ending = asyncio.Semaphore(_MAX_ENDING)
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._asked: set[str] = set()
        self._ask = asyncio.Event()
        self._away: set[Action] = set()
        """The parts whose outage has been logged."""
        self._group: asyncio.TaskGroup

    async def run(self) -> None:
        """Follow the node's containers until the task is cancelled; wait during outages of engine and Redis."""
        try:
            while True:
                if info := await self._lease():
                    await self._follow_node(info)
                await asyncio.sleep(self._timing.engine_retry)
        finally:
            await self._engine.close()

    def watched(self, notice: str) -> None:
        """Take note that somebody watches a job; call it on the loop.

        Args:
            notice: the job's id, a blank, and the feed's id.
        """
        job_id = notice.partition(" ")[0]
        if any(one.follower.container.job_id == job_id for one in self._followed.values()):
            self._asked.add(job_id)
            self._ask.set()

    async def output_of(self, container: ContainerRef, node_id: str) -> WholeOutput | None:
        """Return the output of a container that has exited; None if this agent does not follow its node.

        Args:
            container: which one; the engine may not have told of it yet.
            node_id: the swarm's id of its node.
        """
        if not self._node or node_id != self._node:
            return None
        if container.id in self._ended:
            return self._ended[container.id]
        followed = self._begin(container)
        followed.exited.set()
        return await asyncio.shield(followed.output)

    # -- the node -----------------------------------------------------------------------------------------------------

    async def _lease(self) -> SwarmInfo | None:
        """Take the node's lease; return None while another process has it, or the engine or Redis is away."""
        try:
            info = await self._engine.info()
            self._back(Action.ENGINE_UNAVAILABLE)
            taken = await self._calls.call(partial(self._take_lease, info))
            self._back(Action.REDIS_UNAVAILABLE)
        except (EngineUnavailable, EngineRefused) as error:
            self._warn(Action.ENGINE_UNAVAILABLE, error)
        except LedgerUnavailable as error:
            self._warn(Action.REDIS_UNAVAILABLE, error)
        else:
            return info if taken else None
        return None

    def _take_lease(self, info: SwarmInfo) -> bool:
        facts = (self._version, info.engine_version, info.log_driver)
        return self._calls.leases.take(info.node_id, self._holder, *facts)

    async def _follow_node(self, info: SwarmInfo) -> None:
        logger.info(
            "following the containers on %s", info.node_name, extra=action(Action.AGENT_FOLLOWING, node=info.node_name)
        )
        self._node = info.node_id
        try:
            identity = await self._calls.until_answered(
                self._calls.ends.identity, partial(self._warn, Action.REDIS_UNAVAILABLE)
            )
            async with asyncio.TaskGroup() as self._group:
                self._group.create_task(self._keep_lease(info))
                self._group.create_task(self._answer_watchers())
                telling = tell_facts(self._engine, self._calls, info.node_id, self._holder, self._timing.facts)
                self._group.create_task(telling)
                self._group.create_task(self._hear_events(f"{LABEL_LEDGER}={identity}"))
        except* _LeaseLost:
            logger.warning(
                "another process follows the containers on %s now", info.node_name, extra=action(Action.LEASE_LOST)
            )
        finally:
            self._node = ""
            self._followed.clear()
            self._writers.clear()
            with contextlib.suppress(LedgerUnavailable):  # another process may follow the node at once
                self._calls.leases.release(info.node_id, self._holder)

    async def _keep_lease(self, info: SwarmInfo) -> None:
        while True:
            await asyncio.sleep(self._timing.lease)
            try:
                if not await self._calls.call(partial(self._take_lease, info)):
                    raise _LeaseLost
                self._back(Action.REDIS_UNAVAILABLE)
            except LedgerUnavailable as error:  # then no other process can take it either
                self._warn(Action.REDIS_UNAVAILABLE, error)

    async def _hear_events(self, label: str) -> None:
        while True:
            try:
                async for event in self._engine.events(label):
                    if event is None:  # what began before is in the list; what begins from now on is heard
                        self._back(Action.ENGINE_UNAVAILABLE)
                        await self._list(label)
                    else:
                        self._heard(event)
            except (EngineUnavailable, EngineRefused) as error:
                self._warn(Action.ENGINE_UNAVAILABLE, error)
            await asyncio.sleep(self._timing.engine_retry)

    async def _list(self, label: str) -> None:
        found = {container.id: container for container in await self._engine.containers(label)}
        for container in found.values():
            self._begin(container)
        for container_id, followed in self._followed.items():
            if container_id not in found:
                followed.exited.set()

    def _heard(self, event: NodeEvent) -> None:
        container = event.container
        if event.kind == "destroy":
            self._ended.pop(container.id, None)
            if followed := self._followed.get(container.id):
                followed.exited.set()
            return
        followed = self._begin(container, from_start=event.kind == "start")
        if event.kind == "oom":
            followed.follower.killed_for_memory = True
        elif event.kind == "die":
            followed.exit = event
            followed.told.set()
            followed.exited.set()

    # -- one container ------------------------------------------------------------------------------------------------

    def _begin(self, container: ContainerRef, *, from_start: bool = False) -> _Followed:
        followed = self._followed.get(container.id)
        if followed is None:
            follower = Follower(self._engine, container, self._cap, self._timing, from_start=from_start)
            followed = _Followed(follower, UsageMeter(self._engine, container.id, self._pace))
            self._followed[container.id] = followed
            self._group.create_task(followed.meter.run(followed.exited))
            self._group.create_task(self._follow(followed))
            self._asked.add(container.job_id)  # somebody may have asked for its output before it began
            self._ask.set()
        return followed

    async def _follow(self, followed: _Followed) -> None:
        container = followed.follower.container
        try:
            await followed.follower.follow()
            async with self._ending:
                whole = await followed.follower.complete()
                whole = replace(whole, usage=followed.meter.used(whole.finished_at))
                await self._report(followed, whole)
        except Exception:  # the others are followed on
            logger.exception(
                "job %s: its container cannot be followed", container.job_id, extra=action(Action.STEP_FAILED)
            )
            followed.output.cancel()
        finally:
            self._followed.pop(container.id, None)

    async def _report(self, followed: _Followed, whole: WholeOutput) -> None:
        """Hand on what a container printed, then its exit."""
        container = followed.follower.container
        self._ended[container.id] = whole
        while len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)
        followed.output.set_result(whole)
        if self._holds(container.job_id):
            return
        away = partial(self._warn, Action.REDIS_UNAVAILABLE)
        await self._calls.until_answered(
            lambda: self._calls.outputs.put(container.job_id, container.attempt, whole), away
        )
        self._back(Action.REDIS_UNAVAILABLE)
        with contextlib.suppress(TimeoutError):  # an engine closes the log a moment before it reports the exit
            await asyncio.wait_for(followed.told.wait(), self._timing.exit_report)
        event = self._exit_of(followed)
        if event is not None:
            try:
                await self._calls.call(lambda: forward_exit(self._calls.ends, event))
            except TemporaryError as error:  # the swarm reports it, too
                self._warn(Action.REDIS_UNAVAILABLE, error)

    def _exit_of(self, followed: _Followed) -> EngineEvent | None:
        """Return a container's exit as workers are told of it; None if the swarm has reported it long ago."""
        container, event = followed.follower.container, followed.exit
        if event is None or event.exit_code is None or time.time() - event.at > _STALE_S:
            return None
        at = datetime.fromtimestamp(event.at, UTC).isoformat()
        return EngineEvent(
            "die", container.service_id, container.task_id, container.job_id, container.id, event.exit_code, at
        )

    # -- feeds --------------------------------------------------------------------------------------------------------

    async def _answer_watchers(self) -> None:
        """Write the feeds that somebody watches."""
        while True:
            try:
                await asyncio.wait_for(self._ask.wait(), self._timing.watches)
            except TimeoutError:  # a notice may have been missed
                self._asked = {followed.follower.container.job_id for followed in self._followed.values()}
            self._ask.clear()
            asked, self._asked = sorted(self._asked), set()
            if not asked:
                continue
            try:
                found = await self._calls.call(partial(self._calls.feeds.wanted, asked))
            except LedgerUnavailable as error:
                self._warn(Action.REDIS_UNAVAILABLE, error)
                continue
            for followed in list(self._followed.values()):
                container = followed.follower.container
                for wanted in found.get(container.job_id, ()):
                    if wanted.attempt == container.attempt and wanted.feed not in self._writers:
                        self._write(followed, wanted)

    def _write(self, followed: _Followed, wanted: Wanted) -> None:
        container_id, target = followed.follower.container.id, Target(self._calls, wanted, self._holder)

        async def run() -> None:
            try:
                await FeedWriter(target, self._engine, container_id, followed, self._timing).run()
            except Exception:  # the container is followed on
                logger.exception("feed %s cannot be written", wanted.feed, extra=action(Action.STEP_FAILED))
            finally:
                self._writers.pop(wanted.feed, None)

        self._writers[wanted.feed] = self._group.create_task(run())

    # -- outages ------------------------------------------------------------------------------------------------------

    def _warn(self, what: Action, error: Exception) -> None:
        """Log each outage once."""
        if what not in self._away:
            logger.warning("the containers of this node are not reported for now: %s", error, extra=action(what))
        self._away.add(what)

    def _back(self, what: Action) -> None:
        if what in self._away:
            logger.info("the containers of this node are reported again", extra=action(Action.AGENT_FOLLOWING))
        self._away.discard(what)

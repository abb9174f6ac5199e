"""Follows the containers of one node: what they print, and how they end.

It sees its own engine only, and needs no manager. Nothing depends on it: of a node without an agent the worker reads
what the swarm hands out. One process per node follows; a lease in Redis decides which one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable, LedgerUnavailable, TemporaryError
from jaas_submit.model.wire_names import LABEL_LEDGER
from jaas_submit.output import READING, Wanted, WholeOutput
from jaas_worker.agent.feed_writer import FeedWriter, Target
from jaas_worker.agent.files.sender import FileSender
from jaas_worker.agent.follower import Followed, Follower
from jaas_worker.agent.kept_output.recent_outputs import RecentOutputs
from jaas_worker.agent.node_engine import NodeEngine, NodeEvent
from jaas_worker.agent.node_facts import tell_facts
from jaas_worker.agent.process_identity import ProcessIdentity
from jaas_worker.agent.redis_calls import RedisCalls
from jaas_worker.agent.timing import TIMING, Timing
from jaas_worker.agent.usage.meter import Pace, UsageMeter
from jaas_worker.swarm.engine import ContainerRef, SwarmInfo
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.tracking.exit_notice import forward_exit

__all__ = ["NodeAgent"]

logger = logging.getLogger(__name__)

_MAX_ENDING: Final = 8
"""Containers whose output is read and written at the same time after their exit, at most."""

_KILLED: Final = 137
"""Exit code of a process that was killed with SIGKILL."""

_ENDED_BYTES: Final = 16 * 1024 * 1024
"""Of outputs that are kept for the worker in the same process, packed."""


class _LeaseLost(Exception):
    """Another process follows this node's containers now."""


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
        self._followed: dict[str, Followed] = {}
        self._ended = RecentOutputs(_ENDED_BYTES)
        self._ending = asyncio.Semaphore(_MAX_ENDING)
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._asked: set[str] = set()
        self._ask = asyncio.Event()
        self._files = FileSender(engine, calls.transfers)
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
        """Take note that somebody watches a job, or that a worker asks for files; call it on the loop.

        Args:
            notice: the job's id, a blank, and the feed's id; or as ``FileTransfers.request_channel`` has it.
        """
        self._files.heard(notice)
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
        if (known := self._ended.get(container.id)) is not None:
            return known
        followed = self._begin(container)
        followed.exited.set()
        return await asyncio.shield(followed.output)

    # -- the node -----------------------------------------------------------------------------------------------------

    async def _lease(self) -> SwarmInfo | None:
        """Take the node's lease; return None while another process has it, or the engine or Redis is away."""
        try:
            info = await self._engine.info()
            self._back(Action.ENGINE_UNAVAILABLE)
            taken = await self._calls.call(partial(self._take_lease, info)) or await self._take_over(info)
            self._back(Action.REDIS_UNAVAILABLE)
        except (EngineUnavailable, EngineRefused) as error:
            self._warn(Action.ENGINE_UNAVAILABLE, error)
        except LedgerUnavailable as error:
            self._warn(Action.REDIS_UNAVAILABLE, error)
        else:
            return info if taken else None
        return None

    def _take_lease(self, info: SwarmInfo, instead: str = "") -> bool:
        facts = (self._version, info.engine_version, info.log_driver)
        process = str(ProcessIdentity.own())
        return self._calls.leases.take(info.node_id, self._holder, *facts, process=process, instead=instead)

    async def _take_over(self, info: SwarmInfo) -> bool:
        """Take the lease of a process that is certain to have ended, before it runs out."""
        lease = await self._calls.call(partial(self._calls.leases.get, info.node_id))
        if lease is None:
            return False
        former = ProcessIdentity.parse(lease.process)
        ended = former.has_ended()
        if not ended and (container := former.other_container()):
            with contextlib.suppress(EngineNotFound):  # then it is not known what has become of it
                ended = not (await self._engine.inspect(container)).running
        return ended and await self._calls.call(partial(self._take_lease, info, lease.holder))

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
                label = f"{LABEL_LEDGER}={identity}"
                self._files.begin(info.node_id, label, self._group.create_task)
                self._group.create_task(self._keep_lease(info))
                self._group.create_task(self._answer_watchers())
                telling = tell_facts(self._engine, self._calls, info.node_id, self._holder, self._timing.facts)
                self._group.create_task(telling)
                self._group.create_task(self._hear_events(label))
        except* _LeaseLost:
            logger.warning(
                "another process follows the containers on %s now", info.node_name, extra=action(Action.LEASE_LOST)
            )
        finally:
            self._node = ""
            self._files.end()
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
                async with aclosing(self._engine.events(label)) as events:
                    await self._hear(events, label)
            except TimeoutError:  # nothing has happened, or the connection is dead
                continue
            except (EngineUnavailable, EngineRefused) as error:
                self._warn(Action.ENGINE_UNAVAILABLE, error)
            await asyncio.sleep(self._timing.engine_retry)

    async def _hear(self, events: AsyncGenerator[NodeEvent | None, None], label: str) -> None:
        """Hear events; raises TimeoutError when there has been none for long."""
        while True:
            async with asyncio.timeout(self._timing.events):
                event = await anext(events)
            if event is None:  # what began before is in the list; what begins from now on is heard
                self._back(Action.ENGINE_UNAVAILABLE)
                await self._list(label)
            else:
                self._heard(event)

    async def _list(self, label: str) -> None:
        found = {container.id: container for container in await self._engine.containers(label)}
        known = dict(self._followed)
        for container in found.values():
            self._begin(container)
        for container_id, followed in known.items():
            if container_id not in found or await self._has_exited(container_id):
                followed.exited.set()  # its event was missed

    async def _has_exited(self, container_id: str) -> bool:
        try:
            return not (await self._engine.inspect(container_id)).running
        except EngineNotFound:
            return True

    def _heard(self, event: NodeEvent) -> None:
        container = event.container
        if event.kind == "destroy":
            self._ended.remove(container.id)
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

    def _begin(self, container: ContainerRef, *, from_start: bool = False) -> Followed:
        followed = self._followed.get(container.id)
        if followed is None:
            follower = Follower(self._engine, container, self._cap, self._timing, from_start=from_start)
            followed = Followed(follower, UsageMeter(self._engine, container.id, self._pace))
            self._followed[container.id] = followed
            self._group.create_task(followed.meter.run(followed.exited))
            self._group.create_task(self._follow(followed))
            self._asked.add(container.job_id)  # somebody may have asked for its output before it began
            self._ask.set()
        return followed

    async def _follow(self, followed: Followed) -> None:
        container = followed.follower.container
        telling = self._group.create_task(self._tell_if_slow(followed))
        try:
            await followed.follower.follow()
            async with self._ending:
                whole = await followed.follower.complete()
                followed.read.set()
                await telling
                whole = replace(whole, usage=followed.meter.used(whole.finished_at))
                facts = followed.follower.facts
                if facts.exit_code == _KILLED or facts.memory_limited:  # only then somebody asks for what comes with it
                    await self._await_exit(followed)
                    oom_killed = whole.oom_killed or followed.follower.killed_for_memory
                    whole = replace(whole, heard=followed.exit is not None, oom_killed=oom_killed)
                await self._report(followed, whole)
        except Exception:  # the others are followed on
            logger.exception(
                "job %s: its container cannot be followed", container.job_id, extra=action(Action.STEP_FAILED)
            )
            followed.output.cancel()
        finally:
            followed.read.set()
            self._followed.pop(container.id, None)

    async def _tell_if_slow(self, followed: Followed) -> None:
        """Tell the worker of another process that the output of a container that has exited is still being read."""
        await followed.exited.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.slow_read):
                await followed.read.wait()
        container = followed.follower.container
        if followed.read.is_set() or self._holds(container.job_id):
            return
        with contextlib.suppress(LedgerUnavailable):  # then the worker does not wait for long
            found = WholeOutput(container.id, READING)
            await self._calls.call(lambda: self._calls.outputs.put(container.job_id, container.attempt, found))

    async def _report(self, followed: Followed, whole: WholeOutput) -> None:
        """Hand on what a container printed, then its exit."""
        container = followed.follower.container
        followed.output.set_result(whole)
        if self._holds(container.job_id):
            self._ended.add(whole)
            return
        away = partial(self._warn, Action.REDIS_UNAVAILABLE)
        await self._calls.until_answered(
            lambda: self._calls.outputs.put(container.job_id, container.attempt, whole), away
        )
        self._back(Action.REDIS_UNAVAILABLE)
        await self._await_exit(followed)
        event = followed.exit.as_told(self._node) if followed.exit else None
        if event is not None:
            try:
                await self._calls.call(lambda: forward_exit(self._calls.ends, event))
            except TemporaryError as error:  # the swarm reports it, too
                self._warn(Action.REDIS_UNAVAILABLE, error)

    async def _await_exit(self, followed: Followed) -> None:
        with contextlib.suppress(TimeoutError):  # an engine closes the log a moment before it reports the exit
            await asyncio.wait_for(followed.told.wait(), self._timing.exit_report)

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

    def _write(self, followed: Followed, wanted: Wanted) -> None:
        container, target = followed.follower.container, Target(self._calls, wanted, self._holder)

        async def run() -> None:
            try:
                scrub = container.scrubbed
                await FeedWriter(target, self._engine, container.id, followed, self._timing, scrub=scrub).run()
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

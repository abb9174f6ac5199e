"""Follows one container until it has exited, and says what it printed and how it ended."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable
from jaas_submit.model.logs import Logs
from jaas_submit.output import FeedEnd, WholeOutput
from jaas_worker.agent.kept_output.tally import Message, Tally
from jaas_worker.agent.log_reader import LogReader
from jaas_worker.agent.node_engine import ContainerFacts, NodeEngine, NodeEvent
from jaas_worker.agent.timing import Timing
from jaas_worker.agent.usage.meter import UsageMeter
from jaas_worker.decisions.output_proof import Reading, began_before, prove
from jaas_worker.swarm.engine import ContainerRef
from jaas_worker.swarm.log_driver import LogDriver, LogSize

__all__ = ["Followed", "Follower"]

_TRIES: Final = 5
"""How often the output of an exited container is asked for while the engine does not answer."""

_NO_FACTS: Final = ContainerFacts(False, None, "", "", False, "", {})


class Follower:
    """Follows one container.

    Args:
        engine: the container's.
        container: which one, and whose.
        cap: bytes kept of each stream.
        timing: the agent's pauses.
        from_start: the container has just been started.
    """

    def __init__(
        self, engine: NodeEngine, container: ContainerRef, cap: int, timing: Timing, *, from_start: bool = False
    ) -> None:
        self.container = container
        self.exited = asyncio.Event()
        """Set when the container has exited."""
        self.killed_for_memory = False
        """The engine has reported that the kernel killed a process of it for its memory."""
        self.facts = _NO_FACTS
        """What the engine knew of it after its exit."""
        self._engine = engine
        self._cap = cap
        self._timing = timing
        self._from_start = from_start
        self.tally = Tally(cap)
        self._reader = LogReader(
            engine, container.id, self._take, timing.silence, rate=timing.live_rate, scrub=container.scrubbed
        )
        self._line_ends = self._reader.line_ends
        self._scrubbed = False
        """Values of secrets were replaced in the output."""
        self._live = LogSize()
        """How much was read until the exit. After it the engine removes nothing more, so that what follows is all."""
        self._restarted = False
        """The engine has been restarted since the container's start."""
        self._until = math.inf
        """When to leave the rest of the output, by the monotonic clock."""
        self._left_out = False
        """There was no time for all of the rest: only its end was read."""
        self._problem = ""
        """Why its output cannot be read."""

    async def complete(self) -> WholeOutput:
        """Read what is missing after the container's exit; return what it printed and how it ended."""
        self._live = self.tally.size
        self._until = time.monotonic() + self._timing.rest
        proven = await self._read_rest()
        self._note_loss()
        facts, tally = self.facts, self.tally
        driver = LogDriver(facts.log_driver, facts.log_options)
        has_start = self._from_start and bool(self._live.lines)
        judged = self._live if has_start else tally.size
        rotated = driver.may_have_rotated(judged, from_start=has_start and self._kept_up)
        status, reason = prove(
            Reading(
                tally.total,
                tally.cut,
                proven=proven,
                lost=self._reader.lost and not self._left_out,
                left_out=self._reader.lost and self._left_out,
                restarted=self._restarted,
                rotated=rotated,
                replaced=tally.replaced and driver.may_replace_bytes,
                unknown_ends=self._line_ends.unknown if driver.may_leave_out_line_ends else (),
                problem=self._problem or driver.unreadable,
                scrubbed=self._scrubbed or self._reader.replaced > 0,
            )
        )
        kept = tally.kept()
        readable = not self._problem or bool(tally.total)
        return WholeOutput(
            container_id=self.container.id,
            status=status,
            reason=reason,
            logs=Logs(kept.lines, status, reason, kept.gaps).pack(),
            stdout=tally.bytes("stdout"),
            stderr=tally.bytes("stderr"),
            stdout_sha256=tally.digest("stdout") if readable else "",
            stderr_sha256=tally.digest("stderr") if readable else "",
            oom_killed=facts.oom_killed or self.killed_for_memory,
            started_at=facts.started_at,
            finished_at=facts.finished_at,
            scrubbed=self.container.scrubbed,
        )

    @property
    def behind(self) -> bool:
        """Whether it has left output for the time after the exit."""
        return self._reader.held_up

    @property
    def _kept_up(self) -> bool:
        """Whether it has read all from the container's start on, as it was written."""
        return self._from_start and not self._reader.held_up

    async def _take(self, found: list[Message]) -> None:
        self._note_loss(only_head=self._left_out)
        self.tally.add(found)

    def _note_loss(self, *, only_head: bool = False) -> None:
        if self._reader.lost and not self.tally.lost:
            self.tally.lose(only_head=only_head)

    async def follow(self) -> None:
        """Read the output until the container has exited."""
        try:
            await self._follow()
        finally:
            self.exited.set()  # its event may have been missed

    async def _follow(self) -> None:
        tries = 0
        while not self.exited.is_set():
            before = self.tally.messages
            try:
                await self._reader.follow(self.exited)
                self.facts = await self._engine.inspect(self.container.id)
                if not self.facts.running:
                    return
            except EngineNotFound:
                return
            except EngineRefused as error:  # its log cannot be read; how it ends can be known all the same
                self._problem = str(error)
                await self.exited.wait()
                return
            except EngineUnavailable:
                pass
            tries = 0 if self.tally.messages > before else tries + 1
            await asyncio.sleep(self._pause(tries))

    async def _read_rest(self) -> bool:
        """Read what is missing; return whether the engine's log is known to have the same bytes and no others."""
        for tries in range(_TRIES):
            try:
                self.facts = await self._engine.inspect(self.container.id)
                self._restarted = began_before(self.facts.started_at, await self._engine.started_at())
                proven = not self._problem and await self._compare()
            except EngineNotFound:
                self._problem = self._problem or "its engine does not know the container any more"
                return False
            except EngineRefused as error:
                self._problem = str(error)
                return False
            except EngineUnavailable as error:
                self._problem = str(error)
                await asyncio.sleep(self._pause(tries))
            else:
                return proven
            self._problem, problem = "", self._problem
        self._problem = problem
        return False

    def _pause(self, tries: int) -> float:
        pauses = self._timing.output_retries
        return pauses[min(tries, len(pauses) - 1)]

    async def _compare(self) -> bool:
        if self.tally.cut:  # it cannot be complete: only its end is needed
            await self._catch_up()
            return False
        found = Tally(self._cap)

        async def take(messages: list[Message]) -> None:
            found.add(messages)

        scrub = self.container.scrubbed
        reader = LogReader(self._engine, self.container.id, take, self._timing.silence, scrub=scrub)
        if not await reader.catch_up(until=self._until):
            await self._catch_up()
            return False
        driver = LogDriver(self.facts.log_driver, self.facts.log_options)
        if found.total < self.tally.total or driver.may_have_rotated(found.size, from_start=self._kept_up):
            await self._catch_up()
            return self.tally.same_as(found)
        self.tally, self._line_ends = found, reader.line_ends
        self._scrubbed = reader.replaced > 0
        return True

    async def _catch_up(self) -> None:
        """Read the rest; where there is no time for that, its end."""
        if await self._reader.catch_up(until=self._until):
            return
        self._left_out = True
        if self.tally.lost:  # once more, at another place
            self.tally.lose(only_head=True)
        await self._reader.catch_up(tail=self._timing.last_messages)


class Followed:
    """One container, as the agent's tasks share it; the source of its feeds.

    Args:
        follower: reads its output.
        meter: measures what it uses.
    """

    def __init__(self, follower: Follower, meter: UsageMeter) -> None:
        self.follower = follower
        self.meter = meter
        self.exit: NodeEvent | None = None
        """The event of its exit, once it has come."""
        self.told = asyncio.Event()
        """Set when the engine has told of the exit."""
        self.read = asyncio.Event()
        """Set when the output has been read to its end, or cannot be."""
        self.output: asyncio.Future[WholeOutput] = asyncio.get_running_loop().create_future()

    @property
    def exited(self) -> asyncio.Event:
        """Set when the container has exited."""
        return self.follower.exited

    def present(self) -> tuple[int, int] | None:
        """Return how many bytes of stdout and stderr are there already; None if not all of them have been read."""
        if self.follower.behind:
            return None
        return self.follower.tally.bytes("stdout"), self.follower.tally.bytes("stderr")

    async def end(self) -> FeedEnd:
        """Wait for the whole output; return how a feed of it ends."""
        whole = await asyncio.shield(self.output)
        # Head and tail are cut at the cap; the feed is not.
        fine = whole.status in {"complete", "truncated"}
        return FeedEnd("complete" if fine else whole.status, "" if fine else whole.reason, whole.stdout, whole.stderr)

"""Reads one container's log from its first byte, over as many connections as that takes.

The engine's log is the source: after an outage of the engine it is read again, and what was read before is left out.
A container never waits for a reader: the engine writes its log whether somebody reads it or not. But both share the
machine's processors, so a reader may leave output that comes too fast until the container has exited.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from jaas_worker.agent.kept_output.tally import Message, Position, Resumption, messages
from jaas_worker.agent.node_engine import NodeEngine
from jaas_worker.agent.reading_pace import ReadingPace
from jaas_worker.decisions.secrecy.scrubbing import StreamScrubbers
from jaas_worker.swarm.engine import Frame
from jaas_worker.swarm.line_ends import LONG, LineEnds

__all__ = ["LogReader"]


class LogReader:
    """One reading of a container's log.

    Args:
        engine: the container's.
        container_id: the container.
        take: gets the messages, in their order and each once; reading goes on when it returns. Those behind a loss
            come when ``lost`` is set.
        silence: seconds for which the output of an exited container may pause before it is read without following.
        service: ``container_id`` is a service's id, and the swarm is asked.
        rate: up to which it is followed, as ``ReadingPace`` takes it; 0 for any.
        scrub: replace the values of the container's secret variables.
    """

    def __init__(
        self,
        engine: NodeEngine,
        container_id: str,
        take: Callable[[list[Message]], Awaitable[None]],
        silence: float,
        *,
        service: bool = False,
        rate: float = 0.0,
        scrub: bool = False,
    ) -> None:
        self._engine = engine
        self._container_id = container_id
        self._take = take
        self._silence = silence
        self._service = service
        self._pace = ReadingPace(rate, time.monotonic()) if rate else None
        self._scrub = scrub
        self._scrubbers: StreamScrubbers | None = None
        self.position = Position()
        self.line_ends = LineEnds()
        self.lost = False
        """The log no longer had what was to be read next."""
        self.held_up = False
        """The container prints too fast: it is not followed any more."""

    async def follow(self, exited: asyncio.Event) -> None:
        """Read until the container has exited, or the connection ends. Of one that prints too fast, the rest is left.

        Args:
            exited: set when the container has exited.

        Raises:
            EngineUnavailable, EngineRefused: as the engine's.
        """
        reading = asyncio.ensure_future(self._read(exited))
        waiting = asyncio.ensure_future(exited.wait())
        try:
            await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
            while not reading.done():
                before = self._read_bytes()
                await asyncio.wait({reading}, timeout=self._silence)
                if not reading.done() and self._read_bytes() == before:
                    return
            await reading
            if self.held_up:
                await waiting
        finally:
            for task in (reading, waiting):
                task.cancel()
            await asyncio.gather(reading, waiting, return_exceptions=True)

    async def catch_up(self, *, until: float = math.inf, tail: int = 0) -> bool:
        """Read what is there now and was not read; return whether that was all in time.

        Args:
            until: when to end, by the monotonic clock.
            tail: read no more than so many messages, the last ones; 0 for all. What is between is lost.

        Raises:
            EngineUnavailable, EngineRefused: as the engine's.
        """
        return await self._read(until=until, tail=tail)

    def _read_bytes(self) -> int:
        return sum(newest.bytes for newest in self.position.newest.values())

    @property
    def replaced(self) -> int:
        """How many values of secrets were replaced."""
        return self._scrubbers.count if self._scrubbers else 0

    def _clean(self, found: list[Message]) -> list[Message]:
        if self._scrubbers is None:
            return found
        of = self._scrubbers.of
        return [one._replace(data=of[one.stream].feed(one.data)) for one in found]

    async def _take_rest(self) -> None:
        """Hand on what may have been the beginning of a secret's value, and was not: there is no more."""
        if self._scrubbers is not None:
            rest = [(stream, one.end()) for stream, one in self._scrubbers.of.items()]
            newest = self.position.newest
            if found := [Message(stream, newest[stream].time, data) for stream, data in rest if data]:
                await self._take(found)

    def _whole(self, found: list[Message]) -> list[Message]:
        if self.line_ends.idle and max([len(data) for _, _, data in found]) < LONG:
            return found
        return [self._restored(message) for message in found]

    def _restored(self, message: Message) -> Message:
        data = self.line_ends.restored(message.stream, message.time.decode("ascii", "replace"), message.data)
        return message if data is message.data else message._replace(data=data)

    async def _read(self, exited: asyncio.Event | None = None, *, until: float = math.inf, tail: int = 0) -> bool:
        """Read what is there; with ``exited`` go on until it is set. Return False if something was left."""
        follow = exited is not None
        if self._scrub and self._scrubbers is None:
            values = await self._engine.secret_values(self._container_id, service=self._service)
            self._scrubbers = StreamScrubbers(values)
        resumption = Resumption(self.position)
        since, service = resumption.since, self._service
        output = self._engine.output(self._container_id, follow=follow, since=since, tail=tail, service=service)
        async with aclosing(output):
            async for frames in output:
                found = resumption.after(messages(frames))
                self.lost = self.lost or resumption.lost
                if found:
                    self.position.add(found)
                    await self._take(self._clean(self._whole(found)))
                if exited is not None and self._is_too_fast(frames):
                    self.held_up = True
                    return False
                if time.monotonic() >= until:
                    return False
                del frames, found  # the next ones may be long in coming
        if not follow:
            await self._take_rest()
        if not follow and not resumption.found:  # a connection that only followed may have ended too early
            self.lost = True
        return True

    def _is_too_fast(self, read: list[Frame]) -> bool:
        if self._pace is None:
            return False
        return self._pace.exceeded(len(read), sum([len(frame.data) for frame in read]), time.monotonic())

"""Writes one feed: a container's output for those who watch it, from a reading of its own.

A slow Redis, or a feed that has to begin with the first byte, never keeps the container's follower waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from jaas_submit.errors import EngineRefused, EngineUnavailable, LedgerUnavailable
from jaas_submit.model.logs import STREAMS, Stream
from jaas_submit.output import FeedEnd, Gap, Piece, Wanted, piece_cost
from jaas_worker.agent.kept_output.last_lines import LastLines
from jaas_worker.agent.kept_output.tally import Message
from jaas_worker.agent.log_reader import LogReader
from jaas_worker.agent.node_engine import NodeEngine
from jaas_worker.agent.redis_calls import RedisCalls
from jaas_worker.agent.timing import Timing
from jaas_worker.decisions.times import parse_time

__all__ = ["FeedWriter", "Source", "Target"]

logger = logging.getLogger(__name__)

_PENDING_BYTES: Final = 128 * 1024
"""Bytes that wait for Redis at most; then the reading waits. Each line counts with what is said of it."""

_WRITTEN_BYTES: Final = 64 * 1024
"""Bytes that are written at once, whenever the last write was."""


class Target(NamedTuple):
    """The feed to write."""

    calls: RedisCalls
    wanted: Wanted
    writer: str
    """Who writes it, for people."""


class Source(Protocol):
    """Where a feed's output comes from, and what is known of its end."""

    @property
    def exited(self) -> asyncio.Event: ...

    def present(self) -> tuple[int, int] | None:
        """Return how many bytes of stdout and stderr are there already; None if that is not known."""

    async def end(self) -> FeedEnd:
        """Wait for the container's exit; return what is known of all of its output."""


class FeedWriter:
    """Writes one feed.

    Args:
        target: the feed.
        engine: has the output.
        source_id: the container, or the service.
        source: what is known of the container.
        timing: the agent's pauses.
        service: ``source_id`` is a service's id, and the swarm is asked.
        scrub: replace the values of the container's secret variables.
    """

    def __init__(
        self,
        target: Target,
        engine: NodeEngine,
        source_id: str,
        source: Source,
        timing: Timing,
        *,
        service: bool = False,
        scrub: bool = False,
    ) -> None:
        self._calls, self._wanted, self._writer = target
        self._feeds = self._calls.feeds
        self._source = source
        self._timing = timing
        self._reader = LogReader(engine, source_id, self._take, timing.silence, service=service, scrub=scrub)
        wanted = self._wanted
        self._offsets: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        self._since = _comparable(wanted.since)
        # Of the lines that are there already only the last few are wanted.
        self._held = None if wanted.tail is None else LastLines(wanted.tail)
        present = source.present()
        self._present = None if present is None else dict(zip(STREAMS, present, strict=True))
        self._began = _as_engine(datetime.now(UTC))
        self._pending: list[Piece | Gap] = []
        self._pending_bytes = 0
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._much = asyncio.Event()
        self._watched = True
        self._ended = False

    async def run(self) -> None:
        """Write the feed until its container has exited, or nobody watches it any more."""
        if not await self._redis(lambda: self._feeds.begin(self._wanted.feed, self._writer)):
            return
        reading, writing = asyncio.ensure_future(self._read()), asyncio.ensure_future(self._write())
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if self._watched:
                await reading
                self._ended = True
                self._more.set()
                self._much.set()
                await writing
            if self._watched:
                end = self._what_was_written(await self._source.end())
                await self._redis(lambda: self._feeds.finish(self._wanted.feed, end))
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    def _what_was_written(self, end: FeedEnd) -> FeedEnd:
        """Return what is said of the feed, whose reading may lack something that the container's follower has."""
        if end.status == "complete" and (
            self._reader.lost or (self._offsets["stdout"], self._offsets["stderr"]) != (end.stdout, end.stderr)
        ):
            return replace(end, status="partial", reason="the engine's log did not have all of it any more")
        return end

    async def _read(self) -> None:
        exited = self._source.exited
        while True:
            last = exited.is_set()
            try:
                if last:
                    await self._reader.catch_up()
                else:
                    await self._reader.follow(exited)
            except EngineRefused as error:
                logger.debug("feed %s: %s", self._wanted.feed, error)
                break
            except EngineUnavailable as error:
                logger.debug("feed %s: %s", self._wanted.feed, error)
                await asyncio.sleep(self._timing.output_retries[0])
                continue
            if last:
                break
            if not exited.is_set():  # the connection may have ended a moment before the exit is known
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(exited.wait(), self._timing.output_retries[0])
        self._release()

    async def _take(self, found: list[Message]) -> None:
        for stream, time, data in found:
            offset = self._offsets[stream]
            self._offsets[stream] = offset + len(data)
            if self._since and time < self._since:
                continue
            piece = Piece(stream, offset, time.decode("ascii", "replace"), data)
            if self._held is None:
                self._put(piece)
            else:
                self._held.add(piece)
        if self._held is not None and self._has_come_to_the_present(found[-1].time):
            self._release()
        self._more.set()
        while self._pending_bytes > _PENDING_BYTES:
            self._room.clear()
            await self._room.wait()

    def _has_come_to_the_present(self, time: bytes) -> bool:
        if self._present is None:
            return time >= self._began
        return all(self._offsets[stream] >= self._present[stream] for stream in STREAMS)

    async def _await_more(self) -> None:
        if self._held is None or self._present is not None:
            await self._more.wait()
            return
        try:
            await asyncio.wait_for(self._more.wait(), self._timing.silence)
        except TimeoutError:  # nothing more is there
            self._release()

    def _release(self) -> None:
        """Write the last lines that were there, if only those are wanted."""
        held, self._held = self._held, None
        for piece in held.found() if held else ():
            self._put(piece)
        self._more.set()

    def _put(self, piece: Piece | Gap) -> None:
        have = self._wanted.stdout if piece.stream == "stdout" else self._wanted.stderr
        length = piece.missing if isinstance(piece, Gap) else len(piece.data)
        if piece.offset + length <= have:  # another process has written it
            return
        self._pending.append(piece)
        self._pending_bytes += 0 if isinstance(piece, Gap) else piece_cost(piece)
        if self._pending_bytes >= _WRITTEN_BYTES:
            self._much.set()

    async def _write(self) -> None:
        while True:
            await self._await_more()
            self._more.clear()
            while self._pending:
                pieces, self._pending, self._pending_bytes = self._pending, [], 0
                self._much.clear()
                self._room.set()
                if not await self._redis(lambda pieces=pieces: self._feeds.append(self._wanted.feed, pieces)):  # type: ignore[misc] # bound at once
                    self._watched = False
                    return
                if not self._ended:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._much.wait(), self._timing.feed)
            if self._ended:
                return

    async def _redis(self, ask: Callable[[], bool]) -> bool:
        """Ask Redis until it answers; each write may be repeated."""
        while True:
            try:
                return await self._calls.call(ask)
            except LedgerUnavailable as error:
                logger.debug("feed %s: %s", self._wanted.feed, error)
                await asyncio.sleep(self._timing.redis_retry)


def _comparable(since: str) -> bytes:
    """Return a time as an engine writes it; empty where there is none."""
    at = parse_time(since) if since else None
    return _as_engine(at) if at else b""


def _as_engine(at: datetime) -> bytes:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f").encode()

"""A container's output: limited in bytes and time, split into streams and lines, with what is missing counted."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.model.logs import STREAMS, LogGap, Logs, LogStatus, Stream
from jaas_worker.swarm.engine import Engine, Frame
from jaas_worker.swarm.head_tail import HeadTail, together
from jaas_worker.swarm.line_ends import LineEnds
from jaas_worker.swarm.log_driver import LogDriver, LogSize

__all__ = ["collect", "marked", "read_logs"]

_FOR_ALL: Final = 0.65
"""Share of the time allowed in which all of an output has to be read."""

_BEFORE_END: Final = 0.05
_FOR_END: Final = 0.25
"""Share of the time allowed after which the end is read by itself, in case that there is no time for all, and the share
that this may take. Meanwhile the engine waits with the rest: it is busy for long with what nobody waits for."""

_FEW_LINES: Final = 1000
_MOST_LINES: Final = 1_000_000
_MORE: Final = 4
"""So many times as many lines are asked for while those of the end do not fill their half of the cap."""

_IN_THE_END: Final = 1 << 40
"""Number of the first frame of an end that was read by itself."""

_REPLACED: Final = "\ufffd".encode()
_BETWEEN: Final = "there was no time to read what is in between"
_NO_DRIVER: Final = LogDriver()


class _Reader:
    """Takes a container's frames, and says in the end what is kept of them.

    Args:
        cap: bytes kept of each stream.
        only_end: these are the end alone.
    """

    def __init__(self, cap: int, *, only_end: bool = False) -> None:
        self._cap = cap
        self._streams: dict[Stream, HeadTail] = {one: HeadTail(one, cap, only_end=only_end) for one in STREAMS}
        self.count = _IN_THE_END if only_end else 0
        """Number of the last frame taken."""
        self.first: Frame | None = None
        self.last: Frame | None = None
        self._bytes = 0
        self._frames = 0
        self._pieces = 0
        self._replaced = False
        self._line_ends = LineEnds()

    def read(self, frames: Iterable[Frame]) -> None:
        """Take frames until there are no more, or their source raises."""
        for frame in frames:
            self.add(frame)

    def add(self, frame: Frame) -> None:
        stamp, _, data = frame.data.partition(b" ")
        time = stamp.decode("ascii", "replace")
        self.first, self.last = self.first or frame, frame
        self.count += 1
        self._frames += 1
        self._bytes += len(data)
        self._pieces += not data.endswith(b"\n")
        self._replaced = self._replaced or _REPLACED in data
        self._streams[frame.stream].add(self.count, time, self._line_ends.restored(frame.stream, time, data))

    def end_of(self, tail: Iterable[Frame], *, take: bool) -> _Reader | None:
        """Read the end of the output, of which the beginning has been read.

        Args:
            tail: the last frames.
            take: if what has been read is among them, so that nothing is between: take the rest.

        Returns:
            The end; this reader if it has taken it; None if it has been read in part, and is to be read on otherwise.
        """
        end, seen, follows = _Reader(self._cap, only_end=True), self.last, False
        for frame in tail:
            if follows:
                self.add(frame)
            elif frame != seen:
                end.add(frame)
            elif take:
                follows = True
            else:
                return None
        return self if follows else end

    def is_enough(self, asked: int) -> bool:
        """Return whether this is all of the end that is kept, if so many lines of it were asked for."""
        return self._frames < asked or any(one.total >= self._cap // 2 for one in self._streams.values())

    def end_with(self, end: _Reader) -> None:
        """Take the end of the output; what is between is missing."""
        for stream, buffer in self._streams.items():
            buffer.end_with(end._streams[stream])
        self._bytes += end._bytes
        self._frames += end._frames
        self._pieces += end._pieces
        self._replaced = self._replaced or end._replaced
        self._line_ends = end._line_ends
        self.count = end.count

    def not_full(self) -> list[Stream]:
        """Return the streams of which something may be missing that should have been kept, the smallest first."""
        found = [one for one in self._streams.values() if not (one.exact or one.full)]
        return [one.stream for one in sorted(found, key=lambda one: one.total)]

    def more_lines(self, asked: int) -> int:
        """Return how many lines of the end to ask for where so many were not enough: what fills half a cap, if near."""
        needed = self._cap // 2 * self._frames * 9 // max(8 * self._bytes, 1) + 1
        return min(needed if asked < needed <= 2 * _MORE * asked else _MORE * asked, _MOST_LINES)

    def read_again(self, stream: Stream, frames: Iterable[Frame]) -> None:
        """Read one stream alone, all of it, in the place of what is known of it.

        Args:
            stream: which one.
            frames: its frames.
        """
        alone = _Reader(self._cap)
        alone.count = self.count  # it comes behind the other one
        alone.read(frames)
        self._streams[stream] = alone._streams[stream]
        self._replaced = self._replaced or alone._replaced
        if stream in alone._line_ends.unknown:
            self._line_ends = alone._line_ends

    def logs(self, driver: LogDriver, no_end: str = "") -> Logs:
        """Return what is kept.

        Args:
            driver: what has kept it.
            no_end: why the end is missing; empty where it is not.
        """
        lines, gaps = together(self._streams.values())
        if no_end and not lines:
            return Logs(status=LogStatus.UNAVAILABLE, reason=no_end)
        status = LogStatus.TRUNCATED if gaps else LogStatus.COMPLETE
        why = [f"{gap} cut" for gap in gaps if gap.missing]
        if not all(gap.exact for gap in gaps):
            why.append(_BETWEEN)
            if not all(one.exact or one.full for one in self._streams.values()):
                status = LogStatus.PARTIAL
        if driver.may_have_rotated(LogSize(self._bytes, self._frames, self._pieces)):
            status = LogStatus.PARTIAL
            gaps = (*(LogGap(one, 0, 0, exact=False) for one in self._streams), *gaps)
            why.append(f"log driver {driver.name} may have removed the beginning (max-size, max-file)")
        if self._replaced and driver.may_replace_bytes:
            status = LogStatus.PARTIAL
            why.append("the driver may have replaced bytes: U+FFFD may stand for any")
        if self._line_ends.unknown and driver.may_leave_out_line_ends and not no_end:
            status = LogStatus.PARTIAL
            why.append(f"a line end may be missing at the end of {' and '.join(self._line_ends.unknown)}")
        if no_end:
            status = LogStatus.PARTIAL
            gaps = (*gaps, *(LogGap(one, len(lines), 0, exact=False) for one in self._streams))
            why.append(f"the end is missing: {no_end}")
        return Logs(lines, status, ", ".join(why), gaps)


def collect(frames: Iterable[Frame], cap: int, driver: LogDriver = _NO_DRIVER) -> Logs:
    """Return the output that frames hold, at most ``cap`` bytes of each stream.

    Args:
        frames: pieces of output with the engine's time and a blank in front of the text.
        cap: bytes kept of each stream: the first and the last ones.
        driver: what has kept it.

    An EngineUnavailable out of ``frames`` ends the reading; what came before it is kept.
    """
    reader = _Reader(cap)
    try:
        reader.read(frames)
    except (EngineUnavailable, EngineRefused) as error:
        return reader.logs(driver, str(error))
    return reader.logs(driver)


def marked(logs: Logs, text: str) -> Logs:
    """Return output with a notice of jaas.

    Args:
        logs: the output.
        text: such as why the container was stopped.
    """
    return replace(logs, notices=(*logs.notices, text))


def read_logs(
    engine: Engine,
    service_id: str,
    container_id: str | None,
    cap: int,
    timeout: float,
    driver: LogDriver = _NO_DRIVER,
) -> Logs:
    """Return the output of a task, never later than its time-out and never raising.

    Args:
        engine: the swarm.
        service_id: the attempt's service.
        container_id: the attempt's container; None when there was none, and so no output.
        cap: bytes kept of each stream.
        timeout: seconds.
        driver: what has kept it.
    """
    if container_id is None:
        return Logs()
    begin, reader = time.monotonic(), _Reader(cap)
    ask = partial(engine.logs, service_id, container_id)
    end: _Reader | None = None
    read_end_at, why = begin + timeout * _BEFORE_END, ""
    try:
        for frame in ask(timeout * _FOR_ALL):
            reader.add(frame)
            if time.monotonic() >= read_end_at:
                read_end_at = math.inf
                end = _read_end(reader, ask, time.monotonic() + timeout * _FOR_END, take=False)
            elif end is not None and frame == end.first:
                end = None  # nothing is between
    except EngineUnavailable as error:
        if end is None and reader.last:
            end = _read_end(reader, ask, begin + timeout, take=True)
        if end is None:
            why = str(error)
        elif end is not reader:
            reader.end_with(end)
            _read_streams(reader, ask, begin + timeout)
    except EngineRefused as error:
        why = str(error)
    return reader.logs(driver, why)


def _read_end(reader: _Reader, ask: Callable[..., Iterator[Frame]], until: float, *, take: bool) -> _Reader | None:
    """Read the end alone: many short lines take the engine long, but it finds the last of them at once.

    Returns:
        As ``end_of``; None also where there was no time.
    """
    end, lines = None, _FEW_LINES
    while (left := until - time.monotonic()) > 0:
        try:
            newest = reader.end_of(ask(left, tail=lines), take=take)
        except (EngineUnavailable, EngineRefused):
            break
        if newest is None or newest is reader:
            return newest
        end = newest
        if lines >= _MOST_LINES or end.is_enough(lines):
            break
        lines = end.more_lines(lines)
    return end


def _read_streams(reader: _Reader, ask: Callable[..., Iterator[Frame]], until: float) -> None:
    """Read those streams alone whose end is not there.

    The engine reads both at different speeds, so the end of one may be far before the end of the other. One that has
    little is read in a fraction of the time.
    """
    for stream in reader.not_full():
        left = until - time.monotonic()
        with contextlib.suppress(EngineUnavailable, EngineRefused):
            reader.read_again(stream, ask(max(left, 0.1), only=stream))

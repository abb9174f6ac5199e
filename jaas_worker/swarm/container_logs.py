"""A container's output: limited in bytes and time, split into streams and lines, with what is missing counted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.model.logs import STREAMS, LogGap, Logs, LogStatus, Stream
from jaas_worker.swarm.engine import Engine, Frame
from jaas_worker.swarm.head_tail import HeadTail, together
from jaas_worker.swarm.line_ends import LineEnds
from jaas_worker.swarm.log_driver import LogDriver, LogSize

__all__ = ["collect", "marked", "read_logs"]

_SHARE_FOR_ALL: Final = 0.6
"""Of the time allowed for reading all of an output, before only its end is asked for."""

_FEW_LINES: Final = 1000
_MOST_LINES: Final = 1_000_000
_MORE: Final = 4
"""So many times as many lines are asked for where those at the end are shorter than the others."""

_REPLACED: Final = "\ufffd".encode()
_BETWEEN: Final = "there was no time to read what is in between"
_NO_DRIVER: Final = LogDriver()


class _Reader:
    """Takes a container's frames, and says in the end what is kept of them.

    Args:
        cap: bytes kept of each stream.
        before: number of the last frame before these, if they are the end alone.
    """

    def __init__(self, cap: int, before: int | None = None) -> None:
        self._cap = cap
        only_end = before is not None
        self._streams: dict[Stream, HeadTail] = {one: HeadTail(one, cap, only_end=only_end) for one in STREAMS}
        self.count = before or 0
        """Number of the last frame taken."""
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
        self.last = frame
        self.count += 1
        self._frames += 1
        self._bytes += len(data)
        self._pieces += not data.endswith(b"\n")
        self._replaced = self._replaced or _REPLACED in data
        self._streams[frame.stream].add(self.count, time, self._line_ends.restored(frame.stream, time, data))

    def end_of(self, tail: Iterable[Frame]) -> _Reader | None:
        """Read the end of the output, of which the beginning has been read.

        Args:
            tail: the last frames; those that have been read are among them where nothing is between.

        Returns:
            What was read; None where it followed on and was taken.
        """
        end, seen, follows = _Reader(self._cap, self.count), self.last, False
        for frame in tail:
            if follows:
                self.add(frame)
            elif frame == seen:
                follows = True
            else:
                end.add(frame)
        return None if follows else end

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
        """Return the streams of which something may be missing that should have been kept."""
        return [stream for stream, one in self._streams.items() if not (one.exact or one.full)]

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

    def lines_with_room(self) -> int:
        """Return how many lines of the average length are half a cap."""
        return self._cap // 2 * self._frames // max(self._bytes, 1)

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
    until, reader, why = time.monotonic() + timeout, _Reader(cap), ""
    try:
        reader.read(engine.logs(service_id, container_id, timeout * _SHARE_FOR_ALL))
    except EngineUnavailable as error:
        if not (reader.last and _read_end(reader, engine, service_id, container_id, until)):
            why = str(error)
    except EngineRefused as error:
        why = str(error)
    return reader.logs(driver, why)


def _read_end(reader: _Reader, engine: Engine, service_id: str, container_id: str, until: float) -> bool:
    """Read the end alone: many short lines take the engine long, but it finds the last of them at once.

    Returns:
        Whether it was found.
    """
    end, lines = None, min(max(reader.lines_with_room(), _FEW_LINES), _MOST_LINES)
    while (left := until - time.monotonic()) > 0:
        try:
            newest = reader.end_of(engine.logs(service_id, container_id, left / 2, tail=lines))
        except (EngineUnavailable, EngineRefused):
            if end is not None or lines == _FEW_LINES:
                break
            lines = _FEW_LINES
            continue
        if newest is None:
            return True
        end = newest
        if lines == _MOST_LINES or end.is_enough(lines):
            break
        lines = min(lines * _MORE, _MOST_LINES)
    if end is None:
        return False
    reader.end_with(end)
    # The engine reads both streams at different speeds, so the end of one may be far before the end of the other. One
    # that has little is read in a fraction of the time.
    for stream in reader.not_full():
        left = until - time.monotonic()
        with contextlib.suppress(EngineUnavailable, EngineRefused):
            reader.read_again(stream, engine.logs(service_id, container_id, max(left, 0.1), only=stream))
    return True

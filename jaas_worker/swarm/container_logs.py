"""A container's output: limited in bytes and time, split into streams and lines, and marked if incomplete."""

from __future__ import annotations

import codecs
import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Literal

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.model.logs import LogLine, Logs, LogStatus
from jaas_worker.swarm.engine import Engine, Frame

__all__ = ["collect", "marked", "read_logs"]

logger = logging.getLogger(__name__)

Stream = Literal["stdout", "stderr"]

_SHARE_FOR_ALL: Final = 0.6
"""Of the time allowed for reading all of an output, before only its end is asked for."""

_FEW_LINES: Final = 1000
_MOST_LINES: Final = 200_000

_UTF8 = codecs.getincrementaldecoder("utf-8")


class _HeadTailBuffer:
    """Keeps a stream up to its cap; of a longer one it keeps about half a cap from each end."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.head: list[tuple[int, LogLine]] = []
        self.tail: deque[tuple[int, LogLine]] = deque()
        self.head_bytes = 0
        self.tail_bytes = 0
        self.all_bytes = 0
        self.head_is_full = False

        self.gap = False

    @property
    def cut_bytes(self) -> int:
        return self.all_bytes - self.head_bytes - self.tail_bytes

    @property
    def cut(self) -> str:
        """How much is missing, for people."""
        if self.gap:
            return f"at least {self.cut_bytes:,} bytes" if self.cut_bytes else "an unknown number of bytes"
        return f"{self.cut_bytes:,} bytes"

    def leave_gap(self) -> None:
        """What comes from now on is the end of the stream; between it and what came before something may be missing."""
        self.gap = bool(self.all_bytes)
        self.head_is_full = self.head_is_full or self.gap
        self.tail.clear()
        self.tail_bytes = 0

    def add(self, number: int, line: LogLine) -> None:
        data = line.text.encode()
        self.all_bytes += len(data)
        if not self.head_is_full:
            left = self.cap // 2 - self.head_bytes
            if len(data) <= left:
                self._add_head(number, line)
                return
            self.head_is_full = True
            if len(data) > self.cap - self.head_bytes:  # too large for both: its beginning here, its end below
                self._add_head(number, line._replace(text=data[:left].decode(errors="ignore")))
        # The tail may use what the head left, so that nothing is cut before the cap is used up.
        room = self.cap - self.head_bytes
        if len(data) > room:  # nothing before it is left
            self.tail.clear()
            self.tail_bytes = 0
            line = line._replace(text=data[len(data) - room :].decode(errors="ignore"))
        if line.text:
            self.tail.append((number, line))
            self.tail_bytes += len(line.text.encode())
        while self.tail_bytes > room:
            _, gone = self.tail.popleft()
            self.tail_bytes -= len(gone.text.encode())

    def _add_head(self, number: int, line: LogLine) -> None:
        if line.text:
            self.head.append((number, line))
            self.head_bytes += len(line.text.encode())

    def lines(self, stream: Stream) -> list[tuple[int, LogLine]]:
        if not (self.cut_bytes or self.gap):
            return [*self.head, *self.tail]
        number = self.head[-1][0] if self.head else -1
        start = "" if not self.head or self.head[-1][1].text.endswith("\n") else "\n"
        mark = LogLine("", stream, f"{start}[... {self.cut} of {stream} cut by jaas ...]\n")
        return [*self.head, (number, mark), *self.tail]


class _Reader:
    """Takes a container's frames, and says in the end what is kept of them."""

    def __init__(self, cap: int) -> None:
        self._buffers: dict[Stream, _HeadTailBuffer] = {"stdout": _HeadTailBuffer(cap), "stderr": _HeadTailBuffer(cap)}
        # The engine cuts long lines into pieces of 16 KB wherever that falls, also in the middle of a character.
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {stream: _UTF8("replace") for stream in self._buffers}
        self.count = 0
        """Frames taken."""
        self.bytes = 0
        self.last: Frame | None = None
        self._gap = False

    def read(self, frames: Iterable[Frame]) -> None:
        """Take frames until there are no more, or their source raises."""
        for frame in frames:
            self.add(frame)

    def add(self, frame: Frame) -> None:
        stamp, _, data = frame.data.partition(b" ")
        self.last = frame
        self.count += 1
        self.bytes += len(data)
        if text := self._decoders[frame.stream].decode(data):
            line = LogLine(stamp.decode("ascii", "replace"), frame.stream, text)
            self._buffers[frame.stream].add(self.count, line)

    def go_on_with(self, tail: list[Frame]) -> None:
        """Take the end of the output, of which the beginning has been read.

        Args:
            tail: the last frames; those that have been read are among them where nothing is between.
        """
        if self.last in tail:
            tail = tail[len(tail) - tail[::-1].index(self.last) :]
        elif self.last is not None:
            self._gap = True
            self._flush()
            for buffer in self._buffers.values():
                buffer.leave_gap()
        self.read(tail)

    def _flush(self) -> None:
        for stream, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                self._buffers[stream].add(self.count, LogLine("", stream, text))
            decoder.reset()

    def logs(self, why_not_all: str = "") -> Logs:
        """Return what is kept.

        Args:
            why_not_all: the end is missing; empty where it is not.
        """
        self._flush()
        cut = [f"{buffer.cut} of {stream} cut" for stream, buffer in self._buffers.items() if buffer.cut_bytes]
        status, reason = (LogStatus.TRUNCATED, ", ".join(cut)) if cut else (LogStatus.COMPLETE, "")
        if self._gap:
            status, reason = LogStatus.TRUNCATED, ", ".join([*cut, "there was no time to read what is in between"])
        if why_not_all:
            status, reason = LogStatus.UNAVAILABLE, why_not_all
        numbered = [pair for stream, buffer in self._buffers.items() for pair in buffer.lines(stream)]
        numbered.sort(key=lambda pair: pair[0])  # stable: a mark stays behind the line that it follows
        return Logs(tuple(line for _, line in numbered), status, reason)


def collect(frames: Iterable[Frame], cap: int) -> Logs:
    """Return the output that frames hold, at most ``cap`` bytes of each stream.

    Args:
        frames: pieces of output with the engine's time and a blank in front of the text.
        cap: bytes kept of each stream: head and tail, with a mark where something was cut.

    An EngineUnavailable out of ``frames`` ends the reading; what came before it is kept and marked.
    """
    reader = _Reader(cap)
    try:
        reader.read(frames)
    except (EngineUnavailable, EngineRefused) as error:
        return reader.logs(str(error))
    return reader.logs()


def marked(logs: Logs, text: str) -> Logs:
    """Return output with an additional line of jaas, on stderr.

    Args:
        logs: the output.
        text: such as why the container was stopped.
    """
    before = next((line.text for line in reversed(logs.lines) if line.stream == "stderr"), "\n")
    start = "" if before.endswith("\n") else "\n"
    return replace(logs, lines=(*logs.lines, LogLine("", "stderr", f"{start}[... {text} ...]\n")))


def read_logs(engine: Engine, service_id: str, container_id: str | None, cap: int, timeout: float) -> Logs:
    """Return the output of a task, never later than its time-out and never raising.

    Args:
        engine: the swarm.
        service_id: the attempt's service.
        container_id: the attempt's container; None when there was none, and so no output.
        cap: bytes kept of each stream.
        timeout: seconds.
    """
    if container_id is None:
        return Logs()
    until, reader = time.monotonic() + timeout, _Reader(cap)
    try:
        reader.read(engine.logs(service_id, container_id, timeout * _SHARE_FOR_ALL))
    except EngineUnavailable as error:
        why = str(error)
    except EngineRefused as error:
        return reader.logs(str(error))
    else:
        return reader.logs()
    # Many short lines take the engine long (55,000 a second), but it finds the last of them at once.
    for lines in _tails(reader, cap) if reader.count else ():
        left = until - time.monotonic()
        try:
            reader.go_on_with(list(engine.logs(service_id, container_id, left / 2, tail=lines)))
        except EngineUnavailable:
            continue
        except EngineRefused as error:
            return reader.logs(str(error))
        return reader.logs()
    return reader.logs(why)


def _tails(reader: _Reader, cap: int) -> tuple[int, int]:
    """Return of how many lines to ask for the end: as many as have room, and a few if those take too long."""
    fitting = cap // 2 * reader.count // max(reader.bytes, 1)  # the other half has the beginning
    return min(max(fitting, _FEW_LINES), _MOST_LINES), _FEW_LINES

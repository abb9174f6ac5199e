"""A container's output: bounded in bytes and time, split into streams and lines, and marked where it is not all."""

from __future__ import annotations

import codecs
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.model.logs import LogLine, Logs, LogStatus
from jaas_worker.swarm.engine import Engine, Frame

__all__ = ["collect", "marked", "read_logs"]

logger = logging.getLogger(__name__)

Stream = Literal["stdout", "stderr"]

_UTF8 = codecs.getincrementaldecoder("utf-8")


class _HeadTailBuffer:
    """Keeps a stream whole up to its cap, and of a longer one about the first and the last half of the cap."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.head: list[tuple[int, LogLine]] = []
        self.tail: deque[tuple[int, LogLine]] = deque()
        self.head_bytes = 0
        self.tail_bytes = 0
        self.all_bytes = 0
        self.head_is_full = False

    @property
    def cut_bytes(self) -> int:
        return self.all_bytes - self.head_bytes - self.tail_bytes

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
        # The tail may have all that the head left over, so that nothing is cut before the whole cap is used up.
        room = self.cap - self.head_bytes
        if len(data) > room:  # nothing of what came before it is left
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
        if not self.cut_bytes:
            return [*self.head, *self.tail]
        number = self.head[-1][0] if self.head else -1
        start = "" if not self.head or self.head[-1][1].text.endswith("\n") else "\n"
        mark = LogLine("", stream, f"{start}[... {self.cut_bytes:,} bytes of {stream} cut by jaas ...]\n")
        return [*self.head, (number, mark), *self.tail]


def collect(frames: Iterable[Frame], cap: int) -> Logs:
    """Return the output that frames hold, at most ``cap`` bytes of each stream.

    Args:
        frames: pieces of output with the engine's time and a blank in front of the text.
        cap: bytes kept of each stream: head and tail, with a mark where something was cut.

    An EngineUnavailable out of ``frames`` ends the reading; what came before it is kept and marked.
    """
    buffers: dict[Stream, _HeadTailBuffer] = {"stdout": _HeadTailBuffer(cap), "stderr": _HeadTailBuffer(cap)}
    status, reason = LogStatus.COMPLETE, ""
    # The engine cuts long lines into pieces of 16 KB wherever that falls, also in the middle of a character.
    decoders: dict[Stream, codecs.IncrementalDecoder] = {stream: _UTF8("replace") for stream in buffers}
    number = 0
    try:
        for number, frame in enumerate(frames):
            stamp, _, data = frame.data.partition(b" ")
            if text := decoders[frame.stream].decode(data):
                buffers[frame.stream].add(number, LogLine(stamp.decode("ascii", "replace"), frame.stream, text))
    except (EngineUnavailable, EngineRefused) as error:
        status, reason = LogStatus.UNAVAILABLE, str(error)
    for stream, decoder in decoders.items():
        if text := decoder.decode(b"", final=True):
            buffers[stream].add(number, LogLine("", stream, text))
    cut = {stream: buffer.cut_bytes for stream, buffer in buffers.items() if buffer.cut_bytes}
    if cut and status is LogStatus.COMPLETE:
        status = LogStatus.TRUNCATED
        reason = ", ".join(f"{count:,} bytes of {stream} cut" for stream, count in cut.items())
    numbered = [pair for stream, buffer in buffers.items() for pair in buffer.lines(stream)]
    numbered.sort(key=lambda pair: pair[0])  # stable: a mark stays behind the line that it follows
    return Logs(tuple(line for _, line in numbered), status, reason)


def marked(logs: Logs, text: str) -> Logs:
    """Return output with a line of jaas' own behind it, on stderr.

    Args:
        logs: the output.
        text: what to say, such as why the container was stopped.
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
    return collect(engine.logs(service_id, container_id, timeout), cap)

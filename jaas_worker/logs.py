"""A container's output: bounded in bytes and time, split into streams and lines, and marked where it is not all."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from typing import Literal

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.records import LogLine, Logs, LogStatus
from jaas_worker.engine import Engine, Frame

__all__ = ["collect", "read_logs"]

logger = logging.getLogger(__name__)

Stream = Literal["stdout", "stderr"]


class _Keeper:
    """Keeps the first and the last half of a stream's cap."""

    def __init__(self, cap: int) -> None:
        self.half = max(cap // 2, 1)
        self.head: list[tuple[int, LogLine]] = []
        self.tail: deque[tuple[int, LogLine]] = deque()
        self.head_bytes = 0
        self.tail_bytes = 0
        self.cut_bytes = 0
        self.full = False

    def add(self, number: int, line: LogLine, size: int) -> None:
        if not self.full and self.head_bytes + size <= self.half:
            self.head.append((number, line))
            self.head_bytes += size
            return
        self.full = True
        if size > self.half:  # one piece larger than all that may be kept: its end
            self.cut_bytes += size - self.half
            data = line.text.encode("utf-8", "surrogatepass")[-self.half :]
            line = line._replace(text=data.decode("utf-8", "replace"))
            size = self.half
        self.tail.append((number, line))
        self.tail_bytes += size
        while self.tail_bytes > self.half:
            _, gone = self.tail.popleft()
            lost = len(gone.text.encode("utf-8", "surrogatepass"))
            self.tail_bytes -= lost
            self.cut_bytes += lost

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
    keepers: dict[Stream, _Keeper] = {"stdout": _Keeper(cap), "stderr": _Keeper(cap)}
    status, reason = LogStatus.COMPLETE, ""
    number = 0
    try:
        for number, frame in enumerate(frames):
            stamp, _, data = frame.data.partition(b" ")
            line = LogLine(stamp.decode("ascii", "replace"), frame.stream, data.decode("utf-8", "replace"))
            keepers[frame.stream].add(number, line, len(line.text.encode()))
    except (EngineUnavailable, EngineRefused) as error:
        status, reason = LogStatus.UNAVAILABLE, str(error)
    cut = {stream: keeper.cut_bytes for stream, keeper in keepers.items() if keeper.cut_bytes}
    if cut and status is LogStatus.COMPLETE:
        status = LogStatus.TRUNCATED
        reason = ", ".join(f"{count:,} bytes of {stream} cut" for stream, count in cut.items())
    numbered = [pair for stream, keeper in keepers.items() for pair in keeper.lines(stream)]
    numbered.sort(key=lambda pair: pair[0])  # stable: a mark stays behind the line that it follows
    return Logs(tuple(line for _, line in numbered), status, reason)


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

"""PURE: the captured output of one attempt, in bytes, as the ledger stores it and users read it."""

from __future__ import annotations

import codecs
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, get_args

from jaas_submit.model.bounds import shown
from jaas_submit.model.states import read_as

__all__ = ["STREAMS", "LogGap", "LogLine", "LogPacker", "LogStatus", "Logs", "Stream", "engine_time"]

Stream = Literal["stdout", "stderr"]


class LogStatus(StrEnum):
    """How complete the captured output is."""

    COMPLETE = "complete"  # every byte
    TRUNCATED = "truncated"  # more than the cap: the first and the last bytes were kept, the gap is counted
    PARTIAL = "partial"  # more is missing than the cap explains, or bytes may have been replaced
    UNAVAILABLE = "unavailable"  # nothing could be read


STREAMS: Final[tuple[Stream, ...]] = get_args(Stream)

_MOST_BYTES: Final = 128 * 1024 * 1024
"""Of output that is unpacked: JAAS_LOG_LIMIT is 64 MiB at most, for each of the two streams."""

_MOST_LINES: Final = 1024 * 1024
"""Of output that is unpacked: many short ones are kept together, so that 128 MiB have some 560,000 at most."""

_RECORD: Final = struct.Struct(">BBI")
"""Stream (1 stdout, 2 stderr), length of the time, length of the data; both follow."""

_CHUNK: Final = 64 * 1024


def engine_time(when: datetime) -> str:
    """Return a time as engines write it, so that the texts can be compared.

    Args:
        when: the time.
    """
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


class LogLine(NamedTuple):
    """A piece of output, usually one line with its line end; the engine cuts lines of more than 16 KiB into pieces."""

    time: str
    """When the engine read it: RFC 3339 with nanoseconds, by the node's clock."""
    stream: Stream
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as UTF-8; what is not valid there becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")


class LogGap(NamedTuple):
    """A place in a stream where bytes are missing."""

    stream: Stream
    before: int
    """Index of the line in front of which it is; the number of lines where the end is missing."""
    missing: int
    """How many bytes."""
    exact: bool = True
    """False: at least so many."""

    def __str__(self) -> str:
        if self.exact:
            return f"{self.missing:,} bytes of {self.stream}"
        return f"{f'at least {self.missing:,}' if self.missing else 'an unknown number of'} bytes of {self.stream}"


@dataclass(frozen=True)
class Logs:
    """The captured output of one attempt.

    Args:
        lines: pieces in the engine's order.
        status: whether it is complete.
        reason: why it is incomplete, for people; empty if complete.
        gaps: where bytes are missing, in the order of the lines.
        notices: what jaas has to say, such as why it stopped the container.
    """

    lines: tuple[LogLine, ...] = ()
    status: LogStatus = LogStatus.COMPLETE
    reason: str = ""
    gaps: tuple[LogGap, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def stdout_bytes(self) -> bytes:
        """Standard output: what the container wrote, and nothing else."""
        return b"".join(line.data for line in self.lines if line.stream == "stdout")

    @property
    def stderr_bytes(self) -> bytes:
        """Standard error: what the container wrote, and nothing else."""
        return b"".join(line.data for line in self.lines if line.stream == "stderr")

    @property
    def stdout(self) -> str:
        """Standard output as one text, in UTF-8; what is not valid there becomes U+FFFD."""
        return "".join(_decoded(part) for part in self.parts("stdout"))

    @property
    def stderr(self) -> str:
        """Standard error as one text, as ``stdout``."""
        return "".join(_decoded(part) for part in self.parts("stderr"))

    @property
    def text(self) -> str:
        """Both streams as one text, in order."""
        return "".join(self._texts())

    def parts(self, stream: Stream) -> list[bytes | LogGap]:
        """Return one stream as its bytes and gaps, in order.

        Args:
            stream: which one.
        """
        parts: list[bytes | LogGap] = []
        begin = 0
        for gap in (gap for gap in self.gaps if gap.stream == stream):
            parts += [_joined(self.lines[begin : gap.before], stream), gap]
            begin = gap.before
        return [part for part in (*parts, _joined(self.lines[begin:], stream)) if part]

    def has_end(self, stream: Stream) -> bool:
        """Return whether the end of a stream is there, so that its last bytes are the container's last.

        Args:
            stream: which one.
        """
        if self.status is LogStatus.UNAVAILABLE:
            return False
        last = max((n for n, line in enumerate(self.lines) if line.stream == stream), default=-1)
        return all(gap.before <= last for gap in self.gaps if gap.stream == stream)

    def only(self, stream: Stream) -> Logs:
        """Return one stream alone.

        Args:
            stream: which one.
        """
        lines: list[LogLine] = []
        at: list[int] = []
        for line in self.lines:
            at.append(len(lines))
            if line.stream == stream:
                lines.append(line)
        at.append(len(lines))
        gaps = tuple(gap._replace(before=at[gap.before]) for gap in self.gaps if gap.stream == stream)
        return replace(self, lines=tuple(lines), gaps=gaps)

    def by_line(self) -> Logs:
        """Return the same output in whole lines: pieces of one line joined, pieces of several lines split.

        A line has the time of its first piece, and the place of its last one.
        """
        gaps = iter(self.gaps)
        gap = next(gaps, None)
        made: list[LogLine] = []
        made_gaps: list[LogGap] = []
        open_lines: dict[Stream, LogLine] = {}
        for number in range(len(self.lines) + 1):
            while gap is not None and gap.before <= number:
                made += [open_lines.pop(gap.stream)] if gap.stream in open_lines else []
                made_gaps.append(gap._replace(before=len(made)))
                gap = next(gaps, None)
            if number < len(self.lines):
                line = self.lines[number]
                begun = open_lines.pop(line.stream, line._replace(data=b""))
                *whole, rest = line.data.split(b"\n")
                for text in whole:
                    made.append(begun._replace(data=begun.data + text + b"\n"))
                    begun = line._replace(data=b"")
                if begun.data or rest:
                    open_lines[line.stream] = begun._replace(data=begun.data + rest)
        return replace(self, lines=(*made, *open_lines.values()), gaps=tuple(made_gaps))

    def last(self, count: int) -> Logs:
        """Return the last lines alone.

        Args:
            count: how many at most.
        """
        whole = self.by_line()
        skipped = max(len(whole.lines) - count, 0)
        gaps = tuple(gap._replace(before=gap.before - skipped) for gap in whole.gaps if gap.before >= skipped)
        return replace(whole, lines=whole.lines[skipped:], gaps=gaps)

    def since(self, when: datetime) -> Logs:
        """Return what was written from a time on.

        Args:
            when: the time, by the node's clock.
        """
        moment = engine_time(when)
        skipped = next((n for n, line in enumerate(self.lines) if line.time >= moment), len(self.lines))
        gaps = tuple(gap._replace(before=gap.before - skipped) for gap in self.gaps if gap.before > skipped)
        return replace(self, lines=self.lines[skipped:], gaps=gaps)

    def tail(self, count: int) -> str:
        """Return the last lines of both streams as a text.

        Args:
            count: how many at most.
        """
        return self.last(count).text

    def pack(self) -> bytes:
        """Return the compressed form that the ledger stores."""
        packer = LogPacker(self)
        return b"".join(map(packer.add, self.lines)) + packer.end()

    @classmethod
    def unpack(cls, data: bytes) -> Logs:
        """Return what ``pack`` packed. It needs little more memory than what it returns.

        Args:
            data: the packed form.

        Raises:
            ValueError: it is invalid, or has more than 128 MiB of output.
        """
        try:
            reader = _Reader(data)
            told = reader.head()
            lines = tuple(reader.lines())
            gaps = tuple(_gap(item, len(lines)) for item in told["gaps"])
            notices = tuple(_text(item) for item in told["notices"])
            return cls(lines, read_as(LogStatus, _text(told["status"])), _text(told["reason"]), gaps, notices)
        except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it is no log of jaas: {shown(str(error))}") from None

    def __str__(self) -> str:
        return self.text

    def _texts(self) -> Iterator[str]:
        # A piece may end in the middle of a character.
        decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in STREAMS}
        gaps = {(gap.stream, gap.before) for gap in self.gaps}
        for number, line in enumerate(self.lines):
            for stream in STREAMS:
                if gaps and (stream, number) in gaps:
                    yield decoders[stream].decode(b"", final=True)
            yield decoders[line.stream].decode(line.data)
        for decoder in decoders.values():
            yield decoder.decode(b"", final=True)


class LogPacker:
    """Packs an output piece by piece, as ``Logs.unpack`` reads it.

    Args:
        about: what is said of it: all but the lines.
    """

    def __init__(self, about: Logs) -> None:
        self._packer = zlib.compressobj(1)
        head = {"status": about.status, "reason": about.reason, "gaps": about.gaps, "notices": about.notices}
        text = json.dumps(head).encode("ascii")
        self._begun = self._packer.compress(_RECORD.pack(0, 0, len(text)) + text)

    def add(self, line: LogLine) -> bytes:
        """Take the next line; return what is packed by now.

        Args:
            line: the line.
        """
        begun, self._begun = self._begun, b""
        time = line.time.encode("ascii", "replace")[:255]
        head = _RECORD.pack(1 + STREAMS.index(line.stream), len(time), len(line.data)) + time
        return begun + self._packer.compress(head) + self._packer.compress(line.data)

    def end(self) -> bytes:
        """Return the rest of what is packed."""
        return self._begun + self._packer.flush()


class _Reader:
    """Reads the records of a packed log, without ever having all of it in memory twice."""

    def __init__(self, data: bytes) -> None:
        self._packed = memoryview(data)
        self._unpacker = zlib.decompressobj()
        self._buffer = bytearray()
        self._left = _MOST_BYTES

    def head(self) -> dict[str, Any]:
        """Return the first record."""
        record = self._record()
        if record is None or record[0] != 0:
            raise ValueError("its head is missing")
        told: dict[str, Any] = json.loads(record[2])
        return told

    def lines(self) -> Iterator[LogLine]:
        """Yield the records behind the first one; those of a kind that only a newer version knows are left out."""
        for _ in range(_MOST_LINES):
            record = self._record()
            if record is None:
                return
            kind, time, data = record
            if 1 <= kind <= len(STREAMS):
                yield LogLine(time, STREAMS[kind - 1], data)
        raise ValueError("it has too many lines")

    def _record(self) -> tuple[int, str, bytes] | None:
        if not self._fill(_RECORD.size):
            if self._buffer or not self._unpacker.eof:
                raise ValueError("its end is missing")
            return None
        kind, time_size, size = _RECORD.unpack_from(self._buffer)
        self._left -= size
        if self._left < 0:
            raise ValueError("it is too large")
        end = _RECORD.size + time_size + size
        if not self._fill(end):
            raise ValueError("its end is missing")
        time = self._buffer[_RECORD.size : end - size].decode("ascii")
        data = bytes(memoryview(self._buffer)[end - size : end])
        del self._buffer[:end]
        return kind, time, data

    def _fill(self, count: int) -> bool:
        """Unpack until the buffer has so many bytes; return whether there are as many."""
        while len(self._buffer) < count and not self._unpacker.eof:
            waiting = self._unpacker.unconsumed_tail
            if not waiting:
                waiting, self._packed = bytes(self._packed[:_CHUNK]), self._packed[_CHUNK:]
            piece = self._unpacker.decompress(waiting, _CHUNK)
            if not (piece or waiting):
                break
            self._buffer += piece
        return len(self._buffer) >= count


def _joined(lines: tuple[LogLine, ...], stream: Stream) -> bytes:
    return b"".join(line.data for line in lines if line.stream == stream)


def _decoded(part: bytes | LogGap) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else ""


def _gap(item: Any, lines: int) -> LogGap:
    stream, before, missing, exact = item
    if stream not in STREAMS or not (isinstance(before, int) and 0 <= before <= lines and isinstance(missing, int)):
        raise ValueError("a gap is not valid")
    return LogGap(stream, before, missing, bool(exact))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value

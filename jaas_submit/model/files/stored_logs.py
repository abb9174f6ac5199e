"""PURE: the output of one attempt as an object in the store, and how it completes head and tail in the record."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from jaas_submit.model.logs import STREAMS, LogGap, LogLine, LogPacker, Logs, LogStatus, Stream

__all__ = ["OutputPacker", "completed", "logs_name"]

_MANY_LINES: Final = 250_000
_SHORT_PIECE: Final = 1024
"""Bytes. Behind many lines, short ones are joined to at least so many bytes, with the time of the first of them."""

_MOST_LINES: Final = 1_000_000
"""Of one object: whoever reads it has an object in memory for each."""


def logs_name(attempt: int) -> str:
    """Return the name of the object with an attempt's output.

    Args:
        attempt: which one.
    """
    return f"logs-{attempt}.z"


class OutputPacker:
    """Packs the beginning of a container's output, line by line.

    Args:
        limit: bytes of output, at most.
    """

    def __init__(self, limit: int) -> None:
        self._packer = LogPacker(Logs())
        self._left = limit
        self._lines = 0
        self._pending: LogLine | None = None

    @property
    def full(self) -> bool:
        """Whether nothing more is taken."""
        return self._left <= 0 or self._lines >= _MOST_LINES

    def add(self, line: LogLine) -> bytes:
        """Take the next line, or what fits of it; return what is packed by now.

        Args:
            line: the line.
        """
        if self.full or not line.data:
            return b""
        line = line._replace(data=line.data[: self._left])
        self._left -= len(line.data)
        held = self._pending
        if held and self._lines > _MANY_LINES and held.stream == line.stream and len(held.data) < _SHORT_PIECE:
            self._pending = held._replace(data=held.data + line.data)
            return b""
        self._lines += 1
        self._pending = line
        return self._packer.add(held) if held else b""

    def end(self) -> bytes:
        """Return the rest of what is packed."""
        last = self._packer.add(self._pending) if self._pending else b""
        return last + self._packer.end()


def completed(kept: Logs, stored: Logs) -> Logs:
    """Return an output with what the store has of it. What is still missing is counted.

    Args:
        kept: head and tail, as the record has them, with all that is missing counted.
        stored: the beginning, or all of it. Where it is not that of this output, ``kept`` is returned.
    """
    known: dict[Stream, int] = {}  # stream -> bytes of head and tail that the store has, too
    open_gaps: dict[Stream, tuple[int, int]] = {}  # stream -> line of the record before which it is, bytes
    for stream in STREAMS:
        own = [gap for gap in kept.gaps if gap.stream == stream]
        if len(own) > 1 or not all(gap.exact for gap in own):
            return kept
        cut, missing = (own[0].before, own[0].missing) if own else (0, 0)
        head = b"".join(line.data for line in kept.lines[:cut] if line.stream == stream)
        tail = b"".join(line.data for line in kept.lines[cut:] if line.stream == stream)
        found = b"".join(line.data for line in stored.lines if line.stream == stream)
        start = len(head) + missing
        over = max(len(found) - start, 0)
        if over > len(tail) or not head.startswith(found[: len(head)]) or found[start:] != tail[:over]:
            return kept
        # The limit is for both streams together, so the store may have less of one than the head.
        known[stream] = min(len(found), len(head)) + over
        if start > len(found):
            open_gaps[stream] = (cut, start - max(len(found), len(head)))
    return _joined(kept, stored, known, open_gaps)


def _joined(kept: Logs, stored: Logs, known: dict[Stream, int], open_gaps: dict[Stream, tuple[int, int]]) -> Logs:
    """Return what is stored, and behind it what the record has beyond that."""
    lines = list(stored.lines)
    gaps: list[LogGap] = []
    for number in range(len(kept.lines) + 1):
        gaps += [LogGap(one, len(lines), missing) for one, (cut, missing) in open_gaps.items() if cut == number]
        if number < len(kept.lines):
            line = kept.lines[number]
            skipped = min(known[line.stream], len(line.data))
            known[line.stream] -= skipped
            if skipped < len(line.data):
                lines.append(line._replace(data=line.data[skipped:]))
    status = LogStatus.TRUNCATED if gaps else LogStatus.COMPLETE
    reason = ", ".join(f"{gap} cut" for gap in gaps)
    return replace(kept, lines=tuple(lines), gaps=tuple(gaps), status=status, reason=reason)

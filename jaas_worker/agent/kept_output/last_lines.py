"""PURE: the last lines of an output that is there already, where a watcher wants no more of it."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import Final

from jaas_submit.model.logs import STREAMS, Stream
from jaas_submit.output import WINDOW_BYTES, Gap, Piece, piece_cost

__all__ = ["LastLines"]

_MOST_BYTES: Final = WINDOW_BYTES - WINDOW_BYTES // 64
"""What the lines may cost: a feed keeps them, with what its packs cost."""

_TOO_MUCH: Final = "the lines that were asked for are more than is kept of a running job's output"


class LastLines:
    """Holds the last lines, as far as a feed keeps them, and counts those that it cannot hold.

    Args:
        lines: how many are wanted.
    """

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._held: deque[Piece] = deque()
        self._cost = 0
        # Lines that are wanted and not held: the length of each, twice, plus 1 for stderr. Only numbers, in 4 bytes
        # each, so that a million lines take no more memory than those that are held.
        self._dropped = array("I")
        self._gone = 0
        """So many of them are not wanted any more: newer lines have come."""
        self._missing = dict.fromkeys(STREAMS, 0)
        self._ends = dict.fromkeys(STREAMS, 0)

    def add(self, piece: Piece) -> None:
        """Take the next line.

        Args:
            piece: the line, or a part of a long one.
        """
        self._held.append(piece)
        self._ends[piece.stream] = piece.offset + len(piece.data)
        self._cost += piece_cost(piece)
        while self._cost > _MOST_BYTES:
            oldest = self._pop()
            self._dropped.append(len(oldest.data) * 2 + STREAMS.index(oldest.stream))
            self._missing[oldest.stream] += len(oldest.data)
        if len(self._dropped) - self._gone + len(self._held) > self._lines:
            self._forget_oldest()

    def _pop(self) -> Piece:
        oldest = self._held.popleft()
        self._cost -= piece_cost(oldest)
        return oldest

    def _forget_oldest(self) -> None:
        if self._gone == len(self._dropped):
            self._pop()
            return
        length, number = divmod(self._dropped[self._gone], 2)
        self._missing[STREAMS[number]] -= length
        self._gone += 1
        if self._gone > 1000 and self._gone * 2 > len(self._dropped):
            del self._dropped[: self._gone]
            self._gone = 0

    def found(self) -> Iterator[Piece | Gap]:
        """Yield the lines, behind what is missing of them."""
        begins: dict[Stream, int] = {}
        for piece in self._held:
            begins.setdefault(piece.stream, piece.offset)
        for stream, missing in self._missing.items():
            if missing:
                yield Gap(stream, begins.get(stream, self._ends[stream]) - missing, missing, _TOO_MUCH)
        yield from self._held

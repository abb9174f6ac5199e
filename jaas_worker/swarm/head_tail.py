"""PURE: what is kept of a container's output while it is read: the first and the last bytes of each stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from jaas_submit.model.logs import LogGap, LogLine, Stream

__all__ = ["HeadTail", "Kept", "together"]

_MANY_PIECES: Final = 10_000
_SHORT_PIECE: Final = 256
"""Bytes. An object for each piece takes some 200 bytes: behind many pieces, short ones are joined to at least so many
bytes, with the time of the first of them. So the memory is bounded by the cap, whatever a container prints."""


class Kept(NamedTuple):
    """Lines and gaps of both streams, in order."""

    lines: tuple[LogLine, ...]
    gaps: tuple[LogGap, ...]


class _Piece(NamedTuple):
    number: int
    time: str
    data: bytes


class HeadTail:
    """Keeps the first and the last bytes of one stream, half a cap each; nothing is missing up to the cap.

    Args:
        stream: which one.
        cap: bytes that are kept.
        only_end: keep the last half a cap alone.
    """

    def __init__(self, stream: Stream, cap: int, *, only_end: bool = False) -> None:
        self.stream = stream
        self.total = 0
        """Bytes that were added."""
        self._head_room = 0 if only_end else cap // 2
        self._tail_cap = cap - cap // 2
        self._head: list[_Piece] = []
        self._tail: deque[_Piece] = deque()
        self._tail_bytes = 0
        self._head_bytes = 0
        self._gap = False

    @property
    def missing(self) -> int:
        """How many of the bytes that were added are not kept; more may be missing if it is not ``exact``."""
        return self.total - self._head_bytes - min(self._tail_bytes, self._tail_cap)

    @property
    def exact(self) -> bool:
        """Whether ``missing`` is all that is missing."""
        return not self._gap

    @property
    def full(self) -> bool:
        """Whether both halves are used up: what was not read would not have been kept either."""
        return not self._head_room and self._tail_bytes >= self._tail_cap

    def add(self, number: int, time: str, data: bytes) -> None:
        """Take the next piece.

        Args:
            number: its place among the pieces of both streams.
            time: when the engine read it.
            data: its bytes.
        """
        self.total += len(data)
        if self._head_room:
            first, data = data[: self._head_room], data[self._head_room :]
            self._head_room -= len(first)
            self._head_bytes += len(first)
            _append(self._head, _Piece(number, time, first))
        if data:
            self._tail_bytes += len(data)
            _append(self._tail, _Piece(number, time, data))
            while self._tail and self._tail_bytes - len(self._tail[0].data) >= self._tail_cap:
                self._tail_bytes -= len(self._tail.popleft().data)

    def end_with(self, end: HeadTail) -> None:
        """Take the end of the stream as it was read by itself; what is between is missing, however much it is.

        Args:
            end: of the same stream and cap, with ``only_end``; its pieces have higher numbers.
        """
        self.total += end.total
        self._gap = True
        self._head_room = 0
        self._tail, self._tail_bytes = end._tail, end._tail_bytes

    def pieces(self) -> Iterator[tuple[int, LogLine | int]]:
        """Yield what is kept with its place among both streams; a number stands for the bytes that are missing."""
        for piece in self._head:
            yield piece.number, LogLine(piece.time, self.stream, piece.data)
        if self.missing or self._gap:
            yield (self._head[-1].number if self._head else -1), self.missing
        surplus = max(self._tail_bytes - self._tail_cap, 0)
        for piece in self._tail:
            if data := piece.data[surplus:]:
                yield piece.number, LogLine(piece.time, self.stream, data)
            surplus = 0


def _append(pieces: list[_Piece] | deque[_Piece], piece: _Piece) -> None:
    if not piece.data:
        return
    if len(pieces) > _MANY_PIECES and len(pieces[-1].data) < _SHORT_PIECE:
        pieces[-1] = pieces[-1]._replace(data=pieces[-1].data + piece.data)
    else:
        pieces.append(piece)


def together(streams: Iterable[HeadTail]) -> Kept:
    """Return what several streams kept, in the order in which it was written.

    Args:
        streams: those of one container.
    """
    exact = {}
    found: list[tuple[int, Stream, LogLine | int]] = []
    for one in streams:
        exact[one.stream] = one.exact
        found += [(number, one.stream, piece) for number, piece in one.pieces()]
    found.sort(key=lambda item: item[0])  # stable: a gap stays behind the piece that it follows
    lines: list[LogLine] = []
    gaps: list[LogGap] = []
    for _, stream, piece in found:
        if isinstance(piece, LogLine):
            lines.append(piece)
        else:
            gaps.append(LogGap(stream, len(lines), piece, exact[stream]))
    return Kept(tuple(lines), tuple(gaps))

"""PURE: what is kept of a container's output while it is read: the first and the last bytes of each stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from jaas_submit.model.logs import LogGap, LogLine, Stream

__all__ = ["MANY_PIECES", "SHORT_PIECE", "HeadTail", "HeldPiece", "Kept", "Pieces", "RawPiece", "together"]

MANY_PIECES: Final = 10_000
SHORT_PIECE: Final = 256
"""Bytes. An object for each piece takes some 200 bytes: behind many pieces, short ones are joined to at least so many
bytes, with the time of the first of them. So the memory is bounded by the cap, whatever a container prints."""


class Kept(NamedTuple):
    """Lines and gaps of both streams, in order."""

    lines: tuple[LogLine, ...]
    gaps: tuple[LogGap, ...]


class HeldPiece(NamedTuple):
    """A piece that is kept, with its place among the pieces of both streams."""

    number: int
    time: str
    data: bytes


RawPiece = tuple[int, bytes, bytes]
"""A piece as an engine hands it out: its place, its time in ASCII, and its bytes."""


class Pieces:
    """Pieces that are kept in memory."""

    def __init__(self) -> None:
        self.bytes = 0
        """Of all of them."""
        self._held: deque[HeldPiece] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[HeldPiece]:
        return iter(self._held)

    def add(self, piece: HeldPiece) -> None:
        """Keep a piece behind the others.

        Args:
            piece: the piece, which may be empty.
        """
        if not piece.data:
            return
        self.bytes += len(piece.data)
        if self._held and len(self) > MANY_PIECES and len(self._held[-1].data) < SHORT_PIECE:
            self._held[-1] = self._held[-1]._replace(data=self._held[-1].data + piece.data)
        else:
            self._held.append(piece)

    def add_all(self, pieces: list[RawPiece]) -> None:
        """Keep pieces behind the others.

        Args:
            pieces: the pieces, which may be empty.
        """
        for number, time, data in pieces:
            self.add(HeldPiece(number, time.decode("ascii", "replace"), data))

    def trim(self, least: int) -> None:
        """Remove the first ones, as long as enough is left.

        Args:
            least: bytes that must be left.
        """
        while self._held and self.bytes - len(self._held[0].data) >= least:
            self.bytes -= len(self._held.popleft().data)


class HeadTail:
    """Keeps the first and the last bytes of one stream, half a cap each; nothing is missing up to the cap.

    Args:
        stream: which one.
        cap: bytes that are kept.
        only_end: keep the last half a cap alone.
        pieces: makes what keeps them.
    """

    def __init__(
        self, stream: Stream, cap: int, *, only_end: bool = False, pieces: Callable[[], Pieces] = Pieces
    ) -> None:
        self.stream = stream
        self.total = 0
        """Bytes that were added."""
        self._head_room = 0 if only_end else cap // 2
        self._tail_cap = cap - cap // 2
        self._pieces = pieces
        self._head = pieces()
        self._tail = pieces()
        self._gap = False

    @property
    def missing(self) -> int:
        """How many of the bytes that were added are not kept; more may be missing if it is not ``exact``."""
        return self.total - self._head.bytes - min(self._tail.bytes, self._tail_cap)

    @property
    def exact(self) -> bool:
        """Whether ``missing`` is all that is missing."""
        return not self._gap

    @property
    def full(self) -> bool:
        """Whether both halves are used up: what was not read would not have been kept either."""
        return not self._head_room and self._tail.bytes >= self._tail_cap

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
            self._head.add(HeldPiece(number, time, first))
        if data:
            self._tail.add(HeldPiece(number, time, data))
            self._tail.trim(self._tail_cap)

    def add_all(self, pieces: list[RawPiece]) -> None:
        """Take further pieces, as ``add`` takes each of them.

        Args:
            pieces: the pieces.
        """
        taken = 0
        while taken < len(pieces) and self._head_room:
            number, time, data = pieces[taken]
            self.add(number, time.decode("ascii", "replace"), data)
            taken += 1
        if taken < len(pieces):
            before = self._tail.bytes
            self._tail.add_all(pieces[taken:] if taken else pieces)
            self.total += self._tail.bytes - before
            self._tail.trim(self._tail_cap)

    def lose(self, *, only_head: bool = False) -> None:
        """Take note that what comes next does not follow on what was added: an unknown number of bytes is missing.

        Args:
            only_head: of what was added keep the head alone, so that they are missing behind it.
        """
        self._gap = True
        self._head_room = 0
        if only_head:
            self._tail = self._pieces()

    def end_with(self, end: HeadTail) -> None:
        """Take the end of the stream as it was read by itself; what is between is missing, however much it is.

        Args:
            end: of the same stream and cap, with ``only_end``; its pieces have higher numbers.
        """
        self.total += end.total
        self._gap = True
        self._head_room = 0
        self._tail = end._tail

    def pieces(self) -> Iterator[tuple[int, LogLine | int]]:
        """Yield what is kept with its place among both streams; a number stands for the bytes that are missing."""
        last = -1
        for piece in self._head:
            last = piece.number
            yield last, LogLine(piece.time, self.stream, piece.data)
        if self.missing or self._gap:
            yield last, self.missing
        surplus = max(self._tail.bytes - self._tail_cap, 0)
        for piece in self._tail:
            skip = min(surplus, len(piece.data))
            surplus -= skip
            if data := piece.data[skip:]:
                yield piece.number, LogLine(piece.time, self.stream, data)


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

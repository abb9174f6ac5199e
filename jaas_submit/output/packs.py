"""PURE: packs: many pieces of output in one entry of a feed. An entry for each line would cost more than the line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from jaas_submit.model.logs import Stream
from jaas_submit.output.pieces import Gap, Piece

__all__ = ["Pack", "packs", "piece_cost", "unpacked"]

_PACK_BYTES: Final = 65_000
"""Bytes of one pack at most; with what Redis adds, it just fits into one of the allocator's blocks."""

_HEAD_BYTES: Final = 48
"""Bytes that the head of a piece takes, at most: its time, its length and its stream."""

_NUMBERS: Final[dict[Stream, int]] = {"stdout": 0, "stderr": 1}
_STREAMS: Final[tuple[Stream, Stream]] = ("stdout", "stderr")


class Pack(NamedTuple):
    """Pieces that follow each other, as one entry of a feed."""

    offsets: tuple[int, int]
    """Bytes of stdout and stderr before it."""
    lengths: tuple[int, int]
    """Its bytes of stdout and stderr."""
    heads: bytes
    """What its pieces are, as JSON: ``o`` (the offsets), ``s`` (streams, a digit each), ``n`` (lengths), ``c`` (what
    all times begin with) and ``t`` (the rest of each time, with blanks between)."""
    data: bytes
    """What they hold."""

    @property
    def size(self) -> int:
        """Bytes of heads and data."""
        return len(self.heads) + len(self.data)


def piece_cost(piece: Piece) -> int:
    """Return what a piece costs in a pack, in bytes; no less than it does.

    Args:
        piece: the piece.
    """
    return len(piece.data) + _HEAD_BYTES


def packs(pieces: Iterable[Piece | Gap]) -> Iterator[Pack | Gap]:
    """Yield the pieces in packs, and the gaps between them; pieces that are too large are divided.

    Args:
        pieces: in the order in which the container wrote them.
    """
    found: list[Piece] = []
    size = 0
    ends: dict[Stream, int] = {}
    for piece in _divided(pieces):
        cost = 0 if isinstance(piece, Gap) else piece_cost(piece)
        joined = cost and ends.get(piece.stream, piece.offset) == piece.offset and size + cost <= _PACK_BYTES
        if found and not joined:
            yield _packed(found)
            found, size, ends = [], 0, {}
        if isinstance(piece, Gap):
            yield piece
        else:
            found.append(piece)
            size += cost
            ends[piece.stream] = piece.offset + len(piece.data)
    if found:
        yield _packed(found)


def _divided(pieces: Iterable[Piece | Gap]) -> Iterator[Piece | Gap]:
    most = _PACK_BYTES - _HEAD_BYTES
    for piece in pieces:
        if isinstance(piece, Gap) or len(piece.data) <= most:
            yield piece
        else:
            for start in range(0, len(piece.data), most):
                yield piece._replace(offset=piece.offset + start, data=piece.data[start : start + most])


def _packed(pieces: list[Piece]) -> Pack:
    offsets, lengths = [0, 0], [0, 0]
    for piece in reversed(pieces):
        number = _NUMBERS[piece.stream]
        offsets[number] = piece.offset
        lengths[number] += len(piece.data)
    times = [piece.time for piece in pieces]
    common = _common(min(times), max(times))
    heads = {
        "o": offsets,
        "s": "".join("0" if piece.stream == "stdout" else "1" for piece in pieces),
        "n": [len(piece.data) for piece in pieces],
        "c": common,
        "t": " ".join([time[len(common) :] for time in times]),
    }
    text = json.dumps(heads, separators=(",", ":")).encode()
    return Pack((offsets[0], offsets[1]), (lengths[0], lengths[1]), text, b"".join([piece.data for piece in pieces]))


def _common(one: str, other: str) -> str:
    """Return what two texts begin with."""
    return one[: next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))]


def unpacked(heads: bytes, data: bytes, known: tuple[int, int] = (0, 0)) -> Iterator[Piece]:
    """Yield the pieces of a pack.

    Args:
        heads: as in ``Pack``.
        data: as in ``Pack``.
        known: so many of its first bytes of stdout and stderr were there before; they are left out.
    """
    what = json.loads(heads)
    offsets: list[int] = what["o"]
    begins = (offsets[0] + known[0], offsets[1] + known[1])
    common: str = what["c"]
    at = 0
    for digit, length, time in zip(what["s"], what["n"], what["t"].split(" "), strict=True):
        number = 0 if digit == "0" else 1
        offset, offsets[number] = offsets[number], offsets[number] + length
        skip = max(begins[number] - offset, 0)
        if skip < length or not length:
            yield Piece(_STREAMS[number], offset + skip, common + time, data[at + skip : at + length])
        at += length

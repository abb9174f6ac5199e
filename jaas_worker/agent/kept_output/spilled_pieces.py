"""Pieces of output that are kept in a file without a name: an agent follows many containers in little memory."""

from __future__ import annotations

import marshal
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple

from jaas_worker.swarm.head_tail import MANY_PIECES, SHORT_PIECE, HeldPiece, Pieces, RawPiece

__all__ = ["SpilledPieces"]

_MEMORY: Final = 24 * 1024
"""Bytes that pieces take in memory before they are written."""

_OBJECT: Final = 250
"""Bytes that a piece takes in memory besides its data."""

_AT_ONCE: Final = 50
"""So many pieces that come together are written at once."""

_FILE_BYTES: Final = 1024 * 1024
"""After so many bytes another file is begun; the former goes when none of its pieces is kept any more."""


class _Scratch:
    """A file without a name, which goes with this object."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile(buffering=0) as made:
            self._file = os.dup(made.fileno())
        self.size = 0
        weakref.finalize(self, os.close, self._file)

    def write(self, data: bytes) -> None:
        """Write behind what is there; raises OSError where there is no room."""
        if os.pwrite(self._file, data, self.size) < len(data):
            raise OSError("no room")
        self.size += len(data)

    def read(self, at: int, size: int) -> bytes:
        return os.pread(self._file, size, at)


class _Block(NamedTuple):
    """Pieces that have been written."""

    where: _Scratch | bytes
    """The bytes themselves where no file could be written."""
    at: int
    size: int
    pieces: int
    held: int
    """Bytes that the pieces hold."""

    def read(self) -> Iterator[HeldPiece]:
        data = self.where if isinstance(self.where, bytes) else self.where.read(self.at, self.size)
        for number, time, piece in marshal.loads(data):  # noqa: S302 # this process has written it
            yield HeldPiece(number, time.decode("ascii", "replace"), piece)


class SpilledPieces(Pieces):
    """Pieces of which only the newest are in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: deque[_Block] = deque()
        self._cost = 0
        self._written = 0
        """Pieces in the blocks."""
        self._file: _Scratch | None = None

    def __len__(self) -> int:
        return self._written + len(self._held)

    def __iter__(self) -> Iterator[HeldPiece]:
        blocks = chain.from_iterable(block.read() for block in self._blocks)
        last, done = None, 0
        for piece in chain(blocks, self._held):
            if last is not None and done > MANY_PIECES and len(last.data) < SHORT_PIECE:
                last = last._replace(data=last.data + piece.data)
                continue
            if last is not None:
                yield last
                done += 1
            last = piece
        if last is not None:
            yield last

    def add(self, piece: HeldPiece) -> None:
        objects = len(self._held)
        super().add(piece)
        self._cost += len(piece.data) + _OBJECT * (len(self._held) - objects)
        if self._cost > _MEMORY:
            self._write()

    def add_all(self, pieces: list[RawPiece]) -> None:
        if len(pieces) < _AT_ONCE:
            super().add_all(pieces)
            return
        if self._held:
            self._write()
        size = sum([len(data) for _, _, data in pieces])
        self.bytes += size
        self._write_block(pieces, size)

    def _write(self) -> None:
        self._write_block(
            [(number, time.encode(), data) for number, time, data in self._held],
            sum([len(piece.data) for piece in self._held]),
        )
        self._held.clear()
        self._cost = 0

    def _write_block(self, pieces: list[RawPiece], held: int) -> None:
        data = marshal.dumps(pieces)
        where: _Scratch | bytes
        try:
            if self._file is None or self._file.size > _FILE_BYTES:
                self._file = _Scratch()
            where, at = self._file, self._file.size
            where.write(data)
        except OSError:
            where, at = data, 0
        self._blocks.append(_Block(where, at, len(data), len(pieces), held))
        self._written += len(pieces)

    def trim(self, least: int) -> None:
        while self._blocks and self.bytes - self._blocks[0].held >= least:
            block = self._blocks.popleft()
            self.bytes -= block.held
            self._written -= block.pieces
        if not self._blocks:
            super().trim(least)

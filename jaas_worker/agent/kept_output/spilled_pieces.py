"""Pieces of output that are kept in a file without a name: an agent follows many containers in little memory."""

from __future__ import annotations

import marshal
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from jaas_worker.swarm.head_tail import HeldPiece, Pieces

__all__ = ["SpilledPieces"]

_MEMORY: Final = 24 * 1024
"""Bytes that pieces take in memory before they are written."""

_OBJECT: Final = 250
"""Bytes that a piece takes in memory besides its data."""

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
        yield from (HeldPiece(*piece) for piece in marshal.loads(data))  # noqa: S302 # this process has written it


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
        for block in self._blocks:
            yield from block.read()
        yield from self._held

    def add(self, piece: HeldPiece) -> None:
        objects = len(self._held)
        super().add(piece)
        self._cost += len(piece.data) + _OBJECT * (len(self._held) - objects)
        if self._cost > _MEMORY:
            self._write()

    def _write(self) -> None:
        data = marshal.dumps([tuple(piece) for piece in self._held])
        held = sum(len(piece.data) for piece in self._held)
        where: _Scratch | bytes
        try:
            if self._file is None or self._file.size > _FILE_BYTES:
                self._file = _Scratch()
            where, at = self._file, self._file.size
            where.write(data)
        except OSError:
            where, at = data, 0
        self._blocks.append(_Block(where, at, len(data), len(self._held), held))
        self._written += len(self._held)
        self._held.clear()
        self._cost = 0

    def trim(self, least: int) -> None:
        while self._blocks and self.bytes - self._blocks[0].held >= least:
            block = self._blocks.popleft()
            self.bytes -= block.held
            self._written -= block.pieces
        if not self._blocks:
            super().trim(least)

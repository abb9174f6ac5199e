"""PURE: the multiplexed stream in which an engine hands out a container's output, taken apart as it arrives."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from jaas_submit.errors import EngineUnavailable
from jaas_submit.model.logs import Stream
from jaas_worker.swarm.engine import Frame

__all__ = ["FrameParser"]

_STREAMS: Final[dict[int, Stream]] = {1: "stdout", 2: "stderr"}
_ERROR: Final = 3
_HEADER: Final = 8
_HEAD: Final = struct.Struct(">B3sI")
_ZEROS: Final = bytes(3)

_new: Final = tuple.__new__
"""Makes a named tuple in half the time: a job may print millions of lines."""

_MOST_BYTES: Final = 2 * 1024 * 1024
"""Bytes of one frame at most. Engines divide lines at 16 KiB (moby, daemon/logger/copier.go, defaultBufSize)."""


class FrameParser:
    """Takes a multiplexed stream apart, in whatever pieces it arrives.

    Each frame has a header of 8 bytes: stream (1 stdout, 2 stderr), three zeros, length as 32-bit big-endian number.
    Source: Docker Engine API, "Attach to a container", section "Stream format".
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole now. Take all of them before the next piece is fed.

        Args:
            data: the next piece of the stream.

        Raises:
            EngineUnavailable: the engine reports an error in the middle of the stream, or this is no such stream.
        """
        data = self._rest + data
        at, end = 0, len(data)
        while end - at >= _HEADER:
            kind, zeros, length = _HEAD.unpack_from(data, at)
            if length > _MOST_BYTES or kind > _ERROR or zeros != _ZEROS:
                self._rest = b""
                what = f"a piece of {length:,} bytes, kind {kind}"
                raise EngineUnavailable(f"reading logs: the stream is broken ({what})")
            next_at = at + _HEADER + length
            if next_at > end:
                break
            content = data[at + _HEADER : next_at]
            at = next_at
            if kind == _ERROR:
                raise EngineUnavailable(f"reading logs: {content.decode(errors='replace').strip()}")
            if stream := _STREAMS.get(kind):
                yield _new(Frame, (stream, content))
        self._rest = data[at:]

    def end(self) -> None:
        """Take note that the stream has ended.

        Raises:
            EngineUnavailable: it ended in the middle of a frame.
        """
        if self._rest:
            raise EngineUnavailable("reading logs: the stream ended in the middle of a piece")

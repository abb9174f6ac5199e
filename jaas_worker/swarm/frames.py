"""PURE: the stream in which an engine hands out a container's output, taken apart as it arrives.

It is multiplexed, or raw for a container with a terminal.
"""

from __future__ import annotations

import re
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


_STAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")
_STAMP_BYTES: Final = 31
_PIECE_BYTES: Final = 16 * 1024
"""Bytes of a line after which an engine begins another message. Source: moby, daemon/logger/copier.go."""


class FrameParser:
    """Takes a container's output apart, in whatever pieces it arrives. All requests ask for timestamps.

    A container with a terminal has one raw stream: messages, each with its time in front. It is told by its first
    character, a digit. Otherwise each frame has a header of 8 bytes: stream (1 stdout, 2 stderr), three zeros, length
    as 32-bit big-endian number. Source: Docker Engine API, "Attach to a container", section "Stream format".
    """

    def __init__(self) -> None:
        self._rest = b""
        self._raw = False
        self._begun = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole now. Take all of them before the next piece is fed.

        Args:
            data: the next piece of the stream.

        Raises:
            EngineUnavailable: the engine reports an error in the middle of the stream, or this is no such stream.
        """
        if data and not self._begun:
            self._begun, self._raw = True, data[:1].isdigit()
        data = self._rest + data
        if self._raw:
            yield from self._messages(data)
            return
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

    def _messages(self, data: bytes) -> Iterator[Frame]:
        """Yield the messages of a raw stream that are whole: up to their line end, or as long as a message may be."""
        at = 0
        while (length := _whole_message(data, at)) > 0:
            yield Frame("stdout", data[at : at + length])
            at += length
        self._rest = data[at:]

    def end(self) -> list[Frame]:
        """Take note that the stream has ended; return a raw stream's last message, if it has no line end.

        Raises:
            EngineUnavailable: it ended in the middle of a frame.
        """
        rest, self._rest = self._rest, b""
        if not rest:
            return []
        if self._raw and _STAMP.match(rest):
            return [Frame("stdout", rest)]
        raise EngineUnavailable("reading logs: the stream ended in the middle of a piece")


def _whole_message(data: bytes, at: int) -> int:
    """Return how many bytes the message has that begins there; 0 where its end has not arrived.

    Raises:
        EngineUnavailable: none begins there: the engine reports an error in the middle of the stream.
    """
    if len(data) - at < _STAMP_BYTES:
        return 0
    text = at + _STAMP_BYTES
    if not _STAMP.match(data, at):
        said = data[at : at + 200].decode(errors="replace").partition("\n")[0]
        raise EngineUnavailable(f"reading logs: {said}")
    divided = text + _PIECE_BYTES
    if (line_end := data.find(b"\n", text, divided)) < 0:
        if len(data) < divided + _STAMP_BYTES:
            return 0
        if _STAMP.match(data, divided):
            return divided - at
        line_end = data.find(b"\n", divided)  # of a driver that divides lines elsewhere
    if len(data) - at > _MOST_BYTES and line_end < 0:
        raise EngineUnavailable("reading logs: the stream is broken (a line without an end)")
    return line_end + 1 - at if line_end >= 0 else 0

"""What an agent knows of a container's output while it reads it: place, head and tail, counts and digests."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from datetime import timedelta
from operator import itemgetter
from typing import Final, NamedTuple

from jaas_submit.model.logs import STREAMS, Stream
from jaas_worker.agent.kept_output.spilled_pieces import SpilledPieces
from jaas_worker.decisions.times import parse_time
from jaas_worker.swarm.engine import Frame
from jaas_worker.swarm.head_tail import HeadTail, Kept, together
from jaas_worker.swarm.log_driver import LogSize

__all__ = ["Message", "Position", "Resumption", "Tally", "messages"]

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}".encode()
"""What the log driver json-file writes for a byte that is not UTF-8; a container may also have written it itself."""

_SLACK: Final = timedelta(seconds=1)
"""The two streams' messages are written to the log in another order than their times by no more than this."""


_TIME: Final = len("2006-01-02T15:04:05.000000000Z")

_new: Final = tuple.__new__
"""Makes a named tuple in half the time: an agent takes millions of messages apart."""

_stream_of, _time_of, _data_of = itemgetter(0), itemgetter(1), itemgetter(2)


class Message(NamedTuple):
    """One message of a container's log: a line, or a part of a long line; the parts share their time."""

    stream: Stream
    time: bytes
    """RFC 3339 in UTC with nine digits behind the second, so that times compare as bytes do."""
    data: bytes


def messages(frames: Iterable[Frame]) -> list[Message]:
    """Return the messages that frames hold.

    Args:
        frames: with the engine's time and a blank in front of the text.
    """
    return [
        # A time of the usual length is cut off, which is quicker than to look for the blank behind it.
        _new(
            Message,
            (stream, text[:_TIME], text[_TIME + 1 :]) if text[_TIME : _TIME + 1] == b" " else _divided(stream, text),
        )
        for stream, text in frames
    ]


def _divided(stream: Stream, text: bytes) -> tuple[Stream, bytes, bytes]:
    time, _, data = text.partition(b" ")
    return stream, time, data


def _by_stream(found: list[Message]) -> dict[Stream, list[Message]]:
    """Return the messages of each stream that has some."""
    there = set(map(_stream_of, found))
    if len(there) == 1:
        return {there.pop(): found}
    return {stream: [message for message in found if message[0] == stream] for stream in STREAMS if stream in there}


class _Newest:
    """The newest messages of one stream: their time, how many have it, and a checksum of those."""

    __slots__ = ("bytes", "checksum", "count", "time")

    def __init__(self) -> None:
        self.time = b""
        self.count = 0
        self.checksum = 0
        self.bytes = 0
        """Of the stream, until now."""

    def add(self, found: list[Message]) -> None:
        """Take further messages of the stream; there is one at least."""
        newest, first = found[-1].time, len(found) - 1
        while first and found[first - 1].time == newest:
            first -= 1
        if first or newest != self.time:
            self.time, self.count, self.checksum = newest, 0, 0
        for _, _, data in found[first:]:
            self.count += 1
            self.checksum = zlib.crc32(data, self.checksum)
        self.bytes += sum(map(len, map(_data_of, found)))


class Position:
    """How far an output has been read."""

    def __init__(self) -> None:
        self.newest = {stream: _Newest() for stream in STREAMS}

    def add(self, found: list[Message]) -> None:
        """Take note of further messages that have been read."""
        for stream, own in _by_stream(found).items():
            self.newest[stream].add(own)

    def bytes(self, stream: Stream) -> int:
        """Return how many bytes of a stream have been read."""
        return self.newest[stream].bytes


class Resumption:
    """Lets through what a new reading has beyond a former one: all messages after the newest that was read.

    The times of one stream's messages do not decrease, unless the node's clock was set back.

    Args:
        position: the former reading's.
    """

    def __init__(self, position: Position) -> None:
        newest = position.newest.items()
        self._awaited = {stream: (one.time, one.count, one.checksum, [0, 0]) for stream, one in newest if one.count}
        self.lost = False
        """The newest message that was read is not there any more: an unknown number is missing after it."""

    @property
    def since(self) -> str:
        """The time from which on the log has to be read, in seconds since the epoch; empty for all of it."""
        oldest = min((awaited[0] for awaited in self._awaited.values()), default=b"")
        at = parse_time(oldest.decode("ascii", "replace")) if oldest else None
        return f"{(at - _SLACK).timestamp():.6f}" if at else ""

    @property
    def found(self) -> bool:
        """Whether the new reading has got beyond what was read before."""
        return not self._awaited

    def after(self, found: list[Message]) -> list[Message]:
        """Return those messages that the former reading did not have.

        Args:
            found: the next messages of the new reading.
        """
        if not self._awaited:
            return found
        return [message for message in found if self._is_new(message)]

    def _is_new(self, message: Message) -> bool:
        stream = message.stream
        if stream not in self._awaited:
            return True
        time, count, checksum, seen = self._awaited[stream]
        if message.time < time:
            return False
        if message.time > time:
            self.lost = True
            del self._awaited[stream]
            return True
        seen[0] += 1
        seen[1] = zlib.crc32(message.data, seen[1])
        if seen[0] == count:
            self.lost = self.lost or seen[1] != checksum
            del self._awaited[stream]
        return False


class Tally:
    """Takes a container's messages in their order.

    Args:
        cap: bytes kept of each stream.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.messages = 0
        self.pieces = 0
        """Messages without a line end."""
        self.replaced = False
        """Whether U+FFFD is in it."""
        self.lost = False
        """Whether an unknown number of bytes is missing; see ``lose``."""
        self._kept = {stream: HeadTail(stream, cap, pieces=SpilledPieces) for stream in STREAMS}
        self._digests = {stream: hashlib.sha256() for stream in STREAMS}

    def add(self, found: list[Message]) -> None:
        """Take further messages."""
        for stream, own in _by_stream(found).items():
            texts = list(map(_data_of, own))
            whole = b"".join(texts)
            self._digests[stream].update(whole)
            self.replaced = self.replaced or _REPLACEMENT in whole
            self.pieces += len(texts) - [text[-1:] for text in texts].count(b"\n")
            # Both streams' messages are numbered together.
            places: Iterable[int] = range(self.messages, self.messages + len(found))
            if own is not found:
                places = [place for place, one in zip(places, found, strict=True) if one[0] == stream]
            self._kept[stream].add_all(list(zip(places, map(_time_of, own), texts, strict=True)))
        self.messages += len(found)

    def lose(self, *, only_head: bool = False) -> None:
        """Take note that messages are missing before the next one, of an unknown number.

        Args:
            only_head: of what was taken keep the first half of the cap alone, so that they are missing behind that.
        """
        self.lost = True
        for kept in self._kept.values():
            kept.lose(only_head=only_head)

    def bytes(self, stream: Stream) -> int:
        """Return how many bytes of a stream were taken."""
        return self._kept[stream].total

    @property
    def total(self) -> int:
        """Bytes of both streams."""
        return sum(kept.total for kept in self._kept.values())

    @property
    def size(self) -> LogSize:
        """How much was taken."""
        return LogSize(self.total, self.messages, self.pieces)

    def digest(self, stream: Stream) -> str:
        """Return the SHA-256 of all bytes of a stream, in hexadecimal digits."""
        return self._digests[stream].hexdigest()

    def same_as(self, other: Tally) -> bool:
        """Return whether another reading gave the very same bytes."""
        return all(self.digest(stream) == other.digest(stream) for stream in STREAMS)

    @property
    def cut(self) -> dict[Stream, int]:
        """Stream -> bytes that were taken and not kept, where there are any."""
        return {stream: kept.missing for stream, kept in self._kept.items() if kept.missing}

    def kept(self) -> Kept:
        """Return what is kept of both streams, in the engine's order."""
        return together(self._kept.values())

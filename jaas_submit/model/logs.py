"""PURE: the captured output of one attempt, as the ledger stores it and users read it."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BeforeValidator

from jaas_submit.model.bounds import shown
from jaas_submit.model.states import read_as

__all__ = ["LogLine", "LogStatus", "Logs", "StoredLogStatus"]


class LogStatus(StrEnum):
    """How complete the captured output is."""

    COMPLETE = "complete"  # every byte
    TRUNCATED = "truncated"  # more than the cap: head and tail were kept, the cut is marked
    UNAVAILABLE = "unavailable"  # the engine did not return it in time; it may be empty


# A newer version may have written it: an unknown word is kept.
StoredLogStatus = Annotated[LogStatus, BeforeValidator(partial(read_as, LogStatus))]


_MOST_UNPACKED: Final = 256 * 1024 * 1024
"""Bytes of a log: JAAS_LOG_LIMIT is 64 MiB at most, and JSON writes some characters as six."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


class LogLine(NamedTuple):
    """A piece of output, usually one line with its line end."""

    time: str
    """When the engine read it: RFC 3339 with nanoseconds, by the node's clock; empty for a mark of jaas."""
    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True)
class Logs:
    """The captured output of one attempt.

    Args:
        lines: pieces in the engine's order.
        status: whether it is complete.
        reason: why it is incomplete, for people; empty if complete.
    """

    lines: tuple[LogLine, ...] = ()
    status: LogStatus = LogStatus.COMPLETE
    reason: str = ""

    @property
    def stdout(self) -> str:
        """Standard output as one text."""
        return "".join(line.text for line in self.lines if line.stream == "stdout")

    @property
    def stderr(self) -> str:
        """Standard error as one text."""
        return "".join(line.text for line in self.lines if line.stream == "stderr")

    @property
    def text(self) -> str:
        """Both streams as one text, in order."""
        return "".join(line.text for line in self.lines)

    def tail(self, count: int) -> str:
        """Return the last lines of both streams.

        Args:
            count: how many at most.
        """
        lines = self.text.splitlines(keepends=True)
        return "".join(lines[max(len(lines) - count, 0) :])

    def pack(self) -> bytes:
        """Return the compressed form that the ledger stores."""
        data = {"status": self.status, "reason": self.reason, "lines": self.lines}
        return zlib.compress(json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass"), 1)

    @classmethod
    def unpack(cls, data: bytes) -> Logs:
        """Return what ``pack`` packed.

        Args:
            data: the packed form.

        Raises:
            ValueError: it is invalid, or has more than 256 MiB.
        """
        try:
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(data, _MOST_UNPACKED)
            raw = json.loads(text if unpacker.eof else b"")  # otherwise it is cut off, or too large
            lines = tuple(LogLine(_text(time), stream, _text(piece)) for time, stream, piece, *_ in raw["lines"])
            return cls(lines, read_as(LogStatus, _text(raw["status"])), _text(raw["reason"]))
        except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it is no log of jaas: {shown(str(error))}") from None

    def __str__(self) -> str:
        return self.text

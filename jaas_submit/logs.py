"""PURE: the captured output of one attempt, as the ledger stores it and users read it."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator

from jaas_submit.states import read_as

__all__ = ["LogLine", "LogStatus", "Logs", "StoredLogStatus"]


class LogStatus(StrEnum):
    """How much of a container's output was kept."""

    COMPLETE = "complete"  # every byte
    TRUNCATED = "truncated"  # more than the cap: head and tail were kept, the cut is marked
    UNAVAILABLE = "unavailable"  # the engine did not hand it out in time; what is there may be nothing


# A newer version may have written it: a word that is not known is taken as it is.
StoredLogStatus = Annotated[LogStatus, BeforeValidator(partial(read_as, LogStatus))]


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
        lines: pieces in the order in which the engine handed them out.
        status: whether that is all there was.
        reason: why it is not all, for people; empty when complete.
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
        """Return what ``pack`` packed."""
        raw = json.loads(zlib.decompress(data))
        return cls(tuple(LogLine(*line[:3]) for line in raw["lines"]), read_as(LogStatus, raw["status"]), raw["reason"])

    def __str__(self) -> str:
        return self.text

"""PURE: what is found while a job's output is followed."""

from __future__ import annotations

from typing import NamedTuple

from jaas_submit.model.logs import Stream
from jaas_submit.model.records import JobRecord
from jaas_submit.output import Piece

__all__ = ["AttemptBegins", "AttemptEnds", "Event", "Missing", "NotLive", "Output"]


class Missing(NamedTuple):
    """Bytes of one stream that cannot be shown."""

    stream: Stream
    missing: int
    """How many bytes; 0 where that is not known."""
    reason: str
    behind: bool = False
    """They were there, and the reader fell behind."""

    def and_then(self, other: Missing) -> Missing:
        """Return these bytes and those of the same stream that follow them as one.

        Args:
            other: what follows.
        """
        count = self.missing + other.missing if self.missing and other.missing else 0
        reasons = dict.fromkeys((*self.reason.split("; "), other.reason))
        return Missing(self.stream, count, "; ".join(reasons), behind=self.behind or other.behind)

    def __str__(self) -> str:
        count = f"{self.missing:,} bytes" if self.missing else "an unknown number of bytes"
        return f"{count} of {self.stream} are missing: {self.reason}"


class AttemptBegins(NamedTuple):
    """The output of another attempt follows."""

    attempt: int


class AttemptEnds(NamedTuple):
    """All of an attempt's output has been read."""

    attempt: int
    status: str
    """``complete``, or why not in one word."""
    reason: str
    notices: tuple[str, ...] = ()
    """What jaas has to say, such as why it stopped the container; only where the output came from the ledger."""


class NotLive(NamedTuple):
    """The output can only be shown when the attempt has ended."""

    reason: str


Output = Piece | Missing | AttemptBegins | AttemptEnds | NotLive
"""What is found of the output."""

Event = Output | JobRecord
"""What is found while a job's output is followed; a record whenever state or detail has changed."""

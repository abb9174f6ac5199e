"""PURE: pieces of a container's output, and what is said of the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from jaas_submit.model.logs import Stream

__all__ = ["READING", "FeedEnd", "Gap", "Piece", "Wanted", "WholeOutput"]


READING: Final = "reading"
"""Status of an output that an agent has not read to its end yet, though its container has exited."""


class Piece(NamedTuple):
    """Some bytes of one stream, in the order in which the container wrote them."""

    stream: Stream
    offset: int
    """Bytes of that stream before this piece."""
    time: str
    """When the engine read it: RFC 3339 with nanoseconds, by the node's clock."""
    data: bytes


class Gap(NamedTuple):
    """Bytes of one stream that are missing from a feed, and why."""

    stream: Stream
    offset: int
    """Bytes of that stream before the gap."""
    missing: int
    """How many bytes are missing."""
    reason: str


class Wanted(NamedTuple):
    """A feed that somebody watches."""

    feed: str
    """The feed's id."""
    attempt: int
    """Which attempt's output it has."""
    since: str
    """Only output from this time on, RFC 3339; empty for all of it."""
    tail: int | None
    """Only so many of the lines that are there already, and all new ones; None for all of them."""
    stdout: int = 0
    """Bytes of stdout up to which the feed has been written: a writer goes on there. Repeated bytes are ignored."""
    stderr: int = 0
    """The same of stderr."""


@dataclass(frozen=True, slots=True)
class FeedEnd:
    """The end of a feed: what its writer says of the output.

    Args:
        status: ``complete`` when every byte was written to the feed; else ``truncated``, ``partial`` or
            ``unavailable``.
        reason: why it is not complete, for people.
        stdout: bytes that the container wrote to stdout.
        stderr: bytes that the container wrote to stderr.
    """

    status: str = "complete"
    reason: str = ""
    stdout: int = 0
    stderr: int = 0


@dataclass(frozen=True, slots=True)
class WholeOutput:
    """What an agent found of a container that has exited.

    Args:
        container_id: the container.
        status: ``complete | truncated | partial | unavailable``; ``reading`` until then.
        reason: why it is not complete, for people.
        logs: head and tail as ``Logs.pack`` packs them; empty where there are none.
        stdout: bytes that the container wrote to stdout.
        stderr: bytes that the container wrote to stderr.
        stdout_sha256: digest of all of stdout, in hexadecimal digits; empty where it is not known.
        stderr_sha256: the same of stderr.
        oom_killed: whether it, or a process in it, was killed for its memory; None where that is not known.
        started_at: when the container started, RFC 3339; empty where it is not known.
        finished_at: when it ended.
        usage: what it used, as ``jaas_submit.model.usage.used.Used`` takes it; None where it was not measured.
        heard: for exit code 137, whether the engine told the agent of the exit when it happened.
        scrubbed: the agent has looked for the values of the job's secret variables in all that it read, and replaced
            them.
    """

    container_id: str
    status: str
    reason: str = ""
    logs: bytes = b""
    stdout: int = 0
    stderr: int = 0
    stdout_sha256: str = ""
    stderr_sha256: str = ""
    oom_killed: bool | None = None
    started_at: str = ""
    finished_at: str = ""
    usage: Mapping[str, Any] | None = field(default=None)
    heard: bool | None = None
    scrubbed: bool = False

"""PURE: how long an agent waits for what."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["TIMING", "Timing"]


class Timing(NamedTuple):
    """Pauses of an agent, in seconds, and how much it reads."""

    engine_retry: float = 1.0
    """Until an engine that does not answer is asked again."""
    redis_retry: float = 0.5
    """Until a Redis that does not answer is asked again."""
    lease: float = 6.0
    """Between two renewals of the node's lease."""
    watches: float = 5.0
    """Between two questions for feeds whose notice was missed."""
    exit_report: float = 0.5
    """To wait for the event of an exit that is known already."""
    output_retries: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)
    """Until a container's output that broke off is read again; the last one is repeated."""
    silence: float = 1.0
    """For which the output of an exited container may pause before its connection is given up. An engine has been seen
    not to end it after it rotated the log (moby #39235); the rest is read without following. For as long a feed waits
    for more of the lines that are there already, where it is not known how many these are."""
    feed: float = 0.05
    """Between two writes to a feed, so that one write has many lines."""
    events: float = 60.0
    """For which a node's events may be silent. Then they are asked for anew and the containers are listed: a connection
    may be open on which nothing comes any more."""

    facts: float = 15.0
    """Between two looks at the node's images and free disk."""
    slow_read: float = 0.5
    """After a container's exit until its worker is told that its output is still being read."""

    live_rate: float = 2 * 1024 * 1024
    """Up to which a running container's output is read that nobody watches; see ``ReadingPace``."""
    rest: float = 90.0
    """For which the rest of an output is read after the exit; then its end alone. A worker waits some two minutes."""
    last_messages: int = 20_000
    """Of which that end consists, at most."""


TIMING: Final = Timing()

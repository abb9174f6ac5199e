"""PURE: how complete an output is that an agent has read, and what proves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple

from jaas_submit.model.logs import Logs, LogStatus, Stream
from jaas_worker.decisions.secrecy.scrubbing import REPLACED
from jaas_worker.decisions.times import parse_time

__all__ = ["Reading", "after_restart", "began_before", "node_changed_since", "prove"]

_NODE_CHANGED: Final = "its node changed while it ran: its engine may have been restarted, which may lose output"
_RESTARTED: Final = "its engine was restarted while it ran, and may have lost output"


class Reading(NamedTuple):
    """What an agent knows about its reading of an output."""

    total: int = 0
    """Bytes of both streams that were read."""
    cut: Mapping[Stream, int] = {}
    """Stream -> bytes that are not kept, because there were more than the cap."""
    proven: bool = False
    """After the exit the engine's log was read to its end, and has these bytes and no others."""
    lost: bool = False
    """The log no longer had what was to be read next."""
    left_out: bool = False
    """There was no time to read all of it: what is between its beginning and its end is missing."""
    rotated: bool = False
    """So much was written that the engine may have removed the beginning before it was read."""
    replaced: bool = False
    """The driver may have replaced bytes."""
    restarted: bool = False
    """The engine was restarted after the container's start. What went through one that was killed may be lost."""
    unknown_ends: Sequence[Stream] = ()
    """Streams whose last line end the driver may have left out."""
    scrubbed: bool = False
    """Values of secrets were replaced."""
    problem: str = ""
    """Why the reading ended before the end."""


def prove(reading: Reading) -> tuple[LogStatus, str]:
    """Return how complete an output is, and why it is not complete.

    Args:
        reading: what is known.
    """
    if reading.problem and not reading.total:
        return LogStatus.UNAVAILABLE, reading.problem
    why = [f"{count:,} bytes of {stream} cut" for stream, count in reading.cut.items() if count]
    status = LogStatus.TRUNCATED if why else LogStatus.COMPLETE
    partly = {
        f"the end is missing: {reading.problem}": bool(reading.problem),
        "the engine rotated its log before all was read: an unknown number of bytes is missing": reading.lost,
        "there was no time to read what is in between: an unknown number of bytes is missing": reading.left_out,
        "the engine may have removed output before it was read (max-size, max-file)": reading.rotated,
        _RESTARTED: reading.restarted,
        "the driver may have replaced bytes: U+FFFD may stand for any": reading.replaced,
        REPLACED: reading.scrubbed,
        f"a line end may be missing at the end of {' and '.join(reading.unknown_ends)}": bool(reading.unknown_ends),
        "it could not be compared with the engine's log": not (
            reading.proven or why or reading.problem or reading.left_out
        ),
    }
    if any(partly.values()):
        return LogStatus.PARTIAL, ", ".join([*why, *(text for text, holds in partly.items() if holds)])
    return status, ", ".join(why)


def began_before(container: str, engine: str) -> bool:
    """Return whether a container began to run before its engine did, which was therefore restarted.

    Args:
        container: when it started, as the engine says.
        engine: when that began to run, as it says; empty where it is not known.
    """
    began, up = parse_time(container), parse_time(engine)
    return began is not None and up is not None and began < up


def after_restart(logs: Logs) -> Logs:
    """Return the output of an attempt that ended by its engine's restart; it is not known to be all.

    Args:
        logs: what was read.
    """
    return _partial(logs, _RESTARTED)


def node_changed_since(logs: Logs, changed: str, began: datetime | None) -> Logs:
    """Return an output that no agent has proven; where its node has changed meanwhile, it is not known to be all.

    An engine that was killed hands out a log with holes, and does not say so.

    Args:
        logs: what the swarm handed out.
        changed: when the swarm's record of the node changed last, RFC 3339; empty where that is not known.
        began: when its container or its task began; None where that is not known.
    """
    at = parse_time(changed)
    return logs if at is None or began is None or at <= began else _partial(logs, _NODE_CHANGED)


def _partial(logs: Logs, why: str) -> Logs:
    if logs.status not in {LogStatus.COMPLETE, LogStatus.TRUNCATED}:
        return logs
    return replace(logs, status=LogStatus.PARTIAL, reason=", ".join(filter(None, (logs.reason, why))))

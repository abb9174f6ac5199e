"""PURE: compares what was kept, or handed to a follower, of an output with what the job printed.

An engine that is killed may lose any bytes that it has read and not written. What it hands out must be ``partial``.

A container that noted its own end has printed all of its payload. One that was ended has printed the first bytes of
each stream, nobody knows how many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from jaas_submit.model.logs import STREAMS
from tests.faults.history import Event
from tests.faults.payload import Payload, expected

__all__ = ["followed_problem", "kept_problem"]


def kept_problem(payload: Payload, told: Event, *, started: bool, whole: bool, killed: bool = False) -> str:
    """Return what is wrong with what the ledger says of an attempt's output; empty if nothing is.

    Args:
        payload: what the job prints.
        told: of the attempt, from the history.
        started: a container of it noted its start.
        whole: it noted its own end, too.
        killed: its engine was killed meanwhile.
    """
    status = told["status"]
    if not told["kept"]:
        if started and status == "complete" and any(expected(payload).values()):
            return "complete, but nothing is kept"
        return ""
    if told["said"] != status:
        return f"the record says {status}, the output itself {told['said']}"
    if status != "complete" and not told["reason"]:
        return f"{status} without a reason"
    if status == "unavailable" and any(told[stream] for stream in STREAMS):
        return "unavailable, but there is some"
    gaps = [part for stream in STREAMS for part in told[stream] if part[0] == "gap"]
    if (status == "complete" and gaps) or (status == "truncated" and not gaps):
        return f"{status} with the gaps {gaps}"
    if status == "truncated" and not all(exact for _, _, exact in gaps):
        return f"truncated, but what is missing is not counted: {gaps}"
    if killed and status == "partial":
        return ""
    for stream in STREAMS:
        wanted = expected(payload)[stream]
        at, problem = _walk(wanted, told[stream], whole=whole)
        if problem:
            return f"{stream} is {status} ({told['reason']}): {problem}"
        if whole and status in {"complete", "truncated"} and at != len(wanted):
            return f"{stream} is {status}: {at} bytes kept and counted, {len(wanted)} printed"
    return ""


def _walk(wanted: bytes, parts: Sequence[Sequence[Any]], *, whole: bool) -> tuple[int, str]:
    """Return how many bytes the parts have or count, and what is wrong with one of them."""
    at, counted = 0, True
    for part in parts:
        size = part[1]
        if part[0] == "gap":
            counted = counted and part[2]
        elif counted and not _same(wanted[at : at + size], part):
            return at, f"{size} bytes from byte {at} on are not what was printed ({len(wanted)} in all)"
        elif not counted and whole and part is parts[-1] and not _same(wanted[len(wanted) - size :], part):
            return at, f"the last {size} bytes are not the last that were printed"
        at += size
    return at, ""


def _same(data: bytes, part: Sequence[Any]) -> bool:
    return bool(len(data) == part[-2] and hashlib.sha256(data).hexdigest() == part[-1])


def followed_problem(payload: Payload, told: Event, *, whole: bool, killed: bool = False) -> str:
    """Return what is wrong with what a follower got of an attempt; empty if nothing is.

    Args:
        payload: what the job prints.
        told: of the attempt, from the history.
        whole: its container noted its own end.
        killed: its engine was killed meanwhile.
    """
    if killed and told["status"] != "complete":
        return ""
    for stream in STREAMS:
        wanted = expected(payload)[stream]
        at, counted = 0, True
        for part in told[stream]:
            if part[0] == "gap":
                counted = counted and part[1] > 0
                at += part[1]
                continue
            _, offset, size, _ = part
            if counted and offset != at:
                return f"{stream}: byte {offset} came after byte {at}, without a mark"
            if counted and not _same(wanted[at : at + size], part):
                return f"{stream}: {size} bytes from byte {at} on are not what was printed ({len(wanted)} in all)"
            at = offset + size
        if told["status"] != "complete":
            continue
        if not counted:
            return f"{stream}: complete, but what is missing was not counted"
        if whole and at != len(wanted):
            return f"{stream}: complete, but {at} bytes came or were counted, {len(wanted)} printed"
    if told["status"] in {"partial", "unavailable"} and not told["reason"]:
        return f"{told['status']} without a reason"
    return ""

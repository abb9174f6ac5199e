"""PURE: how a job's record says that it waits for others to end (the policy's rule ``in_flight``)."""

from __future__ import annotations

from typing import Final

__all__ = ["place_wait_detail", "place_wait_pause", "waits_for_place"]

_BEGIN: Final = "waits: "
_END: Final = "(policy rule in_flight)"

_LEAST_S: Final = 3.0
_MORE_S: Final = 5.0


def place_wait_detail(name: str, most: int) -> str:
    """Return what the record of a job says while it waits.

    Args:
        name: of the limit that is reached: ``all``, ``queue:NAME`` or ``tenant:NAME``.
        most: how many jobs it allows.
    """
    kind, _, who = name.partition(":")
    whose = f" of {kind} {who}" if who else ""
    return f"{_BEGIN}{most} jobs{whose} are in flight, and no more may be; it goes on when one of them ends {_END}"


def waits_for_place(detail: str) -> bool:
    """Return whether a job's former holder left it because of the rule, before it asked for a service.

    Args:
        detail: of the record.
    """
    return detail.startswith(_BEGIN) and detail.endswith(_END)


def place_wait_pause(chance: float) -> float:
    """Return after how many seconds a worker asks again, so that not all jobs are asked for at the same moment.

    Args:
        chance: a random number from 0 to 1.
    """
    return _LEAST_S + _MORE_S * chance

"""PURE: what happens to a new job whose singleton key another job has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["OnConflict", "SingletonStep", "singleton_step"]

OnConflict = Literal["wait", "replace", "join"]
"""What a producer wants: the new job waits for the other one; it takes the other one's place; or it is not submitted,
and the producer gets the other one."""


@dataclass(frozen=True, slots=True)
class SingletonStep:
    """What to do with the new job."""

    submit: bool
    """Whether the new job is written."""
    give_back: str = ""
    """Id of the job that the producer gets instead."""
    cancel: tuple[str, ...] = ()
    """Ids of the jobs to be cancelled, in the same script that writes the new one. The new job starts when the active
    one has ended, never beside it."""


def singleton_step(on_conflict: OnConflict, active: str, waiting: Sequence[str]) -> SingletonStep:
    """Return what to do with a new job that has a singleton key.

    Args:
        on_conflict: what the producer wants.
        active: id of the job in flight with that key; empty where there is none.
        waiting: ids of the jobs with that key that wait, in their order.
    """
    others = ((active,) if active else ()) + tuple(waiting)
    if not others or on_conflict == "wait":
        return SingletonStep(submit=True)
    if on_conflict == "join":
        return SingletonStep(submit=False, give_back=others[0])
    return SingletonStep(submit=True, cancel=others)

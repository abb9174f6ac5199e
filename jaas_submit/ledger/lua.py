"""The Lua scripts: their text, as Redis gets it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final

from jaas_submit.model.states import TERMINAL, JobState

__all__ = ["SHARED", "needed_by", "source", "states"]

SHARED: Final = ("head", "jobs", "batches", "copies", "dependents")
"""The files in ``scripts/shared``, in the order in which they build on each other."""

_NEEDS: Final = "-- Needs: shared/"


def states() -> str:
    """Return the lists of states that the scripts know, from ``jaas_submit.model.states``."""
    names = ", ".join(f"'{state}'" for state in JobState)
    return (
        f"local STATES = {{{names}}}\n"
        f"local ENDED = {_set(state for state in JobState if state in TERMINAL)}\n"
        f"local OPEN = {_set(state for state in JobState if state not in TERMINAL)}\n"
    )


@cache
def source(name: str) -> str:
    """Return the whole text of a script: the states, the shared functions, and its own text.

    Args:
        name: its path in ``scripts``, without ``.lua``: ``ownership/claim``.
    """
    return states() + "".join(_read(part) for part in [*needed_by(name), name])


def needed_by(name: str) -> list[str]:
    """Return the shared files that a script begins with: the one that its head says it needs, and those before it.

    Redis runs all of it at each call, so a script includes only what it needs.
    """
    said = [line.removeprefix(_NEEDS) for line in _read(name).splitlines() if line.startswith(_NEEDS)]
    if len(said) != 1:
        raise ValueError(f"{name}.lua does not say what it needs")
    return [f"shared/{part}" for part in SHARED[: SHARED.index(said[0]) + 1]]


@cache
def _read(name: str) -> str:
    return files("jaas_submit.ledger").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")


def _set(members: Iterable[JobState]) -> str:
    return f"{{{', '.join(f'{state} = true' for state in members)}}}"

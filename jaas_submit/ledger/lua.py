"""The Lua scripts: their text, as Redis gets it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from jaas_submit.connection.scripts import ScriptFolder
from jaas_submit.model.states import TERMINAL, JobState

__all__ = ["SHARED", "needed_by", "source", "states"]

SHARED: Final = ("head", "jobs", "kept", "batches", "copies", "dependents")
"""The files in ``scripts/shared``, in the order in which they build on each other."""

_FOLDER: Final = ScriptFolder("jaas_submit.ledger", SHARED)


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
    return states() + _FOLDER.source(name)


needed_by = _FOLDER.needed_by


def _set(members: Iterable[JobState]) -> str:
    return f"{{{', '.join(f'{state} = true' for state in members)}}}"

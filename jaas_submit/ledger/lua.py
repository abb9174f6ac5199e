"""The Lua scripts: their text, as Redis gets it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final

from jaas_submit.states import TERMINAL, JobState

__all__ = ["SHARED", "source", "states"]

SHARED: Final = ("head", "jobs", "batches", "copies", "dependents")
"""The files in ``scripts/shared`` that every script begins with, in this order."""


def states() -> str:
    """Return the lists of states that the scripts know, from ``jaas_submit.states``."""
    names = ", ".join(f"'{state}'" for state in JobState)
    return (
        f"local STATES = {{{names}}}\n"
        f"local ENDED = {_set(state for state in JobState if state in TERMINAL)}\n"
        f"local OPEN = {_set(state for state in JobState if state not in TERMINAL)}\n"
    )


@cache
def source(name: str) -> str:
    """Return the whole text of a script.

    Args:
        name: its path in ``scripts``, without ``.lua``: ``ownership/claim``.
    """
    return states() + "".join(_read(part) for part in [*(f"shared/{part}" for part in SHARED), name])


@cache
def _read(name: str) -> str:
    return files("jaas_submit.ledger").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")


def _set(members: Iterable[JobState]) -> str:
    return f"{{{', '.join(f'{state} = true' for state in members)}}}"

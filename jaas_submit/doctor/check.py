"""What a check of `jaas doctor` found, and what to do about it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["Check", "Verdict"]


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARN = "warn"  # works, but something should be changed
    FAIL = "FAIL"  # jobs cannot run, or can be lost
    SKIP = "skip"  # was not checked


class Check(NamedTuple):
    """One line of the doctor's answer."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""
    """What to do about it, in one sentence; empty if there is no problem."""

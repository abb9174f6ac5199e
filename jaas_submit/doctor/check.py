"""What a check of `jaas doctor` found, and what to do about it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["Check", "Verdict"]


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARN = "warn"  # works, but something is not as it should be
    FAIL = "FAIL"  # jobs cannot run, or can get lost
    SKIP = "skip"  # was not looked at


class Check(NamedTuple):
    """One line of the doctor's answer."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""
    """What to do about it, in one sentence; empty when all is well."""

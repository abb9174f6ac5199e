"""PURE: what was measured of jobs that have run: their run times, and how earlier promises were kept."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

__all__ = ["ENOUGH_PROMISES", "History", "Promise", "kind_of"]

ENOUGH_PROMISES: Final = 50
"""With fewer promises of a queue that have come true or not, they correct nothing."""

_DEFAULT_RUN_S: Final = 60.0
"""Run time of a job about which nothing is known, in seconds."""

_SHORTEST_S: Final = 1.0
"""Promises of less count as one second when they are compared with what came."""


def kind_of(image: str, label: str = "") -> str:
    """Return the kind of a job, by which its run time is measured.

    Args:
        image: its image, as its description says.
        label: the value of the label that tells such jobs apart; empty where there is none.
    """
    return f"{image} {label}" if label else image


@dataclass(frozen=True, slots=True)
class Promise:
    """What was said about a job when it was asked, and what came. Waits are in seconds from the question."""

    p50: float
    """As the model said, without a correction by earlier promises."""
    p90: float
    actual: float


@dataclass(frozen=True, slots=True)
class History:
    """What was measured.

    Args:
        run_times: kind -> seconds of the newest few hundred jobs of it, sorted. Kinds of an image without a label, and
            ``""`` for all jobs, stand in where a kind is missing.
        promises: queue -> the newest few hundred promises.
    """

    run_times: Mapping[str, Sequence[float]] = field(default_factory=dict)
    promises: Mapping[str, Sequence[Promise]] = field(default_factory=dict)

    def samples(self, kind: str) -> Sequence[float]:
        """Return the run times of a kind, else of its image, else of all jobs; empty where nothing was measured."""
        return self.run_times.get(kind) or self.run_times.get(kind.partition(" ")[0]) or self.run_times.get("") or ()

    def quantile(self, kind: str, part: float) -> float:
        """Return the seconds that this part of the jobs of a kind run at most.

        Args:
            kind: as ``kind_of`` makes it.
            part: between 0 and 1, such as 0.9.
        """
        found = self.samples(kind)
        return _quantile(found, part) if found else _DEFAULT_RUN_S

    def draw(self, kind: str, run_already: float, random: Random) -> float:
        """Return for how many seconds a job may go on, by chance.

        Args:
            kind: its kind.
            run_already: for how many seconds it has run; 0 for one that starts.
            random: where chance comes from.
        """
        found = self.samples(kind)
        if not found:
            return _DEFAULT_RUN_S
        first = bisect_right(found, run_already) if run_already > 0 else 0
        if first < len(found):
            return found[random.randrange(first, len(found))] - run_already
        return run_already * random.random()  # it runs longer than any before: as long again, at most

    def corrected(self, queue: str, p50: float, p90: float) -> tuple[float, float]:
        """Return two waits as earlier promises of a queue correct them.

        If one in five of the waits was longer than the promised p90, p90 is raised by as much as would have held for
        nine in ten of them.

        Args:
            queue: whose promises.
            p50: in seconds, as the model says.
            p90: the same.
        """
        found = self.promises.get(queue, ())
        if len(found) < ENOUGH_PROMISES:
            return p50, p90
        half = _quantile(sorted(one.actual / max(one.p50, _SHORTEST_S) for one in found), 0.5)
        most = _quantile(sorted(one.actual / max(one.p90, _SHORTEST_S) for one in found), 0.9)
        corrected = max(p90, _SHORTEST_S) * most
        return min(max(p50, _SHORTEST_S) * half, corrected), corrected


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Return the smallest of the numbers that a part of all, and of one more to come, does not exceed."""
    return ordered[min(max(math.ceil(part * (len(ordered) + 1)) - 1, 0), len(ordered) - 1)]

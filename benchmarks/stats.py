"""PURE: medians, percentiles, ratios within a round, and the order of the rounds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Samples", "interleave", "percentile", "ratios", "turns"]

Samples = dict[str, dict[str, list[float]]]
"""Contestant -> figure -> one value for each round."""


def percentile(values: Sequence[float], per_cent: float) -> float:
    """Return a percentile by linear interpolation between the two closest ranks.

    Args:
        values: in any order; at least one.
        per_cent: 0 to 100; 50 is the median.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a percentile of nothing")
    if per_cent == 50:
        return statistics.median(values)
    ordered = sorted(values)
    rank = (len(ordered) - 1) * per_cent / 100
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratio of each round: what slows a round down slows both down.

    Args:
        numerators: one value for each round.
        denominators: of the same rounds; none is zero.
    """
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def turns(names: Sequence[str], round_number: int) -> list[str]:
    """Return the order of a round: each contestant is first in turn, so that none always follows the same one."""
    if not names:
        return []
    first = round_number % len(names)
    return [*names[first:], *names[:first]]


def interleave(
    contestants: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int, tell: Callable[[str], None] = print
) -> Samples:
    """Measure all contestants in turns.

    Args:
        contestants: name -> a measurement, which returns figure -> value.
        rounds: how often each is measured.
        tell: is told what came of each measurement.

    Returns:
        The values, one for each round.
    """
    samples: Samples = {name: defaultdict(list) for name in contestants}
    for number in range(rounds):
        for name in turns(list(contestants), number):
            measured = contestants[name]()
            tell(f"{name}: " + ", ".join(f"{figure} {value:.4g}" for figure, value in measured.items()))
            for figure, value in measured.items():
                samples[name][figure].append(value)
    return {name: dict(figures) for name, figures in samples.items()}

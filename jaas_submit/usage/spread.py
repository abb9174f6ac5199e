"""PURE: how numbers are spread, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

__all__ = ["ERROR", "Spread"]

ERROR: Final = 0.02
"""Relative error of a quantile, at most."""

_STEP: Final = math.log((1 + ERROR) / (1 - ERROR))
"""Width of a class of numbers, as a logarithm: 1,600 classes go from a millionth to 2**63."""

_SMALLEST: Final = 1e-6
"""Smaller numbers count as 0."""


class Spread:
    """Counts numbers in classes, each a little wider than the one below."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.highest: float | None = None
        self._classes: Counter[int] = Counter()

    @property
    def classes(self) -> int:
        """How many classes there are: this is what it needs in memory."""
        return len(self._classes)

    def add(self, number: float | None) -> None:
        """Count a number.

        Args:
            number: 0 or more; None is not counted.
        """
        if number is None:
            return
        self.count += 1
        self.total += number
        self.highest = number if self.highest is None else max(self.highest, number)
        self._classes[_class(number)] += 1

    def at(self, part: float) -> float | None:
        """Return the number that this part of all numbers does not exceed; None where there are none.

        Args:
            part: between 0 and 1, such as 0.95.
        """
        if self.highest is None:
            return None
        wanted, passed = max(math.ceil(part * self.count), 1), 0
        for number, count in sorted(self._classes.items()):
            passed += count
            if passed >= wanted:
                return min(_middle(number), self.highest)
        return self.highest


_ZERO: Final = -10_000


def _class(number: float) -> int:
    return _ZERO if number < _SMALLEST else math.ceil(math.log(number) / _STEP)


def _middle(number: int) -> float:
    return 0.0 if number == _ZERO else math.exp(number * _STEP) * (1 - ERROR)

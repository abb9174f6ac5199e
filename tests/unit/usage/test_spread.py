"""Quantiles in bounded memory."""

from __future__ import annotations

import math
import random

import pytest

from jaas_submit.usage.spread import ERROR, Spread


def spread(*numbers: float | None) -> Spread:
    made = Spread()
    for number in numbers:
        made.add(number)
    return made


def test_without_numbers_there_is_none() -> None:
    assert spread(None).at(0.5) is None
    assert (spread().count, spread().highest, spread().total) == (0, None, 0)


@pytest.mark.parametrize(
    ("numbers", "part", "value"),
    [
        ((0, 0, 0), 0.95, 0),
        ((5,), 0.5, 5),
        ((1, 2, 3, 4), 0.5, 2),
        ((1, 2, 3, 4), 0.75, 3),
        ((0, 100), 0.5, 0),
        ((0, 100), 0.51, 100),
        ((2**62,), 0.95, 2**62),
        ((1e-5,), 0.95, 1e-5),
    ],
)
def test_a_quantile_is_right_within_the_error(numbers: tuple[float, ...], part: float, value: float) -> None:
    assert spread(*numbers).at(part) == pytest.approx(value, rel=1.01 * ERROR)


def test_many_numbers_need_few_classes() -> None:
    chance = random.Random(4)
    numbers = [math.exp(chance.uniform(-10, 40)) for _ in range(20_000)]
    made = spread(*numbers)
    ordered = sorted(numbers)
    for part in (0.05, 0.5, 0.95, 1.0):
        assert made.at(part) == pytest.approx(ordered[math.ceil(part * len(ordered)) - 1], rel=1.01 * ERROR)
    assert made.total == pytest.approx(sum(numbers))
    assert made.classes < 1700

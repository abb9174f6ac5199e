"""What is kept of a container's samples."""

from __future__ import annotations

from itertools import pairwise

import pytest

from jaas_submit.model.usage import MOST_POINTS
from jaas_submit.model.usage.used import Used
from jaas_worker.agent.usage.counters import Counters
from jaas_worker.agent.usage.tally import UsageTally, pause


def test_without_a_sample_nothing_is_said() -> None:
    tally = UsageTally()
    assert tally.used(100.0) is None
    tally.add(1.0, Counters())  # the engine's answer for a container that has ended
    assert tally.used(100.0) is None


def test_the_last_sample_counts_and_has_its_age() -> None:
    tally = UsageTally()
    tally.add(100.0, Counters(0.5, 10, 30, 1, 2, 3, 4))
    tally.add(101.0, Counters(1.5, 20, 30, 5, 6, 7, 8))
    used = Used.model_validate(tally.used(101.25))
    assert used == Used(
        cpu_seconds=1.5,
        peak_memory=30,
        read_bytes=5,
        written_bytes=6,
        received_bytes=7,
        sent_bytes=8,
        sample_age=0.25,
    )


def test_without_an_end_the_age_is_not_known() -> None:
    tally = UsageTally()
    tally.add(100.0, Counters(0.5))
    assert Used.model_validate(tally.used(None)) == Used(cpu_seconds=0.5)


def test_a_sample_after_the_end_has_no_age() -> None:
    tally = UsageTally()
    tally.add(100.0, Counters(0.5))
    assert Used.model_validate(tally.used(99.9)).sample_age == 0


def test_what_the_last_sample_lacks_stays_as_it_was() -> None:
    tally = UsageTally()
    tally.add(100.0, Counters(0.5, 10, None, 1, 2, 3, 4))
    tally.add(101.0, Counters(1.5, 5, None, received_bytes=9))
    used = Used.model_validate(tally.used(101.0))
    assert (used.cpu_seconds, used.read_bytes, used.received_bytes, used.sent_bytes) == (1.5, 1, 9, 4)


@pytest.mark.parametrize(
    ("samples", "peak"),
    [
        ([(10, None), (40, None), (20, None)], 40),  # cgroup version 2 before Linux 5.19: the highest sample
        ([(10, 50), (40, 60)], 60),
        ([(None, None)], None),
    ],
)
def test_the_peak_is_the_kernels_or_else_the_highest_sample(
    samples: list[tuple[int | None, int | None]], peak: int | None
) -> None:
    tally = UsageTally()
    for at, (memory, highest) in enumerate(samples):
        tally.add(float(at), Counters(1.0, memory, highest))
    assert Used.model_validate(tally.used(9.0)).peak_memory == peak


@pytest.mark.parametrize("seconds", [3, 58, 59, 60, 61, 200, 10_000])
def test_a_series_is_bounded_even_and_ends_with_the_last_sample(seconds: int) -> None:
    tally = UsageTally()
    for at in range(seconds + 1):
        tally.add(1000.0 + at, Counters(at / 2, at))
    series = Used.model_validate(tally.used(1000.0 + seconds)).series
    assert 3 <= len(series) <= MOST_POINTS
    assert series[0] == (0, 0, 0)
    assert series[-1] == (seconds, seconds / 2, seconds)
    steps = {after.seconds - before.seconds for before, after in pairwise(series[:-1])}
    assert len(steps) == 1
    assert len(series) > min(seconds, MOST_POINTS // 2 - 1)


def test_a_short_run_has_no_series() -> None:
    tally = UsageTally()
    for at in range(5):
        tally.add(1000.0 + at / 10, Counters(1.0, 5))
    assert Used.model_validate(tally.used(1000.5)).series == ()


@pytest.mark.parametrize(("age", "seconds"), [(0, 0.1), (1, 0.1), (50, 2.0), (1e6, 5.0)])
def test_samples_become_sparser(age: float, seconds: float) -> None:
    assert pause(age) == seconds

"""How much output is read while its container runs and nobody waits for it."""

from __future__ import annotations

import pytest

from jaas_worker.agent.reading_pace import ReadingPace

KIB = 1024


@pytest.mark.parametrize(
    ("reads", "exceeded"),
    [
        pytest.param([(0.0, 1, KIB)], [False], id="what most containers print is read as it comes"),
        pytest.param([(0.0, 2, 0), (0.0, 1, 0)], [False, True], id="two seconds' worth may come at once"),
        pytest.param([(0.0, 2, 0), (1.0, 1, 0)], [False, False], id="a second later there is room again"),
        pytest.param([(0.0, 1, 3 * KIB)], [True], id="bytes count, too"),
        pytest.param([(0.0, 2, 0), (100.0, 2, 0), (100.0, 1, 0)], [False, False, True], id="room is not saved up"),
    ],
)
def test_a_container_prints_too_fast_above_the_rate(reads: list[tuple[float, int, int]], exceeded: list[bool]) -> None:
    pace = ReadingPace(KIB, 10.0)
    assert [pace.exceeded(count, size, 10.0 + at) for at, count, size in reads] == exceeded

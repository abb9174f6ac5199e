"""How fast output is read that nobody waits for."""

from __future__ import annotations

import pytest

from jaas_worker.agent.reading_pace import ReadingPace

KIB = 1024


@pytest.mark.parametrize(
    ("reads", "pauses"),
    [
        pytest.param([(0.0, 1, KIB)], [0.0], id="what most containers print is read as it comes"),
        pytest.param([(0.0, 2, 0), (0.0, 1, 0)], [0.0, 1.0], id="a burst is two seconds' worth; then it waits"),
        pytest.param([(0.0, 2, 0), (1.0, 1, 0)], [0.0, 0.0], id="a second later there is room again"),
        pytest.param([(0.0, 1, 3 * KIB)], [2.0], id="bytes count, too"),
        pytest.param([(0.0, 2, 0), (100.0, 2, 0), (100.0, 2, 0)], [0.0, 0.0, 2.0], id="room is not saved up"),
        pytest.param([(0.0, 4, 0), (1.0, 0, 0)], [2.0, 1.0], id="who has waited for less than that waits on"),
    ],
)
def test_a_reader_waits_until_it_is_within_its_rate(reads: list[tuple[float, int, int]], pauses: list[float]) -> None:
    pace = ReadingPace(KIB, 10.0)
    assert [pace.pause(count, size, 10.0 + at) for at, count, size in reads] == pytest.approx(pauses)

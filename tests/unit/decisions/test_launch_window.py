"""The launch window, against a cluster whose starts get slower the more of them there are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_worker.decisions.launch_window import LaunchWindow

MEASURED = ((1, 1.7), (4, 3.7), (10, 4.8), (40, 3.4), (400, 3.0))
"""Starts at once on one node of 2 cores -> starts a second."""


def rate(starting: float) -> float:
    """Return the starts a second of one node."""
    if starting <= 1:
        return 1.7 * starting
    for (low, slow), (high, fast) in itertools.pairwise(MEASURED):
        if starting <= high:
            return slow + (fast - slow) * (starting - low) / (high - low)
    return MEASURED[-1][1]


def settle(window: LaunchWindow, starts: int, nodes: int = 1, others: int = 0, waiting: int = 10_000) -> list[int]:
    """Let starts go through a window; return its size after each.

    Args:
        others: starts of other workers that are under way all the time.
        waiting: jobs that could be starting, if the window let them.
    """
    sizes = []
    for _ in range(starts):
        starting = min(window.size, waiting)
        on_a_node = (starting + others) / nodes
        window.started(on_a_node / rate(on_a_node), starting)
        sizes.append(window.size)
    return sizes


def test_alone_it_begins_near_to_what_a_node_takes() -> None:
    assert LaunchWindow().size == 8


@pytest.mark.parametrize("nodes", [1, 3, 100])
def test_it_finds_the_best_rate_from_both_sides(nodes: int) -> None:
    for first in (1, 40):
        window = LaunchWindow(first=first)
        window.share(nodes, 1)
        settle(window, 1, nodes, waiting=1)  # one alone: what a start costs
        size = settle(window, 3000 * nodes, nodes)[-1]
        assert rate(size / nodes) >= 0.95 * 4.8, f"{size} on {nodes} nodes from {first}"


def test_it_stays_there() -> None:
    window = LaunchWindow()
    settle(window, 1, waiting=1)
    assert {rate(size) >= 0.9 * 4.8 for size in settle(window, 2000)[500:]} == {True}


def test_a_window_that_is_never_full_does_not_grow() -> None:
    assert set(settle(LaunchWindow(), 500, waiting=3)) == {8}


def test_workers_divide_the_nodes() -> None:
    window = LaunchWindow()
    window.share(3, 2)
    assert window.size == 12
    window.share(3, 12)
    assert window.size == 2
    window.share(0, 1)  # nothing is known of the cluster for now
    assert window.size == 2


def test_the_window_shrinks_when_another_worker_starts_jobs() -> None:
    window = LaunchWindow()
    window.share(1, 2)
    settle(window, 1, waiting=1)
    alone = settle(window, 500)[-1]
    assert settle(window, 500, others=40)[-1] < alone


@pytest.mark.parametrize("most", [1, 3, 5])
def test_never_more_than_the_setting_says(most: int) -> None:
    window = LaunchWindow(most)
    window.share(10, 1)
    assert max(settle(window, 500, 10)) == most


def test_slower_starts_alone_are_no_congestion() -> None:
    window = LaunchWindow()
    window.started(0.5, 1)
    for _ in range(100):
        window.started(5.0, 1)  # another image, which takes longer
    for _ in range(20):
        window.started(5.5, window.size)
    assert window.size > 8


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1000))), st.integers(0, 50), st.integers(0, 50))
def test_whatever_it_is_told_it_lets_one_start(starts: list[tuple[float, int]], nodes: int, workers: int) -> None:
    window = LaunchWindow()
    window.share(nodes, workers)
    for seconds, starting in starts:
        window.started(seconds, starting)
        assert window.size >= 1

"""The benchmarks' arithmetic and their table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness import PARTS, Row, Section, Target, load
from benchmarks.machine import busy, descendants, usage
from benchmarks.stats import interleave, percentile, ratios, turns
from benchmarks.table import as_json, as_markdown, number


@pytest.mark.parametrize(
    ("values", "per_cent", "expected"),
    [
        ([7], 95, 7),
        ([3, 1, 2], 50, 2),
        ([4, 1, 3, 2], 50, 2.5),
        ([1, 2, 3, 4, 5], 0, 1),
        ([1, 2, 3, 4, 5], 100, 5),
        ([10, 20], 95, 19.5),
    ],
)
def test_percentile(values: list[float], per_cent: float, expected: float) -> None:
    assert percentile(values, per_cent) == pytest.approx(expected)


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.floats(0, 100))
def test_percentile_lies_between_the_extremes(values: list[float], per_cent: float) -> None:
    assert min(values) <= percentile(values, per_cent) <= max(values) + 1e-6


def test_ratios_are_taken_within_a_round() -> None:
    assert ratios([2, 30], [1, 10]) == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


def test_each_contestant_is_first_in_turn() -> None:
    assert [turns(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert turns([], 1) == []


def test_interleave_measures_in_turns_and_keeps_the_rounds_apart() -> None:
    order: list[str] = []

    def measure(name: str) -> Callable[[], dict[str, float]]:
        def measured() -> dict[str, float]:
            order.append(name)
            return {"place": len(order)}

        return measured

    samples = interleave({"a": measure("a"), "b": measure("b")}, 2)
    assert order == ["a", "b", "b", "a"]
    assert samples == {"a": {"place": [1, 4]}, "b": {"place": [2, 3]}}


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (3, "3"), (1234.5, "1,234"), (0.98765, "0.988"), (12.34, "12.3"), (1e-4, "0.0001")]
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [(Target(">=", 1.3), 1.3, True), (Target(">=", 1.3), 1.2, False), (Target("<=", 20), 20.1, False), (None, 1, None)],
)
def test_target(target: Target | None, value: float, met: bool | None) -> None:
    assert Row("jaas", "x", "", value, target=target).met is met


def test_report() -> None:
    rows = [
        Row.median("jaas | bare", "throughput ratio", "", [0.9, 0.97, 1.1], Target(">=", 0.95)),
        Row("jaas", "wait", "ms", 200, target=Target("<=", 100), note="p50"),
    ]
    facts = {"processor": "2 x some"}
    sections = [Section("limit", "Against the limit", ("Nothing else ran.",), rows)]
    text = as_markdown(facts, sections)
    assert "* processor: 2 x some\n" in text
    assert "| jaas \\| bare | throughput ratio | 0.97 (0.9 to 1.1) | >= 0.95: met |\n" in text
    assert "| jaas | wait (p50) | 200 ms | <= 100: **missed** |\n" in text
    assert text.endswith("* Nothing else ran.\n")

    (part,) = json.loads(json.dumps(as_json(facts, sections)))["parts"]
    assert part["rows"][0]["samples"] == [0.9, 0.97, 1.1]
    assert [row["met"] for row in part["rows"]] == [True, False]


def test_every_part_can_be_loaded() -> None:
    for name in PARTS:
        part = load(name)
        assert part.name == name
        assert part.title
        assert all(caveat.endswith(".") for caveat in part.caveats)


def test_how_busy_the_machine_is() -> None:
    before = busy()
    sum(range(3_000_000))
    worked, everything = (after - then for after, then in zip(busy(), before, strict=True))
    assert min(worked, everything) > 0


def test_usage_of_this_process() -> None:
    used = usage(os.getpid())
    assert used.cpu > 0
    assert used.memory > 1_000_000
    assert used.threads >= 1
    assert used.files >= 3
    assert os.getpid() in descendants(os.getppid())

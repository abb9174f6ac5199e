"""Nodes on which jobs of many kinds fail, and inputs that fail on many nodes."""

from __future__ import annotations

import pytest

from jaas_submit.model.causes import CAUSES, Cause
from jaas_submit.queues.poison import AttemptEnd, nodes_left_out, poison_input
from jaas_submit.queues.reasons import Code

NOW = 10_000.0


def ends(
    node: str, *, failed: int = 0, ok: int = 0, kinds: int = 4, ago: float = 60.0, jobs: int = 100
) -> list[AttemptEnd]:
    return [
        AttemptEnd(NOW - ago, node, f"{node}-{number % jobs}", f"kind{number % kinds}", number < failed)
        for number in range(failed + ok)
    ]


HEALTHY = ends("good", ok=20)


@pytest.mark.parametrize(
    ("of_bad", "others", "left_out"),
    [
        pytest.param(ends("bad", failed=8), HEALTHY, ["bad"], id="all fail there, and none elsewhere"),
        pytest.param(ends("bad", failed=8, ok=1), HEALTHY, ["bad"], id="hardly any succeeds"),
        pytest.param(ends("bad", failed=8, ok=4), HEALTHY, [], id="some succeed"),
        pytest.param(ends("bad", failed=4), HEALTHY, [], id="too few"),
        pytest.param(ends("bad", failed=20, kinds=1), HEALTHY, [], id="one kind is the job's own fault"),
        pytest.param(ends("bad", failed=20, jobs=2), HEALTHY, [], id="two jobs again and again"),
        pytest.param(ends("bad", failed=8), ends("good", failed=20), [], id="they fail everywhere"),
        pytest.param(ends("bad", failed=8, ago=599), HEALTHY, ["bad"], id="until ten minutes have passed"),
        pytest.param(ends("bad", failed=8, ago=600), HEALTHY, [], id="then it is tried again"),
        pytest.param(
            [*ends("bad", failed=8, ago=650), *ends("bad", failed=1, ago=5)],
            HEALTHY,
            ["bad"],
            id="one more failure leaves it out again",
        ),
        pytest.param(
            [*ends("bad", failed=6), *ends("worse", failed=9)], HEALTHY, ["worse"], id="a quarter of all at most"
        ),
    ],
)
def test_nodes_left_out(of_bad: list[AttemptEnd], others: list[AttemptEnd], left_out: list[str]) -> None:
    assert [one.node for one in nodes_left_out([*of_bad, *others], 4, NOW)] == left_out


def test_it_says_why_and_until_when() -> None:
    (one,) = nodes_left_out([*ends("bad", failed=8), *HEALTHY], 4, NOW)
    assert one.why == "8 jobs of 4 kinds failed there, 0 succeeded"
    assert one.until == NOW - 60 + 600


def attempt(node: str, cause: Cause | None = Cause.EXIT, *, failed: bool = True) -> AttemptEnd:
    return AttemptEnd(NOW, node, "j", "app", failed, cause)


FAULT = next(cause for cause, facts in CAUSES.items() if facts.by_cluster)


@pytest.mark.parametrize(
    ("attempts", "given_up"),
    [
        ([attempt("a"), attempt("b"), attempt("c")], True),
        ([attempt("a"), attempt("b"), attempt("b")], False),
        ([attempt("a"), attempt("b"), attempt("c", FAULT)], False),
        ([attempt("a"), attempt("b"), attempt("")], False),
        ([attempt("a", None), attempt("b", None), attempt("c", None)], True),
        ([attempt("a"), attempt("b"), attempt("c", failed=False)], False),
    ],
)
def test_poison_input(attempts: list[AttemptEnd], given_up: bool) -> None:
    reason = poison_input(attempts)
    assert (reason is not None) is given_up
    if reason:
        assert reason.code is Code.POISON_INPUT
        assert "3 nodes" in reason.sentence()

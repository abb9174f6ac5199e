"""What is overdue, by table."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from jaas_submit.model.job_spec import JobSpec
from jaas_worker.decisions.deadlines import NO_DEADLINES, Deadlines, Overdue, due


def spec(**fields: Any) -> JobSpec:
    return JobSpec(image="a", **fields)


@pytest.mark.parametrize(
    ("deadlines", "expected"),
    [
        (Deadlines(), None),
        (Deadlines(job=101), None),
        (Deadlines(job=100), None),
        (Deadlines(job=99), Overdue.JOB),
        (Deadlines(run=99), Overdue.RUN),
        (Deadlines(lost=99), Overdue.LOST),
        (Deadlines(start=99), Overdue.START),
        (Deadlines(stop=99), Overdue.STOP),
        # The whole job's deadline comes before the container's, and that before the node's.
        (Deadlines(job=99, run=98, lost=97, start=96), Overdue.JOB),
        (Deadlines(run=98, lost=97), Overdue.RUN),
        (Deadlines(job=101, lost=97), Overdue.LOST),
        # Once a stop was asked for, nothing else counts.
        (Deadlines(job=99, run=99, lost=99, start=99, stop=101), None),
        (Deadlines(job=99, stop=99), Overdue.STOP),
    ],
)
def test_what_is_overdue(deadlines: Deadlines, expected: Overdue | None) -> None:
    assert due(deadlines, 100) is expected
    assert (deadlines.first < 100) == (expected is not None)


@pytest.mark.parametrize(
    ("fields", "ran_before", "expected"),
    [
        ({}, 0, Deadlines(job=500)),
        ({"pending_timeout": 30}, 0, Deadlines(job=500, start=130)),
        ({"run_timeout": 30}, 0, Deadlines(job=500, may_run=30)),
        ({"run_timeout": 30}, 20, Deadlines(job=500, may_run=10)),
    ],
)
def test_an_attempt_whose_service_exists(fields: Any, ran_before: float, expected: Deadlines) -> None:
    before = Deadlines(job=500, run=2, lost=3, stop=4)
    assert before.launched(spec(**fields), 100, ran_before) == expected


def test_pending_timeout_counts_from_the_claim() -> None:
    assert Deadlines(start=110).launched(spec(pending_timeout=30), 100).start == 110
    assert Deadlines(start=110).launched(spec(), 100) == NO_DEADLINES


def test_a_container_that_runs() -> None:
    assert Deadlines(start=130, may_run=30).running(110) == Deadlines(may_run=30, run=140)
    back = Deadlines(lost=120, run=140, may_run=30).running(115)
    assert back == Deadlines(run=140, may_run=30), "run_timeout counts while the node is down"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, inf),
        ({"on_node_lost": "retry"}, 160),
        ({"on_node_lost": "fail"}, 160),
        ({"on_node_lost": "fail", "lost_after": 5}, 105),
    ],
)
def test_how_long_a_node_may_be_down(fields: Any, expected: float) -> None:
    lost = Deadlines(start=110, run=140, may_run=40).node_lost(spec(**fields), 100, None)
    assert lost == Deadlines(run=140, may_run=40, lost=expected)


def test_run_timeout_holds_when_another_worker_took_the_job_over_while_its_node_was_down() -> None:
    assert Deadlines(may_run=10).node_lost(spec(), 100, 98).run == 108
    assert Deadlines(may_run=10).node_lost(spec(), 100, None).run == inf, "it has not run yet"


def test_a_container_that_was_asked_to_stop() -> None:
    stopping = Deadlines(job=90).stopping(spec(stop_grace=10), 100, 30)
    assert stopping == Deadlines(job=90, stop=140)
    assert replace(stopping, stop=inf).first == 90

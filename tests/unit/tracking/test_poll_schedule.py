"""Which poll of the swarm is due, by table. Time is an argument."""

from __future__ import annotations

import pytest

from jaas_worker.tracking.poll_schedule import Look, PollSchedule

CLOSE, ALL, ENDED = Look.CLOSE, Look.ALL, Look.ENDED


def schedule(poll: float = 0.1, state: float = 1.0, idle: float = 2.0) -> PollSchedule:
    return PollSchedule(poll, state, idle)


def take(
    plan: PollSchedule, at: float, took: float = 0.0, *, by_events: bool = False, pause: float = 100.0
) -> list[Look]:
    """Take the looks that are due, each of which takes so long; return them."""
    looks = plan.due(at, by_events=by_events)
    now = at
    for look in looks:
        plan.begins(look)
        plan.done(look, now, now + took, pause)
        now += took
    plan.round_over(at, now, followed=True, by_events=by_events)
    return looks


def test_at_first_everything_is_looked_at() -> None:
    assert take(schedule(), 10.0) == [CLOSE, ALL]


# What was done when, how long it took, and what is due then.
@pytest.mark.parametrize(
    ("rounds", "at", "expected"),
    [
        ([(10.0, 0.0)], 10.05, []),
        ([(10.0, 0.0)], 10.1, [ENDED]),
        ([(10.0, 0.0), (10.1, 0.0)], 10.15, []),
        ([(10.0, 0.0), (10.1, 0.0)], 10.2, [ENDED]),
        ([(10.0, 0.0), (10.9, 0.0)], 11.0, [ALL]),
        # A list that took 0.25 s for each of two looks comes after forty times as long, and ended tasks in between.
        ([(10.0, 0.25)], 15.0, [ENDED]),
        ([(10.0, 0.25)], 20.4, [ENDED]),
        ([(10.0, 0.25)], 20.5, [ALL]),
        # A look at ended tasks that took 0.5 s comes again after ten times as long.
        ([(10.0, 0.0), (10.1, 0.5)], 10.9, []),
        # But the list that comes first has them, and was quick.
        ([(10.0, 0.0), (10.1, 0.5), (11.0, 0.0)], 11.2, [ENDED]),
    ],
)
def test_which_look_is_due(rounds: list[tuple[float, float]], at: float, expected: list[Look]) -> None:
    plan = schedule()
    for moment, took in rounds:
        take(plan, moment, took)
    assert plan.due(at, by_events=False) == expected


def test_a_look_at_ended_tasks_that_was_slow_once_comes_after_ten_seconds_at_the_latest() -> None:
    plan = schedule(state=600.0)
    take(plan, 10.0)
    assert take(plan, 11.0, 5.0) == [ENDED]
    assert plan.due(25.9, by_events=False) == []
    assert plan.due(26.0, by_events=False) == [ENDED]


def test_where_events_tell_of_ends_they_are_looked_for_once_a_second_unless_only_the_swarm_can_tell() -> None:
    plan = schedule(state=600.0)
    take(plan, 10.0)
    assert plan.due(10.9, by_events=True) == []
    assert plan.due(11.0, by_events=True) == [ENDED]
    plan.unsettled(10.0)
    assert plan.due(10.1, by_events=True) == [ENDED]
    assert take(plan, 11.95, by_events=True) == [ENDED]
    assert plan.due(12.06, by_events=True) == [], "two seconds later it is settled"


def test_a_close_look_comes_when_the_last_one_said() -> None:
    plan = schedule()
    take(plan, 10.0, pause=0.02)
    assert plan.due(10.01, by_events=False) == []
    assert plan.due(10.02, by_events=False) == [CLOSE]


def test_a_list_that_fails_keeps_no_end_back() -> None:
    plan = schedule()
    assert plan.due(10.0, by_events=False) == [CLOSE, ALL]
    plan.begins(CLOSE)
    plan.done(CLOSE, 10.0, 10.0, 100.0)
    plan.begins(ALL)
    plan.round_failed(10.0)
    assert plan.pause(10.0) == 1.0
    assert plan.due(11.0, by_events=False) == [ENDED]
    plan.begins(ENDED)
    plan.round_failed(11.0)
    assert plan.due(12.0, by_events=False) == [ALL], "and the list is tried again, whatever became of them"


@pytest.mark.parametrize(
    ("followed", "pause", "expected"),
    [(False, 100.0, 2.0), (True, 100.0, 0.1), (True, 0.02, 0.02)],
)
def test_when_the_next_round_is(followed: bool, pause: float, expected: float) -> None:
    plan = schedule()
    take(plan, 10.0, pause=pause)
    plan.round_over(10.0, 10.0, followed=followed, by_events=False)
    assert plan.pause(10.0) == pytest.approx(expected)
    assert plan.pause(99.0) == 0.0


def test_what_is_overdue_is_looked_at_once_a_second_whatever_becomes_of_the_rest() -> None:
    plan = schedule()
    assert plan.overdue_due(10.0)
    plan.round_failed(10.0)
    assert not plan.overdue_due(10.9)
    assert plan.overdue_due(11.0)

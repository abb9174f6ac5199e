"""The states of a job and the moves between them."""

from __future__ import annotations

from jaas_submit.model.causes import Cause
from jaas_submit.model.states import TERMINAL, TRANSITIONS, JobState, is_terminal


def reachable(start: JobState) -> set[JobState]:
    found, todo = {start}, [start]
    while todo:
        fresh = TRANSITIONS[todo.pop()] - found
        found |= fresh
        todo += fresh
    return found


def test_each_state_says_where_it_leads() -> None:
    assert TRANSITIONS.keys() == set(JobState)


def test_terminal_states_lead_nowhere_and_all_others_somewhere() -> None:
    assert {state for state, targets in TRANSITIONS.items() if not targets} == TERMINAL
    assert {state for state in JobState if is_terminal(state)} == TERMINAL


def test_each_state_can_be_reached_from_the_first() -> None:
    assert reachable(JobState.WAITING) == set(JobState)
    assert reachable(JobState.QUEUED) == set(JobState) - {JobState.WAITING, JobState.SKIPPED}


def test_nothing_leads_back_to_before_the_launch() -> None:
    assert not [state for state, targets in TRANSITIONS.items() if JobState.WAITING in targets]
    assert [state for state, targets in TRANSITIONS.items() if JobState.QUEUED in targets] == [JobState.WAITING]
    assert [state for state, targets in TRANSITIONS.items() if JobState.SKIPPED in targets] == [JobState.WAITING]


def test_each_state_can_still_end() -> None:
    assert all(reachable(state) & TERMINAL for state in JobState)


def test_every_job_that_has_not_ended_can_be_cancelled_or_was_ended_by_its_holder() -> None:
    assert all(JobState.CANCELLED in targets for state, targets in TRANSITIONS.items() if state not in TERMINAL)


def test_no_state_leads_to_itself() -> None:
    assert not [state for state, targets in TRANSITIONS.items() if state in targets]


def test_names_are_their_values_and_causes_are_lower_case() -> None:
    # They are on the wire: in the ledger, in Celery's results and in scripts.
    assert all(state.name == state.value for state in JobState)
    assert all(cause.name.lower() == cause.value for cause in Cause)

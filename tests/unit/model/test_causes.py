"""The table of causes."""

from __future__ import annotations

from jaas_submit.model.causes import CAUSES, Cause, facts_of
from jaas_submit.model.states import JobState, read_as


def test_every_cause_has_its_facts() -> None:
    assert CAUSES.keys() == set(Cause)
    assert all(facts.meaning for facts in CAUSES.values())


def test_only_what_nobody_did_wrong_has_no_remedy() -> None:
    assert {cause for cause, facts in CAUSES.items() if not facts.remedy} == {
        Cause.EXIT,
        Cause.CANCELLED,
        Cause.SKIPPED,
    }


def test_the_clusters_fault_is_never_final() -> None:
    assert not [cause for cause, facts in CAUSES.items() if facts.by_cluster and facts.final]


def test_a_cause_of_a_newer_version_is_the_jobs_fault_and_may_be_retried() -> None:
    facts = facts_of(read_as(Cause, "meteorite"))
    assert (facts.by_cluster, facts.final, facts.exit_code, facts.state) == (False, False, "none", JobState.FAILED)
    assert "newer version" in facts.meaning

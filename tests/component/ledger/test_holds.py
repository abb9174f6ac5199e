"""Jobs and batches that somebody holds, on a real Redis."""

from __future__ import annotations

import pytest

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.errors import JobNotWaiting, UnknownJob
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import JobState

SPEC = JobSpec(image="a")
ME = "me@here"


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    ledger.maintenance.renew_lease("w", 3600, {"holder": "w"})
    return ledger


def claim(ledger: Ledger, job_id: str) -> ClaimAction:
    return ledger.ownership.claim(job_id, "w").action


def submit_batch(ledger: Ledger, *job_ids: str, max_parallel: int = 0) -> None:
    ledger.batches.create("b", max_parallel=max_parallel)
    jobs = [NewJob(job_id, SPEC, "q", batch="b", index=index) for index, job_id in enumerate(job_ids)]
    ledger.submission.create_many(jobs)


def end(ledger: Ledger, job_id: str) -> None:
    done = Attempt(number=1, state=JobState.SUCCEEDED, cause=Cause.EXIT, exit_code=0)
    assert ledger.ownership.move(job_id, "w", JobState.PENDING)
    assert ledger.ownership.finish(job_id, "w", [done])


def test_a_held_job_is_not_started_until_it_is_released(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    assert ledger.holds.hold("j", ME, "wait for the data") is JobState.QUEUED
    ledger.holds.hold("j", ME)
    assert claim(ledger, "j") is ClaimAction.KEPT
    assert not any(ledger.maintenance.due()), "no worker looks for it"
    assert ledger.maintenance.lost_messages("q", 0, 0, empty=True) == []
    assert ledger.queries.get("j").held == ME
    with ledger.maintenance.available() as notices:
        ledger.holds.hold("j", "you@there", release=True)
        assert notices.next(5) == "opened"
    assert ledger.maintenance.ready(60) == ["j"]
    assert claim(ledger, "j") is ClaimAction.LAUNCH
    entries = [(one.what, one.by, one.detail) for one in ledger.queries.get("j").audit]
    assert entries == [("hold", ME, "wait for the data"), ("release", "you@there", "")], (
        "what changed nothing is not noted"
    )


def test_one_that_is_released_before_a_worker_came_to_it_starts_as_usual(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    ledger.holds.hold("j", ME)
    ledger.holds.hold("j", ME, release=True)
    assert not any(ledger.maintenance.due())
    assert claim(ledger, "j") is ClaimAction.LAUNCH


def test_one_that_comes_after_another_is_held_when_its_turn_has_come(ledger: Ledger) -> None:
    ledger.submission.create("first", SPEC, "q")
    ledger.submission.create_many([NewJob("then", SPEC, "q", after=(("first", "success"),))])
    assert ledger.holds.hold("then", ME) is JobState.WAITING
    assert claim(ledger, "first") is ClaimAction.LAUNCH
    end(ledger, "first")
    assert ledger.maintenance.ready(0) == ["then"]
    assert claim(ledger, "then") is ClaimAction.KEPT
    ledger.holds.hold("then", ME, release=True)
    assert claim(ledger, "then") is ClaimAction.LAUNCH


def test_a_held_job_stays_held_when_its_queue_is_resumed(ledger: Ledger) -> None:
    ledger.queues.create("q", {"paused": True}, ME)
    ledger.submission.create("j", SPEC, "q")
    assert claim(ledger, "j") is ClaimAction.KEPT
    ledger.holds.hold("j", ME)
    ledger.queues.change("q", {"paused": None}, "resume", ME)
    assert ledger.maintenance.ready(0) == ["j"]
    assert claim(ledger, "j") is ClaimAction.KEPT
    ledger.holds.hold("j", ME, release=True)
    assert claim(ledger, "j") is ClaimAction.LAUNCH


def test_a_release_goes_on_where_an_earlier_one_failed_half_way(ledger: Ledger) -> None:
    submit_batch(ledger, "of-batch")
    ledger.submission.create("j", SPEC, "q")
    ledger.holds.hold_batch("b", ME)
    ledger.holds.hold("j", ME)
    assert [claim(ledger, one) for one in ("of-batch", "j")] == [ClaimAction.KEPT] * 2
    for key in ("job:j", "batch:b"):
        ledger.client.hdel(f"{ledger.prefix}:{key}", "held")
    ledger.holds.hold_batch("b", ME, release=True)
    ledger.holds.hold("j", ME, release=True)
    assert ledger.maintenance.ready(60) == ["of-batch", "j"]
    assert [one.what for one in ledger.queries.get("j").audit] == ["hold"]


def test_a_job_is_kept_at_one_place(ledger: Ledger) -> None:
    ledger.queues.create("q", {"paused": True}, ME)
    ledger.submission.create("j", SPEC, "q")
    assert claim(ledger, "j") is ClaimAction.KEPT
    ledger.holds.hold("j", ME)
    assert claim(ledger, "j") is ClaimAction.KEPT, "a duplicate of its message"
    assert ledger.queues.get("q").kept == 0


def test_a_held_batch_starts_nothing_more_and_its_held_jobs_stay_held(ledger: Ledger) -> None:
    submit_batch(ledger, "runs", "waits", "own")
    assert claim(ledger, "runs") is ClaimAction.LAUNCH
    ledger.holds.hold_batch("b", ME, "why")
    ledger.holds.hold_batch("b", ME)
    ledger.holds.hold("own", ME)
    ledger.submission.create_many([NewJob("late", SPEC, "q", batch="b", index=3)])
    assert [claim(ledger, one) for one in ("waits", "own", "late")] == [ClaimAction.KEPT] * 3
    end(ledger, "runs")
    assert ledger.batches.get("b").held == ME
    ledger.holds.hold_batch("b", ME, release=True)
    assert ledger.maintenance.ready(60) == ["waits", "late"]
    assert claim(ledger, "own") is ClaimAction.KEPT
    assert [one.what for one in ledger.batches.get("b").audit] == ["hold", "release"]


def test_many_jobs_of_a_held_batch_go_on_in_parts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_submit.ledger.queues.holds.OPENED_AT_ONCE", 2)
    submit_batch(ledger, *"abcde")
    ledger.holds.hold_batch("b", ME)
    for one in "abcde":
        claim(ledger, one)
    ledger.holds.hold_batch("b", ME, release=True)
    assert ledger.maintenance.due().opening
    ledger.holds.hold_batch("b", ME)
    assert not ledger.queues.open_more(2), "it is held once more"
    ledger.holds.hold_batch("b", ME, release=True)
    assert not ledger.queues.open_more(2)
    assert ledger.maintenance.ready(60) == [*"abcde"]


def test_a_cancelled_job_or_batch_ends_although_it_is_held(ledger: Ledger) -> None:
    submit_batch(ledger, "kept", "not-met")
    ledger.holds.hold_batch("b", ME)
    claim(ledger, "kept")
    ledger.batches.cancel("b", "no more", ME)
    ledger.submission.cancel_many(["kept", "not-met"], "no more", "b")
    ledger.batches.close("b", 2)
    assert ledger.client.exists(f"{ledger.prefix}:kept:batch:b") == 0
    with pytest.raises(JobNotWaiting, match="batch b has ended"):
        ledger.holds.hold_batch("b", ME, release=True)


@pytest.mark.parametrize("release", [False, True])
def test_what_does_not_wait_can_be_neither_held_nor_released(ledger: Ledger, release: bool) -> None:
    ledger.submission.create("j", SPEC, "q")
    claim(ledger, "j")
    with pytest.raises(JobNotWaiting, match="job j is LAUNCHING: only a job that waits"):
        ledger.holds.hold("j", ME, release=release)
    end(ledger, "j")
    with pytest.raises(JobNotWaiting, match="job j is SUCCEEDED"):
        ledger.holds.hold("j", ME, release=release)
    for unknown in (lambda: ledger.holds.hold("x", ME), lambda: ledger.holds.hold_batch("x", ME)):
        with pytest.raises(UnknownJob):
            unknown()
    assert ledger.queries.existing(["x"]) == set(), "nothing was written"

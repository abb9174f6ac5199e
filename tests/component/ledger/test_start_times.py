"""Jobs that wait for their time, and foreign producers' messages that become records, on a real Redis."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import MESSAGE_EXPIRED
from jaas_submit.model.states import JobState
from tests.support.wait import eventually

SPEC = JobSpec(image="a")
LATER = time.time() + 86400
LONG = 3600.0
"""Seconds that no test lives to see the end of."""


@pytest.fixture
def holder(ledger: Ledger) -> str:
    ledger.maintenance.renew_lease("w", LONG, {"holder": "w"})
    return "w"


def note(ledger: Ledger, tag: str) -> None:
    """Note a message as the worker's transport does when it takes it off the queue."""
    ledger.client.hset(f"{ledger.prefix}:unacked", tag, "the entry")
    ledger.client.zadd(f"{ledger.prefix}:unacked_index", {tag: 1})


def noted(ledger: Ledger) -> tuple[Any, Any]:
    prefix = ledger.prefix
    return ledger.client.hlen(f"{prefix}:unacked"), ledger.client.zcard(f"{prefix}:unacked_index")


def score(ledger: Ledger, index: str, job_id: str) -> Any:
    return ledger.client.zscore(f"{ledger.prefix}:{index}", job_id)


def time_comes(ledger: Ledger, job_id: str) -> None:
    """Let the time come that a job waits for."""
    assert ledger.client.zadd(f"{ledger.prefix}:due", {job_id: 1}, xx=True, ch=True)
    assert ledger.maintenance.due().unowned
    assert job_id not in ledger.maintenance.unowned(LONG)


def state_of(ledger: Ledger, job_id: str) -> JobState:
    return ledger.queries.get(job_id).state


# -- the intake of a message ------------------------------------------------------------------------------------------


def test_a_message_is_a_record_and_acknowledged_in_one_step(ledger: Ledger) -> None:
    note(ledger, "t1")
    note(ledger, "t2")
    job = NewJob("j", SPEC, "q", message="{}", celery_priority=3)

    made = ledger.submission.take_in(job, "t1", LONG)

    record = ledger.queries.get("j")
    assert (made.new, record.state, record.celery_priority, record.not_before) == (True, JobState.QUEUED, 3, None)
    assert ledger.ownership.foreign_message("j") == "{}"
    assert noted(ledger) == (1, 1)  # the other message stays


def test_a_job_whose_worker_dies_after_the_intake_is_taken_by_others(ledger: Ledger, holder: str) -> None:
    ledger.submission.take_in(NewJob("j", SPEC, "q", message="{}"), "t1", LONG)
    assert ledger.maintenance.ready(LONG) == []  # it is left to the worker that has the message

    ledger.ownership.offer(["j", "unknown"])  # or its time passes

    assert ledger.maintenance.ready(LONG) == ["j"]
    assert ledger.ownership.claim("j", holder).action is ClaimAction.LAUNCH
    assert score(ledger, "ready", "j") is None
    assert score(ledger, "ready", "unknown") is None


def test_a_message_whose_id_has_a_record_stays_unacknowledged(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    note(ledger, "t1")

    made = ledger.submission.take_in(NewJob("j", JobSpec(image="b"), "q", message="{}", not_before=LATER), "t1", LONG)

    record = ledger.queries.get("j")
    assert (made.new, noted(ledger)) == (False, (1, 1))
    assert (record.state, record.spec, record.not_before) == (JobState.QUEUED, SPEC, None)


def test_a_message_of_a_revoked_job_does_not_wait_for_its_time(ledger: Ledger, holder: str) -> None:
    ledger.submission.revoke("j")

    ledger.submission.take_in(NewJob("j", SPEC, "q", message="{}", not_before=LATER), "t1", 0.0)

    assert ledger.maintenance.ready(LONG) == ["j"]
    claimed = ledger.ownership.claim("j", holder).record
    assert claimed is not None
    assert claimed.cancel == "revoked through Celery"


@pytest.mark.parametrize("key", ["unacked", "unacked_index"])
def test_a_misplaced_key_of_the_notes_does_not_prevent_the_record(ledger: Ledger, key: str) -> None:
    ledger.client.set(f"{ledger.prefix}:{key}", 1)
    assert ledger.submission.take_in(NewJob("j", SPEC, "q", message="{}"), "t1", LONG).new
    assert state_of(ledger, "j") is JobState.QUEUED


# -- jobs that wait for their time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreign", [False, True])
def test_a_job_waits_for_its_time_and_is_then_taken(ledger: Ledger, holder: str, foreign: bool) -> None:
    job = NewJob("j", SPEC, "q", message="{}" if foreign else "", wakeup="" if foreign else "m", not_before=LATER)
    made = ledger.submission.take_in(job, "t", LONG) if foreign else ledger.submission.create_many([job])[0]
    assert made.state is JobState.WAITING
    record = ledger.queries.get("j")
    assert record.not_before is not None
    assert record.not_before.timestamp() == pytest.approx(LATER, abs=1e-3)
    assert ledger.client.llen("q") == 0  # no message wakes a worker for nothing
    assert ledger.maintenance.unowned(LONG) == []
    assert ledger.maintenance.ready(LONG) == []
    assert ledger.ownership.claim("j", holder).action is ClaimAction.EARLY

    time_comes(ledger, "j")

    assert ledger.queries.get("j").not_before is None
    assert ledger.maintenance.ready(LONG) == ["j"]
    assert ledger.ownership.claim("j", holder).action is ClaimAction.LAUNCH
    assert score(ledger, "due", "j") is None


def test_a_delay_is_counted_by_redis_clock(ledger: Ledger) -> None:
    ledger.submission.create_many([NewJob("j", SPEC, "q", delay=0.05)])
    assert state_of(ledger, "j") is JobState.WAITING
    eventually(lambda: ledger.maintenance.unowned(LONG) or ledger.maintenance.ready(LONG) == ["j"], 10, "its time")


@pytest.mark.parametrize("job", [NewJob("j", SPEC, "q", not_before=1.0), NewJob("j", SPEC, "q", delay=0.0)])
def test_a_time_that_has_passed_is_no_reason_to_wait(ledger: Ledger, job: NewJob) -> None:
    assert ledger.submission.create_many([job])[0].state is JobState.QUEUED
    assert score(ledger, "due", "j") is None


@pytest.mark.parametrize("first", ["time", "job"])
def test_a_job_waits_for_its_time_and_for_other_jobs(ledger: Ledger, first: str) -> None:
    ledger.submission.create("before", SPEC, "q")
    after = (("before", "finish"),)
    ledger.submission.create_many([NewJob("j", SPEC, "q", after=after, not_before=LATER)])

    for number, comes in enumerate(["time", "job"] if first == "time" else ["job", "time"]):
        assert state_of(ledger, "j") is JobState.WAITING
        if comes == "time":
            time_comes(ledger, "j")
        else:
            ledger.submission.cancel("before", "enough")
        assert (state_of(ledger, "j") is JobState.QUEUED) is (number == 1)


def test_a_batch_s_job_whose_time_has_come_waits_for_a_place(ledger: Ledger) -> None:
    ledger.batches.create("b", max_parallel=1)
    jobs = [NewJob(f"j{index}", SPEC, "q", batch="b", index=index, not_before=LATER) for index in range(2)]
    ledger.submission.create_many(jobs)
    for job in jobs:
        time_comes(ledger, job.job_id)
    assert [state_of(ledger, job.job_id) for job in jobs] == [JobState.QUEUED, JobState.WAITING]
    ledger.submission.cancel("j0", "enough")
    assert state_of(ledger, "j1") is JobState.QUEUED


@pytest.mark.parametrize("how", ["cancelled", "skipped", "overdue"])
def test_a_job_that_ends_before_its_time_is_not_looked_for_then(ledger: Ledger, holder: str, how: str) -> None:
    ledger.submission.create("before", SPEC, "q")
    after = (("before", "success"),) if how == "skipped" else ()
    spec = JobSpec(image="a", expires=0.001) if how == "overdue" else SPEC
    ledger.submission.create_many([NewJob("j", spec, "q", after=after, not_before=LATER)])
    if how == "overdue":
        eventually(lambda: ledger.maintenance.end_overdue() == ["j"], 10, "its end")
    else:
        ledger.submission.cancel("j" if how == "cancelled" else "before", "enough")
    assert ledger.queries.get("j").terminal
    assert score(ledger, "due", "j") is None
    assert "j" in ledger.maintenance.unowned(LONG)  # a worker tells Celery
    assert ledger.ownership.claim("j", holder).action is ClaimAction.REPLAY


@pytest.mark.parametrize("not_before", [None, LATER], ids=["at once", "later"])
def test_a_job_whose_message_has_expired_is_cancelled(ledger: Ledger, not_before: float | None) -> None:
    job = NewJob("j", SPEC, "q", message="{}", not_before=not_before, expires_at=ledger.now() + 0.05)
    ledger.submission.take_in(job, "t", LONG)
    eventually(lambda: ledger.maintenance.end_overdue() == ["j"], 10, "its end")
    record = ledger.queries.get("j")
    assert (record.state, record.detail) == (JobState.CANCELLED, MESSAGE_EXPIRED)
    assert record.last is not None
    assert record.last.cause is Cause.CANCELLED
    assert score(ledger, "deadlines", "j") is None


def test_an_expiry_that_is_ahead_ends_nothing(ledger: Ledger, holder: str) -> None:
    spec = JobSpec(image="a", expires=LONG)
    ledger.submission.take_in(NewJob("j", spec, "q", message="{}", expires_at=LATER), "t", LONG)
    assert score(ledger, "deadlines", "j") < LATER  # the description's comes first
    assert ledger.maintenance.end_overdue() == []
    assert ledger.ownership.claim("j", holder).action is ClaimAction.LAUNCH

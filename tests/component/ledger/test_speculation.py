"""A job that is started a second time, in the ledger: what the two records hold then.

In what order things may happen is varied in test_ledger_batches_property.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from jaas_submit import (
    Attempt,
    Batch,
    Cause,
    Client,
    JobSpec,
    JobState,
    LogLine,
    Logs,
    OutputFile,
    OutputFiles,
    SpecError,
    Speculation,
)
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.ids import copy_id_of
from jaas_submit.model.wire_names import service_name
from jaas_worker.maintenance.speculation import Speculator
from tests.support.fake_swarm import FakeSwarm

SPEC = JobSpec(image="a", command=["{item}"], output="json", idempotent=True)
PLAN = Speculation(factor=2, after=0.5, least=0, most=1)
OLD, NEW = "old", "new"
RUNNING, SUCCEEDED, FAILED, CANCELLED = JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


@pytest.fixture
def client(redis_url: str, prefix: str, ledger: Ledger) -> Iterator[Client]:
    for worker in (OLD, NEW):
        ledger.maintenance.renew_lease(worker, 3600, {})
    with Client(redis_url, queue=prefix, prefix=prefix) as made:
        yield made


def start(ledger: Ledger, job_id: str, holder: str = OLD) -> None:
    assert ledger.ownership.claim(job_id, holder).action is ClaimAction.LAUNCH
    assert ledger.ownership.move(job_id, holder, JobState.PENDING, service=service_name(job_id, 1))
    assert ledger.ownership.move(job_id, holder, RUNNING, node="n")


def attempt(state: JobState, number: int = 1, job_id: str = "") -> Attempt:
    at = datetime(2026, 11, 23, 12, tzinfo=UTC)
    return Attempt(
        number=number, state=state, cause=Cause.EXIT, exit_code=int(state is not SUCCEEDED), reason=f"{state}",
        service=service_name(job_id, 1), node="elsewhere", started_at=at, finished_at=at,
    )  # fmt: skip


@pytest.fixture
def batch(client: Client, ledger: Ledger) -> Batch:
    """Job 0 of three runs, and so does its copy; another worker holds that."""
    made = client.map(SPEC, range(3), speculate=PLAN, max_parallel=4)
    start(ledger, made.job(0).id)
    assert ledger.batches.start_copy(made.job(0).id, SPEC, "slow")
    start(ledger, copy_id_of(made.job(0).id), NEW)
    return made


def test_nothing_that_is_paused_or_held_gets_a_copy(client: Client, ledger: Ledger, prefix: str) -> None:
    batch = client.map(SPEC, range(1), speculate=PLAN, max_parallel=4)
    job_id = batch.job(0).id
    start(ledger, job_id)
    ledger.queues.create(prefix, {"paused": True}, "me")
    assert not ledger.batches.start_copy(job_id, SPEC, "slow")
    ledger.queues.change(prefix, {"paused": None}, "resume", "me")
    ledger.holds.hold_batch(batch.id, "me")
    assert not ledger.batches.start_copy(job_id, SPEC, "slow")
    ledger.holds.hold_batch(batch.id, "me", release=True)
    assert ledger.batches.start_copy(job_id, SPEC, "slow")


def test_the_copy_s_good_end_is_the_job_s(client: Client, ledger: Ledger, batch: Batch) -> None:
    job, copy = batch.job(0), client.handle(copy_id_of(batch.job(0).id))
    after = client.submit(SPEC, after=[job])
    with ledger.ownership.cancellations() as told:
        logs = Logs((LogLine("", "stdout", b"7\n"),))
        assert ledger.ownership.finish(copy.id, NEW, [attempt(SUCCEEDED, job_id=copy.id)], logs, "7")
        assert told.next(5) == job.id
    record, result = job.record(), job.result()
    assert (record.state, record.holder, record.attempt, record.reported) == (SUCCEEDED, OLD, 2, False)
    assert [(a.number, a.state, a.cause, a.service) for a in record.attempts] == [
        (1, CANCELLED, Cause.CANCELLED, service_name(job.id, 1)),
        (2, SUCCEEDED, Cause.EXIT, service_name(copy.id, 1)),
    ]
    assert {a.decision for a in record.attempts} == {f"its copy {copy.id} succeeded first"}
    assert (result.output, result.stdout, result.node, result.exit_code) == (7, "7\n", "elsewhere", 0)
    assert (batch.status.counts[SUCCEEDED], batch.status.copies, batch.status.active) == (1, 0, 2)
    assert ledger.batches.ended_jobs(batch.id) == [job.id]
    assert after.state is JobState.QUEUED
    # Its holder learns that all is over, whatever it wanted to write, and may report.
    for end in (attempt(SUCCEEDED), attempt(FAILED)):
        assert not ledger.ownership.finish(job.id, OLD, [end])
    assert not ledger.ownership.back_off(job.id, OLD, [attempt(FAILED)], None, 1, "")[0]
    assert not ledger.ownership.move(job.id, OLD, RUNNING)
    assert ledger.ownership.cancel_reasons([job.id]) == {job.id: f"its copy {copy.id} succeeded first"}
    assert ledger.ownership.mark_reported(job.id, OLD)
    # Should the holder have died, any worker brings the result to Celery.
    assert job.record().attempts == record.attempts


def test_the_files_of_a_good_copy_are_the_job_s_and_stay_as_long(ledger: Ledger, batch: Batch) -> None:
    job, copy_id = batch.job(0), copy_id_of(batch.job(0).id)
    file = OutputFile(name="out/a", size=1, sha256="0" * 64)
    outputs = OutputFiles(files=(file,), stored_by=copy_id, stored_attempt=1)
    end = attempt(SUCCEEDED, job_id=copy_id).model_copy(update={"outputs": outputs})
    assert ledger.ownership.finish(copy_id, NEW, [end], None, "7")
    assert job.result().outputs == outputs
    job_key, copy_key = (f"{ledger.prefix}:job:{one}" for one in (job.id, copy_id))
    assert ledger.ownership.mark_reported(copy_id, NEW)
    ledger.client.expire(copy_key, 60)  # that was long ago
    assert ledger.ownership.mark_reported(job.id, OLD)
    assert ledger.client.pexpiretime(copy_key) >= ledger.client.pexpiretime(job_key) > 0


def test_a_copy_that_is_not_reported_yet_does_not_expire(ledger: Ledger, batch: Batch) -> None:
    job, copy_id = batch.job(0), copy_id_of(batch.job(0).id)
    assert ledger.ownership.finish(copy_id, NEW, [attempt(SUCCEEDED, job_id=copy_id)], None, "7")
    assert ledger.ownership.mark_reported(job.id, OLD)
    assert ledger.client.ttl(f"{ledger.prefix}:job:{copy_id}") == -1


@pytest.mark.parametrize("launched", [False, True])
def test_a_service_that_may_yet_appear_when_the_copy_wins(ledger: Ledger, batch: Batch, launched: bool) -> None:
    """The reconciler keeps the name of such a service, and stops what a late request starts under it."""
    job, copy_id = batch.job(0), copy_id_of(batch.job(0).id)
    assert ledger.ownership.back_off(job.id, OLD, [attempt(FAILED)], None, 0, "once more")[0]
    assert ledger.ownership.claim(job.id, OLD).action is ClaimAction.LAUNCH
    if launched:
        assert ledger.ownership.move(job.id, OLD, JobState.PENDING, service=service_name(job.id, 2))
    assert ledger.ownership.finish(copy_id, NEW, [attempt(SUCCEEDED, job_id=copy_id)], None, "7")
    assert (job.record().state, job.record().late) == (SUCCEEDED, not launched)


def test_the_job_s_own_end_calls_its_copy_off(client: Client, ledger: Ledger, batch: Batch) -> None:
    job, copy = batch.job(0), client.handle(copy_id_of(batch.job(0).id))
    with ledger.ownership.cancellations() as told:
        assert ledger.ownership.finish(job.id, OLD, [attempt(SUCCEEDED)], None, "1")
        assert told.next(5) == copy.id
    assert copy.record().cancel == f"job {job.id}, which it is a copy of, is SUCCEEDED"
    assert ledger.ownership.finish(copy.id, NEW, [attempt(SUCCEEDED)], None, "2"), "it was too late to stop it"
    assert job.result().output == 1
    assert (batch.status.counts[SUCCEEDED], batch.status.copies, batch.status.active) == (1, 0, 2)


def test_a_copy_that_nobody_has_started_is_cancelled_at_once(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, [1], speculate=PLAN)
    job = batch.job(0)
    start(ledger, job.id)
    assert ledger.batches.start_copy(job.id, SPEC, "slow")
    copy_id = copy_id_of(job.id)
    assert copy_id in ledger.maintenance.ready(0)
    assert ledger.ownership.finish(job.id, OLD, [attempt(FAILED)])
    record = ledger.queries.get(copy_id)
    assert (record.state, record.last and record.last.cause) == (CANCELLED, Cause.CANCELLED)
    assert copy_id in ledger.maintenance.unowned(0), "somebody has to tell Celery"
    assert (batch.status.state, batch.status.counts, batch.status.active) == (FAILED, {FAILED: 1}, 0)
    assert ledger.batches.speculating() == []


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED, CANCELLED])
def test_a_job_that_failed_waits_for_its_copy(client: Client, ledger: Ledger, batch: Batch, state: JobState) -> None:
    job, copy_id = batch.job(0), copy_id_of(batch.job(0).id)
    assert ledger.ownership.back_off(job.id, OLD, [attempt(FAILED)], None, None, "failed") == (True, "")
    assert (job.state, job.record().holder, ledger.ownership.claim(job.id, NEW).action) == (
        JobState.BACKOFF,
        "",
        "early",
    )
    assert f"waits for its second start, job {copy_id}" in " ".join(client.explain(job.id).sentences)
    assert (batch.status.active, batch.status.copies) == (4, 1)
    assert ledger.ownership.finish(copy_id, NEW, [attempt(state)])
    record = job.record()
    assert record.state is (SUCCEEDED if state is SUCCEEDED else FAILED)
    assert [a.state for a in record.attempts] == ([FAILED, SUCCEEDED] if state is SUCCEEDED else [FAILED])
    assert job.id in ledger.maintenance.unowned(0), "somebody has to tell Celery"
    assert ledger.ownership.back_off(job.id, OLD, [attempt(FAILED)], None, None, "failed") == (False, "")


def test_without_a_copy_a_job_that_failed_has_failed(client: Client, ledger: Ledger) -> None:
    job = client.map(SPEC, [1]).job(0)
    start(ledger, job.id)
    assert ledger.ownership.back_off(job.id, OLD, [attempt(FAILED)], None, None, "failed") == (False, "it has no copy")
    assert ledger.ownership.finish(job.id, OLD, [attempt(FAILED)])


def test_the_duty_doubles_what_is_slow_and_nothing_else(client: Client, ledger: Ledger) -> None:
    engine = FakeSwarm()
    duty = Speculator(ledger, engine.cluster)
    batch = client.map(SPEC, range(4), speculate=PLAN)
    other = client.map(SPEC, range(4))
    for one in (batch, other):
        for index in range(4):
            start(ledger, one.job(index).id)
        assert ledger.ownership.finish(one.job(0).id, OLD, [attempt(SUCCEEDED)])
    assert duty.run_once() == [], "a quarter has ended"
    assert ledger.ownership.finish(batch.job(1).id, OLD, [attempt(SUCCEEDED)])
    assert ledger.ownership.finish(other.job(1).id, OLD, [attempt(SUCCEEDED)])
    assert sorted(duty.run_once()) == sorted([batch.job(2).id, batch.job(3).id])
    assert engine.calls["cluster"] == 1, "it lists every task there is"
    assert duty.run_once() == []
    assert engine.calls["cluster"] == 1
    copy = ledger.queries.get(copy_id_of(batch.job(2).id))
    assert (copy.batch, copy.index, copy.copy_of, copy.state) == (batch.id, 2, batch.job(2).id, JobState.QUEUED)
    assert "started a second time" in batch.job(2).record().detail
    assert batch.status.copies == 2
    batch.cancel("enough")
    assert ledger.queries.get(copy.id).state is JobState.QUEUED, "the job itself still runs"
    assert ledger.ownership.finish(batch.job(2).id, OLD, [attempt(CANCELLED)])
    assert ledger.queries.get(copy.id).state is CANCELLED


def test_only_what_is_idempotent_may_be_doubled(client: Client, ledger: Ledger) -> None:
    with pytest.raises(SpecError, match=r"speculate: two containers of one job may run at once.*idempotent=True"):
        client.map(JobSpec(image="a"), [1], speculate=2.0)
    assert ledger.batches.recent() == []


# -- records that were lost -------------------------------------------------------------------------------------------


def test_a_batch_that_is_lost_with_its_jobs_is_completed_by_its_key(
    client: Client, ledger: Ledger, prefix: str
) -> None:
    """Redis came back without any of it; two services remain."""
    batch = client.map(SPEC, range(4), key="k", min_success=0.5, max_parallel=3)
    ids = [batch.job(index).id for index in range(4)]
    for key in list(ledger.client.scan_iter(f"{prefix}:*")):
        ledger.client.delete(key)
    ledger.maintenance.renew_lease(OLD, 3600, {})
    for index in (1, 3):
        assert ledger.maintenance.restore(ids[index], SPEC, prefix, 1, batch.id, index)
    status = batch.status
    assert (status.size, status.span, status.total, status.active) == (2, 4, None, 2)
    assert status.counts == {JobState.PENDING: 2}
    assert [record.index for record in batch.records()] == [1, 3]
    for index in (1, 3):
        assert ledger.ownership.claim(ids[index], OLD).action is ClaimAction.ADOPT
        assert ledger.ownership.finish(ids[index], OLD, [attempt(SUCCEEDED)], None, str(index))
    assert batch.status.state is None
    again = client.map(SPEC, range(4), key="k", min_success=0.5, max_parallel=3)
    assert again.id == batch.id
    for index in (0, 2):
        start(ledger, ids[index])
        assert ledger.ownership.finish(ids[index], OLD, [attempt(FAILED)])
    status = batch.status
    assert (status.state, status.total, status.size, status.active) == (SUCCEEDED, 4, 4, 0)
    assert [result.output for result in batch.results(ordered=True)] == [None, 1, None, 3]


def test_one_that_is_lost_with_its_batch_can_be_cancelled(client: Client, ledger: Ledger, prefix: str) -> None:
    batch = client.map(SPEC, range(8))
    lost = batch.job(7).id
    for key in list(ledger.client.scan_iter(f"{prefix}:*")):
        ledger.client.delete(key)
    assert ledger.maintenance.restore(lost, SPEC, prefix, 1, batch.id, 7)
    assert batch.cancel("enough") == 1
    assert ledger.queries.get(lost).cancel == "enough"


def test_an_end_that_its_batch_knows_is_not_counted_twice(client: Client, ledger: Ledger, prefix: str) -> None:
    """The record of a job that had ended is gone, and its service still there."""
    batch = client.map(SPEC, range(2))
    job = batch.job(0)
    start(ledger, job.id)
    assert ledger.ownership.finish(job.id, OLD, [attempt(SUCCEEDED)])
    before = batch.status
    ledger.client.delete(f"{prefix}:job:{job.id}")
    assert ledger.maintenance.restore(job.id, SPEC, prefix, 1, batch.id, 0)
    assert (job.record().batch, batch.status) == ("", before)


def test_a_batch_whose_ended_jobs_cannot_be_read_does_not_hide_the_others(client: Client, ledger: Ledger) -> None:
    bad, good = (client.map(SPEC, range(2), speculate=PLAN) for _ in range(2))
    for made in (bad, good):
        for index in (0, 1):
            start(ledger, made.job(index).id)
        assert ledger.ownership.finish(made.job(0).id, OLD, [attempt(SUCCEEDED)])
    ledger.client.set(ledger.key("batch", bad.id, "ended"), "no list")

    assert Speculator(ledger, FakeSwarm().cluster).run_once() == [good.job(1).id]

    assert ledger.batches.speculating() == [good.id]
    assert list(ledger.unreadable) == [f"batch {bad.id}"]

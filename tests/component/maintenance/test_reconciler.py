"""Single rounds of the reconciler, on a real ledger and against the engine in memory."""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import pytest

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.errors import EngineRefused, EngineUnavailable, LedgerUnavailable, StoreUnavailable
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_JOB, LABEL_LEDGER, LABEL_SPEC_HASH, service_name
from jaas_worker.maintenance.expired_records import ExpiredRecords
from jaas_worker.maintenance.reconciler import Reconciler, Repairs
from jaas_worker.maintenance.sent_files import SentFiles
from jaas_worker.settings import Settings
from jaas_worker.swarm.create_or_adopt import create_or_adopt
from jaas_worker.swarm.files.shared_configs import SharedConfigs
from tests.support.fake_swarm import FakeSwarm
from tests.support.maintained import MaintainedWorker
from tests.support.stage import Stage, ended
from tests.support.stumble import stumbling
from tests.support.wait import await_end

LABEL = f"{LABEL_LEDGER}=x"
SPEC = JobSpec(image="a")
PATIENCE = 30.0


@dataclass
class Worker(MaintainedWorker):
    """A worker, its engine, and its reconciler."""

    _: KW_ONLY
    ledger: Ledger
    name: str
    engine: FakeSwarm = field(default_factory=FakeSwarm)
    now: float = 1000.0

    @functools.cached_property
    def reconciler(self) -> Reconciler:
        settings = Settings(redis_url="redis://unused")
        return Reconciler(settings, self.ledger, self.engine, self.name, LABEL, self, clock=lambda: self.now)

    def next_round(self) -> Repairs:
        """Do a round when each duty is due again."""
        self.now += 60
        return self.reconciler.run_once()


@pytest.fixture
def worker(ledger: Ledger) -> Worker:
    return Worker(ledger=ledger, name="worker-a")


@pytest.fixture
def other(ledger: Ledger) -> Worker:
    return Worker(ledger=ledger, name="worker-b")


def left_behind(stage: Stage, engine: FakeSwarm, monkeypatch: pytest.MonkeyPatch, jobs: int) -> list[str]:
    """Make jobs that ended long ago and whose services are still there; return the services' names."""
    ids = [stage.add(SPEC, ended()) for _ in range(jobs)]
    for job_id in ids:
        create_or_adopt(engine, SPEC, job_id, 1, {LABEL_LEDGER: "x", LABEL_SPEC_HASH: SPEC.digest()})
    later = stage.ledger.now() + 3600
    monkeypatch.setattr(stage.ledger, "now", lambda: later)
    return [service_name(job_id, 1) for job_id in ids]


# -- the duties that one worker has for all ---------------------------------------------------------------------------


def owner(ledger: Ledger, duty: str) -> Any:
    return ledger.client.get(f"{ledger.prefix}:lock:{duty}")


def test_a_worker_without_an_engine_leaves_the_duties_to_others(ledger: Ledger, worker: Worker, other: Worker) -> None:
    worker.engine_away = worker.engine.away = True
    worker.reconciler.run_once()
    assert owner(ledger, "sweep") is None
    assert owner(ledger, "speculate") is None
    other.reconciler.run_once()
    assert owner(ledger, "sweep") == owner(ledger, "speculate") == b"worker-b"


def test_a_worker_whose_engine_goes_away_does_not_keep_the_duties(
    ledger: Ledger, worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.reconciler.run_once()
    assert owner(ledger, "sweep") == b"worker-a"
    worker.engine_away = worker.engine.away = True
    renewed: list[str] = []

    def take_duty(name: str, holder: str, ttl: float) -> bool:
        renewed.append(holder)
        return False

    monkeypatch.setattr(ledger.maintenance, "take_duty", take_duty)
    worker.next_round()
    assert renewed == [], "it would keep the duty for ever"
    other.reconciler.run_once()
    assert renewed == ["worker-b", "worker-b"]


def test_what_needs_no_engine_is_done_though_the_engine_fails(ledger: Ledger, worker: Worker) -> None:
    ledger.batches.create("b", max_parallel=1)
    assert ledger.batches.cancel("b", "enough")
    ledger.submission.create("expired", SPEC, "q")
    ledger.client.delete(f"{ledger.prefix}:job:expired")
    worker.engine.away = True  # and the worker has not noticed yet
    with pytest.raises(EngineUnavailable):
        worker.reconciler.run_once()
    assert ledger.batches.cancelling() == []
    assert ledger.queries.ids() == []


def test_an_error_with_sent_files_does_not_keep_their_configs(
    ledger: Ledger, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bool:
        raise LedgerUnavailable("no (test)")

    monkeypatch.setattr(ledger.sent_files, "forget_unused", fail)
    SharedConfigs(worker.engine, {LABEL_LEDGER: "x"}).get("d", lambda: b"x", 0)
    with pytest.raises(LedgerUnavailable):
        worker.next_round()
    worker.next_round()
    assert not worker.engine.config_files


def test_a_store_that_is_away_keeps_nothing_but_its_own_files(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ExpiredRecords) -> int:
        raise StoreUnavailable("the store is away (test)")

    monkeypatch.setattr(ExpiredRecords, "run_once", fail)
    SharedConfigs(worker.engine, {LABEL_LEDGER: "x"}).get("d", lambda: b"x", 0)
    assert worker.next_round().expired == 0
    assert not worker.engine.config_files


def test_sent_files_that_a_round_had_no_time_for_are_the_next_ones(
    worker: Worker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[float] = []

    def run(_: SentFiles) -> bool:
        rounds.append(worker.now)
        return len(rounds) > 1

    monkeypatch.setattr(SentFiles, "run_once", run)
    for _ in range(11):
        worker.next_round()
    assert rounds == [1060, 1120], "then it has time for ten minutes"


def test_a_service_that_the_engine_refuses_to_remove_does_not_keep_the_others(
    stage: Stage, worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, *rest = left_behind(stage, worker.engine, monkeypatch, 3)
    worker.engine.create_config("jaas-unknown-1", {LABEL_LEDGER: "x", LABEL_JOB: "unknown"}, b"input")
    worker.engine.create_config("jaas-unknown-2", {LABEL_LEDGER: "x", LABEL_JOB: "unknown"}, b"input")
    for name in (first, *rest):
        worker.engine.create_config(name, {LABEL_LEDGER: "x", LABEL_JOB: name}, b"input")
    worker.engine.fail("remove", error=EngineRefused("remove: not now (test)"))
    worker.engine.fail("remove_config", error=EngineRefused("remove: in use (test)"))
    repairs = worker.reconciler.run_once()
    assert repairs.removed == rest
    assert "jaas-unknown-1" in worker.engine.config_files
    assert set(worker.engine.config_files) == {"jaas-unknown-1", first}, "what a service has stays"
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert actions.count("service.removal_failed") == 2
    assert worker.next_round().removed == [first]


def test_the_service_of_a_job_whose_record_is_none_is_left_alone(
    stage: Stage, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = left_behind(stage, worker.engine, monkeypatch, 2)
    key = f"{stage.ledger.prefix}:job:job-1"
    assert stage.ledger.client.delete(key)
    stage.ledger.client.set(key, 1)
    worker.engine.create_config("jaas-job-1-2", {LABEL_LEDGER: "x", LABEL_JOB: "job-1"}, b"input")
    assert worker.reconciler.run_once().removed == [good]
    assert worker.engine.running() == [bad]
    assert "jaas-job-1-2" in worker.engine.config_files


def test_inputs_are_listed_in_parts_that_are_short_enough(worker: Worker) -> None:
    """An engine lists them with their contents."""
    for number in range(40):
        job_id = f"{number % 4}f{number}-a"
        worker.engine.create_config(service_name(job_id, 1), {LABEL_LEDGER: "x", LABEL_JOB: job_id}, b"x" * 1000 * 1024)
    for _ in range(20):
        worker.next_round()
        if not worker.engine.config_files:
            break
    assert not worker.engine.config_files
    assert worker.engine.calls["configs"] > 4


@pytest.mark.parametrize("attempt", ["x", "", "-1", "9" * 5000, "²"])
def test_a_label_that_is_no_attempt_does_not_keep_the_others(
    stage: Stage, worker: Worker, monkeypatch: pytest.MonkeyPatch, attempt: str
) -> None:
    (good,) = left_behind(stage, worker.engine, monkeypatch, 1)
    odd = create_or_adopt(worker.engine, SPEC, "odd", 1, {LABEL_LEDGER: "x"})
    worker.engine.relabel(odd.name, LABEL_ATTEMPT, attempt)
    assert worker.reconciler.run_once().removed == [good]


# -- services that appear late ----------------------------------------------------------------------------------------


def appears(worker: Worker, job_id: str) -> None:
    """Have the engine carry the request for attempt 1 out."""
    create_or_adopt(worker.engine, SPEC, job_id, 1, {LABEL_LEDGER: "x", LABEL_SPEC_HASH: SPEC.digest()})
    assert worker.engine.running() == [service_name(job_id, 1)]


@pytest.mark.parametrize("goes_on", [False, True], ids=["the job has ended", "another attempt follows"])
def test_a_service_that_appears_after_its_attempt_s_end_is_stopped(
    ledger: Ledger, worker: Worker, goes_on: bool
) -> None:
    ledger.maintenance.renew_lease("worker-a", 60, {})
    ledger.submission.create("j", SPEC, "q")
    ledger.ownership.claim("j", "worker-a")
    end = [ended(Cause.LAUNCH, None, "refused")]
    if goes_on:
        assert ledger.ownership.back_off("j", "worker-a", end, None, 3600.0, "refused", late=True) == (True, "")
    else:
        assert ledger.ownership.finish("j", "worker-a", end, late=True)
    appears(worker, "j")
    assert worker.reconciler.run_once().removed == []
    assert worker.engine.running() == []
    assert worker.engine.find(service_name("j", 1)), "its name is needed: who sleeps longer must not start it again"


# -- threads ----------------------------------------------------------------------------------------------------------


def test_listening_for_available_jobs_survives_an_error_that_nobody_expected(
    ledger: Ledger, worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listening = stumbling(monkeypatch, ledger.maintenance, "available")
    worker.reconciler.start()
    assert listening.wait(PATIENCE)
    worker.reconciler.close()
    await_end("jaas-available")  # it reads from the connection that the fixture closes
    (said,) = [record for record in caplog.records if record.exc_info]
    assert getattr(said, "action", "") == "step.failed"


# -- jobs that nobody has begun with ----------------------------------------------------------------------------------


def release(ledger: Ledger, jobs: int) -> list[str]:
    """Make jobs that came after one that has ended; return their ids."""
    ledger.maintenance.renew_lease("dead", 60, {})
    ledger.submission.create("first", SPEC, "q")
    ids = [f"after-{number}" for number in range(jobs)]
    ledger.submission.create_many([NewJob(job_id, SPEC, "q", after=(("first", "finish"),)) for job_id in ids])
    assert ledger.ownership.claim("first", "dead").action is ClaimAction.LAUNCH
    assert ledger.ownership.finish("first", "dead", [ended()])
    assert ledger.ownership.mark_reported("first", "dead")
    assert {ledger.queries.get(job_id).state for job_id in ids} == {JobState.QUEUED}
    return ids


def lose_a_worker(ledger: Ledger) -> None:
    """Leave a job behind whose container runs."""
    ledger.submission.create("running", SPEC, "q")
    ledger.ownership.claim("running", "dead")
    assert ledger.ownership.move("running", "dead", JobState.PENDING)
    ledger.maintenance.drop_lease("dead")


def test_a_worker_takes_as_many_released_jobs_as_it_has_room_for(ledger: Ledger, worker: Worker, other: Worker) -> None:
    ids = release(ledger, 10)
    lose_a_worker(ledger)
    worker.free = 3
    worker.reconciler.run_once()
    assert worker.taken[0] == "running", "it is behind them in time, but does not wait for room"
    assert len(worker.taken) == 4
    assert set(worker.taken) - {"running"} <= set(ids)
    worker.free = 0
    worker.reconciler.run_once()
    assert len(worker.taken) == 4
    other.reconciler.run_once()
    assert set(worker.taken) & set(other.taken) == set()
    assert {*worker.taken, *other.taken} == {*ids, "running"}


def test_a_worker_without_room_takes_over_all_the_same(ledger: Ledger, worker: Worker) -> None:
    release(ledger, 10)
    lose_a_worker(ledger)
    worker.free = 0
    worker.reconciler.run_once()
    assert worker.taken == ["running"]


def test_a_worker_without_an_engine_leaves_released_jobs_to_others(ledger: Ledger, worker: Worker) -> None:
    release(ledger, 3)
    worker.engine_away = worker.engine.away = True
    worker.reconciler.run_once()
    assert worker.taken == []


def test_ready_jobs_that_an_older_version_put_among_the_unowned_do_not_stand_before_them(
    ledger: Ledger, worker: Worker
) -> None:
    redis, prefix = ledger.client, ledger.prefix
    ids = release(ledger, 250)
    redis.rename(f"{prefix}:ready", f"{prefix}:unowned")
    lose_a_worker(ledger)
    worker.free = 3
    worker.reconciler.run_once()
    assert worker.taken[0] == "running"
    assert len(worker.taken) == 4
    assert redis.zcard(f"{prefix}:ready") == len(ids)


def test_a_released_job_that_is_claimed_or_ends_is_not_offered_any_more(ledger: Ledger) -> None:
    claimed, cancelled, by_older = release(ledger, 3)
    assert ledger.ownership.claim(claimed, "dead").action is ClaimAction.LAUNCH
    ledger.submission.cancel(cancelled, "enough")
    assert ledger.client.zcard(f"{ledger.prefix}:ready") == 1
    assert ledger.ownership.claim(by_older, "dead").action is ClaimAction.LAUNCH
    ledger.client.zadd(f"{ledger.prefix}:ready", {by_older: 0})  # an older version does not know the set
    assert ledger.maintenance.ready(0) == []
    assert not ledger.client.exists(f"{ledger.prefix}:ready")
    assert ledger.maintenance.unowned(0) == [cancelled]


def test_kept_jobs_go_on_although_whoever_resumed_the_queue_is_gone(worker: Worker) -> None:
    ledger, names = worker.ledger, [f"j{number:02}" for number in range(12)]
    ledger.maintenance.renew_lease(worker.name, 60, {})
    ledger.queues.create("q", {"paused": True}, "me")
    for name in names:
        ledger.submission.create(name, SPEC, "q")
        assert ledger.ownership.claim(name, worker.name).action is ClaimAction.KEPT
    assert worker.next_round().taken_over == []
    # The script of `resume` did its part, and no more.
    ledger.run(
        "queues/change",
        "q",
        name="q",
        new=False,
        values={},
        removed=["paused"],
        verb="resume",
        by="me",
        detail="",
        most=5,
    )
    assert worker.next_round().taken_over == names

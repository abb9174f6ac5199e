"""Each duty of maintenance by itself, on a real ledger and against the engine in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.errors import LedgerUnavailable, UnknownJob, UnreadableRecord
from jaas_submit.ledger import Ledger
from jaas_submit.ledger.maintenance import Due
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.states import JobState
from jaas_worker.maintenance.cluster_facts import ClusterFacts
from jaas_worker.maintenance.dependents import Dependents
from jaas_worker.maintenance.expired_records import ExpiredRecords
from jaas_worker.maintenance.lease import Lease
from jaas_worker.maintenance.lost_messages import LostMessages
from jaas_worker.maintenance.paused_queue import PausedQueue
from jaas_worker.maintenance.take_jobs import take_jobs
from jaas_worker.maintenance.unowned_jobs import UnownedJobs
from jaas_worker.settings import Settings
from jaas_worker.telemetry.metrics import Metrics
from tests.support.fake_swarm import FakeSwarm
from tests.support.maintained import MaintainedWorker

SPEC = JobSpec(image="a")
SETTINGS = Settings(redis_url="redis://unused", queue="q", republish_after=1)
NOTHING_DUE = Due(False, False, False, False, False, False)


def raising(error: Exception) -> Any:
    def raise_it(*_: Any, **__: Any) -> None:
        raise error

    return raise_it


def leave_unowned(ledger: Ledger, job_id: str) -> None:
    """Leave a job behind whose worker has died."""
    ledger.maintenance.renew_lease("dead", 60, {})
    ledger.submission.create(job_id, SPEC, "q")
    ledger.ownership.claim(job_id, "dead")
    assert ledger.ownership.move(job_id, "dead", JobState.PENDING)
    ledger.maintenance.drop_lease("dead")


# -- taking jobs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [UnknownJob("j"), UnreadableRecord("j"), RuntimeError("a defect")])
def test_a_job_that_cannot_be_taken_does_not_keep_the_others(ledger: Ledger, error: Exception) -> None:
    def taking(job_id: str) -> None:
        if job_id == "bad":
            raise error

    worker = MaintainedWorker(taking)
    assert take_jobs(ledger, worker, ["bad", "good"]) == ["good"]


def test_when_redis_is_away_no_further_job_is_tried(ledger: Ledger) -> None:
    tried: list[str] = []

    def taking(job_id: str) -> None:
        tried.append(job_id)
        raise LedgerUnavailable("away")

    with pytest.raises(LedgerUnavailable):
        take_jobs(ledger, MaintainedWorker(taking), ["a", "b"])
    assert tried == ["a"]


def test_a_job_that_the_worker_knows_is_not_given_to_it_again(ledger: Ledger) -> None:
    worker = MaintainedWorker(taken=["known"])
    assert take_jobs(ledger, worker, ["known", "new"]) == ["new"]
    assert worker.taken == ["known", "new"]


# -- jobs without a holder --------------------------------------------------------------------------------------------


def test_jobs_of_a_dead_worker_are_taken_over(ledger: Ledger) -> None:
    leave_unowned(ledger, "j")
    worker = MaintainedWorker()
    assert UnownedJobs(SETTINGS, ledger, worker).run_once(NOTHING_DUE._replace(reap=True)) == ["j"]


def test_nothing_is_taken_over_unless_the_ledger_says_that_it_is_due(ledger: Ledger) -> None:
    leave_unowned(ledger, "j")
    assert UnownedJobs(SETTINGS, ledger, MaintainedWorker()).run_once(NOTHING_DUE) == []


def test_without_an_engine_only_jobs_that_have_ended_are_taken_over(ledger: Ledger) -> None:
    leave_unowned(ledger, "runs")
    worker = MaintainedWorker(engine_away=True)
    assert UnownedJobs(SETTINGS, ledger, worker).run_once(NOTHING_DUE._replace(reap=True)) == []


# -- a paused queue ---------------------------------------------------------------------------------------------------


def test_no_messages_are_taken_while_the_queue_is_paused(ledger: Ledger) -> None:
    worker = MaintainedWorker()
    duty = PausedQueue(SETTINGS, ledger, worker)
    assert not duty.run_once(anyway=False)
    assert ledger.queues.names() == ["q"], "it is there from the worker's start"
    ledger.queues.change("q", {"paused": True}, "pause", "me")
    assert not duty.run_once(anyway=False), "nothing is asked without a notice"
    duty.note("some job")
    assert not duty.run_once(anyway=False)
    duty.note("rules")
    assert duty.run_once(anyway=False)
    assert duty.run_once(anyway=True)
    assert worker.holds == [True]
    ledger.queues.change("q", {"paused": None}, "resume", "me")
    assert not duty.run_once(anyway=True), "the notice was missed"
    assert worker.holds == [True, False]


def test_kept_jobs_of_a_queue_whose_rules_are_lost_go_on(ledger: Ledger) -> None:
    duty = PausedQueue(SETTINGS, ledger, MaintainedWorker())
    ledger.queues.create("q", {"paused": True}, "me")
    ledger.submission.create("j", SPEC, "q")
    ledger.ownership.claim("j", "w")
    ledger.client.delete(f"{ledger.prefix}:queues")
    assert not duty.run_once(anyway=True)
    assert ledger.maintenance.due().opening
    assert not duty.open_places()
    assert ledger.maintenance.ready(60) == ["j"]


def test_a_worker_that_could_not_stop_its_messages_tries_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = MaintainedWorker()
    duty = PausedQueue(SETTINGS, ledger, worker)
    ledger.queues.create("q", {"paused": True}, "me")
    with monkeypatch.context() as failing:
        failing.setattr(worker, "hold_messages", raising(RuntimeError("away")))
        with pytest.raises(RuntimeError):
            duty.run_once(anyway=True)
    assert duty.run_once(anyway=True)
    assert worker.holds == [True]


def test_a_notice_is_kept_while_redis_is_away(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = MaintainedWorker()
    duty = PausedQueue(SETTINGS, ledger, worker)
    ledger.queues.create("q", {"paused": True}, "me")
    with monkeypatch.context() as away:
        away.setattr(ledger.queues, "ensure", raising(LedgerUnavailable("away")))
        with pytest.raises(LedgerUnavailable):
            duty.run_once(anyway=False)
    assert duty.run_once(anyway=False)
    assert worker.holds == [True]


# -- lost messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "taken"), [(100, ["j"]), (0, [])], ids=["room", "no room"])
def test_a_job_whose_message_is_lost_is_taken_where_there_is_room(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, free: int, taken: list[str]
) -> None:
    asked: list[dict[str, Any]] = []

    def lost_messages(*_: Any, **how: Any) -> list[str]:
        asked.append(how)
        return ["j"]

    monkeypatch.setattr(ledger.maintenance, "lost_messages", lost_messages)
    worker = MaintainedWorker(free=free, messages=0)
    assert LostMessages(SETTINGS, ledger, worker).run_once() == taken
    assert asked == [{"empty": True}] * len(taken)


# -- what comes after jobs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "done"), [(3, True), (1000, False)], ids=["little", "more than a round does"])
def test_a_round_says_whether_it_has_released_all_dependents(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, left: int, done: bool
) -> None:
    chunks = iter(range(left, -1, -1))
    monkeypatch.setattr(ledger.maintenance, "release_dependents", lambda: next(chunks) > 0)
    assert Dependents(ledger).run_once() is done


def test_a_worker_that_shuts_down_releases_no_more_dependents(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def released() -> bool:
        calls.append("once")
        return True

    monkeypatch.setattr(ledger.maintenance, "release_dependents", released)
    duty = Dependents(ledger)
    duty.close()
    assert duty.run_once()
    assert len(calls) == 1


# -- one worker for all -----------------------------------------------------------------------------------------------


def test_expired_records_leave_the_indexes(ledger: Ledger) -> None:
    ledger.submission.create_many([NewJob(f"j{number}", SPEC, "q") for number in range(3)])
    ledger.client.delete(ledger.key("job", "j0"), ledger.key("job", "j1"))
    assert ExpiredRecords(ledger, None).run_once() == 2
    assert ledger.queries.ids() == ["j2"]


def test_the_nodes_of_the_swarm_are_told_to_the_ledger(ledger: Ledger) -> None:
    engine = FakeSwarm()
    ClusterFacts(ledger, engine).run_once()
    cluster = ledger.queries.cluster()
    assert cluster is not None
    assert {node.id for node in cluster.nodes} == {node.id for node in engine.cluster().nodes}


# -- the lease --------------------------------------------------------------------------------------------------------


class Holder:
    """Whose lease is renewed, or not."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.told: list[dict[str, Any]] = []

    def renew_lease(self, info: dict[str, Any]) -> None:
        if self.error:
            raise self.error
        self.told.append(info)

    def look_around(self) -> None:
        self.told.append({})


def test_a_renewed_lease_touches_its_file(tmp_path: Path) -> None:
    file, holder = tmp_path / "lease", Holder()
    settings = Settings(redis_url="redis://unused", lease_file=str(file))
    Lease(settings, holder, lambda: {"queue": "q"}, Metrics()).run_once()
    assert file.exists()
    assert holder.told == [{"queue": "q"}, {}]


@pytest.mark.parametrize(
    ("error", "outages"), [(LedgerUnavailable("away"), 1), (RuntimeError("a defect"), 0)], ids=["outage", "defect"]
)
def test_a_lease_that_cannot_be_renewed_leaves_its_file_alone(
    tmp_path: Path, error: Exception, outages: int, caplog: pytest.LogCaptureFixture
) -> None:
    file, metrics = tmp_path / "lease", Metrics()
    settings = Settings(redis_url="redis://unused", lease_file=str(file))
    Lease(settings, Holder(error), dict, metrics).run_once()
    assert not file.exists()
    (said,) = caplog.records
    assert getattr(said, "action", "") == "lease.not_renewed"
    assert bool(said.exc_info) is not bool(outages), "an outage is one line; a defect has its traceback"
    assert metrics.registry.get_sample_value("jaas_lease_renewals_total", {"result": "failed"}) == outages

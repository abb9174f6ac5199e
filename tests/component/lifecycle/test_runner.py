"""A job's life in one worker, without Celery: the runner on a real ledger and against the engine in memory."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from jaas_submit.errors import EngineRefused, EngineUnavailable, UnknownJob
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Stream
from jaas_submit.model.records import JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.retry_policy import Backoff, RetryPolicy, RetryRule
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import service_name
from jaas_submit.output import Ends
from jaas_worker.lifecycle.runner import Runner
from jaas_worker.lifecycle.worker_context import Clock
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import EngineEvent, Frame
from jaas_worker.tracking.exit_notice import forward_exit
from tests.support.fake_swarm import FakeSwarm
from tests.support.stumble import stumbling
from tests.support.wait import await_end, eventually


def ends_of(ledger: Ledger) -> Ends:
    return Ends(ledger.client, ledger.prefix)


PATIENCE = 30.0


class StubDelivery:
    """A wake-up message, and a Celery that takes every result."""

    traceparent = ""
    queue = ""
    wakeup = True
    defect = ""

    def __init__(self, job_id: str) -> None:
        self.job_id = self.task_id = job_id
        self.results: list[JobResult] = []
        self.is_dropped = threading.Event()

    def revoked(self) -> bool:
        return False

    def description(self) -> JobSpec:
        raise AssertionError("it is in the record")

    def message(self) -> str:
        return ""

    def accepted(self, *, first: bool = True) -> None: ...

    def signed(self) -> str:
        return ""

    def running(self, node: str, attempt: int, service: str) -> None: ...

    def report(self, result: JobResult) -> bool:
        self.results.append(result)
        return True

    def retrying(self, why: str, delay: float) -> bool:
        return True

    def done(self) -> None: ...

    def returned(self) -> None: ...

    def follow_up(self) -> str:
        return ""

    def adds_to(self, kept: str) -> bool:
        return False

    def postponed(self) -> None: ...

    def dropped(self) -> None:
        self.is_dropped.set()


class Worker:
    """A runner that polls the swarm at short intervals."""

    def __init__(self, ledger: Ledger, engine: FakeSwarm, name: str, **settings: Any) -> None:
        self.ledger = ledger
        self.engine = engine
        quick = {"poll_interval": 0.02, "state_interval": 0.05, "idle_interval": 0.05, "stop_timeout": 1, "lease": 60}
        made = Settings(redis_url="redis://unused", **{**quick, **settings})
        self.suspended_for = 0.0
        """Seconds by which this worker's clock is ahead: for so long it was suspended."""
        clock = Clock(lambda: time.monotonic() + self.suspended_for)
        self.runner = Runner(made, ledger, engine, name, clock=clock)
        self.runner.start()

    def take(self, job_id: str) -> StubDelivery:
        """Send a job's wake-up message."""
        delivery = StubDelivery(job_id)
        self.runner.take(delivery)
        return delivery

    def submit(self, job_id: str, **fields: Any) -> StubDelivery:
        self.ledger.submission.create(job_id, JobSpec(image="a", **fields), "q")
        return self.take(job_id)

    def wait_for(self, job_id: str, state: JobState) -> JobRecord:
        def there() -> JobRecord | None:
            with contextlib.suppress(UnknownJob):
                record = self.ledger.queries.get(job_id)
                return record if record.state is state else None
            return None

        return eventually(there, PATIENCE, lambda: f"{job_id} {state}; it is {self.ledger.queries.find([job_id])}")


@pytest.fixture
def engine() -> Iterator[FakeSwarm]:
    made = FakeSwarm(("node1", "node2"))
    yield made
    made.close()


@pytest.fixture
def workers(ledger: Ledger, engine: FakeSwarm) -> Iterator[Any]:
    made: list[Worker] = []

    def make(name: str, engine: FakeSwarm = engine, **settings: Any) -> Worker:
        made.append(Worker(ledger, engine, name, **settings))
        return made[-1]

    yield make
    engine.away = False
    for worker in made:
        worker.runner.hand_over()
    await_end("jaas-cancels", "jaas-exit-notices")  # they read from the connection that the fixture closes


@pytest.fixture
def worker(workers: Any) -> Worker:
    made: Worker = workers("worker-a")
    return made


# -- time limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"run_timeout": 0.1}, {"run_timeout": 0.1, "pending_timeout": 3600}])
def test_run_timeout_counts_from_the_moment_when_the_container_runs(
    fields: Any, worker: Worker, engine: FakeSwarm
) -> None:
    engine.auto_start = False
    worker.submit("j", stop_grace=0, **fields)
    worker.wait_for("j", JobState.PENDING)
    engine.start("j")
    record = worker.wait_for("j", JobState.FAILED)
    assert record.last is not None
    assert record.last.cause is Cause.RUN_TIMEOUT


def test_a_container_that_does_not_stop_in_time_loses_its_service(worker: Worker, engine: FakeSwarm) -> None:
    worker.submit("j", stop_grace=0)
    worker.wait_for("j", JobState.RUNNING)
    engine.stop = lambda service_id: True  # type: ignore[method-assign] # the container pays no heed
    worker.ledger.submission.cancel("j", "enough")
    worker.runner.cancel("j", "enough")
    record = worker.wait_for("j", JobState.CANCELLED)
    assert engine.find(record.attempts[0].service or "") is None


# -- time limits on a lost node ---------------------------------------------------------------------------------------


def test_run_timeout_counts_while_the_node_is_down(worker: Worker, engine: FakeSwarm) -> None:
    worker.submit("j", run_timeout=5, stop_grace=0)
    worker.wait_for("j", JobState.RUNNING)
    engine.lose_node("node1")
    eventually(lambda: "is down" in worker.ledger.queries.get("j").detail, PATIENCE, "the node to be seen as lost")
    record = worker.wait_for("j", JobState.FAILED)
    assert record.last is not None
    assert record.last.cause is Cause.RUN_TIMEOUT
    assert "ran longer than run_timeout (5 s)" in record.last.reason


def test_run_timeout_holds_when_another_worker_takes_the_job_over_while_its_node_is_down(
    workers: Any, engine: FakeSwarm
) -> None:
    first = workers("worker-a")
    first.submit("j", run_timeout=6, stop_grace=0)
    first.wait_for("j", JobState.RUNNING)
    engine.lose_node("node1")
    first.runner.hand_over()
    second = workers("worker-b")
    second.take("j")
    record = second.wait_for("j", JobState.FAILED)
    assert record.last is not None
    assert record.last.cause is Cause.RUN_TIMEOUT


# -- exits on other nodes, of which the worker there tells -------------------------------------------------------------


def exit_of(engine: FakeSwarm, job_id: str, code: int) -> EngineEvent:
    """Return what the engine of a job's node says when the container has ended there."""
    service = engine.find(service_name(job_id, 1))
    assert service is not None
    task = engine.tasks_of(service.id)[0]
    return EngineEvent(
        "die", service.id, task.id, job_id, task.container_id or "", code, "2026-11-26T12:00:00Z", task.node_id
    )


def listens(holder: Worker) -> None:
    """Wait until a worker has subscribed to forwarded exits."""
    ledger = holder.ledger
    channel = ledger.channel("exits")
    eventually(lambda: ledger.client.pubsub_numsub(channel)[0][1], PATIENCE, "the holder to listen")


def told(holder: Worker, event: EngineEvent) -> None:
    """Forward an exit to the holder, once it has subscribed."""
    listens(holder)
    forward_exit(ends_of(holder.ledger), event)


@pytest.mark.parametrize(("code", "state"), [(0, JobState.SUCCEEDED), (3, JobState.FAILED)])
def test_the_worker_on_the_node_tells_the_holder_and_the_swarm_need_not(
    code: int, state: JobState, worker: Worker, engine: FakeSwarm
) -> None:
    delivery = worker.submit("j", constraints=("node.hostname==node2",))
    worker.wait_for("j", JobState.RUNNING)
    told(worker, exit_of(engine, "j", code))
    record = worker.wait_for("j", state)
    assert record.last is not None
    assert (record.last.exit_code, record.last.node) == (code, "node2")
    assert record.last.started_at is not None
    assert record.last.finished_at == datetime(2026, 11, 26, 12, tzinfo=UTC)
    eventually(lambda: delivery.results, PATIENCE, "a report")


def test_while_the_output_cannot_be_had_the_end_is_left_to_the_swarm(worker: Worker, engine: FakeSwarm) -> None:
    """The swarm cannot reach that node. When it can, it reports the end, and the output is readable."""
    worker.submit("j", constraints=("node.hostname==node2",))
    worker.wait_for("j", JobState.RUNNING)
    really, asked = engine.logs, []

    def unreachable(
        service_id: str, container_id: str | None, timeout: float, tail: int = 0, only: Stream | None = None
    ) -> Iterator[Frame]:
        asked.append(True)
        raise EngineUnavailable("reading logs: the time allowed is over")
        yield

    engine.logs = unreachable  # type: ignore[method-assign] # the test stands in for it

    def asked_again() -> bool:
        told(worker, exit_of(engine, "j", 0))  # nothing comes of it while the first is looked into
        return len(asked) > 1

    eventually(asked_again, PATIENCE, "the first look to be over")
    assert worker.ledger.queries.get("j").state is JobState.RUNNING
    engine.logs = really  # type: ignore[method-assign] # the test stands in for it
    engine.exit("j", stdout=b"at last\n")
    worker.wait_for("j", JobState.SUCCEEDED)
    logs = worker.ledger.queries.logs("j", 1)
    assert logs is not None
    assert logs.stdout == "at last\n"


def test_where_no_worker_listens_nobody_is_told(ledger: Ledger) -> None:
    assert not ends_of(ledger).forward("x")


@pytest.mark.parametrize(
    "forged", [{"node_id": "of another agent"}, {"task_id": "another"}, {"container_id": "guessed"}]
)
def test_a_forged_end_does_not_count(forged: dict[str, str], worker: Worker, engine: FakeSwarm) -> None:
    """It names the job's service, and differs from what the swarm's task list says."""
    worker.submit("j", constraints=("node.hostname==node2",))
    worker.wait_for("j", JobState.RUNNING)
    event = exit_of(engine, "j", 0)
    told(worker, event._replace(**forged))  # type: ignore[arg-type] # texts alone
    told(worker, event._replace(exit_code=3))
    record = worker.wait_for("j", JobState.FAILED)
    assert record.last is not None
    assert record.last.exit_code == 3


@pytest.mark.parametrize(
    "spoilt", [{}, {"at": "soon"}, {"at": ""}, {"exit_code": "none"}, {"at": None}, {"kind": "start"}, []]
)
def test_what_another_version_tells_is_passed_over(
    spoilt: Any, worker: Worker, engine: FakeSwarm, caplog: pytest.LogCaptureFixture
) -> None:
    worker.submit("j", constraints=("node.hostname==node2",))
    worker.wait_for("j", JobState.RUNNING)
    event = exit_of(engine, "j", 0)
    listens(worker)
    assert ends_of(worker.ledger).forward(json.dumps({**event._asdict(), **spoilt} if spoilt else spoilt))
    told(worker, event)
    worker.wait_for("j", JobState.SUCCEEDED)
    assert not [record for record in caplog.records if record.exc_info]


# -- exits on the worker's own node -----------------------------------------------------------------------------------


def test_a_container_that_ended_well_need_not_be_inspected(worker: Worker, engine: FakeSwarm) -> None:
    engine.auto_start = False
    worker.submit("j")
    worker.wait_for("j", JobState.PENDING)
    eventually(lambda: engine.calls["events"], PATIENCE, "the worker to follow events")
    engine.start("j")
    worker.wait_for("j", JobState.RUNNING)
    engine.die("j")  # of which the swarm does not tell
    record = worker.wait_for("j", JobState.SUCCEEDED)
    assert engine.calls["container_times"] == 0
    assert record.last is not None
    assert record.last.started_at is not None


@pytest.mark.parametrize("here", [True, False])
def test_a_container_with_a_health_check_is_the_swarms_to_judge(here: bool, worker: Worker, engine: FakeSwarm) -> None:
    worker.submit("j", healthcheck=True, constraints=(f"node.hostname==node{1 if here else 2}",))
    worker.wait_for("j", JobState.RUNNING)
    told(worker, exit_of(engine, "j", 0))
    engine.set_task("j", "failed", error="task: non-zero exit (1): dockerexec: unhealthy container", exit_code=1)
    record = worker.wait_for("j", JobState.FAILED)
    assert record.last is not None
    assert "unhealthy" in record.last.reason


# -- how many may be starting -----------------------------------------------------------------------------------------


def test_who_starts_counts_against_the_launch_window_and_who_runs_does_not(workers: Any, engine: FakeSwarm) -> None:
    engine.auto_start = False
    worker: Worker = workers("narrow", max_starting=1)
    jobs = [f"j{number}" for number in range(4)]
    for job_id in jobs:
        worker.submit(job_id)
    for number, job_id in enumerate(jobs):
        worker.wait_for(job_id, JobState.PENDING)
        assert engine.calls["create"] == number + 1, "the next one waits until this one runs"
        assert worker.runner.stats()["starting"] == 1
        engine.start(job_id)
        worker.wait_for(job_id, JobState.RUNNING)


# -- what Redis may have forgotten ------------------------------------------------------------------------------------


def test_an_end_that_redis_has_forgotten_before_it_was_reported_is_written_again(
    worker: Worker, engine: FakeSwarm
) -> None:
    delivery = worker.submit("j")
    worker.wait_for("j", JobState.RUNNING)
    key, client = f"{worker.ledger.prefix}:job:j", worker.ledger.client
    before: dict[Any, Any] = client.hgetall(key)
    tried: list[JobResult] = []

    def report(result: JobResult) -> bool:
        client.delete(key)
        client.hset(key, mapping=before)  # it has come back as it was while the job ran
        tried.append(result)
        return False

    delivery.report = report  # type: ignore[method-assign] # the test stands in for it
    engine.exit("j")
    eventually(lambda: tried, PATIENCE, "a report")
    record = worker.ledger.queries.get("j")
    assert record.state is JobState.RUNNING
    assert not worker.ledger.ownership.mark_reported("j", worker.runner.holder)
    assert not worker.ledger.queries.get("j").reported
    eventually(
        lambda: not worker.ledger.queries.get("j").holder,
        PATIENCE,
        "the worker to let go of it, for who goes on with it",
    )
    assert len(tried) == 1, "what is not true any more was not told once more"


# -- services that appear late ----------------------------------------------------------------------------------------


def test_the_end_of_a_job_whose_create_call_was_not_answered_says_that_a_service_may_follow(
    worker: Worker, engine: FakeSwarm
) -> None:
    engine.fail("create", times=100)
    delivery = worker.submit("j")
    eventually(lambda: engine.calls["create"], PATIENCE, "the request")
    worker.ledger.submission.cancel("j", "enough")
    worker.runner.cancel("j", "enough")
    assert worker.wait_for("j", JobState.CANCELLED).late
    eventually(lambda: delivery.results, PATIENCE, "the result")


def test_so_does_the_end_of_an_attempt_that_is_followed_by_another(worker: Worker, engine: FakeSwarm) -> None:
    engine.fail("create")
    engine.fail("create", error=EngineRefused("create: no such network (test)"))
    again = RetryRule(action="retry", causes=(Cause.LAUNCH,))
    backoff = Backoff(kind="constant", delay=3600, cap=3600, jitter="none")
    worker.submit("j", retry=RetryPolicy(max_attempts=2, rules=(again,), backoff=backoff))
    assert worker.wait_for("j", JobState.BACKOFF).late


def test_an_end_in_good_order_says_nothing_of_the_kind(worker: Worker, engine: FakeSwarm) -> None:
    worker.submit("j")
    worker.wait_for("j", JobState.RUNNING)
    engine.exit("j")
    assert not worker.wait_for("j", JobState.SUCCEEDED).late


# -- threads ----------------------------------------------------------------------------------------------------------


def test_listening_for_cancellations_survives_an_error_that_nobody_expected(
    ledger: Ledger, workers: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listening = stumbling(monkeypatch, ledger.ownership, "cancellations")
    workers("worker-a")
    assert listening.wait(PATIENCE)
    (said,) = [record for record in caplog.records if record.exc_info]
    assert getattr(said, "action", "") == "step.failed"


# -- suspended between the claim and the launch -----------------------------------------------------------------------


@pytest.mark.parametrize("image", ["a", "a@sha256:" + 64 * "0"], ids=["any image", "an image with a digest"])
def test_who_was_suspended_after_its_claim_and_has_lost_the_job_creates_nothing(
    worker: Worker, engine: FakeSwarm, ledger: Ledger, image: str
) -> None:
    gate = engine.hold("resolve")
    ledger.submission.create("j", JobSpec(image=image), "q")
    delivery = worker.take("j")
    assert gate.reached.wait(PATIENCE)
    ledger.maintenance.drop_lease("worker-a")
    ledger.maintenance.renew_lease("worker-b", 60, {})
    assert ledger.ownership.claim("j", "worker-b").action is ClaimAction.ADOPT
    worker.suspended_for = 60.0
    worker.runner.renew_lease({})  # as it does when it is awake again, and may do first
    gate.open()
    assert delivery.is_dropped.wait(PATIENCE)
    assert engine.calls["create"] == 0
    assert ledger.queries.get("j").holder == "worker-b"


def test_who_was_suspended_and_still_holds_the_job_goes_on(worker: Worker, engine: FakeSwarm) -> None:
    gate = engine.hold("resolve")
    worker.submit("j")
    assert gate.reached.wait(PATIENCE)
    worker.suspended_for = 60.0
    worker.runner.renew_lease({})
    gate.open()
    worker.wait_for("j", JobState.RUNNING)


# -- records that are none --------------------------------------------------------------------------------------------


def spoil(ledger: Ledger, job_id: str) -> None:
    """Put something else where a job's record is."""
    key = f"{ledger.prefix}:job:{job_id}"
    ledger.client.delete(key)
    ledger.client.set(key, 1)


def test_a_message_of_a_job_whose_record_is_none_is_dropped(worker: Worker, engine: FakeSwarm) -> None:
    worker.ledger.submission.create("bad", JobSpec(image="a"), "q")
    spoil(worker.ledger, "bad")
    assert worker.take("bad").is_dropped.wait(PATIENCE)
    assert not worker.runner.knows("bad")
    worker.submit("good")
    worker.wait_for("good", JobState.RUNNING)
    assert engine.running() == ["jaas-good-1"]


@pytest.mark.parametrize("when", ["before it runs", "while it runs"])
def test_a_record_that_is_damaged_meanwhile_keeps_no_other_job(when: str, worker: Worker, engine: FakeSwarm) -> None:
    engine.auto_start = False
    bad, good = worker.submit("bad"), worker.submit("good")
    for job_id in ("bad", "good"):
        worker.wait_for(job_id, JobState.PENDING)
    if when == "while it runs":
        engine.start("bad")
        worker.wait_for("bad", JobState.RUNNING)
    spoil(worker.ledger, "bad")
    if when == "while it runs":
        engine.exit("bad")
    else:
        engine.start("bad")
    engine.start("good")
    worker.wait_for("good", JobState.RUNNING)
    assert bad.is_dropped.wait(PATIENCE)
    engine.exit("good")
    worker.wait_for("good", JobState.SUCCEEDED)
    assert not bad.results
    assert not good.is_dropped.is_set()


def test_jobs_are_handed_over_beside_a_record_that_is_none(worker: Worker, ledger: Ledger) -> None:
    for job_id in ("bad", "good"):
        worker.submit(job_id)
        worker.wait_for(job_id, JobState.RUNNING)
    spoil(ledger, "bad")
    worker.runner.hand_over()
    assert not ledger.queries.get("good").holder
    assert ledger.ownership.held_by(worker.runner.holder) == set()

"""How the executor carries out what steps return: phases, threads, repetition. The steps have tests of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jaas_submit.ledger import Claim, ClaimAction
from jaas_submit.model.causes import Cause
from jaas_submit.model.files.listing import OutputFiles
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import LogStatus
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from jaas_submit.model.states import JobState
from jaas_worker.decisions.task_outcome import StopRequest
from jaas_worker.lifecycle.job_table import JobTable
from jaas_worker.lifecycle.step_executor import MAX_UNEXPECTED_ERRORS, StepExecutor
from jaas_worker.lifecycle.step_threads import retry_delay
from jaas_worker.lifecycle.tracked_job import Phase, TrackedJob
from jaas_worker.lifecycle.worker_context import NoOutputs
from jaas_worker.tracking.tracked_service import Ended, ExitReported, Gone, Running, ServiceRef, Waiting
from tests.support.step_world import StubDelivery, World, record_of
from tests.support.wait import eventually
from tests.unit.lifecycle.test_steps import exit_of

PATIENCE = 20.0


class StubTracker:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.watched: dict[str, ServiceRef] = {}
        self.on_watch: Callable[[], None] = lambda: None

    def watch(self, ref: ServiceRef) -> None:
        self.on_watch()
        self.watched[ref.job_id] = ref

    def forget(self, ref: ServiceRef) -> None:
        self.watched.pop(ref.job_id, None)

    def stopping(self, ref: ServiceRef) -> None:
        self.told.append("stopping" if ref.job_id in self.watched else "stopping what is not followed")

    def look_soon(self) -> None:
        self.told.append("look soon")


class Stage:
    """An executor with its threads, in a worker with one job."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tracker: Any = StubTracker()
        settings = world.context.settings
        self.table = JobTable(settings.max_in_flight, settings.max_starting)
        self.executor = StepExecutor(
            world.context, self.table, self.tracker, retry_pause=lambda _tries: 0.01, unexpected_pause=0.01
        )
        self.executor.start()

    def take(self) -> TrackedJob:
        assert self.table.take(self.world.delivery) is None
        job = self.table.get("j")
        assert job is not None
        return job

    def track(self) -> TrackedJob:
        """Take the job, and return it when it is tracked."""
        job = self.take()
        eventually(lambda: "j" in self.tracker.watched, PATIENCE, "the service to be followed")
        return job

    def see(self, seen: Callable[..., Any], *more: Any) -> None:
        task = self.world.engine.job("j")
        self.executor.observed(self.tracker.watched["j"], seen(task, *more))

    def wait_for(self, *told: str) -> None:
        eventually(
            lambda: self.world.delivery.told[-len(told) :] == list(told),
            PATIENCE,
            lambda: f"{self.world.delivery.told}",
        )

    def close(self) -> None:
        self.table.close()
        self.executor.close(PATIENCE)
        self.world.engine.close()


@pytest.fixture
def stages() -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(world: World | None = None) -> Stage:
        made.append(Stage(world or World()))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


@pytest.mark.parametrize(("tries", "seconds"), [(1, 0.4), (2, 0.8), (5, 6.4), (6, 10.0), (1000, 10.0)])
def test_how_long_a_step_that_failed_waits(tries: int, seconds: float) -> None:
    assert retry_delay(tries) == pytest.approx(seconds)


# -- the straight way -------------------------------------------------------------------------------------------------


def test_a_job_from_its_message_to_its_report(stages: Callable[..., Stage]) -> None:
    stage = stages()
    job = stage.track()
    assert (job.phase, stage.table.stats()["starting"]) == (Phase.TRACKED, 1)
    stage.see(Waiting, True)
    assert stage.table.stats()["starting"] == 1
    stage.see(Running)
    assert stage.table.stats()["starting"] == 0
    stage.world.engine.exit("j", 4)
    stage.see(Ended)
    stage.wait_for("accepted", "running on node1", "done")
    assert stage.world.ledger.names() == ["claim", "move", "move", "finish", "reported"]
    assert stage.tracker.watched == {}
    assert "j" not in stage.table
    assert stage.table.stats()["in_flight"] == 0
    eventually(lambda: stage.world.engine.calls["remove"], PATIENCE, "the service to be removed")


def test_a_retry_is_told_and_the_job_is_over_for_this_worker(stages: Callable[..., Stage]) -> None:
    again = RetryPolicy(max_attempts=2, backoff=Backoff(kind="constant", delay=5, jitter="none"))
    stage = stages(World(record_of(spec=JobSpec(image="a", retry=again))))
    stage.track()
    stage.world.engine.exit("j", 4)
    stage.see(Ended)
    stage.wait_for("accepted", "retrying", "done")
    assert stage.world.ledger.names() == ["claim", "move", "back_off"]


def test_an_end_is_begun_with_once(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.track()
    service = stage.tracker.watched["j"]
    stage.world.engine.exit("j")
    task = stage.world.engine.job("j")
    gate = stage.world.engine.hold("logs")
    stage.executor.observed(service, Ended(task))
    stage.executor.observed(service, Ended(task))
    stage.executor.observed(service, Gone())
    gate.open()
    stage.wait_for("done")
    assert stage.world.ledger.names().count("finish") == 1


def test_who_learns_of_an_end_while_it_is_written_down_keeps_off(stages: Callable[..., Stage]) -> None:
    stage = stages(World(finish_threads=4))
    stage.track()
    stage.see(Running)
    asked = stage.world.engine.hold("container_times")
    evidence = exit_of(stage.world, 3, here=True)
    stage.see(lambda _: ExitReported(evidence))
    assert asked.reached.wait(PATIENCE)
    stage.world.engine.exit("j", 3)
    reading = stage.world.engine.hold("logs")
    stage.see(Ended)
    asked.open()
    assert reading.reached.wait(PATIENCE)
    stage.executor.submit(reading.open)  # a thread is free again: what the engine was asked for has been answered
    stage.wait_for("done")
    assert stage.world.ledger.names().count("finish") == 1
    assert stage.world.engine.calls["logs"] == 1


def test_a_result_that_the_ledger_has_already_is_reported(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.track()
    stage.world.engine.exit("j")
    stage.see(Ended)
    stage.wait_for("done")
    record = stage.world.ledger.record
    stage.world.ledger.claims = [Claim(ClaimAction.REPLAY, "SUCCEEDED", record)]
    stage.world.delivery = StubDelivery("j")
    stage.take()
    stage.wait_for("accepted", "done")
    assert stage.world.delivery.results[0].ok


# -- repetition -------------------------------------------------------------------------------------------------------


def test_a_launch_that_fails_for_now_begins_with_the_claim_once_more(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.world.engine.fail("create", times=2)
    stage.track()
    assert stage.world.ledger.names() == ["claim", "move", "claim", "move", "claim", "move"]
    notes = [write[1:] for write in stage.world.ledger.writes if write[0] == "move"]
    answer = {"detail": "create: the engine does not answer (test)"}
    assert notes[:2] == [(JobState.LAUNCHING, answer)] * 2
    assert notes[2][0] is JobState.PENDING
    assert stage.table.stats()["starting"] == 1


def test_a_launch_that_is_repeated_keeps_no_other_from_starting(stages: Callable[..., Stage]) -> None:
    stage = stages(World(max_starting=1))
    stage.world.engine.fail("create", times=10_000)
    stage.take()
    other = StubDelivery("other")
    stage.table.take(other)
    eventually(lambda: "accepted" in other.told, PATIENCE, lambda: f"{other.told}, {stage.table.stats()}")


def test_an_end_that_cannot_be_written_down_reads_the_output_again_and_keeps_none_meanwhile(
    stages: Callable[..., Stage],
) -> None:
    stage = stages()
    stage.track()
    stage.world.engine.exit("j", stdout=b"out\n")
    stage.world.ledger.away = 2
    stage.see(Ended)
    stage.wait_for("done")
    assert stage.world.engine.calls["logs"] == 3
    assert stage.world.delivery.results[0].logs.stdout == "out\n"


def test_files_that_are_in_the_store_are_not_copied_again(stages: Callable[..., Stage]) -> None:
    stage = stages(World(record_of(spec=JobSpec(image="a", outputs=["/out"]))))
    stage.track()
    copied = []

    class Outputs(NoOutputs):
        def collect(self, *_: object) -> OutputFiles:
            copied.append(True)
            stage.world.ledger.away = 2
            return OutputFiles(status=LogStatus.PARTIAL, reason="test")

    stage.world.context.outputs = Outputs()
    stage.world.engine.exit("j")
    stage.see(Ended)
    stage.wait_for("done")
    assert copied == [True]
    assert stage.world.ledger.names()[-2:] == ["finish", "reported"]


def test_a_report_that_fails_is_repeated_alone_and_asks_the_ledger_how_it_stands(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.track()
    stage.world.delivery.takes_results = False
    stage.world.engine.exit("j", 4)
    stage.see(Ended)
    eventually(lambda: len(stage.world.delivery.results) > 2, PATIENCE, "reports")
    stage.world.delivery.takes_results = True
    stage.wait_for("done")
    assert stage.world.ledger.names().count("finish") == 1


def test_a_job_whose_step_fails_again_and_again_in_a_way_that_nobody_expected_is_failed(
    stages: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = stages()
    stage.world.engine.fail("create", times=100, error=ValueError("stumbled (test)"))
    stage.take()
    stage.wait_for("accepted", "done")
    attempt = stage.world.ledger.record.attempts[-1]
    assert (attempt.cause, attempt.reason) == (Cause.ENGINE, "internal error: ValueError('stumbled (test)')")
    assert len([one for one in caplog.records if one.exc_info]) == MAX_UNEXPECTED_ERRORS


def test_each_step_has_its_own_count_of_errors(stages: Callable[..., Stage]) -> None:
    stage = stages()
    few = MAX_UNEXPECTED_ERRORS - 1
    stage.world.engine.fail("create", times=few, error=ValueError("stumbled (test)"))
    stage.track()
    stage.world.engine.fail("logs", times=few, error=ValueError("stumbled (test)"))
    failures = iter(range(few))

    def report(result: Any) -> bool:
        for number in failures:
            raise ValueError(f"stumbled (test) {number}")
        return True

    stage.world.delivery.report = report  # type: ignore[method-assign] # the test stands in for it
    stage.world.engine.exit("j")
    stage.see(Ended)
    stage.wait_for("accepted", "done")


def test_one_whose_end_cannot_be_written_for_such_an_error_is_left_to_others(
    stages: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = stages()
    stage.track()
    stage.world.engine.fail("logs", times=100, error=ValueError("stumbled (test)"))
    stage.world.engine.exit("j")
    stage.see(Ended)
    stage.wait_for("accepted", "dropped")
    assert stage.world.ledger.names() == ["claim", "move", "release"]
    assert len([one for one in caplog.records if one.exc_info]) == MAX_UNEXPECTED_ERRORS


def test_while_the_engine_is_away_what_cannot_be_launched_is_left_to_others(stages: Callable[..., Stage]) -> None:
    stage = stages()
    gate = stage.world.engine.hold("create")
    stage.world.engine.fail("create", times=100)
    stage.take()
    assert gate.reached.wait(PATIENCE)
    stage.table.hold(True)
    gate.open()
    stage.wait_for("accepted", "dropped")
    assert stage.world.ledger.names() == ["claim", "move", "release"]


# -- who has the job --------------------------------------------------------------------------------------------------


def test_who_has_lost_the_job_drops_it(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.track()
    stage.world.ledger.refuses = True
    stage.see(Running)
    assert stage.world.delivery.told == ["accepted", "dropped"]
    assert stage.tracker.watched == {}


def test_who_was_slower_than_the_jobs_copy_removes_the_service_and_reports(stages: Callable[..., Stage]) -> None:
    stage = stages(World(record_of(batch="b", index=0)))
    stage.track()
    attempt = {"number": 1, "state": JobState.SUCCEEDED, "cause": Cause.EXIT}
    stage.world.ledger.record = record_of(batch="b", index=0, state=JobState.SUCCEEDED, attempts=(attempt,))
    stage.executor.cancelled("j", "its copy was faster")
    stage.wait_for("accepted", "done")
    assert stage.world.engine.calls["remove"] == 1
    assert stage.world.ledger.names() == ["claim", "move", "reported"]


def test_a_copy_of_the_message_that_came_while_celery_was_told_is_dropped(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.track()
    copy = StubDelivery("j")
    first = stage.world.delivery

    def report(result: Any) -> bool:
        assert stage.table.take(copy) is first
        return True

    first.report = report  # type: ignore[method-assign] # the test stands in for it
    stage.world.engine.exit("j")
    stage.see(Ended)
    eventually(lambda: copy.told == ["accepted", "dropped"], PATIENCE, lambda: f"{copy.told}")
    assert first.told[-1] == "done"


# -- stops ------------------------------------------------------------------------------------------------------------


def test_a_job_that_is_stopped_while_it_is_tracked(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.track()
    stage.executor.stop("j", StopRequest(Cause.CANCELLED, "enough"))
    stage.executor.stop("j", StopRequest(Cause.CANCELLED, "again"))
    eventually(lambda: stage.world.engine.job("j").ended, PATIENCE, "the container's end")
    assert stage.tracker.told.count("stopping") == 1
    stage.see(Ended)
    stage.wait_for("done")
    assert stage.world.delivery.results[0].reason == "enough"


def test_a_job_that_is_stopped_while_it_is_launched(stages: Callable[..., Stage]) -> None:
    stage = stages()
    gate = stage.world.engine.hold("create")
    stage.take()
    assert gate.reached.wait(PATIENCE)
    stage.executor.stop("j", StopRequest(Cause.CANCELLED, "enough"))
    gate.open()
    eventually(lambda: stage.world.engine.calls["stop"], PATIENCE, "the stop")


def test_a_stop_that_comes_while_the_tracker_is_told_of_the_service(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stopping = threading.Thread(target=stage.executor.stop, args=("j", StopRequest(Cause.CANCELLED, "enough")))

    def on_watch() -> None:
        stopping.start()
        stopping.join(0.2)  # it has to wait, unless it goes wrong

    stage.tracker.on_watch = on_watch
    stage.track()
    stopping.join(PATIENCE)
    assert stage.tracker.told[0] == "stopping"


def test_a_stop_that_does_not_arrive_is_sent_again(
    stages: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaas_worker.lifecycle.stop.RESEND_S", 0.01)
    stage = stages()
    stage.track()
    stage.world.engine.fail("stop", times=3)
    stage.executor.stop("j", StopRequest(Cause.CANCELLED, "enough"))
    eventually(lambda: stage.world.engine.job("j").ended, PATIENCE, "the container's end")


def test_a_time_that_is_over(stages: Callable[..., Stage]) -> None:
    stage = stages(World(record_of(spec=JobSpec(image="a", run_timeout=9))))
    stage.track()
    stage.see(Running)
    stage.world.now += 9
    stage.executor.check_overdue()
    assert stage.tracker.told == []
    stage.world.now += 0.1
    stage.executor.check_overdue()
    eventually(lambda: stage.world.engine.job("j").ended, PATIENCE, "the container's end")


# -- an engine's word -------------------------------------------------------------------------------------------------


def test_outputs_of_other_nodes_do_not_keep_all_threads_waiting(stages: Callable[..., Stage]) -> None:
    stage = stages(World(finish_threads=4))
    stage.track()
    stage.see(Running)
    evidence = exit_of(stage.world, 0)
    gate = stage.world.engine.hold("logs")
    stage.see(lambda _: ExitReported(evidence))
    assert gate.reached.wait(PATIENCE)
    assert stage.tracker.told == []
    stage.see(lambda _: ExitReported(evidence))
    assert stage.tracker.told == ["look soon"]
    gate.open()
    stage.wait_for("done")


def test_an_error_that_nobody_expected_leaves_the_end_to_the_swarm(
    stages: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = stages()
    stage.track()
    stage.see(Running)
    stage.world.engine.fail("container_times", error=ValueError("stumbled (test)"))
    evidence = exit_of(stage.world, 3, here=True)
    stage.see(lambda _: ExitReported(evidence))
    eventually(lambda: [one for one in caplog.records if one.exc_info], PATIENCE, "the error to be logged")
    stage.world.engine.exit("j", 3)
    stage.see(Ended)
    stage.wait_for("done")


def test_what_only_the_swarm_can_judge_is_looked_for_soon(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.track()
    evidence = exit_of(stage.world, 137)
    stage.see(lambda _: ExitReported(evidence))
    assert stage.tracker.told == ["look soon"]


def test_what_was_seen_of_an_earlier_service_of_the_job_does_not_count(stages: Callable[..., Stage]) -> None:
    stage = stages()
    stage.track()
    stage.executor.observed(stage.tracker.watched["j"]._replace(attempt=2), Gone())
    assert stage.world.ledger.names() == ["claim", "move"]
    assert "j" in stage.tracker.watched

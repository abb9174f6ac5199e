"""The tracker against the engine in memory: which lists it asks for, and what it tells."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import LABEL_LEDGER, LABEL_WORKER
from jaas_worker.decisions.end_belief import Belief, believe
from jaas_worker.settings import Settings
from jaas_worker.swarm.create_or_adopt import create_or_adopt
from jaas_worker.swarm.engine import EngineEvent, TaskView
from jaas_worker.swarm.service_spec import ServiceDefaults
from jaas_worker.tracking.poll_schedule import PollSchedule
from jaas_worker.tracking.tracked_service import (
    Ended,
    ExitReported,
    Gone,
    NodeLost,
    Running,
    Seen,
    ServiceRef,
    Waiting,
)
from jaas_worker.tracking.tracker import Tracker
from tests.support.fake_swarm import FakeSwarm
from tests.support.wait import eventually

ALL = f"{LABEL_LEDGER}=x"


def words(seen: Seen) -> str:
    """Return what was seen, in a word or two."""
    match seen:
        case Waiting():
            return "starting" if seen.starting else "waiting"
        case ExitReported(evidence):
            assert evidence.exit is not None
            return "exited here" if evidence.here else f"exited there: {evidence.exit.exit_code}"
        case Running():
            return "running"
        case NodeLost():
            return "lost"
        case Ended():
            return "ended"
        case Gone():
            return "gone"


class Heard:
    """A listener that keeps what it is told, and signals it."""

    def __init__(self) -> None:
        self.tracker: Tracker
        self.told: list[tuple[str, str]] = []
        self.beliefs: list[Belief] = []
        self.fails_once: set[str] = set()
        """What raises an error the first time that it is told."""
        self._changed = threading.Condition()

    def observed(self, service: ServiceRef, seen: Seen) -> None:
        what = words(seen)
        with self._changed:
            if what in self.fails_once:
                self.fails_once.discard(what)
                raise ValueError("it could not be written down (test)")
            self.told.append((what, service.job_id))
            if isinstance(seen, ExitReported):
                self.beliefs.append(believe(seen.evidence).belief)
            self._changed.notify_all()
        if what in {"ended", "gone"}:
            self.tracker.forget(service)

    def wait_for(self, what: str, job_id: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (what, job_id) in self.told, 20), self.told

    def overdue(self) -> None:
        """Nothing is overdue here."""


class Stage:
    """A tracker and its engine. How often the tracker polls is up to the settings.

    Args:
        start: whether the tracker is started at once.
        nodes: of the swarm.
        schedule: of its polls; by default the one that the settings ask for.
        settings: of the worker.
    """

    def __init__(
        self,
        *,
        start: bool = True,
        nodes: tuple[str, ...] = ("node1",),
        schedule: PollSchedule | None = None,
        **settings: Any,
    ) -> None:
        self.engine = FakeSwarm(nodes)
        self.heard = Heard()
        self.tracker = Tracker(self.engine, ALL, Settings(redis_url="redis://unused", **settings), schedule)
        self.heard.tracker = self.tracker
        if start:
            self.start()

    def start(self) -> None:
        self.tracker.start(self.heard)
        # Events that come before the stream is open are not heard.
        eventually(lambda: self.engine.calls["events"], 20, "the tracker to follow events")

    def launch(self, job_id: str, worker: str = "me", constraints: tuple[str, ...] = ()) -> ServiceRef:
        marks = {LABEL_LEDGER: "x"}
        spec = JobSpec(image="x", constraints=constraints)
        service = create_or_adopt(self.engine, spec, job_id, 1, marks, defaults=ServiceDefaults(worker=worker))
        ref = ServiceRef(job_id, 1, service.id, f"{LABEL_WORKER}={worker}" if worker else "")
        self.tracker.watch(ref)
        return ref

    def close(self) -> None:
        self.tracker.close()
        self.engine.close()


def test_only_what_a_worker_launched_is_listed_and_what_it_took_over() -> None:
    stage = Stage(poll_interval=0.01, state_interval=0.01)
    stage.launch("mine")
    for number in range(5):  # nobody watches them here
        others = ServiceDefaults({LABEL_LEDGER: "x"}, "other")
        create_or_adopt(stage.engine, JobSpec(image="x"), f"other{number}", 1, {}, defaults=others)
    asked: list[str] = []
    listed = stage.engine.all_tasks

    def all_tasks(label: str) -> list[TaskView]:
        asked.append(label)
        return listed(label)

    stage.engine.all_tasks = all_tasks  # type: ignore[method-assign] # each call is noted
    eventually(lambda: asked, 20, "a list")
    assert set(asked) == {f"{LABEL_WORKER}=me"}
    taken_over = stage.launch("theirs", worker="dead")
    eventually(lambda: f"{LABEL_WORKER}=dead" in asked, 20, "a list of what was taken over")
    stage.launch("old", worker="")  # by a version that had no such label
    eventually(lambda: ALL in asked, 20, "a list of all")
    stage.tracker.forget(taken_over)
    asked.clear()
    eventually(lambda: len(asked) > 6, 20, "more lists")
    assert f"{LABEL_WORKER}=dead" not in asked[3:], "a round that had begun before asks for three at most"
    stage.close()


def test_a_service_that_is_gone() -> None:
    stage = Stage(poll_interval=0.01, state_interval=0.01)
    stage.launch("j")
    stage.heard.wait_for("running", "j")
    stage.engine.remove_outside("j")
    stage.heard.wait_for("gone", "j")
    stage.close()


def test_while_lists_are_dear_what_may_be_starting_is_looked_at_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else a full launch window would wait for the next list, and ten thousand jobs for a thousand of them."""
    monkeypatch.setattr("jaas_worker.tracking.tracker.SLOW_LIST_S", -1.0)
    stage = Stage(start=False, poll_interval=0.01, state_interval=600)
    stage.engine.auto_start = False
    for number in range(30):  # these are about to start, and remain so
        stage.launch(f"slow{number}")
    for number in range(60):
        stage.launch(f"j{number}", constraints=("node.labels.gpu==yes",))
    stage.engine.all_tasks = lambda label: []  # type: ignore[method-assign] # who has to wait for a list sees nothing
    stage.start()
    for number in range(60):
        stage.heard.wait_for("waiting", f"j{number}")
    assert stage.engine.calls["tasks_of"] < 60, "several are looked at in one call"
    stage.close()


def test_a_container_whose_image_is_pulled_for_long_counts_no_more_as_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(start=False, poll_interval=0.01, state_interval=0.01)
    stage.engine.auto_start = False
    stage.launch("j")
    stage.start()
    stage.heard.wait_for("starting", "j")
    monkeypatch.setattr("jaas_worker.tracking.tracker.PULL_S", -1.0)
    stage.heard.wait_for("waiting", "j")
    stage.engine.start("j")
    stage.heard.wait_for("running", "j")
    stage.close()


def test_a_job_that_is_stopped_on_a_lost_node_does_not_run_again() -> None:
    """What the swarm shows of it is what it saw last; that its node is back would be news."""
    stage = Stage(poll_interval=0.01, state_interval=0.01)
    service = stage.launch("j")
    stage.heard.wait_for("running", "j")
    stage.engine.lose_node("node1")
    stage.heard.wait_for("lost", "j")
    stage.tracker.stopping(service)
    lists = stage.engine.calls["all_tasks"]
    eventually(lambda: stage.engine.calls["all_tasks"] > lists + 2, 20, "more lists")
    stage.tracker.close()
    assert stage.heard.told[-1] == ("lost", "j")
    stage.engine.close()


def test_a_container_that_runs_is_told_once_and_again_when_that_could_not_be_written_down() -> None:
    stage = Stage(start=False, poll_interval=0.01, state_interval=0.01)
    stage.heard.fails_once.add("running")
    stage.launch("j")
    stage.start()
    stage.heard.wait_for("running", "j")
    lists = stage.engine.calls["all_tasks"]
    eventually(lambda: stage.engine.calls["all_tasks"] > lists + 2, 20, "more lists")
    stage.tracker.close()
    assert stage.heard.told == [("running", "j")]
    stage.engine.close()


def test_a_node_that_is_lost_and_comes_back_is_told() -> None:
    stage = Stage(start=False, poll_interval=0.01, state_interval=0.01)
    stage.heard.fails_once.add("lost")
    stage.launch("j")
    stage.start()
    stage.heard.wait_for("running", "j")
    stage.engine.lose_node("node1")
    stage.heard.wait_for("lost", "j")
    stage.engine.node_returns("node1")
    stage.engine.exit("j")
    stage.heard.wait_for("ended", "j")
    stage.close()


def test_that_a_container_runs_is_told_once_more_when_its_node_is_back() -> None:
    stage = Stage(start=False, poll_interval=0.01, state_interval=0.01)
    stage.launch("j")
    shown, back = stage.engine.all_tasks, threading.Event()

    def all_tasks(label: str) -> list[TaskView]:
        return [task._replace(desired="running") if back.is_set() else task for task in shown(label)]

    stage.engine.all_tasks = all_tasks  # type: ignore[method-assign] # an engine that lags
    stage.engine.ended_tasks = lambda label: []  # type: ignore[method-assign] # an engine that lags
    stage.engine.tasks_of = lambda *services: []  # type: ignore[method-assign] # an engine that lags
    stage.start()
    stage.heard.wait_for("running", "j")
    stage.engine.lose_node("node1")
    stage.heard.wait_for("lost", "j")
    back.set()
    eventually(lambda: len(stage.heard.told) == 3, 20, "it to run again")
    lists = stage.engine.calls["all_tasks"]
    eventually(lambda: stage.engine.calls["all_tasks"] > lists + 2, 20, "more lists")
    assert [what for what, _ in stage.heard.told] == ["running", "lost", "running"]
    stage.close()


def test_a_container_that_the_swarm_takes_off_its_node_is_not_lost() -> None:
    stage = Stage(start=False, poll_interval=0.01, state_interval=0.01)
    stage.launch("j")
    stage.engine.lose_node("node1")
    stage.engine.node_returns("node1")  # it is up, and the task is to end: a drain
    stage.start()
    eventually(lambda: stage.engine.calls["down_nodes"], 20, "the nodes to be asked for")
    stage.engine.exit("j")
    stage.heard.wait_for("ended", "j")
    assert ("lost", "j") not in stage.heard.told
    stage.close()


def alone(jobs: list[str], unsettled_for: float = 2.0) -> Stage:
    """Return a stage with one node, whose events are known to be followed, and so many jobs that none is looked at."""
    schedule = PollSchedule(0.01, 600, 1, by_events_interval=600.0, unsettled_for=unsettled_for)
    stage = Stage(schedule=schedule, poll_interval=0.01)
    for job in jobs:
        stage.launch(job)
    stage.tracker.nodes_are([stage.engine.info().node_id])
    eventually(stage.tracker.by_events, 20, "an event, which shows that they come")
    return stage


def test_in_a_swarm_of_one_node_its_events_tell_of_ends() -> None:
    jobs = [f"j{number}" for number in range(20)]
    stage = alone(jobs)
    before = stage.engine.calls["ended_tasks"]
    for job in jobs[:10]:
        stage.engine.exit(job)
        stage.heard.wait_for("ended", job)
    assert stage.engine.calls["ended_tasks"] - before <= 1, "one may have been under way"
    stage.engine.fail("events", times=1000)
    stage.engine.break_events()
    for job in jobs[10:]:  # by looking, as there are no events
        stage.engine.exit(job)
        stage.heard.wait_for("ended", job)
    stage.close()


def test_more_deaths_at_once_than_one_look_takes() -> None:
    jobs = [f"j{number}" for number in range(60)]
    stage = alone(jobs)
    gate = stage.engine.hold("tasks_of")
    for job in jobs:
        stage.engine.exit(job)
    gate.open()
    for job in jobs:
        stage.heard.wait_for("ended", job)
    assert stage.engine.calls["tasks_of"] < 60, "several are looked at in one call"
    stage.close()


def test_the_swarm_is_asked_for_the_end_of_what_it_stops() -> None:
    """A container's end says that the task's is near, and not how the swarm will judge it."""
    jobs = [f"j{number}" for number in range(8)]
    stage = alone(jobs, unsettled_for=600.0)
    stage.tracker.stopping(stage.launch("stopped"))
    before = stage.engine.calls["ended_tasks"]
    stage.engine.die("stopped")
    eventually(lambda: stage.engine.calls["ended_tasks"] > before + 5, 20, "looks at ended tasks")
    stage.engine.set_task("stopped", "shutdown")
    stage.heard.wait_for("ended", "stopped")
    stage.close()


def test_where_there_are_other_nodes_ended_tasks_are_looked_at() -> None:
    stage = alone(["first"])
    own = stage.engine.info().node_id

    def looked(times: int) -> bool:
        return stage.engine.calls["ended_tasks"] > times

    for nodes in ([own, "another"], ["another"], []):
        stage.tracker.nodes_are(nodes)
        before = stage.engine.calls["ended_tasks"]
        eventually(partial(looked, before + 5), 20, "looks at ended tasks")
    stage.close()


# -- what the workers on other nodes tell -----------------------------------------------------------------------------


class Told:
    """A tracker with a job that runs on another node; nothing tells of its end but the worker there."""

    def __init__(self, state_interval: float = 600) -> None:
        self.stage = Stage(nodes=("node1", "node2"), poll_interval=60, state_interval=state_interval)
        self.stage.launch("j", constraints=("node.hostname==node2",))
        self.task = self.stage.engine.job("j")
        self.stage.heard.wait_for("running", "j")

    def tell(self, code: int, **fields: Any) -> None:
        """Tell of the job's end."""
        names = (self.task.service_id, self.task.id, "j", self.task.container_id or "")
        event = EngineEvent("die", *names, code, "2026-11-26T12:00:00Z", self.task.node_id)
        self.stage.tracker.exited_elsewhere(event._replace(**fields))

    def wait_for(self, what: str) -> None:
        self.stage.heard.wait_for(what, "j")
        self.stage.close()


def test_an_exit_that_the_worker_on_its_node_tells_is_passed_on_with_what_it_tells() -> None:
    told = Told()
    told.tell(7)
    told.wait_for("exited there: 7")
    assert told.stage.heard.beliefs == [Belief.READ_OUTPUT]


def test_the_exit_of_another_container_is_not_believed() -> None:
    told = Told()
    told.tell(8, container_id="of another attempt")
    told.tell(9, service_id="unknown")
    told.tell(7)
    told.wait_for("exited there: 7")
    assert not {what for what, _ in told.stage.heard.told} & {"exited there: 8", "exited there: 9"}


@pytest.mark.parametrize("state", ["starting", "ready"])
def test_no_exit_is_believed_before_the_swarm_hands_out_the_output(state: str) -> None:
    told = Told()
    told.stage.engine.set_task("j", state)
    told.tell(0)
    told.wait_for("starting")
    assert "exited there: 0" not in {what for what, _ in told.stage.heard.told}


def test_where_several_workers_share_an_engine_it_is_asked_itself() -> None:
    stage = Stage(poll_interval=60, state_interval=600)
    service = stage.launch("j")
    stage.heard.wait_for("running", "j")
    task = stage.engine.job("j")
    event = EngineEvent("die", service.id, task.id, "j", task.container_id or "", 3, "2026-11-26T12:00:00Z")
    stage.tracker.exited_elsewhere(event)
    stage.heard.wait_for("exited here", "j")
    assert stage.heard.beliefs == [Belief.ASK_ENGINE]
    stage.close()


def test_where_much_happens_it_is_left_to_the_swarm() -> None:
    told = Told(state_interval=0.02)
    others = [told.stage.launch(f"j{number}") for number in range(8)]
    told.tell(8)
    lists = told.stage.engine.calls["all_tasks"]
    eventually(lambda: told.stage.engine.calls["all_tasks"] > lists + 1, 20, "another round")
    for other in others:
        told.stage.tracker.forget(other)
    told.tell(7)
    told.wait_for("exited there: 7")
    assert ("exited there: 8", "j") not in told.stage.heard.told


def test_a_list_that_fails_keeps_no_end_back() -> None:
    # Without a pause after a failure, as where it takes longer to fail than the pause after it.
    stage = Stage(start=False, schedule=PollSchedule(0.01, 0.01, 1, retry_pause=0.0), poll_interval=0.01)
    jobs = [f"j{number}" for number in range(8)]  # more than are looked at closely
    for job in jobs:
        stage.launch(job)
        stage.engine.exit(job)
    stage.engine.fail("all_tasks", times=10**9)
    stage.start()
    for job in jobs:
        stage.heard.wait_for("ended", job)
    stage.close()

"""The tracker against the engine in memory: which lists it asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from jaas_submit.names import LABEL_LEDGER, LABEL_WORKER
from jaas_submit.spec import JobSpec
from jaas_submit.states import Cause
from jaas_worker import tracker
from jaas_worker.engine import EngineEvent, TaskView
from jaas_worker.entry import Entry
from jaas_worker.launcher import create_or_adopt
from jaas_worker.observe import StopRequest
from jaas_worker.settings import Settings
from jaas_worker.tracker import Tracker
from tests.support.fake_swarm import FakeSwarm
from tests.support.wait import eventually

ALL = f"{LABEL_LEDGER}=x"


class Heard:
    """A listener that keeps what it is told, and signals it."""

    def __init__(self) -> None:
        self.tracker: Tracker
        self.told: list[tuple[str, str]] = []
        self.others: list[str] = []
        self._changed = threading.Condition()

    def _tell(self, what: str, entry: Entry) -> None:
        with self._changed:
            if (what, entry.job_id) not in self.told:
                self.told.append((what, entry.job_id))
                self._changed.notify_all()

    def wait_for(self, what: str, job_id: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (what, job_id) in self.told, 20), self.told

    def task_ended(self, entry: Entry, task: TaskView) -> None:
        self.tracker.forget(entry)
        self._tell("ended", entry)

    def container_died(self, entry: Entry, task: TaskView, event: EngineEvent, *, here: bool) -> None:
        self._tell("died" if here else f"died there: {event.exit_code}", entry)

    def died_here(self, event: EngineEvent) -> None:
        self.others.append(event.job_id)

    def task_running(self, entry: Entry, task: TaskView) -> None:
        self._tell("running", entry)

    def task_waiting(self, entry: Entry, task: TaskView, *, starting: bool) -> None:
        self._tell("starting" if starting else "waiting", entry)

    def node_lost(self, entry: Entry, task: TaskView) -> None:
        self._tell("lost", entry)

    def service_gone(self, entry: Entry) -> None:
        self.tracker.forget(entry)
        self._tell("gone", entry)

    def tick(self) -> None:
        """Nothing is overdue here."""


class Stage:
    """A tracker, and an engine whose lists are asked as rarely as the settings say.

    Args:
        start: whether the tracker is started at once.
        settings: of the worker.
    """

    def __init__(self, *, start: bool = True, **settings: Any) -> None:
        self.engine = FakeSwarm()
        self.heard = Heard()
        self.tracker = Tracker(self.engine, ALL, Settings(redis_url="redis://unused", **settings))
        self.heard.tracker = self.tracker
        if start:
            self.start()

    def start(self) -> None:
        self.tracker.start(self.heard)
        # Events that come before the stream is open are not heard.
        eventually(lambda: self.engine.calls["events"], 20, "the tracker to follow events")

    def launch(self, job_id: str, worker: str = "me", constraints: tuple[str, ...] = ()) -> Entry:
        marks = {LABEL_LEDGER: "x"}
        spec = JobSpec(image="x", constraints=constraints)
        service = create_or_adopt(self.engine, spec, job_id, 1, marks, worker=worker)
        entry = Entry(job_id, None, service=service.name, service_id=service.id)  # type: ignore[arg-type] # no message here
        entry.label = f"{LABEL_WORKER}={worker}" if worker else ""
        self.tracker.watch(entry)
        return entry


def test_only_what_a_worker_launched_is_listed_and_what_it_took_over() -> None:
    stage = Stage(poll_interval=0.01, state_interval=0.01)
    stage.launch("mine")
    for number in range(5):  # nobody watches them here
        create_or_adopt(stage.engine, JobSpec(image="x"), f"other{number}", 1, {LABEL_LEDGER: "x"}, worker="other")
    asked: list[str] = []
    listed = stage.engine.all_tasks
    stage.engine.all_tasks = lambda label: asked.append(label) or listed(label)  # type: ignore[method-assign,func-returns-value]
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
    stage.tracker.close()
    stage.engine.close()


def test_a_service_that_is_gone() -> None:
    stage = Stage(poll_interval=0.01, state_interval=0.01)
    stage.launch("j")
    stage.heard.wait_for("running", "j")
    stage.engine.remove_outside("j")
    stage.heard.wait_for("gone", "j")
    stage.tracker.close()
    stage.engine.close()


def test_while_lists_are_dear_what_may_be_starting_is_looked_at_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else a full launch window would wait for the next list, and ten thousand jobs for a thousand of them."""
    monkeypatch.setattr("jaas_worker.tracker._DEAR", -1.0)
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
    stage.tracker.close()
    stage.engine.close()


def test_a_job_that_is_stopped_on_a_lost_node_does_not_run_again() -> None:
    """What the swarm shows of it is what it saw last; that its node is back would be news."""
    stage = Stage(poll_interval=0.01, state_interval=0.01)
    entry = stage.launch("j")
    stage.heard.wait_for("running", "j")
    stage.tracker.forget(entry)
    stage.engine.lose_node("node1")
    stage.heard.told.clear()
    entry.lost, entry.stop = stage.engine.job("j"), StopRequest(Cause.CANCELLED, "enough")
    stage.tracker.watch(entry)
    stage.heard.wait_for("lost", "j")
    stage.tracker.close()
    # A round that had begun before may have told what it saw then.
    assert stage.heard.told[stage.heard.told.index(("lost", "j")) :] == [("lost", "j")]
    stage.engine.close()


def alone(monkeypatch: pytest.MonkeyPatch, jobs: list[str]) -> Stage:
    """Return a stage with one node, whose events are known to be followed, and so many jobs that none is looked at."""
    monkeypatch.setattr("jaas_worker.tracker._BY_EVENTS", 600.0)
    stage = Stage(poll_interval=0.01, state_interval=600)
    for job in jobs:
        stage.launch(job)
    stage.tracker.nodes_are([stage.engine.info().node_id])
    eventually(stage.tracker._alone, 20, "an event, which shows that they come")
    return stage


def test_in_a_swarm_of_one_node_its_events_tell_of_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [f"j{number}" for number in range(20)]
    stage = alone(monkeypatch, jobs)
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
    stage.tracker.close()
    stage.engine.close()


def test_more_deaths_at_once_than_one_look_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [f"j{number}" for number in range(60)]
    stage = alone(monkeypatch, jobs)
    gate = stage.engine.hold("tasks_of")
    for job in jobs:
        stage.engine.exit(job)
    gate.open()
    for job in jobs:
        stage.heard.wait_for("ended", job)
    assert stage.engine.calls["tasks_of"] < 60, "several are looked at in one call"
    stage.tracker.close()
    stage.engine.close()


def test_the_swarm_is_asked_for_the_end_of_what_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's end says that the task's is near, and not how the swarm will judge it."""
    monkeypatch.setattr("jaas_worker.tracker._UNSETTLED", 600.0)
    jobs = [f"j{number}" for number in range(8)]
    stage = alone(monkeypatch, jobs)
    entry = stage.launch("stopped")
    entry.stop = StopRequest(Cause.CANCELLED, "enough")
    before = stage.engine.calls["ended_tasks"]
    stage.engine.die("stopped")
    eventually(lambda: stage.engine.calls["ended_tasks"] > before + 5, 20, "looks at ended tasks")
    stage.engine.set_task("stopped", "shutdown")
    stage.heard.wait_for("ended", "stopped")
    stage.tracker.close()
    stage.engine.close()


def test_where_there_are_other_nodes_ended_tasks_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = alone(monkeypatch, ["first"])
    own = stage.engine.info().node_id
    for nodes in ([own, "another"], ["another"], []):
        stage.tracker.nodes_are(nodes)
        before = stage.engine.calls["ended_tasks"]
        eventually(lambda before=before: stage.engine.calls["ended_tasks"] > before + 5, 20, "looks at ended tasks")
    stage.tracker.close()
    stage.engine.close()


# -- what the workers on other nodes tell -----------------------------------------------------------------------------


class Told:
    """A tracker whose thread does not run, with a job that runs on another node."""

    def __init__(self) -> None:
        self.stage = Stage(start=False)
        self.stage.engine = FakeSwarm(("node1", "node2"))
        self.tracker = self.stage.tracker
        self.tracker._engine = self.stage.engine
        self.tracker._listener = self.stage.heard
        self.tracker._node_id = self.stage.engine.info().node_id
        self.entry = self.stage.launch("j", constraints=("node.hostname==node2",))
        (self.task,) = self.stage.engine.tasks_of(self.entry.service_id)

    def tell(self, code: int, **fields: Any) -> set[str]:
        """Tell of the job's end; return what the listener has heard by then."""
        names = (self.entry.service_id, self.task.id, "j", self.task.container_id or "")
        event = EngineEvent("die", *names, code, "2026-11-26T12:00:00Z")
        self.tracker.died_elsewhere(event._replace(**fields))
        self.tracker._see_died()
        return {what for what, _ in self.stage.heard.told}


def test_an_end_that_the_worker_on_its_node_tells_is_passed_on_with_what_it_tells() -> None:
    told = Told()
    assert told.tell(7) == {"died there: 7"}


def test_an_end_of_another_container_is_not() -> None:
    told = Told()
    assert "died there: 0" not in told.tell(0, container_id="of another attempt")
    assert "died there: 0" not in told.tell(0, service_id="unknown")


@pytest.mark.parametrize("state", ["starting", "ready"])
def test_nor_is_one_of_a_task_whose_output_the_swarm_does_not_hand_out_yet(state: str) -> None:
    told = Told()
    told.stage.engine.set_task("j", state)
    assert told.tell(0) == {"starting"}


def test_where_several_workers_share_an_engine_it_is_asked_itself() -> None:
    told = Told()
    told.tracker._node_id = told.task.node_id
    assert told.tell(0) == {"died"}


def test_where_much_happens_it_is_left_to_the_swarm() -> None:
    told = Told()
    for number in range(8):
        told.stage.launch(f"j{number}")
    assert told.tell(0) == set()


def test_the_end_of_a_container_that_nobody_here_watches_is_for_others() -> None:
    stage = Stage(poll_interval=60, state_interval=600)
    entry = stage.launch("theirs")
    stage.tracker.forget(entry)
    stage.engine.exit("theirs")
    eventually(lambda: stage.heard.others == ["theirs"], 20, "the end to be passed on")
    stage.tracker.close()
    stage.engine.close()


def test_a_list_that_fails_keeps_no_end_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_worker.tracker._AGAIN", 0.0)  # as where it takes longer to fail than the pause after it
    stage = Stage(start=False, poll_interval=0.01, state_interval=0.01)
    jobs = [f"j{number}" for number in range(8)]  # more than are looked at closely
    for job in jobs:
        stage.launch(job)
        stage.engine.exit(job)
    stage.engine.fail("all_tasks", times=10**9)
    stage.start()
    for job in jobs:
        stage.heard.wait_for("ended", job)
    stage.tracker.close()
    stage.engine.close()


def test_after_one_slow_look_at_ended_tasks_they_are_looked_at_as_often_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    really = tracker._seconds
    slow = iter([0.5])

    def seconds(call: Callable[[], None]) -> float:
        took = really(call)
        return next(slow, took) if call.__name__ == "_see_ended" else took

    monkeypatch.setattr(tracker, "_seconds", seconds)
    stage = Stage(start=False, poll_interval=0.01, state_interval=0.1)
    for number in range(8):  # more than are looked at closely
        stage.launch(f"j{number}")
    stage.start()
    eventually(lambda: stage.engine.calls["ended_tasks"] > 40, 20, "looks at ended tasks")
    assert stage.engine.calls["all_tasks"] < 40, "they come between the lists"
    stage.tracker.close()
    stage.engine.close()

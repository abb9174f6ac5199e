"""When the exit of a container is accepted, by table."""

from __future__ import annotations

from typing import Any

import pytest

from jaas_worker.decisions.end_belief import Belief, Evidence, believe
from jaas_worker.swarm.engine import ContainerTimes, EngineEvent, TaskView

BEGAN, AT = "2026-11-26T12:00:00Z", "2026-11-26T12:00:05Z"


def task(state: str = "running", desired: str = "running", **fields: Any) -> TaskView:
    return TaskView("t", "s", BEGAN, desired, state, "n", timestamp=BEGAN, **{"container_id": "c", **fields})


def event(code: int | None = 0, **fields: Any) -> EngineEvent:
    told = {"task_id": "t", "job_id": "j", "container_id": "c", "at": AT, "exit_code": code, "node_id": "n"}
    return EngineEvent("die", "s", **{**told, **fields})


def times(code: int | None) -> ContainerTimes:
    return ContainerTimes(BEGAN, AT, oom_killed=False, exit_code=code)


ENDED = task("complete", "shutdown", exit_code=0)
CLOSING = task(desired="shutdown")


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        # The swarm's word.
        (Evidence(task()), Belief.ALIVE),
        (Evidence(task("pending", container_id=None)), Belief.ALIVE),
        (Evidence(ENDED), Belief.ENDED),
        (Evidence(ENDED, stopping=True, health_checked=True, exit=event()), Belief.ENDED),
        # It wants the task ended: by itself, or since jaas asked for it, or since the node is down.
        (Evidence(CLOSING), Belief.ASK_NODE),
        (Evidence(CLOSING, node_down=False), Belief.SWARM_JUDGES),
        (Evidence(CLOSING, node_down=True), Belief.NODE_LOST),
        (Evidence(CLOSING, stopping=True), Belief.ALIVE),
        (Evidence(CLOSING, stopping=True, node_lost=True), Belief.NODE_LOST),
        (Evidence(CLOSING, node_lost=True), Belief.NODE_LOST),
        # It shows no task.
        (Evidence(missing_for=2.0), Belief.ALIVE),
        (Evidence(missing_for=2.1), Belief.ASK_SWARM),
        (Evidence(missing_for=2.1, task_seen=True), Belief.GONE),
        (Evidence(missing_for=2.1, service_exists=False), Belief.GONE),
        (Evidence(missing_for=2.1, service_exists=True), Belief.ALIVE),
        # This worker's engine says that the container has ended.
        (Evidence(task(), exit=event(), here=True, began=BEGAN), Belief.ENDED),
        (Evidence(task("starting"), exit=event(), here=True, began=BEGAN), Belief.ENDED),
        (Evidence(task(), exit=event(), here=True), Belief.ASK_ENGINE),
        (Evidence(task(), exit=event(at=""), here=True, began=BEGAN), Belief.ASK_ENGINE),
        (Evidence(task(), exit=event(3), here=True, began=BEGAN), Belief.ASK_ENGINE),
        (Evidence(task(), exit=event(3), here=True, engine_asked=True, times=times(3)), Belief.ENDED),
        (Evidence(task(), exit=event(137), here=True, engine_asked=True, times=times(137)), Belief.SWARM_JUDGES),
        (Evidence(task(), exit=event(3), here=True, engine_asked=True), Belief.SWARM_JUDGES),
        (Evidence(task(), exit=event(3), here=True, engine_asked=True, times=times(None)), Belief.SWARM_JUDGES),
        (Evidence(task("preparing"), exit=event(), here=True, began=BEGAN), Belief.SWARM_JUDGES),
        (Evidence(CLOSING, exit=event(), here=True, began=BEGAN), Belief.SWARM_JUDGES),
        # Another node's engine does.
        (Evidence(task(), exit=event()), Belief.READ_OUTPUT),
        (Evidence(task(), exit=event(3)), Belief.READ_OUTPUT),
        (Evidence(task(), exit=event(3), output_found=True), Belief.ENDED),
        (Evidence(task(), exit=event(3), output_found=False), Belief.ALIVE),
        (Evidence(task(), exit=event(137)), Belief.SWARM_JUDGES),
        (Evidence(task("starting"), exit=event()), Belief.SWARM_JUDGES),
        (Evidence(CLOSING, exit=event()), Belief.SWARM_JUDGES),
        # It is not of this task, or the swarm runs the task on another node.
        (Evidence(task(), exit=event(node_id="other")), Belief.SWARM_JUDGES),
        (Evidence(task(), exit=event(node_id="")), Belief.SWARM_JUDGES),
        (Evidence(task(), exit=event(task_id="other")), Belief.SWARM_JUDGES),
        (Evidence(task(), exit=event(container_id="other")), Belief.SWARM_JUDGES),
        # Whichever it is: what only the swarm can judge.
        *(
            (Evidence(task(), exit=event(), here=here, began=BEGAN, stopping=True), Belief.SWARM_JUDGES)
            for here in (True, False)
        ),
        *(
            (Evidence(task(), exit=event(), here=here, began=BEGAN, health_checked=True), Belief.SWARM_JUDGES)
            for here in (True, False)
        ),
        *(
            (Evidence(task(), exit=event(container_id="other"), here=here, began=BEGAN), Belief.SWARM_JUDGES)
            for here in (True, False)
        ),
    ],
)
def test_what_is_believed(evidence: Evidence, expected: Belief) -> None:
    assert believe(evidence).belief is expected


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize(("code", "state"), [(0, "complete"), (3, "failed")])
def test_an_end_that_is_believed_looks_as_the_swarm_will_show_it(here: bool, code: int, state: str) -> None:
    evidence = Evidence(
        task(), exit=event(code), here=here, engine_asked=here, times=times(code), output_found=not here
    )
    belief, shown, found = believe(evidence)
    assert belief is Belief.ENDED
    assert shown is not None
    assert (shown.state, shown.exit_code, shown.timestamp) == (state, code, AT)
    assert found == times(code)

"""PURE: when the end of an attempt is accepted, and from which source.

The swarm's report always counts. The engine that ran the container knows the exit up to 0.1 s before the swarm does.
Its report counts if it is complete. No report is no end: a service that is missing from one list, or a node that is
down, proves nothing about the container.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from jaas_worker.decisions.task_outcome import ended_here
from jaas_worker.swarm.engine import ContainerTimes, EngineEvent, TaskView

__all__ = ["MISSING_FOR_S", "Belief", "Evidence", "Verdict", "believe"]

MISSING_FOR_S = 2.0
"""How long a service must be missing from the list before it counts as gone: the list may be a moment old."""


class Belief(Enum):
    """The conclusion from the evidence."""

    ALIVE = auto()  # no sign that it has ended
    ENDED = auto()  # it has ended, as the verdict's task says
    GONE = auto()  # its service does not exist any more
    NODE_LOST = auto()  # its node is down: whether the container runs is unknown until the node is back
    SWARM_JUDGES = auto()  # its container has exited, but only the swarm can say how: wait for its report
    ASK_SWARM = auto()  # does the service exist?
    ASK_NODE = auto()  # is its node down?
    ASK_ENGINE = auto()  # how did the container end?
    READ_OUTPUT = auto()  # can the output be read?


class Evidence(NamedTuple):
    """The facts about an attempt. Facts not asked for yet are None."""

    task: TaskView | None = None
    """As the swarm shows it; None if it shows none."""
    stopping: bool = False
    """jaas asked for the container's end."""
    health_checked: bool = False
    """The swarm may stop the container because of its health check, and only the swarm knows."""
    exit: EngineEvent | None = None
    """The container's exit, as its engine reports it."""
    here: bool = False
    """That engine is this worker's own; otherwise the exit was forwarded from another node."""
    began: str = ""
    """When this worker's engine saw the container start (RFC 3339); empty if that event was missed."""
    engine_asked: bool = False
    times: ContainerTimes | None = None
    """The answer of this worker's engine about the container; None if it does not know it."""
    output_found: bool | None = None
    """Whether the swarm returns the output."""
    missing_for: float = 0.0
    """Seconds for which the swarm has shown no task."""
    task_seen: bool = False
    """The swarm has shown one before."""
    service_exists: bool | None = None
    node_lost: bool = False
    """The node was down when it was last asked for."""
    node_down: bool | None = None
    """Whether it is down now."""


class Verdict(NamedTuple):
    """What is accepted."""

    belief: Belief
    task: TaskView | None = None
    """The task, as the swarm shows it or will show it in a moment."""
    times: ContainerTimes | None = None
    """The container's times, if known."""


def believe(evidence: Evidence) -> Verdict:
    """Return the conclusion about an attempt's end, or the fact that has to be asked for first.

    Args:
        evidence: what is known.
    """
    task = evidence.task
    if task is None:
        return Verdict(_missing(evidence))
    if task.ended:
        return Verdict(Belief.ENDED, task)
    if evidence.exit is not None:
        return _exited(evidence, evidence.exit, task)
    # The swarm wants it ended. Unless jaas has requested that, its node may be down. A node that was down before still
    # is, even if jaas requests a stop: "running" is only the last known state.
    if task.desired == "shutdown" and (not evidence.stopping or evidence.node_lost):
        if evidence.node_lost or evidence.node_down:
            return Verdict(Belief.NODE_LOST, task)
        return Verdict(Belief.ASK_NODE if evidence.node_down is None else Belief.SWARM_JUDGES, task)
    return Verdict(Belief.ALIVE, task)


def _missing(evidence: Evidence) -> Belief:
    if evidence.missing_for <= MISSING_FOR_S:
        return Belief.ALIVE
    # A service that has lost its task was scaled to zero; a new one gets its task soon.
    if evidence.task_seen or evidence.service_exists is False:
        return Belief.GONE
    return Belief.ASK_SWARM if evidence.service_exists is None else Belief.ALIVE


def _exited(evidence: Evidence, event: EngineEvent, task: TaskView) -> Verdict:
    """Return the conclusion from the report of the container's engine."""
    left = Verdict(Belief.SWARM_JUDGES, task)
    if evidence.stopping or evidence.health_checked or task.container_id != event.container_id:
        return left
    if not evidence.here:
        # The swarm returns no output and no error for a task that it does not show as running yet. Source:
        # moby/swarmkit, manager/logbroker/subscription.go, match.
        times = ContainerTimes(task.timestamp, event.at, oom_killed=False, exit_code=event.exit_code)
        ended = ended_here(task, times)
        # An agent tells of its own node alone.
        told_of = (event.task_id, event.node_id)
        if told_of != (task.id, task.node_id) or task.state != "running" or not ended.ended:
            return left
        if evidence.output_found is None:
            return Verdict(Belief.READ_OUTPUT, task)
        # If the swarm cannot reach that node now, it reports the exit later, and then the output is available.
        return Verdict(Belief.ENDED, ended, times) if evidence.output_found else Verdict(Belief.ALIVE, task)
    if event.exit_code == 0 and evidence.began and event.at:
        known: ContainerTimes | None = ContainerTimes(evidence.began, event.at, oom_killed=False, exit_code=0)
    elif evidence.engine_asked:
        known = evidence.times
    else:  # for other exit codes the engine knows whether memory ran out
        return Verdict(Belief.ASK_ENGINE, task)
    ended = ended_here(task, known)
    return Verdict(Belief.ENDED, ended, known) if ended.ended else left

"""PURE: whether an exit code comes from an engine that was restarted, and not from the job."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from jaas_worker.decisions.times import parse_time
from jaas_worker.swarm.engine import ContainerTimes, NodeChange, TaskView

__all__ = [
    "BEFORE_BACK",
    "engine_restarted",
    "killed_by_restart",
    "may_be_restart",
    "node_came_back",
    "restart_reason",
]

_NOT_KNOWN: Final = 255
"""Exit code that a restarted engine reports for a container that exited while it was down, if it knows no other.
Source: moby, daemon/daemon.go, ``restore``; seen on Docker 20.10."""

_BY_RESTART: Final = {
    _NOT_KNOWN: "its engine was restarted meanwhile and does not know how it ended; it says {said}",
    # Without live-restore an engine that starts stops the containers that still run from before.
    137: "its engine was restarted and killed it: {said}",
    143: "its engine was restarted and stopped it: {said}",
}
_REPORTED_LATE: Final = timedelta(seconds=0.9)
"""A report that comes this long after a container's end is late: the engine was restarted meanwhile. A running engine
reports an end within 0.8 s (on 2 busy cores), a restarted one after 1.1 s or more. For a container that ended while it
was away, a restarted engine may give the moment of its own start as the end."""
BEFORE_BACK, _AFTER_BACK, _STOPPED_BY_START = timedelta(seconds=30), timedelta(seconds=2), timedelta(seconds=15)
"""A restarted engine reports its containers' ends 0.1 to 4 s before the swarm counts its node as back, and up to 16 s
where the swarm has to elect a leader first (busy processors). The clocks of the node and of the leader may differ."""


def node_came_back(change: NodeChange, task: TaskView, started_at: datetime | None) -> bool:
    """Return whether a task's node came back when the task's end was reported, or later: its engine was away."""
    back, ended = parse_time(change.at), parse_time(task.timestamp)
    if back is None or ended is None or (started_at is not None and back <= started_at):
        return False
    return ended <= back + _AFTER_BACK


def may_be_restart(task: TaskView) -> bool:
    """Return whether a task's exit code may come from a restarted engine, and not from the job."""
    return task.state == "failed" and task.exit_code in _BY_RESTART and task.error.startswith("task: non-zero exit")


def engine_restarted(
    task: TaskView, started_at: datetime | None, times: ContainerTimes | None, back: datetime | None
) -> bool:
    """Return whether the end was reported by an engine that had just come back.

    There is no direct sign. An engine that was only cut off also reports late, but records when it saw the exit. 143
    comes from a stop, which a restarted engine orders and reports at once. A worker may look late, after more changes.
    So does 137 where the process ignores the signal. An engine that starts tells its clients of no such end: that
    parts it from a process that was killed while its engine ran.

    Args:
        task: it, with an exit code that may come from a restart.
        started_at: when its container started.
        times: of the container, if its engine or its node's agent told them.
        back: when the swarm's record of its node changed last.
    """
    reported = parse_time(task.timestamp)
    if reported is None or back is None or (started_at is not None and back <= started_at):
        return False
    if task.exit_code == 143:
        return reported - _STOPPED_BY_START <= back
    finished = parse_time(times.finished_at) if times is not None else None
    unheard = task.exit_code == 137 and times is not None and times.heard is False
    if finished is not None and not unheard and reported - finished < _REPORTED_LATE:
        return False
    return reported - _AFTER_BACK <= back <= reported + BEFORE_BACK


def killed_by_restart(task: TaskView) -> bool:
    """Return whether an exit code that may come from a restart is a true one."""
    return may_be_restart(task) and task.exit_code != _NOT_KNOWN


def restart_reason(task: TaskView, said: str) -> str:
    """Return the reason of an attempt that its engine's restart has ended.

    Args:
        task: it.
        said: what the swarm says of it.
    """
    return _BY_RESTART[task.exit_code or _NOT_KNOWN].format(said=said)

"""PURE: what a task's last state means for the job.

Source of the states: moby/swarmkit, api/types.proto and agent/exec; the texts were seen on Docker 20.10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from jaas_submit.model.bounds import shown
from jaas_submit.model.causes import Cause, facts_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Outcome
from jaas_submit.model.states import JobState
from jaas_submit.placement.preparing import preparing_detail
from jaas_worker.decisions.engine_restart import (
    BEFORE_BACK,
    engine_restarted,
    killed_by_restart,
    may_be_restart,
    restart_reason,
)
from jaas_worker.decisions.times import parse_time
from jaas_worker.swarm.engine import ContainerTimes, NodeChange, TaskView

__all__ = [
    "StopRequest",
    "asks_for_node",
    "attempt_task",
    "ended_here",
    "image_reason",
    "may_still_run",
    "outcome_of",
    "output_lost",
    "pending_reason",
    "stop_mark",
    "waiting_reason",
]

_MAX_PROBLEM: Final = 500
"""Characters of a registry's answer that a reason has."""

_SIGNALLED = 128
"""Exit codes above this are of processes that a signal ended."""

_NOT_FOUND = ("executable file not found", "no such file or directory", "not found in $path")
_NOT_EXECUTABLE = ("permission denied", "exec format error", "is a directory")
_ENGINE = (
    "connection error: desc",  # the engine lost its containerd
    # It was killed after it created the container and before it recorded that, and finds the container.
    "starting container failed: id already in use",
    "starting container failed: unable to remount dir as readonly",  # its mount of configs and secrets was busy
    'conflict. the container name "/',
    # Docker 26 and 28: an overlay network was removed, another one has got its addresses, and this node's engine still
    # holds the first.
    "invalid pool request: pool overlaps",
)
_THROWN_AWAY = "no such container: "
"""What the swarm says of a task that ran when its engine was told to stop (SIGTERM, as from systemd): the engine leaves
the swarm, stops its containers before their ends are told, and removes them. Exit code and output are lost. Seen on
Docker 20.10 and 28.5, on one manager and on three."""

_FORBIDDEN = "assigned node no longer meets constraints"
"""What the swarm says of a task whose node has lost a label, or resources, that its service asks for. Source:
moby/swarmkit, manager/orchestrator/constraintenforcer."""

_STOPPING_MARGIN: Final = timedelta(seconds=5)  # for the order to stop a container to reach its node

_MADE_BEFORE = re.compile(r"starting container failed: task [0-9a-f]{64}: already exists")
_IMAGE = ("no such image", "pull access denied", "manifest unknown", "manifest for", "repository does not exist")

_KILLED = 137  # exit code of a process that was killed with SIGKILL

_SIGKILLED = "task: non-zero exit (137)"
"""The whole text for a killed process. If the engine killed it because of a HEALTHCHECK, more text follows."""

_TAKEN_AWAY = {
    "orphaned": (Cause.NODE_LOST, "its node has been away for too long"),
    "remove": (Cause.REMOVED_OUTSIDE, "somebody else removed the service or its task"),
    "shutdown": (Cause.PREEMPTED, "the swarm took the container off its node (drained, or no longer allowed)"),
}
_STOPPED_ON_RETURN: Final = "its node was away {away}, and the swarm stopped the container when it was back"

_STOPPED_AFTER_BACK: Final = timedelta(seconds=60)
"""The swarm stops the containers of a node within 5 s of its return; the container may take its ``stop_grace``."""

_TOLD_BEFORE_BACK: Final = timedelta(seconds=5)
"""An engine that returns stops what it may no longer run at once, 0 to 4 s before the swarm counts its node as back."""

_UNCHANGED: Final = NodeChange()


class StopRequest(NamedTuple):
    """Why jaas itself had a container stopped."""

    cause: Cause
    reason: str


def attempt_task(tasks: Iterable[TaskView]) -> TaskView | None:
    """Return the task that ran the attempt: the first one of its service.

    Stopping a container leaves a second task behind that can never be placed (see ``Engine.stop``).
    """
    return min(tasks, key=lambda task: task.created_at, default=None)


def ended_here(task: TaskView, times: ContainerTimes | None) -> TaskView:
    """Return the task as the swarm will show it in a moment, when its engine says that its container has ended.

    Only for a process that exited by itself. All other cases are left to the swarm: a task that the swarm wants to end
    (``desired`` says so before it stops the container), a container that could not be started, and a killed one (engine
    shutdown, lack of memory). The caller excludes containers with a health check.

    Args:
        task: as the swarm shows it now; read after the exit was reported.
        times: of its container; None when they are not known.
    """
    if task.desired != "running" or task.state not in {"starting", "running"}:
        return task
    if times is None or times.exit_code is None or times.exit_code > _SIGNALLED:
        return task
    code = times.exit_code
    return task._replace(
        state="failed" if code else "complete",
        exit_code=code,
        timestamp=times.finished_at,
        message="finished",
        error=f"task: non-zero exit ({code})" if code else "",
    )


def waiting_reason(task: TaskView, node: str | None = None) -> str:
    """Return what the swarm says about a task that does not run yet, empty if it says nothing useful.

    Args:
        task: the task.
        node: host name of its node; None where that is not known.
    """
    if task.error or task.state != "preparing":
        return task.error
    since = parse_time(task.timestamp)
    return preparing_detail(node, since) if node and since else task.message


def image_reason(said: str, problem: str) -> str:
    """Return why an image could not be had: a node only says that it has none, the registry says why not.

    Args:
        said: what the node said.
        problem: what the registry answers, or why it does not; empty where it gives the image.
    """
    return f"{said}; {shown(problem, _MAX_PROBLEM)}" if problem else said


def pending_reason(limit: float, detail: str) -> str:
    """Return why an attempt ends for which no container has run in time.

    Args:
        limit: its ``pending_timeout``, in seconds.
        detail: what the swarm, the engine or the registry said last; empty where nothing did.
    """
    return f"no running container within pending_timeout ({limit:g} s){detail and ': ' + detail}"


def outcome_of(
    task: TaskView,
    node: str | None,
    started_at: datetime | None,
    times: ContainerTimes | None,
    stop: StopRequest | None,
    node_change: NodeChange = _UNCHANGED,
    memory_limit: int | None = None,
    away_since: datetime | None = None,
) -> Outcome:
    """Return how an attempt ended.

    Args:
        task: its task, in an ended state.
        node: host name of the task's node, where known.
        started_at: when the container was first seen running; None if it was never seen.
        times: the container's own times, if its engine reported them.
        stop: set when jaas had it stopped.
        node_change: the last one of the task's node; needed if ``asks_for_node`` says so.
        memory_limit: the attempt's limit in bytes; None where it had none.
        away_since: when the task's node was seen to be down, while the container ran; None where it never was.
    """
    started_at, finished = _times(task, started_at, times)
    state, cause, reason = _verdict(task, times, stop)
    back = parse_time(node_change.at)
    taken_off = cause is Cause.PREEMPTED and task.state == "shutdown"
    if taken_off and away_since is not None:
        until = back if back is not None and back > away_since else finished or away_since
        away = max((until - away_since).total_seconds(), 0.0)
        cause, reason = Cause.NODE_LOST, _STOPPED_ON_RETURN.format(away=f"for {away:.0f} s")
    elif taken_off and not node_change.drained and _came_back(back, started_at, finished, told=_is_told(task, times)):
        cause, reason = Cause.NODE_LOST, _STOPPED_ON_RETURN.format(away="unseen by this worker")
    if cause is Cause.EXIT and may_be_restart(task) and engine_restarted(task, started_at, times, back):
        cause, reason = Cause.ENGINE, restart_reason(task, reason)
    if cause is Cause.ENGINE and (lost := output_lost(task)):
        reason = f"{reason}: {lost}"
    if cause is Cause.OOM:
        reason += ": out of memory, says the engine"
    elif cause is Cause.EXIT and memory_limit is not None and reason.lower() == _SIGKILLED:
        # Docker 20.10 does not always report it, and never for other nodes: SIGKILL under a memory limit is taken as
        # the sign.
        cause, reason = Cause.OOM, f"{reason}: SIGKILL under a memory limit"
    exit_code = _exit_code(task, cause, times)
    if exit_code is not None and times is not None and times.exit_code is not None:
        exit_code = times.exit_code
    return Outcome(
        state=state,
        cause=cause,
        reason=reason,
        exit_code=exit_code,
        node=node,
        node_id=task.node_id or None,
        task_id=task.id,
        container_id=task.container_id,
        oom_killed=cause is Cause.OOM and times is not None and times.oom_killed,
        started_at=started_at if task.container_id else None,
        finished_at=finished,
    )


def _times(
    task: TaskView, started_at: datetime | None, times: ContainerTimes | None
) -> tuple[datetime | None, datetime | None]:
    """Return when a container started and ended."""
    finished = parse_time(task.timestamp)
    if times is not None:
        started_at = parse_time(times.started_at) or started_at
        finished = parse_time(times.finished_at) or finished
    if started_at is not None and finished is not None:
        # The engine records a start afterwards: a container of a few milliseconds "ended" before it "started".
        started_at = min(started_at, finished)
    return started_at, finished


def asks_for_node(task: TaskView) -> bool:
    """Return whether a task's end may come from its node, and not from the job."""
    return task.state == "shutdown" or may_be_restart(task)


def may_still_run(task: TaskView, stop_grace: float, times: ContainerTimes | None, now: float) -> bool:
    """Return whether the container of a task that has ended may still run.

    The swarm rejects a task whose node may not run it any more, and only then has its container stopped. Of that end it
    tells nothing.

    Args:
        task: it, in an ended state.
        stop_grace: seconds that its container has to stop.
        times: of the container, if its engine was asked.
        now: the time of day, in seconds.
    """
    if not task.container_id or not _is_forbidden(task):
        return False
    if times is not None and times.exit_code is not None:
        return False
    rejected = parse_time(task.timestamp)
    stopped_by = rejected + timedelta(seconds=stop_grace) + _STOPPING_MARGIN if rejected is not None else None
    return stopped_by is not None and now < stopped_by.timestamp()


def _is_forbidden(task: TaskView) -> bool:
    return task.state == "rejected" and _FORBIDDEN in (task.error or task.message)


def _is_told(task: TaskView, times: ContainerTimes | None) -> bool:
    # An engine that has been stopped tells none, or 0.
    return bool(task.exit_code and task.exit_code > 0) or (times is not None and times.exit_code is not None)


def _came_back(back: datetime | None, started_at: datetime | None, finished: datetime | None, *, told: bool) -> bool:
    """Return whether a container was stopped when its node came back, which changed the swarm's record (``back``).

    A drained node changes, too, and again when it takes tasks again. The node may report the end before it counts as
    back: by much where no exit code is ``told``."""
    if back is None or finished is None or (started_at is not None and back <= started_at):
        return False
    return back - (_TOLD_BEFORE_BACK if told else BEFORE_BACK) <= finished <= back + _STOPPED_AFTER_BACK


def _verdict(task: TaskView, times: ContainerTimes | None, stop: StopRequest | None) -> tuple[JobState, Cause, str]:
    if task.state == "complete":
        # Exited with 0 by itself, even if it was stopped at that moment.
        return JobState.SUCCEEDED, Cause.EXIT, ""
    if stop is not None and task.state in {"shutdown", "failed", "rejected", "remove"}:
        state = facts_of(stop.cause).state
        return state, stop.cause, stop.reason
    said = task.error or task.message
    if task.state in {"failed", "rejected"}:
        return JobState.FAILED, _failed_cause(task, times, said.lower()), said
    # The node stops a container of a removed service before the swarm forgets the task: for a moment it looks drained.
    removed = task.state == "shutdown" and task.desired == "remove"
    return JobState.FAILED, *_TAKEN_AWAY["remove" if removed else task.state]


def _failed_cause(task: TaskView, times: ContainerTimes | None, said: str) -> Cause:
    if times is not None and times.oom_killed:
        return Cause.OOM
    if _is_forbidden(task):
        return Cause.PREEMPTED
    if any(text in said for text in _IMAGE):
        return Cause.IMAGE
    if any(text in said for text in _ENGINE) or _MADE_BEFORE.match(said) or said.startswith(_THROWN_AWAY):
        return Cause.ENGINE
    # "task: non-zero exit (N)" and nothing else means that the process itself ended so.
    if task.exit_code and said.startswith("task: non-zero exit"):
        return Cause.EXIT
    return Cause.LAUNCH


def _exit_code(task: TaskView, cause: Cause, times: ContainerTimes | None) -> int | None:
    """Return the exit code: the container's own, or 127 or 126 for a program that cannot start, as docker does."""
    if task.state == "complete":
        return 0
    if task.exit_code is not None and task.exit_code > 0 and (cause is not Cause.ENGINE or killed_by_restart(task)):
        return task.exit_code
    if cause is Cause.LAUNCH:
        said = task.error.lower()
        if any(text in said for text in _NOT_FOUND) and "exec" in said:
            return 127
        if any(text in said for text in _NOT_EXECUTABLE) and "exec" in said:
            return 126
    ended = task.container_id and task.state in {"failed", "shutdown"}
    # A task whose container its engine does not know any more is reported as shutdown with 0, too.
    unproven = cause is Cause.PREEMPTED and (times is None or times.exit_code is None)
    return 0 if ended and task.exit_code == 0 and not unproven and facts_of(cause).own_code else None


def output_lost(task: TaskView, away_since: datetime | None = None) -> str:
    """Return why the output of an ended task cannot be had any more, if there is none; empty where nothing says so.

    Args:
        task: it, in an ended state.
        away_since: as for ``outcome_of``.
    """
    if task.state == "failed" and task.container_id and task.error.lower().startswith(_THROWN_AWAY):
        return "its engine was stopped, and has removed the container with its output"
    # Docker 20.10 says nothing more of it where the swarm had given the node up meanwhile.
    if task.state == "shutdown" and task.exit_code == 0 and away_since is not None:
        return "its node was away, and its engine does not know the container any more"
    return ""


def stop_mark(stop: StopRequest, outcome: Outcome, spec: JobSpec) -> str:
    """Return the log line about a container that jaas stopped: why, and by which signal.

    Args:
        stop: why.
        outcome: how the attempt ended.
        spec: the description.
    """
    sent = spec.stop_signal or "the stop signal"
    killed = f", and SIGKILL after stop_grace ({spec.stop_grace:g} s)" if outcome.exit_code == _KILLED else ""
    return f"stopped by jaas with {sent}{killed}: {stop.reason}"

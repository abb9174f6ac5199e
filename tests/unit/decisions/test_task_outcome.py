"""What a task's last state means for the job. Texts and exit codes are those that Docker 20.10 really gave."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.model.causes import Cause
from jaas_submit.model.states import JobState
from jaas_worker.decisions.engine_restart import node_came_back
from jaas_worker.decisions.task_outcome import (
    StopRequest,
    asks_for_node,
    attempt_task,
    ended_here,
    may_still_run,
    outcome_of,
    output_lost,
    waiting_reason,
)
from jaas_worker.decisions.times import parse_time
from jaas_worker.decisions.unseen_ends import gone_outcome, refused_outcome
from jaas_worker.swarm.engine import ENDED_STATES, ContainerTimes, NodeChange, TaskView

SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED

STAMP = "2026-11-23T12:28:36.885750796Z"
STAMPED = datetime(2026, 11, 23, 12, 28, 36, 885750, UTC)
OOM = ContainerTimes("2026-11-23T12:00:00Z", "2026-11-23T12:00:05Z", oom_killed=True)
TIMES = ContainerTimes("2026-11-23T12:00:00Z", "2026-11-23T12:00:05Z", oom_killed=False)
NEVER = ContainerTimes("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", oom_killed=False)

CANCEL = StopRequest(Cause.CANCELLED, "enough")
TOO_LONG = StopRequest(Cause.RUN_TIMEOUT, "ran longer than 5 s")
NOT_PLACED = StopRequest(Cause.UNSCHEDULABLE, "no node")

START = "starting container failed: failed to create shim task: OCI runtime create failed: runc create failed: "
NOT_FOUND = START + 'unable to start container process: exec: "x": executable file not found in $PATH: unknown'
NOT_ALLOWED = START + 'unable to start container process: exec: "/etc": permission denied: unknown'
NO_FILE = START + 'exec: "/x": stat /x: no such file or directory: unknown'
NO_MOUNT = 'invalid mount config for type "bind": bind source path does not exist: /x'
NO_USER = "starting container failed: unable to find user x: no matching entries in passwd file"
NO_IMAGE = "No such image: x:1"
DENIED = "pull access denied for x, repository does not exist or may require 'docker login'"
EXISTS = f"starting container failed: task {'0f' * 32}: already exists"
IN_USE = "starting container failed: id already in use"
MOUNT_BUSY = (
    "starting container failed: unable to remount dir as readonly: mount tmpfs:/var/lib/docker/containers/24a8/mounts"
    "/secrets, flags: 0x21, data: uid=0,gid=0: device or resource busy"
)
CONFLICT = 'Conflict. The container name "/jaas-x-1.1.j5kaz" is already in use by container "cb47". You have to'
FORBIDDEN = "assigned node no longer meets constraints"
THROWN_AWAY = "No such container: jaas-x-1.1.sdl9bm9fdil7hiuvyasxvso91"
OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"
UNHEALTHY = "task: non-zero exit (137): dockerexec: unhealthy container"

BOX = "container-1"
MIB = 2**20


def task(state: str, container: str | None = BOX, exit_code: int | None = None, error: str = "") -> TaskView:
    return TaskView(
        id="task-1",
        service_id="service-1",
        created_at=STAMP,
        desired="shutdown",
        state=state,
        node_id="node-1",
        message=state,
        error=error,
        timestamp=STAMP,
        container_id=container,
        exit_code=exit_code,
    )


def non_zero(code: int) -> TaskView:
    return task("failed", exit_code=code, error=f"task: non-zero exit ({code})")


# The task; the container's times; why jaas had it stopped; state, cause and exit code of the outcome.
OUTCOMES: list[tuple[TaskView, ContainerTimes | None, StopRequest | None, JobState, Cause, int | None]] = [
    # complete
    (task("complete", exit_code=0), TIMES, None, SUCCEEDED, Cause.EXIT, 0),
    (task("complete", exit_code=0), None, None, SUCCEEDED, Cause.EXIT, 0),
    (task("complete"), None, None, SUCCEEDED, Cause.EXIT, 0),
    (task("complete", exit_code=0), TIMES, CANCEL, SUCCEEDED, Cause.EXIT, 0),  # it was faster
    (task("complete", exit_code=0), TIMES, TOO_LONG, SUCCEEDED, Cause.EXIT, 0),
    # failed: the process ended by itself
    (non_zero(1), TIMES, None, FAILED, Cause.EXIT, 1),
    (non_zero(4), None, None, FAILED, Cause.EXIT, 4),
    (non_zero(126), TIMES, None, FAILED, Cause.EXIT, 126),  # sh said so
    (non_zero(127), TIMES, None, FAILED, Cause.EXIT, 127),
    (non_zero(137), TIMES, None, FAILED, Cause.EXIT, 137),
    (non_zero(255), None, None, FAILED, Cause.EXIT, 255),
    (task("failed", exit_code=137, error=UNHEALTHY), TIMES, None, FAILED, Cause.EXIT, 137),
    # failed: out of memory, which only the node's own engine knows
    (non_zero(137), OOM, None, FAILED, Cause.OOM, 137),
    (non_zero(1), OOM, None, FAILED, Cause.OOM, 1),
    (non_zero(137), None, None, FAILED, Cause.EXIT, 137),
    # failed: it never started
    (task("failed", exit_code=127, error=NOT_FOUND), NEVER, None, FAILED, Cause.LAUNCH, 127),
    (task("failed", exit_code=0, error=NOT_FOUND), None, None, FAILED, Cause.LAUNCH, 127),
    (task("failed", None, None, NOT_FOUND), None, None, FAILED, Cause.LAUNCH, 127),
    (task("failed", exit_code=0, error=NO_FILE), None, None, FAILED, Cause.LAUNCH, 127),
    (task("failed", exit_code=126, error=NOT_ALLOWED), NEVER, None, FAILED, Cause.LAUNCH, 126),
    (task("failed", exit_code=0, error=NOT_ALLOWED), None, None, FAILED, Cause.LAUNCH, 126),
    (task("failed", exit_code=128, error=NO_USER), NEVER, None, FAILED, Cause.LAUNCH, 128),
    (task("failed", None, None, NO_IMAGE), None, None, FAILED, Cause.IMAGE, None),
    # failed: its engine was killed just before, and finds a container that it has made and not noted
    (task("failed", exit_code=128, error=EXISTS), NEVER, None, FAILED, Cause.ENGINE, None),
    (task("rejected", None, error=CONFLICT), None, None, FAILED, Cause.ENGINE, None),
    (task("failed", exit_code=128, error=IN_USE), None, None, FAILED, Cause.ENGINE, None),
    (task("failed", exit_code=128, error=MOUNT_BUSY), None, None, FAILED, Cause.ENGINE, None),
    # failed: it ran when its engine was stopped with SIGTERM and started again
    (task("failed", exit_code=0, error=THROWN_AWAY), None, None, FAILED, Cause.ENGINE, None),
    # failed: this node still holds the addresses of a network that is gone
    (task("failed", None, None, OVERLAP), None, None, FAILED, Cause.ENGINE, None),
    (task("rejected", None, None, OVERLAP), None, None, FAILED, Cause.ENGINE, None),
    # rejected: there is no container
    (task("rejected", None, 0, NO_IMAGE), None, None, FAILED, Cause.IMAGE, None),
    (task("rejected", None, 0, DENIED), None, None, FAILED, Cause.IMAGE, None),
    (task("rejected", None, 0, NO_MOUNT), None, None, FAILED, Cause.LAUNCH, None),
    (task("rejected", None, None, "network sandbox join failed"), None, None, FAILED, Cause.LAUNCH, None),
    (task("rejected", None, 0, NO_IMAGE), None, CANCEL, CANCELLED, Cause.CANCELLED, None),
    # rejected: its node has lost a label that it asks for
    (task("rejected", exit_code=0, error=FORBIDDEN), None, None, FAILED, Cause.PREEMPTED, None),
    (task("rejected", None, None, FORBIDDEN), None, None, FAILED, Cause.PREEMPTED, None),
    (task("rejected", exit_code=0, error=FORBIDDEN), None, CANCEL, CANCELLED, Cause.CANCELLED, None),
    # shutdown: jaas wanted it
    (task("shutdown", exit_code=143), TIMES, CANCEL, CANCELLED, Cause.CANCELLED, 143),
    (task("shutdown", exit_code=0), TIMES, CANCEL, CANCELLED, Cause.CANCELLED, 0),
    (task("shutdown", exit_code=137), TIMES, TOO_LONG, FAILED, Cause.RUN_TIMEOUT, 137),
    (task("shutdown", None), None, NOT_PLACED, FAILED, Cause.UNSCHEDULABLE, None),
    (task("shutdown", None), None, CANCEL, CANCELLED, Cause.CANCELLED, None),
    (task("failed", exit_code=143, error="task: non-zero exit (143)"), TIMES, CANCEL, CANCELLED, Cause.CANCELLED, 143),
    (task("remove", exit_code=-1), None, CANCEL, CANCELLED, Cause.CANCELLED, None),
    # shutdown: somebody else did it
    (task("shutdown", exit_code=0), TIMES._replace(exit_code=0), None, FAILED, Cause.PREEMPTED, 0),  # it obeyed
    (task("shutdown", exit_code=0), None, None, FAILED, Cause.PREEMPTED, None),  # as where nobody filled it in
    (task("shutdown", exit_code=143), TIMES, None, FAILED, Cause.PREEMPTED, 143),
    (task("shutdown", exit_code=-1), None, None, FAILED, Cause.PREEMPTED, None),
    (task("shutdown", None), None, None, FAILED, Cause.PREEMPTED, None),
    # orphaned: 24 hours after its node went down
    (task("orphaned", exit_code=-1), None, None, FAILED, Cause.NODE_LOST, None),
    (task("orphaned", None), None, None, FAILED, Cause.NODE_LOST, None),
    (task("orphaned", exit_code=-1), None, CANCEL, FAILED, Cause.NODE_LOST, None),  # nobody knows that it stopped
    # remove; also where it is seen after its node has stopped the container and before the swarm forgets the task
    (task("shutdown", exit_code=143)._replace(desired="remove"), None, None, FAILED, Cause.REMOVED_OUTSIDE, 143),
    (task("orphaned", None)._replace(desired="remove"), None, None, FAILED, Cause.NODE_LOST, None),
    (task("remove", exit_code=-1), None, None, FAILED, Cause.REMOVED_OUTSIDE, None),
]


# The task; its times; why it was stopped; its memory limit; cause, whether an engine said so, the reason's end.
KILLS: list[tuple[TaskView, ContainerTimes | None, StopRequest | None, int | None, Cause, bool, str]] = [
    (non_zero(137), OOM, None, 16 * MIB, Cause.OOM, True, "exit (137): out of memory, says the engine"),
    (non_zero(137), OOM, None, None, Cause.OOM, True, "exit (137): out of memory, says the engine"),
    (non_zero(1), OOM, None, 16 * MIB, Cause.OOM, True, "exit (1): out of memory, says the engine"),
    (non_zero(137), TIMES, None, 16 * MIB, Cause.OOM, False, "exit (137): SIGKILL under a memory limit"),
    (non_zero(137), None, None, 16 * MIB, Cause.OOM, False, "exit (137): SIGKILL under a memory limit"),
    (non_zero(137), None, None, None, Cause.EXIT, False, "exit (137)"),
    (non_zero(136), None, None, 16 * MIB, Cause.EXIT, False, "exit (136)"),
    (task("failed", exit_code=137, error=UNHEALTHY), None, None, 16 * MIB, Cause.EXIT, False, "unhealthy container"),
    (task("shutdown", exit_code=137), OOM, TOO_LONG, 16 * MIB, Cause.RUN_TIMEOUT, False, "ran longer than 5 s"),
    (task("shutdown", exit_code=137), None, None, 16 * MIB, Cause.PREEMPTED, False, "or no longer allowed)"),
]


@pytest.mark.parametrize(("seen", "times", "stop", "limit", "cause", "confirmed", "reason"), KILLS)
def test_137_is_for_memory_where_an_engine_says_so_or_there_was_a_limit(
    seen: TaskView,
    times: ContainerTimes | None,
    stop: StopRequest | None,
    limit: int | None,
    cause: Cause,
    confirmed: bool,
    reason: str,
) -> None:
    outcome = outcome_of(seen, "node", None, times, stop, memory_limit=limit)
    assert (outcome.cause, outcome.oom_killed) == (cause, confirmed)
    assert outcome.reason.endswith(reason)


def _title(value: object) -> str:
    if isinstance(value, TaskView):
        return f"{value.state}-{value.exit_code}"
    return value.cause if isinstance(value, StopRequest) else ""


@pytest.mark.parametrize(("seen", "times", "stop", "state", "cause", "exit_code"), OUTCOMES, ids=_title)
def test_the_outcome(
    seen: TaskView,
    times: ContainerTimes | None,
    stop: StopRequest | None,
    state: JobState,
    cause: Cause,
    exit_code: int | None,
) -> None:
    outcome = outcome_of(seen, "node", None, times, stop)
    assert (outcome.state, outcome.cause, outcome.exit_code) == (state, cause, exit_code)
    assert (outcome.node, outcome.task_id, outcome.container_id) == ("node", seen.id, seen.container_id)
    assert outcome.finished_at is not None
    assert bool(outcome.reason) == (state is not SUCCEEDED)
    if stop and cause is stop.cause:
        assert outcome.reason == stop.reason
    elif seen.error:
        assert outcome.reason.startswith(seen.error)


def times_until(finished: str, heard: bool | None = None, *, oom_killed: bool = False) -> ContainerTimes:
    return ContainerTimes("2026-11-23T12:00:00Z", finished, oom_killed, heard=heard)


SOON_AFTER, MOMENTS_BEFORE = "2026-11-23T12:28:40Z", "2026-11-23T12:28:36.1Z"
LONG_BEFORE, MUCH_LATER = "2026-11-23T12:00:00Z", "2026-11-23T12:29:50Z"
ENGINE, EXIT = Cause.ENGINE, Cause.EXIT


# The task reported its end at STAMP. Its exit code; when the container ended, where its engine can be asked; when the
# node was back; cause and exit code of the outcome. The cases are those of an engine killed beneath its containers.
@pytest.mark.parametrize(
    ("code", "finished", "back", "cause", "exit_code"),
    [
        # nothing happened to the engine
        (255, MOMENTS_BEFORE, LONG_BEFORE, EXIT, 255),
        (255, None, LONG_BEFORE, EXIT, 255),
        (137, None, LONG_BEFORE, EXIT, 137),
        (255, None, "", EXIT, 255),  # a node that has been removed
        # it was restarted
        (255, "2026-11-23T12:28:20Z", SOON_AFTER, ENGINE, None),
        (255, None, SOON_AFTER, ENGINE, None),
        (255, None, MOMENTS_BEFORE, ENGINE, None),  # by clocks that are not the same
        (137, "2026-11-23T12:28:28Z", SOON_AFTER, ENGINE, 137),
        (143, None, SOON_AFTER, ENGINE, 143),
        (3, "2026-11-23T12:28:20Z", SOON_AFTER, EXIT, 3),  # it has kept the true one
        (255, "2026-11-23T12:28:35.7Z", SOON_AFTER, ENGINE, None),  # ended when its engine started, the engine says
        # its node was cut off, and the container ended by itself meanwhile
        (255, MOMENTS_BEFORE, SOON_AFTER, EXIT, 255),
        (137, MOMENTS_BEFORE, SOON_AFTER, EXIT, 137),
        (255, None, MUCH_LATER, EXIT, 255),
        # the worker looks late: the node has changed once more since it was back
        (143, None, MUCH_LATER, ENGINE, 143),
        # it was restarted, stopped the container then, and reported that at once
        (143, MOMENTS_BEFORE, SOON_AFTER, ENGINE, 143),
        (143, None, LONG_BEFORE, EXIT, 143),
    ],
)
def test_an_exit_code_that_an_engine_made_up_is_not_the_jobs(
    code: int, finished: str | None, back: str, cause: Cause, exit_code: int | None
) -> None:
    seen = non_zero(code)
    assert asks_for_node(seen) == (code != 3)

    outcome = outcome_of(seen, "node", None, times_until(finished) if finished else None, None, NodeChange(back))

    assert (outcome.state, outcome.cause, outcome.exit_code) == (FAILED, cause, exit_code)
    assert f"task: non-zero exit ({code})" in outcome.reason
    assert ("restarted" in outcome.reason) == (cause is ENGINE)


# A container that ended with 137 a moment before the report, as the agent of its node tells it. Whether the agent heard
# of the exit from the engine when it happened; when the node was back; what the cause is.
@pytest.mark.parametrize(
    ("heard", "back", "oom_killed", "limit", "cause"),
    [
        # the engine was restarted, and killed it before it served anybody
        (False, SOON_AFTER, False, None, ENGINE),
        (False, SOON_AFTER, False, 16 * MIB, ENGINE),
        (False, MOMENTS_BEFORE, False, None, ENGINE),
        # the kernel killed it meanwhile
        (False, SOON_AFTER, True, None, Cause.OOM),
        # nothing happened to the node: its agent was restarted
        (False, LONG_BEFORE, False, None, EXIT),
        (False, MUCH_LATER, False, None, EXIT),
        (False, "", False, None, EXIT),
        (False, LONG_BEFORE, False, 16 * MIB, Cause.OOM),
        # its engine ran: the process was killed by itself, while its node was cut off
        (True, SOON_AFTER, False, None, EXIT),
        (True, SOON_AFTER, False, 16 * MIB, Cause.OOM),
        # of an agent that does not say
        (None, SOON_AFTER, False, None, EXIT),
    ],
)
def test_137_of_a_restarted_engine_is_one_that_no_agent_heard_of(
    heard: bool | None, back: str, oom_killed: bool, limit: int | None, cause: Cause
) -> None:
    times = times_until(MOMENTS_BEFORE, heard, oom_killed=oom_killed)
    outcome = outcome_of(non_zero(137), "node", None, times, None, NodeChange(back), limit)
    assert (outcome.state, outcome.cause, outcome.exit_code) == (FAILED, cause, 137)


# Of a node that was seen to be down at 12:28:06: the swarm stops its containers when it is back (STAMP is the end).
AWAY = datetime(2026, 11, 23, 12, 28, 6, tzinfo=UTC)
BACK = NodeChange("2026-11-23T12:28:34.4Z")
TAKEN_OFF = "the swarm took the container off"
UNSEEN = "its node was away unseen by this worker, and the swarm stopped the container when it was back"


@pytest.mark.parametrize(
    ("seen", "stop", "change", "away_since", "cause", "exit_code", "reason"),
    [
        (task("shutdown", exit_code=137), None, BACK, AWAY, Cause.NODE_LOST, 137, "its node was away for 28 s, and"),
        (task("shutdown", exit_code=143), None, BACK, AWAY, Cause.NODE_LOST, 143, "its node was away for 28 s, and"),
        # killed with its node: nobody has filled the exit code in
        (task("shutdown", exit_code=0), None, BACK, AWAY, Cause.NODE_LOST, None, "its node was away for 28 s, and"),
        # the node has been removed meanwhile, or what is known of it is older
        (
            task("shutdown", exit_code=137),
            None,
            NodeChange(),
            AWAY,
            Cause.NODE_LOST,
            137,
            "its node was away for 31 s, and",
        ),
        (
            task("shutdown", exit_code=137),
            None,
            NodeChange(LONG_BEFORE),
            AWAY,
            Cause.NODE_LOST,
            137,
            "its node was away for 31 s,",
        ),
        # it ended by itself meanwhile, or jaas wanted its end
        (non_zero(4), None, BACK, AWAY, EXIT, 4, "task: non-zero exit (4)"),
        (task("complete", exit_code=0), None, BACK, AWAY, EXIT, 0, ""),
        (task("shutdown", exit_code=137), CANCEL, BACK, AWAY, Cause.CANCELLED, 137, "enough"),
        # nobody has seen its node down, but it was back just before the swarm stopped the container
        (task("shutdown", exit_code=137), None, BACK, None, Cause.NODE_LOST, 137, UNSEEN),
        (task("shutdown", exit_code=0), None, BACK, None, Cause.NODE_LOST, None, UNSEEN),
        (task("shutdown", exit_code=137), CANCEL, BACK, None, Cause.CANCELLED, 137, "enough"),
        # the node's word that it has no container any more came just before the node counted as back
        (task("shutdown", exit_code=0), None, NodeChange(SOON_AFTER), None, Cause.NODE_LOST, None, UNSEEN),
        (task("shutdown", None), None, NodeChange(SOON_AFTER), None, Cause.NODE_LOST, None, UNSEEN),
        # it stopped the container just before that
        (task("shutdown", exit_code=143), None, NodeChange(SOON_AFTER), None, Cause.NODE_LOST, 143, UNSEEN),
        # it was drained, or is taking tasks again; or nothing has happened to it
        (task("shutdown", exit_code=137), None, BACK._replace(drained=True), None, Cause.PREEMPTED, 137, TAKEN_OFF),
        (task("shutdown", exit_code=137), None, NodeChange(MUCH_LATER), None, Cause.PREEMPTED, 137, TAKEN_OFF),
        (task("shutdown", exit_code=137), None, NodeChange(LONG_BEFORE), None, Cause.PREEMPTED, 137, TAKEN_OFF),
        (task("shutdown", exit_code=137), None, NodeChange(), None, Cause.PREEMPTED, 137, TAKEN_OFF),
    ],
)
def test_what_was_cut_off_with_its_node(
    seen: TaskView,
    stop: StopRequest | None,
    change: NodeChange,
    away_since: datetime | None,
    cause: Cause,
    exit_code: int | None,
    reason: str,
) -> None:
    outcome = outcome_of(seen, "node", None, None, stop, change, away_since=away_since)
    assert (outcome.cause, outcome.exit_code) == (cause, exit_code)
    assert outcome.reason.startswith(reason)


@pytest.mark.parametrize(
    ("back", "started", "expected"),
    [
        pytest.param(BACK.at, None, False, id="before"),
        pytest.param(MOMENTS_BEFORE, None, True, id="when the end was reported"),
        pytest.param(SOON_AFTER, None, True, id="just after"),
        pytest.param(MUCH_LATER, None, True, id="before anybody read the output"),
        pytest.param(MOMENTS_BEFORE, MOMENTS_BEFORE, False, id="before it started"),
        pytest.param("", None, False, id="no such node"),
    ],
)
def test_whether_an_engine_was_away_that_may_have_lost_an_output(
    back: str, started: str | None, expected: bool
) -> None:
    ended = task("complete", exit_code=0)
    assert node_came_back(NodeChange(back), ended, parse_time(started) if started else None) is expected


def test_a_task_that_its_node_may_not_run_any_more_was_not_lost_with_the_node() -> None:
    rejected = task("rejected", exit_code=0, error=FORBIDDEN)
    assert outcome_of(rejected, "node", None, None, None, BACK).cause is Cause.PREEMPTED
    assert outcome_of(rejected, "node", None, None, None, BACK, away_since=AWAY).cause is Cause.PREEMPTED


@pytest.mark.parametrize(
    ("seen", "code", "later", "expected"),
    [
        pytest.param(task("rejected", exit_code=0, error=FORBIDDEN), None, 14.0, True, id="it has time to stop"),
        pytest.param(task("rejected", exit_code=0, error=FORBIDDEN), None, 16.0, False, id="its time is over"),
        pytest.param(task("rejected", exit_code=0, error=FORBIDDEN), 143, 1.0, False, id="its engine knows its end"),
        pytest.param(task("rejected", None, None, FORBIDDEN), None, 1.0, False, id="there was no container"),
        pytest.param(task("rejected", None, 0, NO_MOUNT), None, 1.0, False, id="it never started"),
        pytest.param(task("shutdown", exit_code=143), None, 1.0, False, id="its node has stopped it"),
    ],
)
def test_the_swarm_rejects_a_task_before_its_container_has_ended(
    seen: TaskView, code: int | None, later: float, expected: bool
) -> None:
    ended = parse_time(STAMP)
    assert ended is not None
    times = TIMES._replace(exit_code=code) if code is not None else None
    assert may_still_run(seen, 10.0, times, ended.timestamp() + later) is expected
    if code is None:  # nor longer where its engine says that it runs
        assert may_still_run(seen, 10.0, TIMES._replace(exit_code=None), ended.timestamp() + later) is expected


@pytest.mark.parametrize(
    ("seen", "away_since", "lost"),
    [
        (task("failed", exit_code=0, error=THROWN_AWAY), None, True),
        (task("shutdown", exit_code=0), AWAY, True),
        (task("shutdown", exit_code=0), None, False),
        (task("shutdown", exit_code=137), AWAY, False),
        (task("failed", exit_code=4, error="task: non-zero exit (4)"), AWAY, False),
        (task("failed", None, error=THROWN_AWAY), None, False),  # it never had a container
        (task("complete", exit_code=0), AWAY, False),
    ],
)
def test_output_goes_with_a_container_that_its_engine_removed(
    seen: TaskView, away_since: datetime | None, lost: bool
) -> None:
    assert bool(output_lost(seen, away_since)) == lost


def test_what_jaas_stopped_or_ran_out_of_memory_is_no_fault_of_a_restarted_engine() -> None:
    memory = times_until("2026-11-23T12:28:20Z")._replace(oom_killed=True)
    assert outcome_of(non_zero(137), None, None, None, CANCEL, NodeChange(SOON_AFTER)).cause is Cause.CANCELLED
    assert outcome_of(non_zero(137), None, None, memory, None, NodeChange(SOON_AFTER)).cause is Cause.OOM


def test_a_container_that_started_after_its_engine_was_back_ended_by_itself() -> None:
    started = datetime(2026, 11, 23, 12, 28, 36, tzinfo=UTC)
    assert outcome_of(non_zero(137), None, started, None, None, NodeChange("2026-11-23T12:28:35Z")).cause is EXIT


def test_every_ended_state_is_in_the_table() -> None:
    assert {seen.state for seen, *_ in OUTCOMES} == ENDED_STATES


@given(
    st.sampled_from(sorted(ENDED_STATES)),
    st.none() | st.just(BOX),
    st.none() | st.integers(-1, 255),
    st.text(max_size=30),
    st.sampled_from([None, TIMES, OOM, NEVER]),
    st.sampled_from([None, CANCEL, TOO_LONG]),
)
def test_whatever_is_seen_becomes_some_terminal_outcome(
    state: str, box: str | None, code: int | None, error: str, times: Any, stop: Any
) -> None:
    outcome = outcome_of(task(state, box, code, error), None, None, times, stop)
    assert outcome.state in {SUCCEEDED, FAILED, CANCELLED}
    assert (outcome.state is SUCCEEDED) == (state == "complete")
    assert (outcome.state is CANCELLED) == (outcome.cause is Cause.CANCELLED)
    assert outcome.exit_code is None or outcome.exit_code >= 0
    if stop is None:
        assert outcome.cause is not Cause.CANCELLED


# -- times -----------------------------------------------------------------------------------------------------------

SEEN = datetime(2026, 11, 23, 11, 59, 59, tzinfo=UTC)
BEGUN = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
ENDED = datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("box", "seen_at", "times", "started", "finished"),
    [
        (BOX, SEEN, TIMES, BEGUN, ENDED),  # the node's own engine knows best
        (BOX, SEEN, None, SEEN, STAMPED),
        (BOX, SEEN, NEVER, SEEN, STAMPED),
        (BOX, None, NEVER, None, STAMPED),
        (BOX, None, None, None, STAMPED),
        (None, SEEN, None, None, STAMPED),  # without a container nothing started
    ],
)
def test_start_and_end(box: str | None, seen_at: Any, times: Any, started: Any, finished: Any) -> None:
    outcome = outcome_of(task("failed", box, 1, "task: non-zero exit (1)"), None, seen_at, times, None)
    assert (outcome.started_at, outcome.finished_at) == (started, finished)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-11-23T12:28:36Z", 0),
        ("2026-11-23T12:28:36.8Z", 800_000),
        ("2026-11-23T12:28:36.88Z", 880_000),
        ("2026-11-23T12:28:36.8857Z", 885_700),
        ("2026-11-23T12:28:36.885750Z", 885_750),
        ("2026-11-23T12:28:36.8857507Z", 885_750),
        ("2026-11-23T12:28:36.88575079Z", 885_750),
        ("2026-11-23T12:28:36.885750796Z", 885_750),
        ("2026-11-23T14:28:36.885750796+02:00", 885_750),
        ("2026-11-23T07:28:36.885750796-05:00", 885_750),
    ],
)
def test_times_of_the_engine(text: str, micros: int) -> None:
    parsed = parse_time(text)
    assert parsed == datetime(2026, 11, 23, 12, 28, 36, micros, UTC)
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize("text", ["", "0001-01-01T00:00:00Z"])
def test_no_time(text: str) -> None:
    assert parse_time(text) is None


# -- the rest --------------------------------------------------------------------------------------------------------


def test_the_attempts_task_is_the_oldest_of_its_service() -> None:
    stopped = task("shutdown")
    left_over = TaskView(
        id="task-2", service_id="service-1", created_at="2026-11-23T12:28:37Z", desired="running", state="pending"
    )
    assert attempt_task([left_over, stopped]) is stopped
    assert attempt_task([]) is None


@pytest.mark.parametrize(
    ("state", "message", "error", "reason"),
    [
        (
            "pending",
            "pending task scheduling",
            "no suitable node (1 node not available)",
            "no suitable node (1 node not available)",
        ),
        ("pending", "pending task scheduling", "", ""),
        ("preparing", "preparing", "", "preparing"),
        ("assigned", "scheduler assigned task to node", "", ""),
        ("running", "started", "", ""),
    ],
)
def test_why_a_task_waits(state: str, message: str, error: str, reason: str) -> None:
    seen = TaskView("t", "s", STAMP, "running", state, message=message, error=error)
    assert waiting_reason(seen) == reason


def test_a_task_that_is_prepared_says_where_and_since_when() -> None:
    seen = TaskView("t", "s", STAMP, "running", "preparing", message="preparing", timestamp="2026-11-30T12:00:01.5Z")
    assert waiting_reason(seen, "node1") == "preparing on node1 since 2026-11-30T12:00:01Z"
    assert waiting_reason(seen._replace(error="no such image"), "node1") == "no such image"
    assert waiting_reason(seen._replace(timestamp=""), "node1") == "preparing"


@pytest.mark.parametrize(
    ("stop", "state", "cause", "words"),
    [
        (None, FAILED, Cause.REMOVED_OUTSIDE, "somebody else removed the service"),
        (CANCEL, CANCELLED, Cause.CANCELLED, "enough"),
        (TOO_LONG, FAILED, Cause.RUN_TIMEOUT, "ran longer"),
    ],
)
def test_a_service_that_is_gone(stop: StopRequest | None, state: JobState, cause: Cause, words: str) -> None:
    outcome = gone_outcome(stop, "node", SEEN)
    assert (outcome.state, outcome.cause, outcome.exit_code) == (state, cause, None)
    assert (outcome.node, outcome.started_at) == ("node", SEEN)
    assert words in outcome.reason
    assert outcome.finished_at is not None


@pytest.mark.parametrize(("cause", "state"), [(Cause.REFUSED, FAILED), (Cause.CANCELLED, CANCELLED)])
def test_a_job_that_was_never_created(cause: Cause, state: JobState) -> None:
    outcome = refused_outcome(cause, "because")
    assert (outcome.state, outcome.cause, outcome.reason, outcome.container_id) == (state, cause, "because", None)


HERE = TIMES._replace(exit_code=0)


@pytest.mark.parametrize("seen", ["starting", "running"])
@pytest.mark.parametrize(("code", "state", "error"), [(0, "complete", ""), (4, "failed", "task: non-zero exit (4)")])
def test_what_ended_by_itself_on_this_engine_is_what_the_swarm_will_say(
    seen: str, code: int, state: str, error: str
) -> None:
    shown = ended_here(task(seen)._replace(desired="running"), TIMES._replace(exit_code=code))
    assert (shown.state, shown.exit_code, shown.error) == (state, code, error)
    assert shown.timestamp == TIMES.finished_at
    outcome = outcome_of(shown, "node1", None, TIMES._replace(exit_code=code), None)
    assert (outcome.cause, outcome.exit_code) == (Cause.EXIT, code)


@pytest.mark.parametrize(
    ("state", "desired", "times"),
    [
        ("running", "running", None),  # it ran on another engine
        ("running", "running", TIMES),  # it has not ended
        ("running", "running", NEVER),  # it could not be started
        ("running", "running", HERE._replace(exit_code=137)),  # killed: for its memory, its health, or with the engine
        ("running", "running", HERE._replace(exit_code=143)),
        ("running", "shutdown", HERE),  # the swarm stops it: a drain, an update
        ("preparing", "running", HERE),
        ("failed", "running", HERE),
    ],
)
def test_all_else_is_the_swarms_to_judge(state: str, desired: str, times: ContainerTimes | None) -> None:
    seen = task(state)._replace(desired=desired)
    assert ended_here(seen, times) is seen

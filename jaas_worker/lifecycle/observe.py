"""Records what the tracker sees of a job's service, and decides what follows when the attempt has ended."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from jaas_submit.errors import EngineRefused, TemporaryError
from jaas_submit.model.states import JobState
from jaas_worker.decisions.end_belief import Belief, Evidence, believe
from jaas_worker.decisions.node_outage import node_down_detail
from jaas_worker.decisions.task_outcome import waiting_reason
from jaas_worker.decisions.times import parse_time
from jaas_worker.decisions.unseen_ends import gone_outcome
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle.next_step import (
    Aside,
    AskEngine,
    End,
    Finish,
    LostOwnership,
    Next,
    ReadOutput,
    SwarmJudges,
)
from jaas_worker.lifecycle.tracked_job import LostNode, TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext
from jaas_worker.swarm.container_logs import collect
from jaas_worker.swarm.engine import TaskView
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.tracking.node_output import logs_of, times_with, was_scrubbed
from jaas_worker.tracking.tracked_service import Ended, ExitReported, Gone, NodeLost, Running, Seen, Waiting

__all__ = ["ask_engine", "observe", "read_output"]

logger = logging.getLogger(__name__)

_OUTPUT_TIMEOUT_S = 2.0
"""For the output of a container whose exit was forwarded: the swarm reports it anyway."""


def observe(job: TrackedJob, seen: Seen, world: WorkerContext) -> Next | None:
    """Record what was seen of a job's service. If that fails, the next round sees it again.

    Args:
        job: the job; it is tracked.
        seen: what the tracker saw.
        world: the worker.

    Raises:
        TemporaryError: Redis or the engine does not answer.
    """
    match seen:
        case Waiting(task):
            return _waiting(job, task, world)
        case Running(task):
            return _running(job, task, world)
        case NodeLost(task):
            return _node_lost(job, task, world)
        case ExitReported(evidence):
            return _exited(evidence)
        case Ended(task):
            return Finish(task)
        case Gone():  # the service was removed by hand, or after a stop that took too long
            return End(gone_outcome(job.stop, job.node, job.started_at))


def _waiting(job: TrackedJob, task: TaskView, world: WorkerContext) -> LostOwnership | None:
    """Record why the task waits."""
    detail = waiting_reason(task, world.node_name(task.node_id))
    if not detail or detail == job.detail:
        return None
    if not world.ledger.ownership.move(job.job_id, world.holder, job.state, detail=detail):
        return LostOwnership()
    job.detail = detail
    return None


def _running(job: TrackedJob, task: TaskView, world: WorkerContext) -> LostOwnership | None:
    """Record that the container runs, and where; or that its node is back."""
    now = world.clock.monotonic()
    if job.lost is not None or job.away_since is not None:
        if not world.ledger.ownership.move(job.job_id, world.holder, job.state, detail=""):
            return LostOwnership()
        job.lost, job.away_since, job.detail = None, None, ""
        job.reschedule(lambda deadlines: deadlines.running(now))
    if job.running:
        return None
    job.started_at = parse_time(task.timestamp)
    job.node = world.node_name(task.node_id)
    started = job.started_at.timestamp() if job.started_at else ""
    failpoint("running.before")
    noted = world.ledger.ownership.move(
        job.job_id, world.holder, JobState.RUNNING, node=job.node or "", started_at=started
    )
    failpoint("running.after")
    if not noted:
        return LostOwnership()
    job.running = True
    job.state = JobState.RUNNING
    job.reschedule(lambda deadlines: deadlines.running(now))
    logger.info(
        "job %s: running on %s",
        job.job_id,
        job.node or "?",
        extra=action(Action.JOB_RUNNING, node=job.node, service=job.service_name),
    )
    job.delivery.running(job.node or "?", job.attempt, job.service_name)
    return None


def _node_lost(job: TrackedJob, task: TaskView, world: WorkerContext) -> LostOwnership | None:
    """Record that the container's state is unknown until its node is back."""
    spec = job.spec
    assert spec is not None
    node = world.node_name(task.node_id) or task.node_id
    since = job.away_since or datetime.fromtimestamp(world.clock.time(), UTC)
    detail = node_down_detail(node, since)
    logger.warning("job %s: %s", job.job_id, detail, extra=action(Action.JOB_NODE_LOST, node=node))
    if not world.ledger.ownership.move(job.job_id, world.holder, job.state, detail=detail):
        return LostOwnership()
    now = world.clock.monotonic()
    # Adopted while its node was down: the swarm shows a task with desired state shutdown, and no running one.
    ran_since = job.followed_since if job.state is JobState.RUNNING and not job.running else None
    job.detail, job.node, job.lost = detail, node, LostNode(task, now)
    job.away_since = since
    job.reschedule(lambda deadlines: deadlines.node_lost(spec, now, ran_since))
    return None


def _exited(evidence: Evidence) -> Next | None:
    """Return the step for a container that has exited, which the swarm does not report yet."""
    belief, task, times = believe(evidence)
    if belief is Belief.ENDED and task is not None:
        return Finish(task, times)
    if belief is Belief.ASK_ENGINE:
        # The engine answers only after its clean-up, which would block the tracker's thread.
        return Aside(AskEngine(evidence))
    if belief is Belief.READ_OUTPUT:
        return Aside(ReadOutput(evidence))
    return SwarmJudges()


def ask_engine(job: TrackedJob, step: AskEngine, world: WorkerContext) -> Finish | SwarmJudges:
    """Ask this worker's engine how a container ended.

    Args:
        job: the job.
        step: what is known so far.
        world: the worker.
    """
    task = step.evidence.task
    assert task is not None
    assert task.container_id is not None
    try:
        times = world.engine.container_times(task.container_id)
    except (TemporaryError, EngineRefused):
        times = None
    verdict = believe(step.evidence._replace(engine_asked=True, times=times, stopping=job.stop is not None))
    if verdict.belief is Belief.ENDED and verdict.task is not None:
        return Finish(verdict.task, verdict.times)
    return SwarmJudges()


def read_output(job: TrackedJob, step: ReadOutput, world: WorkerContext) -> Finish | SwarmJudges | None:
    """Read the output of a container whose exit was forwarded, before the exit is accepted.

    Args:
        job: the job.
        step: what is known so far.
        world: the worker.
    """
    if job.stop is not None:
        return SwarmJudges()
    assert job.service is not None
    evidence, task = step.evidence, step.evidence.task
    if task is not None and task.container_id:
        whole = world.outputs.find(job.job_id, job.attempt, task.container_id, task.node_id, 0.0)
        if (printed := logs_of(whole)) is not None:
            verdict = believe(evidence._replace(output_found=True, stopping=job.stop is not None))
            if verdict.belief is Belief.ENDED and verdict.task is not None:
                return Finish(verdict.task, times_with(verdict.times, whole), printed, scrubbed=was_scrubbed(whole))
    timeout = min(_OUTPUT_TIMEOUT_S, world.settings.log_timeout)
    driver = world.service_defaults.log_driver.changed_by(job.spec)
    logs = collect(world.engine.logs(job.service.id, None, timeout), world.settings.log_limit, driver)
    found = logs.has_end("stdout") and logs.has_end("stderr")
    verdict = believe(step.evidence._replace(output_found=found, stopping=job.stop is not None))
    if verdict.belief is Belief.ENDED and verdict.task is not None:
        return Finish(verdict.task, verdict.times, logs)
    return SwarmJudges() if verdict.belief is Belief.SWARM_JUDGES else None

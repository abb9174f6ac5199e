"""Ends attempts early: cancellations, time limits, lost nodes."""

from __future__ import annotations

import contextlib
import logging

from jaas_submit.errors import EngineRefused, TemporaryError
from jaas_submit.model.causes import Cause
from jaas_submit.model.logs import Logs, LogStatus
from jaas_worker.decisions.deadlines import Overdue, due
from jaas_worker.decisions.task_outcome import StopRequest, attempt_task, pending_reason, waiting_reason
from jaas_worker.decisions.unseen_ends import lost_outcome
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle.next_step import (
    Aside,
    CheckPending,
    End,
    Next,
    RemoveStuck,
    SendStop,
    Stop,
    Superseded,
    SwarmJudges,
)
from jaas_worker.lifecycle.tracked_job import Phase, TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["apply_cancellation", "check_overdue", "check_pending", "remove_stuck", "send_stop"]

logger = logging.getLogger(__name__)

RESEND_S = 1.0
"""Seconds until a stop that did not reach the swarm is requested again."""


def apply_cancellation(job: TrackedJob, why: str, world: WorkerContext) -> Stop | Superseded:
    """Do what the job's record asks for: stop the job, or drop it because its copy was faster.

    Args:
        job: the job.
        why: the reason.
        world: the worker.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    if job.phase is Phase.TRACKED and world.superseded(job.job_id, job.facts.labels):
        return Superseded()
    return Stop(StopRequest(Cause.CANCELLED, why))


def check_overdue(job: TrackedJob, world: WorkerContext) -> Next | None:
    """Return the step for a job whose time limit has passed.

    Args:
        job: the job; it is tracked.
        world: the worker.
    """
    spec, now = job.spec, world.clock.monotonic()
    overdue = due(job.deadlines, now)
    if overdue is None or spec is None:
        return None
    if overdue is Overdue.STOP:
        logger.warning(
            "job %s: its container did not stop in time; removing the service",
            job.job_id,
            extra=action(Action.JOB_STOP_FAILED),
        )
        job.reschedule(lambda deadlines: deadlines.stopping(spec, now, world.settings.stop_timeout))
        return Aside(RemoveStuck())
    if overdue is Overdue.JOB:
        return Stop(StopRequest(Cause.DEADLINE, f"not ended within deadline ({spec.deadline:g} s)"))
    if overdue is Overdue.RUN:
        return Stop(StopRequest(Cause.RUN_TIMEOUT, f"ran longer than run_timeout ({spec.run_timeout:g} s)"))
    if overdue is Overdue.LOST and job.lost is not None:
        outcome = lost_outcome(job.lost.task, job.node, job.started_at, now - job.lost.since)
        return End(outcome, Logs(status=LogStatus.UNAVAILABLE, reason="the node is down"))
    return Aside(CheckPending()) if overdue is Overdue.START and job.stop is None else None


def check_pending(job: TrackedJob, world: WorkerContext) -> Stop | None:
    """End an attempt whose `pending_timeout` has passed, with the swarm's present reason.

    Args:
        job: the job.
        world: the worker.
    """
    spec, service, detail = job.spec, job.service, job.detail
    assert spec is not None
    assert service is not None
    with contextlib.suppress(TemporaryError, EngineRefused):
        task = attempt_task(world.engine.tasks_of(service.id))
        if task is not None and (task.ended or task.state == "running"):
            return None  # it runs now: the tracker will see it
        detail = (waiting_reason(task, world.node_name(task.node_id)) if task is not None else "") or detail
    assert spec.pending_timeout is not None
    reason = pending_reason(spec.pending_timeout, detail)
    unplaced = detail.startswith("no suitable node")
    return Stop(StopRequest(Cause.UNSCHEDULABLE if unplaced else Cause.PENDING_TIMEOUT, reason))


def send_stop(job: TrackedJob, world: WorkerContext) -> SwarmJudges | Aside:
    """Ask the swarm to stop the container; repeated until the request arrives.

    Args:
        job: the job; its service exists.
        world: the worker.
    """
    spec, service = job.spec, job.service
    assert spec is not None
    assert service is not None
    failpoint("stop.before")
    try:
        world.engine.stop(service.id)
        failpoint("stop.after")
    except (TemporaryError, EngineRefused) as error:
        logger.warning(
            "job %s: its container could not be stopped yet: %s",
            job.job_id,
            error,
            extra=action(Action.JOB_STOP_FAILED),
        )
        return Aside(SendStop(), after=RESEND_S)
    now = world.clock.monotonic()
    job.reschedule(lambda deadlines: deadlines.stopping(spec, now, world.settings.stop_timeout))
    if job.stop is not None:
        logger.info(
            "job %s: stopping its container: %s",
            job.job_id,
            job.stop.reason,
            extra=action(Action.JOB_STOPPING, cause=job.stop.cause),
        )
    return SwarmJudges()


def remove_stuck(job: TrackedJob, world: WorkerContext) -> None:
    """Remove the service of a container that does not stop in time.

    Args:
        job: the job; its service exists.
        world: the worker.
    """
    assert job.service is not None
    try:
        world.engine.remove(job.service.id)
    except (TemporaryError, EngineRefused) as error:
        logger.warning("job %s: %s", job.job_id, error, extra=action(Action.SERVICE_REMOVAL_FAILED))

"""The last steps of a job in this worker: record the outcome, decide on another attempt, report, remove the service.

Outcome and output are in the ledger before the service is removed. Celery has the result before the ledger marks it as
reported.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
from math import inf

from jaas_submit.errors import EngineRefused, EngineUnavailable, LedgerUnavailable, TemporaryError
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import Attempt
from jaas_submit.model.result import CapturedOutput, JobResult
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_JOB
from jaas_worker.decisions.job_output import with_listed_files, with_output
from jaas_worker.decisions.output_proof import after_restart, node_changed_since
from jaas_worker.decisions.retry import decide
from jaas_worker.decisions.task_outcome import (
    asks_for_node,
    image_reason,
    may_still_run,
    outcome_of,
    stop_mark,
)
from jaas_worker.decisions.times import parse_time
from jaas_worker.decisions.unseen_ends import first_of_node
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle.ending.collect_files import wants_files, wants_output
from jaas_worker.lifecycle.ending.read_output import (
    agent_logs,
    found_by_agent,
    output_of,
    unless_node_came_back,
    without_secrets,
)
from jaas_worker.lifecycle.next_step import (
    Aside,
    Collect,
    Drop,
    End,
    Finish,
    LostOwnership,
    RemoveService,
    Report,
    Reported,
    Superseded,
    TellRetry,
)
from jaas_worker.lifecycle.tracked_job import TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext
from jaas_worker.swarm.container_logs import marked
from jaas_worker.swarm.engine import NodeChange
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.telemetry.tracing import AttemptTimes
from jaas_worker.tracking.node_output import times_with, was_scrubbed, with_usage

__all__ = ["finish", "lost_ownership", "remove_service", "report", "superseded", "tell_retry", "write_end"]

logger = logging.getLogger(__name__)


def finish(job: TrackedJob, step: Finish, world: WorkerContext) -> Collect | End:
    """Find out how an attempt ended, and read its output.

    Args:
        job: the job.
        step: its task, which has ended.
        world: the worker.

    Raises:
        TemporaryError: the engine does not answer.
    """
    engine, spec, task = world.engine, job.spec, step.task
    # First, as what follows may be repeated: a later change of the node would hide that its engine came back.
    job.note_node_change(engine.node_change(task.node_id) if asks_for_node(task) else NodeChange())
    times = step.times
    if times is None and task.container_id:
        times = engine.container_times(task.container_id)
    here, whole = times is not None, None
    if step.logs is None and task.container_id:
        whole = found_by_agent(job, task.container_id, task.node_id, world, here=here)
        times = times_with(times, whole)
    if spec is not None and may_still_run(task, spec.stop_grace, times, world.clock.time()):
        raise EngineUnavailable("the swarm has rejected the task, and its container is being stopped")
    known = (task, world.node_name(task.node_id), job.started_at, times, job.stop)
    limit = spec.limits.memory if spec else None
    outcome = first_of_node([outcome_of(*known, change, limit, job.away_since) for change in job.node_changes])
    if outcome.cause is Cause.IMAGE and spec is not None and world.settings.resolve_images:
        outcome = outcome.model_copy(update={"reason": image_reason(outcome.reason, _image_problem(spec, world))})
    by_agent = agent_logs(whole, here=here)
    logs = by_agent or output_of(job, step, world, here=here)
    if task.container_id and not (here or whole or logs.lines) and logs.status is LogStatus.COMPLETE:
        logs = unless_node_came_back(job, logs, task, world)
    if task.container_id and not (here or whole) and logs.lines:
        began = job.started_at or parse_time(task.created_at)
        logs = node_changed_since(logs, engine.node_change(task.node_id).at, began)
    logs = without_secrets(job, logs, world)
    if job.stop and spec and task.container_id and outcome.state is not JobState.SUCCEEDED:
        logs = marked(logs, stop_mark(job.stop, outcome, spec))
    logs = after_restart(logs) if outcome.cause is Cause.ENGINE and task.container_id else logs
    if spec is not None:
        scrubbed = step.scrubbed or (by_agent is not None and was_scrubbed(whole))
        whole_output = wants_output(spec, logs, outcome, world, scrubbed=scrubbed)
        if whole_output or wants_files(job, spec, outcome):
            return Collect(with_usage(outcome, times), logs, whole_output)
    return End(with_usage(outcome, times), logs)


def _image_problem(spec: JobSpec, world: WorkerContext) -> str:
    """Return why no image can be had from its registry; empty where one can, or where that is not known."""
    with contextlib.suppress(TemporaryError, EngineRefused):
        return world.images.get(spec.image, spec.registry, world.clock.monotonic(), world.engine.resolve).problem
    return ""


def write_end(job: TrackedJob, step: End, world: WorkerContext) -> Aside | LostOwnership:
    """Record an attempt's outcome in the ledger, with the next attempt if the policy grants one.

    Args:
        job: the job.
        step: how the attempt ended.
        world: the worker.

    Raises:
        TemporaryError: Redis or the store does not answer.
    """
    attempt, output = _ended_attempt(job, step, world)
    attempts = with_listed_files((*job.facts.attempts, attempt))
    if job.spec is not None:
        if job.decision is None:
            at = job.deadlines.job
            left = None if at == inf else at - world.clock.monotonic()
            job.decision = decide(job.spec, attempts, random.random(), left)  # noqa: S311 (jitter, no secret)
        attempts = (*attempts[:-1], attempt.model_copy(update={"decision": job.decision.why}))
        if job.decision.retry and (following := _back_off(job, attempts, step.logs, job.decision.delay, world)):
            return following
        # In a batch with speculation the first success counts, not the first outcome.
        may_have_copy = job.spec.idempotent and job.facts.labels and attempt.state is JobState.FAILED
        if may_have_copy and (following := _back_off(job, attempts, step.logs, None, world)):
            return following
    failpoint("finish.before")
    record = world.ledger.ownership.finish(job.job_id, world.holder, attempts, step.logs, output, late=job.late)
    if record is None:
        return LostOwnership()
    failpoint("finish.after")
    _count_end(job, attempts[-1], world, retried=False)
    # From here on only the report is repeated: the service is removed soon, and cannot be read again.
    return Aside(RemoveService(), after=world.settings.remove_delay, then=Report(record, step.logs))


def _ended_attempt(job: TrackedJob, step: End, world: WorkerContext) -> tuple[Attempt, str | None]:
    """Return the attempt as the ledger stores it, and the job's output as JSON."""
    spec, outcome, output = job.spec, step.outcome, None

    def keep(text: str) -> str:
        assert world.store is not None
        return json.dumps(world.store.write(job.job_id, f"output-{job.attempt}.json", [text.encode()]))

    if spec is not None:
        limit = world.gate.output_limit(spec, world.settings.output_limit, job.facts.origin)
        outcome, output = with_output(spec, outcome, step.logs, limit, keep if world.store else None)
    attempt = Attempt(
        number=job.attempt if job.asked or job.service else 0,
        service=job.service.name if job.service else None,
        image=job.image or (spec.image if spec else None),
        log_status=step.logs.status if step.logs else LogStatus.COMPLETE,
        outputs=step.files,
        **outcome.model_dump(),
    )
    return attempt, output


def _back_off(
    job: TrackedJob, attempts: tuple[Attempt, ...], logs: Logs | None, delay: float | None, world: WorkerContext
) -> Aside | LostOwnership | None:
    """Record that another attempt follows; return None if the job ends anyway.

    Args:
        job: the job.
        attempts: all attempts so far.
        logs: output of the last one; None if it had no container.
        delay: seconds until the next one; None if there is none, but the job's copy may still succeed.
        world: the worker.
    """
    last = attempts[-1]
    ended = f"exit code {last.exit_code}" if last.exit_code is not None else f"cause {last.cause}"
    what_next = "its copy may still succeed" if delay is None else f"the next one in {delay:.1f} s"
    why = f"attempt {last.number} ended ({ended}: {last.reason}); {what_next}: {last.decision}"
    failpoint("retry.before")
    done, cancel = world.ledger.ownership.back_off(job.job_id, world.holder, attempts, logs, delay, why, late=job.late)
    failpoint("retry.after")
    if not done:
        return None if cancel else LostOwnership()
    _count_end(job, last, world, retried=True)
    logger.info(
        "job %s: %s",
        job.job_id,
        why,
        extra=action(Action.JOB_RETRYING, cause=last.cause, delay=round(delay or 0.0, 1)),
    )
    return Aside(RemoveService(), after=world.settings.remove_delay, then=TellRetry(why, delay or 0.0))


def _count_end(job: TrackedJob, attempt: Attempt, world: WorkerContext, *, retried: bool) -> None:
    """Count and trace an attempt whose outcome is in the ledger."""
    world.metrics.attempt_ended(attempt, job.launched_at, retried=retried)
    times = AttemptTimes(job.queued_at, job.claimed_at, job.launched_at, world.clock.time())
    try:
        world.tracer.attempt_ended(job.facts.traceparent, job.job_id, attempt, times)
    except Exception:  # a failure of tracing must never affect the job
        logger.exception("job %s: its trace could not be made", job.job_id, extra=action(Action.STEP_FAILED))


def tell_retry(job: TrackedJob, step: TellRetry) -> Reported:
    """Tell Celery that another attempt follows.

    Celery's RETRY is for display only; the next attempt is in the ledger, whether this succeeds or not.

    Args:
        job: the job.
        step: why, and when.
    """
    delivery = job.delivery
    delivery.retrying(step.why, step.delay)
    return Reported(delivery)


def lost_ownership(job: TrackedJob, world: WorkerContext) -> Drop | Superseded:
    """Find out why the ledger rejected this worker's write.

    Either the record names another holder, because this worker was suspended or cut off for longer than its lease. Or
    the job's copy has ended it (speculation).

    Args:
        job: the job.
        world: the worker.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    if world.superseded(job.job_id, job.facts.labels):
        return Superseded()
    logger.warning("job %s: another worker has taken it over", job.job_id, extra=action(Action.JOB_OWNERSHIP_LOST))
    return Drop()


def superseded(job: TrackedJob) -> Aside:
    """Remove the service of a job whose copy has succeeded, and report: the outcome is in the ledger.

    Args:
        job: the job.
    """
    logger.info(
        "job %s: its copy succeeded first; removing service %s",
        job.job_id,
        job.service_name,
        extra=action(Action.JOB_SUPERSEDED, service=job.service_name),
    )
    return Aside(RemoveService(), then=Report())


def remove_service(job: TrackedJob, world: WorkerContext) -> None:
    """Remove the service and config of an ended attempt; if this worker cannot, the reconciler does.

    Args:
        job: the job.
        world: the worker.
    """
    if job.late or not (job.service or job.has_config):
        return
    with contextlib.suppress(LedgerUnavailable):
        world.outputs.drop(job.job_id, job.attempt)
    try:
        # Redis may have come back with older data, or may do so: then the service is needed again.
        if not world.ledger.replicated():
            raise LedgerUnavailable("its outcome is not on the replicas yet")
        for outline in world.ledger.queries.outlines([job.job_id]):
            if not outline.terminal and job.attempt not in outline.ended:
                return
        if job.service:
            world.engine.remove(job.service.id)
        if job.has_config:
            own = {LABEL_JOB: job.job_id, LABEL_ATTEMPT: str(job.attempt), **world.service_defaults.installation}
            world.engine.remove_config(job.service_name, own)
    except (TemporaryError, EngineRefused) as error:
        logger.warning(
            "job %s: service %s is left to the reconciler: %s",
            job.job_id,
            job.service_name,
            error,
            extra=action(Action.SERVICE_REMOVAL_FAILED),
        )


def report(job: TrackedJob, step: Report, world: WorkerContext) -> Reported:
    """Report the result of an ended job to Celery.

    Args:
        job: the job.
        step: record and output, if already read.
        world: the worker.

    Raises:
        TemporaryError: Redis does not answer, or the result did not reach Celery.
    """
    record = step.record or world.ledger.queries.get(job.job_id)
    last, logs = record.last, step.logs
    if logs is None and last is not None:
        logs = world.ledger.queries.logs(job.job_id, last.number)
    result = JobResult.of(record, CapturedOutput.of(logs or Logs(), world.settings.result_log_limit))
    failpoint("report.before")
    delivery = job.delivery
    if not delivery.report(result):
        raise TemporaryError("the result did not reach Celery")
    failpoint("report.after")
    if step.again:
        delivery.accepted(first=False)
        what = "job %s: its result went to another message with its task id"
        logger.info(what, job.job_id, extra=action(Action.JOB_ENDED, state=result.state))
        return Reported(delivery)
    world.ledger.ownership.mark_reported(job.job_id, world.holder)
    failpoint("reported.after")
    logger.info(
        "%s",
        result.sentence(),
        extra=action(
            Action.JOB_ENDED,
            state=result.state,
            cause=result.cause,
            exit_code=result.exit_code,
            node=result.node,
            duration=result.duration,
        ),
    )
    return Reported(delivery)

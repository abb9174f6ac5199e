"""The files of an attempt, and a large output: copied from its node to the store before its outcome is recorded."""

from __future__ import annotations

import logging
from dataclasses import replace

from jaas_submit.model.bounds import shown
from jaas_submit.model.causes import Cause
from jaas_submit.model.files.listing import MAX_FILES, OutputFiles
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import Outcome
from jaas_submit.output import FileRequest
from jaas_worker.decisions.job_output import with_files
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle.next_step import Collect, End, LostOwnership
from jaas_worker.lifecycle.tracked_job import TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["collect_files", "wants_files", "wants_output"]

logger = logging.getLogger(__name__)

_DETAIL = "its container has ended; its files, or its output, are being copied to the store"


def wants_files(job: TrackedJob, spec: JobSpec, outcome: Outcome) -> bool:
    """Return whether an attempt's files are to be copied: its container has ended, and nobody has cancelled the job.

    Args:
        job: the job.
        spec: its description.
        outcome: how the attempt ended.
    """
    cancelled = job.stop is not None and job.stop.cause is Cause.CANCELLED
    return bool(spec.outputs) and not cancelled and bool(outcome.container_id and outcome.node_id)


def wants_output(spec: JobSpec, logs: Logs, outcome: Outcome, world: WorkerContext, *, scrubbed: bool) -> bool:
    """Return whether an attempt's output is to be copied to the store: the record has only its head and tail.

    Where values are to be replaced in it, it is copied only if an agent has looked for them in all of it and found
    none: a worker that reads it itself does not see what is cut, and an older agent would send that as it is.

    Args:
        spec: the job's description.
        logs: what the record will have.
        outcome: how the attempt ended.
        world: the worker.
        scrubbed: the agent of its node has looked for the values of secrets in all of it.
    """
    if spec.scrub and spec.env_secrets and not scrubbed:
        return False
    cut = logs.status is LogStatus.TRUNCATED and world.settings.stored_log_limit > 0
    return cut and world.store is not None and bool(outcome.container_id and outcome.node_id)


def collect_files(job: TrackedJob, step: Collect, world: WorkerContext) -> End | LostOwnership:
    """Copy an attempt's files to the store, and its output where the record has only head and tail.

    Args:
        job: the job.
        step: how the attempt ended.
        world: the worker.

    Raises:
        TemporaryError: Redis does not answer, or the worker shuts down.
    """
    spec, outcome = job.spec, step.outcome
    assert spec is not None
    assert outcome.container_id
    assert outcome.node_id
    if job.files_until is None:  # what is repeated has no more time
        job.files_until = world.clock.monotonic() + world.settings.files_timeout
    container, node = outcome.container_id, outcome.node_id
    none = FileRequest(job.job_id, job.attempt, "", node, container, (), 0, 0)

    def still_ours() -> bool:
        return world.ledger.ownership.move(job.job_id, world.holder, job.state, detail=_DETAIL)

    failpoint("files.before")
    files: OutputFiles | None = None
    if wants_files(job, spec, outcome):
        wanted = replace(none, patterns=spec.outputs, limit=world.settings.files_limit, most=MAX_FILES)
        files = world.outputs.collect(wanted, job.files_until, still_ours)
        if files is None:
            return LostOwnership()
        outcome = with_files(spec, outcome, files)
    if step.whole_output:
        wanted = replace(none, limit=world.settings.stored_log_limit, what="output")
        why = world.outputs.collect_output(wanted, job.files_until, still_ours)
        if why is None:
            return LostOwnership()
        if why:  # head and tail are in the record all the same
            said = "job %s: its whole output is not in the store: %s"
            logger.warning(said, job.job_id, shown(why, 300), extra=action(Action.OUTPUT_NOT_STORED))
    failpoint("files.after")
    return End(outcome, step.logs, files)

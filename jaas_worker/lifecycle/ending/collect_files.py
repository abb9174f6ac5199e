"""The files of an attempt: they are copied from its node to the store before its outcome is recorded."""

from __future__ import annotations

from jaas_submit.model.causes import Cause
from jaas_submit.model.files.listing import MAX_FILES
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Outcome
from jaas_submit.output import FileRequest
from jaas_worker.decisions.job_output import with_files
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle.next_step import Collect, End, LostOwnership
from jaas_worker.lifecycle.tracked_job import TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext

__all__ = ["collect_files", "wants_files"]

_DETAIL = "its container has ended; its files are being copied to the store"


def wants_files(job: TrackedJob, spec: JobSpec, outcome: Outcome) -> bool:
    """Return whether an attempt's files are to be copied: its container has ended, and nobody has cancelled the job.

    Args:
        job: the job.
        spec: its description.
        outcome: how the attempt ended.
    """
    cancelled = job.stop is not None and job.stop.cause is Cause.CANCELLED
    return bool(spec.outputs) and not cancelled and bool(outcome.container_id and outcome.node_id)


def collect_files(job: TrackedJob, step: Collect, world: WorkerContext) -> End | LostOwnership:
    """Copy an attempt's files to the store.

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
    container, node, limit = outcome.container_id, outcome.node_id, world.settings.files_limit
    wanted = FileRequest(job.job_id, job.attempt, "", node, container, spec.outputs, limit, MAX_FILES)

    def still_ours() -> bool:
        return world.ledger.ownership.move(job.job_id, world.holder, job.state, detail=_DETAIL)

    failpoint("files.before")
    files = world.outputs.collect(wanted, job.files_until, still_ours)
    if files is None:
        return LostOwnership()
    failpoint("files.after")
    return End(with_files(spec, outcome, files), step.logs, files)

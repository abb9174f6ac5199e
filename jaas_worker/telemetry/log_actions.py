"""What a line of the log tells, and which job it is about. How lines are rendered is ``logging_setup``'s business."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

__all__ = ["Action", "Subject", "about", "action", "current_subject"]


class Subject(Protocol):
    """The subject of a line."""

    @property
    def job_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...


class Action(StrEnum):
    """The action of a line: stable, for alerts and searches."""

    JOB_LAUNCHED = "job.launched"  # its service exists
    JOB_WAITS = "job.waits"  # a job waits in the ledger: until its eta, or for the policy's in_flight (debug)
    JOB_RUNNING = "job.running"  # its container runs
    JOB_ENDED = "job.ended"  # its outcome is in the ledger and with Celery
    JOB_RETRYING = "job.retrying"  # an attempt ended, another follows
    JOB_OVERDUE = "job.overdue"  # expires or deadline passed before a worker started it
    JOB_REFUSED = "job.refused"  # a message that cannot become a job
    QUEUE_PAUSED = "queue.paused"  # this worker takes no messages of its queue, or takes them again
    POLICY_REFUSED = "policy.refused"  # the policy does not allow what a job asks for
    POLICY_WARNED = "policy.warned"  # the same, in mode warn: the job runs
    SIGNATURE_REFUSED = "signature.refused"  # the rules about signatures refuse a job
    AUDIT_SUBMIT = "audit.submit"  # who submitted a job that this worker starts
    AUDIT_CANCEL = "audit.cancel"  # who cancelled a job
    BROADCAST_DROPPED = "broadcast.dropped"  # an invalid remote-control message
    JOB_ADOPTED = "job.adopted"  # taken over from a worker that died or stopped
    JOB_OWNERSHIP_LOST = "job.ownership_lost"  # another worker holds it now
    JOB_VERSION_TOO_NEW = "job.version_too_new"  # only a newer version can read its description
    JOB_NODE_LOST = "job.node_lost"  # the node it runs on is down
    JOB_STOPPING = "job.stopping"  # jaas stops its container: cancelled, or a time limit has passed
    JOB_STOP_FAILED = "job.stop_failed"  # its container could not be stopped, or not in time
    JOB_COPY_SUBMITTED = "job.copy_submitted"  # it runs for long: its copy was submitted (speculation)
    JOB_SUPERSEDED = "job.superseded"  # its copy succeeded first: its service is removed
    JOB_RESTORED = "job.restored"  # Redis had lost its record
    IMAGE_DIFFERS = "image.differs"  # this engine has another image under that tag than the registry
    STEP_REPEATED = "step.repeated"  # a temporary error: the step is repeated
    STEP_FAILED = "step.failed"  # an unexpected error
    OUTPUT_NOT_STORED = "output.not_stored"  # the store has no whole output; head and tail are in the ledger
    RESULT_NOT_STORED = "result.not_stored"  # Celery's result backend did not accept a result
    SERVICE_REMOVED = "service.removed"  # the reconciler removed an orphan service
    SERVICE_REMOVAL_FAILED = "service.removal_failed"  # a service could not be removed; the reconciler will try again
    SERVICE_UNKNOWN = "service.unknown"  # a service without a record
    RECORD_UNREADABLE = "record.unreadable"  # a record of a job, batch or worker is invalid
    LEASE_LOST = "lease.lost"  # other workers may have adopted this worker's jobs
    LEASE_NOT_RENEWED = "lease.not_renewed"  # Redis did not answer
    REDIS_UNAVAILABLE = "redis.unavailable"  # the worker waits for Redis
    REDIS_MASTER_CHANGED = "redis.master_changed"  # Sentinel has promoted another server
    ENGINE_UNAVAILABLE = "engine.unavailable"  # the worker cannot see its jobs for now, or takes no new ones
    ENGINE_AVAILABLE = "engine.available"  # it takes new jobs again
    AGENT_FOLLOWING = "agent.following"  # this process follows the containers of its node
    RECONCILE_TOOK_OVER = "reconcile.took_over"  # took over jobs without a holder
    RECONCILE_FAILED = "reconcile.failed"  # a round failed; the next one may succeed
    QUEUE_FOREIGN = "queue.foreign"  # another application's tasks are in Celery's default queue
    WORKER_SHUTDOWN_TIMEOUT = "worker.shutdown_timeout"  # the shutdown hung, usually because Redis did not answer
    PROXY_LISTENING = "proxy.listening"  # the address of the socket proxy
    PROXY_REFUSED = "proxy.refused"  # a request to the engine that jaas does not need, or that the policy forbids
    METRICS_STARTED = "metrics.started"  # the address of the worker's metrics
    METRICS_FAILED = "metrics.failed"  # the port is in use; jobs are not affected
    WORKER_HANDED_OVER = "worker.handed_over"  # shutdown: other workers continue the jobs


def action(what: Action, **fields: object) -> dict[str, object]:
    """Return the ``extra`` of a line.

    Args:
        what: the action.
        fields: further fields for machines, such as ``service``.
    """
    return {"action": str(what), **fields}


_subject: ContextVar[Subject | None] = ContextVar("jaas_log_subject", default=None)


@contextmanager
def about(subject: Subject) -> Iterator[None]:
    """Mark everything that this thread logs meanwhile as about one job."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


def current_subject() -> Subject | None:
    """Return what everything logged on this thread is about; None where it is about no job."""
    return _subject.get()

"""What a line of the log tells, and which job it is about. How lines are rendered is ``logging_setup``'s business."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

__all__ = ["Action", "Subject", "about", "action", "current_subject"]


class Subject(Protocol):
    """What a line can be about."""

    @property
    def job_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...


class Action(StrEnum):
    """What a line of ours tells: stable, for alerts and searches."""

    JOB_LAUNCHED = "job.launched"  # its service exists
    JOB_RUNNING = "job.running"  # its container runs
    JOB_ENDED = "job.ended"  # its outcome is in the ledger and with Celery
    JOB_RETRYING = "job.retrying"  # an attempt ended, another follows
    JOB_OVERDUE = "job.overdue"  # nobody has started it in the time it had
    JOB_REFUSED = "job.refused"  # a message that cannot become a job
    BROADCAST_DROPPED = "broadcast.dropped"  # what was published for all workers and cannot be read
    JOB_ADOPTED = "job.adopted"  # its former worker went away; this one goes on
    JOB_OWNERSHIP_LOST = "job.ownership_lost"  # another worker has it by now
    JOB_VERSION_TOO_NEW = "job.version_too_new"  # only a newer version can read its description
    JOB_NODE_LOST = "job.node_lost"  # the node it runs on is down
    JOB_STOPPING = "job.stopping"  # jaas asks for its container's end: cancelled, or a time limit is over
    JOB_STOP_FAILED = "job.stop_failed"  # its container could not be stopped, or not in time
    JOB_COPY_SUBMITTED = "job.copy_submitted"  # it runs for long: its copy was written down (speculation)
    JOB_SUPERSEDED = "job.superseded"  # its copy succeeded first: what still runs for it is removed
    JOB_RESTORED = "job.restored"  # Redis had lost its record
    IMAGE_DIFFERS = "image.differs"  # this engine has another image of that tag than the registry
    STEP_REPEATED = "step.repeated"  # something did not work now and is tried again
    STEP_FAILED = "step.failed"  # an error that nobody expected
    RESULT_NOT_STORED = "result.not_stored"  # Celery's result backend did not take a result
    SERVICE_REMOVED = "service.removed"  # the reconciler removed a service that was left behind
    SERVICE_REMOVAL_FAILED = "service.removal_failed"  # a service could not be removed; the reconciler will
    SERVICE_UNKNOWN = "service.unknown"  # a service of which no record knows
    RECORD_UNREADABLE = "record.unreadable"  # what Redis holds of a job, batch or worker is not what it should be
    LEASE_LOST = "lease.lost"  # others may have taken this worker's jobs over
    LEASE_NOT_RENEWED = "lease.not_renewed"  # Redis did not answer
    REDIS_UNAVAILABLE = "redis.unavailable"  # the worker waits for Redis
    REDIS_MASTER_CHANGED = "redis.master_changed"  # Sentinel has made another server the master
    ENGINE_UNAVAILABLE = "engine.unavailable"  # the worker cannot see its jobs for now, or takes no new ones
    ENGINE_AVAILABLE = "engine.available"  # it takes new jobs again
    AGENT_FORWARDING = "agent.forwarding"  # a node without a worker: the ends of its containers are passed on
    RECONCILE_TOOK_OVER = "reconcile.took_over"  # jobs that nobody held
    RECONCILE_FAILED = "reconcile.failed"  # a round did not work; the next one may
    QUEUE_FOREIGN = "queue.foreign"  # somebody else's tasks in Celery's default queue
    WORKER_SHUTDOWN_TIMEOUT = "worker.shutdown_timeout"  # its shutdown hung, most likely for want of Redis
    METRICS_STARTED = "metrics.started"  # where Prometheus finds this worker
    METRICS_FAILED = "metrics.failed"  # the port is taken; jobs run all the same
    WORKER_HANDED_OVER = "worker.handed_over"  # shutdown: the jobs go on without this worker


def action(what: Action, **fields: object) -> dict[str, object]:
    """Return the ``extra`` of a line.

    Args:
        what: the action.
        fields: more that machines shall find, such as ``service``.
    """
    return {"action": str(what), **fields}


_subject: ContextVar[Subject | None] = ContextVar("jaas_log_subject", default=None)


@contextmanager
def about(subject: Subject) -> Iterator[None]:
    """Say that everything logged meanwhile, on this thread, is about one job."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


def current_subject() -> Subject | None:
    """Return what everything logged on this thread is about; None where it is about no job."""
    return _subject.get()

"""One job in this worker's hands, and what the runner needs of the message that brought it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from jaas_submit.records import Attempt
from jaas_submit.result import JobResult
from jaas_submit.spec import JobSpec
from jaas_submit.states import JobState
from jaas_worker.engine import TaskView
from jaas_worker.observe import StopRequest
from jaas_worker.retry import Decision

__all__ = ["Delivery", "Entry", "Phase"]


class Delivery(Protocol):
    """A received message. The runner calls these from its own threads."""

    job_id: str
    task_id: str
    traceparent: str
    """Of a foreign producer's message (W3C Trace Context); empty where it has none."""
    wakeup: bool
    """The message holds no description: what is to be done is in the job's record, or nowhere."""

    def revoked(self) -> bool:
        """Return whether Celery's revoke has named the task since its message arrived."""

    def description(self) -> JobSpec:
        """Return the job description in the message; raises SpecError."""

    def message(self) -> str:
        """Return the whole message as JSON, for the record of a job that has none yet."""

    def accepted(self, *, first: bool = True) -> None:
        """The job is in the ledger with this worker as its holder: the message is not needed any more."""

    def running(self, node: str, attempt: int, service: str) -> None:
        """The container of an attempt runs on a node."""

    def report(self, result: JobResult) -> bool:
        """Hand the result to Celery; return whether it arrived there (else the caller repeats it)."""

    def retrying(self, why: str, delay: float) -> bool:
        """Tell Celery that the attempt ended and another follows; return whether it arrived there."""

    def done(self) -> None:
        """The result is reported, and the ledger knows it."""

    def returned(self) -> None:
        """The message goes back to its queue, for another worker: this one takes no new jobs for now."""

    def dropped(self) -> None:
        """Nothing is to be done for this message: another worker has the job, or it was reported long ago."""


class Phase(Enum):
    """What this worker is doing with a job."""

    WAITING = auto()  # in the line, not claimed yet
    LAUNCHING = auto()  # being claimed, or its service being created
    TRACKED = auto()  # the service exists: the tracker watches it
    FINISHING = auto()  # its end is being written down and reported
    GONE = auto()  # no business of this worker any more


@dataclass(slots=True, eq=False)
class Entry:
    """What this worker keeps of a job in flight; the truth is the ledger's record."""

    job_id: str
    delivery: Delivery
    phase: Phase = Phase.WAITING
    spec: JobSpec | None = None
    attempt: int = 1
    attempts: tuple[Attempt, ...] = ()
    state: JobState = JobState.QUEUED
    service: str = ""
    service_id: str = ""
    label: str = ""
    """Selects the services of the worker that asked for this one; empty where it has no such label."""
    node: str | None = None
    started_at: datetime | None = None
    began: str = ""
    """When the container started, by an event of this worker's engine (RFC 3339); empty where none has told."""
    labels: dict[str, str] = field(default_factory=dict)
    """What it is in its batch, for the service's labels; empty where it is in none."""
    has_config: bool = False
    """A swarm config holds its input."""
    image: str = ""
    """The image with its digest; empty where no registry told one."""
    deadline: float | None = None
    """When the whole job must have ended, by the monotonic clock."""
    lost: TaskView | None = None
    """The attempt's task while its node is down, and with it all knowledge of the container."""
    lost_since: float | None = None
    """When the node was first seen to be down, by the monotonic clock."""
    held_at: float = 0.0
    """When this worker last asked the ledger and was told that it holds the job, by the monotonic clock."""
    launched: float = 0.0
    """When the service was created or adopted, by the monotonic clock."""
    traceparent: str = ""
    """The trace that the job was submitted in."""
    queued_at: float | None = None
    claimed_at: float | None = None
    """When it was submitted and when this worker claimed it as a new job, in seconds since the epoch."""
    launched_at: float | None = None
    """When this worker created the service, in seconds since the epoch; None where another one did."""
    ran_before: float = 0.0
    """Seconds that the container had run when this worker took the job over, by Redis' clock."""
    running_since: float | None = None
    """When the container was first seen running, by the monotonic clock."""
    task_seen: bool = False
    """The swarm has shown a task of the service to this worker."""
    missing_since: float | None = None
    """When the swarm first showed no task of the service, by the monotonic clock."""
    detail: str = ""
    late: bool = False
    """The service may appear at any later time: its request was not answered, or a former holder may yet send it."""
    asked: bool = False
    """This worker has sent a request to create the service, whatever became of it."""
    stop: StopRequest | None = None
    stop_sent: float | None = None
    check_at: float = 0.0
    """Before this moment, by the monotonic clock, no time-out of it is over; 0 when one of its times has changed."""
    decision: Decision | None = None
    """Whether another attempt follows; decided once, however often the end has to be written down."""
    tries: int = 0
    """How often the present step failed in a row."""
    accepted: bool = False
    """The ledger names this worker as the holder, and the message has been acknowledged."""

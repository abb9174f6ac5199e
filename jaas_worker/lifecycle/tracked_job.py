"""A job that this worker holds or is about to claim, and the interface of its message."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import service_name
from jaas_submit.signing import Producer
from jaas_worker.admission.gate import Origin
from jaas_worker.decisions.deadlines import NO_DEADLINES, Deadlines
from jaas_worker.decisions.engine_refusal import NO_ANSWER, SameAnswer
from jaas_worker.decisions.retry import Decision
from jaas_worker.decisions.task_outcome import StopRequest
from jaas_worker.swarm.engine import NodeChange, TaskView
from jaas_worker.tracking.tracked_service import ServiceRef

__all__ = ["NO_LABELS", "AttemptFacts", "Delivery", "LostNode", "Phase", "TrackedJob"]

_MOST_CHANGES: Final = 4
_UNKNOWN: Final = Origin()

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_deadlines_lock = threading.Lock()


class Delivery(Protocol):
    """A received message. Its methods may be called from any thread."""

    job_id: str
    task_id: str
    traceparent: str
    """Of a foreign producer's message (W3C Trace Context); empty where it has none."""
    queue: str
    """By which the message came, as this worker's transport says; empty for one that the worker made for itself."""
    wakeup: bool
    """The message holds no description: only the job's record does."""
    defect: str
    """What is wrong with the message, for people; the job is not launched then. Empty if nothing is."""

    def revoked(self) -> bool:
        """Return whether the task was revoked since its message arrived."""

    def description(self) -> JobSpec:
        """Return the job description in the message; raises SpecError."""

    def signed(self) -> str:
        """Return the signed token that holds that description; empty if it is not signed."""

    def message(self) -> str:
        """Return the whole message as JSON, for the record of a job that has none yet."""

    def accepted(self, *, first: bool = True) -> None:
        """The ledger names this worker as the holder: the message is no longer needed."""

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

    def follow_up(self) -> str:
        """Return what Celery calls after the job's end, in a form that can be compared; empty for nothing."""

    def adds_to(self, kept: str) -> bool:
        """Return whether this message has a follow-up that the one in the ledger has not."""

    def postponed(self) -> None:
        """The message stays unacknowledged: it is delivered again after a minute, when the job may have ended."""

    def dropped(self) -> None:
        """Nothing is to be done for this message: another worker has the job, or it was reported long ago."""


class Phase(Enum):
    """What this worker does with a job, which decides the thread that may write to it."""

    WAITING = auto()  # in the launch queue, not claimed yet: nobody
    LAUNCHING = auto()  # being claimed, or its service being created: its launching thread
    TRACKED = auto()  # the service exists: the tracker's thread
    FINISHING = auto()  # its outcome is being recorded and reported: its finishing thread
    GONE = auto()  # removed from this worker: nobody


class AttemptFacts(NamedTuple):
    """What the ledger said of the job when this worker claimed it; a new claim brings new facts."""

    spec: JobSpec | None = None
    attempt: int = 1
    attempts: tuple[Attempt, ...] = ()
    """Those that have ended."""
    labels: Mapping[str, str] = NO_LABELS
    """Its place in its batch, for the service's labels; empty without a batch."""
    traceparent: str = ""
    """The trace that the job was submitted in."""
    origin: Origin = _UNKNOWN
    """Whose job it is, as far as that was verified."""
    signed: str = ""
    """The token that holds the description, for the service's labels; empty for an unsigned one."""

    like: str = ""
    """What it takes of a service, as JSON; empty if it is like none, or the record says it."""

    pin_again: bool = False
    """Its record names a pinned image that no worker has noted."""

    @property
    def producer(self) -> Producer | None:
        """Who has signed its description; None where no signature was verified."""
        return self.origin.producer


_NOTHING_KNOWN: Final = AttemptFacts()


class LostNode(NamedTuple):
    """The node of an attempt is down, so the container's state is unknown."""

    task: TaskView
    """The task's last known state."""
    since: float
    """When that was first seen, by the monotonic clock."""


@dataclass(slots=True, eq=False)
class TrackedJob:
    """What this worker keeps of a job; the truth is the ledger's record.

    Only one thread at a time works on the job; its phase says which. Only ``phase``, ``delivery``, ``others`` and
    ``stop`` are written by others, under the job table's lock, and ``deadlines`` by ``reschedule``.
    """

    job_id: str
    delivery: Delivery
    phase: Phase = Phase.WAITING
    facts: AttemptFacts = _NOTHING_KNOWN
    state: JobState = JobState.QUEUED
    """The state as this worker last wrote or read it."""
    detail: str = ""
    node: str | None = None
    started_at: datetime | None = None
    image: str = ""
    """The image with its digest; empty where no registry told one."""
    platforms: tuple[str, ...] = ()
    """What the image runs on, such as ``linux/amd64``; empty where that is not known."""
    has_config: bool = False
    """A swarm config holds its input."""
    late: bool = False
    """The service may still appear: its request was not answered, or a former holder may still send one."""
    asked: bool = False
    """This worker has sent a request to create the service, with any result."""
    answer: SameAnswer = NO_ANSWER
    """The engine's answer to the launch, if it may be a refusal."""
    service: ServiceRef | None = None
    """None until it is known to exist."""
    held_at: float = 0.0
    """When the ledger last confirmed that this worker holds the job, by the monotonic clock."""
    launching_since: float = 0.0
    """When the attempt was claimed, by any worker, in seconds since the epoch by Redis' clock."""
    followed_since: float = 0.0
    """When this worker began to follow the service, by the monotonic clock."""
    queued_at: float | None = None
    claimed_at: float | None = None
    """When it was submitted and when this worker claimed it as a new job, in seconds since the epoch."""
    launched_at: float | None = None
    """When this worker created the service, in seconds since the epoch; None where another one did."""
    running: bool = False
    """This worker has seen the container run, and the ledger says so."""
    absent_since: float | None = None
    """When the service to take over was not found for the first time, by the monotonic clock; None if it was."""
    lost: LostNode | None = None
    away_since: datetime | None = None
    """When the node was seen to be down, by this worker or a former holder; None where it was not, or is back and the
    container goes on."""
    node_changes: tuple[NodeChange, ...] = ()
    """The changes of its node that were seen since its container has ended, the first one first."""
    deadlines: Deadlines = NO_DEADLINES
    others: tuple[Delivery, ...] = ()
    """Messages that use the task id again and are no duplicates; they wait for the job's end."""
    stop: StopRequest | None = None
    decision: Decision | None = None
    """Whether another attempt follows; decided once, even if recording the outcome is repeated."""
    files_until: float | None = None
    """When the copying of its files is given up, by the monotonic clock; None before it has begun."""
    tries: int = 0
    """How often the present step failed in a row."""
    accepted: bool = False
    """The ledger names this worker as the holder, and the message has been acknowledged."""

    @property
    def spec(self) -> JobSpec | None:
        """The job's description; None where it cannot be read."""
        return self.facts.spec

    @property
    def attempt(self) -> int:
        """Number of the present attempt."""
        return self.facts.attempt

    def note_node_change(self, change: NodeChange) -> None:
        """Keep a change of the job's node, if it is another one than the last.

        Args:
            change: as the swarm shows it now.
        """
        if change not in self.node_changes[-1:]:
            self.node_changes = (*self.node_changes[:_MOST_CHANGES], change)

    @property
    def service_name(self) -> str:
        """Name of the attempt's service, whether it exists or not."""
        return service_name(self.job_id, self.facts.attempt)

    def reschedule(self, change: Callable[[Deadlines], Deadlines]) -> None:
        """Change the deadlines. Two threads may do so at once: the one that tracks, and the one that sends a stop.

        Args:
            change: returns the new ones.
        """
        with _deadlines_lock:
            self.deadlines = change(self.deadlines)

"""PURE: what the ledger stores of jobs and batches: attempts and records."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jaas_submit.model.causes import Cause
from jaas_submit.model.fields import StoredLogStatus
from jaas_submit.model.files.listing import OutputFiles
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import LogStatus
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.states import JobState, is_terminal, read_as
from jaas_submit.model.usage.used import Used

__all__ = [
    "MESSAGE_EXPIRED",
    "Attempt",
    "AuditEntry",
    "BatchRecord",
    "JobRecord",
    "Outcome",
    "StoredCause",
    "StoredModel",
    "StoredState",
]


MESSAGE_EXPIRED: Final = "its Celery message expired before it was started"
"""Why a foreign producer's job is cancelled."""


class StoredModel(BaseModel):
    """Data read from Redis or from a Celery result. Fields of a newer version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# Records and results may have been written by a newer version, whose unknown words are kept.
StoredState = Annotated[JobState, BeforeValidator(partial(read_as, JobState))]
StoredCause = Annotated[Cause, BeforeValidator(partial(read_as, Cause))]


class Outcome(StoredModel):
    """How one attempt ended."""

    state: StoredState
    cause: StoredCause
    reason: str = Field("", description="what the engine or jaas says about it, in one line")
    exit_code: int | None = None
    node: str | None = Field(None, description="host name of the node")
    node_id: str | None = Field(None, description="swarm's id of the node")
    task_id: str | None = Field(None, description="swarm's task id")
    container_id: str | None = None
    oom_killed: bool = Field(False, description="whether the node's engine says that it was killed for its memory")
    started_at: datetime | None = None
    finished_at: datetime | None = None
    usage: Used | None = Field(
        None, description="what its container used; null where its node's agent measured nothing"
    )

    @property
    def duration(self) -> float | None:
        """Seconds between the container's start and end, by its node's clock."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max((self.finished_at - self.started_at).total_seconds(), 0.0)


class AuditEntry(StoredModel):
    """Something that somebody did to a job or batch."""

    at: datetime = Field(description="when, by Redis' clock")
    what: str = Field(description="submit, cancel, replay, hold or release; of a queue such as pause")
    by: str = Field("", description="user@host, as the client says of itself: anybody may say anything")
    producer: str = Field("", description="whose signature a worker has verified; empty where none was")
    detail: str = Field("", description="such as the reason, or what was changed")

    @property
    def trust(self) -> str:
        """How far it is known who it was: ``verified`` or ``claimed``."""
        return "verified" if self.producer else "claimed"


class Attempt(Outcome):
    """One service that ran (or tried to run) the job."""

    number: int = Field(ge=0, description="counted from 1; 0 where nothing was launched")
    service: str | None = Field(None, description="name of its swarm service; null where none was created")
    log_status: StoredLogStatus = Field(LogStatus.COMPLETE, description="whether all of its output was kept")
    image: str | None = Field(None, description="what was run, with the digest where a registry told it")
    outputs: OutputFiles | None = Field(
        None, description="the files that it handed out; null where none were asked for, or no container ended"
    )
    decision: str = Field("", description="whether another attempt followed, and which rule and budget decided")


class JobRecord(StoredModel):
    """A job's record in the ledger."""

    id: str = Field(description="the job's id")
    state: StoredState = Field(description="where it is now")
    queue: str = Field(description="Celery queue that its message went to")
    spec: JobSpec | None = Field(None, description="None where the message held no valid description")
    newer: bool = Field(False, description="it has a description that only a newer version of jaas can read")
    unreadable: str = Field("", description="what this version cannot read in that description")
    submitted: JobSpec | None = Field(
        None,
        exclude=True,
        repr=False,
        description="the description with the name of a service, where ``spec`` has what a worker took of that",
    )
    signed: str = Field("", exclude=True, repr=False, description="the signed token that holds its description, if any")
    task_id: str = Field(
        "", description="Celery's task id, the same as the id unless a foreign producer chose an odd one"
    )
    attempt: int = Field(0, description="number of the present or last attempt, counted from 1; 0 before the first")
    holder: str = Field("", description="the worker that looks after it; empty where none does")
    detail: str = Field("", description="what the swarm said last, such as why the task is pending")
    node: str | None = Field(None, description="host name of the node where the present attempt is")
    cancel: str = Field("", description="why it is to be cancelled; empty if it is not")
    created_at: datetime = Field(description="when it was submitted, by Redis' clock")
    updated_at: datetime = Field(description="when its state changed last, by Redis' clock")
    claimed_at: datetime | None = Field(
        None,
        description="when the present attempt was claimed, where pending_timeout begins; null without one",
    )
    started_at: datetime | None = Field(None, description="when the present attempt's container started")
    attempts: tuple[Attempt, ...] = Field((), description="those that have ended, the first one first")
    reported: bool = Field(False, description="Celery has its result, so that no worker has to look after it any more")
    late: bool = Field(False, description="a request for an attempt's service may have been carried out late")
    image: str = Field("", description="the image with the digest that every attempt uses; empty where none is known")
    platforms: tuple[str, ...] = Field(
        (), description="what the image runs on, such as linux/amd64; linux/ for any processor; empty where not known"
    )
    note: str = Field("", description="a worker's note about the image")
    after: tuple[tuple[str, str], ...] = Field(
        (), description="jobs (ids) and batches (``batch:ID``) that it comes after, and on what"
    )
    batch: str = Field("", description="id of the batch it belongs to")
    index: int | None = Field(None, description="which of its batch's inputs it is for, counted from 0")
    output: Any = Field(None, description="typed output, where the description declares one")
    due_at: datetime | None = Field(None, description="when the next attempt is due, in state BACKOFF")
    not_before: datetime | None = Field(None, description="time that it waits for before it is started, if it does")
    expires_at: datetime | None = Field(None, description="when a foreign producer's message expires")
    celery_priority: int | None = Field(None, description="priority of a foreign producer's message")
    key: str = Field("", description="idempotency key it was submitted with")
    traceparent: str = Field("", description="the trace that it was submitted in (W3C Trace Context)")
    copy_of: str = Field("", description="id of the job that this one is a second start of: that one runs for too long")
    copied_by: str = Field("", description="id of the job that is the second start of this one")
    replay_of: str = Field("", description="id of the job that this one repeats")
    replayed_by: str = Field("", description="id of the latest job that repeats this one")
    left: str = Field("", description="why it no longer counts in its batch; empty if it does")
    by: str = Field("", description="who submitted it: user@host, as the client says of itself")
    producer: str = Field("", description="whose signature a worker has verified; empty where none was")
    held: str = Field("", description="who holds it, so that it is not started; empty if nobody does")
    audit: tuple[AuditEntry, ...] = Field((), description="what was done to it later, the newest 20")

    @property
    def history(self) -> tuple[AuditEntry, ...]:
        """Who submitted it, and what was done to it later."""
        detail = f"replay of job {self.replay_of}" if self.replay_of else ""
        first = AuditEntry(at=self.created_at, what="submit", by=self.by, producer=self.producer, detail=detail)
        return (first, *self.audit)

    @property
    def terminal(self) -> bool:
        """Whether the job has ended for good.

        In a state that only a newer version knows, this is true when Celery has the result.
        """
        return is_terminal(self.state) or self.reported

    def message_expired(self, now: float) -> bool:
        """Return whether a foreign producer's message has expired, which counts until the job is started.

        Args:
            now: the present time, in seconds since the epoch.
        """
        return self.expires_at is not None and self.expires_at.timestamp() <= now

    @property
    def last(self) -> Attempt | None:
        """The attempt that decided the outcome, or the newest that ended."""
        return self.attempts[-1] if self.attempts else None

    @property
    def stored_spec(self) -> str:
        """Its description as a record holds it: the signed token, or JSON; empty where there is none."""
        return self.signed or (self.spec.to_json() if self.spec else "")

    @property
    def label(self) -> str:
        """One line for people."""
        if self.spec:
            return self.spec.summary()
        return "(described by a newer version of jaas)" if self.newer else "(no valid description)"


class BatchRecord(StoredModel):
    """A batch's record in the ledger."""

    id: str
    name: str = ""
    created_at: datetime
    ended_at: datetime | None = None
    state: StoredState | None = Field(
        None, description="SUCCEEDED or FAILED (by its quorum), or CANCELLED, once it has ended"
    )
    reason: str = ""
    total: int | None = Field(None, description="how many jobs it has; None while they are being submitted")
    size: int = Field(0, description="how many jobs have been submitted")
    span: int = Field(
        0, description="how many inputs there may be a job for: more than jobs, where Redis has lost records"
    )
    counts: dict[StoredState, int] = Field(default_factory=dict)
    active: int = Field(0, description="how many count towards max_parallel now")
    copies: int = Field(0, description="how many of its jobs run twice now")
    max_parallel: int = Field(0, description="how many may be active at once; 0 means no limit")
    min_success: float | None = Field(
        None, description="part of the jobs that must succeed; None: all of them, and none stops the others"
    )
    max_failures: str = Field("", description="how many jobs may fail, such as 3 or 10%; one more stops the batch")
    stopped: bool = Field(False, description="one of its rules has stopped it; ``cancelled`` says which")
    speculate: Speculation | None = Field(None, description="when its slowest jobs are started a second time")
    cancelled: str = ""
    left: int = Field(
        0, description="how many ended jobs no longer count: others took their place, or their input went"
    )
    generation: int = Field(
        0, description="how often it was opened again; reduces are over the outputs of one of these"
    )
    fan_in: int = Field(0, description="how many outputs one reduce job takes")
    reduced_by: str = Field("", description="id of the batch that reduces this one's outputs")
    reduces: str = Field("", description="id of the batch whose outputs this one reduces")
    by: str = Field("", description="who submitted it: user@host, as the client says of itself")
    held: str = Field("", description="who holds it, so that none of its jobs is started; empty if nobody does")
    audit: tuple[AuditEntry, ...] = Field((), description="what was done to it later, the newest 20")

    @property
    def history(self) -> tuple[AuditEntry, ...]:
        """Who submitted it, and what was done to it later."""
        return (AuditEntry(at=self.created_at, what="submit", by=self.by), *self.audit)

    @property
    def done(self) -> bool:
        """Whether all its jobs have been submitted and have ended."""
        return self.state is not None

    @property
    def ended(self) -> int:
        """How many of its jobs have ended."""
        return sum(count for state, count in self.counts.items() if is_terminal(state))

    def sentence(self) -> str:
        """Return the progress in one line."""
        total = self.size if self.total is None else self.total
        parts = ", ".join(f"{count:,} {state.lower()}" for state, count in self.counts.items())
        how = f"{self.state.lower()}: {self.reason}" if self.state else f"{self.ended:,} of {total:,} jobs ended"
        return f"batch {self.id} {how}" + (f" ({parts})" if parts else "")

"""What the ledger stores and what users get back: attempts, logs, records and results."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jaas_submit.bounds import shown
from jaas_submit.errors import JobCancelled, JobFailed
from jaas_submit.spec import JobSpec
from jaas_submit.speculation import Speculation
from jaas_submit.states import Cause, JobState, is_known, is_terminal, read_as

__all__ = [
    "RESULT_VERSION",
    "Attempt",
    "BatchRecord",
    "CapturedOutput",
    "JobRecord",
    "JobResult",
    "LogLine",
    "LogStatus",
    "Logs",
    "Outcome",
]

RESULT_VERSION: Final = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LogStatus(StrEnum):
    """How much of a container's output was kept."""

    COMPLETE = "complete"  # every byte
    TRUNCATED = "truncated"  # more than the cap: head and tail were kept, the cut is marked
    UNAVAILABLE = "unavailable"  # the engine did not hand it out in time; what is there may be nothing


# Records and results may have been written by a newer version, whose words are taken as they are.
StoredState = Annotated[JobState, BeforeValidator(partial(read_as, JobState))]
StoredCause = Annotated[Cause, BeforeValidator(partial(read_as, Cause))]
StoredLogStatus = Annotated[LogStatus, BeforeValidator(partial(read_as, LogStatus))]


_MOST_UNPACKED: Final = 256 * 1024 * 1024
"""Bytes of a log: JAAS_LOG_LIMIT is 64 MiB at most, and JSON writes some characters as six."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


class LogLine(NamedTuple):
    """A piece of output, usually one line with its line end."""

    time: str
    """When the engine read it: RFC 3339 with nanoseconds, by the node's clock; empty for a mark of jaas."""
    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True)
class Logs:
    """The captured output of one attempt.

    Args:
        lines: pieces in the order in which the engine handed them out.
        status: whether that is all there was.
        reason: why it is not all, for people; empty when complete.
    """

    lines: tuple[LogLine, ...] = ()
    status: LogStatus = LogStatus.COMPLETE
    reason: str = ""

    @property
    def stdout(self) -> str:
        """Standard output as one text."""
        return "".join(line.text for line in self.lines if line.stream == "stdout")

    @property
    def stderr(self) -> str:
        """Standard error as one text."""
        return "".join(line.text for line in self.lines if line.stream == "stderr")

    @property
    def text(self) -> str:
        """Both streams as one text, in order."""
        return "".join(line.text for line in self.lines)

    def tail(self, count: int) -> str:
        """Return the last ``count`` lines of both streams."""
        lines = self.text.splitlines(keepends=True)
        return "".join(lines[max(len(lines) - count, 0) :])

    def pack(self) -> bytes:
        """Return the compressed form that the ledger stores."""
        data = {"status": self.status, "reason": self.reason, "lines": self.lines}
        return zlib.compress(json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass"), 1)

    @classmethod
    def unpack(cls, data: bytes) -> Logs:
        """Return what ``pack`` packed.

        Args:
            data: the packed form.

        Raises:
            ValueError: it is none, or has more than 256 MiB.
        """
        try:
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(data, _MOST_UNPACKED)
            raw = json.loads(text if unpacker.eof else b"")  # else it is cut off, or too large
            lines = tuple(LogLine(_text(time), stream, _text(piece)) for time, stream, piece, *_ in raw["lines"])
            return cls(lines, read_as(LogStatus, _text(raw["status"])), _text(raw["reason"]))
        except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it is no log of jaas: {shown(str(error))}") from None

    def __str__(self) -> str:
        return self.text


class Outcome(_Model):
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

    @property
    def duration(self) -> float | None:
        """Seconds between the container's start and end, by its node's clock."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max((self.finished_at - self.started_at).total_seconds(), 0.0)


class Attempt(Outcome):
    """One service that ran (or tried to run) the job."""

    number: int = Field(ge=0, description="counted from 1; 0 where nothing was launched")
    service: str | None = Field(None, description="name of its swarm service; null where none was created")
    log_status: StoredLogStatus = Field(LogStatus.COMPLETE, description="whether all of its output was kept")
    image: str | None = Field(None, description="what was run, with the digest where a registry told it")
    decision: str = Field("", description="whether another attempt followed, and which rule and budget decided")


class JobRecord(_Model):
    """What the ledger knows of a job now."""

    id: str = Field(description="the job's id")
    state: StoredState = Field(description="where it is now")
    queue: str = Field(description="Celery queue that its message went to")
    spec: JobSpec | None = Field(None, description="None where the message held no valid description")
    newer: bool = Field(False, description="it has a description that only a newer version of jaas can read")
    unreadable: str = Field("", description="what this version cannot read in that description")
    task_id: str = Field(
        "", description="Celery's task id, the same as the id unless a foreign producer chose an odd one"
    )
    attempt: int = Field(0, description="number of the present or last attempt, counted from 1; 0 before the first")
    holder: str = Field("", description="the worker that looks after it; empty where none does")
    detail: str = Field("", description="what the swarm said last, such as why the task is pending")
    node: str | None = Field(None, description="host name of the node where the present attempt is")
    cancel: str = Field("", description="why it is to be cancelled; empty when it is not")
    created_at: datetime = Field(description="when it was submitted, by Redis' clock")
    updated_at: datetime = Field(description="when its state changed last, by Redis' clock")
    started_at: datetime | None = Field(None, description="when the present attempt's container started")
    attempts: tuple[Attempt, ...] = Field((), description="those that have ended, the first one first")
    reported: bool = Field(False, description="Celery has its result, so that no worker has to look after it any more")
    late: bool = Field(False, description="a request for an attempt's service may have been carried out late")
    image: str = Field("", description="the image with the digest that every attempt uses; empty where none is known")
    note: str = Field("", description="what a worker found worth telling about the image")
    after: tuple[tuple[str, str], ...] = Field(
        (), description="jobs (ids) and batches (``batch:ID``) that it comes after, and on what"
    )
    batch: str = Field("", description="id of the batch it belongs to")
    index: int | None = Field(None, description="which of its batch's inputs it is for, counted from 0")
    output: Any = Field(None, description="typed output, where the description declares one")
    due_at: datetime | None = Field(None, description="when the next attempt is due, in state BACKOFF")
    key: str = Field("", description="idempotency key it was submitted with")
    traceparent: str = Field("", description="the trace that it was submitted in (W3C Trace Context)")
    copy_of: str = Field("", description="id of the job that this one is a second start of: that one runs for too long")
    copied_by: str = Field("", description="id of the job that is the second start of this one")
    replay_of: str = Field("", description="id of the job that this one repeats")
    replayed_by: str = Field("", description="id of the latest job that repeats this one")

    @property
    def terminal(self) -> bool:
        """Whether the job has ended for good.

        Of a state that only a newer version knows this is told by Celery having been given the result.
        """
        return is_terminal(self.state) or self.reported

    @property
    def last(self) -> Attempt | None:
        """The attempt that decided the outcome, or the newest that ended."""
        return self.attempts[-1] if self.attempts else None

    @property
    def label(self) -> str:
        """One line for people."""
        if self.spec:
            return self.spec.summary()
        return "(described by a newer version of jaas)" if self.newer else "(no valid description)"


class BatchRecord(_Model):
    """What the ledger knows of a batch now."""

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
    min_success: float = Field(1.0, description="part of the jobs that must succeed")
    speculate: Speculation | None = Field(None, description="when its slowest jobs are started a second time")
    cancelled: str = ""
    reduced_by: str = Field("", description="id of the batch that reduces this one's outputs")
    reduces: str = Field("", description="id of the batch whose outputs this one reduces")

    @property
    def done(self) -> bool:
        """Whether all its jobs have been submitted and have ended."""
        return self.state is not None

    @property
    def ended(self) -> int:
        """How many of its jobs have ended."""
        return sum(count for state, count in self.counts.items() if is_terminal(state))

    def sentence(self) -> str:
        """Return in one line how it stands."""
        total = self.size if self.total is None else self.total
        parts = ", ".join(f"{count:,} {state.lower()}" for state, count in self.counts.items())
        how = f"{self.state.lower()}: {self.reason}" if self.state else f"{self.ended:,} of {total:,} jobs ended"
        return f"batch {self.id} {how}" + (f" ({parts})" if parts else "")


class CapturedOutput(_Model):
    """Output as it stands in the Celery result: text only, with a smaller cap than the ledger's."""

    stdout: str = ""
    stderr: str = ""
    status: StoredLogStatus = LogStatus.COMPLETE
    reason: str = ""

    def __str__(self) -> str:
        return self.stdout + self.stderr

    @classmethod
    def of(cls, logs: Logs, cap: int) -> CapturedOutput:
        """Return the output cut to ``cap`` characters a stream (head and tail kept, the cut marked)."""
        out, err = _cut(logs.stdout, cap), _cut(logs.stderr, cap)
        cut = out != logs.stdout or err != logs.stderr
        status = LogStatus.TRUNCATED if cut and logs.status is LogStatus.COMPLETE else logs.status
        reason = logs.reason or (f"cut to {cap:,} characters a stream; `jaas logs` has more" if cut else "")
        return cls(stdout=out, stderr=err, status=status, reason=reason)


def _cut(text: str, cap: int) -> str:
    if len(text) <= cap:
        return text
    half = cap // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters cut by jaas ...]\n{text[len(text) - half :]}"


class JobResult(_Model):
    """How a job ended: the object that Celery stores and that ``wait`` returns."""

    version: Literal[1] = RESULT_VERSION
    job_id: str = Field(description="the job's id")
    state: StoredState = Field(description="how it ended")
    cause: StoredCause = Field(description="why the last attempt ended")
    exit_code: int | None = Field(None, description="of the last attempt's container; null where none ended")
    reason: str = Field("", description="the cause in words, as the swarm or jaas gave it")
    node: str | None = Field(None, description="host name of the last attempt's node")
    image: str | None = Field(None, description="the image as described, without the digest")
    attempts: tuple[Attempt, ...] = Field((), description="all attempts, the first one first")
    queued_at: datetime = Field(description="when it was submitted, by Redis' clock")
    started_at: datetime | None = Field(None, description="when the container started, by its node's clock")
    finished_at: datetime | None = Field(None, description="when the container ended, by its node's clock")
    duration: float | None = Field(None, description="seconds the container ran")
    output: Any = Field(None, description="what the job returned, where the description declares an output")
    batch: str = Field("", description="id of the batch it belongs to")
    index: int | None = Field(None, description="which of its batch's inputs it was for, counted from 0")
    logs: CapturedOutput = Field(CapturedOutput(), description="the last attempt's output, capped")

    @classmethod
    def of(cls, record: JobRecord, logs: CapturedOutput) -> JobResult:
        """Return the result of a record that has ended.

        Args:
            record: a record in a terminal state.
            logs: the captured output of its last attempt.
        """
        last = record.last
        if not record.terminal or last is None:
            raise ValueError(f"job {record.id} has not ended: it is {record.state}")
        return cls(
            job_id=record.id,
            state=record.state,
            cause=last.cause,
            exit_code=last.exit_code,
            reason=last.reason,
            node=last.node,
            image=record.spec.image if record.spec else None,
            attempts=record.attempts,
            queued_at=record.created_at,
            started_at=last.started_at,
            finished_at=last.finished_at,
            duration=last.duration,
            output=record.output,
            batch=record.batch,
            index=record.index,
            logs=logs,
        )

    @property
    def ok(self) -> bool:
        """Whether the job ended well."""
        return self.state is JobState.SUCCEEDED

    @property
    def stdout(self) -> str:
        """Captured standard output."""
        return self.logs.stdout

    @property
    def stderr(self) -> str:
        """Captured standard error."""
        return self.logs.stderr

    def to_wire(self) -> dict[str, Any]:
        """Return the plain JSON object that Celery stores."""
        return self.model_dump(mode="json")

    def sentence(self, *, named: bool = True) -> str:
        """Return in one line how the job ended: exit code, cause, reason, attempt and node.

        Args:
            named: begin with the job's id; False where that stands beside it already.
        """
        last = self.attempts[-1] if self.attempts else None
        if self.ok:
            what = "succeeded with exit code 0"
        elif self.state is JobState.CANCELLED:
            what = "was cancelled"
        elif self.state is JobState.SKIPPED:
            what = "was skipped"
        elif not is_known(self.state):
            what = f"ended as {self.state}, which only a newer version of jaas knows"
        elif self.exit_code is not None:
            what = f"failed with exit code {self.exit_code}"
        else:
            what = "failed without an exit code"
        text = f"job {self.job_id} {what}" if named else what
        if not self.ok:
            text += f" (cause: {self.cause}{'; ' + self.reason if self.reason else ''})"
        if last and last.number:
            text += f", attempt {last.number}"
        if self.node:
            text += f" on {self.node}"
        return text

    def check(self) -> JobResult:
        """Return the result itself when the job ended well.

        Raises:
            JobCancelled: it was cancelled, or skipped because of what it was to come after.
            JobFailed: it ended badly; the text has the exit code and the last lines of output.
        """
        if self.ok:
            return self
        text = self.sentence()
        tail = "".join((self.logs.stdout + self.logs.stderr).splitlines(keepends=True)[-10:]).rstrip()
        if tail:
            text += f"; last output:\n{tail}"
        kind = JobCancelled if self.state in {JobState.CANCELLED, JobState.SKIPPED} else JobFailed
        raise kind(text, result=self)

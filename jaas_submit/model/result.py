"""PURE: how a job ended: the object that Celery stores and that ``wait`` returns."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from jaas_submit.errors import JobCancelled, JobFailed, JobNotEnded
from jaas_submit.model.bounds import shown
from jaas_submit.model.fields import Resources, StoredLogStatus
from jaas_submit.model.files.listing import OutputFiles
from jaas_submit.model.logs import STREAMS, LogGap, Logs, LogStatus, Stream
from jaas_submit.model.records import Attempt, JobRecord, StoredCause, StoredModel, StoredState
from jaas_submit.model.states import JobState, is_known
from jaas_submit.model.usage.used import Usage

__all__ = ["RESULT_VERSION", "CapturedGap", "CapturedOutput", "JobResult"]

RESULT_VERSION: Final = 1


class CapturedGap(StoredModel):
    """A place in a stream where bytes are missing."""

    stream: str = Field(description="stdout or stderr")
    at: int = Field(description="after how many characters of its text")
    missing: int = Field(description="how many bytes are missing there")
    exact: bool = Field(True, description="false: at least so many")


class CapturedOutput(StoredModel):
    """Output in the Celery result: text only, with a smaller limit than the ledger's."""

    stdout: str = ""
    stderr: str = ""
    status: StoredLogStatus = LogStatus.COMPLETE
    reason: str = ""
    gaps: tuple[CapturedGap, ...] = Field((), description="where bytes are missing")
    notices: tuple[str, ...] = Field((), description="what jaas has to say, such as why it stopped the container")

    def __str__(self) -> str:
        return self.stdout + self.stderr

    @classmethod
    def of(cls, logs: Logs, cap: int | None = None) -> CapturedOutput:
        """Return output as text.

        Args:
            logs: the output.
            cap: bytes kept of each stream, half from each end; None keeps everything.
        """
        texts, gaps, cut = {}, [], False
        for stream in STREAMS:
            parts = logs.parts(stream)
            kept = parts if cap is None else _cut(parts, stream, cap)
            cut = cut or kept is not parts
            text = ""
            for part in kept:
                if isinstance(part, LogGap):
                    gaps.append(CapturedGap(stream=stream, at=len(text), missing=part.missing, exact=part.exact))
                else:
                    text += part.decode("utf-8", "replace")
            texts[stream] = text
        status = LogStatus.TRUNCATED if cut and logs.status is LogStatus.COMPLETE else logs.status
        reason = logs.reason or (f"cut to {cap:,} bytes a stream; `jaas logs` has more" if cut else "")
        return cls(**texts, status=status, reason=reason, gaps=tuple(gaps), notices=logs.notices)


def _cut(parts: list[bytes | LogGap], stream: Stream, cap: int) -> list[bytes | LogGap]:
    """Return the first and the last half of a cap, with one gap between them; the parts themselves if they are few."""
    size = sum(len(part) for part in parts if isinstance(part, bytes))
    if size <= cap:
        return parts
    half = cap // 2
    head: list[bytes | LogGap] = []
    tail: list[bytes | LogGap] = []
    middle = LogGap(stream, 0, 0)
    at = 0
    for part in parts:
        if not isinstance(part, LogGap):
            first, last = part[: max(half - at, 0)], part[max(size - half - at, 0) :]
            head += [first] if first else []
            tail += [last] if last else []
            middle = middle._replace(missing=middle.missing + len(part) - len(first) - len(last))
            at += len(part)
        elif at < half:
            head.append(part)
        elif at > size - half:
            tail.append(part)
        else:
            middle = middle._replace(missing=middle.missing + part.missing, exact=middle.exact and part.exact)
    return [*head, middle, *tail]


class JobResult(StoredModel):
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
    usage: Usage | None = Field(
        None, description="what the last attempt's container used; null where its node's agent measured nothing"
    )
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
            raise JobNotEnded(f"job {record.id} has not ended: it is {shown(record.state)}; `wait` waits for its end")
        return cls(
            job_id=record.id,
            state=record.state,
            cause=last.cause,
            exit_code=last.exit_code,
            reason=last.reason,
            node=last.node,
            image=(record.spec.image or None) if record.spec else None,
            attempts=record.attempts,
            queued_at=record.created_at,
            started_at=last.started_at,
            finished_at=last.finished_at,
            duration=last.duration,
            usage=_usage(record, last),
            output=record.output,
            batch=record.batch,
            index=record.index,
            logs=logs,
        )

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.state is JobState.SUCCEEDED

    @property
    def outputs(self) -> OutputFiles | None:
        """The files that the last attempt handed out; None where none were asked for, or no container ended."""
        return self.attempts[-1].outputs if self.attempts else None

    @property
    def stdout(self) -> str:
        """Captured standard output, as text."""
        return self.logs.stdout

    @property
    def stderr(self) -> str:
        """Captured standard error, as text."""
        return self.logs.stderr

    def to_wire(self) -> dict[str, Any]:
        """Return the plain JSON object that Celery stores."""
        return self.model_dump(mode="json")

    def sentence(self, *, named: bool = True) -> str:
        """Return in one line how the job ended: exit code, cause, reason, attempt and node.

        Args:
            named: begin with the job's id; False if it is already shown.
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
        return f"{text}; {self.outputs.sentence()}" if self.outputs else text

    def check(self) -> JobResult:
        """Return the result itself if the job succeeded.

        Raises:
            JobCancelled: it was cancelled, or skipped because of what it was to come after.
            JobFailed: it failed; the text has the exit code and the last lines of output.
        """
        if self.ok:
            return self
        text = self.sentence()
        tail = "".join((self.logs.stdout + self.logs.stderr).splitlines(keepends=True)[-10:]).rstrip()
        if tail:
            text += f"; last output:\n{tail}"
        kind = JobCancelled if self.state in {JobState.CANCELLED, JobState.SKIPPED} else JobFailed
        raise kind(text, result=self)


def _usage(record: JobRecord, last: Attempt) -> Usage | None:
    if last.usage is None:
        return None
    reserved = record.spec.reservations if record.spec else Resources()
    return Usage.of(last.usage, reserved.cpus, reserved.memory)

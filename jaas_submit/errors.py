"""The errors of jaas.

    JaasError
    ├── SpecError            the job description is wrong; nothing was enqueued (also a ValueError)
    │   ├── BatchClosed         a batch takes no more jobs
    │   └── QueueClosed         a queue takes no new jobs
    ├── UnknownJob           the ledger has no such job, or its record has expired (also a LookupError)
    ├── UnknownQueue         nobody has made such a queue (also a LookupError)
    ├── QueueInUse           a queue cannot be deleted: it has jobs or workers (also a ValueError)
    ├── JobNotEnded          what was asked for needs a job that has ended (also a ValueError)
    ├── JobNotWaiting        a job or batch cannot be held: it does not wait (also a ValueError)
    ├── WaitTimeout          `wait(timeout=...)` ran out; the job goes on (also a TimeoutError)
    ├── JobFailed            the job failed: exit code, cause and last lines of output
    │   └── JobCancelled     the job was cancelled
    ├── BatchFailed          fewer jobs of a batch succeeded than its quorum asks for
    ├── FunctionFailed       a function of `Executor` raised what cannot be made here, or could not be called
    ├── TemporaryError       try again: nothing is known to be wrong with the request itself
    │   ├── LedgerUnavailable   Redis did not answer, or refused the write
    │   ├── StoreUnavailable    the store of large values (JAAS_STORE_URL) cannot be reached
    │   └── EngineUnavailable   the engine's API did not answer, or the swarm has no leader
    │       └── AnswerTooLong   its answer is too long to be read whole
    └── PermanentError       the same request will fail again
        ├── UnreadableRecord    a record of a job or batch is unreadable
        ├── EngineRefused       the engine refuses: bad mount, unknown network, ...
        │   ├── EngineNotFound  the named object does not exist
        │   └── ImageRefused    the image cannot be had: no such login
        └── NotAManager         the engine is no swarm manager

The type says whether an error is temporary or permanent, so no caller compares texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = [
    "AnswerTooLong",
    "BatchClosed",
    "BatchFailed",
    "EndedBatch",
    "EndedJob",
    "EngineNotFound",
    "EngineRefused",
    "EngineUnavailable",
    "FunctionFailed",
    "ImageRefused",
    "JaasError",
    "JobCancelled",
    "JobFailed",
    "JobNotEnded",
    "JobNotWaiting",
    "LedgerUnavailable",
    "NotAManager",
    "PermanentError",
    "QueueClosed",
    "QueueInUse",
    "SpecError",
    "StoreUnavailable",
    "TemporaryError",
    "UnknownJob",
    "UnknownQueue",
    "UnreadableRecord",
    "WaitTimeout",
    "how_to_install",
]


class EndedJob(Protocol):
    """The result in an error; a ``JobResult``, which this module cannot import."""

    @property
    def job_id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def node(self) -> str | None: ...
    @property
    def output(self) -> Any: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...


class EndedBatch(Protocol):
    """The batch in an error; a ``BatchRecord``."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> str | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def counts(self) -> Mapping[Any, int]: ...


class JaasError(Exception):
    """Base of every error that jaas raises on purpose."""


class SpecError(JaasError, ValueError):
    """A job description that cannot be accepted.

    Args:
        message: one sentence naming the field and the fix.
        field: dotted path of the field, such as ``env.url``; empty when the whole description is meant.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class BatchClosed(SpecError):
    """A batch takes no more jobs: it has been cancelled or stopped, or all its jobs have been submitted."""


class QueueClosed(SpecError):
    """A queue takes no new jobs: it is draining."""


class QueueInUse(JaasError, ValueError):
    """A queue that cannot be deleted: it takes new jobs, has jobs, or has a worker."""


class UnknownQueue(JaasError, LookupError):
    """Nobody has made a queue of this name, and no worker of that queue has started."""


class UnknownJob(JaasError, LookupError):
    """No record of this job: it was never submitted, or its record has expired."""


class JobNotEnded(JaasError, ValueError):
    """A job that has not ended: it has no result yet, and cannot be forgotten."""


class JobNotWaiting(JaasError, ValueError):
    """A job that cannot be held or released: it has been started, or has ended. Or a batch that has ended."""


class WaitTimeout(JaasError, TimeoutError):
    """The time-out of ``wait`` has passed; the job itself goes on."""


class JobFailed(JaasError):
    """A job failed.

    The single positional argument is the text, so that Celery can rebuild the exception from JSON.

    Args:
        message: what happened, with exit code and cause.
        result: the ``JobResult``, where it is known (not when Celery rebuilt the exception).
    """

    def __init__(self, message: str = "the job failed", *_: Any, result: EndedJob | None = None) -> None:
        super().__init__(message)
        self.result = result

    @property
    def exit_code(self) -> int | None:
        """The container's exit code; None if no container exited."""
        return self.result.exit_code if self.result else None


class JobCancelled(JobFailed):
    """The job was cancelled before it ended by itself, or skipped because of a job or batch before it."""


class BatchFailed(JaasError):
    """Fewer jobs of a batch succeeded than its quorum asks for.

    Args:
        message: how many, and why the others failed.
        record: the batch as it ended.
    """

    def __init__(self, message: str, record: EndedBatch) -> None:
        super().__init__(message)
        self.record = record


class FunctionFailed(JaasError):
    """A function in a container raised an exception that is known here by its text alone, or could not be called.

    Args:
        message: what it raised, or why it could not be called.
        result: of its job, where there is one.
    """

    def __init__(self, message: str, *, result: EndedJob | None = None) -> None:
        super().__init__(message)
        self.result = result


class TemporaryError(JaasError):
    """Trying again may help."""


class LedgerUnavailable(TemporaryError):
    """Redis did not answer or refused the write."""


class StoreUnavailable(TemporaryError):
    """The store of large values did not answer or refused."""


class EngineUnavailable(TemporaryError):
    """The engine did not answer in time, or answered that it is unavailable.

    The result of the request is *unknown*: it may have been carried out.

    Args:
        message: the request and the answer.
        status: HTTP status of the answer; None without an answer.
    """

    def __init__(self, message: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AnswerTooLong(EngineUnavailable):
    """The engine's answer is too long to be read whole; a part of it may not be."""


class PermanentError(JaasError):
    """Trying the same again is pointless."""


class UnreadableRecord(PermanentError):
    """The record of a job or batch is unreadable: it is damaged, or another program wrote it. Other jobs are not
    affected."""


class EngineRefused(PermanentError):
    """The engine understood the request and refused it."""


class EngineNotFound(EngineRefused):
    """The engine does not know the object named."""


class ImageRefused(EngineRefused):
    """The image cannot be had as the job asks for it: its login is not there, or belongs to another host."""


class NotAManager(PermanentError):
    """The engine is no swarm manager, so no service can be created there."""


def how_to_install(extra: str) -> str:
    """Return how an extra's packages are installed, for the texts of errors.

    Args:
        extra: its name in pyproject.toml.
    """
    return f"run `pip install '.[{extra}]'` in a checkout of jaas, or use its image"

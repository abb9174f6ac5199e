"""jaas for producers: describe a job, submit it, wait for its result. Needs Redis, never Docker."""

from jaas_submit.client import AsyncClient, AsyncJobHandle, Client, JobHandle, job
from jaas_submit.errors import (
    JaasError,
    JobCancelled,
    JobFailed,
    LedgerUnavailable,
    SpecError,
    UnknownJob,
    WaitTimeout,
)
from jaas_submit.records import Attempt, JobRecord, JobResult, LogLine, Logs, LogStatus
from jaas_submit.spec import JobSpec, Mount, Resources, SecretMount
from jaas_submit.states import Cause, JobState

__all__ = [
    "AsyncClient",
    "AsyncJobHandle",
    "Attempt",
    "Cause",
    "Client",
    "JaasError",
    "JobCancelled",
    "JobFailed",
    "JobHandle",
    "JobRecord",
    "JobResult",
    "JobSpec",
    "JobState",
    "LedgerUnavailable",
    "LogLine",
    "LogStatus",
    "Logs",
    "Mount",
    "Resources",
    "SecretMount",
    "SpecError",
    "UnknownJob",
    "WaitTimeout",
    "job",
]

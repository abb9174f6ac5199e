"""jaas for producers: describe a job, submit it, wait for its result. Needs Redis, never Docker."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaas_submit.batch_model.new_job import NewJob
    from jaas_submit.client.async_batch import AsyncBatch, AsyncMapReduce
    from jaas_submit.client.async_client import AsyncClient
    from jaas_submit.client.async_job_handle import AsyncJobHandle
    from jaas_submit.client.batch import Batch
    from jaas_submit.client.client import Client
    from jaas_submit.client.job_handle import JobHandle
    from jaas_submit.client.live_output.findings import AttemptBegins, AttemptEnds, Missing, NotLive
    from jaas_submit.client.map_reduce import MapReduce
    from jaas_submit.client.queues.async_queues import AsyncQueues
    from jaas_submit.client.queues.queues import Queue, Queues
    from jaas_submit.errors import (
        BatchFailed,
        FunctionFailed,
        JaasError,
        JobCancelled,
        JobFailed,
        JobNotEnded,
        LedgerUnavailable,
        QueueClosed,
        QueueInUse,
        SpecError,
        StoreUnavailable,
        UnknownJob,
        UnknownQueue,
        WaitTimeout,
    )
    from jaas_submit.executor.executor import Executor
    from jaas_submit.executor.futures import JobFuture
    from jaas_submit.explain.explanation import Explanation
    from jaas_submit.explain.workers import WorkerLoad
    from jaas_submit.ledger import Change
    from jaas_submit.messaging.app import job
    from jaas_submit.model.causes import Cause
    from jaas_submit.model.fields import Gather, Resources
    from jaas_submit.model.files.inputs import FileIn
    from jaas_submit.model.files.listing import OutputFile, OutputFiles
    from jaas_submit.model.job_spec import JobSpec
    from jaas_submit.model.logs import LogGap, LogLine, Logs, LogStatus
    from jaas_submit.model.records import Attempt, AuditEntry, BatchRecord, JobRecord
    from jaas_submit.model.result import CapturedGap, CapturedOutput, JobResult
    from jaas_submit.model.retry_policy import Backoff, RetryPolicy, RetryRule
    from jaas_submit.model.service_options.healthcheck import Healthcheck
    from jaas_submit.model.service_options.mounts import Mount
    from jaas_submit.model.service_options.networks import NetworkAttachment
    from jaas_submit.model.service_options.references import ConfigMount, SecretMount
    from jaas_submit.model.service_options.values import Ulimit
    from jaas_submit.model.speculation import Speculation
    from jaas_submit.model.states import JobState
    from jaas_submit.model.usage.used import Usage, UsagePoint, Used
    from jaas_submit.output.pieces import Piece
    from jaas_submit.placement.placement import NodeFit
    from jaas_submit.usage.report import Quantiles, UsageGroup, UsageReport

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncMapReduce",
    "AsyncQueues",
    "Attempt",
    "AttemptBegins",
    "AttemptEnds",
    "AuditEntry",
    "Backoff",
    "Batch",
    "BatchFailed",
    "BatchRecord",
    "CapturedGap",
    "CapturedOutput",
    "Cause",
    "Change",
    "Client",
    "ConfigMount",
    "Executor",
    "Explanation",
    "FileIn",
    "FunctionFailed",
    "Gather",
    "Healthcheck",
    "JaasError",
    "JobCancelled",
    "JobFailed",
    "JobFuture",
    "JobHandle",
    "JobNotEnded",
    "JobRecord",
    "JobResult",
    "JobSpec",
    "JobState",
    "LedgerUnavailable",
    "LogGap",
    "LogLine",
    "LogStatus",
    "Logs",
    "MapReduce",
    "Missing",
    "Mount",
    "NetworkAttachment",
    "NewJob",
    "NodeFit",
    "NotLive",
    "OutputFile",
    "OutputFiles",
    "Piece",
    "Quantiles",
    "Queue",
    "QueueClosed",
    "QueueInUse",
    "Queues",
    "Resources",
    "RetryPolicy",
    "RetryRule",
    "SecretMount",
    "SpecError",
    "Speculation",
    "StoreUnavailable",
    "Ulimit",
    "UnknownJob",
    "UnknownQueue",
    "Usage",
    "UsageGroup",
    "UsagePoint",
    "UsageReport",
    "Used",
    "WaitTimeout",
    "WorkerLoad",
    "job",
]

_MODULES = (
    *(
        "model.states",
        "model.causes",
        "errors",
        "model.retry_policy",
        "model.fields",
        "model.files.inputs",
        "model.service_options.values",
        "model.service_options.mounts",
        "model.service_options.networks",
        "model.service_options.references",
        "model.service_options.healthcheck",
        "model.usage.used",
        "model.job_spec",
        "model.speculation",
        "placement.placement",
        "usage.report",
        "explain.workers",
        "explain.explanation",
        "model.logs",
        "model.files.listing",
        "model.records",
        "model.result",
    ),
    *(
        "batch_model.new_job",
        "ledger",
        "output.pieces",
        "client.live_output.findings",
        "client.job_handle",
        "client.batch",
        "client.map_reduce",
        "client.queues.queues",
        "client.client",
    ),
    *(
        "client.async_job_handle",
        "client.async_batch",
        "client.queues.async_queues",
        "client.async_client",
        "messaging.app",
    ),
    *("executor.futures", "executor.executor"),
)
"""The modules of the public names, fast imports first."""


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `jaas --help` and the TAB key must not wait for Celery (250 ms)."""
    if name in __all__:
        for module in _MODULES:
            home = import_module(f"{__name__}.{module}")
            if name in home.__all__:
                return globals().setdefault(name, getattr(home, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

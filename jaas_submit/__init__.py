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
    from jaas_submit.errors import (
        BatchFailed,
        FunctionFailed,
        JaasError,
        JobCancelled,
        JobFailed,
        JobNotEnded,
        LedgerUnavailable,
        SpecError,
        StoreUnavailable,
        UnknownJob,
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
    "Resources",
    "RetryPolicy",
    "RetryRule",
    "SecretMount",
    "SpecError",
    "Speculation",
    "StoreUnavailable",
    "Ulimit",
    "UnknownJob",
    "Usage",
    "UsageGroup",
    "UsagePoint",
    "UsageReport",
    "Used",
    "WaitTimeout",
    "WorkerLoad",
    "job",
]

_HOMES = {
    "batch_model.new_job": ["NewJob"],
    "client.async_batch": ["AsyncBatch", "AsyncMapReduce"],
    "client.async_client": ["AsyncClient"],
    "client.async_job_handle": ["AsyncJobHandle"],
    "client.batch": ["Batch"],
    "client.client": ["Client"],
    "client.job_handle": ["JobHandle"],
    "client.live_output.findings": ["AttemptBegins", "AttemptEnds", "Missing", "NotLive"],
    "client.map_reduce": ["MapReduce"],
    "errors": [
        "BatchFailed",
        "FunctionFailed",
        "JaasError",
        "JobCancelled",
        "JobFailed",
        "JobNotEnded",
        "LedgerUnavailable",
        "SpecError",
        "StoreUnavailable",
        "UnknownJob",
        "WaitTimeout",
    ],
    "executor.executor": ["Executor"],
    "executor.futures": ["JobFuture"],
    "explain.explanation": ["Explanation"],
    "explain.workers": ["WorkerLoad"],
    "ledger": ["Change"],
    "messaging.app": ["job"],
    "model.causes": ["Cause"],
    "model.fields": ["Gather", "Resources"],
    "model.files.inputs": ["FileIn"],
    "model.files.listing": ["OutputFile", "OutputFiles"],
    "model.job_spec": ["JobSpec"],
    "model.logs": ["LogGap", "LogLine", "LogStatus", "Logs"],
    "model.records": ["Attempt", "AuditEntry", "BatchRecord", "JobRecord"],
    "model.result": ["CapturedGap", "CapturedOutput", "JobResult"],
    "model.retry_policy": ["Backoff", "RetryPolicy", "RetryRule"],
    "model.service_options.healthcheck": ["Healthcheck"],
    "model.service_options.mounts": ["Mount"],
    "model.service_options.networks": ["NetworkAttachment"],
    "model.service_options.references": ["ConfigMount", "SecretMount"],
    "model.service_options.values": ["Ulimit"],
    "model.speculation": ["Speculation"],
    "model.states": ["JobState"],
    "model.usage.used": ["Usage", "UsagePoint", "Used"],
    "output.pieces": ["Piece"],
    "placement.placement": ["NodeFit"],
    "usage.report": ["Quantiles", "UsageGroup", "UsageReport"],
}
"""Each module with its public names."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name, and what it needs, when it is first used: nobody waits for more."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name))

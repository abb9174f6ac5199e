"""Names that producers, workers and operators share. Changing one is a change of the wire format."""

from __future__ import annotations

import re
import uuid
from typing import Final

__all__ = [
    "DEFAULT_PREFIX",
    "DEFAULT_QUEUE",
    "ENV_ATTEMPT",
    "ENV_FILES",
    "ENV_FILE_URLS",
    "ENV_INPUT",
    "ENV_JOB_ID",
    "ENV_NODE",
    "FOREIGN_QUEUE",
    "LABEL_ATTEMPT",
    "LABEL_BATCH",
    "LABEL_COPY_OF",
    "LABEL_FILE",
    "LABEL_FILES_OF",
    "LABEL_INDEX",
    "LABEL_JOB",
    "LABEL_LEDGER",
    "LABEL_NODE",
    "LABEL_PREFIX",
    "LABEL_SCRUB",
    "LABEL_SIGNED",
    "LABEL_SPEC",
    "LABEL_SPEC_HASH",
    "LABEL_WORKER",
    "PREFIX_PATTERN",
    "QUEUE_PATTERN",
    "TASK_RUN",
    "TRACEPARENT",
    "channel_prefix",
    "job_id_of",
    "service_name",
]

TASK_RUN: Final = "jaas.run"
"""The Celery task that runs one job."""

DEFAULT_QUEUE: Final = "jaas"
"""The Celery queue that workers consume."""

FOREIGN_QUEUE: Final = "celery"
"""Celery's own default queue, which workers consume, too, unless JAAS_TAKE_DEFAULT_QUEUE forbids it."""

DEFAULT_PREFIX: Final = "jaas"
"""First part of every Redis key; two installations on one Redis need two prefixes."""

QUEUE_PATTERN: Final = r"^[^,\s]{1,128}$"
PREFIX_PATTERN: Final = r"^[a-zA-Z0-9_.-]{1,32}$"
"""What the names of a queue and a prefix may be, for workers and producers alike."""

LABEL_JOB: Final = "jaas.job"
LABEL_ATTEMPT: Final = "jaas.attempt"
LABEL_SPEC_HASH: Final = "jaas.spec-hash"
LABEL_PREFIX: Final = "jaas.prefix"
LABEL_SPEC: Final = "jaas.spec"
LABEL_SIGNED: Final = "jaas.signed"
LABEL_LEDGER: Final = "jaas.ledger"
LABEL_BATCH: Final = "jaas.batch"
LABEL_INDEX: Final = "jaas.index"
LABEL_COPY_OF: Final = "jaas.copy-of"
LABEL_FILE: Final = "jaas.file"
LABEL_FILES_OF: Final = "jaas.files-of"
LABEL_SCRUB: Final = "jaas.scrub"
LABEL_WORKER: Final = "jaas.worker"
"""Labels of each service that jaas creates; LABEL_PREFIX holds the ledger's key prefix,
LABEL_SPEC the description without its environment, from which a lost record is rebuilt, LABEL_SIGNED the token of a
signed one, LABEL_LEDGER the ledger's id,
and LABEL_BATCH, LABEL_INDEX and LABEL_COPY_OF the job's place in its batch. LABEL_WORKER names the worker process that
created the service; workers filter lists by it. LABEL_FILE (the content's
digest) and LABEL_FILES_OF (the ledger's id) are those of configs with files of jobs: they have no LABEL_LEDGER, as
lists by it, which are read often, would have all contents. LABEL_SCRUB, of a container, names the variables whose
values are replaced in its output."""

LABEL_NODE: Final = "jaas.node"
"""Label in the description of a job that is for one node: its host name."""

TRACEPARENT: Final = "traceparent"
"""Field of a record, and Celery header of foreign producers: the trace that a job continues. Source: W3C Trace Context,
section 3.2."""

ENV_JOB_ID: Final = "JAAS_JOB_ID"
ENV_ATTEMPT: Final = "JAAS_ATTEMPT"
"""Environment variables that each container gets: the job's id and the attempt's number, counted from 1."""

ENV_INPUT: Final = "JAAS_INPUT"
"""Environment variable that names the file with a job's input, if any."""

ENV_FILES: Final = "JAAS_FILES"
ENV_FILE_URLS: Final = "JAAS_FILE_URLS"
"""Environment variables of a job with files: the folder that has them, and, as a JSON object, the names and URLs of
those that are in a store which is no file system."""

ENV_NODE: Final = "JAAS_NODE"
"""Environment variable with the host name of the node that a container runs on."""

# A service name has at most 63 characters: 5 for "jaas-", 6 for "-" and the attempt, which leaves 52.
_PLAIN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?\Z")
_NAMESPACE = uuid.UUID("6f9cf9b2-55a6-4e0e-9a5f-0d1f3c2b7a11")


def channel_prefix(prefix: str, database: int) -> str:
    """Return the first part of every channel: Redis' channels belong to the server, not to one of its databases.

    Args:
        prefix: of the keys.
        database: their number.
    """
    return f"{prefix}:{database}"


def job_id_of(task_id: str) -> str:
    """Return the job id that belongs to a Celery task id.

    They are equal if the task id can be part of a service name, as Celery's own UUIDs can.

    Args:
        task_id: Celery's task id; a foreign producer may have chosen any text.

    Returns:
        The task id itself, or a UUID derived from it (always the same one).
    """
    if _PLAIN_ID.match(task_id):
        return task_id
    # JSON can smuggle in an unpaired surrogate, of which no bytes can be made.
    return str(uuid.uuid5(_NAMESPACE, task_id.encode(errors="backslashreplace").decode()))


def service_name(job_id: str, attempt: int) -> str:
    """Return the name of the service that runs one attempt; the name is the lock (docs/architecture.md).

    Args:
        job_id: the job's id.
        attempt: counted from 1.
    """
    return f"jaas-{job_id}-{attempt}"

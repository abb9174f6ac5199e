"""PURE: ids derived from other ids, so that repeated submissions make the same job."""

from __future__ import annotations

import uuid
from typing import Final

__all__ = ["batch_id_of", "batch_job_id", "copy_id_of", "replaced_by", "retry_id_of"]

_BATCHES: Final = uuid.UUID("b3f1c1de-31d3-4bb8-9a3c-7c0d8a0a6a51")
_RETRIES: Final = uuid.UUID("0f6f5b1e-7a8c-4f55-9d2e-6c1b7f0f3f4a")
_MOST_RETRIES: Final = 1000
_COPIES: Final = uuid.UUID("5a0e9a6c-9a0f-4f0c-a4f6-4b2f1f5c1b1e")


def batch_id_of(key: str | None, prefix: str) -> str:
    """Return the id of a new batch: always the same one for the same key.

    Args:
        key: the idempotency key; None or empty makes a random id.
        prefix: the ledger's prefix, so that two ledgers share no ids.
    """
    return str(uuid.uuid5(_BATCHES, f"{prefix}:{key}")) if key else str(uuid.uuid4())


def batch_job_id(batch_id: str, index: int) -> str:
    """Return the id of a batch's job; it is derived from the index, so that submitting twice adds nothing.

    Args:
        batch_id: the batch's id, a UUID.
        index: of the job in its batch, counted from 0.
    """
    return str(uuid.uuid5(uuid.UUID(batch_id), str(index)))


def copy_id_of(job_id: str) -> str:
    """Return the id of a job's copy; it is derived from the job's id, so that a second copy is impossible.

    Args:
        job_id: the id of the slow job.
    """
    return str(uuid.uuid5(_COPIES, job_id))


def retry_id_of(job_id: str) -> str:
    """Return the id of the job that takes a job's place in its batch; a second one is impossible.

    Args:
        job_id: the id of the job that has ended.
    """
    return str(uuid.uuid5(_RETRIES, job_id))


def replaced_by(job_id: str, batch_id: str, index: int) -> str | None:
    """Return the id of the job whose place in a batch another one took; empty if it is the first one there.

    Args:
        job_id: the id of the other one.
        batch_id: the batch's id.
        index: of the place.

    Returns:
        None if the job cannot have that place.
    """
    before, one = "", batch_job_id(batch_id, index)
    for _ in range(_MOST_RETRIES):
        if one == job_id:
            return before
        before, one = one, retry_id_of(one)
    return None

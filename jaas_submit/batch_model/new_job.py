"""A job as its producer hands it over: what its record and its message are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jaas_submit.model.job_spec import JobSpec

__all__ = ["KEY_TTL", "NewJob"]

KEY_TTL: Final = 7 * 86400
"""Seconds for which an idempotency key is kept, by default."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be recorded."""

    job_id: str
    spec: JobSpec | None
    queue: str
    task_id: str = ""
    message: str = ""
    key: str = ""
    key_ttl: float = KEY_TTL
    replay_of: str = ""
    batch: str = ""
    index: int = 0
    input_key: str = ""
    """What its input is known by in the batch; empty in a batch without such keys."""
    input_digest: str = ""
    """Of the input, if its key does not tell its content."""
    replaces: str = ""
    """Id of the ended job of the batch whose place it takes."""
    after: tuple[tuple[str, str], ...] = ()
    """Ids of jobs (or ``batch:ID``) with the required outcome: success, failure or finish."""
    traceparent: str = ""
    wakeup: str = ""
    """The wake-up message for workers, as its queue in the ledger's own Redis holds it, which is written together with
    the record. Empty if it is published elsewhere."""

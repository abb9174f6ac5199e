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
    after: tuple[tuple[str, str], ...] = ()
    """Ids of jobs (or ``batch:ID``) with the required outcome: success, failure or finish."""
    not_before: float | None = None
    """Time before which it is not started, in seconds since the epoch."""
    delay: float | None = None
    """Seconds for which it is not started, in place of ``not_before``."""
    expires_at: float | None = None
    """Time at which a foreign producer's message expires, in seconds since the epoch."""
    celery_priority: int | None = None
    """Priority of a foreign producer's message, as Celery has it."""
    traceparent: str = ""
    wakeup: str = ""
    """The wake-up message for workers, as its queue in the ledger's own Redis holds it, which is written together with
    the record. Empty if it is published elsewhere."""

"""A job as its producer hands it over: what its record and its message are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import bounded
from jaas_submit.model.fields import parse_duration
from jaas_submit.model.job_spec import JobSpec

__all__ = ["KEY_TTL", "NewJob", "StartTime", "start_time"]

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
    by: str = ""
    """Who submits it: ``user@host``, as the client says of itself."""
    changed: str = ""
    """Names of the fields in which a replay differs."""
    signed: str = field(default="", repr=False)
    """The token that holds the description; empty for an unsigned one."""

    @property
    def stored_spec(self) -> str:
        """The description as its record holds it: the token, or JSON; empty where there is none."""
        return self.signed or (self.spec.to_json() if self.spec else "")


class StartTime(NamedTuple):
    """When a job may start: at once, at a time, or after a delay, which counts by Redis' clock."""

    not_before: float | None = None
    delay: float | None = None


_MOST_CHARACTERS: Final = 64
_MOST_AHEAD_S: Final = 10 * 366 * 86400.0


def start_time(value: datetime | float | str | None, spec: JobSpec, now: datetime | None = None) -> StartTime:
    """Return when a job may start.

    Args:
        value: a time with its time zone, which may have passed, or seconds from now; either also as a text
            (``2030-01-31T12:00:00Z``, ``10m``). None means at once.
        spec: the description, whose time limits count from now.
        now: the present time; None asks the clock.

    Raises:
        SpecError: it is no such value; it is more than ten years ahead, or a time limit of the job is over by then.
    """
    if value is None:
        return StartTime()
    if isinstance(value, str):
        value = _time_or_seconds(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise _wrong("has no time zone; write datetime.now(UTC) + ..., 2030-01-31T12:00:00Z, or seconds from now")
        wait = (value - (now or datetime.now(UTC))).total_seconds()
        start = StartTime(not_before=value.timestamp())
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong("must be a datetime with a time zone, or seconds from now")
    elif not 0 <= value < math.inf:
        raise _wrong("must not be negative or endless; give seconds from now, or a datetime with a time zone")
    else:
        wait = min(value, 2 * _MOST_AHEAD_S)
        start = StartTime(delay=wait)
    if wait > _MOST_AHEAD_S:
        raise _wrong("is more than ten years ahead; seconds from now are not milliseconds, nor a time since 1970")
    for name, limit in (("expires", spec.expires), ("deadline", spec.deadline)):
        if limit is not None and limit <= wait:
            raise _wrong(f"is after the end of {name} ({limit:g} s), which counts from now; make {name} longer")
    return start


def _wrong(what: str) -> SpecError:
    return SpecError(f"not_before: {what}", field="not_before")


def _time_or_seconds(text: str) -> datetime | float:
    try:
        bounded(text, _MOST_CHARACTERS)
        try:
            return parse_duration(text)
        except ValueError:
            return datetime.fromisoformat(text)
    except ValueError:
        raise _wrong("give a time such as 2030-01-31T12:00:00Z, or a duration such as 10m") from None

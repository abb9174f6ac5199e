"""How records are stored in Redis: hashes of text, with JSON for structured fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

from pydantic import ValidationError

from jaas_submit.connection.connection import as_text
from jaas_submit.errors import SpecError, UnreadableRecord
from jaas_submit.model.bounds import bounded, shown, whole
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt, AuditEntry, BatchRecord, JobRecord
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.states import JobState, read_as
from jaas_submit.model.wire_names import TRACEPARENT
from jaas_submit.signing import description_in, is_token

__all__ = ["cancelled", "dump_attempts", "parse_batch", "parse_record", "parse_row", "read_json", "reading"]


_MOST_OF_A_FIELD: Final = 32 * 1024 * 1024
"""Characters of a field that is read as JSON."""


@contextmanager
def reading() -> Iterator[None]:
    """Convert any error in a record's fields into an UnreadableRecord that names the field."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UnreadableRecord(shown(f"{where}: {first['msg']}")) from None
    except KeyError as error:
        raise UnreadableRecord(shown(f"it has no field {error}")) from None
    except (ValueError, TypeError, OverflowError, OSError, RecursionError, AttributeError) as error:
        raise UnreadableRecord(shown(str(error))) from None


def parse_record(job_id: str, row: Mapping[bytes, bytes]) -> JobRecord:
    """Return the record that a hash holds.

    Raises:
        UnreadableRecord: a field is missing or invalid.
    """
    with reading():
        return _record(job_id, {as_text(k): as_text(v) for k, v in row.items()})


def _record(job_id: str, fields: dict[str, str]) -> JobRecord:
    spec, submitted, unreadable, stored = None, None, "", fields.get("spec", "")
    signed = stored if is_token(stored) else ""
    if stored:
        try:
            # For readers. A worker that launches the job verifies the token first.
            spec = JobSpec.parse(description_in(signed) if signed else stored)
            if spec.like_service and fields.get("like"):
                spec, submitted = spec.with_service(read_json(fields, "like", "{}")), spec
        except SpecError as error:  # the job can still be listed
            unreadable = str(error)
    return JobRecord(
        id=job_id,
        state=read_as(JobState, fields["state"]),
        queue=fields.get("queue", ""),
        spec=spec,
        newer=bool(unreadable),
        unreadable=unreadable,
        submitted=submitted,
        signed=signed,
        task_id=fields.get("task_id", job_id),
        attempt=_number(fields, "attempt"),
        holder=fields.get("holder", ""),
        detail=fields.get("detail", ""),
        node=fields.get("node") or None,
        cancel=fields.get("cancel", ""),
        created_at=_time(fields, "created_at"),
        updated_at=_time(fields, "updated_at"),
        claimed_at=_time(fields, "claimed_at") if fields.get("claimed_at") else None,
        started_at=_time(fields, "started_at") if fields.get("started_at") else None,
        attempts=tuple(Attempt.model_validate(item) for item in read_json(fields, "attempts", "[]")),
        reported=fields.get("reported") == "1",
        late=fields.get("late") == "1",
        due_at=_time(fields, "due_at") if fields.get("due_at") else None,
        not_before=_time(fields, "not_before") if fields.get("not_before") else None,
        expires_at=_time(fields, "expires_at") if fields.get("expires_at") else None,
        celery_priority=_number(fields, "celery_priority") if fields.get("celery_priority") else None,
        image=fields.get("image", ""),
        platforms=tuple(fields.get("platforms", "").split()),
        note=fields.get("note", ""),
        key=fields.get("key", ""),
        traceparent=fields.get(TRACEPARENT, ""),
        after=read_json(fields, "after", "[]"),
        batch=fields.get("batch", ""),
        index=_number(fields, "index") if fields.get("index") else None,
        output=read_json(fields, "output", "null"),
        copy_of=fields.get("copy_of", ""),
        copied_by=fields.get("copied_by", ""),
        replay_of=fields.get("replay_of", ""),
        replayed_by=fields.get("replayed_by", ""),
        left=fields.get("left", ""),
        by=fields.get("by", ""),
        producer=fields.get("producer", ""),
        held=fields.get("held", ""),
        audit=_audit(fields),
    )


def parse_row(job_id: str, row: Sequence[bytes]) -> JobRecord:
    """Return the record that a hash holds, as a script returns one: names and values in turns.

    Raises:
        UnreadableRecord: a field is missing or invalid.
    """
    return parse_record(job_id, dict(zip(row[::2], row[1::2], strict=True)))


def parse_batch(batch_id: str, row: Mapping[Any, Any]) -> BatchRecord:
    """Return the batch that a hash holds.

    Raises:
        UnreadableRecord: a field is missing or invalid.
    """
    with reading():
        return _batch(batch_id, {as_text(k): as_text(v) for k, v in row.items()})


def _batch(batch_id: str, fields: dict[str, str]) -> BatchRecord:
    numbers = {name[2:]: _number(fields, name) for name in fields if name.startswith("n:")}
    return BatchRecord(
        id=batch_id,
        name=fields.get("name", ""),
        created_at=_time(fields, "created_at"),
        ended_at=_time(fields, "ended_at") if fields.get("ended_at") else None,
        state=read_as(JobState, fields["state"]) if fields.get("state") else None,
        reason=fields.get("reason", ""),
        total=_number(fields, "total") if "total" in fields else None,
        size=_number(fields, "size"),
        counts={read_as(JobState, name): number for name, number in numbers.items() if number},
        span=max(_number(fields, "size"), _number(fields, "span")),
        active=_number(fields, "active"),
        copies=_number(fields, "copies"),
        speculate=Speculation.model_validate_json(fields["speculate"]) if fields.get("speculate") else None,
        max_parallel=int(_real(fields, "max_parallel", "0")),
        min_success=_real(fields, "min_success") if fields.get("min_success") else None,
        max_failures=fields.get("max_failures", ""),
        stopped=fields.get("stopped") == "1",
        left=_number(fields, "left"),
        generation=_number(fields, "generation"),
        fan_in=_number(fields, "fan_in"),
        cancelled=fields.get("cancelled", ""),
        reduced_by=fields.get("reduced_by", ""),
        reduces=fields.get("reduces", ""),
        by=fields.get("by", ""),
        held=fields.get("held", ""),
        audit=_audit(fields),
    )


def _audit(fields: Mapping[str, str]) -> tuple[AuditEntry, ...]:
    return tuple(AuditEntry.model_validate(item) for item in read_json(fields, "audit", "[]"))


def dump_attempts(attempts: Sequence[Attempt]) -> str:
    """Return attempts as a record holds them."""
    return json.dumps([attempt.model_dump(mode="json", exclude_defaults=True) for attempt in attempts])


def cancelled(why: str) -> str:
    """Return, in a record's form, the last attempt of a job that is cancelled without a holder."""
    attempt = Attempt(
        number=0, state=JobState.CANCELLED, cause=Cause.CANCELLED, reason=why, finished_at=datetime.now(UTC)
    )
    return dump_attempts([attempt])[1:-1]


def read_json(fields: Mapping[str, str], name: str, default: str) -> Any:
    """Return a field's JSON value.

    Raises:
        ValueError: it is invalid.
    """
    text = fields.get(name) or default
    try:
        found = json.loads(bounded(text, _MOST_OF_A_FIELD))
        if "\\u" in text:  # half a surrogate pair can be neither written nor asked for
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: is not JSON: {error}") from None
    return found


def _number(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name) or "0"
    try:
        return -whole(text[1:]) if text.startswith("-") else whole(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _real(fields: Mapping[str, str], name: str, default: str = "") -> float:
    text = fields.get(name, default) if default else fields[name]
    try:
        number = float(bounded(text, 64))
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise ValueError(f"{name}: {shown(text)} is no number")
    return number


def _time(fields: Mapping[str, str], name: str) -> datetime:
    try:
        return datetime.fromtimestamp(_real(fields, name), UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"{name}: {shown(fields[name])} is no time") from None

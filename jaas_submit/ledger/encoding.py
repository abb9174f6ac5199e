"""How records are written in Redis: hashes of text, with JSON for what has parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jaas_submit.connection.connection import as_text
from jaas_submit.errors import SpecError
from jaas_submit.records import Attempt, BatchRecord, JobRecord
from jaas_submit.spec import JobSpec
from jaas_submit.speculation import Speculation
from jaas_submit.states import Cause, JobState, read_as
from jaas_submit.tracing import TRACEPARENT

__all__ = ["cancelled", "dump_attempts", "parse_batch", "parse_record", "parse_row"]


def parse_record(job_id: str, row: dict[bytes, bytes]) -> JobRecord:
    """Return the record that a hash holds."""
    fields = {as_text(k): as_text(v) for k, v in row.items()}
    spec, unreadable = None, ""
    if fields.get("spec"):
        try:
            spec = JobSpec.parse(fields["spec"])
        except SpecError as error:  # the job can be listed all the same
            unreadable = str(error)
    return JobRecord(
        id=job_id,
        state=read_as(JobState, fields["state"]),
        queue=fields.get("queue", ""),
        spec=spec,
        newer=bool(unreadable),
        unreadable=unreadable,
        task_id=fields.get("task_id", job_id),
        attempt=int(fields.get("attempt", 0)),
        holder=fields.get("holder", ""),
        detail=fields.get("detail", ""),
        node=fields.get("node") or None,
        cancel=fields.get("cancel", ""),
        created_at=_time(fields["created_at"]),
        updated_at=_time(fields["updated_at"]),
        started_at=_time(fields["started_at"]) if fields.get("started_at") else None,
        attempts=tuple(Attempt.model_validate(item) for item in json.loads(fields.get("attempts") or "[]")),
        reported=fields.get("reported") == "1",
        late=fields.get("late") == "1",
        due_at=_time(fields["due_at"]) if fields.get("due_at") else None,
        image=fields.get("image", ""),
        note=fields.get("note", ""),
        key=fields.get("key", ""),
        traceparent=fields.get(TRACEPARENT, ""),
        after=json.loads(fields.get("after") or "[]"),
        batch=fields.get("batch", ""),
        index=int(fields["index"]) if fields.get("index") else None,
        output=json.loads(fields["output"]) if fields.get("output") else None,
        copy_of=fields.get("copy_of", ""),
        copied_by=fields.get("copied_by", ""),
        replay_of=fields.get("replay_of", ""),
        replayed_by=fields.get("replayed_by", ""),
    )


def parse_row(job_id: str, row: Sequence[bytes]) -> JobRecord:
    """Return the record that a hash holds, as a script returns one: names and values in turns."""
    return parse_record(job_id, dict(zip(row[::2], row[1::2], strict=True)))


def parse_batch(batch_id: str, row: Mapping[Any, Any]) -> BatchRecord:
    """Return the batch that a hash holds."""
    fields = {as_text(k): as_text(v) for k, v in row.items()}
    numbers = {name[2:]: int(value) for name, value in fields.items() if name.startswith("n:")}
    return BatchRecord(
        id=batch_id,
        name=fields.get("name", ""),
        created_at=_time(fields["created_at"]),
        ended_at=_time(fields["ended_at"]) if fields.get("ended_at") else None,
        state=read_as(JobState, fields["state"]) if fields.get("state") else None,
        reason=fields.get("reason", ""),
        total=int(fields["total"]) if "total" in fields else None,
        size=int(fields.get("size", 0)),
        counts={read_as(JobState, name): number for name, number in numbers.items() if number},
        span=max(int(fields.get("size", 0)), int(fields.get("span", 0))),
        active=int(fields.get("active", 0)),
        copies=int(fields.get("copies", 0)),
        speculate=Speculation.model_validate_json(fields["speculate"]) if fields.get("speculate") else None,
        max_parallel=int(float(fields.get("max_parallel", 0))),
        min_success=float(fields.get("min_success", 1)),
        cancelled=fields.get("cancelled", ""),
        reduced_by=fields.get("reduced_by", ""),
        reduces=fields.get("reduces", ""),
    )


def dump_attempts(attempts: Sequence[Attempt]) -> str:
    """Return attempts as a record holds them."""
    return json.dumps([attempt.model_dump(mode="json", exclude_defaults=True) for attempt in attempts])


def cancelled(why: str) -> str:
    """Return, as a record holds it, the last attempt of a job that is cancelled while nobody holds it."""
    attempt = Attempt(
        number=0, state=JobState.CANCELLED, cause=Cause.CANCELLED, reason=why, finished_at=datetime.now(UTC)
    )
    return dump_attempts([attempt])[1:-1]


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(float(text), UTC)

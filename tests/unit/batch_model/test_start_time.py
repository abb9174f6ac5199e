"""When a job may start: what is taken, and what one clear sentence refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from jaas_submit.batch_model.new_job import StartTime, start_time
from jaas_submit.errors import SpecError
from jaas_submit.model.job_spec import JobSpec

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
SPEC = JobSpec(image="a")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, StartTime()),
        (0, StartTime(delay=0)),
        (90, StartTime(delay=90)),
        (0.5, StartTime(delay=0.5)),
        ("90", StartTime(delay=90)),
        ("1h30m", StartTime(delay=5400)),
        (LATER, StartTime(not_before=LATER.timestamp())),
        (LATER.astimezone(timezone(timedelta(hours=-7))), StartTime(not_before=LATER.timestamp())),
        ("2026-11-23T13:00:00Z", StartTime(not_before=LATER.timestamp())),
        ("2026-11-23T14:00:00+01:00", StartTime(not_before=LATER.timestamp())),
        # A job that is submitted late, or again with its key, starts at once.
        (NOW - timedelta(days=3), StartTime(not_before=(NOW - timedelta(days=3)).timestamp())),
        ("0001-01-01T00:00:00+14:00", StartTime(not_before=datetime(1, 1, 1, tzinfo=UTC).timestamp() - 14 * 3600)),
    ],
)
def test_what_is_taken(value: Any, expected: StartTime) -> None:
    assert start_time(value, SPEC, NOW) == expected


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (NOW.replace(tzinfo=None), "has no time zone"),
        ("2026-11-23T13:00:00", "has no time zone"),
        ("2026-11-23", "has no time zone"),
        (-1, "negative"),
        (float("nan"), "endless"),
        (float("inf"), "endless"),
        (True, "must be a datetime"),
        ([], "must be a datetime"),
        (1_796_000_000, "more than ten years ahead"),
        (10**400, "more than ten years ahead"),
        ("9999-12-31T23:59:59Z", "more than ten years ahead"),
        ("-5m", "give a time such as"),
        ("nan", "give a time such as"),
        ("tomorrow", "give a time such as"),
        ("", "give a time such as"),
        ("1" * 100_000, "give a time such as"),
        ("2026-02-31T00:00:00Z", "give a time such as"),
    ],
)
def test_what_is_refused(value: Any, why: str) -> None:
    with pytest.raises(SpecError, match=why) as refused:
        start_time(value, SPEC, NOW)
    text = str(refused.value)
    assert (text.startswith("not_before: "), refused.value.field, len(text) < 200) == (True, "not_before", True)


@pytest.mark.parametrize("limit", ["expires", "deadline"])
def test_a_time_after_the_end_of_a_limit_is_refused(limit: str) -> None:
    spec = JobSpec.parse({"image": "a", limit: "30m"})
    assert start_time("29m", spec, NOW) == StartTime(delay=1740)
    for value in ("30m", LATER):
        with pytest.raises(SpecError, match=rf"after the end of {limit} \(1800 s\)"):
            start_time(value, spec, NOW)

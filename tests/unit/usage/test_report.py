"""What groups of jobs used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jaas_submit import Attempt, Cause, JobRecord, JobSpec, JobState, SpecError, UsageReport, Used
from jaas_submit.usage.report import MOST_GROUPS, NONE, OTHERS, report

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MIB = 2**20


def used(cpu: float, memory: int = MIB) -> Used:
    return Used(cpu_seconds=cpu, peak_memory=memory, read_bytes=1, written_bytes=2, received_bytes=None, sent_bytes=4)


def attempt(usage: Used | None, seconds: float = 10, **fields: Any) -> Attempt:
    base: dict[str, Any] = {"state": JobState.SUCCEEDED, "cause": Cause.EXIT, "number": 1, "container_id": "c"}
    times = {"started_at": NOON, "finished_at": NOON + timedelta(seconds=seconds)}
    return Attempt(**{**base, **times, "usage": usage, **fields})


def job(*attempts: Attempt, queue: str = "q", batch: str = "", **spec: Any) -> JobRecord:
    return JobRecord(
        id="j",
        state=JobState.SUCCEEDED,
        queue=queue,
        batch=batch,
        created_at=NOON,
        updated_at=NOON,
        attempts=attempts,
        spec=JobSpec(**{"image": "alpine", **spec}),
    )


def made(*jobs: JobRecord, by: str = "image") -> UsageReport:
    return report(jobs, by, NOON)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("image", ["alpine", "busybox"]),
        ("queue", ["q1", "q2"]),
        ("batch", [NONE, "b1"]),
        ("label=team", [NONE, "blue"]),
    ],
)
def test_jobs_are_grouped(by: str, names: list[str]) -> None:
    first = job(attempt(used(2)), image="alpine", queue="q1")
    second = job(attempt(used(1)), image="busybox", queue="q2", batch="b1", labels={"team": "blue"})
    assert [group.name for group in made(first, second, by=by).groups] == names


@pytest.mark.parametrize("by", ["", "node", "label", "label=", "image=x"])
def test_no_other_grouping_is_taken(by: str) -> None:
    with pytest.raises(SpecError, match=r"^by: must be image, queue, batch or label=NAME"):
        made(by=by)


def test_sums_are_of_all_attempts_that_were_measured() -> None:
    found = made(
        job(attempt(used(1), number=1), attempt(used(3, 3 * MIB), number=2)),
        job(attempt(None)),
        job(attempt(None, container_id=None)),  # cancelled before it started
    )
    (group,) = found.groups
    assert found.jobs == 3
    assert (group.attempts, group.measured, group.cpu_seconds) == (3, 2, 4)
    assert (group.read_bytes, group.written_bytes, group.received_bytes, group.sent_bytes) == (2, 4, 0, 8)
    assert group.memory.max == 3 * MIB
    assert group.cpu.p50 == pytest.approx(1, rel=0.021)
    assert group.cores.p95 == pytest.approx(0.3, rel=0.021)


def test_nothing_measured_is_null() -> None:
    (group,) = made(job(attempt(None))).groups
    assert (group.memory.p50, group.cpu.p95, group.cores.max) == (None, None, None)


def test_the_number_of_groups_is_bounded() -> None:
    found = made(*(job(attempt(used(1)), queue=f"q{number}") for number in range(MOST_GROUPS + 5)), by="queue")
    assert len(found.groups) == MOST_GROUPS + 1
    (others,) = (group for group in found.groups if group.name == OTHERS)
    assert others.attempts == 5


@pytest.mark.parametrize(
    ("count", "reserved", "use", "advice"),
    [
        (
            5,
            {"memory": "4G"},
            used(0, 300 * MIB),
            ["reserves 4.0 GiB of memory and uses 300.0 MiB at most: 375.0 MiB would do"],
        ),
        (4, {"memory": "4G"}, used(0, 300 * MIB), []),  # too few
        (5, {"memory": "500M"}, used(0, 300 * MIB), []),
        (5, {"memory": "50M"}, used(0, 10 * MIB), []),  # not worth it
        (
            5,
            {"memory": "100M"},
            used(0, 400 * MIB),
            ["reserves 100.0 MiB of memory and uses up to 400.0 MiB: reserve 500.0 MiB"],
        ),
        (5, {}, used(0, 400 * MIB), []),
        (5, {"cpus": 2}, used(5), ["reserves 2 cores and uses 0.50 on average"]),
        (5, {"cpus": 0.5}, used(30), ["reserves 0.5 cores and uses 3.00 on average: reserve more"]),
        (5, {"cpus": 1}, used(8), []),
    ],
)
def test_advice(count: int, reserved: dict[str, Any], use: Used, advice: list[str]) -> None:
    (group,) = made(*(job(attempt(use), reservations=reserved) for _ in range(count))).groups
    assert list(group.advice) == advice

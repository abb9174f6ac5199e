"""`jaas usage`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from jaas_submit import Attempt, Client, JobSpec, UsagePoint, Used
from tests.support.stage import Stage, ended

MIB = 2**20
START = datetime(2026, 11, 30, 12, tzinfo=UTC)
SERIES = (UsagePoint(0, 0, MIB), UsagePoint(5, 5, 2 * MIB), UsagePoint(10, 6, 3 * MIB))
USED = Used(cpu_seconds=6.0, peak_memory=3 * MIB, read_bytes=1, written_bytes=0, sample_age=0.25, series=SERIES)


def measured(usage: Used | None = USED) -> Attempt:
    times = {"started_at": START, "finished_at": START + timedelta(seconds=10), "container_id": "c"}
    return ended().model_copy(update={**times, "usage": usage})


def test_a_job_shows_what_it_used_beside_what_it_reserved(stage: Stage) -> None:
    job_id = stage.add(JobSpec(image="alpine", reservations={"cpus": 2, "memory": "1G"}), end=measured())
    shown = stage.jaas("usage", job_id).stdout
    assert "6.00 s (0.60 cores)" in shown
    assert "1.0 GiB" in shown
    assert "3.0 MiB" in shown
    assert "0.250 s before the end" in shown
    table = [line.split() for line in shown.partition("\n\n")[2].splitlines()]
    assert ["5.0", "5.00", "1.00", "2.0", "MiB"] in table
    assert ["10.0", "6.00", "0.20", "3.0", "MiB"] in table


def test_a_job_that_was_not_measured_says_so(stage: Stage) -> None:
    job_id = stage.add(end=measured(None))
    assert "not measured" in stage.jaas("usage", job_id).stdout
    assert json.loads(stage.jaas("usage", job_id, "-o", "json").stdout)["usage"] is None


def test_the_json_of_a_job_has_its_times(stage: Stage) -> None:
    told = json.loads(stage.jaas("usage", stage.add(end=measured()), "-o", "json").stdout)
    assert told["duration"] == 10
    assert told["usage"]["cpu_seconds"] == 6
    assert told["usage"]["received_bytes"] is None
    assert told["usage"]["series"][1] == [5, 5, 2 * MIB]


def test_groups_of_jobs(stage: Stage) -> None:
    for _ in range(5):
        stage.add(JobSpec(image="alpine", reservations={"memory": "1G"}), end=measured())
    stage.add(JobSpec(image="busybox"), end=measured(None))
    stage.add(JobSpec(image="busybox"))  # has not ended
    result = stage.jaas("usage", "--by", "image")
    assert "alpine: reserves 1.0 GiB of memory and uses 3.0 MiB at most" in result.stdout
    assert result.stderr.startswith("6 jobs that ended since ")
    told = json.loads(stage.jaas("usage", "--by", "image", "-o", "json").stdout)
    assert [(group["name"], group["measured"], group["attempts"]) for group in told["groups"]] == [
        ("alpine", 5, 5),
        ("busybox", 0, 1),
    ]


def test_jobs_that_ended_before_do_not_count(stage: Stage, redis_url: str) -> None:
    stage.add(end=measured())
    with Client(redis_url, prefix=stage.ledger.prefix) as client:
        assert client.usage("queue").jobs == 1
        assert client.usage("queue", 0).jobs == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give a job's ID, or --by"),
        (("abcd", "--by", "image"), "give a job's ID, or --by"),
        (("abcd", "--since", "1h"), "--since: needs --by"),
        (("--by", "node"), "by: must be image, queue, batch or label=NAME, not 'node'"),
        (("--by", "image", "--since", "soon"), "since: "),
    ],
)
def test_bad_options_are_refused(stage: Stage, words: tuple[str, ...], said: str) -> None:
    result = stage.jaas("usage", *words)
    assert result.exit_code in {2, 125}
    assert said in result.stderr

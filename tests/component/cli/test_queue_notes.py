"""A queue whose jobs nobody takes is named at once. Redis is real, the worker is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaas_submit import Client, JobSpec, WaitTimeout
from jaas_submit.cli import follow_job
from jaas_submit.ledger import Ledger
from jaas_submit.ledger.health import Health
from tests.support.stage import Stage


def test_run_says_at_once_that_no_worker_is_alive(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_job, "HINTS_AFTER_S", (0.0, 0.05))
    monkeypatch.setattr(Health, "other_prefixes", lambda _: {})
    result = stage.jaas("run", "-t", "200ms", "alpine")
    assert result.stderr.count("no worker is alive") == 1


def serve(stage: Stage, queue: str, **info: object) -> None:
    """Have a worker say that it takes this queue."""
    stage.ledger.maintenance.renew_lease("w", 60, {"queue": queue, **info})


@pytest.mark.parametrize("command", ["run", "submit", "wait", "map", "list"])
def test_a_queue_that_nobody_serves_is_named_at_once(stage: Stage, tmp_path: Path, command: str) -> None:
    serve(stage, "other")
    stage.ledger.submission.create("there", JobSpec(image="alpine"), "nope")
    inputs = tmp_path / "inputs"
    inputs.write_text("a\n")
    words = {
        "run": ["run", "-t", "50ms", "alpine"],
        "submit": ["submit", "alpine"],
        "wait": ["wait", "-t", "50ms", "there"],
        "map": ["map", "--detach", "--inputs", str(inputs), "alpine", "{item}"],
        "list": ["list"],
    }[command]
    result = stage.jaas("--queue", "nope", *words)
    said = "jaas: queued, but no worker takes queue 'nope'; 1 worker is alive, for 'other': name that queue"
    assert result.stderr.count(said) == 1, result.stderr
    assert "queued, but" not in stage.jaas("--queue", "nope", words[0], "-q", *words[1:]).stderr


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"max_in_flight": 2, "in_flight": 2}, "no worker has room: 1 worker is alive, holding 2 jobs"),
        ({"engine_unavailable": "it has no leader.", "node": "n1"}, "no worker takes new jobs: n1: it has no leader\n"),
        ({"max_in_flight": 2, "in_flight": 1}, ""),
        ({}, ""),
    ],
)
def test_workers_without_room_are_named_at_once(stage: Stage, info: dict[str, object], said: str) -> None:
    serve(stage, stage.ledger.prefix, **info)
    stderr = stage.jaas("submit", "alpine").stderr
    assert said in stderr
    assert ("queued, but" in stderr) == bool(said)


def test_a_worker_of_another_prefix_is_named(stage: Stage, redis_url: str) -> None:
    other = f"{stage.ledger.prefix}-2"
    Ledger(stage.ledger.client, other).maintenance.renew_lease("w", 60, {})
    assert stage.ledger.health.other_prefixes()[other] == 1
    stderr = stage.jaas("submit", "alpine").stderr
    assert f"no worker with prefix '{stage.ledger.prefix}' is alive; there are some with " in stderr
    assert "--prefix, JAAS_PREFIX" in stderr


def test_a_wait_that_times_out_names_the_missing_worker(stage: Stage, redis_url: str) -> None:
    serve(stage, "other")
    with Client(redis_url, prefix=stage.ledger.prefix, queue="nope") as client:
        handle = client.submit(JobSpec(image="alpine"))
        with pytest.raises(
            WaitTimeout, match=r"is QUEUED after 0\.1 s; it goes on; no worker takes queue 'nope'; 1 worker"
        ):
            handle.wait(0.1)

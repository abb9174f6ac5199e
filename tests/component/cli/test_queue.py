"""`jaas queue`, and what the other commands say of a paused queue."""

from __future__ import annotations

import json

import pytest

from jaas_submit.model.job_spec import JobSpec
from tests.support.stage import HOLDER, Stage


@pytest.fixture
def queue(stage: Stage) -> str:
    """The queue of the command line, with a live worker."""
    name = stage.ledger.prefix
    stage.ledger.maintenance.renew_lease(HOLDER, 60, {"holder": HOLDER, "queue": name, "max_in_flight": 5})
    stage.ledger.queues.ensure(name)
    return name


def test_a_queue_is_made_changed_shown_and_deleted(stage: Stage) -> None:
    made = stage.jaas("queue", "create", "crawl", "--priority", "9", "--owner", "web", "--wait-limit", "capacity=4h")
    assert made.stdout == "crawl: open\n"
    assert made.stderr == "jaas: workers do not follow priority, wait_limits yet (docs/queues.md)\n"
    assert stage.jaas("queue", "set", "-q", "crawl", "--priority", "none", "--max-in-flight", "3").stdout == ""
    shown = json.loads(stage.jaas("queue", "describe", "--json", "crawl").stdout)
    assert shown["rules"] == {
        **{"priority": 0, "weight": 1.0, "max_in_flight": 3, "age_after": 3600.0},
        "wait_limits": {"capacity": 14400.0},
    }
    assert [entry["what"] for entry in shown["audit"]] == ["create", "set"]
    assert "capacity=" in stage.jaas("queue", "describe", "crawl").stdout
    assert stage.jaas("queue", "list", "-q").stdout == "crawl\n"
    assert "crawl" in stage.jaas("queue", "list").stdout
    for verb, state in (("pause", "paused"), ("resume", "open"), ("drain", "draining")):
        assert stage.jaas("queue", verb, "crawl", "--why", "a test").stdout == f"crawl: {state}\n"
    assert stage.jaas("queue", "delete", "crawl").stdout == "crawl: deleted\n"
    assert stage.jaas("queue", "list", "--json").stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["set", "q"], 2, "nothing is to be changed"),
        (["create", "a b"], 2, "is no name of a queue"),
        (["create", "c", "--priority", "high"], 2, "--priority: high is not a whole number"),
        (["create", "c", "--priority", "256"], 2, "priority: must be a whole number between 0 and 255"),
        (["create", "c", "--age-after", "soon"], 2, "--age-after: soon is not a time such as 30s or 4h"),
        (["create", "c", "--wait-limit", "capacity"], 2, "--wait-limit: write CODE=TIME"),
        (["create", "c", "--wait-limit", "boredom=4h"], 2, "wait_limits: knows these reasons: capacity"),
        (["pause", "nope"], 125, "there is no queue nope; `jaas queue create nope` makes it"),
        (["delete", "q"], 125, "takes new jobs; `jaas queue drain q`"),
    ],
)
def test_a_mistake_is_one_sentence(stage: Stage, words: list[str], code: int, said: str) -> None:
    stage.ledger.queues.ensure("q")
    result = stage.jaas("queue", *words)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_every_command_that_waits_says_that_the_queue_is_paused(stage: Stage, queue: str) -> None:
    stage.ledger.submission.create("there", JobSpec(image="alpine"), queue)
    assert stage.jaas("queue", "pause", queue).exit_code == 0
    said = f"jaas: queued, but the queue {queue} is paused; `jaas queue resume {queue}` lets its jobs start\n"
    for words in (["list"], ["submit", "alpine"], ["run", "-t", "50ms", "alpine"]):
        assert stage.jaas(*words).stderr.count(said) == 1, words
    explained = json.loads(stage.jaas("explain", "--json", "there").stdout)
    assert explained["reason"] == "queue_paused"
    (sentence,) = (one for one in explained["sentences"] if one.startswith("It is not started: "))
    assert f"the queue {queue} is paused" in sentence
    assert "(done by " in sentence
    checks = {one["name"]: one for one in json.loads(stage.jaas("doctor", "--no-engine", "--json").stdout)["checks"]}
    assert checks["paused queues"]["verdict"] == "warn"
    assert f"{queue} (2 jobs waiting, by " in checks["paused queues"]["detail"]
    assert checks["paused queues"]["fix"] == f"`jaas queue resume {queue}` starts them"
    stage.jaas("queue", "resume", queue)
    assert "queued, but" not in stage.jaas("list").stderr


def test_a_draining_queue_refuses_a_submission_with_exit_code_2(stage: Stage, queue: str) -> None:
    stage.jaas("queue", "drain", queue)
    result = stage.jaas("submit", "alpine")
    assert result.exit_code == 2
    assert result.stderr == (
        f"jaas: queue: {queue} is draining and takes no new jobs; name another queue (--queue, JAAS_QUEUE), or "
        f"`jaas queue resume {queue}` opens it\n"
    )

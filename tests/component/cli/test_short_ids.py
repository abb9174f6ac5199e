"""Ids may be shortened wherever one is taken."""

from __future__ import annotations

import json

import pytest

from jaas_submit import JobSpec
from jaas_submit.ledger import Ledger, queries
from tests.support.stage import Stage, ended

FIRST, SECOND, OTHER = "aaaa1111-x", "aaaa2222-x", "bbbb3333-x"


@pytest.fixture
def ids(stage: Stage) -> Stage:
    """Three jobs, two of which begin with the same four letters."""
    for job_id in (FIRST, SECOND, OTHER):
        stage.ledger.submission.create(job_id, JobSpec(image="alpine"), stage.ledger.prefix)
    return stage


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("bbbb", OTHER),
        ("aaaa1", FIRST),
        (FIRST, FIRST),
        ("bbb", "bbb"),  # too short to be searched
        ("cccc", "cccc"),
        ("*aaaa", "*aaaa"),
        ("", ""),
    ],
)
def test_the_beginning_of_an_id_is_enough(ids: Stage, text: str, whole: str) -> None:
    assert ids.ledger.queries.full_id(text) == whole


def test_an_id_that_is_the_beginning_of_another_is_itself(ledger: Ledger) -> None:
    for job_id in ("aaaa", "aaaab"):
        ledger.submission.create(job_id, None, "q")
    assert ledger.queries.full_id("aaaa") == "aaaa"


def test_all_ids_are_searched(ids: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "IDS_PER_READ", 1)
    assert ids.ledger.queries.full_id("aaaa1") == FIRST


def test_an_ambiguous_one_is_refused_with_the_candidates(ids: Stage) -> None:
    result = ids.jaas("status", "aaaa", "bbbb")
    assert result.exit_code == 125
    assert result.stderr == f"jaas: aaaa is the beginning of 2 jobs' ids: {SECOND}, {FIRST}; write more of it\n"
    assert f"id:        {OTHER}" in result.stdout


@pytest.mark.parametrize("command", ["status", "explain", "cancel", "logs"])
def test_commands_take_a_short_id(ids: Stage, command: str) -> None:
    result = ids.jaas(command, "bbbb3", "--json")
    told = json.loads(result.stdout)
    assert told.get("id", told.get("job_id")) == OTHER


def test_so_do_wait_replay_and_batch(stage: Stage) -> None:
    stage.ledger.submission.create(OTHER, JobSpec(image="alpine"), stage.ledger.prefix)
    stage.launch(OTHER)
    stage.ledger.ownership.finish(OTHER, "worker-1", [ended()])
    assert stage.jaas("wait", "bbbb").stdout.startswith(f"job {OTHER} succeeded")
    made = stage.jaas("replay", "-q", "bbbb").stdout.strip()
    assert stage.ledger.queries.get(made).replay_of == OTHER
    stage.ledger.batches.create("batch-1", name="", max_parallel=0, min_success=1.0)
    assert json.loads(stage.jaas("batch", "status", "--json", "batc").stdout)["id"] == "batch-1"
    assert stage.jaas("list", "--batch", "batc").exit_code == 0
    assert stage.jaas("cancel", "--batch", "batc").stdout.startswith("batch batch-1: ")

"""`jaas audit`: who did what. Redis is real, the worker is played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from jaas_submit import Client, JobSpec
from jaas_submit.connection.caller import caller
from jaas_submit.ledger import Ledger
from tests.support.stage import Stage, ended


@pytest.fixture
def client(ledger: Ledger, redis_url: str) -> Iterator[Client]:
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix) as made:
        yield made


def told(stage: Stage, *words: str) -> list[dict[str, Any]]:
    done = stage.jaas("audit", "--json", *words)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_act_is_told_with_whoever_says_to_have_done_it(stage: Stage, client: Client) -> None:
    first = client.submit(JobSpec(image="alpine"))
    assert first.cancel("enough") == "QUEUED"
    again = client.replay(first.id, env={"A": "a secret"}, limits={"memory": "10M"})
    (submit, cancel, replay) = told(stage, first.id)
    assert [one["what"] for one in (submit, cancel, replay)] == ["submit", "cancel", "replay"]
    assert {one["by"] for one in (submit, cancel, replay)} == {caller()}
    assert {one["trust"] for one in (submit, cancel, replay)} == {"claimed"}
    assert cancel["detail"] == "enough"
    assert replay["detail"] == f"as job {again.id}, with other values of: env, limits"
    assert told(stage, again.id)[0]["detail"] == f"replay of job {first.id}"
    assert "a secret" not in stage.jaas("audit").output
    assert first.audit() == client.ledger.queries.get(first.id).history
    everything = told(stage)
    assert sorted(one["id"] for one in everything) == sorted([first.id] * 3 + [again.id])
    assert told(stage, "--since", "2090-01-01") == []


def test_a_cancelled_batch_says_who_did_it(stage: Stage, client: Client) -> None:
    batch = client.map(JobSpec(image="alpine"), [1, 2])
    batch.cancel("enough")
    assert [(one["what"], one["by"], one["detail"]) for one in told(stage, batch.id)] == [
        ("submit", caller(), ""),
        ("cancel", caller(), "enough"),
    ]
    assert [entry.what for entry in batch.job(0).audit()] == ["submit"], "a worker may have done it for the batch"


def test_a_verified_producer_is_told(stage: Stage, client: Client) -> None:
    job_id = stage.add(JobSpec(image="alpine"), ended())
    client.ledger.client.hset(f"{client.ledger.prefix}:job:{job_id}", "producer", "team")
    (submit,) = told(stage, job_id)
    assert (submit["producer"], submit["trust"]) == ("team", "verified")


def test_the_newest_twenty_acts_are_kept(client: Client) -> None:
    job = client.submit(JobSpec(image="alpine"))
    job.cancel("enough")
    for _ in range(25):
        client.replay(job.id)
    assert [entry.what for entry in job.audit()] == ["submit", *["replay"] * 20]

"""Idempotency keys and replays, down to the container."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaas_submit import AsyncClient, Cause, Client, JobState, SpecError
from jaas_submit.model.fields import Resources
from jaas_submit.model.retry_policy import RetryPolicy
from tests.support.jobs import LONG, ended, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

WORKER = {"remove_delay": "0.1"}
SUBMITTERS = 20


def test_twenty_who_submit_with_one_key_at_once_get_one_job(jaas: Installation, witness: Witness) -> None:
    barrier = threading.Barrier(SUBMITTERS)

    def submit(number: int) -> str:
        with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as client:
            client.ledger.now()  # be connected
            barrier.wait(LONG)
            return client.submit(witness.spec(f"echo {number}"), key="payroll-2026-11").id

    with ThreadPoolExecutor(SUBMITTERS) as pool:
        ids = list(pool.map(submit, range(SUBMITTERS)))
    assert len(set(ids)) == 1
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as client:
        result = ended(client, ids[0])
        assert result.ok
        assert int(result.stdout) in range(SUBMITTERS)
        assert client.ledger.queries.get(ids[0]).key == "payroll-2026-11"
        assert [record.id for record in client.history()] == [ids[0]]
        # When the job has ended, too; and its outcome is there for whoever asks.
        again = client.submit(witness.spec("echo again"), key="payroll-2026-11")
        assert (again.id, again.wait(LONG)) == (ids[0], result)
        # A job submitted later has ended: nothing else was in the queue before it.
        other = client.submit(witness.spec(), key="payroll-2026-12")
        assert ended(client, other.id).ok
        assert [line.split()[0] for line in witness.starts()] == [ids[0], other.id]


def test_a_key_leads_to_its_job_for_as_long_as_was_said(jaas: Installation, client: Client, witness: Witness) -> None:
    async def submit() -> str:
        async with AsyncClient(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as other:
            return (await other.submit(witness.spec(), key="short", key_ttl=9)).id

    first = asyncio.run(submit())
    assert client.submit(witness.spec(), key="short").id == first
    eventually(lambda: not client.ledger.client.exists(f"{jaas.prefix}:key:short"), LONG)
    second = client.submit(witness.spec(), key="short")
    assert second.id != first
    assert ended(client, first).ok
    assert ended(client, second.id).ok
    assert sorted(line.split()[0] for line in witness.starts()) == sorted([first, second.id])


@pytest.mark.parametrize("key", ["", " "])
def test_an_empty_key_is_refused(client: Client, witness: Witness, key: str) -> None:
    before = client.history(limit=1)
    with pytest.raises(SpecError, match="must not be empty") as caught:
        client.submit(witness.spec(), key=key)
    assert caught.value.field == "key"
    assert client.history(limit=1) == before


def test_a_dead_letter_is_replayed_with_changes_and_linked_both_ways(client: Client, witness: Witness) -> None:
    labels = {"team": "replay"}
    dead = client.submit(witness.spec('[ "$LUCK" = good ]', env={"LUCK": "bad", "OTHER": "kept"}, labels=labels))
    assert ended(client, dead.id).exit_code == 1
    assert [r.id for r in client.history(JobState.FAILED, labels=labels, cause=Cause.EXIT)] == [dead.id]
    assert client.history(JobState.FAILED, labels=labels, cause=Cause.IMAGE) == []
    assert client.history(labels={"team": "other"}) == []

    same = client.replay(dead.id)
    changed = client.replay(dead.id, env={"LUCK": "good"}, limits={"memory": "64M"})
    assert ended(client, same.id).exit_code == 1
    assert ended(client, changed.id).ok
    original = dead.record()
    assert original.replayed_by == changed.id
    assert (same.record().replay_of, changed.record().replay_of) == (dead.id, dead.id)
    assert same.record().spec == original.spec
    spec = changed.record().spec
    assert spec is not None
    assert spec.env == {"LUCK": "good", "OTHER": "kept"}
    assert (spec.limits, spec.labels) == (Resources(memory="64M"), labels)
    assert f"It was replayed as job {changed.id}." in client.explain(dead.id).sentences
    assert f"It is a replay of job {dead.id}." in client.explain(changed.id).sentences
    first, *later = [line.split()[0] for line in witness.starts()]
    assert (first, sorted(later)) == (dead.id, sorted([same.id, changed.id]))


def test_only_what_has_ended_is_replayed(client: Client, witness: Witness) -> None:
    handle = client.submit(witness.spec(witness.held(), retry=RetryPolicy()))
    until(client, handle.id, JobState.RUNNING)
    with pytest.raises(SpecError, match="is RUNNING; only a job that has ended can be replayed"):
        client.replay(handle.id)
    witness.open()
    assert ended(client, handle.id).ok
    with pytest.raises(SpecError, match="colour: is no field"):
        client.replay(handle.id, colour="red")
    assert handle.record().replayed_by == ""
    again = client.replay(handle.id)
    assert ended(client, again.id).ok
    assert len(witness.starts()) == 2

"""Queues by their names, with both clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jaas_submit import Client, JobNotWaiting, JobSpec, QueueClosed, QueueInUse, SpecError, UnknownQueue
from tests.support.twins import TWINS, client_of

SPEC = JobSpec(image="alpine")


@pytest.fixture(params=TWINS)
def client(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> Iterator[Client]:
    with client_of(request.param, redis_url, prefix=prefix, queue=prefix) as made:
        yield made


def test_a_queue_from_its_making_to_its_end(client: Client, prefix: str) -> None:
    queues = client.queues
    with pytest.raises(UnknownQueue, match=f"`jaas queue create {prefix}` makes it"):
        queues.pause(prefix)
    made = queues.create(prefix, priority=9, owner="web")
    assert (made.name, made.state, made.rules.priority, made.owner, made.messages) == (prefix, "open", 9, "web", 0)
    assert queues.set(prefix, priority=None, weight=2).rules.weight == 2
    handle = client.submit(SPEC)
    paused = queues.pause(prefix, "the database is away")
    assert (paused.state, paused.messages) == ("paused", 1)
    assert queues.drain(prefix).state == "paused, draining"
    with pytest.raises(QueueClosed):
        client.submit(SPEC)
    with pytest.raises(QueueClosed):
        client.map(SPEC, ["a"])
    assert client.explain(handle.id).reason == "queue_paused"
    with pytest.raises(QueueInUse):
        queues.delete(prefix)
    handle.cancel()
    client.ledger.client.delete(prefix)
    history = [(entry.what, entry.detail) for entry in queues.describe(prefix).audit]
    assert history[0][0] == "create"
    assert history[2] == ("pause", "the database is away")
    assert [one.name for one in queues.list()] == [prefix]
    queues.delete(prefix)
    assert queues.list() == ()


@pytest.mark.parametrize("name", ["", "two words", "a,b", "x" * 129])
def test_a_name_that_is_none_is_refused(client: Client, name: str) -> None:
    with pytest.raises(SpecError, match=r"^queue: "):
        client.queues.create(name)


def test_jobs_and_batches_are_held_and_released_by_their_handles(client: Client) -> None:
    client.ledger.maintenance.renew_lease("w", 60, {})
    handle, batch = client.submit(SPEC), client.map(SPEC, ["a"])
    handle.hold("later")
    batch.hold()
    ids = [handle.id, client.ledger.queries.batch_job_ids(batch.id, [0])[0]]
    assert [client.explain(one).reason for one in ids] == ["held", "held"]
    assert [client.ledger.ownership.claim(one, "w").action for one in ids] == ["kept", "kept"]
    handle.release()
    batch.release()
    assert [client.ledger.ownership.claim(one, "w").action for one in ids] == ["launch", "launch"]
    with pytest.raises(JobNotWaiting):
        handle.hold()

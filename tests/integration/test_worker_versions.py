"""Workers and records of different versions side by side, as in the middle of an update."""

from __future__ import annotations

import json
from typing import Any

import celery
import pytest

from jaas_submit import Client, JobState
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.messaging.publisher import publish_many
from jaas_submit.model.wire_names import TASK_RUN
from tests.support.jobs import LONG, ended, run, shell, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation, WorkerProcess

WORKER = {"lease": "3s"}

NEWER: list[tuple[str, dict[str, Any], str]] = [
    ("a newer version", {"version": 99}, "version"),
    ("a field of a newer version", {"gpus": 2}, "gpus"),
]


def submit_wire(client: Client, foreign: celery.Celery, wire: dict[str, Any]) -> str:
    """Do what a newer producer does: write a record that this version cannot read, then its message."""
    job_id = client.submit(shell("exit 0")).id
    client.ledger.client.hset(f"{client.ledger.prefix}:job:{job_id}", "spec", json.dumps(wire))
    client.app.control.purge()
    foreign.send_task(TASK_RUN, kwargs={"spec": wire}, task_id=job_id, queue=client.queue)
    return job_id


@pytest.mark.parametrize(("changes", "named"), [case[1:] for case in NEWER], ids=[case[0] for case in NEWER])
def test_a_newer_description_is_refused_with_the_reason(
    jaas: Installation, client: Client, foreign: celery.Celery, changes: dict[str, Any], named: str
) -> None:
    for worker in jaas.workers:
        worker.stop()
    job_id = submit_wire(client, foreign, {**shell("exit 0").to_wire(), **changes})
    jaas.worker().start()
    result = client.handle(job_id, lazy=True).wait(LONG, check=False)
    assert (result.state, result.cause) == ("FAILED", "refused")
    assert named in result.reason
    assert result.attempts[-1].number == 0, "nothing was launched"


def test_fields_of_a_newer_record_are_kept(jaas: Installation, client: Client) -> None:
    for worker in jaas.workers:
        worker.stop()
    handle = client.submit(shell("exit 0"))
    key = f"{client.ledger.prefix}:job:{handle.id}"
    client.ledger.client.hset(key, "invented_later", "kept")
    jaas.worker().start()
    assert handle.wait(LONG).ok
    assert client.ledger.client.hget(key, "invented_later") == b"kept"


def test_a_job_under_way_with_a_newer_description_is_left_to_a_newer_worker(
    jaas: Installation, client: Client, witness: Witness
) -> None:
    """After a roll-back, the older worker must not end a job that the newer one has launched."""
    for worker in jaas.workers:
        worker.stop()
    newer = jaas.worker().start()
    handle = client.submit(witness.spec(witness.held()))
    until(client, handle.id, JobState.RUNNING)
    key = f"{client.ledger.prefix}:job:{handle.id}"
    readable = client.ledger.client.hget(key, "spec")
    client.ledger.client.hset(key, "spec", json.dumps({**json.loads(readable or ""), "gpus": 2}))
    newer.stop()
    older = jaas.worker().start()
    told = f"job {handle.id}: left to a worker of the newer version that described it"
    eventually(lambda: told in older.log, LONG, lambda: older.log)
    assert (handle.state, handle.record().newer) == (JobState.RUNNING, True)
    client.ledger.client.hset(key, "spec", readable)  # as a newer worker reads it
    witness.open()
    assert ended(client, handle.id).ok
    assert len(witness.starts()) == 1


def test_a_state_of_a_newer_version_is_left_alone(jaas: Installation, client: Client, worker: WorkerProcess) -> None:
    if not worker.alive:
        worker.start()
    handle = client.submit(shell("exit 0"))
    assert ended(client, handle.id).ok
    key, orphans = f"{client.ledger.prefix}:job:{handle.id}", f"{client.ledger.prefix}:unowned"
    client.ledger.client.hset(key, mapping={"state": "PAUSED", "reported": 0, "holder": ""})
    before = client.ledger.client.hgetall(key)
    since = client.ledger.now()
    client.ledger.client.zadd(orphans, {handle.id: 0})
    publish_many(client.app, [NewJob(handle.id, shell("exit 0"), client.queue)])
    # The reconciler has seen it when it is to be looked for later; the message, when that of a later job has come.
    eventually(lambda: (client.ledger.client.zscore(orphans, handle.id) or 0) > since, LONG)
    assert run(client, shell("exit 0")).ok
    assert client.ledger.client.hgetall(key) == before
    client.ledger.client.zrem(orphans, handle.id)


def test_two_workers_of_which_one_tells_no_version(jaas: Installation, client: Client, worker: WorkerProcess) -> None:
    """What an older worker says of itself lacks what newer ones add; nobody stumbles over that."""
    client.ledger.maintenance.renew_lease("an-old-one", 60, {"host": "h", "pid": 1})
    assert ended(client, client.submit(shell("exit 0")).id).state is JobState.SUCCEEDED
    eventually(lambda: {"version"} <= {key for w in client.ledger.queries.workers() for key in w}, LONG)
    client.ledger.maintenance.drop_lease("an-old-one")

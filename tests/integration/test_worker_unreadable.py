"""A worker beside keys of the ledger that hold something else: its jobs run, and the doctor names what is wrong."""

from __future__ import annotations

import pytest

from jaas_submit import Client
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.doctor.ledger_checks import ledger_checks
from jaas_submit.messaging.publisher import publish_many
from tests.support.jobs import LONG
from tests.support.wait import eventually
from tests.support.witness import Witness

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]


def test_jobs_run_although_other_records_are_unreadable(client: Client, witness: Witness) -> None:
    ledger, redis = client.ledger, client.ledger.client
    spec = witness.spec("echo out")
    for job_id in ("bad-1", "bad-2"):
        redis.set(f"{ledger.prefix}:job:{job_id}", 1)
        for index in ("jobs", "unowned", "ready", "deadlines", "due", "state:QUEUED"):
            redis.zadd(f"{ledger.prefix}:{index}", {job_id: 0})
    redis.rpush(f"{ledger.prefix}:pending_dependents", "no JSON")
    redis.sadd(f"{ledger.prefix}:cancelling", "no batch")
    publish_many(client.app, [NewJob("bad-1", spec, client.queue)])
    first = client.submit(spec)
    second = client.submit(spec, after=[first])
    assert first.wait(LONG).stdout == "out\n"
    assert second.wait(LONG).stdout == "out\n"
    due = [f"{ledger.prefix}:{index}" for index in ("unowned", "ready", "due")]
    eventually(
        lambda: not any(redis.zcount(key, 0, ledger.now()) for key in due), LONG, "a round that passes them over"
    )
    assert [worker["room"] > 0 for worker in ledger.queries.workers()] == [True]
    assert ledger.now() - ledger.health.last_claim(client.queue) < LONG
    (records,) = ledger_checks(client)
    assert "2 of 4 looked at cannot be read (job bad-" in records.detail
    for job_id in ("bad-1", "bad-2"):
        redis.delete(f"{ledger.prefix}:job:{job_id}")

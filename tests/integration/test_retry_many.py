"""A thousand jobs between two attempts outlive Redis and the worker, both killed; some come due, some are cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from jaas_submit import Cause, Client, JobState
from jaas_submit.model.records import JobRecord
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from tests.support.jobs import celery_result
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.timeout(400)]

MANY = 1000
WITH_CONTAINER = 10
"""So many of them run a container in each attempt; the engine refuses the others at once."""

SOON = 60.0
"""Seconds until some of them are due: time enough for all first attempts, and to kill worker and Redis."""


@pytest.fixture
def home(
    own_redis: Callable[..., OwnRedis], engine_host: str, prefix: str, tmp_path: Path
) -> Iterator[tuple[Installation, OwnRedis]]:
    server = own_redis(appendfsync="always")  # what is compared was written just before the kill
    made = Installation(server.url, engine_host, prefix, tmp_path, lease="4s", remove_delay="0.1")
    yield made, server
    made.close()


def constant(delay: float) -> RetryPolicy:
    return RetryPolicy(max_attempts=2, backoff=Backoff(kind="constant", delay=delay, cap=delay, jitter="none"))


def records(client: Client, ids: list[str]) -> dict[str, JobRecord]:
    return {record.id: record for record in client.ledger.queries.find(ids)}


def test_a_thousand_waiting_retries_outlive_redis_and_worker(
    home: tuple[Installation, OwnRedis], witness: Witness
) -> None:
    jaas, server = home
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as client:
        worker = jaas.worker().start()
        refused = witness.spec(networks=["no-such-network"])
        far, near = (refused.model_copy(update={"retry": constant(delay)}) for delay in (86400, SOON))
        runs = witness.spec('[ "$JAAS_ATTEMPT" = 2 ] || exit 75', retry=constant(SOON))
        soon_due = [runs] * WITH_CONTAINER + [near] * 90
        handles = client.submit_many([*[far] * (MANY - len(soon_due)), *soon_due])
        ids = [handle.id for handle in handles]
        late, soon = ids[: -len(soon_due)], ids[-len(soon_due) :]
        eventually(
            lambda: client.ledger.queries.counts()[JobState.BACKOFF] == MANY,
            120,
            lambda: f"{client.ledger.queries.counts()}",
        )
        before = records(client, ids)
        assert all(record.holder == "" and record.due_at for record in before.values())

        worker.kill()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            redis.Redis(port=server.port).ping()
        server.start()
        assert records(client, ids) == before
        worker.start()

        # Those that come due are tried once more, each once.
        eventually(lambda: all(r.reported for r in records(client, soon).values()), 120)
        after = records(client, soon)
        ends = Counter((r.state, *(a.cause for a in r.attempts)) for r in after.values())
        assert ends == {
            (JobState.FAILED, Cause.LAUNCH, Cause.LAUNCH): len(soon) - WITH_CONTAINER,
            (JobState.SUCCEEDED, Cause.EXIT, Cause.EXIT): WITH_CONTAINER,
        }
        starts = Counter(tuple(line.split()[:2]) for line in witness.starts())
        assert starts == {(job_id, number): 1 for job_id in soon[:WITH_CONTAINER] for number in ("1", "2")}

        # The others wait on, with the same due times; then all are cancelled.
        assert records(client, late) == {job_id: before[job_id] for job_id in late}
        for job_id in late:
            assert client.cancel(job_id, "enough") is JobState.BACKOFF
        assert {record.state for record in records(client, late).values()} == {JobState.CANCELLED}
        eventually(lambda: all(r.reported for r in records(client, late).values()), 120)
        ended = records(client, late)
        assert {tuple(a.cause for a in r.attempts) for r in ended.values()} == {(Cause.LAUNCH, Cause.CANCELLED)}
        assert len(witness.starts()) == 2 * WITH_CONTAINER
        assert client.ledger.queries.counts()[JobState.BACKOFF] == 0
        assert client.ledger.client.zcard(f"{jaas.prefix}:due") == 0
        told = celery_result(late[0], app=client.app)
        assert told.state == "REVOKED"
        eventually(lambda: not jaas.services(), 60)

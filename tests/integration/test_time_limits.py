"""`expires` and `deadline` of jobs that wait in the queue: none is started late, and none waits on for a free place."""

from __future__ import annotations

import pytest

from jaas_submit import Cause, Client, JobState
from jaas_submit.model.retry_policy import RetryPolicy
from tests.support.jobs import LONG, celery_result, ended, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]

WORKER = {"max_in_flight": 1}

EAGER = RetryPolicy(max_attempts=9, max_cluster_retries=9)


def test_jobs_whose_time_was_over_before_any_worker_came_are_not_started(
    jaas: Installation, client: Client, witness: Witness
) -> None:
    late = client.submit(witness.spec(expires=0.5, retry=EAGER))
    too_late = client.submit(witness.spec(deadline=0.5, retry=EAGER))
    in_time = client.submit(witness.spec(expires=3600, deadline=3600))
    created = max(handle.record().created_at.timestamp() for handle in (late, too_late))
    eventually(lambda: client.ledger.now() > created + 0.5, LONG)
    assert "Its expires (0 seconds) is over." not in str(client.explain(in_time.id))
    assert " is over." in str(client.explain(late.id))
    assert {handle.state for handle in (late, too_late, in_time)} == {JobState.QUEUED}
    worker = jaas.worker().start()
    try:
        assert ended(client, in_time.id).ok
        for handle, cause, reason in (
            (late, Cause.EXPIRED, "not started within expires (0.5 s)"),
            (too_late, Cause.DEADLINE, "not ended within deadline (0.5 s)"),
        ):
            result = ended(client, handle.id)
            assert (result.state, result.cause, result.reason) == (JobState.FAILED, cause, reason)
            assert [a.number for a in result.attempts] == [0]
            assert result.attempts[0].decision == f"never retried after cause {cause}"
            assert celery_result(handle.id, app=client.app).state == "FAILURE"
            assert "No container was seen to start." in client.explain(handle.id).sentences
        assert [line.split()[0] for line in witness.starts()] == [in_time.id]
    finally:
        worker.stop()


def test_jobs_end_in_time_also_where_the_only_worker_is_full(
    jaas: Installation, client: Client, witness: Witness
) -> None:
    worker = jaas.worker().start()
    try:
        running = client.submit(witness.spec(witness.held()))
        until(client, running.id, JobState.RUNNING)
        late = client.submit(witness.spec(expires=1, retry=EAGER))
        too_late = client.submit(witness.spec(deadline=1, retry=EAGER))
        assert (ended(client, late.id).cause, ended(client, too_late.id).cause) == (Cause.EXPIRED, Cause.DEADLINE)
        assert running.state is JobState.RUNNING
        assert [line.split()[0] for line in witness.starts()] == [running.id]
        witness.open()
        assert ended(client, running.id).ok
    finally:
        worker.stop()

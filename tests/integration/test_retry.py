"""Retries with a real worker: what the policy says, what the container learns, and the time between two attempts."""

from __future__ import annotations

from datetime import timedelta

import docker
import pytest

from jaas_submit import Cause, Client, JobState
from jaas_submit.model.retry_policy import Backoff, RetryPolicy, RetryRule
from tests.support.jobs import LONG, celery_result, containers_of, ended, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]

WORKER = {"remove_delay": "0.1", "lease": "4s"}
AT_ONCE = Backoff(kind="constant", delay=0, jitter="none")
IN_AN_HOUR = Backoff(kind="constant", delay=3600, cap=3600, jitter="none")


def numbers(witness: Witness, job_id: str) -> list[int]:
    """Return the attempts whose container started, in order."""
    return [int(line.split()[1]) for line in witness.starts(job_id)]


@pytest.mark.usefixtures("worker")
def test_a_job_is_tried_until_it_succeeds_and_each_attempt_is_kept(client: Client, witness: Witness) -> None:
    rules = [RetryRule(action="retry", exit_codes=75), RetryRule(action="fail")]
    policy = RetryPolicy(max_attempts=5, rules=rules, backoff=AT_ONCE)
    handle = client.submit(witness.spec('echo "try $JAAS_ATTEMPT"; [ "$JAAS_ATTEMPT" = 3 ] || exit 75', retry=policy))
    result = ended(client, handle.id)
    assert (result.state, result.exit_code, result.stdout) == (JobState.SUCCEEDED, 0, "try 3\n")
    assert [(a.number, a.exit_code, a.decision) for a in result.attempts] == [
        (1, 75, "rule 1 (retry) matched; 1 of 5 attempts used (max_attempts)"),
        (2, 75, "rule 1 (retry) matched; 2 of 5 attempts used (max_attempts)"),
        (3, 0, ""),
    ]
    assert [handle.logs(number).stdout for number in (1, 2, 3)] == ["try 1\n", "try 2\n", "try 3\n"]
    assert [a.service for a in result.attempts] == [f"jaas-{handle.id}-{number}" for number in (1, 2, 3)]
    assert all(a.node and a.started_at and a.finished_at for a in result.attempts)
    starts = [line.split() for line in witness.starts(handle.id)]
    assert [(job, number) for job, number, _ in starts] == [(handle.id, "1"), (handle.id, "2"), (handle.id, "3")]
    for attempt, (_, _, container) in zip(result.attempts, starts, strict=True):
        assert attempt.container_id
        assert attempt.container_id.startswith(container)
    assert celery_result(handle.id, app=client.app).get(timeout=LONG)["exit_code"] == 0


@pytest.mark.usefixtures("worker")
def test_rules_budgets_and_ignored_attempts(client: Client, witness: Witness) -> None:
    """Exit codes 10, 11, 12 ... in that order, one for each attempt."""
    then = "exit $((9 + JAAS_ATTEMPT))"

    def policy(*rules: RetryRule, attempts: int = 1) -> RetryPolicy:
        return RetryPolicy(max_attempts=attempts, rules=rules, backoff=AT_ONCE)

    fail_12 = RetryRule(action="fail", exit_codes="12")
    expected = {
        "by default once": (policy(), [10]),
        "the budget": (policy(attempts=2), [10, 11]),
        "a rule ends it before": (policy(fail_12, attempts=9), [10, 11, 12]),
        "ignored ones are not counted": (policy(RetryRule(action="ignore", exit_codes="10-11")), [10, 11, 12]),
        "the first rule that matches": (policy(fail_12, RetryRule(action="ignore")), [10, 11, 12]),
        "by the reason": (
            policy(RetryRule(action="fail", reason="NON-ZERO*(11)"), RetryRule(action="ignore")),
            [10, 11],
        ),
    }
    handles = {name: client.submit(witness.spec(then, retry=retry)) for name, (retry, _) in expected.items()}
    for name, (_, codes) in expected.items():
        result = ended(client, handles[name].id)
        assert [a.exit_code for a in result.attempts] == codes, name
        assert result.state is JobState.FAILED
        assert numbers(witness, result.job_id) == list(range(1, len(codes) + 1)), name


@pytest.mark.usefixtures("worker")
def test_on_one_node_that_node_is_not_avoided(client: Client, witness: Witness) -> None:
    careful = RetryPolicy(max_attempts=2, avoid_failed_nodes=True, backoff=AT_ONCE)
    handle = client.submit(witness.spec('[ "$JAAS_ATTEMPT" = 2 ]', retry=careful, pending_timeout=30))
    result = ended(client, handle.id)
    assert [(a.node, a.exit_code) for a in result.attempts] == [(result.node, 1), (result.node, 0)]


@pytest.mark.usefixtures("worker")
def test_between_two_attempts_nobody_holds_the_job_and_nothing_of_it_is_left_in_the_swarm(
    jaas: Installation, client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    patient = RetryPolicy(max_attempts=2, backoff=IN_AN_HOUR)
    handle = client.submit(witness.spec("echo once; exit 6", retry=patient))
    until(client, handle.id, JobState.BACKOFF)
    record = handle.record()
    assert (record.holder, record.attempt) == ("", 1)
    assert record.due_at is not None
    assert record.due_at - record.updated_at == timedelta(hours=1)
    assert [(a.number, a.exit_code) for a in record.attempts] == [(1, 6)]
    assert handle.logs(1).stdout == "once\n"
    eventually(lambda: not jaas.services(), LONG)
    assert not containers_of(docker_api, handle.id)
    told = client.explain(handle.id)
    assert told.next_attempt_at == record.due_at
    assert "It waits for its next attempt, which is due in " in told.sentences[0]
    assert told.sentences[1].endswith("decided so: no retry rule matched; 1 of 2 attempts used (max_attempts).")
    asynchronous = celery_result(handle.id, app=client.app)
    eventually(lambda: asynchronous.state == "RETRY", LONG, lambda: f"Celery to say RETRY, not {asynchronous.state}")

    assert handle.cancel("no longer needed") is JobState.BACKOFF
    assert handle.state is JobState.CANCELLED
    result = ended(client, handle.id)
    assert [(a.number, a.cause) for a in result.attempts] == [(1, Cause.EXIT), (0, Cause.CANCELLED)]
    assert result.reason == "no longer needed"
    eventually(lambda: asynchronous.state == "REVOKED", LONG, lambda: f"Celery: {asynchronous.state}")
    assert handle.logs().stdout == "once\n"
    assert numbers(witness, handle.id) == [1]
    assert not client.ledger.client.zcard(f"{client.ledger.prefix}:due")


def test_a_job_between_two_attempts_is_cancelled_while_no_worker_lives(
    jaas: Installation, client: Client, witness: Witness, worker: WorkerProcess
) -> None:
    handle = client.submit(witness.spec("exit 6", retry=RetryPolicy(max_attempts=2, backoff=IN_AN_HOUR)))
    until(client, handle.id, JobState.BACKOFF)
    eventually(lambda: not jaas.services(), LONG)
    worker.kill()
    assert handle.cancel("no longer needed") is JobState.BACKOFF
    assert handle.wait(LONG, check=False).state is JobState.CANCELLED
    assert celery_result(handle.id, app=client.app).state == "REVOKED"
    worker.start()
    assert ended(client, handle.id).reason == "no longer needed"
    assert numbers(witness, handle.id) == [1]


def test_an_attempt_that_comes_due_while_no_worker_lives_is_made_by_the_next_one(
    jaas: Installation, client: Client, witness: Witness, worker: WorkerProcess
) -> None:
    soon = RetryPolicy(max_attempts=2, backoff=Backoff(kind="constant", delay=12, jitter="none"))
    handle = client.submit(witness.spec('[ "$JAAS_ATTEMPT" = 2 ] || exit 6', retry=soon))
    until(client, handle.id, JobState.BACKOFF)
    eventually(lambda: not jaas.services(), LONG)
    worker.kill()
    due = handle.record().due_at
    assert due is not None
    eventually(lambda: client.ledger.now() > due.timestamp(), LONG)
    assert handle.state is JobState.BACKOFF
    worker.start()
    assert ended(client, handle.id).ok
    assert numbers(witness, handle.id) == [1, 2]

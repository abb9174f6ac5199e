"""Cancelling, by our client and by Celery's own means, in each state: no container afterwards, one word everywhere."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import docker
import pytest

from jaas_submit import Cause, Client, JobCancelled, JobState
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.messaging.publisher import publish_many
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from tests.support.jobs import LONG, celery_result, containers_of, ended, shell, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]

# Few at once, so that a job can be made to wait inside the worker.
WORKER = {"max_in_flight": 2}

NOWHERE = "node.labels.t-none==x"


def check_cancelled(client: Client, api: docker.APIClient, job_id: str, reason: str) -> None:
    """The job is cancelled for ledger, Celery and engine alike."""
    result = ended(client, job_id)
    assert (result.state, result.cause, result.reason) == (JobState.CANCELLED, Cause.CANCELLED, reason)
    with pytest.raises(JobCancelled, match=reason):
        client.wait(job_id, LONG, check=True)
    told = celery_result(job_id, app=client.app)
    eventually(lambda: told.state == "REVOKED", 20, lambda: f"Celery to say REVOKED, not {told.state}")
    eventually(lambda: not containers_of(api, job_id), LONG, "the container to be gone")


def occupy(client: Client, witness: Witness) -> list[str]:
    """Give the worker as many jobs as it takes; they end when the test opens the gate."""
    handles = client.submit_many(witness.spec(witness.held()) for _ in range(WORKER["max_in_flight"]))
    for handle in handles:
        until(client, handle.id, JobState.RUNNING)
    return [handle.id for handle in handles]


def received(client: Client, worker: WorkerProcess, job_id: str) -> None:
    """Wait until the worker has a job's message in its hands."""
    eventually(lambda: f"[{job_id}] received" in worker.log, LONG, f"job {job_id} to be received")


# The first test of the module needs a time without a worker.
def test_a_queued_job_while_no_worker_lives(
    client: Client, witness: Witness, docker_api: docker.APIClient, request: pytest.FixtureRequest
) -> None:
    handle = client.submit(witness.spec())
    assert handle.cancel("no longer needed") is JobState.QUEUED
    assert handle.state is JobState.CANCELLED
    assert celery_result(handle.id, app=client.app).state == "REVOKED"
    request.getfixturevalue("worker")
    assert client.submit(witness.spec()).wait(LONG).ok
    check_cancelled(client, docker_api, handle.id, "no longer needed")
    assert witness.starts(handle.id) == []
    assert client.ledger.client.llen(client.queue) == 0


def test_a_job_that_waits_in_the_worker(
    client: Client, witness: Witness, worker: WorkerProcess, docker_api: docker.APIClient
) -> None:
    others = occupy(client, witness)
    handle = client.submit(witness.spec())
    received(client, worker, handle.id)
    assert handle.cancel("while it waits") is JobState.QUEUED
    witness.open()
    assert all(ended(client, other).ok for other in others)
    check_cancelled(client, docker_api, handle.id, "while it waits")
    assert witness.starts(handle.id) == []
    eventually(
        lambda: client.ledger.client.hlen(f"{client.ledger.prefix}:unacked") == 0,
        LONG,
        "its message to be acknowledged",
    )


@pytest.mark.usefixtures("worker")
def test_a_pending_job(client: Client, witness: Witness, docker_api: docker.APIClient) -> None:
    handle = client.submit(witness.spec(constraints=[NOWHERE]))
    eventually(lambda: "no suitable node" in handle.record().detail, LONG)
    assert handle.cancel("while pending") is JobState.PENDING
    check_cancelled(client, docker_api, handle.id, "while pending")
    assert witness.starts() == []


@pytest.mark.usefixtures("worker")
def test_a_job_that_waits_for_another(client: Client, witness: Witness, docker_api: docker.APIClient) -> None:
    first = client.submit(witness.spec(witness.held()))
    handle = client.submit(witness.spec(), after=[first])
    assert handle.cancel("while it waits for another") is JobState.WAITING
    check_cancelled(client, docker_api, handle.id, "while it waits for another")
    witness.open()
    assert ended(client, first.id).ok
    assert witness.starts(handle.id) == []


@pytest.mark.usefixtures("worker")
def test_a_running_job(client: Client, witness: Witness, docker_api: docker.APIClient) -> None:
    handle = client.submit(witness.spec("echo before; " + witness.held()))
    until(client, handle.id, JobState.RUNNING)
    eventually(lambda: witness.starts(handle.id), LONG)
    assert handle.cancel("while it runs") is JobState.RUNNING
    check_cancelled(client, docker_api, handle.id, "while it runs")
    result = handle.result()
    assert (result.exit_code, result.stdout) == (143, "before\n")
    assert len(witness.starts()) == 1


@pytest.mark.usefixtures("worker")
def test_a_running_job_that_ignores_the_signal(client: Client, witness: Witness, docker_api: docker.APIClient) -> None:
    handle = client.submit(witness.spec("trap '' TERM; while :; do sleep 0.1; done", stop_grace=1))
    until(client, handle.id, JobState.RUNNING)
    handle.cancel("stubborn")
    check_cancelled(client, docker_api, handle.id, "stubborn")
    assert handle.result().exit_code == 137


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("code", [0, 3])
def test_a_running_job_that_ends_in_its_own_way_when_it_is_stopped(
    client: Client, witness: Witness, docker_api: docker.APIClient, code: int
) -> None:
    handle = client.submit(witness.spec(f"trap 'echo bye; exit {code}' TERM; while :; do sleep 0.1; done"))
    until(client, handle.id, JobState.RUNNING)
    eventually(lambda: witness.starts(handle.id), LONG)
    handle.cancel("politely")
    check_cancelled(client, docker_api, handle.id, "politely")
    assert (handle.result().exit_code, handle.result().stdout) == (code, "bye\n")


@pytest.mark.usefixtures("worker")
def test_twice_is_as_good_as_once_and_the_first_reason_stays(
    client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    handle = client.submit(witness.spec(witness.held()))
    until(client, handle.id, JobState.RUNNING)
    handle.cancel("the first reason")
    handle.cancel("the second reason")
    check_cancelled(client, docker_api, handle.id, "the first reason")
    assert handle.cancel("the third reason") is JobState.CANCELLED
    assert handle.result().reason == "the first reason"


@pytest.mark.usefixtures("worker")
def test_after_the_end_it_changes_nothing(client: Client) -> None:
    result = ended(client, client.submit(shell("exit 4")).id)
    assert client.cancel(result.job_id) is JobState.FAILED
    assert client.result(result.job_id) == result
    assert celery_result(result.job_id, app=client.app).state == "FAILURE"


# -- Celery's own means ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_celery_terminates_a_running_job(client: Client, witness: Witness, docker_api: docker.APIClient) -> None:
    handle = client.submit(witness.spec(witness.held()))
    until(client, handle.id, JobState.RUNNING)
    client.app.control.revoke(handle.id, terminate=True)
    check_cancelled(client, docker_api, handle.id, "terminated through Celery")
    assert len(witness.starts()) == 1


@pytest.mark.usefixtures("worker")
def test_celery_terminates_a_pending_job(client: Client, witness: Witness, docker_api: docker.APIClient) -> None:
    handle = client.submit(witness.spec(constraints=[NOWHERE]))
    eventually(lambda: "no suitable node" in handle.record().detail, LONG)
    client.app.control.revoke(handle.id, terminate=True)
    check_cancelled(client, docker_api, handle.id, "terminated through Celery")


@pytest.mark.parametrize("terminate", [False, True])
def test_celery_revokes_a_job_that_waits_in_the_worker(
    client: Client, witness: Witness, worker: WorkerProcess, docker_api: docker.APIClient, terminate: bool
) -> None:
    others = occupy(client, witness)
    handle = client.submit(witness.spec())
    received(client, worker, handle.id)
    answers = client.app.control.revoke(handle.id, terminate=terminate, reply=True, timeout=20, limit=1)
    assert answers, "the worker did not answer"
    witness.open()
    assert all(ended(client, other).ok for other in others)
    check_cancelled(client, docker_api, handle.id, "revoked through Celery")
    assert witness.starts(handle.id) == []


@pytest.mark.usefixtures("worker")
def test_celery_revokes_jobs_that_nobody_holds_at_once_and_for_good(
    client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    """Celery keeps a revoke in the memory of its workers; the ledger keeps it, whatever becomes of them."""
    first = client.submit(witness.spec(witness.held()))
    waits = client.submit(witness.spec(), after=[first])
    patient = Backoff(kind="constant", delay=3600, cap=3600, jitter="none")
    again = client.submit(witness.spec("exit 6", retry=RetryPolicy(max_attempts=2, backoff=patient)))
    until(client, again.id, JobState.BACKOFF)
    for handle in (waits, again):
        celery_result(handle.id, app=client.app).revoke()
        eventually(lambda: handle.state is JobState.CANCELLED, LONG, lambda: str(handle.record()))  # noqa: B023 (asked within the round)
        check_cancelled(client, docker_api, handle.id, "revoked through Celery")
    witness.open()
    assert ended(client, first.id).ok
    assert sorted(line.split()[0] for line in witness.starts()) == sorted([first.id, again.id])


@pytest.mark.usefixtures("worker")
def test_celery_revokes_a_job_before_its_message_arrives(
    client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    task_id = str(uuid.uuid4())
    assert client.app.control.revoke(task_id, reply=True, timeout=20, limit=1)
    client.app.send_task("jaas.run", kwargs={"spec": witness.spec().to_wire()}, task_id=task_id, queue=client.queue)
    told = celery_result(task_id, app=client.app)
    eventually(lambda: told.state == "REVOKED", LONG, lambda: f"Celery to say REVOKED, not {told.state}")
    # Messages are taken in order: when a later job has ended, this one would have been started.
    assert client.submit(witness.spec()).wait(LONG).ok
    assert witness.starts(task_id) == []


@pytest.mark.usefixtures("worker")
def test_celery_revokes_a_job_of_ours_before_its_message_arrives(
    client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    task_id, spec = str(uuid.uuid4()), witness.spec()
    client.ledger.submission.create(task_id, spec, client.queue)
    assert client.app.control.revoke(task_id, reply=True, timeout=20, limit=1)
    publish_many(client.app, [NewJob(task_id, spec, client.queue)])
    check_cancelled(client, docker_api, task_id, "revoked through Celery")
    assert witness.starts(task_id) == []


@pytest.mark.usefixtures("worker")
def test_celery_revokes_a_running_job_without_terminating_it_and_it_goes_on(client: Client, witness: Witness) -> None:
    handle = client.submit(witness.spec(witness.held()))
    until(client, handle.id, JobState.RUNNING)
    assert client.app.control.revoke(handle.id, reply=True, timeout=20, limit=1)
    witness.open()
    assert ended(client, handle.id).ok
    assert celery_result(handle.id, app=client.app).state == "SUCCESS"


@pytest.mark.usefixtures("worker")
def test_a_message_that_has_expired_is_not_run(client: Client, witness: Witness, docker_api: docker.APIClient) -> None:
    task_id = str(uuid.uuid4())
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    spec = witness.spec().to_wire()
    client.app.send_task("jaas.run", kwargs={"spec": spec}, task_id=task_id, queue=client.queue, expires=long_ago)
    eventually(lambda: client.ledger.queries.find([task_id]), LONG, "a record")
    check_cancelled(client, docker_api, task_id, "its message had expired when it arrived")
    told = celery_result(task_id, app=client.app)
    eventually(lambda: told.state == "REVOKED", LONG, lambda: f"Celery to say REVOKED, not {told.state}")
    assert client.submit(witness.spec()).wait(LONG).ok
    assert witness.starts(task_id) == []

"""The same message twice, whatever the reason: one container, one result, and a worker that goes on."""

from __future__ import annotations

from typing import Any

import docker
import pytest
import redis
from kombu import Connection

from jaas_submit import Client, JobSpec, JobState
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.messaging.publisher import publish_many
from jaas_worker.messaging.redis_transport import Transport
from jaas_worker.messaging.transport_settings import options
from tests.support.jobs import LONG, celery_result, container_of, containers_of, ended, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import CONNECTION_LOST, Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

# Only as many at once as one test needs, so that further messages wait in the worker, unacknowledged.
WORKER = {"max_in_flight": 5}

EXCEPTIONS_ALLOWED = CONNECTION_LOST  # the tests cut connections, and Celery shows where that hit it


def active(client: Client, workers: int = 1) -> list[str]:
    """Return the ids of the requests that are worked on, as Celery's `inspect active` shows them."""
    with client.app.connection_for_write() as connection:  # a new one: a test cuts those that there are
        answer = client.app.control.inspect(timeout=3, limit=workers, connection=connection).active() or {}
    if len(answer) < workers:  # not yet listening again
        return ["no answer"]
    return sorted(request["id"] for requests in answer.values() for request in requests)


def check_one_good_end(client: Client, witness: Witness, job_id: str) -> None:
    result = ended(client, job_id)
    assert result.ok, result.sentence()
    assert len(result.attempts) == 1
    assert len(witness.starts(job_id)) == 1
    told = celery_result(job_id, app=client.app)
    assert told.state == "SUCCESS"
    assert told.result["attempts"][0]["container_id"] == result.attempts[0].container_id


def test_a_second_message_while_the_job_runs(client: Client, witness: Witness, docker_api: docker.APIClient) -> None:
    spec = witness.spec(witness.held())
    handle = client.submit(spec)
    until(client, handle.id, JobState.RUNNING)
    container = container_of(docker_api, handle.id)
    for _ in range(3):
        publish_many(client.app, [NewJob(handle.id, spec, client.queue)])
    eventually(lambda: messages(client) == 0, LONG, "the copies to be received")
    eventually(lambda: active(client) == [handle.id], LONG, "one request of the job")
    assert containers_of(docker_api, handle.id) == [container]
    witness.open()
    check_one_good_end(client, witness, handle.id)
    eventually(lambda: active(client) == [], LONG)


def unacknowledged(client: Client) -> int:
    """Return how many messages the workers have received and not acknowledged."""
    return int(client.ledger.client.hlen(f"{client.ledger.prefix}:unacked"))


def messages(client: Client) -> int:
    """Return how many messages wait in the queue, or have been received and not acknowledged."""
    return int(client.ledger.client.llen(client.queue)) + unacknowledged(client)


def test_a_second_message_after_the_end_changes_nothing(client: Client, witness: Witness) -> None:
    spec = witness.spec()
    handle = client.submit(spec)
    check_one_good_end(client, witness, handle.id)
    record, stored = handle.record(), celery_result(handle.id, app=client.app).result
    publish_many(client.app, [NewJob(handle.id, spec, client.queue)])
    # Messages are taken in order: when a later job has ended, the copy has been dealt with.
    check_one_good_end(client, witness, client.submit(spec).id)
    assert handle.record() == record
    assert celery_result(handle.id, app=client.app).result == stored
    assert len(witness.starts(handle.id)) == 1


def test_two_messages_of_a_foreign_producer_with_the_same_id(client: Client, witness: Witness) -> None:
    spec = witness.spec(witness.held())
    for _ in range(2):
        client.app.send_task("jaas.run", kwargs={"spec": spec.to_wire()}, task_id="the-same", queue=client.queue)
    eventually(lambda: client.ledger.queries.find(["the-same"]), LONG)
    until(client, "the-same", JobState.RUNNING)
    eventually(lambda: messages(client) == 0, LONG, "both messages to be received")
    witness.open()
    check_one_good_end(client, witness, "the-same")
    eventually(lambda: active(client) == [], LONG)


def put_back_by(connection: Connection) -> None:
    """Do what a client does now and then: put messages back that are older than its visibility_timeout."""
    channel: Any = connection.default_channel
    channel.qos.restore_visible(num=100, interval=1)


def test_a_foreign_client_with_a_short_visibility_timeout_does_not_reach_our_messages(
    jaas: Installation, client: Client, witness: Witness, worker: WorkerProcess
) -> None:
    running, waiting = occupy(client, witness, worker)
    received = worker.log.count("received")
    with Connection(jaas.redis_url, transport_options={"visibility_timeout": 0}) as impatient:
        for _ in range(5):
            put_back_by(impatient)
    assert unacknowledged(client) == 3
    assert client.ledger.client.llen(client.queue) == 0
    witness.open()
    for job_id in running + waiting:
        check_one_good_end(client, witness, job_id)
    assert worker.log.count("received") == received


def test_messages_that_are_put_back_while_the_worker_has_them(
    jaas: Installation, client: Client, witness: Witness, worker: WorkerProcess
) -> None:
    running, waiting = occupy(client, witness, worker)
    received = worker.log.count("received")
    ours = {**options(client.ledger.prefix, client.ledger.prefix), "visibility_timeout": 1}

    def put_back() -> bool:
        put_back_by(impatient)
        return worker.log.count("received") >= received + 3

    with Connection(jaas.redis_url, transport=Transport, transport_options=ours) as impatient:
        eventually(put_back, LONG, "the messages to be put back and received again")
    # Should this worker die now, another one gets them.
    eventually(lambda: unacknowledged(client) == 3, LONG, "those that wait to be noted as unacknowledged")
    witness.open()
    for job_id in running + waiting:
        check_one_good_end(client, witness, job_id)
    eventually(lambda: active(client) == [], LONG)
    eventually(lambda: messages(client) == 0, LONG, "every message to be acknowledged")


def occupy(client: Client, witness: Witness, worker: WorkerProcess) -> tuple[list[str], list[str]]:
    """Give the worker five jobs that run and three more, which wait in it; return the ids of both."""
    running = client.submit_many(witness.spec(witness.held()) for _ in range(5))
    for handle in running:
        until(client, handle.id, JobState.RUNNING)
    waiting = client.submit_many(witness.spec("true") for _ in range(3))
    eventually(lambda: all(f"[{one.id}] received" in worker.log for one in waiting), LONG, "the jobs to be received")
    eventually(lambda: unacknowledged(client) == 3, LONG, "those that wait to be noted as unacknowledged")
    return [handle.id for handle in running], [handle.id for handle in waiting]


def test_all_connections_to_redis_are_cut_while_five_jobs_run_and_three_wait(
    jaas: Installation, client: Client, witness: Witness, worker: WorkerProcess, docker_api: docker.APIClient
) -> None:
    running = client.submit_many(witness.spec(witness.held()) for _ in range(5))
    for handle in running:
        until(client, handle.id, JobState.RUNNING)
    waiting = client.submit_many(witness.spec("true") for _ in range(3))
    eventually(lambda: unacknowledged(client) == 3, LONG, "the worker to have received all messages")
    containers = [container_of(docker_api, handle.id) for handle in running]
    pid, connected = worker.pid, worker.log.count("Connected to")
    with redis.Redis.from_url(jaas.redis_url) as scissors:
        for kind in ("normal", "pubsub"):
            scissors.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    eventually(lambda: worker.log.count("Connected to") > connected, LONG, "the worker to connect again")
    expected = sorted(handle.id for handle in running)
    eventually(lambda: active(client) == expected, LONG, lambda: f"each job once, not {active(client)}")
    assert [containers_of(docker_api, handle.id) for handle in running] == [[container] for container in containers]
    witness.open()
    for handle in running + waiting:
        check_one_good_end(client, witness, handle.id)
    eventually(lambda: active(client) == [], LONG)
    eventually(lambda: messages(client) == 0, LONG, "every message to be acknowledged")
    check_one_good_end(client, witness, client.submit(witness.spec("true")).id)
    assert worker.alive
    assert worker.pid == pid


def test_each_of_two_workers_gets_a_copy(jaas: Installation, client: Client, witness: Witness) -> None:
    spec = witness.spec(witness.held())
    handle = client.submit(spec)
    until(client, handle.id, JobState.RUNNING)
    second = jaas.worker().start()
    try:
        for _ in range(6):
            publish_many(client.app, [NewJob(handle.id, spec, client.queue)])
        eventually(lambda: messages(client) == 0, LONG, "the copies to be received")
        witness.open()
        check_one_good_end(client, witness, handle.id)
        eventually(lambda: active(client, 2) == [], LONG)
    finally:
        second.stop()


def test_the_same_job_submitted_twice_is_two_jobs(client: Client, witness: Witness) -> None:
    spec: JobSpec = witness.spec()
    first, second = client.submit_many([spec, spec])
    check_one_good_end(client, witness, first.id)
    check_one_good_end(client, witness, second.id)
    assert len(witness.starts()) == 2

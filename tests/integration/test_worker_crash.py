"""Workers that are killed, frozen or told to stop while they hold jobs: the containers never notice."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from jaas_submit import Cause, Client, JobSpec, JobState, LogStatus
from jaas_submit.model.result import JobResult
from tests.support.jobs import LONG, celery_result, container_of, containers_of, ended, label_node, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]

WORKER = {"lease": "4s", "reconcile_interval": "200ms", "republish_after": "1s"}

Hire = Callable[[], WorkerProcess]


@pytest.fixture
def hire(jaas: Installation) -> Iterator[Hire]:
    """Start a worker; all are ended after the test, so that none takes part in the next one."""
    hired: list[WorkerProcess] = []

    def start() -> WorkerProcess:
        # Asking the neighbours at the start takes a second.
        hired.append(jaas.worker())
        return hired[-1].start()

    yield start
    for worker in hired:
        worker.kill()


def talks(witness: Witness) -> JobSpec:
    """A job that says something before and after the test lets it go on, and ends with exit code 4."""
    return witness.spec(f"echo before; {witness.held()}; echo after; exit 4")


def check_ran_once(client: Client, witness: Witness, result: JobResult, container: str) -> None:
    """The job ran in this container, was started once, and everything it said was kept."""
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.EXIT, 4)
    assert (result.stdout, result.logs.status) == ("before\nafter\n", LogStatus.COMPLETE)
    (attempt,) = result.attempts
    assert attempt.container_id == container
    (start,) = witness.starts(result.job_id)
    assert container.startswith(start.split()[2])
    told = celery_result(result.job_id, app=client.app)
    assert told.state == "FAILURE"
    assert str(told.result) == result.sentence()


def test_a_worker_is_killed_while_a_container_runs_and_is_started_again(
    client: Client, witness: Witness, hire: Hire, docker_api: docker.APIClient
) -> None:
    worker = hire()
    handle = client.submit(talks(witness))
    until(client, handle.id, JobState.RUNNING)
    container = container_of(docker_api, handle.id)
    worker.kill()
    worker.start()
    eventually(lambda: handle.record().holder == worker.holder, LONG, "the worker to take over its former job")
    assert handle.state is JobState.RUNNING
    assert containers_of(docker_api, handle.id) == [container]
    witness.open()
    check_ran_once(client, witness, ended(client, handle.id), container)


def test_a_container_ends_while_no_worker_lives(
    client: Client, witness: Witness, hire: Hire, docker_api: docker.APIClient
) -> None:
    worker = hire()
    handle = client.submit(talks(witness))
    until(client, handle.id, JobState.RUNNING)
    container = container_of(docker_api, handle.id)
    worker.kill()
    witness.open()
    eventually(lambda: not containers_of(docker_api, handle.id), LONG, "the container to end")
    assert handle.state is JobState.RUNNING
    worker.start()
    check_ran_once(client, witness, ended(client, handle.id), container)


def test_a_second_worker_takes_over_the_jobs_of_a_killed_one(
    client: Client, witness: Witness, hire: Hire, docker_api: docker.APIClient
) -> None:
    handles = [client.submit(talks(witness)) for _ in range(3)]
    first = hire()
    for handle in handles:
        until(client, handle.id, JobState.RUNNING)
    containers = [container_of(docker_api, handle.id) for handle in handles]
    second = hire()
    first.kill()
    eventually(lambda: {h.record().holder for h in handles} == {second.holder}, LONG, "the second worker to take over")
    witness.open()
    for handle, container in zip(handles, containers, strict=True):
        check_ran_once(client, witness, ended(client, handle.id), container)


@pytest.fixture
def node_label(docker_api: docker.APIClient) -> Iterator[str]:
    """The name of a label of this test alone, which no node has until the test gives it to one."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    yield name
    label_node(docker_api, name, None)


def test_a_worker_is_killed_while_a_job_is_pending(
    client: Client, witness: Witness, hire: Hire, docker_api: docker.APIClient, node_label: str
) -> None:
    worker = hire()
    spec = talks(witness).model_copy(update={"constraints": (f"node.labels.{node_label}==yes",)})
    handle = client.submit(spec)
    eventually(lambda: "no suitable node" in handle.record().detail, LONG, "the job to be pending")
    worker.kill()
    worker.start()
    eventually(lambda: handle.record().holder == worker.holder, LONG, "the worker to take over its former job")
    assert handle.state is JobState.PENDING
    assert "no suitable node" in handle.record().detail
    label_node(docker_api, node_label, "yes")
    until(client, handle.id, JobState.RUNNING)
    container = container_of(docker_api, handle.id)
    witness.open()
    check_ran_once(client, witness, ended(client, handle.id), container)


def test_a_message_that_was_taken_by_a_worker_that_died_at_once_is_not_needed(
    jaas: Installation, client: Client, witness: Witness, hire: Hire
) -> None:
    handle = client.submit(witness.spec())
    # What a worker does that is killed between its pop and anything else.
    assert jaas.ledger.client.rpop(jaas.queue) is not None
    assert jaas.ledger.client.llen(jaas.queue) == 0
    hire()
    assert ended(client, handle.id).ok
    assert len(witness.starts()) == 1


def test_messages_lost_from_the_middle_of_a_queue_are_not_needed(
    jaas: Installation, client: Client, witness: Witness, hire: Hire
) -> None:
    handles = client.submit_many(witness.spec(witness.held()) for _ in range(4))
    # The queue's oldest message is its last entry.
    second: Any = jaas.ledger.client.lindex(jaas.queue, -2)
    assert handles[1].id.encode() in second
    assert jaas.ledger.client.lrem(jaas.queue, 1, second) == 1
    hire()
    for handle in handles:
        until(client, handle.id, JobState.RUNNING)
    witness.open()
    assert all(ended(client, handle.id).ok for handle in handles)
    assert sorted(start.split()[0] for start in witness.starts()) == sorted(handle.id for handle in handles)


def test_sigterm_hands_the_jobs_over_to_the_next_worker(
    client: Client, witness: Witness, hire: Hire, docker_api: docker.APIClient
) -> None:
    first = hire()
    handles = [client.submit(talks(witness)) for _ in range(3)]
    for handle in handles:
        until(client, handle.id, JobState.RUNNING)
    containers = [container_of(docker_api, handle.id) for handle in handles]
    second = hire()
    assert first.stop() == 0
    assert "released 3 jobs" in first.log
    eventually(lambda: {h.record().holder for h in handles} == {second.holder}, LONG, "the second worker to take over")
    for handle, container in zip(handles, containers, strict=True):
        assert containers_of(docker_api, handle.id) == [container]
    witness.open()
    for handle, container in zip(handles, containers, strict=True):
        check_ran_once(client, witness, ended(client, handle.id), container)


def test_after_sigterm_a_worker_that_is_started_later_goes_on(
    client: Client, witness: Witness, hire: Hire, docker_api: docker.APIClient
) -> None:
    worker = hire()
    handle = client.submit(talks(witness))
    until(client, handle.id, JobState.RUNNING)
    container = container_of(docker_api, handle.id)
    assert worker.stop() == 0
    assert (handle.state, handle.record().holder) == (JobState.RUNNING, "")
    assert containers_of(docker_api, handle.id) == [container]
    witness.open()
    hire()
    check_ran_once(client, witness, ended(client, handle.id), container)


def test_a_worker_that_was_frozen_beyond_its_lease_does_no_harm_when_it_wakes_up(
    client: Client, witness: Witness, hire: Hire, docker_api: docker.APIClient
) -> None:
    first = hire()
    handle = client.submit(talks(witness))
    until(client, handle.id, JobState.RUNNING)
    container = container_of(docker_api, handle.id)
    first.freeze()
    second = hire()
    eventually(lambda: handle.record().holder == second.holder, LONG, "the second worker to take over")
    witness.open("go")
    result = ended(client, handle.id)
    check_ran_once(client, witness, result, container)
    backend: Any = client.app.backend
    stored = backend.get(backend.get_key_for_task(handle.id))
    first.thaw()
    eventually(lambda: first.holder, LONG, "the first worker to be back")
    second.stop()
    # It has dropped what was taken from it, and works.
    another = client.submit(witness.spec("exit 5"))
    assert ended(client, another.id).exit_code == 5
    assert client.ledger.ownership.held_by(first.holder) == set()
    assert client.result(handle.id) == result
    assert backend.get(backend.get_key_for_task(handle.id)) == stored
    assert len(witness.starts(handle.id)) == 1


def test_a_job_cancelled_while_no_worker_lives_is_stopped_by_the_next_one(
    client: Client, witness: Witness, hire: Hire, docker_api: docker.APIClient
) -> None:
    worker = hire()
    handle = client.submit(talks(witness))
    until(client, handle.id, JobState.RUNNING)
    worker.kill()
    assert handle.cancel("changed my mind") is JobState.RUNNING
    worker.start()
    result = ended(client, handle.id)
    assert (result.state, result.reason) == (JobState.CANCELLED, "changed my mind")
    assert celery_result(handle.id, app=client.app).state == "REVOKED"
    assert containers_of(docker_api, handle.id) == []
    assert len(witness.starts()) == 1

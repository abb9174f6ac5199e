"""Every way in which a job can end that is not its own doing: somebody meddles with its service or container."""

from __future__ import annotations

from collections.abc import Callable

import docker
import pytest

from jaas_submit import Cause, Client, JobState
from jaas_submit.model.result import JobResult
from tests.support.jobs import LONG, celery_result, container_of, containers_of, docker_cli, ended, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

Meddle = Callable[[str, Installation, docker.APIClient], object]


def _kill(job_id: str, home: Installation, api: docker.APIClient) -> None:
    api.kill(container_of(api, job_id))


def _stop(job_id: str, home: Installation, api: docker.APIClient) -> None:
    api.stop(container_of(api, job_id), timeout=10)


def _remove_container(job_id: str, home: Installation, api: docker.APIClient) -> None:
    api.remove_container(container_of(api, job_id), force=True)


def _remove_service(job_id: str, home: Installation, api: docker.APIClient) -> None:
    docker_cli(home.engine_host, "service", "rm", f"jaas-{job_id}-1")


def _forbid_the_node(job_id: str, home: Installation, api: docker.APIClient) -> None:
    # What a drained node does to a task, too; this touches one service only.
    words = ("service", "update", "--detach", "--no-resolve-image", "--constraint-add", "node.labels.t-none==x")
    docker_cli(home.engine_host, *words, f"jaas-{job_id}-1")


def _scale_to_nothing(job_id: str, home: Installation, api: docker.APIClient) -> None:
    docker_cli(home.engine_host, "service", "scale", "--detach", f"jaas-{job_id}-1=0")


def _force_update(job_id: str, home: Installation, api: docker.APIClient) -> None:
    words = ("service", "update", "--detach", "--no-resolve-image", "--force")
    docker_cli(home.engine_host, *words, f"jaas-{job_id}-1")


def check_failed_everywhere(client: Client, result: JobResult, api: docker.APIClient) -> None:
    """The job failed for ledger, Celery and engine alike."""
    assert result.state is JobState.FAILED
    record = client.ledger.queries.get(result.job_id)
    assert (record.state, record.holder) == (JobState.FAILED, "")
    told = celery_result(result.job_id, app=client.app)
    assert told.state == "FAILURE"
    assert str(told.result) == result.sentence()
    eventually(lambda: not containers_of(api, result.job_id), LONG, "the container to be gone")


@pytest.mark.parametrize(
    ("meddle", "cause", "exit_code"),
    [
        pytest.param(_kill, Cause.EXIT, 137, id="docker kill"),
        pytest.param(_stop, Cause.EXIT, 143, id="docker stop"),
        pytest.param(_remove_service, Cause.REMOVED_OUTSIDE, 143, id="docker service rm"),
        pytest.param(_forbid_the_node, Cause.PREEMPTED, 143, id="docker service update --constraint-add"),
        pytest.param(_force_update, Cause.PREEMPTED, 143, id="docker service update --force"),
    ],
)
def test_a_running_job_that_somebody_else_ends(
    jaas: Installation,
    client: Client,
    witness: Witness,
    docker_api: docker.APIClient,
    meddle: Meddle,
    cause: Cause,
    exit_code: int | None,
) -> None:
    handle = client.submit(witness.spec("echo before; " + witness.held()))
    eventually(witness.starts, LONG)
    until(client, handle.id, JobState.RUNNING)
    meddle(handle.id, jaas, docker_api)
    result = ended(client, handle.id)
    assert result.cause is cause, result.sentence()
    check_failed_everywhere(client, result, docker_api)
    # Whether the container's end is seen before the swarm forgets a removed service's task is chance.
    if cause is Cause.REMOVED_OUTSIDE and result.exit_code is None:
        assert result.stdout == ""
    else:
        assert result.exit_code == exit_code
        assert cause is Cause.REMOVED_OUTSIDE or result.stdout == "before\n"


def test_a_running_job_whose_service_somebody_scales_to_nothing(
    jaas: Installation, client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    handle = client.submit(witness.spec(witness.held()))
    until(client, handle.id, JobState.RUNNING)
    _scale_to_nothing(handle.id, jaas, docker_api)
    result = ended(client, handle.id)
    # The swarm forgets the task as soon as its container has stopped; whether it is seen before that is luck.
    assert result.cause in {Cause.PREEMPTED, Cause.REMOVED_OUTSIDE}
    check_failed_everywhere(client, result, docker_api)
    assert len(witness.starts()) == 1


def test_a_container_that_somebody_removed(
    jaas: Installation, client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    handle = client.submit(witness.spec(witness.held()))
    eventually(witness.starts, LONG)
    _remove_container(handle.id, jaas, docker_api)
    result = ended(client, handle.id)
    check_failed_everywhere(client, result, docker_api)
    assert len(witness.starts()) == 1


@pytest.mark.parametrize(
    "meddle",
    [
        pytest.param(_remove_service, id="docker service rm"),
        pytest.param(_scale_to_nothing, id="docker service scale 0"),
    ],
)
def test_a_pending_job_whose_service_somebody_takes_away(
    jaas: Installation, client: Client, witness: Witness, docker_api: docker.APIClient, meddle: Meddle
) -> None:
    handle = client.submit(witness.spec(constraints=["node.labels.t-none==x"]))
    until(client, handle.id, JobState.PENDING)
    eventually(lambda: "no suitable node" in handle.record().detail, LONG)
    meddle(handle.id, jaas, docker_api)
    result = ended(client, handle.id)
    assert (result.cause, result.exit_code) == (Cause.REMOVED_OUTSIDE, None)
    check_failed_everywhere(client, result, docker_api)
    assert witness.starts() == []


def test_a_service_of_the_jobs_name_that_is_somebody_elses_is_left_alone(
    jaas: Installation, client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    task = docker.types.TaskTemplate(docker.types.ContainerSpec("jaas-test:latest", command=["sleep", "1000"]))
    job_id = "not-yours"
    theirs = docker_api.create_service(task, name=f"jaas-{job_id}-1")["ID"]
    try:
        client.app.send_task("jaas.run", kwargs={"spec": witness.spec().to_wire()}, task_id=job_id, queue=client.queue)
        eventually(lambda: client.ledger.queries.find([job_id]), LONG)
        result = ended(client, job_id)
        assert (result.state, result.cause) == (JobState.FAILED, Cause.LAUNCH)
        assert f"a service named jaas-{job_id}-1 exists" in result.reason
        assert docker_api.inspect_service(theirs)["Spec"]["Labels"] == {}
        assert witness.starts() == []
    finally:
        docker_api.remove_service(theirs)

"""What Flower, as it is, shows of jobs over its HTTP API, and its Terminate."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from jaas_submit import Cause, Client, JobResult, JobState
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from tests.support.jobs import LONG, celery_result, containers_of, ended, until
from tests.support.ports import free_port
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation, WorkerProcess, clean_env, exceptions_in

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

# As it is by default: services are removed a moment after their end.
WORKER = {"remove_delay": "2s"}


class Flower:
    """A Flower of this module, without any password.

    Args:
        home: whose jobs it shows.
    """

    def __init__(self, home: Installation) -> None:
        self._log = home.folder / "flower.log"
        self.port = free_port()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", f"--broker={home.redis_url}"),
                    *("flower", "--address=127.0.0.1", f"--port={self.port}"),
                ],
                cwd=home.folder,
                env=clean_env(FLOWER_UNAUTHENTICATED_API="true"),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self._sees_a_worker, 120, lambda: f"Flower to see the worker: {self.log}")

    @property
    def log(self) -> str:
        return self._log.read_text()

    def _sees_a_worker(self) -> bool:
        assert self._process.poll() is None, self.log
        try:
            return bool(self.ask("GET", "/api/workers"))
        except OSError:  # not listening yet, or busy with its start
            return False

    def ask(self, method: str, path: str) -> Any:
        """Return what the API answers; None for "not found"."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def task(self, job_id: str) -> dict[str, Any]:
        """Return what is shown of a job; empty as long as Flower knows nothing of it."""
        return self.ask("GET", f"/api/task/info/{job_id}") or {}

    def shows(self, job_id: str, state: str) -> dict[str, Any]:
        """Wait until a job is shown in a state, and return all that is shown."""
        told = eventually(
            lambda: (found := self.task(job_id)).get("state") == state and found,
            LONG,
            lambda: f"Flower to show {state}, not {self.task(job_id)}",
        )
        assert isinstance(told, dict)
        return told

    def tells_how_it_ended(self, job_id: str, state: str, result: JobResult) -> None:
        """Wait until a job is shown in a state with the sentence about its end."""
        wanted = result.sentence(named=False)
        eventually(lambda: self.task(job_id).get("result") == wanted, LONG, lambda: f"{self.task(job_id)}")
        assert self.task(job_id)["state"] == state

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture(scope="module")
def flower(jaas: Installation, worker: object) -> Iterator[Flower]:
    made = Flower(jaas)
    yield made
    made.stop()
    assert not exceptions_in(made.log), made.log


def test_a_running_job_is_started_and_says_where_it_runs(flower: Flower, client: Client, witness: Witness) -> None:
    secret = "not-to-be-shown"
    spec = witness.spec(f"echo hello; {witness.held()}", name="nightly", env={"TOKEN": secret})
    handle = client.submit(spec)
    until(client, handle.id, JobState.RUNNING)
    node = handle.record().node
    running = f"running on {node}, attempt 1, service jaas-{handle.id}-1"
    eventually(lambda: flower.task(handle.id).get("result") == running, LONG, lambda: f"{flower.task(handle.id)}")
    shown = flower.task(handle.id)
    assert (shown["state"], shown["name"]) == ("STARTED", "jaas.run")
    assert "nightly: jaas-test:latest" in shown["kwargs"]
    assert "TOKEN" in shown["kwargs"]
    assert shown["runtime"] is None
    witness.open()
    result = ended(client, handle.id)
    shown = flower.shows(handle.id, "SUCCESS")
    assert shown["runtime"] == result.duration
    assert shown["result"] == result.sentence(named=False)
    assert secret not in json.dumps(shown)
    assert secret not in json.dumps(flower.ask("GET", "/api/tasks"))


def test_a_failed_job_shows_exit_code_and_reason(flower: Flower, client: Client, witness: Witness) -> None:
    result = ended(client, client.submit(witness.spec("exit 4")).id)
    shown = flower.shows(result.job_id, "FAILURE")
    assert result.sentence() in shown["exception"]
    assert shown["result"] == result.sentence(named=False)
    assert "exit code 4" in shown["result"]


def test_a_job_that_was_refused_is_a_failure(flower: Flower, client: Client) -> None:
    told = client.app.send_task("jaas.run", kwargs={"spec": {"image": ""}}, queue=client.queue)
    shown = flower.shows(told.id, "FAILURE")
    assert "image: must not be empty" in shown["exception"]


def test_flowers_terminate_stops_the_container(
    flower: Flower, client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    handle = client.submit(witness.spec(witness.held()))
    until(client, handle.id, JobState.RUNNING)
    flower.shows(handle.id, "STARTED")
    answer = flower.ask("POST", f"/api/task/revoke/{handle.id}?terminate=true")
    assert handle.id in answer["message"]
    result = ended(client, handle.id)
    assert (result.state, result.cause) == (JobState.CANCELLED, Cause.CANCELLED)
    assert celery_result(handle.id, app=client.app).state == "REVOKED"
    flower.tells_how_it_ended(handle.id, "REVOKED", result)
    assert containers_of(docker_api, handle.id) == []
    assert len(witness.starts()) == 1


def test_a_job_cancelled_by_its_producer_is_shown_as_revoked(flower: Flower, client: Client, witness: Witness) -> None:
    handle = client.submit(witness.spec(witness.held()))
    until(client, handle.id, JobState.RUNNING)
    handle.cancel()
    flower.tells_how_it_ended(handle.id, "REVOKED", ended(client, handle.id))


def test_flowers_revoke_ends_a_job_that_waits_for_its_next_attempt(
    flower: Flower, client: Client, witness: Witness
) -> None:
    tomorrow = RetryPolicy(max_attempts=2, backoff=Backoff(kind="constant", delay=86400, jitter="none"))
    handle = client.submit(witness.spec("exit 4", retry=tomorrow))
    assert "attempt 1 ended (exit code 4" in flower.shows(handle.id, "RETRY")["result"]
    flower.ask("POST", f"/api/task/revoke/{handle.id}")
    result = ended(client, handle.id)
    assert (result.state, result.reason) == (JobState.CANCELLED, "revoked through Celery")
    flower.tells_how_it_ended(handle.id, "REVOKED", result)
    assert len(witness.starts()) == 1


def test_the_jobs_that_run_are_listed_with_their_worker(
    flower: Flower, client: Client, witness: Witness, worker: WorkerProcess
) -> None:
    batch = client.map(witness.spec(witness.held()), ["a", "b", "c"])
    handles = [batch.job(index) for index in range(3)]
    for index, handle in enumerate(handles):
        assert flower.shows(handle.id, "STARTED")["kwargs"].endswith(f", index {index} of batch {batch.id})")
    listed = flower.ask("GET", "/api/tasks?state=STARTED")
    assert set(listed) == {handle.id for handle in handles}
    assert {task["worker"].partition("@")[0] for task in listed.values()} == {worker.name}
    witness.open()
    for handle in handles:
        assert ended(client, handle.id).ok
        flower.shows(handle.id, "SUCCESS")

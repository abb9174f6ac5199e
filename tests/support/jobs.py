"""Small words for tests that run jobs on a real swarm."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

import celery
import docker
from celery.result import AsyncResult

from jaas_submit import Client, JobSpec, JobState
from jaas_submit.model.result import JobResult
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation, clean_env

__all__ = [
    "BURN",
    "LONG",
    "celery_result",
    "container_of",
    "containers_of",
    "docker_cli",
    "ended",
    "jaas_logs",
    "label_node",
    "run",
    "seconds_in",
    "shell",
    "until",
]

LONG = 60.0
"""Seconds to wait for something that takes one or two: only a failure waits so long."""


BURN = "i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); done; times"
"""Some seconds of processor time; the shell says how many (``seconds_in``)."""


def seconds_in(times: str) -> float:
    """Return what the shell's `times` says of itself and its children."""
    return sum(60 * int(minutes) + float(rest) for minutes, rest in re.findall(r"(\d+)m([\d.]+)s", times))


def shell(text: str, **fields: Any) -> JobSpec:
    """Return a job that runs a piece of shell."""
    return JobSpec(image=TEST_IMAGE, command=["sh", "-c", text], **fields)


def run(client: Client, spec: JobSpec) -> JobResult:
    """Run a job to its end, however it ends."""
    return client.submit(spec).wait(LONG, check=False)


def until(client: Client, job_id: str, *states: JobState) -> None:
    """Wait until a job is in one of these states."""
    seen = []
    for change in client.handle(job_id, lazy=True).follow(LONG):
        if change.state in states:
            return
        seen.append(str(change.state))
    raise AssertionError(f"never {states}, but {seen}: {client.result(job_id).sentence()}")


def ended(client: Client, job_id: str) -> JobResult:
    """Return how a job ended, when Celery knows it too and nobody has to look after the job any more."""
    result = client.handle(job_id, lazy=True).wait(LONG, check=False)
    eventually(lambda: client.ledger.queries.get(job_id).reported, LONG, f"job {job_id} to be reported to Celery")
    return result


def celery_result(task_id: str, app: celery.Celery) -> Any:
    """Return Celery's `AsyncResult`; without a type, for celery-types knows neither its REVOKED nor what is in it."""
    return AsyncResult(task_id, app=app)


def containers_of(api: docker.APIClient, job_id: str) -> list[str]:
    """Return the ids of a job's containers that run now."""
    return [str(item["Id"]) for item in api.containers(filters={"label": [f"jaas.job={job_id}"]})]


def container_of(api: docker.APIClient, job_id: str) -> str:
    """Return the id of the one container that runs for a job, as soon as the engine says that it runs."""
    (found,) = eventually(lambda: containers_of(api, job_id), LONG, f"a container of job {job_id}")
    return found


def docker_cli(host: str, *words: str) -> str:
    """Run Docker's own command line and return what it prints."""
    done = subprocess.run(
        ["/usr/bin/docker", *words],
        env=clean_env(DOCKER_HOST=host),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def label_node(api: docker.APIClient, name: str, value: str | None) -> None:
    """Give the engine's own node a label; None takes it away."""

    def done() -> bool:
        node = api.inspect_node(api.info()["Swarm"]["NodeID"])
        labels = {**(node["Spec"].get("Labels") or {}), name: value}
        spec: Any = {**node["Spec"], "Labels": {key: text for key, text in labels.items() if text is not None}}
        try:
            api.update_node(node["ID"], node["Version"]["Index"], spec)
        except docker.errors.APIError as error:
            if "out of sequence" not in str(error):  # else somebody else changed the node meanwhile
                raise
            return False
        return True

    eventually(done, 30, "the node to be labelled")


@contextlib.contextmanager
def jaas_logs(home: Installation, job_id: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Run `jaas logs -f`; yield the process and what it prints on standard output."""
    command = [sys.executable, "-m", "jaas_submit.cli.main", "logs", "-f", job_id]
    with subprocess.Popen(command, env=home.environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()

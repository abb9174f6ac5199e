"""What people use instead, each as a program: ``python -m benchmarks.contestants NAME ENGINE JOBS PARALLEL [MORE]``.

Each runs the same jobs, so many at a time, and prints a line "SERVICE SECONDS" when it knows how a job ended (seconds
since the epoch). What each does is what its users have: none is tuned, none is crippled.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bare import SPEC

__all__ = ["AIRFLOW", "CONTESTANTS", "SHELL"]

SHELL = r"""
name=$1
docker service create --detach --quiet --no-resolve-image --restart-condition none --name "$name" \
    "$IMAGE" sh -c 'echo done' >/dev/null
while :; do
    case $(docker service ps --format '{{.CurrentState}}' "$name") in Complete* | Failed* | Rejected*) break ;; esac
    sleep 0.5
done
docker service logs --raw "$name" >/dev/null 2>&1
echo "$name $(date +%s.%N)"
docker service rm "$name" >/dev/null
"""
"""A job in shell: create, poll each half second, read the output, remove."""

AIRFLOW = r"""
import os, sys, time, logging, multiprocessing
results = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the operator logs to standard output, whatever logging is told
from airflow.providers.docker.operators.docker_swarm import DockerSwarmOperator
logging.disable(logging.CRITICAL)

def run(number):
    name = f"{prefix}-{number}"
    operator = DockerSwarmOperator(
        task_id="t", image=image, command=["sh", "-c", "echo done"], docker_url=engine, api_version="auto",
        auto_remove="success", enable_logging=False, mount_tmp_dir=False, container_name=name,
    )
    operator.execute({})
    print(operator.service["ID"], time.time(), file=results, flush=True)

engine, jobs, parallel, image, prefix = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(parallel) as pool:
        pool.map(run, range(jobs), chunksize=1)
"""
"""Airflow's operator, which polls without a pause, in so many processes; its scheduler would come on top."""


def _each(jobs: int, parallel: int, run: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(parallel) as threads:
        for done in [threads.submit(run, number) for number in range(jobs)]:
            done.result()


def _print(service: str) -> None:
    sys.stdout.write(f"{service} {time.time():.6f}\n")
    sys.stdout.flush()


def _shell(engine: str, jobs: int, parallel: int) -> None:
    prefix = f"bs-{uuid.uuid4().hex[:8]}"
    names = "".join(f"{prefix}-{number}\n" for number in range(jobs))
    subprocess.run(
        ["xargs", "-P", str(parallel), "-n", "1", "sh", "-c", SHELL, "sh"],
        input=names,
        text=True,
        check=True,
        env={**os.environ, "DOCKER_HOST": engine, "IMAGE": SPEC.image},
    )


def _celery(engine: str, jobs: int, parallel: int, url: str) -> None:
    """The producer's part; the worker of ``benchmarks.naive`` runs beside it."""
    from benchmarks.naive import TASK, create_app

    app = create_app(url)
    arguments = [engine, SPEC.image, list(SPEC.command or ())]

    def run(_: int) -> None:
        _print(app.send_task(TASK, args=arguments).get(timeout=600))

    _each(jobs, parallel, run)


def _jaas(_: str, jobs: int, parallel: int, url: str, prefix: str) -> None:
    """The producer's part; a worker runs beside it."""
    from jaas_submit import Client
    from jaas_submit.model.wire_names import service_name

    with Client(url, queue=prefix, prefix=prefix) as client:

        def run(_: int) -> None:
            handle = client.submit(SPEC)
            handle.wait(600)
            _print(service_name(handle.id, 1))

        _each(jobs, parallel, run)


def _go_jaas(engine: str, jobs: int, parallel: int, program: str) -> None:
    # It splits a command at each blank, and knows no quotes: a tab keeps what is the shell's in one piece.
    assert SPEC.command
    line = " ".join(word.replace(" ", "\t") for word in SPEC.command)
    command = [program, "run", "--image", SPEC.image, "--command", line]

    def run(_: int) -> None:
        done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "DOCKER_HOST": engine})
        found = re.search(rb"^ID: +(\w+)", done.stdout, re.MULTILINE)
        assert found, done.stdout
        _print(found[1].decode())

    _each(jobs, parallel, run)


CONTESTANTS: dict[str, Callable[..., None]] = {
    "shell": _shell,
    "celery": _celery,
    "jaas": _jaas,
    "go-jaas": _go_jaas,
}


if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])

"""Files in: what a container finds, as swarm configs and from the store, in each attempt and in each job of a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from jaas_submit import Client, JobState
from tests.support.jobs import LONG, shell, until
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

WORKER = {"policy": "baseline", "lease": "2s"}
"""A level that allows no binds: what jaas adds itself is not the job's."""

LARGE = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    (made / "data.bin").write_bytes(bytes(range(256)) * 1000)
    (made / "run.sh").write_text('#!/bin/sh\necho "ran with $1"\n')
    (made / "run.sh").chmod(0o700)
    (made / "large").write_bytes(b"\0\1\2\3" * (LARGE // 4))
    (made / "empty").touch()
    return made


@pytest.fixture(scope="module")
def worker(jaas: Installation, folder: Path) -> WorkerProcess:
    return jaas.worker(store_url=f"file://{folder}/store").start()


@pytest.fixture(scope="module")
def client(jaas: Installation, folder: Path) -> Iterator[Client]:
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix, store=f"file://{folder}/store") as made:
        yield made


def configs_of(jaas: Installation, api: docker.APIClient) -> list[str]:
    """Return the ids of the swarm's configs with files of this installation."""
    found = api.configs(filters={"label": [f"jaas.prefix={jaas.prefix}"]})
    return [one["ID"] for one in found if "jaas.file" in one["Spec"]["Labels"]]


@pytest.fixture(autouse=True, scope="module")
def _no_config_left(jaas: Installation, _engine: str) -> Iterator[None]:
    yield
    api = docker.APIClient(base_url=_engine, version="auto")
    for one in configs_of(jaas, api):
        api.remove_config(one)
    api.close()


def test_a_container_finds_small_files_with_their_content_and_permissions(client: Client, folder: Path) -> None:
    files = {"data.bin": folder / "data.bin", "sub/run.sh": folder / "run.sh", "/etc/mine.conf": folder / "run.sh"}
    text = (
        'cd "$JAAS_FILES" && pwd && sha256sum < data.bin && ./sub/run.sh it && cat /etc/mine.conf | wc -c && '
        "stat -c '%a %u %g' data.bin sub/run.sh; echo x > data.bin || echo read-only"
    )
    printed = client.submit(shell(text, output="text", user="1000:1000"), files=files).wait(LONG).output
    digest = hashlib.sha256((folder / "data.bin").read_bytes()).hexdigest()
    size = (folder / "run.sh").stat().st_size
    assert printed.splitlines() == [
        "/run/jaas/files",
        f"{digest}  -",
        "ran with it",
        str(size),
        *("444 0 0", "555 0 0"),
        "read-only",
    ]


def test_large_and_empty_files_are_mounted_from_the_store_for_reading(client: Client, folder: Path) -> None:
    files = {name: folder / name for name in ("large", "empty", "data.bin")}
    text = 'cd "$JAAS_FILES"; sha256sum < large; test -f empty && wc -c < empty; echo x 2>&- > large || echo read-only'
    handle = client.submit(shell(text, output="text"), files=files)
    digest = hashlib.sha256((folder / "large").read_bytes()).hexdigest()
    assert handle.wait(LONG).output.splitlines() == [f"{digest}  -", "0", "read-only"]
    again = client.replay(handle.id).wait(LONG).output.splitlines()
    assert again[0] == f"{digest}  -"


def test_each_attempt_and_each_job_of_a_batch_finds_them_in_one_config(
    client: Client, folder: Path, jaas: Installation, docker_api: docker.APIClient
) -> None:
    (folder / "shared").write_text("shared\n")
    before = set(configs_of(jaas, docker_api))
    spec = shell('cat "$JAAS_FILES/shared"; [ "$JAAS_ATTEMPT" = 2 ] && echo {index}', output="text")
    spec = spec.changed(
        {"files": {"shared": str(folder / "shared")}, "retry": {"max_attempts": 2, "backoff": {"delay": 0}}}
    )
    batch = client.map(spec, range(3))
    (folder / "shared").unlink()
    assert [one.output for one in batch.results(ordered=True, timeout=LONG)] == [f"shared\n{n}\n" for n in range(3)]
    (made,) = set(configs_of(jaas, docker_api)) - before
    eventually(lambda: not jaas.services(), LONG, "the services to be removed")
    docker_api.remove_config(made)  # as a person may
    again = client.replay(client.batch(batch.id).job(0).id).wait(LONG)
    assert again.output == "shared\n0\n"


def test_a_worker_that_takes_the_job_over_knows_what_jaas_has_added(
    client: Client, folder: Path, jaas: Installation, worker: WorkerProcess
) -> None:
    files = {"run.sh": folder / "run.sh", "large": folder / "large"}
    handle = client.submit(shell('sleep 3; sh "$JAAS_FILES/run.sh" on', output="text"), files=files)
    until(client, handle.id, JobState.RUNNING)
    worker.kill()
    worker.start()
    assert handle.wait(LONG).output == "ran with on\n"


def test_what_is_not_kept_any_more_fails_the_job_with_the_reason(client: Client, folder: Path) -> None:
    (folder / "gone").write_text("gone\n")
    handle = client.submit(
        shell("true"), files={"gone": folder / "gone"}, not_before=1.0
    )  # so that no worker reads it before it is gone
    digest = hashlib.sha256(b"gone\n").hexdigest()
    client.ledger.client.delete(f"{client.ledger.prefix}:sent:{digest}")
    result = handle.wait(LONG, check=False)
    assert result.state is JobState.FAILED
    assert "files.gone: its content is not kept any more; submit the job again" in result.reason

"""Files out of containers: taken by the agent of their node, stored by the worker, fetched by the producer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaas_submit import Cause, Client, JobState, SpecError
from jaas_submit.model.logs import LogStatus
from tests.support.jobs import LONG, shell
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

MIB = 1024 * 1024

TREE = """
mkdir -p /out/sub /secret && cd /out && echo secret > /secret/s
echo one > a.pdf; head -c 700000 /dev/urandom > sub/b.pdf; : > 'odd name.pdf'; echo no > c.txt
ln -s /secret/s link.pdf; ln a.pdf zz-hard.pdf; mknod dev.pdf c 1 3; mkfifo pipe.pdf
sha256sum sub/b.pdf
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def worker(jaas: Installation, folder: Path) -> WorkerProcess:
    return jaas.worker(store_url=f"file://{folder}", files_limit="20M").start()


@pytest.fixture(scope="module")
def client(jaas: Installation, folder: Path, worker: WorkerProcess) -> Iterator[Client]:
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix, store=f"file://{folder}") as made:
        eventually(lambda: made.ledger.client.zcard(f"{jaas.prefix}:agents"), LONG, lambda: "the agent's lease")
        yield made


def test_plain_files_come_out_and_nothing_else(client: Client, tmp_path: Path) -> None:
    handle = client.submit(shell(TREE, output="text", outputs=["/out/**/*.pdf", "/nowhere/*.csv"], cap_add=["MKNOD"]))
    result = handle.wait(LONG)
    found = result.outputs
    assert found is not None
    assert {file.name for file in found.files} == {"out/a.pdf", "out/sub/b.pdf", "out/odd name.pdf"}
    assert found.status is LogStatus.PARTIAL
    parts = found.reason.split("; ")
    assert parts[:3] == [
        "nothing matches /nowhere/*.csv",
        "out/dev.pdf is a device",
        "out/link.pdf is a symbolic link, which is not followed",
    ]
    assert parts[-1] == "1 other file left out", "a named pipe or a hard link"
    paths = handle.download(tmp_path / "to")
    assert sorted(str(path.relative_to(tmp_path)) for path in paths) == [
        "to/out/a.pdf",
        "to/out/odd name.pdf",
        "to/out/sub/b.pdf",
    ]
    assert (tmp_path / "to/out/a.pdf").read_text() == "one\n"
    digest = hashlib.sha256((tmp_path / "to/out/sub/b.pdf").read_bytes()).hexdigest()
    assert result.output.split()[0] == digest


def test_files_of_a_job_that_fails_are_there_too_and_missing_ones_fail_it_only_if_asked(client: Client) -> None:
    failed = client.submit(shell("echo 1 > /tmp/report; exit 3", outputs=["/tmp/report"])).wait(LONG, check=False)
    assert (failed.exit_code, failed.outputs and [file.size for file in failed.outputs.files]) == (3, [2])
    missing = client.submit(shell("true", outputs=["/tmp/report"])).wait(LONG)
    assert missing.outputs is not None
    assert (missing.state, missing.outputs.status) == (JobState.SUCCEEDED, LogStatus.PARTIAL)
    required = client.submit(shell("true", outputs=["/tmp/report"], require_outputs=True)).wait(LONG, check=False)
    assert (required.state, required.cause) == (JobState.FAILED, Cause.OUTPUT)
    assert "nothing matches /tmp/report" in required.reason


def test_a_file_that_does_not_fit_stays_behind(client: Client, tmp_path: Path) -> None:
    script = "mkdir /out; cd /out; head -c 15000000 /dev/zero > 1; head -c 30000000 /dev/zero > 2; echo end > 3"
    handle = client.submit(shell(script, outputs=["/out"]))
    found = handle.wait(LONG).outputs
    assert found is not None
    assert {file.name: file.size for file in found.files} == {"out/1": 15_000_000, "out/3": 4}
    assert "out/2 has 30,000,000 bytes, more than is left of the 20,971,520 allowed" in found.reason
    handle.download(tmp_path)
    assert (tmp_path / "out/1").read_bytes() == bytes(15_000_000)


def test_files_are_refused_before_anything_is_enqueued_where_nobody_could_hand_them_out(
    jaas: Installation, folder: Path
) -> None:
    spec = shell("true", outputs=["/tmp/x"])
    without = Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix, store="")
    with without, pytest.raises(SpecError, match="JAAS_STORE_URL"):
        without.submit(spec)
    with Client(jaas.redis_url, queue=jaas.queue, prefix=f"{jaas.prefix}x", store=f"file://{folder}") as lonely:
        with pytest.raises(SpecError, match="no node has an agent"):
            lonely.submit(spec)
        with pytest.raises(SpecError, match="no node has an agent"):
            lonely.map(spec, [1])
        assert lonely.ledger.client.keys(f"{jaas.prefix}x:job:*") == []


def test_a_worker_that_dies_while_it_copies_is_followed_by_another(
    jaas: Installation, folder: Path, worker: WorkerProcess, client: Client, tmp_path: Path
) -> None:
    handle = client.submit(
        shell("mkdir /out; for n in 1 2 3; do head -c 5000000 /dev/urandom > /out/$n; done", outputs=["/out"])
    )
    pieces = f"{jaas.prefix}:files:{handle.id}:1"
    eventually(lambda: client.ledger.client.hget(pieces, "stored"), LONG, lambda: "pieces to be stored")
    worker.kill()
    worker.start()
    found = handle.wait(LONG).outputs
    assert found is not None
    assert (found.status, found.reason, len(found.files)) == (LogStatus.COMPLETE, "", 3)
    assert len(handle.download(tmp_path)) == 3
    assert client.ledger.client.keys(f"{jaas.prefix}:files:*") == []

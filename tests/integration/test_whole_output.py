"""The whole output of an attempt, in the store where the record has only head and tail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaas_submit import Client
from jaas_submit.model.logs import LogStatus
from tests.support.jobs import LONG, shell
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

MANY = "seq 6000 | tee /tmp/out; echo oops >&2; sha256sum < /tmp/out"
"""28,893 bytes of lines, and their digest as the last one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def worker(jaas: Installation, folder: Path) -> WorkerProcess:
    return jaas.worker(store_url=f"file://{folder}", log_limit="4K", stored_log_limit="64K").start()


@pytest.fixture(scope="module")
def client(jaas: Installation, folder: Path, worker: WorkerProcess) -> Iterator[Client]:
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix, store=f"file://{folder}") as made:
        eventually(lambda: made.ledger.client.zcard(f"{jaas.prefix}:agents"), LONG, lambda: "the agent's lease")
        yield made


def test_every_byte_is_there_and_goes_with_the_record(client: Client, folder: Path, jaas: Installation) -> None:
    handle = client.submit(shell(MANY))
    result = handle.wait(LONG)
    assert result.logs.status is LogStatus.TRUNCATED, "what goes into the result is head and tail"
    logs = handle.logs()
    assert (logs.status, logs.gaps, logs.reason) == (LogStatus.COMPLETE, (), "")
    *lines, digest = logs.stdout.splitlines(keepends=True)
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == digest.split()[0]
    assert logs.stderr == "oops\n"
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix, store="") as without:
        assert without.handle(handle.id).logs().status is LogStatus.TRUNCATED
    place = folder / jaas.prefix / handle.id
    assert [path.name for path in place.iterdir()] == ["logs-1.z"]
    (place / "logs-1.z").write_bytes((place / "logs-1.z").read_bytes()[:-100])  # a worker died while it wrote it
    assert handle.logs().status is LogStatus.TRUNCATED
    eventually(lambda: client.ledger.queries.get(handle.id).reported, 20, "the job to be reported")
    client.ledger.client.delete(f"{jaas.prefix}:job:{handle.id}")  # as when its time is over
    eventually(lambda: not place.exists(), 45, lambda: f"{place} to be removed")


def test_what_is_beyond_the_limit_is_counted_and_the_end_is_there(client: Client) -> None:
    handle = client.submit(shell("head -c 150000 /dev/urandom | base64 | head -c 200000; echo; echo end"))
    handle.wait(LONG)
    logs = handle.logs()
    assert logs.status is LogStatus.TRUNCATED
    (gap,) = logs.gaps
    assert len(logs.stdout_bytes) + gap.missing == 200_005
    assert gap.missing == 200_005 - 64 * 1024 - 2048
    assert logs.stdout_bytes.endswith(b"end\n")


def test_an_output_that_fits_into_the_record_is_not_stored(client: Client, folder: Path, jaas: Installation) -> None:
    handle = client.submit(shell("echo short"))
    handle.wait(LONG)
    assert handle.logs().stdout == "short\n"
    assert not (folder / jaas.prefix / handle.id).exists()

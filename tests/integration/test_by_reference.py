"""Values that are too large for Redis or for a swarm config, through a folder that all share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaas_submit import Cause, Client
from jaas_submit.ledger import Ledger
from jaas_submit.model.job_spec import MAX_SPEC_BYTES
from tests.support.jobs import LONG, shell
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

PRINT = "head -c {item} /dev/zero | tr '\\0' x | sed 's/.*/\"&\"/'"
"""A text of as many letters, as JSON."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def worker(jaas: Installation, folder: Path) -> WorkerProcess:
    return jaas.worker(store_url=f"file://{folder}").start()


@pytest.fixture(scope="module")
def client(jaas: Installation, folder: Path) -> Iterator[Client]:
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix, store=f"file://{folder}") as made:
        yield made


def test_large_inputs_are_mounted_and_large_outputs_are_fetched(client: Client, folder: Path) -> None:
    text = "x" * (2 * MAX_SPEC_BYTES)
    checked = client.submit(shell('sha256sum < "$JAAS_INPUT"', output="text"), input=text)
    printed = client.submit(shell(PRINT.replace("{item}", "200000"), output="json"))
    assert checked.wait(LONG).output.split()[0] == hashlib.sha256(json.dumps(text).encode()).hexdigest()
    output = printed.wait(LONG).output
    assert output == {
        "$ref": f"file://{folder}/{client.ledger.prefix}/{printed.id}/output-1.json",
        "bytes": 200_002,
        "sig": output["sig"],
    }
    assert client.fetch(output) == "x" * 200_000


def test_what_only_looks_like_a_reference_stays_a_value(client: Client, folder: Path) -> None:
    handle = client.submit(shell(PRINT.replace("{item}", "70000"), output="json"))
    real = handle.wait(LONG).output
    forged = {"$ref": real["$ref"], "bytes": real["bytes"], "sig": "0" * 64}
    printed = client.submit(shell(f"echo '{json.dumps(forged)}'", output="json")).wait(LONG).output
    assert printed == forged
    assert client.fetch(printed) == forged
    read = client.submit(shell('cat "$JAAS_INPUT"', output="json"), input=forged).wait(LONG).output
    assert read == forged
    followed = client.submit(shell('wc -c < "$JAAS_INPUT"', output="json"), input=real).wait(LONG).output
    assert followed == real["bytes"]


def test_a_reduce_reads_more_than_a_config_takes(client: Client) -> None:
    """Twelve outputs of 100 KB, which stand in no record, in one file of 1.2 MB."""
    made = client.map_reduce(
        shell(PRINT, output="json"), [100_000] * 12, shell('wc -lc < "$JAAS_INPUT"', output="text")
    )
    lines, size = map(int, made.wait(LONG).output.split())
    assert lines == 12
    assert size > 12 * 100_000
    assert sum(client.fetch(result.output).count("x") for result in made.maps.results()) == 12 * 100_000


def test_items_of_a_map_may_be_large(client: Client) -> None:
    items = ["a" * 100_000, "b" * 10, "c" * 700_000]
    batch = client.map(shell('wc -c < "$JAAS_INPUT"', output="json"), items)
    assert [result.output for result in batch.results(ordered=True, timeout=LONG)] == [100_002, 12, 700_002]


def test_an_output_beyond_the_log_limit_says_so(client: Client) -> None:
    result = client.submit(shell(PRINT.replace("{item}", "2000000"), output="json")).wait(LONG, check=False)
    assert result.cause is Cause.OUTPUT
    assert "of stdout cut" in result.reason


def test_files_go_with_the_records(client: Client, folder: Path, jaas: Installation) -> None:
    handle = client.submit(shell(PRINT.replace("{item}", "70000"), output="json"))
    handle.wait(LONG)
    eventually(lambda: client.ledger.queries.get(handle.id).reported, 20, "the job to be reported")
    place = folder / jaas.prefix / handle.id
    assert place.is_dir()
    client.ledger.client.delete(f"{jaas.prefix}:job:{handle.id}")  # as when its time is over
    # The sweep may have come just now.
    assert handle.id in Ledger(client.ledger.client, jaas.prefix).maintenance.expired() or not place.exists()
    # The sweep comes every 30 seconds.
    eventually(lambda: not place.exists(), 45, lambda: f"{place} to be removed")

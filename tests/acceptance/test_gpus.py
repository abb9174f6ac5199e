"""Generic resources that the nodes' engines declare: who gets them, who waits for them, and what is said of that."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jaas_submit import Client, JobHandle, JobState
from tests.acceptance.conftest import LabNodes, one_worker
from tests.support.jobs import LONG, run, shell, until
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.lab, pytest.mark.redis, pytest.mark.timeout(300)]

HERE = ["node.hostname==node1"]
"""One node, which has two GPUs (scripts/lab)."""


@pytest.fixture(scope="module")
def jaas(lab: LabNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with one_worker(lab.hosts[0], tmp_path_factory) as made:
        yield made


def jaas_cli(home: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jaas_submit.cli.main", *words],
        env=home.environment(),
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


def test_two_jobs_share_two_gpus_and_the_third_waits_and_says_why(
    jaas: Installation, client: Client, witness: Witness
) -> None:
    text = "env | grep ^DOCKER_RESOURCE; " + witness.held()

    def submit() -> JobHandle:
        return client.submit(witness.spec(text, generic_resources={"gpu": 1}, constraints=HERE))

    first = [submit(), submit()]
    for handle in first:
        until(client, handle.id, JobState.RUNNING)
    third = submit()
    until(client, third.id, JobState.PENDING)
    eventually(lambda: "insufficient resources" in third.record().detail, LONG)
    # The worker tells the nodes' resources again and again.
    eventually(lambda: "1 gpu wanted, 0 of 2 free" in str(client.explain(third.id)), 2 * LONG)
    said = str(client.explain(third.id))
    assert "insufficient generic resources on 1 node" in said

    asked = jaas_cli(jaas, "run", "--dry-run", "--json", "--gpus", "1", "-c", HERE[0], TEST_IMAGE)
    told = {node["hostname"]: node for node in json.loads(asked.stdout)["nodes"]}
    assert asked.returncode == 1
    assert (told["node1"]["fits"], told["node1"]["free_generic"]) == (False, {"gpu": 0})

    witness.open()
    got = {handle.wait(LONG).stdout for handle in first}
    assert got == {"DOCKER_RESOURCE_GPU=one\n", "DOCKER_RESOURCE_GPU=two\n"}
    assert third.wait(LONG).stdout in got


def test_a_kind_that_no_node_has_is_told(client: Client) -> None:
    fits = client.placement(shell("true", generic_resources={"tpu": 1}))
    assert all("1 tpu wanted, it has none" in node.reasons for node in fits)
    assert run(client, shell("true", generic_resources={"gpu": 2})).ok

"""Several nodes: what `explain` says of each, who is kept away from a node that failed, and a node that is drained."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from jaas_submit import Cause, Client, JobHandle, JobState
from jaas_submit.model.fields import Resources
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from tests.acceptance.conftest import LabNodes, one_worker
from tests.support.jobs import LONG, ended, run, shell, until
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import Installation, listener

pytestmark = [pytest.mark.lab, pytest.mark.redis, pytest.mark.timeout(300)]

NODES = ("node1", "node2", "node3")
AT_ONCE = Backoff(kind="constant", delay=0, jitter="none")
GIB = 2**30
FREE = GIB
"""Bytes that are left to reserve on a full node."""

SSD, FULL, FILLER = "t-disk", "t-full", "t-filler"


@pytest.fixture(scope="module")
def nodes(lab: LabNodes) -> Iterator[LabNodes]:
    """Nodes 1 and 2 have a disk of the kind that is wanted, and hardly any memory that is not reserved."""
    for node in NODES[:2]:
        lab.docker("node", "update", "--label-add", f"{SSD}=ssd", "--label-add", f"{FULL}=yes", node)
    memory = int(lab.docker("node", "inspect", "--format", "{{.Description.Resources.MemoryBytes}}", "self"))
    create = ("service", "create", "--detach", "--no-resolve-image", "--name", FILLER, "--mode", "global")
    most = ("--reserve-memory", str(memory - FREE), "--constraint", f"node.labels.{FULL}==yes")
    lab.docker(*create, *most, TEST_IMAGE, "sleep", "3600")
    try:
        eventually(lambda: len(lab.docker("service", "ps", "--quiet", FILLER).split()) == 2, LONG)
        yield lab
    finally:
        if FILLER in lab.docker("service", "ls", "--format", "{{.Name}}").split():
            lab.docker("service", "rm", FILLER)
        for node in NODES[:2]:
            lab.docker("node", "update", "--label-rm", SSD, "--label-rm", FULL, node)


@pytest.fixture(scope="module")
def jaas(nodes: LabNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with one worker, which has seen the nodes at its start."""
    with one_worker(nodes.hosts[0], tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def failing(client: Client, tmp_path_factory: pytest.TempPathFactory) -> tuple[JobHandle, Witness]:
    """A job that fails on each node that it is tried on. It runs while the other tests do."""
    witness = Witness(tmp_path_factory.mktemp("failing"))
    careful = RetryPolicy(max_attempts=4, avoid_failed_nodes=True, backoff=AT_ONCE)
    return client.submit(witness.spec("exit 5", retry=careful)), witness


def dry_run(jaas: Installation, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jaas_submit.cli.main", "submit", "--dry-run", "--json", *options, TEST_IMAGE]
    return subprocess.run(command, capture_output=True, text=True, env=jaas.environment(), timeout=LONG, check=False)


def test_a_map_per_node_runs_once_on_each_that_is_up_also_like_a_service(client: Client, nodes: LabNodes) -> None:
    command = ["sh", "-c", 'echo "$JAAS_NODE {item.node}"']
    of_all = client.map(JobSpec(image=TEST_IMAGE, command=command, output="text"), per_node=True)
    assert {node: result.output for node, result in of_all.by_node(LONG).items()} == {
        node: f"{node} {node}\n" for node in NODES
    }
    name = f"t-like-{uuid.uuid4().hex[:8]}"
    labelled = ("--label", "jaas.jobs=allow", "--env", "LEVEL=7", "--replicas", "0", "--name", name)
    nodes.docker("service", "create", "--detach", "--no-resolve-image", *labelled, TEST_IMAGE, "sleep", "9")
    try:
        looks = ["sh", "-c", 'echo "$LEVEL on $JAAS_NODE"']
        spec = JobSpec.like(name, command=looks, output="text", constraints=[f"node.labels.{SSD}==ssd"])
        found = client.map(spec, per_node=True).by_node(LONG)
    finally:
        nodes.docker("service", "rm", name)
    assert {node: result.output for node, result in found.items()} == {node: f"7 on {node}\n" for node in NODES[:2]}


@pytest.mark.usefixtures("failing")
def test_a_job_that_fits_nowhere_is_told_what_each_node_lacks_until_one_has_it(
    jaas: Installation, client: Client, nodes: LabNodes, witness: Witness
) -> None:
    wants = f"node.labels.{SSD}==ssd"
    spec = witness.spec(constraints=[wants], reservations=Resources(memory=2 * GIB))
    lacking = "insufficient memory on 2 nodes, constraint not met on 1 node"
    before = dry_run(jaas, "-c", wants, "--reserve-memory", "2G")
    assert (before.returncode, json.loads(before.stdout)["fits"]) == (1, False)
    assert f"it fits on 0 of 3 nodes ({lacking}); nothing was enqueued" in before.stderr

    handle = client.submit(spec)
    eventually(lambda: handle.record().detail.startswith("no suitable node"), LONG, lambda: str(handle.record()))
    told = client.explain(handle.id)
    assert told.sentences[1] == (
        "What the swarm says: no suitable node (insufficient resources on 2 nodes; scheduling constraints not "
        "satisfied on 1 node)."
    )
    assert told.sentences[2].endswith(f", it fits on none of them: {lacking}.")
    by_name = {node.hostname: node for node in told.nodes}
    assert {name: node.lacks for name, node in by_name.items()} == {
        "node1": ("memory",),
        "node2": ("memory",),
        "node3": ("constraint",),
    }
    assert [node.free_memory for name, node in by_name.items() if name != "node3"] == [FREE, FREE]
    assert by_name["node3"].free_memory > 2 * GIB
    for line in (
        "  node1: 2.0 GiB of memory wanted, 1.0 GiB free (",
        f"  node3: constraint {wants} is not met (it has none) (",
    ):
        assert any(text.startswith(line) for text in told.sentences), told
    assert json.loads(before.stdout)["nodes"] == [node.model_dump(mode="json") for node in told.nodes]

    nodes.docker("service", "rm", FILLER)
    result = ended(client, handle.id)
    assert (result.ok, result.node in NODES[:2]) == (True, True)


def test_the_next_attempt_goes_elsewhere_as_long_as_there_is_an_elsewhere(
    client: Client, failing: tuple[JobHandle, Witness]
) -> None:
    handle, witness = failing
    result = ended(client, handle.id)
    assert [(a.cause, a.exit_code) for a in result.attempts] == [(Cause.EXIT, 5)] * 4
    assert {a.node for a in result.attempts[:3]} == set(NODES)  # the fourth had no node left to go to
    assert len(witness.starts()) == 4


@contextlib.contextmanager
def no_worker_but_a_listener(jaas: Installation, host: str) -> Iterator[Callable[[], str]]:
    with listener(jaas, host, log_format="json") as log:
        yield log
    lines = [json.loads(line) for line in log().splitlines()]
    assert [(line["action"], line["node"]) for line in lines] == [("agent.following", NODES[1])]


@contextlib.contextmanager
def a_worker_that_takes_no_job(jaas: Installation, host: str) -> Iterator[Callable[[], str]]:
    worker = jaas.worker(queue=f"{jaas.queue}-none", DOCKER_HOST=host).start()
    try:
        yield lambda: worker.log
    finally:
        worker.stop()


@pytest.mark.parametrize("there", [a_worker_that_takes_no_job, no_worker_but_a_listener])
def test_who_is_on_a_jobs_node_tells_the_worker_that_holds_the_job_of_its_end(
    there: Callable[[Installation, str], AbstractContextManager[Callable[[], str]]],
    jaas: Installation,
    client: Client,
    nodes: LabNodes,
) -> None:
    on_node2 = f"node.hostname=={NODES[1]}"
    with there(jaas, nodes.hosts[1]) as log, jaas.ledger.ownership.exits() as told:

        def heard() -> bool:  # it may not follow its engine's events yet
            job = client.submit(shell("sleep 0.3; echo over there; exit 3", constraints=[on_node2]))
            result = job.wait(LONG, check=False)
            assert (result.exit_code, result.node, result.logs.stdout) == (3, NODES[1], "over there\n")
            while text := told.next(1.0):
                event = json.loads(text)
                if event["job_id"] == job.id:
                    return bool(event["exit_code"] == 3)
            return False

        eventually(heard, LONG, log)
        # However short they are: what the swarm does not show as running yet has no output for the holder.
        for _ in range(10):
            assert run(client, shell("echo quick", constraints=[on_node2])).logs.stdout == "quick\n"


def test_a_drain_takes_a_job_to_another_node_on_the_clusters_account(
    client: Client, nodes: LabNodes, witness: Witness
) -> None:
    moves = RetryPolicy(max_cluster_retries=1, backoff=AT_ONCE)
    handle = client.submit(witness.spec(witness.held(), retry=moves))
    until(client, handle.id, JobState.RUNNING)
    drained = handle.record().node
    assert drained
    pinned = JobSpec.parse({**witness.spec(witness.held()).to_wire(), "constraints": [f"node.hostname=={drained}"]})
    stays = client.submit(pinned)
    until(client, stays.id, JobState.RUNNING)
    nodes.docker("node", "update", "--availability", "drain", drained)
    try:
        # Nothing is left to the job that may not be tried again ...
        gave_up = ended(client, stays.id)
        assert [(a.cause, a.node) for a in gave_up.attempts] == [(Cause.PREEMPTED, drained)]
        told = client.explain(stays.id).sentences
        assert told[0].startswith(
            f"It failed on {drained}: its node had to give it up (cause preempted, exit code 143; "
        )
        assert (
            "It is not tried again: no retry rule matched; 0 of 0 further attempts used (max_cluster_retries)." in told
        )
        assert "What may help: raise retry.max_cluster_retries." in told
        # ... and one that may goes on elsewhere.
        eventually(lambda: len(witness.starts(handle.id)) == 2, LONG, lambda: str(handle.record()))
    finally:
        nodes.docker("node", "update", "--availability", "active", drained)
        witness.open()
    result = ended(client, handle.id)
    first, second = result.attempts
    assert (first.cause, first.node, first.exit_code) == (Cause.PREEMPTED, drained, 143)
    assert (second.cause, second.exit_code, second.node != drained) == (Cause.EXIT, 0, True)
    assert client.explain(handle.id).sentences == (
        f"It succeeded on {second.node} with exit code 0.",
        f"Attempt 1 ended on {drained} with exit code 143: its node had to give it up (cause preempted; the swarm took "
        "the container off its node (drained, or no longer allowed)). What followed was decided so: no retry rule "
        "matched; 0 of 1 further attempt used (max_cluster_retries).",
    )
    assert [line.split()[1] for line in witness.starts(handle.id)] == ["1", "2"]

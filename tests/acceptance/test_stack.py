"""The production deployment: stack.yml on three managers. One batch of long jobs survives all that the tests do."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import docker
import pytest

from jaas_submit import Cause, Client, JobHandle, JobRecord, JobState
from jaas_submit.errors import LedgerUnavailable
from tests.acceptance.conftest import REPO, LabNodes
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import clean_env

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

STACK = "jaas"
PASSWORD = "correct-horse"
LOGIN = "operator:open-sesame"
NEW_IMAGE = "jaas-worker:lab-new"
LONG = 240.0
"""Seconds to wait for what takes ten to thirty where nothing else runs."""


class Stack:
    """The deployed stack.

    Args:
        lab: where.
        witness: sees each start of a container.
    """

    def __init__(self, lab: LabNodes, witness: Witness) -> None:
        self.lab = lab
        self.witness = witness
        self.client = Client(f"redis://:{PASSWORD}@{lab.address(1)}:6379/0")
        self.jobs: list[JobHandle] = []

    def deploy(self, **variables: str) -> None:
        """Run the command that the file's first line tells."""
        files = ["-c", "stack.yml", "-c", "docker/stack.lab.yml"]
        done = subprocess.run(
            ["/usr/bin/docker", "stack", "deploy", "--resolve-image", "never", *files, STACK],
            cwd=REPO,
            # The witness needs a folder of the host.
            env=clean_env(DOCKER_HOST=self.lab.hosts[0], JAAS_POLICY="privileged", **variables),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def running(self) -> Counter[str]:
        """Return how many healthy tasks each service has, by what the swarm says."""
        listed = self.lab.docker("stack", "services", "--format", "{{.Name}} {{.Replicas}}", STACK)
        return Counter(
            {n.removeprefix(f"{STACK}_"): int(r.split("/")[0]) for n, r in map(str.split, listed.splitlines())}
        )

    def workers(self) -> dict[str, str]:
        """Return the node of each worker that has a lease."""
        try:
            return {str(w["holder"]): str(w.get("node", "")) for w in self.client.ledger.queries.workers()}
        except LedgerUnavailable:
            return {}

    def on_nodes(self, *nodes: str) -> bool:
        """Return whether one worker works on each of these nodes, and none elsewhere."""
        return sorted(self.workers().values()) == sorted(nodes)

    def how_it_stands(self) -> str:
        """Return what helps to understand a time-out."""
        return "\n".join(
            [
                self.lab.docker("stack", "ps", "--no-trunc", STACK),
                str(self.workers()),
                *(f"{r.id} {r.state} {r.node} {r.holder} {r.detail}" for r in self.records()),
                self.lab.docker("service", "logs", "--tail", "20", f"{STACK}_worker")[-6000:],
            ]
        )

    def records(self) -> list[JobRecord]:
        """Return the jobs' records; none while Redis is away."""
        try:
            return self.client.ledger.queries.find([job.id for job in self.jobs])
        except LedgerUnavailable:
            return []

    def all_run(self, *, not_on: str = "") -> bool:
        """Return whether every job runs, and is held by a live worker."""
        workers, records = self.workers(), self.records()
        return len(records) == len(self.jobs) and all(
            r.state is JobState.RUNNING and r.node != not_on and r.holder in workers and not r.detail for r in records
        )


@pytest.fixture(scope="module")
def stack(lab: LabNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    api = docker.APIClient(base_url=lab.hosts[0], version="auto")
    secrets = {
        "jaas_redis_auth": f"requirepass {PASSWORD}\n",
        "jaas_redis_url": f"redis://:{PASSWORD}@redis:6379/0",
        "jaas_flower_auth": LOGIN,
    }
    _remove(lab, api, secrets)  # what a run that was killed has left
    for name, text in secrets.items():
        api.create_secret(name, text.encode())
    lab.docker("node", "update", "--label-add", "jaas.redis=true", "node1")
    stack = Stack(lab, Witness(tmp_path_factory.mktemp("stack") / "witness"))
    try:
        yield stack
    finally:
        stack.client.close()
        _remove(lab, api, secrets)
        api.close()


def _remove(lab: LabNodes, api: docker.APIClient, secrets: Iterable[str]) -> None:
    """Remove the stack, its data, the jobs and the secrets, as far as they are there."""
    lab.docker("stack", "rm", STACK)
    for service in api.services(filters={"label": ["jaas.job"]}):
        api.remove_service(service["ID"])
    mine = ["--filter", f"label=com.docker.stack.namespace={STACK}", "-q"]
    eventually(lambda: not lab.docker("network", "ls", *mine), LONG, "the stack's network to be removed")
    eventually(lambda: not lab.docker("ps", "--all", *mine), LONG, "the stack's containers to be removed")
    if volumes := lab.docker("volume", "ls", *mine).split():
        lab.docker("volume", "rm", *volumes)
    for secret in api.secrets(filters={"name": list(secrets)}):
        api.remove_secret(secret["ID"])


def test_it_is_deployed_and_healthy(stack: Stack) -> None:
    stack.deploy()
    wanted = Counter(redis=1, worker=3, flower=1)
    eventually(lambda: stack.running() == wanted, LONG, stack.how_it_stands)
    eventually(lambda: stack.on_nodes("node1", "node2", "node3"), LONG, stack.how_it_stands)


def test_a_batch_of_long_jobs_is_submitted_from_outside(stack: Stack) -> None:
    spec = stack.witness.spec(stack.witness.held(), on_node_lost="retry", lost_after="1s")
    stack.jobs = stack.client.submit_many([spec] * 9)
    eventually(stack.all_run, LONG, stack.how_it_stands)
    assert {record.node for record in stack.records()} == {"node1", "node2", "node3"}


def test_workers_are_updated_and_no_job_notices(stack: Stack, lab: LabNodes, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM jaas-worker:lab\nLABEL version="new"\n')
    for node in (1, 2, 3):
        lab.docker("build", "--quiet", "--tag", NEW_IMAGE, str(tmp_path), node=node)
    before = stack.workers()
    stack.deploy(JAAS_WORKER_IMAGE=NEW_IMAGE)

    def updated() -> bool:
        state = lab.docker(
            "service", "inspect", "--format", "{{with .UpdateStatus}}{{.State}}{{end}}", f"{STACK}_worker"
        )
        assert "rollback" not in state
        return state == "completed" and stack.on_nodes("node1", "node2", "node3")

    eventually(updated, 2 * LONG, stack.how_it_stands)
    assert not set(stack.workers()) & set(before), "a worker of before is still there"
    eventually(stack.all_run, LONG, stack.how_it_stands)
    starts = Counter(line.split()[0] for line in stack.witness.starts())
    assert starts == {job.id: 1 for job in stack.jobs}


def test_flower_asks_for_its_password(stack: Stack, lab: LabNodes) -> None:
    def status(login: str) -> int:
        request = urllib.request.Request(f"http://{lab.address(1)}:5555/api/tasks")
        if login:
            request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                known = set(json.load(answer))
                assert {job.id for job in stack.jobs} <= known
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert [status(""), status(LOGIN)] == [401, 200]


def test_a_node_that_dies_costs_its_own_jobs_one_start_more(stack: Stack, lab: LabNodes) -> None:
    there = {record.id for record in stack.records() if record.node == "node3"}
    lab.fault("partition", 3)
    lab.fault("kill", 3)
    eventually(lambda: stack.on_nodes("node1", "node2"), LONG, stack.how_it_stands)
    eventually(lambda: stack.all_run(not_on="node3"), LONG, stack.how_it_stands)
    starts = Counter(line.split()[0] for line in stack.witness.starts())
    assert starts == {job.id: 2 if job.id in there else 1 for job in stack.jobs}
    for record in stack.records():
        lost = [(a.number, a.cause, a.node, a.exit_code) for a in record.attempts]
        assert lost == ([(1, Cause.NODE_LOST, "node3", None)] if record.id in there else [])
    told = stack.client.explain(there.pop()).sentences
    assert told[0].startswith("Its container has run on node")
    assert told[1].startswith(
        "Attempt 1 ended on node3: its node went away (cause node_lost; its node has been down for "
    )
    assert told[1].endswith(
        " s; the container may still run there). What followed was decided so: no retry rule matched; 0 of 3 "
        "further attempts used (max_cluster_retries)."
    )


def test_workers_are_scaled_down_to_one_and_up_again(stack: Stack, lab: LabNodes) -> None:
    one = "node.hostname==node1"
    lab.docker("service", "update", "--detach", "--constraint-add", one, f"{STACK}_worker")
    eventually(lambda: stack.on_nodes("node1") and stack.all_run(), LONG, stack.how_it_stands)
    lab.fault("heal", 3)
    lab.fault("start", 3)
    lab.docker("service", "update", "--detach", "--constraint-rm", one, f"{STACK}_worker")
    eventually(lambda: stack.on_nodes("node1", "node2", "node3"), LONG, stack.how_it_stands)


def test_all_jobs_end_well_and_each_attempt_started_once(stack: Stack) -> None:
    stack.witness.open()
    for job in stack.jobs:
        assert job.wait(LONG).ok
    attempts = Counter(tuple(line.split()[:2]) for line in stack.witness.starts())
    assert set(attempts.values()) == {1}, attempts


def test_it_is_removed_with_nothing_left_but_its_data(stack: Stack, lab: LabNodes) -> None:
    jobs = ["--filter", "label=jaas.job", "-q"]
    eventually(lambda: not lab.docker("service", "ls", *jobs), LONG, "the jobs' services to be removed")
    lab.docker("stack", "rm", STACK)
    mine = ["--filter", f"label=com.docker.stack.namespace={STACK}", "-q"]

    def left() -> list[str]:
        found = [lab.docker(kind, "ls", *mine) for kind in ("service", "network", "config")]
        found += [lab.docker("ps", "--all", *mine, node=node) for node in (1, 2, 3)]
        return [text for text in found if text]

    eventually(lambda: not left(), LONG, lambda: str(left()))
    volumes = lab.docker("volume", "ls", *mine).split()
    assert sorted(volumes) == [f"{STACK}_flower-data", f"{STACK}_redis-data"]
    lab.docker("volume", "rm", *volumes)

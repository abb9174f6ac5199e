"""The production deployment: stack.yml on three managers. One batch of long jobs survives all that the tests do."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import docker
import pytest
import redis
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from jaas_submit import Cause, Client, JobHandle, JobRecord, JobState
from jaas_submit.errors import LedgerUnavailable
from tests.acceptance.conftest import REPO, LabNodes
from tests.support.jobs import docker_cli
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import clean_env

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

STACK = "jaas"
NEW_IMAGE = "jaas-worker:lab-new"
LONG = 240.0
"""Seconds to wait for what takes ten to thirty where nothing else runs."""

NETWORKS = ("jaas", "jaas-control")

DENIED = [
    ("worker", ("FLUSHALL",)),
    ("worker", ("SET", "other:job:1", "x")),
    ("agent", ("HGETALL", "jaas:job:1")),
    ("agent", ("LPUSH", "jaas", "x")),
    ("producer", ("SET", "jaas:info:1", "x")),
    ("producer", ("KEYS", "*")),
    ("viewer", ("HSET", "jaas:job:1", "state", "x")),
    ("celery", ("HGETALL", "jaas:job:1")),
    ("flower", ("LPUSH", "jaas", "x")),
]
"""That the rules reach the stack. tests/integration/test_redis_users.py has all that is denied."""


class Stack:
    """The deployed stack.

    Args:
        lab: where.
        witness: sees each start of a container.
        secrets: the folder of `deploy/secrets`.
    """

    def __init__(self, lab: LabNodes, witness: Witness, secrets: Path) -> None:
        self.lab = lab
        self.witness = witness
        self.secrets = secrets
        self.jobs: list[JobHandle] = []
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """A producer outside of the swarm, with the URL that it has been given."""
        if self._client is None:
            self._client = Client(self.url("producer"))
        return self._client

    def url(self, user: str) -> str:
        """Return the URL of a user of Redis, with the port that only the lab publishes."""
        return (self.secrets / f"{user}.url").read_text().replace("@redis:", f"@{self.lab.address(1)}:")

    def login(self) -> str:
        return (self.secrets / "flower.login").read_text()

    def make_secrets(self, *words: str) -> list[str]:
        """Run `deploy/secrets`; return the commands that it tells to run next."""
        done = self._run("deploy/secrets", *words)
        return [line.strip() for line in done.splitlines() if line.startswith("  ")]

    def run(self, told: str, **variables: str) -> None:
        """Run a command as `deploy/secrets` tells it, with the files of the lab."""
        deploy = "docker stack deploy -c stack.yml"
        files = "docker stack deploy --resolve-image never -c stack.yml -c docker/stack.lab.yml"
        words = shlex.split(told.replace(deploy, files).replace("docker ", "/usr/bin/docker ", 1))
        self._run("env", *words, **variables)

    def _run(self, *words: str, **variables: str) -> str:
        own = {
            "DOCKER_HOST": self.lab.hosts[0],
            "PATH": "/usr/bin:/bin",  # another program may be named docker, too
            "JAAS_SECRETS_DIR": str(self.secrets),
            "JAAS_WORKER_IMAGE": "jaas-worker:lab",
            "JAAS_REDIS_ACL": "--redis 7.0",
        }
        done = subprocess.run(
            words, cwd=REPO, env=clean_env(**own | variables), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def in_network(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `jaas` as a producer in a container on the network "jaas"."""
        url = ["-v", f"{self.secrets}/producer.url:/url:ro", "-e", "JAAS_REDIS_URL_FILE=/url"]
        return subprocess.run(
            ["/usr/bin/docker", "run", "--rm", "--network", "jaas", *url, "jaas-worker:lab", *words],
            env=clean_env(DOCKER_HOST=self.lab.hosts[0]),
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )

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

    def updated(self, before: Iterable[str]) -> bool:
        """Return whether an update of the workers is complete, and all others than before are there."""
        state = self.lab.docker(
            "service", "inspect", "--format", "{{with .UpdateStatus}}{{.State}}{{end}}", f"{STACK}_worker"
        )
        assert "rollback" not in state
        there = self.on_nodes("node1", "node2", "node3") and not set(self.workers()) & set(before)
        return state == "completed" and there

    def forget_client(self) -> None:
        """Take the producer's URL anew."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def all_run(self, *, not_on: str = "") -> bool:
        """Return whether every job runs, and is held by a live worker."""
        workers, records = self.workers(), self.records()
        return len(records) == len(self.jobs) and all(
            r.state is JobState.RUNNING and r.node != not_on and r.holder in workers and not r.detail for r in records
        )


@pytest.fixture(scope="module")
def stack(lab: LabNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    api = docker.APIClient(base_url=lab.hosts[0], version="auto")
    _remove(lab, api)  # what a run that was killed has left
    lab.docker("node", "update", "--label-add", "jaas.redis=true", "node1")
    folder = tmp_path_factory.mktemp("stack")
    stack = Stack(lab, Witness(folder / "witness"), folder / "secrets")
    try:
        yield stack
    finally:
        if stack.jobs:
            stack.client.close()
        _remove(lab, api)
        api.close()


def _remove(lab: LabNodes, api: docker.APIClient) -> None:
    """Remove the stack, its data, the jobs and the secrets, as far as they are there."""
    lab.docker("stack", "rm", STACK)
    for service in api.services(filters={"label": ["jaas.job"]}):
        api.remove_service(service["ID"])
    mine = ["--filter", f"label=com.docker.stack.namespace={STACK}", "-q"]
    eventually(lambda: not lab.docker("network", "ls", *mine), LONG, "the stack's network to be removed")
    eventually(lambda: not lab.docker("ps", "--all", *mine), LONG, "the stack's containers to be removed")
    if volumes := lab.docker("volume", "ls", *mine).split():
        lab.docker("volume", "rm", *volumes)
    for secret in api.secrets(filters={"name": ["jaas_"]}):
        api.remove_secret(secret["ID"])


def test_it_is_deployed_and_healthy(stack: Stack) -> None:
    (command,) = stack.make_secrets()
    assert command == "docker stack deploy -c stack.yml jaas"
    assert stack.make_secrets() == [command], "a second call changes nothing"
    assert [oct(path.stat().st_mode & 0o77) for path in stack.secrets.iterdir()] == ["0o0"] * 19
    stack.run(command)
    wanted = Counter(redis=1, worker=3, flower=1)
    eventually(lambda: stack.running() == wanted, LONG, stack.how_it_stands)
    eventually(lambda: stack.on_nodes("node1", "node2", "node3"), LONG, stack.how_it_stands)


@pytest.mark.parametrize("name", ["worker", "flower"])
def test_an_image_has_the_pinned_packages_and_an_sbom_names_them(lab: LabNodes, name: str) -> None:
    done = subprocess.run(
        [REPO / "scripts" / "sbom", f"jaas-{name}:lab"],
        env=clean_env(DOCKER_HOST=lab.hosts[0]),
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None
    told = json.loads(done.stdout)
    assert told["metadata"]["component"]["name"] == "jaas"
    pinned = re.findall(r"^(\S+)==(\S+) ", (REPO / "docker" / "constraints.txt").read_text(), re.MULTILINE)
    found = {(canonicalize_name(one["name"]), one["version"]) for one in told["components"]}
    assert found <= set(pinned)
    assert {"celery", "redis", "tzdata", "docker" if name == "worker" else "flower"} <= {one for one, _ in found}


def test_a_producer_on_its_network_runs_a_job_and_reaches_redis_only(stack: Stack, lab: LabNodes) -> None:
    done = stack.in_network("run", TEST_IMAGE, "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    joined = {name: lab.docker("network", "inspect", "--format", "{{.Attachable}}", name) for name in NETWORKS}
    assert {name: text.strip() for name, text in joined.items()} == {"jaas": "true", "jaas-control": "false"}
    specs = json.loads(lab.docker("service", "inspect", *(f"{STACK}_{one}" for one in ("redis", "worker", "flower"))))
    ids = {lab.docker("network", "inspect", "--format", "{{.Id}}", name).strip(): name for name in NETWORKS}
    on = [sorted(ids[net["Target"]] for net in spec["Spec"]["TaskTemplate"]["Networks"]) for spec in specs]
    assert on == [["jaas", "jaas-control"], ["jaas-control"], ["jaas-control"]]
    with pytest.raises(AssertionError, match="not manually attachable"):
        docker_cli(lab.hosts[0], "run", "--rm", "--network", "jaas-control", TEST_IMAGE, "true")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_job_joins_neither_network(stack: Stack, network: str) -> None:
    done = stack.in_network("run", "--network", network, TEST_IMAGE, "true")
    assert done.returncode not in {0, 1}
    assert f"network {network} " in done.stderr
    assert "(policy rule networks." in done.stderr


@pytest.mark.parametrize(("user", "command"), DENIED)
def test_a_user_is_denied_what_is_not_its_own(stack: Stack, user: str, command: tuple[str, ...]) -> None:
    with redis.Redis.from_url(stack.url(user)) as client:
        assert client.ping()
        with pytest.raises(redis.ResponseError, match="permission"):
            client.execute_command(*command)


def test_nobody_comes_in_without_a_password(stack: Stack, lab: LabNodes) -> None:
    for login in ("", "default:any@", "jaas-worker:any@", ":any@"):
        with (
            redis.Redis.from_url(f"redis://{login}{lab.address(1)}:6379/0") as client,
            pytest.raises(
                (redis.AuthenticationError, redis.ResponseError),
                match=r"authenticated|Authentication|invalid|WRONGPASS",
            ),
        ):
            client.ping()


def test_a_producer_gets_a_second_password(stack: Stack) -> None:
    before, workers = stack.url("producer"), stack.workers()
    first, second = stack.make_secrets("rotate", "producer")
    assert stack.make_secrets() == [first, second], "as after an interruption: Redis does not have the number yet"
    stack.run(first)  # Redis alone: from now on it takes both
    assert stack.make_secrets() == [second]
    # The witness needs a folder of the host.
    stack.run(second, JAAS_POLICY="privileged")
    eventually(lambda: stack.updated(workers), 2 * LONG, stack.how_it_stands)
    assert stack.url("producer") != before
    for url in (before, stack.url("producer")):
        with Client(url) as client:
            assert client.ledger.queries.workers()
    stack.forget_client()


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
    former = (stack.secrets / "producer.former").read_text()
    first, second = stack.make_secrets("retire", "producer")
    stack.run(first)
    # From now on without root: as nobody, in the group of the engine's socket.
    nobody = f"65534:{Path(lab.hosts[0].removeprefix('unix://')).stat().st_gid}"
    stack.run(second, JAAS_POLICY="privileged", JAAS_WORKER_IMAGE=NEW_IMAGE, JAAS_WORKER_USER=nobody)
    eventually(lambda: stack.updated(before), 2 * LONG, stack.how_it_stands)
    eventually(stack.all_run, LONG, stack.how_it_stands)
    container = lab.docker("ps", "-q", "--filter", f"name={STACK}_worker").strip()
    status = lab.docker("exec", container, "python3", "-c", "print(open('/proc/1/status').read())")
    ids = [re.findall(rf"^{kind}:\t(\d+)\t", status, re.MULTILINE)[0] for kind in ("Uid", "Gid")]
    assert ":".join(ids) == nobody
    starts = Counter(line.split()[0] for line in stack.witness.starts())
    assert starts == {job.id: 1 for job in stack.jobs}
    url = f"redis://jaas-producer:{former}@{lab.address(1)}:6379/0"
    with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


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

    assert [status(""), status(stack.login())] == [401, 200]


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

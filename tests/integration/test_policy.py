"""The policy on a real engine: each cell of docs/policy.md, and the whole way from submission to refusal."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import docker
import pytest

from jaas_submit import Cause, Client, JobSpec, JobState
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.model.wire_names import LABEL_PREFIX
from jaas_submit.policy.document import Level, Policy
from jaas_submit.policy.facts import PolicyRefused
from jaas_worker.admission.gate import PolicyGate
from jaas_worker.settings import Settings
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.engine import ServiceView
from jaas_worker.swarm.service_spec import service_request
from tests.support.jobs import LONG, ended, until
from tests.support.registry import Registry
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis]

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"
LEVELS: tuple[Level, ...] = get_args(Level)
WORKER = {"remove_delay": 0, "policy": "baseline", "lease": "2s"}


def cells() -> list[tuple[str, Level, bool]]:
    """Return what the page says: what a job may, the level, and whether it may."""
    rows = [
        line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "| a job" not in line
    ]
    table = [row for row in rows if len(row) == 4 and set(row[1:]) <= {"yes", "no"}]
    return [(what, level, cell == "yes") for what, *row in table for level, cell in zip(LEVELS, row, strict=True)]


class Scene:
    """A swarm with a secret, a config and a network of each kind."""

    def __init__(self, api: docker.APIClient, host: str, image: str) -> None:
        self.api = api
        self.swarm = Swarm(host)
        self.image = image
        self.name = f"t-{uuid.uuid4().hex[:10]}"
        open_, own = {"jaas.jobs": "allow"}, {"jaas.control": "true"}
        self.ids = {
            kind: str(create(f"{self.name}-{kind}", b"x", labels)["ID"])
            for kind, create, labels in (
                ("open", api.create_secret, open_),
                ("shut", api.create_secret, {}),
                ("open-config", api.create_config, open_),
                ("shut-config", api.create_config, {}),
            )
        }
        self.networks = {
            kind: api.create_network(f"{self.name}-{kind}", "overlay", attachable=kind != "closed", labels=labels)["Id"]
            for kind, labels in (("shared", {}), ("closed", {}), ("own", own))
        }
        self.services: dict[tuple[str, Level], ServiceView | PolicyRefused] = {}

    def request(self, container: dict[str, Any], task: dict[str, Any], **spec: Any) -> tuple[dict[str, Any], JobSpec]:
        """Return a request that every level allows, apart from what is given."""
        usual = {"image": self.image, "command": ["true"], "user": "1000", "limits": {"memory": "64M"}}
        made = JobSpec(**{**usual, **spec})
        request = service_request(made, uuid.uuid4().hex, 1, {LABEL_PREFIX: self.name}, {})
        request["TaskTemplate"]["ContainerSpec"].update(container)
        request["TaskTemplate"].update(task)
        return request, made

    def remove(self) -> None:
        label = f"{LABEL_PREFIX}={self.name}"
        for service in self.swarm.services(label):
            self.swarm.remove(service.id)
        eventually(lambda: not self.swarm.all_tasks(label), 30, "the tasks to go")
        removers: list[tuple[Callable[[str], Any], str]] = [
            *(
                (self.api.remove_config if "config" in kind else self.api.remove_secret, id_)
                for kind, id_ in self.ids.items()
            ),
            *((self.api.remove_network, id_) for id_ in self.networks.values()),
        ]
        for remove, id_ in removers:
            eventually(lambda remove=remove, id_=id_: _gone(remove, id_), 30, f"{id_} to go")  # type: ignore[misc]


def _gone(remove: Callable[[str], Any], id_: str) -> bool:
    try:
        remove(id_)
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError:  # what used it is just going
        return False
    return True


def mount(**fields: Any) -> dict[str, Any]:
    return {"Mounts": [{"Target": "/x", **fields}]}


def options(**given: str) -> dict[str, Any]:
    return {"VolumeOptions": {"DriverConfig": {"Name": "local", "Options": given}}}


def ref(scene: Scene, kind: str, which: str) -> dict[str, Any]:
    file = {"Name": "/f", "UID": "0", "GID": "0", "Mode": 0o444}
    suffix = "" if kind == "Secret" else "-config"
    name = f"{which}{suffix}"
    return {f"{kind}s": [{f"{kind}ID": scene.ids[name], f"{kind}Name": f"{scene.name}-{name}", "File": file}]}


def network(scene: Scene, which: str, **more: Any) -> dict[str, Any]:
    return {"Networks": [{"Target": f"{scene.name}-{which}", **more}]}


# The words of the page; how a job asks for it: parts of the container, of the task, of the description.
ASKED: dict[str, Callable[[Scene], tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]] = {
    "run an image by its tag, where no registry tells the digest": lambda _: ({}, {}, {"image": TEST_IMAGE}),
    "run as root, or as the image's own user": lambda _: ({}, {}, {"user": None}),
    "run without a memory limit": lambda _: ({}, {}, {"limits": {}}),
    "have more than 4,096 processes (`pids_limit`)": lambda _: ({}, {}, {"pids_limit": 4097}),
    "have more than 32,768 processes": lambda _: ({}, {}, {"pids_limit": 32_769}),
    "name placement constraints": lambda _: ({}, {}, {"constraints": ["node.role==manager"]}),
    "mount a tmpfs, or a volume without a name": lambda _: (
        {"Mounts": [{"Type": "tmpfs", "Target": "/t"}, {"Type": "volume", "Target": "/v"}]}, {}, {}),
    "mount a volume whose name begins with `jobs-`": lambda s: (
        mount(Type="volume", Source=f"jobs-{s.name}"), {}, {}),
    "mount another volume by name": lambda s: (mount(Type="volume", Source=s.name), {}, {}),
    "mount a folder of the host": lambda _: (mount(Type="bind", Source="/etc", ReadOnly=True), {}, {}),
    "mount the engine's socket": lambda s: (
        mount(Type="bind", Source=s.swarm.host.removeprefix("unix://"), ReadOnly=True), {}, {}),
    "mount a folder of the host as a volume (`type=none,o=bind`)": lambda s: (
        mount(Type="volume", Source=f"jobs-{s.name}-etc", **options(type="none", o="bind", device="/etc")), {}, {}),
    "read a secret that has the label `jaas.jobs=allow`": lambda s: (ref(s, "Secret", "open"), {}, {}),
    "read any other secret": lambda s: (ref(s, "Secret", "shut"), {}, {}),
    "read a config that has the label `jaas.jobs=allow`": lambda s: (ref(s, "Config", "open"), {}, {}),
    "read any other config": lambda s: (ref(s, "Config", "shut"), {}, {}),
    "join an attachable overlay network": lambda s: ({}, network(s, "shared"), {}),
    "join an overlay network that is not attachable": lambda s: ({}, network(s, "closed"), {}),
    "join a network of jaas itself (label `jaas.control`)": lambda s: ({}, network(s, "own"), {}),
    "join the host's network": lambda _: ({}, {"Networks": [{"Target": "host"}]}, {}),
    "answer to further names on a network": lambda s: ({}, network(s, "shared", Aliases=["redis"]), {}),
    "get back a capability that the engine gives by default": lambda _: ({"CapabilityAdd": ["CAP_CHOWN"]}, {}, {}),
    "get a capability beyond these": lambda _: ({"CapabilityAdd": ["CAP_SYS_ADMIN"]}, {}, {}),
    "change sysctls of its own network, such as `net.ipv4.tcp_*`": lambda _: (
        {"Sysctls": {"net.ipv4.tcp_keepalive_time": "100"}}, {}, {}),
    "change other sysctls": lambda _: ({"Sysctls": {"net.core.somaxconn": "100"}}, {}, {}),
    "raise its limit of open files": lambda _: ({"Ulimits": [{"Name": "nofile", "Soft": 4096, "Hard": 4096}]}, {}, {}),
    "change another limit, such as that of locked memory": lambda _: (
        {"Ulimits": [{"Name": "memlock", "Soft": 65536, "Hard": 65536}]}, {}, {}),
    "name the log driver `json-file`": lambda _: ({}, {}, {"log_driver": "json-file"}),
    "name a log driver that sends to an address, such as `syslog`": lambda _: (
        {}, {}, {"log_driver": "syslog", "log_options": {"syslog-address": "udp://127.0.0.1:9"}}),
}  # fmt: skip


@pytest.fixture(scope="module")
def scene(_engine: str, docker_api: docker.APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """All cells' jobs at once: refused by the gate, or with a service."""
    registry = Registry(tmp_path_factory.mktemp("registry")).start()
    digest = registry.push(docker_api, "policy:1", "policy")
    made = Scene(docker_api, _engine, f"{registry.host}/policy@{digest}")
    try:
        for what, level, _ in cells():
            request, spec = made.request(*ASKED[what](made)[:2], **ASKED[what](made)[2])
            gate = PolicyGate(Policy(level=level), made.swarm, Settings(redis_url="redis://unused"))
            try:
                created = made.swarm.create(gate.admit(request, spec).request)
                assert created is not None
                made.services[what, level] = created
            except PolicyRefused as refused:
                made.services[what, level] = refused
        yield made
    finally:
        made.remove()
        registry.stop()
        registry.forget(docker_api)


def test_the_page_has_all_that_is_tried() -> None:
    assert {what for what, *_ in cells()} == set(ASKED)


@pytest.mark.parametrize(("what", "level", "allowed"), cells())
def test_a_level_allows_what_the_page_says(scene: Scene, what: str, level: Level, allowed: bool) -> None:
    found = scene.services[what, level]
    if not allowed:
        assert isinstance(found, PolicyRefused), f"{level}: {what}: a service was created"
        return
    assert isinstance(found, ServiceView), f"{level}: {what}: {found}"
    task = eventually(
        lambda: next((task for task in scene.swarm.tasks_of(found.id) if task.ended), None),
        60,
        lambda: f"{what} to end: {scene.swarm.tasks_of(found.id)}",
    )
    assert (task.state, task.error) == ("complete", "")


def test_what_this_engine_would_drop_without_a_word_is_refused(scene: Scene) -> None:
    gate = PolicyGate(Policy(level="privileged"), scene.swarm, Settings(redis_url="redis://unused"))
    request, spec = scene.request({"Privileges": {"NoNewPrivileges": True}}, {})
    version = scene.swarm.info().api_version
    if tuple(map(int, version.split("."))) >= (1, 44):
        gate.admit(request, spec)
    else:
        with pytest.raises(
            PolicyRefused, match=r"no_new_privileges: needs API 1\.44, and the manager would leave it out"
        ):
            gate.admit(request, spec)


# -- the whole way ----------------------------------------------------------------------------------------------------

SLEEP = JobSpec(image=TEST_IMAGE, command=["sleep", "600"], stop_grace=0)
BIND = SLEEP.changed({"mounts": [Mount(source="/etc", target="/x", read_only=True)]})


@pytest.mark.usefixtures("worker", "no_service_left")
def test_a_job_that_is_not_allowed_ends_refused_and_says_what_would_allow_it(
    client: Client, jaas: Installation
) -> None:
    handle = client.submit(BIND)
    result = ended(client, handle.id)
    assert (result.state, result.cause) == (JobState.FAILED, Cause.REFUSED)
    assert result.reason.startswith("mounts.0.source: the host's /etc may not be mounted; ")
    assert not jaas.services()
    assert result.reason in str(client.explain(handle.id))
    assert list(client.refusals(BIND)) == [result.reason]
    assert client.refusals(JobSpec(image=TEST_IMAGE)) == ()


@pytest.mark.usefixtures("worker", "no_service_left")
def test_a_secret_is_read_only_if_its_label_says_so(client: Client, scene: Scene) -> None:
    read = JobSpec(image=TEST_IMAGE, command=["cat", f"/run/secrets/{scene.name}-open"], secrets=[f"{scene.name}-open"])
    assert ended(client, client.submit(read).id).stdout == "x"
    shut = ended(client, client.submit(read.changed({"secrets": [f"{scene.name}-shut"]})).id)
    assert shut.cause is Cause.REFUSED
    assert "docker secret create --label jaas.jobs=allow" in shut.reason


@pytest.mark.usefixtures("no_service_left")
def test_a_service_of_a_laxer_worker_is_stopped_when_it_is_taken_over(client: Client, jaas: Installation) -> None:
    for worker in jaas.workers:
        worker.stop()
    lax = jaas.worker("lax", policy="privileged").start()
    strict = None
    try:
        fine = client.submit(SLEEP.changed({"input": {"a": 1}}))
        handle = client.submit(BIND)
        for one in (handle, fine):
            until(client, one.id, JobState.RUNNING)
        lax.kill()
        strict = jaas.worker("strict").start()
        result = ended(client, handle.id)
        assert (result.state, result.cause) == (JobState.FAILED, Cause.REFUSED)
        assert "mounts.binds" in result.reason
        assert fine.state == JobState.RUNNING
        fine.cancel()
        assert ended(client, fine.id).cause is Cause.CANCELLED
    finally:
        lax.stop()
        if strict is not None:
            strict.stop()


@pytest.mark.usefixtures("no_service_left")
def test_in_mode_warn_the_job_runs_and_everybody_is_told(client: Client, jaas: Installation, tmp_path: Path) -> None:
    file = tmp_path / "policy"
    file.write_text("mode: warn\n")
    queue = f"{jaas.queue}-warn"
    worker = jaas.worker("warn", queue=queue, policy="baseline", policy_file=file)
    del worker.settings["policy"]
    worker.start()
    try:
        with Client(jaas.redis_url, queue=queue, prefix=jaas.prefix) as other:
            handle = other.submit(BIND.changed({"command": ["true"]}))
            assert handle.wait(LONG).ok
            assert "the policy would refuse it, if it were enforced: mounts.0.source: " in str(other.explain(handle.id))
            told = [one["policy"] for one in other.ledger.queries.workers() if one.get("queue") == queue]
            assert [json.loads(one["text"]) for one in told] == [{"mode": "warn"}]
        assert "the policy would refuse it" in worker.log
    finally:
        worker.stop()

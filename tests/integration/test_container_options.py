"""What a container gets of what a job asks for: by what the container itself sees, or by its engine's inspection."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import docker
import docker.errors
import docker.types
import pytest

from jaas_submit import Cause, Client, JobHandle, JobSpec, JobState, LogStatus
from tests.support.jobs import LONG, container_of, run, shell
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

NAME = f"t-{uuid.uuid4().hex[:8]}"
"""Of a config, a volume and a network of this module."""

JAAS = [sys.executable, "-m", "jaas_submit.cli.main"]

SHM = {"type": "tmpfs", "target": "/dev/shm", "tmpfs_size": "2M", "tmpfs_mode": 0o1750}
CONFIGS = [NAME, {"source": NAME, "target": "/etc/app/conf", "uid": "7", "gid": "8", "mode": 0o440}]

# What a job asks for; a piece of shell that looks at it from within; what it prints.
SEEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "grep CapEff /proc/self/status; cat /proc/1/comm; id -G", "CapEff:\t00000000800405fb\nsh\n0\n"),
    "cap_add": ({"cap_add": ["NET_ADMIN"]}, "grep CapEff /proc/self/status", "CapEff:\t00000000800415fb\n"),
    "what a worker takes away by default": (
        {"cap_add": ["NET_RAW"]},
        "grep CapEff /proc/self/status",
        "CapEff:\t00000000800425fb\n",
    ),
    "cap_drop": (
        {"cap_drop": ["ALL"], "cap_add": ["KILL"]},
        "grep CapEff /proc/self/status",
        "CapEff:\t0000000000000020\n",
    ),
    "ulimits": (
        {"ulimits": {"nofile": "100:200", "core": 0}},
        "ulimit -Sn; ulimit -Hn; ulimit -c",
        "100\n200\n0\n",
    ),
    "sysctls": (
        {"sysctls": {"net.core.somaxconn": 1234, "kernel.msgmax": 4096}},
        "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax",
        "1234\n4096\n",
    ),
    "init": ({"init": True}, "tr '\\0' ' ' < /proc/1/cmdline | cut -c 1-17", "/sbin/docker-init\n"),
    "read_only": ({"read_only": True}, "touch /here 2>&1 | grep -o 'Read-only file system'", "Read-only file system\n"),
    "pids_limit": (
        {"pids_limit": 7},
        "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max",
        "7\n",
    ),
    "groups": ({"groups": ["1234", "5678"], "user": "1000:1000"}, "id -G", "1000 1234 5678\n"),
    "hostname": ({"hostname": "render-1.local"}, "hostname", "render-1.local\n"),
    "extra_hosts": (
        {"extra_hosts": ["db:10.0.0.7", "six:fd00::7"]},
        "grep -E 'db|six' /etc/hosts",
        "10.0.0.7\tdb\nfd00::7\tsix\n",
    ),
    "dns": (
        {"dns": ["10.0.0.9"], "dns_search": ["a.example", "b.example"], "dns_opt": ["ndots:3", "rotate"]},
        "grep -E '^(nameserver|search|options)' /etc/resolv.conf | sort",
        "nameserver 10.0.0.9\noptions ndots:3 rotate\nsearch a.example b.example\n",
    ),
    "tmpfs": (
        {"mounts": [SHM]},
        "df -k /dev/shm | tail -n 1 | awk '{print $2}'; stat -c %a /dev/shm",
        "2048\n1750\n",
    ),
    "configs": (
        {"configs": CONFIGS},
        f"cat /{NAME}; stat -c '%a %u %g' /etc/app/conf; cat /etc/app/conf",
        "a=b\n440 7 8\na=b\n",
    ),
    "volume": (
        {
            "mounts": [
                {
                    "type": "volume",
                    "source": NAME,
                    "target": "/v",
                    "volume_driver": "local",
                    "volume_options": {"type": "tmpfs", "device": "tmpfs", "o": "size=3m"},
                    "volume_labels": {"whose": NAME},
                }
            ]
        },
        "df -k /v | tail -n 1 | awk '{print $1, $2}'",
        "tmpfs 3072\n",
    ),
    "a copied volume": (
        {"mounts": [{"type": "volume", "target": "/etc"}]},
        "test -e /etc/passwd && echo the image has it",
        "the image has it\n",
    ),
    "volume_nocopy": (
        {"mounts": [{"type": "volume", "target": "/etc", "volume_nocopy": True}]},
        "test -e /etc/passwd || echo nothing copied",
        "nothing copied\n",
    ),
    "tty": (
        {"tty": True},
        "test -t 1 && echo a terminal; echo error >&2; printf prompt:",
        "a terminal\r\nerror\r\nprompt:",
    ),
    "no tty": ({}, "test -t 1 || echo none", "none\n"),
}


# What a job asks for; the path in the engine's answer about its container; what is there.
INSPECTED: dict[str, tuple[dict[str, Any], str, Any]] = {
    "log_driver": (
        {"log_driver": "json-file", "log_options": {"max-size": "1m"}},
        "HostConfig.LogConfig",
        {"Type": "json-file", "Config": {"max-size": "1m"}},
    ),
    "labels": ({"labels": {"team": "web"}}, "Config.Labels.team", "web"),
    "container_labels": ({"container_labels": {"org/one": "a=b"}}, "Config.Labels.org/one", "a=b"),
    "a tenant": ({"labels": {"jaas.tenant": "web", "jaas.signed": "x"}}, "Config.Labels.jaas*tenant", "web"),
    "no other label of jaas": ({"labels": {"jaas.signed": "x"}}, "Config.Labels.jaas*signed", None),
    "healthcheck": (
        {"healthcheck": {"test": "test -e /bin", "interval": "2s", "retries": 3, "timeout": 1, "start_period": 9}},
        "Config.Healthcheck",
        {
            "Test": ["CMD-SHELL", "test -e /bin"],
            "Interval": 2 * 10**9,
            "Timeout": 10**9,
            "StartPeriod": 9 * 10**9,
            "Retries": 3,
        },
    ),
    "init": ({"init": False}, "HostConfig.Init", False),
    "bind_propagation": (
        {"mounts": [{"source": "/tmp", "target": "/here", "bind_propagation": "private"}]},
        "Mounts.0.Propagation",
        "private",
    ),
    "volume labels": (
        {
            "mounts": [
                {"type": "volume", "source": f"{NAME}-labelled", "target": "/v", "volume_labels": {"whose": NAME}},
            ]
        },
        "Mounts.0.Name",
        f"{NAME}-labelled",
    ),
}


@pytest.fixture(scope="module")
def things(docker_api: docker.APIClient) -> Iterator[None]:
    """A config and a network; they go at the end, and the volumes with them."""
    config = docker_api.create_config(NAME, b"a=b\n")["ID"]
    network = docker_api.create_network(NAME, driver="overlay", attachable=True)["Id"]
    yield
    remove = [
        (docker_api.remove_config, config),
        (docker_api.remove_network, network),
        (docker_api.remove_volume, NAME),
        (docker_api.remove_volume, f"{NAME}-labelled"),
    ]
    for action, what in remove:
        eventually(partial(_removed, action, what), LONG, f"{what} to be removed")


def _removed(action: Callable[[str], Any], what: str) -> bool:
    """Remove something, unless a container that has just ended still uses it."""
    try:
        action(what)
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError:
        return False
    return True


@pytest.fixture(scope="module")
def handles(client: Client, things: None, worker: object) -> dict[str, JobHandle]:
    """All jobs of the first table, which run while the tests look at their results."""
    return {name: client.submit(shell(text, **fields)) for name, (fields, text, _) in SEEN.items()}


@pytest.mark.parametrize("name", SEEN)
def test_what_a_container_sees(name: str, handles: dict[str, JobHandle]) -> None:
    result = handles[name].wait(LONG, check=False)
    assert (result.reason, result.stderr, result.stdout) == ("", "", SEEN[name][2])


def _at(facts: Any, path: str) -> Any:
    """Return what is at a dotted path; an asterisk stands for a dot in a name."""
    for part in path.split("."):
        facts = facts[int(part)] if isinstance(facts, list) else (facts or {}).get(part.replace("*", "."))
    return facts


WAITS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def test_what_its_engine_says_of_a_container(client: Client, things: None, docker_api: docker.APIClient) -> None:
    handles = {name: client.submit(shell(WAITS, **fields)) for name, (fields, _, _) in INSPECTED.items()}
    found = {
        name: _at(docker_api.inspect_container(container_of(docker_api, handle.id)), INSPECTED[name][1])
        for name, handle in handles.items()
    }
    assert found == {name: expected for name, (_, _, expected) in INSPECTED.items()}
    assert docker_api.inspect_volume(f"{NAME}-labelled")["Labels"] == {"whose": NAME}
    for handle in handles.values():
        handle.cancel()
    for handle in handles.values():
        handle.wait(LONG, check=False)


def test_a_network_has_the_aliases_and_the_driver_its_options(
    client: Client, things: None, docker_api: docker.APIClient
) -> None:
    attachment = {"name": NAME, "aliases": ["web", "www"], "driver_opts": {"some.option": "x"}}
    served = client.submit(shell(WAITS, networks=[attachment]))
    found = docker_api.inspect_container(container_of(docker_api, served.id))["NetworkSettings"]["Networks"][NAME]
    assert found["DriverOpts"] == {"some.option": "x"}
    asked = run(client, shell("nslookup www | tail -n 4", networks=[NAME]))
    served.cancel()
    assert f"Address: {found['IPAMConfig']['IPv4Address']}\n" in asked.stdout
    served.wait(LONG, check=False)


def test_a_check_of_its_own_ends_a_job_that_is_not_healthy(client: Client) -> None:
    check = {"test": "false", "interval": "100ms", "timeout": "5s", "retries": 1}
    result = run(client, shell(WAITS.replace("exit 0", "exit 9"), healthcheck=check))
    assert result.state is JobState.FAILED
    assert "unhealthy" in result.reason


def test_a_config_that_does_not_exist_fails_the_job_and_says_what_to_do(client: Client) -> None:
    result = run(client, shell("true", configs=["no-such-config"]))
    assert (result.state, result.cause) == (JobState.FAILED, Cause.LAUNCH)
    assert "config no-such-config does not exist in the swarm; create it with `docker config create`" in result.reason


def _tasks(api: docker.APIClient, service: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.tasks(filters={"service": service})
    return found


def test_a_one_shot_is_like_a_deployed_service(
    client: Client, things: None, docker_api: docker.APIClient, jaas: Installation
) -> None:
    secret = docker_api.create_secret(NAME, b"from the stack")["ID"]
    file = docker.types.SecretReference(secret, NAME)
    container = docker.types.ContainerSpec(
        TEST_IMAGE, args=["sh", "-c", WAITS], env={"LEVEL": "7"}, secrets=[file], user="1000:1000"
    )
    task = docker.types.TaskTemplate(
        container, networks=[docker.types.NetworkAttachmentConfig(NAME)], placement=["node.role==manager"]
    )
    served = docker_api.create_service(task, name=NAME, endpoint_spec=docker.types.EndpointSpec(mode="dnsrr"))["ID"]
    try:
        eventually(lambda: "running" in {one["Status"]["State"] for one in _tasks(docker_api, served)}, LONG)
        shown = docker_api.inspect_service(served)
        looks = f'echo "$LEVEL $(id -u) $(cat /run/secrets/{NAME})"; nslookup {NAME} | grep -c Name:'
        for service in (shown, NAME):
            result = run(client, JobSpec.like(service, command=["sh", "-c", looks]))
            assert (result.reason, result.stdout) == ("", "7 1000 from the stack\n1\n")
            spec = client.ledger.queries.get(result.job_id).spec
            assert spec is not None
            assert (spec.image, spec.env, spec.user) == (TEST_IMAGE, {"LEVEL": "7"}, "1000:1000")
            done = subprocess.run(
                [*JAAS, "run", "--like", "-" if service is shown else NAME, "-e", "LEVEL=8", "sh", "-c", looks],
                env=jaas.environment(),
                input=json.dumps([shown]),
                capture_output=True,
                text=True,
                timeout=LONG,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, "8 1000 from the stack\n1\n"), done.stderr
        missing = run(client, JobSpec.like(f"{NAME}-no", command=["true"]))
        assert (missing.state, missing.cause) == (JobState.FAILED, Cause.REFUSED)
        assert f"the swarm has no service {NAME}-no;" in missing.reason
    finally:
        docker_api.remove_service(served)
        eventually(partial(_removed, docker_api.remove_secret, secret), LONG)


def _knows(api: docker.APIClient, version: tuple[int, int]) -> bool:
    return tuple(map(int, api.version()["ApiVersion"].split("."))) >= version


def _refused(client: Client, field: str, version: str, **fields: Any) -> None:
    result = run(client, shell("true", **fields))
    assert (result.state, result.cause) == (JobState.FAILED, Cause.REFUSED)
    assert result.reason.startswith(f"{field}: needs API {version}, and the manager would leave it out")


def test_a_subpath_of_a_volume_is_mounted_or_refused_by_an_older_engine(
    client: Client, things: None, docker_api: docker.APIClient
) -> None:
    volume = {"type": "volume", "source": f"{NAME}-labelled", "target": "/v"}
    assert run(client, shell("mkdir -p /v/below/it; echo there > /v/below/it/file", mounts=[volume])).ok
    below = {"mounts": [{**volume, "volume_subpath": "below/it"}]}
    if _knows(docker_api, (1, 45)):
        assert run(client, shell("cat /v/file", **below)).stdout == "there\n"
    else:
        _refused(client, "mounts.0.volume_subpath", "1.45", **below)


def test_a_start_interval_arrives_or_is_refused_by_an_older_engine(
    client: Client, docker_api: docker.APIClient
) -> None:
    check = {"test": "true", "start_interval": "2s", "start_period": "20s"}
    if not _knows(docker_api, (1, 44)):
        _refused(client, "healthcheck.start_interval", "1.44", healthcheck=check)
        return
    handle = client.submit(shell(WAITS, healthcheck=check))
    found = docker_api.inspect_container(container_of(docker_api, handle.id))
    assert found["Config"]["Healthcheck"]["StartInterval"] == 2 * 10**9
    handle.cancel()
    handle.wait(LONG, check=False)


def test_an_oom_score_is_the_process_s_or_refused_by_an_older_engine(
    client: Client, docker_api: docker.APIClient
) -> None:
    if _knows(docker_api, (1, 46)):
        result = run(client, shell("cat /proc/self/oom_score_adj", oom_score_adj=321))
        assert (result.reason, result.stdout) == ("", "321\n")
    else:
        _refused(client, "oom_score_adj", "1.46", oom_score_adj=321)


def test_the_output_of_a_terminal_is_followed_live(client: Client, witness: Witness) -> None:
    handle = client.submit(witness.spec(f"echo first; {witness.held()}; echo last", tty=True))
    seen = ""
    for text in handle.logs(follow=True, text=True, timeout=LONG):
        seen += text
        if "first" in seen:
            witness.open()
    result = handle.wait(LONG)
    assert seen == "first\r\nlast\r\n"
    assert (result.stdout, result.stderr, result.logs.status) == (seen, "", LogStatus.COMPLETE)

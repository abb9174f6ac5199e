"""What a container gets of what a job asks for: by what the container itself sees, or by its engine's inspection."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import docker.types
import pytest

from jaas_submit import Cause, Client, JobHandle, JobResult, JobSpec, JobState, LogStatus
from tests.support.jobs import LONG, container_of, run, shell
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

NAME = f"t-{uuid.uuid4().hex[:8]}"
"""Of a config, a volume and a network of this module."""

SHM = {"type": "tmpfs", "target": "/dev/shm", "tmpfs_size": "2M", "tmpfs_mode": 0o1750}
CONFIGS = [NAME, {"source": NAME, "target": "/etc/app/conf", "uid": "7", "gid": "8", "mode": 0o440}]

# What a job asks for; a piece of shell that looks at it from within; what it prints.
SEEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "grep CapEff /proc/self/status; cat /proc/1/comm; id -G", "CapEff:\t00000000a80425fb\nsh\n0\n"),
    "cap_add": ({"cap_add": ["NET_ADMIN"]}, "grep CapEff /proc/self/status", "CapEff:\t00000000a80435fb\n"),
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
    "a copied volume": ({"mounts": [{"type": "volume", "target": "/bin2"}]}, "ls /bin2 | wc -l", "0\n"),
    "tty": (
        {"tty": True},
        "test -t 1 && echo a terminal; echo error >&2; printf prompt:",
        "a terminal\r\nerror\r\nprompt:",
    ),
    "no tty": ({}, "test -t 1 || echo none", "none\n"),
}


@pytest.fixture(scope="module")
def things(docker_api: docker.APIClient) -> Iterator[None]:
    """A config and a network; and what the jobs' volume has become goes at the end."""
    config = docker_api.create_config(NAME, b"a=b\n")
    network = docker_api.create_network(NAME, driver="overlay", attachable=True)
    yield
    docker_api.remove_config(config["ID"])
    eventually(lambda: _gone(docker_api, network["Id"]), LONG)


def _gone(api: docker.APIClient, network: str) -> bool:
    """Remove the network and the volume, unless a container that has just ended still uses them."""
    try:
        api.remove_network(network)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError:
        return False
    return True


@pytest.fixture(scope="module")
def handles(client: Client, things: None, worker: object) -> dict[str, JobHandle]:
    """All jobs of the table, which run while the tests look at their results."""
    return {name: client.submit(shell(text, **fields)) for name, (fields, text, _) in SEEN.items()}


@pytest.mark.parametrize("name", SEEN)
def test_what_a_container_sees(name: str, handles: dict[str, JobHandle]) -> None:
    result = handles[name].wait(LONG, check=False)
    assert (result.reason, result.stderr, result.stdout) == ("", "", SEEN[name][2])

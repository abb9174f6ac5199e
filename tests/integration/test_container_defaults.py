"""What containers get by default, and the policy's limit of jobs in flight, by what a real engine's containers see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import docker
import pytest

from jaas_submit import Client, JobSpec, JobState
from tests.support.jobs import ended, until
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]

WORKER = {"remove_delay": 0, "policy": "baseline"}

BITS: Final = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
    "MKNOD": 27,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}
"""Source: linux/capability.h."""

STATUS = JobSpec(image=TEST_IMAGE, command=["sh", "-c", "cat /proc/self/status; echo first: $(cat /proc/1/comm)"])
PLAIN = set(BITS) - {"AUDIT_WRITE", "MKNOD", "NET_RAW"}


@contextmanager
def served(jaas: Installation, name: str, **settings: Any) -> Iterator[Client]:
    """Yield a client of a worker that has a queue and settings of its own."""
    queue = f"{jaas.queue}-{name}"
    worker = jaas.worker(name, queue=queue, **settings)
    if "policy_file" in settings:
        del worker.settings["policy"]
    worker.start()
    try:
        with Client(jaas.redis_url, queue=queue, prefix=jaas.prefix) as client:
            yield client
    finally:
        worker.stop()


def seen(client: Client) -> dict[str, str]:
    """Return what a container sees of itself."""
    result = ended(client, client.submit(STATUS).id)
    assert result.ok, result.reason
    return dict(line.replace("\t", "").split(":", 1) for line in result.stdout.splitlines() if ":" in line)


def capabilities(found: dict[str, str]) -> set[str]:
    mask = int(found["CapEff"], 16)
    assert mask < 1 << 32
    return {name for name, bit in BITS.items() if mask >> bit & 1}


def test_a_container_has_what_plain_images_need_and_can_gain_nothing(
    jaas: Installation, docker_api: docker.APIClient
) -> None:
    with served(jaas, "plain") as client:
        found = seen(client)
    assert capabilities(found) == PLAIN
    assert found["first"].strip() == "sh"
    new = tuple(map(int, docker_api.version()["ApiVersion"].split("."))) >= (1, 44)
    assert found["NoNewPrivs"] == str(int(new)), "older engines leave it out, and no job is refused for that"


def test_a_worker_may_give_less_and_an_init(jaas: Installation) -> None:
    with served(jaas, "init", init="true", capabilities="CHOWN,SETUID") as client:
        found = seen(client)
    assert capabilities(found) == {"CHOWN", "SETUID"}
    assert found["first"].strip() == "docker-init"


def test_a_policy_lets_jobs_keep_a_capability_and_bounds_how_many_run(jaas: Installation, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    queue = f"{jaas.queue}-kept"
    file.write_text(f'rules.capabilities.keep = ["NET_RAW"]\n[queues."{queue}"]\nrules.in_flight = 2\n')
    with served(jaas, "kept", policy_file=file) as client:
        assert capabilities(seen(client)) == PLAIN | {"NET_RAW"}
        # They run until they are cancelled, and at once.
        sleep = JobSpec(image=TEST_IMAGE, command=["sleep", "600"], stop_grace=0)
        handles = [client.submit(sleep) for _ in range(3)]
        running = eventually(lambda: _running(handles, 2), 60, "two to run")
        (waits,) = [one for one in handles if one not in running]
        told = f"waits: 2 jobs of queue {queue} are in flight"
        eventually(lambda: told in str(client.explain(waits.id)), 30, "explain to say why")
        assert len(jaas.services()) == 2
        running[0].cancel()
        until(client, waits.id, JobState.RUNNING)
        for one in handles:
            one.cancel()
        for one in handles:
            ended(client, one.id)


def _running(handles: list[Any], count: int) -> list[Any]:
    found = [one for one in handles if one.state == JobState.RUNNING]
    return found if len(found) == count else []

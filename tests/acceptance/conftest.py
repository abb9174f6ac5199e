"""A lab of its own for the acceptance tests: three managers, with the images of stack.yml."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaas_submit import Client
from tests.support.jobs import LONG, docker_cli
from tests.support.real import unavailable
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.worker import Installation, clean_env

REPO = Path(__file__).parents[2]
NAME = "stack"


@dataclass(frozen=True)
class LabNodes:
    """Three managers.

    Args:
        name: of the lab (JAAS_LAB).
        hosts: their engines' URLs.
        net: the first three numbers of their addresses.
    """

    name: str
    hosts: list[str]
    net: str

    def address(self, node: int) -> str:
        """Return a node's address; nodes are counted from 1."""
        return f"{self.net}.1{node}"

    def docker(self, *words: str, node: int = 1) -> str:
        """Run Docker's command line on a node."""
        return docker_cli(self.hosts[node - 1], *words)

    def fault(self, action: str, node: int) -> None:
        """Run ``scripts/lab ACTION NODE``."""
        _lab(self.name, action, str(node))


def _lab(name: str, *words: str) -> str:
    environment = clean_env(JAAS_LAB=name, **{n: v for n, v in os.environ.items() if n == "DOCKER_HOST"})
    done = subprocess.run(
        [REPO / "scripts" / "lab", *words], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def lab() -> Iterator[LabNodes]:
    """The lab; JAAS_LAB, JAAS_LAB_HOSTS and JAAS_LAB_NET name one that is up already and shall stay."""
    if os.environ.get("JAAS_LAB") and "JAAS_LAB_HOSTS" in os.environ:
        yield LabNodes(os.environ["JAAS_LAB"], os.environ["JAAS_LAB_HOSTS"].split(), os.environ["JAAS_LAB_NET"])
        return
    if os.geteuid() != 0:
        unavailable("the lab needs root")
    try:
        told = dict(re.findall(r"^export (\w+)='(.*)'$", _lab(NAME, "up"), re.MULTILINE))
        _lab(NAME, "images")
        yield LabNodes(NAME, told["JAAS_LAB_HOSTS"].split(), told["JAAS_LAB_NET"])
    finally:
        _lab(NAME, "down")


@contextmanager
def one_worker(host: str, folders: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a Redis of its own and one worker, which has seen the nodes.

    Args:
        host: the worker's engine.
        folders: where its files go.
    """
    redis = OwnRedis(folders.mktemp("redis")).start()
    home = Installation(redis.url, host, f"t-{uuid.uuid4().hex[:12]}", folders.mktemp("workers"), remove_delay=0)
    worker = home.worker().start()
    eventually(home.ledger.queries.cluster, LONG, lambda: worker.log)
    yield home
    home.close()
    redis.kill()


@pytest.fixture(scope="module")
def client(jaas: Installation) -> Iterator[Client]:
    """A client of the module's installation."""
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as made:
        yield made

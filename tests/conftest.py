"""Fixtures for all tests. A test that asks for a real Redis or swarm gets the marker `redis` or `engine` by itself."""

from __future__ import annotations

import gc
import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling

from jaas_submit.connection import connect
from jaas_submit.errors import JaasError
from jaas_submit.ledger import Ledger
from jaas_submit.model.wire_names import LABEL_PREFIX
from jaas_worker.swarm.docker_engine import Swarm, require_manager
from tests.support.real import required_env, unavailable
from tests.support.redis_server import OwnRedis
from tests.support.witness import Witness

# The machine is shared, so the duration of an example means nothing. A failing example must be printed for replay.
hypothesis_settings.register_profile("jaas", deadline=None, print_blob=True)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "jaas"))


NO_WARNINGS = (
    "error",
    "ignore:Call to deprecated setex:DeprecationWarning",  # Celery's result backend calls it
    "ignore::ResourceWarning",  # docker-py leaves the socket of a failed connection to the garbage collector
    # Celery's results unsubscribe when they are collected, which fails where an earlier test has stopped their Redis.
    "ignore:Exception ignored in. .function AsyncResult.__del__:pytest.PytestUnraisableExceptionWarning",
)
"""What tests/unit and tests/component may warn of."""


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Write lone surrogates in a report as escapes: xdist cannot send them, and one would end the whole run."""
    return _sendable((yield))


def _sendable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {key: _sendable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(map(_sendable, data))
    return data


def pytest_configure() -> None:
    # Started in the background of a script, a process ignores Ctrl-C, and so would the programs that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _ByServers(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Where tests run side by side (scripts/test), those that share servers stay in one process, in their order."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        # Not --dist=loadgroup: with pytest 9.2 the group's name does not get into the test's id, and all are spread.
        return "the acceptance tests' lab" if module.startswith("tests/acceptance/") else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByServers:
    return _ByServers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "engine_host" in names:
            item.add_marker("engine")
        if "redis_url" in names or "own_redis" in names:
            item.add_marker("redis")
        if item.nodeid.startswith(("tests/unit/", "tests/component/")):
            item.add_marker(pytest.mark.filterwarnings(*NO_WARNINGS))
        else:
            item.add_marker("no_cover")  # counting slows a worker down, and most of what it does is in other processes


@pytest.fixture(scope="module", autouse=True)
def _garbage_stays_in_its_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what a module with real servers leaves, so that no unit test of the same process is blamed for it."""
    yield
    if not request.node.nodeid.startswith(("tests/unit/", "tests/component/")):
        gc.collect()


@pytest.fixture
def prefix() -> str:
    """A key prefix and service label of this test alone; fine as a queue's name, too."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def _redis_server() -> str:
    url = required_env("JAAS_REDIS_URL")
    with connect(url) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            unavailable(f"no Redis answers at JAAS_REDIS_URL ({error})")
    return url


@pytest.fixture
def redis_url(_redis_server: str, prefix: str) -> Iterator[str]:
    """URL of the real Redis. It may be shared: afterwards the keys with this test's prefix are deleted, no others."""
    yield _redis_server
    with connect(_redis_server) as client:
        jobs = [job.decode(errors="replace") for job in client.zrange(f"{prefix}:jobs", 0, -1)]
        # Queues named after the prefix and kombu's bindings of them have it in the middle of their key.
        keys = [*client.scan_iter(f"*{prefix}*", count=1000), *(f"celery-task-meta-{job}" for job in jobs)]
        for start in range(0, len(keys), 500):
            client.delete(*keys[start : start + 500])


@pytest.fixture
def ledger(redis_url: str, prefix: str) -> Iterator[Ledger]:
    """A ledger in the real Redis, under this test's prefix."""
    with connect(redis_url) as client:
        yield Ledger(client, prefix)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Callable[..., OwnRedis]]:
    """Start Redis servers that the test may kill: ``own_redis(appendfsync="always")``."""
    servers: list[OwnRedis] = []

    def start(**options: str) -> OwnRedis:
        servers.append(OwnRedis(tmp_path / f"redis-{len(servers)}", **options))
        return servers[-1].start()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def _engine() -> str:
    host = required_env("DOCKER_HOST")
    try:
        require_manager(Swarm(host).info(), host)
    except JaasError as error:
        unavailable(str(error))
    return host


@pytest.fixture
def engine_host(_engine: str, prefix: str) -> Iterator[str]:
    """DOCKER_HOST of a real swarm manager; afterwards what has this test's prefix in its label is removed from it."""
    yield _engine
    engine = Swarm(_engine)
    for service in engine.services(f"{LABEL_PREFIX}={prefix}"):
        engine.remove(service.id)
    for name, labels in engine.configs(f"{LABEL_PREFIX}={prefix}").items():
        engine.remove_config(name, labels)


@pytest.fixture
def swarm(engine_host: str) -> Swarm:
    """The real swarm."""
    return Swarm(engine_host)


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """Counts container starts from outside: ``witness.spec(...)`` makes the job, ``witness.starts()`` has the lines."""
    return Witness(tmp_path / "witness")

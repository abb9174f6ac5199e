"""Fixtures for tests with a real worker process: one Redis of its own and one worker for each test module.

A module tunes its workers with a constant ``WORKER = {"lease": "2s"}``.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import celery
import docker
import pytest
from celery.app import app_or_default

from benchmarks.simulator import simulator
from jaas_submit import Client
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess, exceptions_in

_running: list[Installation] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for home in _running:
            for worker in home.workers:
                report.sections.append((f"log of {worker!r}", worker.log[-8000:]))
    return report


@pytest.fixture(scope="module")
def module_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """A Redis of this module alone: Celery's remote control and `CLIENT KILL` reach nobody else's worker."""
    server = OwnRedis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def home(module_redis: OwnRedis, tmp_path: Path) -> Iterator[Installation]:
    """An installation over a simulated engine, without a worker yet, and with nothing in Redis."""
    with simulator(tmp_path, nodes=1, start=0.02, starts=1000) as (engine, _):
        made = Installation(module_redis.url, engine, "simulated", tmp_path, remove_delay=0)
        made.ledger.client.flushall()
        yield made
        made.close()


@pytest.fixture(scope="module")
def jaas(
    request: pytest.FixtureRequest, module_redis: OwnRedis, _engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation of this module alone, with no worker yet."""
    home = Installation(
        module_redis.url,
        _engine,
        f"t-{uuid.uuid4().hex[:12]}",
        tmp_path_factory.mktemp("workers"),
        # Services go at once, so that a test can see that its own are gone.
        **{"remove_delay": 0, **getattr(request.module, "WORKER", {})},
    )
    _running.append(home)
    yield home
    try:
        _none_left(home)
    finally:
        home.close()
        _running.remove(home)
    for worker in home.workers:
        unexpected = [text for text in exceptions_in(worker.log) if not _allowed(request, text)]
        assert not unexpected, f"{worker.name} logged exceptions: {unexpected}\n{worker.log[-4000:]}"


def _none_left(home: Installation) -> None:
    """Wait for the removal of the services of jobs that have just ended."""
    eventually(lambda: not home.services(), 45, lambda: f"services are still there: {home.services()}")


def _allowed(request: pytest.FixtureRequest, exception: str) -> bool:
    return any(text in exception for text in getattr(request.module, "EXCEPTIONS_ALLOWED", ()))


@pytest.fixture(scope="module")
def worker(jaas: Installation) -> WorkerProcess:
    """The module's worker, ready."""
    return jaas.worker().start()


@pytest.fixture(scope="module")
def client(jaas: Installation) -> Iterator[Client]:
    """A client of this module's installation; whether a worker is up is another matter."""
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as made:
        yield made


@pytest.fixture(scope="module")
def foreign(jaas: Installation) -> Iterator[celery.Celery]:
    """A Celery app as people have one, with no code of jaas in it."""
    app = celery.Celery("theirs", broker=jaas.redis_url, backend=jaas.redis_url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture(scope="session")
def docker_api(_engine: str) -> Iterator[docker.APIClient]:
    """The engine, for looking at what jaas made and for meddling with it."""
    api = docker.APIClient(base_url=_engine, version="auto")
    yield api
    api.close()


@pytest.fixture
def no_service_left(jaas: Installation) -> Iterator[None]:
    """After the test no service of this installation exists."""
    yield
    try:
        _none_left(jaas)
    finally:
        jaas.remove_services()


@pytest.fixture
def foreign_is_current(foreign: celery.Celery) -> Iterator[None]:
    """Somebody's app as Celery's current one, as `app = Celery(...)` does in their own programs by default."""
    before = app_or_default()
    foreign.set_current()
    yield
    before.set_current()

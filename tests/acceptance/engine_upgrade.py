"""An engine that is upgraded in place, on its own data, below a worker that goes on running.

``scripts/test-engines`` runs this module for each newer release; it is not collected with the other tests, since it
needs that release's engine. The newer one refuses the version of the API that the worker has spoken so far.
"""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from jaas_submit import Cause, Client, JobState, LogStatus
from tests.support.jobs import LONG, run, shell, until
from tests.support.real import required_env
from tests.support.redis_server import OwnRedis
from tests.support.worker import Installation, clean_env, exceptions_in

pytestmark = [pytest.mark.lab, pytest.mark.redis, pytest.mark.timeout(600)]

REPO = Path(__file__).parents[2]
BEYOND_1_41 = "1.44"
"""The oldest version of the API that the newer engine takes; Debian 12's engine speaks none newer than 1.41."""


def _lab(*words: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name == "DOCKER_HOST"}
    done = subprocess.run(
        [REPO / "scripts" / "lab", *words],
        env=clean_env(JAAS_LAB="upgrade", JAAS_LAB_NODES="1", **kept, **environment),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def host() -> Iterator[str]:
    """A swarm of one manager, with this machine's own engine at first."""
    try:
        found = re.search(r"^export JAAS_LAB_HOSTS='(.*)'$", _lab("up"), re.MULTILINE)
        assert found is not None
        yield found[1]
    finally:
        _lab("down")


@pytest.fixture
def home(host: str, tmp_path: Path) -> Iterator[Installation]:
    redis = OwnRedis(tmp_path / "redis").start()
    made = Installation(redis.url, host, f"t-{uuid.uuid4().hex[:12]}", tmp_path, remove_delay=0)
    yield made
    made.close()
    redis.kill()


def _engine_version(host: str) -> str:
    api = docker.APIClient(host, version="auto")
    try:
        return str(api.version()["Version"])
    finally:
        api.close()


def test_a_worker_goes_on_when_its_engine_is_upgraded(home: Installation, host: str) -> None:
    release = required_env("JAAS_ENGINE_RELEASE")
    worker = home.worker().start()
    before = _engine_version(host)
    with Client(home.redis_url, queue=home.queue, prefix=home.prefix) as client:
        assert run(client, shell("echo before")).logs.stdout == "before\n"
        running = client.submit(shell("sleep 600", stop_grace=1))
        until(client, running.id, JobState.RUNNING)
        pid = worker.pid

        _lab("upgrade", "1", release, DOCKER_MIN_API_VERSION=BEYOND_1_41)

        lost = running.wait(3 * LONG, check=False)
        assert (lost.cause, lost.exit_code, lost.logs.status) == (Cause.ENGINE, None, LogStatus.UNAVAILABLE)
        after = run(client, shell("echo after; exit 4"))
        assert (after.cause, after.exit_code, after.logs.stdout) == (Cause.EXIT, 4, "after\n")
    assert _engine_version(host) != before
    assert (worker.pid, exceptions_in(worker.log)) == (pid, [])

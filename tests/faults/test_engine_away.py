"""A worker whose engine is away takes no new jobs, gives back those it has not begun with, and goes on afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jaas_submit import Cause, Client, JobState
from jaas_submit.doctor.check import Verdict
from jaas_submit.doctor.redis_checks import redis_checks
from jaas_worker.doctor import engine_checks
from jaas_worker.swarm.docker_engine import Swarm
from tests.faults.proxies import EngineProxy, ProxyLoop
from tests.support.real import required_env
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.timeout(300)]


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[EngineProxy]:
    """Between a worker and its engine."""
    loop = ProxyLoop()
    yield EngineProxy(loop, Path(required_env("DOCKER_HOST").removeprefix("unix://")), tmp_path / "engine.sock")
    loop.close()


@pytest.fixture
def home(own_redis: Callable[..., OwnRedis], proxy: EngineProxy, tmp_path: Path) -> Iterator[Installation]:
    """An installation with a Redis of its own; its workers end before the proxy does."""
    server = own_redis()
    made = Installation(server.url, required_env("DOCKER_HOST"), f"t-away-{server.port}", tmp_path, lease="2s")
    yield made
    made.close()


def test_new_jobs_go_to_the_workers_whose_engine_answers(
    home: Installation, proxy: EngineProxy, witness: Witness
) -> None:
    host = f"unix://{proxy.path}"
    cut_off = home.worker("cut-off", docker_host=host, max_in_flight=1, idle_interval="0.5").start()
    with Client(home.redis_url, queue=home.queue, prefix=home.prefix) as client:
        running = client.submit(witness.spec(witness.held()))
        eventually(lambda: running.state is JobState.RUNNING, 60, lambda: cut_off.log)
        waiting = [client.submit(witness.spec()) for _ in range(2)]
        eventually(lambda: all(f"[{job.id}] received" in cut_off.log for job in waiting), 30, lambda: cut_off.log)

        proxy.refuse(True)
        eventually(lambda: "taking no new jobs" in cut_off.log, 30, lambda: cut_off.log)

        # It says so, to those who look.
        eventually(lambda: any(check.name == "workers' engines" for check in redis_checks(client)), 20)
        assert engine_checks(Swarm(host))[0].verdict is Verdict.FAIL
        # What it had received is back in the queue, and what is new stays there.
        new = client.submit(witness.spec())
        eventually(lambda: home.ledger.client.llen(home.queue) == 3, 20, lambda: cut_off.log)

        other = home.worker("other").start()
        for job in (*waiting, new):
            assert job.wait(60).exit_code == 0
            assert f"job {job.id}: launched" in other.log
        other.stop()

        proxy.refuse(False)
        last = client.submit(witness.spec())
        witness.open()
        assert (running.wait(60).cause, last.wait(60).exit_code) == (Cause.EXIT, 0)
        assert "the engine answers again" in cut_off.log
        eventually(lambda: all(check.name != "workers' engines" for check in redis_checks(client)), 20)
        assert len(witness.starts()) == 5

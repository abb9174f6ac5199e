"""`jaas doctor`: what it finds, and what it says to do."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import click.testing
import pytest
import redis

from jaas_submit import Client
from jaas_submit.checks import Check, Verdict, redis_checks
from jaas_submit.cli import cli
from jaas_submit.errors import EngineUnavailable
from jaas_submit.ledger import Ledger
from jaas_worker.doctor import engine_checks
from jaas_worker.engine import SwarmInfo
from tests.support.fake_swarm import FakeSwarm
from tests.support.redis_server import OwnRedis


@pytest.fixture
def client(redis_url: str, prefix: str) -> Client:
    return Client(redis_url, queue=prefix, prefix=prefix)


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_a_redis_in_order(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    info = client.ledger.client.info() | {"aof_enabled": 1, "maxmemory_policy": "noeviction", "maxmemory": 0}
    monkeypatch.setattr(redis.Redis, "info", lambda _: info)
    client.ledger.renew("w1", 60, {})
    client.ledger.create("a", None, client.queue)
    found = redis_checks(client)
    assert {check.verdict for check in found} == {Verdict.OK}
    assert by_name(found)["workers"].detail == "1 alive, with 0 jobs in their hands"
    assert by_name(found)["queue"].detail == f"{client.queue}: 0 messages; 1 jobs QUEUED"


@pytest.mark.parametrize(
    ("info", "name", "verdict", "detail", "fix"),
    [
        ({"aof_enabled": 0}, "append-only file", "warn", "off", "--appendonly yes"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 2**30}, "memory", "FAIL", "allkeys-lru", "noeviction"),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": 0}, "memory", "warn", "volatile-ttl", "noeviction"),
        ({"maxmemory": 10 * 2**20, "used_memory": 9.5 * 2**20}, "memory", "warn", "9.5 MiB used of 10.0", "raise"),
        ({"maxmemory": 10 * 2**20, "used_memory": 2**20}, "memory", "ok", "1.0 MiB used of 10.0 MiB", ""),
        ({"role": "slave", "master_host": "r1", "master_port": 6379}, "redis", "FAIL", "replica", "r1:6379"),
        ({"valkey_version": "9.1.0"}, "redis", "ok", "Valkey 9.1.0", ""),
    ],
)
def test_what_redis_says_of_itself(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    info: dict[str, Any],
    name: str,
    verdict: str,
    detail: str,
    fix: str,
) -> None:
    usual = client.ledger.client.info() | {"maxmemory_policy": "noeviction"}
    monkeypatch.setattr(redis.Redis, "info", lambda _: usual | info)
    check = by_name(redis_checks(client))[name]
    assert check.verdict == verdict
    assert detail in check.detail
    assert fix in check.fix
    assert bool(check.fix) == (check.verdict is not Verdict.OK)


def test_messages_are_counted(client: Client) -> None:
    client.app.send_task("some.task", queue=client.queue)
    assert "1 messages" in by_name(redis_checks(client))["queue"].detail


@pytest.mark.parametrize(("offset", "verdict"), [(0.5, "ok"), (-1.5, "ok"), (2.5, "warn"), (-60.0, "warn")])
def test_clocks_that_differ(client: Client, monkeypatch: pytest.MonkeyPatch, offset: float, verdict: str) -> None:
    now = time.time
    monkeypatch.setattr(Ledger, "now", lambda _: now() + offset)
    check = by_name(redis_checks(client))["clock"]
    assert check.verdict == verdict
    assert f"{abs(offset):.1f} s {'ahead' if offset > 0 else 'behind'}" in check.detail


def test_no_worker(client: Client) -> None:
    check = by_name(redis_checks(client))["workers"]
    assert (check.verdict, "jaas worker" in check.fix) == (Verdict.WARN, True)


def test_a_redis_that_is_not_there() -> None:
    (check,) = redis_checks(Client("redis://127.0.0.1:1"))
    assert (check.name, check.verdict) == ("redis", Verdict.FAIL)
    assert "--redis or JAAS_REDIS_URL" in check.fix


def test_a_redis_that_forbids_a_command(own_redis: Callable[..., OwnRedis]) -> None:
    server = own_redis()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-info")
    found = by_name(redis_checks(Client(server.url)))
    assert found["redis"].verdict is Verdict.FAIL
    assert "INFO" in found["redis"].fix


# -- the engine -------------------------------------------------------------------------------------------------------


class Engine(FakeSwarm):
    """One that says what the test wants."""

    def __init__(self, **said: Any) -> None:
        super().__init__()
        usual = {"engine_version": "20.10.24", "api_version": "1.41", "node_id": "n", "node_name": "vm"}
        self.said = SwarmInfo(**{**usual, "state": "active", "manager": True, **said})

    def info(self) -> SwarmInfo:
        return self.said


class DeadEngine(FakeSwarm):
    def info(self) -> SwarmInfo:
        raise EngineUnavailable("asking the engine: the engine does not answer")


@pytest.mark.parametrize(
    ("engine", "verdicts", "detail", "fix"),
    [
        (Engine(), "engine ok, swarm ok, manager ok", "Docker 20.10.24, API 1.41", ""),
        (Engine(api_version="1.52"), "engine ok, swarm ok, manager ok", "API 1.52", ""),
        (Engine(api_version="1.39"), "engine FAIL, swarm ok, manager ok", "API 1.39", "upgrade to Docker 20.10"),
        (Engine(state="inactive", manager=False), "engine ok, swarm FAIL", "no swarm: inactive", "docker swarm init"),
        (Engine(state="error", error="no quorum"), "engine ok, swarm FAIL", "error (no quorum)", "docker swarm init"),
        (Engine(manager=False), "engine ok, swarm ok, manager FAIL", "vm is a swarm worker", "docker node promote vm"),
        (DeadEngine(), "engine FAIL", "does not answer", "--no-engine"),
    ],
)
def test_the_engine(engine: FakeSwarm, verdicts: str, detail: str, fix: str) -> None:
    found = engine_checks(engine)
    assert ", ".join(f"{check.name} {check.verdict}" for check in found) == verdicts
    assert detail in " ".join(check.detail for check in found)
    assert fix in " ".join(check.fix for check in found)
    assert all(bool(check.fix) == (check.verdict is Verdict.FAIL) for check in found)


def test_a_setting_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAAS_LEASE", "soon")
    (check,) = engine_checks(Engine())
    assert (check.name, check.verdict) == ("settings", Verdict.FAIL)
    assert "JAAS_LEASE" in check.detail


def test_the_real_engine(engine_host: str) -> None:
    assert {check.verdict for check in engine_checks()} == {Verdict.OK}


# -- the command ------------------------------------------------------------------------------------------------------


def doctor(*args: str, **env: str) -> click.testing.Result:
    runner = click.testing.CliRunner()
    return runner.invoke(cli, ["doctor", *args], env=env, prog_name="jaas", catch_exceptions=False)


def test_the_exit_code_is_1_only_when_a_check_fails(redis_url: str) -> None:
    well = doctor("--no-engine", JAAS_REDIS_URL=redis_url)
    assert well.exit_code == 0
    assert well.stdout.splitlines()[0].split() == ["CHECK", "RESULT", "FOUND", "WHAT", "TO", "DO"]
    ill = doctor("--no-engine", "--redis", "redis://127.0.0.1:1")
    assert ill.exit_code == 1
    assert "start Redis" in ill.stdout


def test_json(redis_url: str) -> None:
    data = json.loads(doctor("--no-engine", "--json", JAAS_REDIS_URL=redis_url).stdout)
    assert data["ok"] is True
    assert data["checks"][-1] == {
        "name": "engine",
        "verdict": "skip",
        "detail": "not looked at (--no-engine)",
        "fix": "",
    }


def test_quiet_shows_what_is_not_well(redis_url: str) -> None:
    found = json.loads(doctor("--no-engine", "--json", JAAS_REDIS_URL=redis_url).stdout)["checks"]
    ill = [check["name"] for check in found if check["verdict"] in {"warn", "FAIL"}]
    shown = doctor("--no-engine", "--quiet", JAAS_REDIS_URL=redis_url).stdout.splitlines()[1:]
    assert len(shown) == len(ill)
    assert all(line.startswith(name) for line, name in zip(shown, ill, strict=True))


def test_a_producer_without_the_workers_packages(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jaas_worker.doctor", None)
    done = doctor("--json", JAAS_REDIS_URL=redis_url)
    assert done.exit_code == 0
    check = json.loads(done.stdout)["checks"][-1]
    assert check["verdict"] == "skip"
    assert "pip install 'jaas[worker]'" in check["detail"]

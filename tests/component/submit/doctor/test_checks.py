"""`jaas doctor`: what it finds, and what it says to do."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import celery
import click.testing
import pytest
import redis

from jaas_submit import Client
from jaas_submit.cli.main import cli
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.doctor.flower_checks import flower_checks
from jaas_submit.doctor.redis_checks import redis_checks
from jaas_submit.errors import EngineUnavailable
from jaas_submit.ledger import Ledger
from jaas_worker.doctor import engine_checks
from jaas_worker.swarm.engine import ServiceView, SwarmInfo
from tests.support.fake_swarm import FakeSwarm
from tests.support.ports import free_port
from tests.support.redis_server import OwnRedis


@pytest.fixture
def client(redis_url: str, prefix: str) -> Client:
    return Client(redis_url, queue=prefix, prefix=prefix)


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_a_redis_in_order(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    info = client.ledger.client.info() | {"aof_enabled": 1, "maxmemory_policy": "noeviction", "maxmemory": 0}
    monkeypatch.setattr(redis.Redis, "info", lambda _: info)
    client.ledger.maintenance.renew_lease("w1", 60, {})
    client.ledger.submission.create("a", None, client.queue)
    found = redis_checks(client)
    assert {check.verdict for check in found} == {Verdict.OK}
    assert by_name(found)["workers"].detail == "1 worker alive, holding 0 jobs"
    assert by_name(found)["queue"].detail == f"{client.queue}: 0 messages; 1 job QUEUED"


@pytest.mark.parametrize(
    ("info", "name", "verdict", "detail", "fix"),
    [
        ({"aof_enabled": 0}, "append-only file", "FAIL", "off", "--appendonly yes"),
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
    assert ": 1 message;" in by_name(redis_checks(client))["queue"].detail


def producer(client: Client, **transport: Any) -> celery.Celery:
    app = celery.Celery("theirs", broker=client.app.conf.broker_url, set_as_current=False)
    app.conf.broker_transport_options = transport
    return app


@pytest.mark.parametrize("sep", ["\x06\x16", ":"])
def test_messages_of_all_priorities_are_counted(client: Client, sep: str) -> None:
    app = producer(client, priority_steps=list(range(10)), sep=sep)
    for priority in range(10):
        app.send_task("jaas.run", queue=client.queue, priority=priority)
    found = by_name(redis_checks(client))
    assert "10 messages" in found["queue"].detail
    assert "unread lists" not in found


@pytest.mark.parametrize(
    ("transport", "priority", "key"),
    [
        ({"sep": "|"}, 3, "{}|3"),
        ({"global_keyprefix": "theirs-"}, 0, "theirs-{}"),
    ],
)
def test_jobs_that_wait_where_no_worker_looks_are_named(
    client: Client, transport: dict[str, Any], priority: int, key: str
) -> None:
    for task in ("jaas.run", "their.own"):
        producer(client, **transport).send_task(task, queue=client.queue, priority=priority)
    check = by_name(redis_checks(client))["unread lists"]
    assert check.verdict is Verdict.FAIL
    assert f"2 in '{key.format(client.queue)}'" in check.detail
    assert "correct sep and global_keyprefix" in check.fix


def test_lists_of_other_people_are_not_named(client: Client) -> None:
    producer(client).send_task("their.own", queue=f"{client.queue}-theirs")
    assert "unread lists" not in by_name(redis_checks(client))


@pytest.mark.parametrize(("offset", "verdict"), [(0.5, "ok"), (-1.5, "ok"), (2.5, "warn"), (-60.0, "warn")])
def test_clocks_that_differ(client: Client, monkeypatch: pytest.MonkeyPatch, offset: float, verdict: str) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(Ledger, "now", lambda _: now + offset)
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


class Leaderless(Engine):
    """A manager that has lost the others."""

    def down_nodes(self) -> set[str]:
        raise EngineUnavailable("listing nodes: rpc error: code = Unknown desc = The swarm does not have a leader.")


class DeadEngine(FakeSwarm):
    def info(self) -> SwarmInfo:
        raise EngineUnavailable("asking the engine: the engine does not answer")


@pytest.mark.parametrize(
    ("engine", "verdicts", "detail", "fix"),
    [
        (Engine(), "engine ok, swarm ok, manager ok, leader ok", "Docker 20.10.24, API 1.41", ""),
        (Engine(api_version="1.52"), "engine ok, swarm ok, manager ok, leader ok", "API 1.52", ""),
        (
            Engine(api_version="1.39"),
            "engine FAIL, swarm ok, manager ok, leader ok",
            "API 1.39",
            "upgrade to Docker 20.10",
        ),
        (Engine(state="inactive", manager=False), "engine ok, swarm FAIL", "no swarm: inactive", "docker swarm init"),
        (Engine(state="error", error="no quorum"), "engine ok, swarm FAIL", "error (no quorum)", "docker swarm init"),
        (Engine(manager=False), "engine ok, swarm ok, manager FAIL", "vm is a swarm worker", "docker node promote vm"),
        (Leaderless(), "engine ok, swarm ok, manager ok, leader FAIL", "not have a leader", "more than half"),
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


WARNED = [Check("nodes", Verdict.WARN, "n2 is down", "start it")]


def doctor(*args: str, **env: str) -> click.testing.Result:
    runner = click.testing.CliRunner()
    return runner.invoke(cli, ["doctor", *args], env=env, prog_name="jaas", catch_exceptions=False)


def test_the_exit_code_is_1_when_a_check_fails_and_3_when_one_warns(
    own_redis: Callable[..., OwnRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_url = own_redis().url  # a shared one may know nodes and agents of other tests
    well = doctor("--no-engine", JAAS_REDIS_URL=redis_url)
    assert well.exit_code == (3 if "  warn  " in well.stdout else 0)
    monkeypatch.setattr("jaas_submit.doctor.redis_checks.redis_checks", lambda _: [])
    monkeypatch.setattr("jaas_submit.doctor.ledger_checks.ledger_checks", lambda _: [])
    monkeypatch.setattr("jaas_submit.doctor.waiting_checks.waiting_checks", lambda _: WARNED)
    assert doctor("--no-engine", JAAS_REDIS_URL=redis_url).exit_code == 3
    monkeypatch.setattr("jaas_submit.doctor.waiting_checks.waiting_checks", lambda _: [])
    assert doctor("--no-engine", JAAS_REDIS_URL=redis_url).exit_code == 0
    monkeypatch.undo()
    assert well.stdout.splitlines()[0].split() == ["CHECK", "RESULT", "FOUND", "WHAT", "TO", "DO"]
    ill = doctor("--no-engine", "--redis", "redis://127.0.0.1:1")
    assert ill.exit_code == 1
    assert "start Redis" in ill.stdout


def test_json(redis_url: str) -> None:
    data = json.loads(doctor("--no-engine", "--json", JAAS_REDIS_URL=redis_url).stdout)
    assert data["ok"] is True
    assert data["warnings"] is any(check["verdict"] == "warn" for check in data["checks"])
    assert data["checks"][-1] == {
        "name": "engine",
        "verdict": "skip",
        "detail": "not looked at (--no-engine)",
        "fix": "",
    }


def test_quiet_shows_what_is_not_well(own_redis: Callable[..., OwnRedis]) -> None:
    redis_url = own_redis().url  # what two runs tell of a shared one differs when other tests change it in between
    found = json.loads(doctor("--no-engine", "--json", JAAS_REDIS_URL=redis_url).stdout)["checks"]
    ill = [check["name"] for check in found if check["verdict"] in {"warn", "FAIL"}]
    shown = doctor("--no-engine", "--quiet", JAAS_REDIS_URL=redis_url).stdout.splitlines()[1:]
    assert len(shown) == len(ill)
    assert all(line.startswith(name) for line, name in zip(shown, ill, strict=True))


def test_a_producer_without_the_workers_packages(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jaas_worker.doctor", None)
    done = doctor("--json", JAAS_REDIS_URL=redis_url)
    assert done.exit_code in {0, 3}
    check = json.loads(done.stdout)["checks"][-1]
    assert check["verdict"] == "skip"
    assert "pip install '.[worker]'" in check["detail"]


# -- workers --------------------------------------------------------------------


def test_workers_whose_engine_is_away(client: Client) -> None:
    client.ledger.maintenance.renew_lease("a", 60, {"node": "n1", "engine_unavailable": "listing nodes: no leader"})
    client.ledger.maintenance.renew_lease("b", 60, {"node": "n2", "engine_unavailable": ""})
    check = by_name(redis_checks(client))["workers' engines"]
    assert (check.verdict, check.detail) == (Verdict.WARN, "n1: listing nodes: no leader")


def test_a_worker_whose_engine_takes_another_version_of_its_api(client: Client) -> None:
    why = "listing nodes: client version 1.41 is too old. Minimum supported API version is 1.44"
    client.ledger.maintenance.renew_lease("a", 60, {"node": "n1", "engine_unavailable": why})
    check = by_name(redis_checks(client))["workers' engines"]
    assert (check.detail, "restart these workers" in check.fix) == (f"n1: {why}", True)


def test_workers_of_one_version(client: Client) -> None:
    for holder in ("a", "b"):
        client.ledger.maintenance.renew_lease(holder, 60, {"version": "1.2"})
    assert by_name(redis_checks(client))["versions"] == Check("versions", Verdict.OK, "all workers are jaas 1.2")


def test_workers_of_different_versions(client: Client) -> None:
    client.ledger.maintenance.renew_lease("a", 60, {"version": "1.2", "node": "n1"})
    client.ledger.maintenance.renew_lease("b", 60, {"version": "1.3", "node": "n2"})
    client.ledger.maintenance.renew_lease("c", 60, {})  # from before workers told it
    found = by_name(redis_checks(client))["versions"]
    assert (found.verdict, found.detail) == ("warn", "1.2 on n1; 1.3 on n2; unknown on c")


def test_a_workers_clock_that_differs(client: Client) -> None:
    client.ledger.maintenance.renew_lease("a", 60, {"node": "n1", "clock_ahead": -61.2})
    client.ledger.maintenance.renew_lease("b", 60, {"node": "n2", "clock_ahead": 0.3})
    found = by_name(redis_checks(client))["workers' clocks"]
    assert (found.verdict, found.detail) == ("warn", "n1: 61.2 s behind")


def test_a_celery_worker_that_is_not_ours_takes_our_messages(own_redis: Callable[..., OwnRedis]) -> None:
    """Its visibility time-out would rule, as kombu's bookkeeping is shared by all clients of a Redis database."""
    with Client(own_redis().url, queue="jobs") as client:
        for tag, note in {"t1": [{}, "", "jobs"], "t2": [{}, "", "theirs"]}.items():
            client.ledger.client.hset("unacked", tag, json.dumps(note))
        client.ledger.client.hset("unacked", "t3", "garbage")
        found = by_name(redis_checks(client))["other consumers"]
        assert (found.verdict, found.detail) == ("FAIL", "another client holds 1 message of jobs")
        client.ledger.client.hdel("unacked", "t1")
        assert "other consumers" not in by_name(redis_checks(client))


# -- Flower --------------------------------------------------------------------


@pytest.fixture
def answers() -> Iterator[Callable[[int, str], str]]:
    """Start a web server that answers everything in one way; return its URL."""
    servers: list[HTTPServer] = []

    def start(status: int, content_type: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "content_type", "verdict", "detail"),
    [
        (200, "application/json; charset=UTF-8", "FAIL", "is open to everybody"),
        (401, "text/html", "ok", "asks for a password"),
        (500, "text/html", "warn", "answers with status 500"),
    ],
)
def test_flower(answers: Callable[[int, str], str], status: int, content_type: str, verdict: str, detail: str) -> None:
    (found,) = flower_checks(answers(status, content_type))
    assert found.verdict == verdict
    assert detail in found.detail


def test_what_is_no_flower_is_not_judged(answers: Callable[[int, str], str]) -> None:
    assert flower_checks(answers(200, "text/html")) == []


def test_a_flower_that_should_be_there_and_is_not() -> None:
    (found,) = flower_checks(f"http://127.0.0.1:{free_port()}")
    assert found.verdict == "warn"


def test_a_flower_nobody_spoke_of() -> None:
    assert flower_checks(None, f"http://127.0.0.1:{free_port()}") == []


def test_a_flower_that_is_no_url() -> None:
    assert flower_checks("file:///etc/passwd")[0].verdict == "FAIL"


# -- services --------------------------------------------------------------------


def stray(job_id: str, ledger_id: str, created: str = "2020-01-01T00:00:00Z") -> ServiceView:
    labels = {"jaas.prefix": "p", "jaas.ledger": ledger_id, "jaas.job": job_id}
    return ServiceView(f"id-{job_id}", f"jaas-{job_id}-1", labels, created)


def services_check(client: Client, monkeypatch: pytest.MonkeyPatch, views: list[ServiceView]) -> Check:
    fake = FakeSwarm()
    monkeypatch.setattr(fake, "services", lambda _label: views)
    return by_name(engine_checks(fake, client.ledger))["services"]


def test_no_service_is_astray(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ledger.submission.create("a", None, client.queue)
    own = client.ledger.maintenance.identity()
    young = datetime.now(UTC).isoformat()
    views = [stray("a", own), stray("being-made", own, young)]
    assert services_check(client, monkeypatch, views) == Check(
        "services", Verdict.OK, "2 services of this installation, each of a job that has a record"
    )


def test_services_that_are_astray(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    views = [stray("b", "another"), stray("c", client.ledger.maintenance.identity())]
    found = services_check(client, monkeypatch, views)
    assert found.verdict == "warn"
    assert "1 of another ledger with the same prefix (jaas-b-1)" in found.detail
    assert "1 of jobs that Redis does not know (jaas-c-1)" in found.detail

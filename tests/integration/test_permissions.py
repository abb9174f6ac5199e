"""A Redis whose user may not do everything (ACL): which rules a worker needs, and that it names them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import pytest

from benchmarks.simulator import simulator
from jaas_submit import Client, JobSpec
from jaas_submit.connection import connect
from jaas_submit.doctor.redis_checks import redis_checks
from jaas_submit.messaging.permissions import missing_rules
from tests.support.redis_server import OwnRedis
from tests.support.worker import Installation

pytestmark = pytest.mark.redis

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
KEYS = ("~jaas:*", "~jaas*", "~celery*", "~_kombu.binding*", "~*.celery.pidbox*")
CHANNELS = ("&jaas:*", "&celery-task-meta-*", "&/0.celeryev/*", "&/0.celery.pidbox")
COMMANDS = ("+@all", "-@admin", "-@dangerous", "+info")


@pytest.fixture
def server(own_redis: Callable[..., OwnRedis]) -> OwnRedis:
    """A Redis of the test's own."""
    return own_redis()


@pytest.fixture
def limited(server: OwnRedis) -> Callable[..., str]:
    """Make the user "jaas", with these rules; return the URL that names it."""

    def make(*rules: str) -> str:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "jaas", "reset", "on", ">secret", *rules)
        return f"redis://jaas:secret@127.0.0.1:{server.port}/0"

    return make


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DOCKER_HOST of a simulated engine."""
    with simulator(tmp_path_factory.mktemp("engine"), nodes=1, start=0.02, starts=1000) as (host, _):
        yield host


def denied(server: OwnRedis) -> list[Any]:
    with server.client() as client:
        return [(entry["context"], entry["object"]) for entry in client.acl_log()]


def test_the_documented_rules_are_enough(
    server: OwnRedis, limited: Callable[..., str], engine: str, tmp_path: Path
) -> None:
    (line,) = [text for text in PAGE.read_text(encoding="utf-8").splitlines() if "ACL SETUSER jaas" in text]
    documented = line.split("'>PASSWORD'")[1].replace("'", "").split()
    assert sorted(documented) == sorted({*KEYS[1:], *CHANNELS, *COMMANDS})
    url = limited(*documented)
    home = Installation(url, engine, "jaas", tmp_path, remove_delay=0)
    home.worker().start()
    try:
        with Client(url, prefix="jaas", queue="jaas") as client:
            assert client.submit(JobSpec(image="alpine", command=["true"])).wait(30).ok
        app = celery.Celery("theirs", broker=url, backend=url, set_as_current=False)
        sent = app.send_task("jaas.run", kwargs={"spec": {"image": "alpine"}}, queue="jaas")
        assert sent.get(timeout=30)["state"] == "SUCCEEDED"
        assert app.control.inspect(timeout=5).ping()
        app.close()
    finally:
        home.close()
    assert denied(server) == []


@pytest.mark.parametrize("rule", [*KEYS[2:], *CHANNELS])
def test_a_rule_that_is_missing_is_named(limited: Callable[..., str], rule: str) -> None:
    url = limited(*({*KEYS, *CHANNELS, *COMMANDS} - {rule}))
    with connect(url) as client:
        assert missing_rules(client, "jaas", "jaas") == [rule]


def test_keys_of_the_ledger_and_of_the_queue_are_told_apart(limited: Callable[..., str]) -> None:
    with connect(limited("~jaas:*", *KEYS[2:], *CHANNELS, "+@all")) as client:
        assert missing_rules(client, "jaas", "jaas") == ["~jaas*"]
        assert missing_rules(client, "jaas", "jobs") == ["~jobs*"]
        assert missing_rules(client, "other", "jaas") == ["~other:*", "~jaas*", "&other:*"]


def test_a_command_that_is_not_allowed_is_named(limited: Callable[..., str]) -> None:
    with connect(limited(*KEYS, *CHANNELS, "+@all", "-eval", "-publish")) as client:
        assert missing_rules(client, "jaas", "jaas") == ["+publish", "+eval"]


def test_it_changes_nothing(server: OwnRedis) -> None:
    with connect(server.url) as client:
        client.lpush("jaas", "a", "b")
        client.set("celery", "no list")
        assert missing_rules(client, "jaas", "jaas") == []
        assert (client.llen("jaas"), sorted(client.keys())) == (2, [b"celery", b"jaas"])


@pytest.mark.parametrize("starter", [["jaas_submit.cli.main", "worker"], ["celery", "-A", "jaas_worker.app", "worker"]])
def test_a_worker_that_may_not_do_everything_ends_with_the_rule(
    limited: Callable[..., str], engine: str, tmp_path: Path, starter: list[str]
) -> None:
    url = limited(*KEYS, "+@all")
    home = Installation(url, engine, "jaas", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", *starter],
        cwd=tmp_path,
        env=home.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    (sentence,) = [line for line in said.splitlines() if line.startswith("jaas: ")]
    assert sentence.endswith(f"ACL SETUSER jaas {' '.join(CHANNELS)}")
    assert "Traceback" not in said


def test_the_doctor_names_the_rule(limited: Callable[..., str]) -> None:
    with Client(limited(*KEYS, "+@all"), prefix="jaas", queue="jaas") as client:
        (check,) = redis_checks(client)
    assert (check.name, check.verdict) == ("permissions", "FAIL")
    assert check.fix == f"run `redis-cli ACL SETUSER jaas {' '.join(CHANNELS)}`"

"""A Redis whose user may not do everything (ACL): which rules a worker needs, and that it names them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.simulator import simulator
from jaas_submit import Client
from jaas_submit.access.acl import channel_rule, key_rule
from jaas_submit.access.roles import Installation as Place
from jaas_submit.access.roles import Role, grants_of
from jaas_submit.connection import connect
from jaas_submit.doctor.redis_checks import redis_checks
from jaas_submit.messaging.permissions import missing_rules
from tests.support.redis_server import OwnRedis
from tests.support.worker import Installation

pytestmark = pytest.mark.redis

GRANTS = grants_of(Role.WORKER, Place("jaas", ["jaas"]))
KEYS = tuple(key_rule(key) for key in dict.fromkeys(GRANTS.keys))
CHANNELS = tuple(channel_rule(pattern) for pattern in GRANTS.channels)
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


def test_the_rules_are_enough(limited: Callable[..., str]) -> None:
    with connect(limited(*KEYS, *CHANNELS, *COMMANDS)) as client:
        assert missing_rules(client, "jaas", ["jaas"]) == []


@pytest.mark.parametrize(
    "rule", [*(one for one in KEYS if one != "~jaas:[0-9]"), *CHANNELS]
)  # the ledger's keys fit it
def test_a_rule_that_is_missing_is_named(limited: Callable[..., str], rule: str) -> None:
    url = limited(*(one for one in (*KEYS, *CHANNELS, *COMMANDS) if one != rule))
    with connect(url) as client:
        assert missing_rules(client, "jaas", ["jaas"]) == [rule]


def test_of_another_prefix_and_queue_its_own_rules_are_named(limited: Callable[..., str]) -> None:
    with connect(limited(*KEYS, *CHANNELS, *COMMANDS)) as client:
        assert missing_rules(client, "jaas", ["jobs"]) == ["~jobs", "~jobs:[0-9]", "~jobs??[0-9]"]
        assert missing_rules(client, "other", ["jaas"]) == ["~other:*", "&other:0:*"]


def test_a_command_that_is_not_allowed_is_named(limited: Callable[..., str]) -> None:
    with connect(limited(*KEYS, *CHANNELS, "+@all", "-eval", "-publish")) as client:
        assert missing_rules(client, "jaas", ["jaas"]) == ["+publish", "+eval"]


def test_it_changes_nothing(server: OwnRedis) -> None:
    with connect(server.url) as client:
        client.lpush("jaas", "a", "b")
        client.set("celery", "no list")
        assert missing_rules(client, "jaas", ["jaas"]) == []
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

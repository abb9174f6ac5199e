"""`jaas explain`, `--dry-run`, `--key`, `replay`, `cancel --label` and `list --dead` as people start them, for real."""

from __future__ import annotations

import json
import subprocess
import sys

import docker
import pytest

from jaas_submit import Client
from tests.support.jobs import LONG, containers_of, ended
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

WORKER = {"remove_delay": "0.1"}


class Shell:
    """Starts `jaas` as a shell does."""

    def __init__(self, home: Installation) -> None:
        self.environ = home.environment()

    def __call__(self, *args: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "jaas_submit.cli.main", *args]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environ, timeout=90, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def shell(jaas: Installation) -> Shell:
    return Shell(jaas)


def test_a_job_that_ran_out_of_memory_is_found_explained_and_replayed_with_more(
    shell: Shell, client: Client, witness: Witness
) -> None:
    spec = witness.spec("dd if=/dev/zero of=/dev/null bs=64M count=1", limits={"memory": "16M"}, labels={"team": "oom"})
    dead = client.submit(spec).id
    result = ended(client, dead)
    assert (result.cause, result.exit_code) == ("oom", 137)
    assert shell("list", "--dead", "--cause", "oom", "--label", "team=oom", "-q").split() == [dead]
    explained = shell("explain", dead)
    assert "for its memory" in explained
    assert "(cause oom, exit code 137; task: non-zero exit (137): " in explained
    assert "What may help: raise limits.memory" in explained
    made = shell("replay", "-q", "--cause", "oom", "--label", "team=oom", "--set", "memory=256M").strip()
    assert ended(client, made).ok
    assert f"It is a replay of job {dead}." in shell("explain", made)
    assert f"It was replayed as job {made}." in shell("explain", dead)
    assert shell("replay", "-q", "--cause", "oom", "--label", "team=oom") == ""
    assert [line.split()[0] for line in witness.starts()][-2:] == [dead, made]


def test_a_dry_run_agrees_with_what_then_happens(
    shell: Shell, client: Client, docker_api: docker.APIClient, witness: Witness
) -> None:
    name = docker_api.info()["Name"]
    options = ["--reserve-memory", "100T", TEST_IMAGE, "true"]
    told = json.loads(shell("submit", "--dry-run", "--json", *options, code=1))
    assert (told["fits"], [node["hostname"] for node in told["nodes"]]) == (False, [name])
    assert json.loads(shell("submit", "--dry-run", "--json", TEST_IMAGE, "true"))["fits"] is True
    before = {record.id for record in client.history()}
    shell("submit", "--dry-run", TEST_IMAGE)
    assert {record.id for record in client.history()} == before
    job_id = shell("submit", "-q", "--label", "test=dry", *options).strip()
    eventually(lambda: client.ledger.queries.get(job_id).detail.startswith("no suitable node"), LONG)
    assert "100.0 TiB of memory wanted" in shell("explain", job_id)
    assert shell("cancel", "--label", "test=dry").startswith(f"{job_id}: is PENDING")
    assert ended(client, job_id).cause == "cancelled"
    assert "It was cancelled" in shell("explain", "-q", job_id)


def test_a_key_starts_one_container_however_often_it_is_submitted(
    shell: Shell, client: Client, witness: Witness
) -> None:
    mount = f"{witness.mount.source}={witness.mount.target}"
    command = [TEST_IMAGE, "sh", "-c", f"echo $JAAS_JOB_ID $JAAS_ATTEMPT $HOSTNAME >> {witness.mount.target}/starts"]
    first, second = (shell("submit", "-q", "--key", "cli", "-m", mount, *command).strip() for _ in range(2))
    assert first == second
    assert ended(client, first).ok
    shell("run", "-q", "--key", "cli", "-m", mount, *command)
    assert len(witness.starts()) == 1


def test_a_retry_policy_from_the_shell_is_carried_out(shell: Shell, client: Client) -> None:
    policy = {"rules": [{"action": "ignore", "exit_codes": 75}], "backoff": {"kind": "constant", "delay": 0}}
    then = '[ "$JAAS_ATTEMPT" = 3 ] || exit 75; echo third'
    assert shell("run", "-q", "--retry-policy", json.dumps(policy), TEST_IMAGE, "sh", "-c", then) == "third\n"
    record = client.history(limit=1)[0]
    assert [a.exit_code for a in record.attempts] == [75, 75, 0]
    shown = shell("status", record.id)
    assert "attempt 1: exit, exit code 75" in shown
    assert "attempt 2: exit, exit code 75" in shown


def test_cancel_all_leaves_no_container(
    shell: Shell, client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    handles = client.submit_many(witness.spec(witness.held()) for _ in range(3))
    eventually(lambda: len(witness.starts()) == 3, LONG)
    told = [json.loads(line) for line in shell("cancel", "--all", "--yes", "--json").splitlines()]
    assert {line["id"] for line in told} == {handle.id for handle in handles}
    for handle in handles:
        assert ended(client, handle.id).cause == "cancelled"
        assert not containers_of(docker_api, handle.id)
    assert client.active() == []

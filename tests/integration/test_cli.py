"""`jaas` as people start it: a process of its own, a real worker, Redis and swarm."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import jsonschema
import pytest

from jaas_submit import Client
from jaas_submit.batch_model.schema import result_schema
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import Installation, clean_env

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

COMMAND = [sys.executable, "-m", "jaas_submit.cli.main"]
UNTIL_STOPPED = "trap 'exit 143' TERM; while :; do sleep 0.05; done"


class Shell:
    """Starts `jaas` as a shell does."""

    def __init__(self, home: Installation) -> None:
        self.environ = home.environment()

    def __call__(self, *args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *args],
            input=stdin,
            capture_output=True,
            text=True,
            env={**self.environ, **env},
            timeout=90,
            check=False,
        )


@pytest.fixture(scope="module")
def shell(jaas: Installation) -> Shell:
    return Shell(jaas)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[-1]


# -- run: how it ends -------------------------------------------------------------------------------------------------


def test_output_exit_code_and_progress(shell: Shell) -> None:
    done = shell("run", TEST_IMAGE, "sh", "-c", "echo out; echo err >&2; sleep 4; exit 4")
    assert done.returncode == 4
    assert done.stdout == "out\n"
    assert "err" in done.stderr.splitlines()
    assert re.search(r"^jaas: +[\d.]+ s  running on \S+$", done.stderr, re.MULTILINE)
    assert re.search(r"failed with exit code 4 .* on \S+ \(\d+\.\ds\)$", last_line(done))


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ([TEST_IMAGE, "true"], 0, "succeeded with exit code 0"),
        ([TEST_IMAGE, "sh", "-c", "exit 255"], 255, "exit code 255"),
        ([TEST_IMAGE, "no-such-program"], 127, "executable file not found"),
        ([TEST_IMAGE, "/etc"], 126, "permission denied"),
        (["jaas-no-such-image:1"], 125, "cause: image"),
        (["-n", "no-such-network", TEST_IMAGE, "true"], 125, "network no-such-network not found"),
        (["--run-timeout", "1s", TEST_IMAGE, "sh", "-c", UNTIL_STOPPED], 124, "ran longer than run_timeout (1 s)"),
        (["-t", "5s", "-c", "node.hostname==nowhere", TEST_IMAGE, "true"], 124, "no suitable node"),
    ],
)
def test_the_exit_code_is_the_jobs(shell: Shell, args: list[str], code: int, text: str) -> None:
    done = shell("run", *args)
    assert done.returncode == code, done.stderr
    assert text in last_line(done)


def test_json_is_the_result(shell: Shell) -> None:
    done = shell("run", "--json", "-q", TEST_IMAGE, "echo", "hi")
    result = json.loads(done.stdout)
    jsonschema.validate(result, result_schema())
    assert (result["state"], result["exit_code"], result["logs"]["stdout"]) == ("SUCCEEDED", 0, "hi\n")
    assert done.stderr == ""


def test_cancelled_by_another(shell: Shell, client: Client) -> None:
    job_id = shell("submit", "-q", TEST_IMAGE, "sh", "-c", UNTIL_STOPPED).stdout.strip()
    eventually(lambda: client.handle(job_id).state == "RUNNING", 30)
    cancelled = shell("cancel", "--reason", "enough of it", job_id)
    assert cancelled.stdout == f"{job_id}: is RUNNING; its worker stops the container\n"
    done = shell("wait", job_id)
    assert done.returncode == 125
    assert "was cancelled (cause: cancelled; enough of it)" in done.stdout


# -- the Go tool's flags, unchanged -----------------------------------------------------------------------------------


@pytest.fixture
def networks(docker_api: docker.APIClient) -> Iterator[list[str]]:
    names = [f"t-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        docker_api.create_network(name, driver="overlay")
    yield names
    for name in names:
        _remove(docker_api.remove_network, name)


def _remove(remove: Callable[[str], object], what: str) -> None:
    """Remove something that the swarm lets go of some time after the last service that used it."""

    def removed() -> bool:
        try:
            remove(what)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError:
            return False
        return True

    eventually(removed, 60)


@pytest.fixture
def secret(docker_api: docker.APIClient) -> Iterator[str]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    made = docker_api.create_secret(name, b"s3cret")
    yield name
    _remove(docker_api.remove_secret, made["ID"])


def test_the_go_tools_flags(shell: Shell, networks: list[str], secret: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nFROM_FILE=a b\n")
    (tmp_path / "data").write_text("mounted\n")
    script = f'echo "$FROM_FILE,$SHORT"; cat /data/data /run/secrets/{secret}; ls /sys/class/net | grep -c eth'
    done = shell(
        "run",
        *("-i=" + TEST_IMAGE, "-n", networks[0], "--network=" + networks[1], "-c", "node.role==manager"),
        *("-e", "SHORT=x  y", "--env-file", str(tmp_path / "env"), "-m", f"{tmp_path}=/data", "-s", secret),
        *("-t", "60s", "-r=false", "-b", "-l=true", "--command", f"sh -c '{script}'"),
    )
    assert done.returncode == 0, done.stderr
    greeting, mounted, *rest = done.stdout.splitlines()
    assert (greeting, mounted) == ("a b,x  y", "mounted")
    # Both networks, not the first one only (the third card is the bridge to the outside).
    assert rest == ["s3cret3"]
    assert "the service is removed all the same" in done.stderr


# -- submit, wait, logs, list -----------------------------------------------------------------------------------------


def test_submit_wait_logs_list(shell: Shell, witness: Witness) -> None:
    spec = witness.spec("echo one; echo two >&2; echo three", labels={"test": "all"})
    job_id = shell("submit", "-q", "--spec", "-", stdin=spec.to_json()).stdout.strip()
    waited = shell("wait", job_id)
    assert waited.returncode == 0
    assert waited.stdout.startswith(f"job {job_id} succeeded with exit code 0")
    logs = shell("logs", "-f", job_id)
    assert (logs.returncode, logs.stdout) == (0, "one\nthree\n")
    assert "two" in logs.stderr
    stamped = shell("logs", "--timestamps", "--stdout", "--tail", "1", job_id).stdout
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z three\n$", stamped)
    assert shell("list", "-q", "--label", "test=all").stdout == f"{job_id}\n"
    assert "SUCCEEDED" in shell("status", job_id).stdout
    assert len(witness.starts(job_id)) == 1


def test_doctor_finds_all_well(shell: Shell) -> None:
    # A busy engine may not answer in the doctor's five seconds.
    found = eventually(lambda: (told := json.loads(shell("doctor", "--json").stdout))["ok"] and told, 60)
    assert {c["name"]: c["verdict"] for c in found["checks"]}.items() >= {"workers": "ok", "manager": "ok"}.items()


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_the_job_and_says_so(shell: Shell, client: Client) -> None:
    process = _start(shell, "ctrl-c once")
    job_id = _running(client, "ctrl-c once")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"job {job_id} goes on" in errors
    assert "Traceback" not in errors
    assert client.handle(job_id).state == "RUNNING"
    client.cancel(job_id)
    client.wait(job_id, 60, check=False)


def test_a_second_ctrl_c_on_a_terminal_cancels_the_job(shell: Shell, client: Client) -> None:
    mine, theirs = pty.openpty()
    process = _start(shell, "ctrl-c twice", stderr=theirs)
    os.close(theirs)
    job_id = _running(client, "ctrl-c twice")
    process.send_signal(signal.SIGINT)
    _read_until(mine, "press Ctrl-C again")
    process.send_signal(signal.SIGINT)
    shown = _read_until(mine, "its worker stops the container")
    assert "Traceback" not in shown
    assert process.wait(30) == 130
    os.close(mine)
    assert client.wait(job_id, 60, check=False).state == "CANCELLED"


def _start(shell: Shell, label: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "run", "--label", f"test={label}", TEST_IMAGE, "sh", "-c", UNTIL_STOPPED],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=shell.environ,
    )


def _running(client: Client, label: str) -> str:
    """Return the id of the job that `_start` started with a label, once its container runs."""

    def find() -> str:
        jobs = (job for job in client.history(limit=5) if job.spec and job.spec.labels.get("test") == label)
        return next((job.id for job in jobs if job.state == "RUNNING"), "")

    return eventually(find, 60)


def _read_until(terminal: int, text: str) -> str:
    shown = ""
    while text not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown


# -- the worker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        ({"DOCKER_HOST": "unix:///no/such/socket"}, 125, "the engine does not answer"),
        ({"JAAS_LEASE": "soon"}, 2, "JAAS_LEASE"),
    ],
)
def test_a_worker_that_cannot_start_says_why(shell: Shell, settings: dict[str, str], code: int, text: str) -> None:
    done = shell("worker", **settings)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_jaas_worker_runs_jobs(shell: Shell, jaas: Installation, tmp_path: Path) -> None:
    prefix = f"{jaas.prefix}-cli"
    log = tmp_path / "log"
    options = ("--redis", jaas.redis_url, "--prefix", prefix, "--queue", prefix)
    environ = clean_env(DOCKER_HOST=jaas.engine_host, JAAS_TAKE_DEFAULT_QUEUE="false", JAAS_REMOVE_DELAY="0")
    with log.open("wb") as file:
        worker = subprocess.Popen(
            [*COMMAND, "worker", *options, "--max-in-flight", "3", "--name", "mine@%h", "--", "--without-gossip"],
            env=environ,
            stdout=file,
            stderr=file,
        )
    try:
        eventually(lambda: "mine@" in log.read_text() and " ready." in log.read_text(), 60, log.read_text)
        done = shell("run", *options, TEST_IMAGE, "echo", "hi")
        assert (done.returncode, done.stdout) == (0, "hi\n")
    finally:
        worker.terminate()
        assert worker.wait(30) == 0

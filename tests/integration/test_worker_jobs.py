"""What a job can ask for, and what comes back, with a real worker, Redis and swarm."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.types
import pytest

from jaas_submit import AsyncClient, Cause, Client, JobFailed, JobSpec, JobState, LogStatus, Mount, WaitTimeout
from jaas_submit.model.fields import Resources
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from jaas_submit.model.service_options.references import SecretMount
from tests.support.jobs import LONG, celery_result, containers_of, run, shell, until
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]


def service_of(api: docker.APIClient, job_id: str, attempt: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = api.inspect_service(f"jaas-{job_id}-{attempt}")
    return found


# -- how it ends ----------------------------------------------------------------------------------------------------


def test_a_job_runs_once_and_its_output_times_and_node_come_back(
    client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    handle = client.submit(witness.spec("echo out; echo err >&2"))
    states = [change.state for change in handle.follow(LONG)]
    result = handle.wait(LONG)
    assert (result.state, result.cause, result.exit_code) == (JobState.SUCCEEDED, Cause.EXIT, 0)
    assert (result.stdout, result.stderr, result.logs.status) == ("out\n", "err\n", LogStatus.COMPLETE)
    assert states[-1] is JobState.SUCCEEDED
    assert states == sorted(states, key=list(JobState).index)
    assert result.node == docker_api.info()["Name"]
    (attempt,) = result.attempts
    (start,) = witness.starts()
    assert start.split()[:2] == [handle.id, "1"]
    assert attempt.container_id is not None
    assert attempt.container_id.startswith(start.split()[2])
    assert attempt.service == f"jaas-{handle.id}-1"
    assert result.started_at is not None
    assert result.finished_at is not None
    assert result.queued_at < result.started_at <= result.finished_at
    assert result.duration == (result.finished_at - result.started_at).total_seconds()


def test_the_log_has_time_and_stream_of_each_line_in_order(client: Client) -> None:
    handle = client.submit(shell("for i in 1 2 3; do echo out $i; sleep 1; echo err $i >&2; sleep 1; done"))
    handle.wait(LONG)
    logs = handle.logs()
    expected = [(stream, f"{word} {i}\n") for i in (1, 2, 3) for stream, word in (("stdout", "out"), ("stderr", "err"))]
    assert [(line.stream, line.text) for line in logs.lines] == expected
    times = [line.time for line in logs.lines]
    assert times == sorted(times)
    assert all(time.endswith("Z") and time[4] == "-" for time in times)


def test_exit_code_4_is_a_failure_that_says_so(client: Client, witness: Witness) -> None:
    handle = client.submit(witness.spec("echo the last words; exit 4"))
    with pytest.raises(JobFailed, match=r"failed with exit code 4 \(cause: exit;.*\).*\n?.*the last words") as caught:
        handle.wait(LONG)
    result = caught.value.result
    assert result is not None
    assert (caught.value.exit_code, result.state, result.cause) == (4, JobState.FAILED, Cause.EXIT)
    assert len(witness.starts()) == 1


def test_a_bad_end_is_no_exception_where_the_description_says_check_false(client: Client) -> None:
    result = client.submit(shell("exit 3", check=False)).wait(LONG)
    assert (result.ok, result.exit_code) == (False, 3)


@pytest.mark.parametrize(
    ("word", "exit_code"),
    [("no-such-program", 127), ("/no/such/program", 127), ("/etc/passwd", 126), ("/etc", 126)],
)
def test_a_command_that_cannot_be_started_has_the_exit_code_that_docker_has_for_it(
    client: Client, word: str, exit_code: int
) -> None:
    result = run(client, JobSpec(image=TEST_IMAGE, command=[word]))
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.LAUNCH, exit_code)
    assert word in result.reason
    assert result.stdout == result.stderr == ""


def test_an_image_that_does_not_exist_is_named_as_the_cause(client: Client) -> None:
    result = run(client, JobSpec(image="jaas-no-such-image:1"))
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.IMAGE, None)
    assert "jaas-no-such-image:1" in result.reason
    assert result.logs.status is LogStatus.COMPLETE


@pytest.mark.parametrize("signal", [9, 15, 6])
def test_a_process_that_kills_itself_has_128_and_the_signal_as_its_exit_code(client: Client, signal: int) -> None:
    # A container's first process does not die of its own signals; its child does.
    result = run(client, shell(f"sh -c 'kill -{signal} $$'; exit $?"))
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.EXIT, 128 + signal)


def test_a_job_that_takes_more_memory_than_its_limit_is_said_to_be_out_of_memory(client: Client) -> None:
    result = run(client, shell("exec dd if=/dev/zero of=/dev/null bs=512M count=1", limits=Resources(memory="16M")))
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.OOM, 137)


# -- what goes in ---------------------------------------------------------------------------------------------------


def test_environment_arrives_byte_for_byte(client: Client) -> None:
    env = {
        "PLAIN": "value",
        "EMPTY": "",
        "BLANKS": "  two  and  tabs\t ",
        "QUOTES": """it's "quoted" `so` $HOME \\ %s {{.Node.Hostname}}""",
        "UNICODE": "Grüße ☃ 𝄞 \u200b",
        "LINES": "first\nsecond\n",
        "EQUALS": "a=b=c",
        "lower.dotted-name": "yes",
    }
    result = run(client, JobSpec(image=TEST_IMAGE, command=["cat", "/proc/self/environ"], env=env))
    got = dict(item.split("=", 1) for item in result.stdout.split("\0") if item)
    assert {name: got.get(name) for name in env} == env


def test_job_and_attempt_are_in_the_environment_and_nothing_can_say_otherwise(client: Client) -> None:
    env = {"JAAS_JOB_ID": "mine", "JAAS_ATTEMPT": "99"}
    handle = client.submit(shell('echo "$JAAS_JOB_ID $JAAS_ATTEMPT"', env=env))
    assert handle.wait(LONG).stdout == f"{handle.id} 1\n"


WORDS = [
    "two words",
    'say "hi"',
    "it's",
    "$HOME `id` $(id)",
    "*",
    "",
    " ",
    "\t",
    "line\nbreak",
    "Grüße ☃ 𝄞",
    "back\\slash \\n",
    "-n",
    "--",
    "a;b|c&d>e<f",
    "{{.Service.Name}}",
]


def test_each_word_of_a_command_arrives_as_it_is(client: Client) -> None:
    words = [word for word in WORDS if "{{" not in word]
    result = run(client, JobSpec(image=TEST_IMAGE, entrypoint=["printf", "[%s]"], command=words))
    assert result.stdout == "".join(f"[{word}]" for word in words)


def test_a_command_with_braces_is_no_template(client: Client) -> None:
    word = "{{.Service.Name}} {{ no template }"
    assert run(client, JobSpec(image=TEST_IMAGE, command=["printf", "%s", word])).stdout == word


def test_entrypoint_replaces_the_images_and_command_its_arguments(client: Client) -> None:
    assert run(client, JobSpec(image=TEST_IMAGE, entrypoint=["echo", "a"], command=["b"])).stdout == "a b\n"


# -- where it runs --------------------------------------------------------------------------------------------------


def test_a_bind_mount_is_read_and_written(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "with blank, comma=and ☃"
    folder.mkdir()
    (folder / "in").write_text("from the host")
    mount = Mount(source=str(folder), target="/data dir/x")
    result = run(client, shell("cat '/data dir/x/in' && echo from the job > '/data dir/x/out'", mounts=[mount]))
    assert result.stdout == "from the host"
    assert (folder / "out").read_text() == "from the job\n"


def test_a_read_only_mount_cannot_be_written(client: Client, tmp_path: Path) -> None:
    mount = Mount(source=str(tmp_path), target="/data", read_only=True)
    result = run(client, shell("echo x > /data/file", mounts=[mount]))
    assert result.exit_code == 1
    assert "Read-only file system" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_tmpfs_mount_is_empty_and_writable(client: Client) -> None:
    mount = Mount(type="tmpfs", target="/scratch")
    result = run(client, shell("ls -A /scratch; df /scratch | tail -n 1", mounts=[mount]))
    assert result.stdout.startswith("tmpfs ")


@pytest.fixture
def volume(docker_api: docker.APIClient) -> Iterator[str]:
    name = f"t-{uuid.uuid4().hex[:12]}"
    yield name

    def removed() -> bool:
        try:
            docker_api.remove_volume(name)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError:  # the container that used it is still being removed
            return False
        return True

    eventually(removed, 20, f"volume {name} to be removed")


def test_a_volume_keeps_what_one_job_wrote_for_the_next(client: Client, volume: str) -> None:
    mount = Mount(type="volume", source=volume, target="/data")
    assert run(client, shell("echo kept > /data/file", mounts=[mount])).ok
    assert run(client, shell("cat /data/file", mounts=[mount])).stdout == "kept\n"


def test_a_mount_of_a_folder_that_is_not_there_says_so(client: Client) -> None:
    result = run(client, shell("true", mounts=[Mount(source="/no/such/folder", target="/data")]))
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.LAUNCH, None)
    assert "/no/such/folder" in result.reason


@pytest.fixture
def network(docker_api: docker.APIClient) -> Iterator[str]:
    name = f"t-{uuid.uuid4().hex[:12]}"
    docker_api.create_network(name, driver="overlay", attachable=True, scope="swarm")
    yield name

    def removed() -> bool:
        try:
            docker_api.remove_network(name)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError:  # a task on it is still being removed
            return False
        return True

    eventually(removed, 60, f"network {name} to be removed")


@pytest.fixture
def web(docker_api: docker.APIClient, network: str) -> Iterator[str]:
    """A long-running web server on the network, reached by its service's name."""
    name = f"web-{uuid.uuid4().hex[:12]}"
    serve = "mkdir /tmp/www; echo 'hello from the network' > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www"
    made = docker_api.create_service(
        docker.types.TaskTemplate(
            docker.types.ContainerSpec(TEST_IMAGE, command=["sh", "-c", serve], stop_signal="SIGKILL"),
            networks=[docker.types.NetworkAttachmentConfig(network)],
        ),
        name=name,
        endpoint_spec=docker.types.EndpointSpec(mode="dnsrr"),
    )
    yield name
    docker_api.remove_service(made["ID"])


def test_a_job_on_an_overlay_network_reaches_a_service_by_its_name(client: Client, network: str, web: str) -> None:
    get = f"until wget -q -O - http://{web}/ 2>/tmp/why; do sleep 0.1; done"
    result = run(client, shell(get, networks=[network], run_timeout=40))
    assert result.stdout == "hello from the network\n"


def test_a_job_can_be_on_several_networks(client: Client, docker_api: docker.APIClient, network: str) -> None:
    other = f"t-{uuid.uuid4().hex[:12]}"
    docker_api.create_network(other, driver="overlay", attachable=True, scope="swarm")
    # Docker 26 and 28 may still hold the addresses of a network that has been removed: a fault of the engine's.
    again = RetryPolicy(max_cluster_retries=20, backoff=Backoff(kind="constant", delay=1, jitter="none"))
    try:
        both = run(client, shell("ls /sys/class/net | grep -c '^eth'", networks=[network, other], retry=again))
        one = run(client, shell("ls /sys/class/net | grep -c '^eth'", networks=[network], retry=again))
        # One of an overlay network's interfaces is its gateway to the world, and that one is shared.
        assert int(both.stdout) == int(one.stdout) + 1
    finally:
        eventually(lambda: _removed_network(docker_api, other), 30, "the network to be removed")


def _removed_network(api: docker.APIClient, name: str) -> bool:
    try:
        api.remove_network(name)
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError:
        return False
    return True


def test_an_unknown_network_fails_the_job_and_leaves_nothing(client: Client) -> None:
    result = run(client, shell("true", networks=["no-such-network"]))
    assert (result.state, result.cause) == (JobState.FAILED, Cause.LAUNCH)
    assert "no-such-network" in result.reason


@pytest.fixture
def secret(docker_api: docker.APIClient) -> Iterator[tuple[str, str]]:
    name, value = f"t-{uuid.uuid4().hex[:12]}", f"secret-value-{uuid.uuid4().hex}"
    made = docker_api.create_secret(name, value.encode())
    yield name, value

    def removed() -> bool:
        try:
            docker_api.remove_secret(made["ID"])
        except docker.errors.APIError:  # the service that used it is just being removed
            return False
        return True

    eventually(removed, 20, f"secret {name} to be removed")


def test_a_secrets_value_is_in_the_container_and_nowhere_else(
    jaas: Installation, client: Client, worker: WorkerProcess, secret: tuple[str, str]
) -> None:
    name, value = secret
    mounts = [SecretMount(source=name), SecretMount(source=name, target="other", uid="7", gid="8", mode=0o400)]
    spec = shell(f"sha256sum < /run/secrets/{name}; stat -c '%a %u %g' /run/secrets/other", secrets=mounts)
    with client.app.connection_for_read() as connection:
        events: list[dict[str, Any]] = []
        receiver = client.app.events.Receiver(connection, handlers={"*": events.append})
        consumer = receiver.itercapture(limit=None, timeout=LONG, wakeup=False)
        next(consumer, None)
        handle = client.submit(spec)
        while not any(e["type"] == "task-succeeded" and e["uuid"] == handle.id for e in events):
            next(consumer)
    result = handle.wait(LONG)
    assert result.stdout == f"{hashlib.sha256(value.encode()).hexdigest()}  -\n400 7 8\n"
    assert value not in json.dumps(events)
    assert value not in worker.log
    assert value not in handle.logs().text
    assert value not in result.model_dump_json()
    redis = jaas.ledger.client
    for key in redis.scan_iter("*"):
        kind = redis.type(key)
        stored = redis.dump(key) if kind in {b"string", b"hash"} else b""
        assert value.encode() not in (stored or b""), key


def test_a_secret_that_does_not_exist_fails_the_job_and_says_what_to_do(client: Client) -> None:
    result = run(client, shell("true", secrets=["no-such-secret"]))
    assert (result.state, result.cause) == (JobState.FAILED, Cause.LAUNCH)
    assert "no-such-secret" in result.reason
    assert "docker secret create" in result.reason


def test_limits_user_folder_constraints_and_our_labels_arrive_in_the_service(
    jaas: Installation, client: Client, docker_api: docker.APIClient, witness: Witness
) -> None:
    spec = witness.spec(
        witness.held() + "; id -u; id -g; pwd",
        limits=Resources(cpus=0.5, memory="64M"),
        reservations=Resources(cpus=0.1, memory="16M"),
        user="1234:5678",
        workdir="/tmp",
        stop_signal="SIGUSR1",
        stop_grace="7s",
        constraints=["node.role == manager", "node.platform.os==linux"],
    )
    handle = client.submit(spec)
    eventually(witness.starts, LONG)
    service = service_of(docker_api, handle.id)["Spec"]
    witness.open()
    result = handle.wait(LONG)
    assert result.stdout == "1234\n5678\n/tmp\n"
    template = service["TaskTemplate"]
    assert template["Resources"]["Limits"] == {"NanoCPUs": 500_000_000, "MemoryBytes": 64 * 2**20, "Pids": 4096}
    assert template["Resources"]["Reservations"] == {"NanoCPUs": 100_000_000, "MemoryBytes": 16 * 2**20}
    assert template["RestartPolicy"]["Condition"] == "none"
    assert template["Placement"]["Constraints"] == ["node.role == manager", "node.platform.os==linux"]
    container = template["ContainerSpec"]
    assert (container["User"], container["Dir"]) == ("1234:5678", "/tmp")
    assert (container["StopSignal"], container["StopGracePeriod"]) == ("SIGUSR1", 7_000_000_000)
    assert container["Healthcheck"] == {"Test": ["NONE"]}
    assert service["Mode"] == {"Replicated": {"Replicas": 1}}
    assert service["EndpointSpec"]["Mode"] == "dnsrr"
    own = {"jaas.job": handle.id, "jaas.attempt": "1", "jaas.spec-hash": spec.digest(), "jaas.prefix": jaas.prefix}
    assert service["Labels"].items() >= own.items()


@pytest.fixture(scope="module")
def sickly_image(docker_api: docker.APIClient) -> Iterator[str]:
    """An image whose HEALTHCHECK always fails."""
    tag = f"jaas-test-sickly:{uuid.uuid4().hex[:8]}"
    recipe = f"FROM {TEST_IMAGE}\nHEALTHCHECK --interval=100ms --timeout=5s --retries=1 CMD false\n"
    for line in docker_api.build(fileobj=io.BytesIO(recipe.encode()), tag=tag, decode=True, rm=True):
        assert "error" not in line, line
    yield tag
    docker_api.remove_image(tag, force=True)


def test_an_images_healthcheck_cannot_kill_a_job_unless_it_is_asked_for(
    client: Client, witness: Witness, sickly_image: str
) -> None:
    unasked = client.submit(witness.spec(witness.held(), image=sickly_image))
    until(client, unasked.id, JobState.RUNNING)
    asked = client.submit(witness.spec(witness.held(), image=sickly_image, healthcheck=True))
    killed = asked.wait(LONG, check=False)
    assert killed.state is JobState.FAILED
    assert "unhealthy" in killed.reason
    assert unasked.state is JobState.RUNNING
    witness.open()
    assert unasked.wait(LONG).ok


# -- time-outs ------------------------------------------------------------------------------------------------------


def test_run_timeout_ends_even_a_process_that_ignores_sigterm(
    client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    stubborn = "trap 'echo ignored' TERM; echo ready; while :; do sleep 0.1; done"
    handle = client.submit(witness.spec(stubborn, run_timeout=2, stop_grace=3))
    result = handle.wait(LONG, check=False)
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.RUN_TIMEOUT, 137)
    assert "run_timeout (2 s)" in result.reason
    assert (result.stdout, result.stderr) == ("ready\nignored\n", "")
    by_force = "stopped by jaas with the stop signal, and SIGKILL after stop_grace (3 s)"
    assert result.logs.notices == (f"{by_force}: ran longer than run_timeout (2 s)",)
    assert len(witness.starts()) == 1
    assert containers_of(docker_api, handle.id) == []


def test_a_job_that_no_node_can_take_says_why_while_it_waits_and_ends_at_its_pending_timeout(
    client: Client, witness: Witness
) -> None:
    handle = client.submit(witness.spec(constraints=["node.labels.there-is-none==x"], pending_timeout=6))
    details = [change.detail for change in handle.follow(LONG)]
    result = handle.wait(LONG, check=False)
    assert any("no suitable node" in detail for detail in details[:-1])
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.UNSCHEDULABLE, None)
    assert "pending_timeout (6 s)" in result.reason
    assert "no suitable node" in result.reason
    assert witness.starts() == []


def test_wait_with_a_time_out_gives_up_waiting_and_the_job_goes_on(client: Client, witness: Witness) -> None:
    handle = client.submit(witness.spec(witness.held()))
    eventually(witness.starts, LONG)
    with pytest.raises(WaitTimeout, match=f"{handle.id}.*it goes on"):
        handle.wait(0.1)
    with pytest.raises(WaitTimeout):
        client.wait(handle.id, timeout=0)
    witness.open()
    assert handle.wait(LONG).ok
    assert len(witness.starts()) == 1


# -- output ---------------------------------------------------------------------------------------------------------


def test_of_five_mebibytes_of_output_the_first_and_the_last_bytes_are_kept(client: Client) -> None:
    # 65,536 lines of 80 bytes.
    write = 'awk \'BEGIN { for (i = 0; i < 65536; i++) printf "%05d%74s\\n", i, "x" }\'; echo all >&2'
    handle = client.submit(shell(write))
    result = handle.wait(LONG)
    logs = handle.logs()
    assert logs.status is LogStatus.TRUNCATED
    written, half = b"".join(b"%05d%74s\n" % (number, b"x") for number in range(65536)), 512 * 1024
    head, gap, tail = logs.parts("stdout")
    assert (head, tail) == (written[:half], written[-half:])
    assert str(gap) == f"{len(written) - 2 * half:,} bytes of stdout"
    assert (logs.stderr, result.stderr) == ("all\n", "all\n")
    celery_has = celery_result(handle.id, app=client.app).get(timeout=LONG)["logs"]
    assert celery_has["status"] == "truncated"
    assert celery_has["stdout"].startswith("00000 ")
    assert celery_has["stdout"].splitlines()[-1].startswith("65535 ")
    assert len(celery_has["stdout"]) == 64 * 1024
    assert celery_has["gaps"] == [
        {"stream": "stdout", "at": 32 * 1024, "missing": len(written) - 64 * 1024, "exact": True}
    ]


def test_output_without_a_line_end_and_lines_beyond_the_engines_buffer_stay_whole(client: Client) -> None:
    handle = client.submit(shell("printf 'no end'; head -c 100000 /dev/zero | tr '\\0' 'x' >&2"))
    result = handle.wait(LONG)
    assert result.stdout == "no end"
    assert handle.logs().stderr == "x" * 100_000
    if handle.logs().status is not LogStatus.COMPLETE:  # of Docker 20.10 it is not known whether there was a line end
        assert handle.logs().reason == "a line end may be missing at the end of stderr"


def test_binary_output_is_text_only_in_the_result(client: Client) -> None:
    handle = client.submit(shell(r"printf 'a\000\377\376\033[31mb\r\n\303\274'"))
    result = handle.wait(LONG)
    assert result.stdout == "a\0\ufffd\ufffd\x1b[31mb\r\nü"
    assert handle.logs().stdout == result.stdout
    assert handle.logs().stdout_bytes == b"a\0\xff\xfe\x1b[31mb\r\n\xc3\xbc"


ALL_BYTES = r'i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; i=$((i + 1)); done'


def test_bytes_in_are_bytes_out_at_the_command_line(client: Client, jaas: Installation) -> None:
    """All 256 byte values, and 700 KB of random ones, whose digest the job computes itself."""
    many = "head -c 700000 /dev/urandom > /tmp/many; sha256sum < /tmp/many; cat /tmp/many >&2"
    for text in (ALL_BYTES, many):
        handle = client.submit(shell(text))
        assert handle.wait(LONG).logs.status is LogStatus.COMPLETE
        command = [sys.executable, "-m", "jaas_submit.cli.main", "--prefix", jaas.prefix, "logs", handle.id]
        shown = subprocess.run(
            command, env={**os.environ, "JAAS_REDIS_URL": jaas.redis_url}, capture_output=True, check=True
        )
        logs = handle.logs()
        assert (shown.stdout, shown.stderr) == (logs.stdout_bytes, logs.stderr_bytes)
        if text == ALL_BYTES:
            assert shown.stdout == bytes(range(256))
        else:
            assert len(shown.stderr) == 700_000
            assert shown.stdout.split()[0].decode() == hashlib.sha256(shown.stderr).hexdigest()


def test_a_job_without_output_has_none_and_says_that_this_is_all(client: Client) -> None:
    handle = client.submit(shell("true"))
    result = handle.wait(LONG)
    assert (result.stdout, result.stderr, result.logs.status, result.logs.reason) == ("", "", LogStatus.COMPLETE, "")


# -- other ways in --------------------------------------------------------------------------------------------------


def test_the_asynchronous_client_has_the_same_verbs(jaas: Installation, witness: Witness) -> None:
    async def talk() -> None:
        async with AsyncClient(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as client:
            handle = await client.submit(witness.spec("echo hello"))
            states = [change.state async for change in handle.follow(LONG)]
            assert states[-1] is JobState.SUCCEEDED
            assert (await handle.wait()).stdout == "hello\n"
            assert (await handle.result()).ok
            assert (await handle.logs()).text == "hello\n"
            assert (await handle.record()).terminal
            bad, held = await client.submit_many([shell("exit 4"), witness.spec(witness.held())])
            with pytest.raises(JobFailed, match="exit code 4"):
                await client.wait(bad.id, LONG)
            assert (await client.wait(bad.id, LONG, check=False)).exit_code == 4
            with pytest.raises(WaitTimeout):
                await held.wait(0.1)
            await held.cancel("enough")
            assert (await held.wait(LONG, check=False)).state is JobState.CANCELLED
            assert {record.id for record in await client.history()} >= {handle.id, bad.id, held.id}

    asyncio.run(talk())


def test_a_batch_runs_each_job_once_and_keeps_the_order(client: Client, witness: Witness) -> None:
    handles = client.submit_many(witness.spec(f"echo {i}; exit {i % 3}") for i in range(15))
    results = [handle.wait(LONG, check=False) for handle in handles]
    assert [result.stdout for result in results] == [f"{i}\n" for i in range(15)]
    assert [result.exit_code for result in results] == [i % 3 for i in range(15)]
    assert sorted(start.split()[0] for start in witness.starts()) == sorted(handle.id for handle in handles)


def test_history_lists_the_youngest_first_and_by_state(client: Client) -> None:
    good, bad = client.submit_many([shell("true"), shell("false")])
    good.wait(LONG)
    bad.wait(LONG, check=False)
    assert [record.id for record in client.history(limit=2)] == [bad.id, good.id]
    assert bad.id in [record.id for record in client.history(JobState.FAILED)]
    assert good.id not in [record.id for record in client.history(JobState.FAILED)]


def test_celery_has_the_same_result_as_the_ledger(client: Client) -> None:
    handle = client.submit(shell("echo hello"))
    result = handle.wait(LONG)
    told = celery_result(handle.id, app=client.app)
    assert told.get(timeout=LONG) == json.loads(result.model_dump_json())
    assert told.state == "SUCCESS"


def test_the_last_transition_is_followed_by_a_notice_that_celery_has_the_result(client: Client) -> None:
    handle = client.submit(shell("true"))
    handle.wait(LONG)
    eventually(lambda: handle.record().reported, 20, "the record to be reported")
    assert handle.record().holder == ""


def test_a_container_has_a_limit_of_processes(client: Client, docker_api: docker.APIClient) -> None:
    handle = client.submit(shell("sleep 300"))
    until(client, handle.id, JobState.RUNNING)
    (container,) = docker_api.containers(filters={"label": f"jaas.job={handle.id}"})
    assert docker_api.inspect_container(container["Id"])["HostConfig"]["PidsLimit"] == 4096
    handle.cancel()
    handle.wait(LONG, check=False)

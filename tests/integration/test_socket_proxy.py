"""A worker behind `jaas socket-proxy`, and what somebody could do who has taken it over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from jaas_submit import Client, JobState
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.service_options.mounts import Mount
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.service_spec import FilePlace, service_request, with_files
from tests.support.jobs import LONG, ended, run, shell, until
from tests.support.socket_proxy import behind_proxy
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import Installation, clean_env

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]


@pytest.fixture
def proxy(witness: Witness, tmp_path: Path, _engine: str, jaas: Installation) -> Iterator[str]:
    """The address of a proxy whose policy allows one folder, a process of its own."""
    policy, socket = tmp_path / "policy.toml", tmp_path / "engine.sock"
    policy.write_text(f'[rules.mounts]\nbinds = [{{path = "{witness.folder}", read_only = false}}]\n')
    words = ["socket-proxy", "--engine", _engine, "--listen", f"unix://{socket}", "--mode", "600"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaas_submit.cli.main", *words],
        env=clean_env(JAAS_POLICY_FILE=str(policy), JAAS_QUEUE=jaas.queue),
    )
    try:
        eventually(lambda: process.poll() is not None or socket.exists(), LONG, "the proxy to listen")
        assert oct(os.stat(socket).st_mode)[-3:] == "600"
        yield f"unix://{socket}"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_a_worker_runs_follows_and_cancels_jobs_behind_it(
    jaas: Installation, client: Client, witness: Witness, proxy: str, docker_api: docker.APIClient
) -> None:
    worker = jaas.worker(DOCKER_HOST=proxy).start()
    name = f"served-{jaas.prefix}"
    task = docker.types.TaskTemplate(docker.types.ContainerSpec(TEST_IMAGE, env=["LEVEL=7"]))
    idle, labels = docker.types.ServiceMode("replicated", replicas=0), {"jaas.jobs": "allow"}
    served = docker_api.create_service(task, name=name, labels=labels, mode=idle)["ID"]
    try:
        large = {"of": ["a" * 100] * 20}  # a config of its own
        result = run(client, witness.spec('cat "$JAAS_INPUT"; echo error >&2; exit 3', input=large))
        assert (result.exit_code, json.loads(result.stdout), result.stderr) == (3, large, "error\n")
        assert result.logs is not None
        assert result.logs.status == "complete"
        held = client.submit(witness.spec(witness.held()))
        until(client, held.id, JobState.RUNNING)
        held.cancel()
        assert ended(client, held.id).state is JobState.CANCELLED
        # The worker has the tests' policy, which allows every mount.
        refused = run(client, JobSpec(image=TEST_IMAGE, mounts=[Mount(source="/", target="/host")]))
        assert (refused.state, refused.attempts[-1].exit_code) == (JobState.FAILED, None)
        assert "socket proxy: mounts.0.source: the host's / may not be mounted" in refused.reason
        assert run(client, JobSpec.like(name, command=["sh", "-c", "echo $LEVEL"])).stdout == "7\n"
    finally:
        worker.stop()
        docker_api.remove_service(served)


class Taken:
    """Who has taken a worker over, and has its connection to the engine.

    Args:
        socket: the proxy's.
    """

    def __init__(self, socket: str) -> None:
        self._api = docker.APIClient(base_url=socket, version="1.41")

    def send(self, method: str, path: str, body: Any = None) -> requests.Response:
        url = f"{self._api.base_url}/v1.41/{path}"
        answer: requests.Response = self._api.request(method, url, json=body, timeout=30)
        return answer


def test_who_has_taken_a_worker_over_reaches_only_what_is_of_jobs(
    jaas: Installation, witness: Witness, proxy: str, docker_api: docker.APIClient
) -> None:
    taken, name = Taken(proxy), f"other-{jaas.prefix}"
    other = docker_api.create_container(TEST_IMAGE, ["sleep", "60"], name=name, environment=["PASSWORD=hush"])["Id"]
    spec = docker.types.ContainerSpec(TEST_IMAGE, command=["sleep", "60"], env=["PASSWORD=hush"])
    service = docker_api.create_service(docker.types.TaskTemplate(spec), name=name)["ID"]
    config = docker_api.create_config(name, b"hush")["ID"]
    try:
        docker_api.start(other)
        for method, path in (
            *(
                ("GET", f"containers/{one}/{what}")
                for one in (other, name)
                for what in ("json", "logs?stdout=1", "stats")
            ),
            ("GET", f"containers/{other}/archive?path=/etc/passwd"),
            ("POST", f"containers/{other}/exec"),
            ("POST", f"containers/{other}/kill"),
            ("GET", f"services/{service}"),
            ("GET", f"services/{name}"),
            ("GET", f"services/{service}/logs?stdout=1"),
            ("DELETE", f"services/{service}"),
            ("DELETE", f"configs/{config}"),
            ("GET", f"configs/{config}"),
        ):
            answer = taken.send(method, path)
            assert answer.status_code == 403, (method, path, answer.text)
            assert answer.json()["message"].startswith("socket proxy: ")
            assert "hush" not in answer.text
        present = docker_api.inspect_service(service)
        stop = {**present["Spec"]}
        stop["TaskTemplate"] = {**stop["TaskTemplate"], "Placement": {"Constraints": ["node.id==none"]}}
        update = taken.send("POST", f"services/{service}/update?version={present['Version']['Index']}", stop)
        assert update.status_code == 403
        for path in ("configs", "tasks", f"tasks?filters={json.dumps({'service': [name]})}", "secrets"):
            answer = taken.send("GET", path)
            assert answer.status_code == 200, answer.text
            assert "hush" not in answer.text
            assert "aHVzaA" not in answer.text
        assert "hush" not in taken.send("GET", "services?filters=" + json.dumps({"label": ["jaas.job"]})).text
        assert docker_api.inspect_service(service)["Version"] == present["Version"]
    finally:
        docker_api.remove_container(other, force=True)
        docker_api.remove_service(service)
        docker_api.remove_config(config)


def test_it_mounts_nothing_of_the_host_and_changes_no_service(
    jaas: Installation, witness: Witness, proxy: str, swarm: Swarm
) -> None:
    taken = Taken(proxy)
    marks = {"jaas.prefix": jaas.prefix, "jaas.spec-hash": "x"}
    bad = service_request(JobSpec(image=TEST_IMAGE, mounts=[Mount(source="/", target="/host")]), "taken", 1, marks, {})
    answer = taken.send("POST", "services/create", bad)
    assert answer.status_code == 403
    assert "the host's / may not be mounted" in answer.text
    good = service_request(witness.spec(witness.held()), "taken", 1, marks, {})
    made = taken.send("POST", "services/create", good)
    assert made.status_code == 201, made.text
    found = swarm.request_of(made.json()["ID"])
    assert found is not None
    version = json.loads(taken.send("GET", f"services/{made.json()['ID']}").text)["Version"]["Index"]
    mounts = bad["TaskTemplate"]["ContainerSpec"]["Mounts"]
    for change, value in (("Image", "evil"), ("Env", ["A=1"]), ("Mounts", mounts)):
        evil = json.loads(json.dumps(found))
        evil["TaskTemplate"]["Placement"] = {"Constraints": ["node.id==none"]}
        evil["TaskTemplate"]["ContainerSpec"][change] = value
        answer = taken.send("POST", f"services/{made.json()['ID']}/update?version={version}", evil)
        assert answer.status_code == 403, (change, answer.text)
    assert swarm.request_of(made.json()["ID"]) == found
    assert taken.send("DELETE", f"services/{made.json()['ID']}").status_code == 200


def test_a_link_in_the_store_mounts_nothing_of_the_host(witness: Witness, tmp_path: Path, swarm: Swarm) -> None:
    folder, name = witness.folder / "store" / "jaas" / ".files", f"{'a' * 64}-01234567"
    folder.mkdir(parents=True)
    (folder / name).symlink_to("/")
    plain = service_request(JobSpec(image=TEST_IMAGE), "taken", 1, {"jaas.spec-hash": "x"}, {})
    body = with_files(plain, None, {"a": FilePlace("/host", source=str(folder / name))})
    with behind_proxy(swarm.host, tmp_path, store_url=f"file://{witness.folder}/store", policy="baseline") as address:
        answer = Taken(address).send("POST", "services/create", body)
    assert answer.status_code == 403
    assert f"the host's {folder / name} may not be mounted" in answer.text
    assert "start the socket proxy with --store-binds" in answer.text


def test_with_the_switch_jobs_get_their_input_and_files_from_the_store(
    jaas: Installation, witness: Witness, tmp_path: Path, swarm: Swarm
) -> None:
    store = f"file://{witness.folder}/store"
    (witness.folder / "empty").touch()
    options = {"store_url": store, "policy": "baseline", "queue": jaas.queue}
    with behind_proxy(swarm.host, tmp_path, store_binds=True, **options) as address:
        worker = jaas.worker(DOCKER_HOST=address, store_url=store).start()
        try:
            with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix, store=store) as client:
                spec = shell('wc -c < "$JAAS_INPUT"; wc -c < "$JAAS_FILES/empty"', output="text")
                handle = client.submit(spec, input="x" * 200_000, files={"empty": witness.folder / "empty"})
                assert handle.wait(LONG).output == "200002\n0\n"
        finally:
            worker.stop()


def test_a_body_without_end_is_cut_off(proxy: str) -> None:
    taken = Taken(proxy)
    answer = taken.send("POST", "services/create", {"a": "x" * 3_000_000})
    assert answer.status_code == 413
    assert taken.send("GET", "info").status_code == 200

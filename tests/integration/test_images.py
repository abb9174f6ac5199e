"""Images from a real registry: one digest for all attempts, stale local tags, logins that stay on the worker's side."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import docker
import pytest

from jaas_submit import Cause, Client, JobState
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from tests.support.jobs import LONG, ended, until
from tests.support.registry import Registry
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

WORKER = {"remove_delay": "0.1"}
TWICE = RetryPolicy(max_attempts=2, backoff=Backoff(kind="constant", delay=0, jitter="none"))

USER, PASSWORD = "tester", "correct horse battery"
PASSWORD_HASH = "$2b$05$abcdefghijklmnopqrstuuD3mHdCr44zlIZ.VZCaYRpfQhXMYnEo."


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, docker_api: docker.APIClient) -> Iterator[Registry]:
    """A registry for everybody."""
    made = Registry(tmp_path_factory.mktemp("registry")).start()
    yield made
    made.stop()
    made.forget(docker_api)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, docker_api: docker.APIClient) -> Iterator[Registry]:
    """A registry that asks for a password."""
    made = Registry(tmp_path_factory.mktemp("guarded"), USER, PASSWORD, PASSWORD_HASH).start()
    yield made
    made.stop()
    made.forget(docker_api)


@pytest.fixture(scope="module")
def worker(jaas: Installation, guarded: Registry, tmp_path_factory: pytest.TempPathFactory) -> WorkerProcess:
    """A worker that knows the password, under the registry's own name and under one that an operator chose."""
    folder = tmp_path_factory.mktemp("docker-config")
    login = {"auth": guarded.auth}
    (folder / "config.json").write_text(
        json.dumps({"auths": {guarded.host: login, f"{guarded.host}/team-a": login, "other.example": login}})
    )
    return jaas.worker(DOCKER_CONFIG=folder).start()


# -- digests ----------------------------------------------------------------------------------------------------------


def test_all_attempts_run_the_image_of_the_first_also_when_its_tag_is_moved_meanwhile(
    client: Client, registry: Registry, witness: Witness, docker_api: docker.APIClient
) -> None:
    first = registry.push(docker_api, "moved:1", "one")
    image = f"{registry.host}/moved:1"
    handle = client.submit(
        witness.spec(f'echo "$SAYS"; {witness.held()}; [ "$JAAS_ATTEMPT" = 2 ]', image=image, retry=TWICE)
    )
    until(client, handle.id, JobState.RUNNING)
    second = registry.push(docker_api, "moved:1", "two")
    assert registry.digest("moved:1") == second != first
    witness.open()
    result = ended(client, handle.id)
    pinned = f"{registry.host}/moved@{first}"
    assert [(a.exit_code, a.image) for a in result.attempts] == [(1, pinned), (0, pinned)]
    assert [handle.logs(number).stdout for number in (1, 2)] == ["one\n", "one\n"]
    assert handle.record().image == pinned
    assert handle.record().note == ""
    assert result.image == image
    assert len(witness.starts()) == 2


def test_an_attempt_runs_also_when_the_registry_is_gone_by_then(
    client: Client, registry: Registry, witness: Witness, docker_api: docker.APIClient
) -> None:
    digest = registry.push(docker_api, "gone:1", "here")
    then = f'echo "$SAYS"; {witness.held()}; [ "$JAAS_ATTEMPT" = 2 ]'
    handle = client.submit(witness.spec(then, image=f"{registry.host}/gone:1", retry=TWICE))
    until(client, handle.id, JobState.RUNNING)
    registry.stop()
    try:
        witness.open()
        result = ended(client, handle.id)
    finally:
        registry.start()
    assert [a.image for a in result.attempts] == [f"{registry.host}/gone@{digest}"] * 2
    assert (result.ok, result.stdout) == (True, "here\n")


def test_a_local_image_that_is_not_the_registrys_is_not_used_and_reported(
    client: Client, registry: Registry, witness: Witness, worker: WorkerProcess, docker_api: docker.APIClient
) -> None:
    digest = registry.push(docker_api, "stale:1", "new")
    image = registry.image(docker_api, "stale:1", "old")
    handle = client.submit(witness.spec('echo "$SAYS"', image=image))
    result = ended(client, handle.id)
    assert (result.ok, result.stdout) == (True, "new\n")
    note = f"this engine's own image {image} is not the registry's; {digest} is used"
    assert handle.record().note == note
    assert f"Note: {note}." in client.explain(handle.id).sentences
    assert f"job {handle.id}: {note}" in worker.log


def test_an_image_that_no_registry_has_is_run_from_the_node(
    client: Client, registry: Registry, witness: Witness, docker_api: docker.APIClient
) -> None:
    image = registry.image(docker_api, "local:1", "local")
    handle = client.submit(witness.spec('echo "$SAYS"', image=image))
    result = ended(client, handle.id)
    assert (result.ok, result.stdout) == (True, "local\n")
    assert handle.record().image == ""
    assert result.attempts[0].image == image


def test_pull_brings_an_image_to_each_node_with_the_worker_s_login(
    jaas: Installation, guarded: Registry, docker_api: docker.APIClient
) -> None:
    digest = guarded.push(docker_api, "ahead:1", "here")
    image = f"{guarded.host}/ahead:1"
    docker_api.remove_image(image, force=True)
    words = [sys.executable, "-m", "jaas_submit.cli.main", "pull", "--json", image]
    done = subprocess.run(words, capture_output=True, text=True, env=jaas.environment(), timeout=LONG, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["state"], one["image"]) for one in told] == [("SUCCEEDED", f"{guarded.host}/ahead@{digest}")]
    assert [one["node"] for one in told] == [docker_api.info()["Name"]]
    names = [name for item in docker_api.images() for name in item.get("RepoDigests") or ()]
    assert f"{guarded.host}/ahead@{digest}" in names
    done = subprocess.run(
        [*words[:-1], f"{guarded.host}/no-such:1"],
        capture_output=True,
        text=True,
        env=jaas.environment(),
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, [json.loads(line)["cause"] for line in done.stdout.splitlines()]) == (1, ["image"])


def test_a_digest_of_the_users_own_is_kept(
    client: Client, registry: Registry, witness: Witness, docker_api: docker.APIClient
) -> None:
    first = registry.push(docker_api, "chosen:1", "first")
    registry.push(docker_api, "chosen:1", "second")
    image = f"{registry.host}/chosen@{first}"
    result = ended(client, client.submit(witness.spec('echo "$SAYS"', image=image)).id)
    assert (result.stdout, result.attempts[0].image) == ("first\n", image)


# -- logins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named", [pytest.param(None, id="by the image's name"), "team-a", pytest.param("HOST", id="by the registry's name")]
)
def test_a_guarded_image_is_pulled_with_the_workers_login_which_nobody_sees(
    jaas: Installation,
    client: Client,
    guarded: Registry,
    witness: Witness,
    worker: WorkerProcess,
    docker_api: docker.APIClient,
    named: str | None,
) -> None:
    digest = guarded.push(docker_api, "secret:1", "hidden")
    guarded.forget(docker_api)
    registry = guarded.host if named == "HOST" else named
    handle = client.submit(
        witness.spec(f'echo "$SAYS"; {witness.held()}', image=f"{guarded.host}/secret:1", registry=registry)
    )
    eventually(witness.starts, LONG)
    service = docker_api.inspect_service(f"jaas-{handle.id}-1")
    witness.open()
    result = ended(client, handle.id)
    assert (result.state, result.stdout) == (JobState.SUCCEEDED, "hidden\n")
    assert result.attempts[0].image == f"{guarded.host}/secret@{digest}"
    for hidden in (PASSWORD, guarded.auth):
        assert hidden not in json.dumps(service)
        assert hidden not in worker.log
        for key in jaas.ledger.client.scan_iter("*"):
            assert hidden.encode() not in (jaas.ledger.client.dump(key) or b""), key
            assert hidden.encode() not in repr(_content(jaas, key)).encode(), key


def _content(jaas: Installation, key: bytes) -> object:
    redis = jaas.ledger.client
    kind = redis.type(key)
    if kind == b"hash":
        return redis.hgetall(key)
    if kind == b"string":
        return redis.get(key)
    return redis.lrange(key, 0, -1) if kind == b"list" else None


def test_without_a_login_a_guarded_image_is_missing_and_retries_follow_the_policy(
    client: Client, guarded: Registry, witness: Witness, docker_api: docker.APIClient
) -> None:
    guarded.push(docker_api, "closed:1", "hidden")
    guarded.forget(docker_api)
    spec = witness.spec(image=f"{guarded.host}/closed:1", registry="nobody-of-that-name", retry=TWICE)
    handle = client.submit(spec)
    result = ended(client, handle.id)
    assert [a.cause for a in result.attempts] == [Cause.IMAGE, Cause.IMAGE]
    assert "no login nobody-of-that-name for" in result.reason
    assert f"{guarded.host}/team-a" in result.reason
    assert PASSWORD not in result.reason
    assert "its image is missing or may not be pulled" in client.explain(handle.id).sentences[0]
    assert "the worker's own login there is used (see registry)" in str(client.explain(handle.id))
    assert witness.starts() == []
    # With the login all is well.
    assert ended(client, client.replay(handle.id, registry="team-a").id).ok


def test_a_login_is_not_sent_to_another_host(client: Client, guarded: Registry, witness: Witness) -> None:
    spec = witness.spec(image=f"{guarded.host}/closed:1", registry="other.example")
    result = ended(client, client.submit(spec).id)
    assert result.cause is Cause.IMAGE
    assert f"the login other.example is for other.example, and the image is from {guarded.host}" in result.reason


# -- why not, and where -----------------------------------------------------------------------------------------------


def test_the_registrys_words_are_in_the_reason(
    client: Client, registry: Registry, witness: Witness, docker_api: docker.APIClient
) -> None:
    registry.push(docker_api, "there:1", "x")
    for name, words in (("there:2", "manifest unknown"), ("nowhere:1", "manifest unknown|name unknown|not known")):
        result = ended(client, client.submit(witness.spec(image=f"{registry.host}/{name}")).id)
        assert result.cause is Cause.IMAGE
        assert re.search(words, result.reason), result.reason
        assert result.reason in client.explain(result.job_id).sentences[0]
    away = witness.spec(image="127.0.0.1:1/app:1")
    assert "connection refused" in ended(client, client.submit(away).id).reason


def test_the_images_platforms_are_in_the_service(
    client: Client, registry: Registry, witness: Witness, docker_api: docker.APIClient
) -> None:
    registry.push(docker_api, "platform:1", "x")
    handle = client.submit(witness.spec(witness.held(), image=f"{registry.host}/platform:1"))
    eventually(witness.starts, LONG)
    service = docker_api.inspect_service(f"jaas-{handle.id}-1")
    witness.open()
    assert ended(client, handle.id).ok
    assert service["Spec"]["TaskTemplate"]["Placement"]["Platforms"] == [{"Architecture": "amd64", "OS": "linux"}]
    assert handle.record().platforms == ("linux/amd64",)

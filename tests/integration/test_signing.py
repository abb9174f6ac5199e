"""Signed descriptions with a real worker that requires them."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import celery
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jaas_submit import Cause, Client, JobHandle, JobSpec, JobState
from jaas_submit.model.ids import batch_job_id
from jaas_submit.signing import Signer, SigningKey
from tests.support.jobs import LONG, celery_result, ended, shell, until
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]

WORKER = {"lease": "2s"}
SECRET = "a secret of the team, for tests only"
PRIVATE = Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pem = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(
        f"[ed]\nalgorithm = 'EdDSA'\nproducer = 'team'\ntenant = 'blue'\nkey = '''{pem}'''\n"
        f"[hs]\nalgorithm = 'HS256'\nproducer = 'ops'\nkey = '{SECRET}'\n"
    )
    return {"verify_keys": str(file), "require_signature": "true"}


@pytest.fixture(scope="module")
def worker(jaas: Installation, settings: dict[str, Any]) -> WorkerProcess:
    return jaas.worker(**settings).start()


@pytest.fixture(scope="module")
def signer(jaas: Installation) -> Signer:
    return Signer(SigningKey("EdDSA", PRIVATE), "ed", jaas.prefix, "team")


@pytest.fixture(scope="module")
def client(jaas: Installation, signer: Signer) -> Iterator[Client]:
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix, signer=signer) as made:
        yield made


@pytest.fixture(scope="module")
def unsigned(jaas: Installation) -> Iterator[Client]:
    with Client(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as made:
        yield made


def check_refused(client: Client, handle: JobHandle, rule: str) -> None:
    result = ended(client, handle.id)
    assert (result.state, result.cause) == (JobState.FAILED, Cause.REFUSED)
    assert f"signature.{rule}: " in result.reason
    record = client.ledger.queries.get(handle.id)
    assert [one.service for one in record.attempts] == [None], "nothing was launched"


def written_anew(client: Client, job_id: str, text: str) -> JobHandle:
    """Write into Redis what a record says of the description, as whoever may write there can."""
    client.ledger.client.hset(f"{client.ledger.prefix}:job:{job_id}", "spec", text)
    return client.handle(job_id)


@pytest.mark.usefixtures("worker")
def test_a_signed_job_runs_and_its_token_is_all_that_the_record_has(client: Client) -> None:
    handle = client.submit(shell("echo it ran $WORD", env={"WORD": "well"}))
    result = ended(client, handle.id)
    assert (result.state, result.stdout) == (JobState.SUCCEEDED, "it ran well\n")
    stored = client.ledger.client.hget(f"{client.ledger.prefix}:job:{handle.id}", "spec")
    assert isinstance(stored, bytes)
    assert stored.startswith(b"eyJ")
    again = client.replay(handle.id, env={"WORD": "again"})
    assert ended(client, again.id).stdout == "it ran again\n"


@pytest.mark.usefixtures("worker")
def test_an_unsigned_job_is_refused_whatever_its_labels_say(client: Client, unsigned: Client) -> None:
    spec = shell("echo no", labels={"jaas.tenant": "blue"}, retry={"max_attempts": 2})
    check_refused(client, unsigned.submit(spec), "required")


@pytest.mark.usefixtures("worker")
def test_a_batch_is_signed_and_an_unsigned_job_of_it_is_refused(client: Client, unsigned: Client) -> None:
    batch = client.map(shell("echo {item}"), ["a", "b"])
    assert [one.stdout for one in batch.results(ordered=True, timeout=LONG)] == ["a\n", "b\n"]
    refused = unsigned.map(shell("echo {item}"), ["a"])
    check_refused(client, client.handle(batch_job_id(refused.id, 0)), "required")


def test_a_token_that_was_changed_or_copied_launches_nothing(
    jaas: Installation, client: Client, signer: Signer, settings: dict[str, Any]
) -> None:
    """The records are changed while no worker is up."""
    for one in jaas.workers:
        one.stop()
    good = client.submit(shell("echo good"))
    token = client.ledger.queries.get(good.id).signed
    evil = JobSpec(image="jaas-test", command=["echo", "evil"]).to_json()
    head, _, signature = token.split(".")
    payload = base64.urlsafe_b64encode(evil.encode()).rstrip(b"=").decode()
    other = Signer(SigningKey("HS256", b"nobody knows this secret of mine!"), "hs", jaas.prefix, "ops")
    elsewhere = Signer(SigningKey("HS256", SECRET.encode()), "hs", "elsewhere", "ops")
    unknown = Signer(SigningKey("HS256", SECRET.encode()), "no", jaas.prefix, "ops")
    old = Signer(SigningKey("HS256", SECRET.encode()), "hs", jaas.prefix, "ops", ttl=-1)
    cases: dict[str, tuple[str, Callable[[str], str]]] = {
        "copied": ("job", lambda _: token),
        "changed": ("invalid", lambda _: f"{head}.{payload}.{signature}"),
        "in the clear": ("required", lambda _: evil),
        "another's key": ("invalid", lambda job_id: other.sign(evil, job_id)),
        "another audience": ("audience", lambda job_id: elsewhere.sign(evil, job_id)),
        "unknown key": ("key", lambda job_id: unknown.sign(evil, job_id)),
        "expired": ("expired", lambda job_id: old.sign(evil, job_id)),
    }
    made: dict[str, tuple[str, JobHandle]] = {}
    for name, (rule, forge) in cases.items():
        job_id = client.submit(shell("echo good")).id
        made[name] = (rule, written_anew(client, job_id, forge(job_id)))
    worker = jaas.worker(**settings).start()
    for rule, handle in made.values():
        check_refused(client, handle, rule)
    assert ended(client, good.id).stdout == "good\n"
    assert "evil" not in worker.log
    assert "refused: signature.invalid: " in worker.log


@pytest.mark.usefixtures("worker")
def test_each_attempt_is_verified(client: Client) -> None:
    """The token is replaced while the first attempt runs: the second one is refused."""
    spec = shell("sleep 2; exit 3", retry={"max_attempts": 2})
    handle = client.submit(spec)
    until(client, handle.id, JobState.RUNNING)
    written_anew(client, handle.id, JobSpec(image="jaas-test", command=["echo", "evil"]).to_json())
    result = ended(client, handle.id)
    assert (result.state, result.cause) == (JobState.FAILED, Cause.REFUSED)
    record = client.ledger.queries.get(handle.id)
    assert [one.service is None for one in record.attempts] == [False, True]


def test_an_adopted_job_whose_token_was_replaced_is_stopped(
    jaas: Installation, client: Client, settings: dict[str, Any]
) -> None:
    for one in jaas.workers:
        one.stop()
    first = jaas.worker(**settings).start()
    handles = [client.submit(shell(f"sleep {seconds}; echo end", stop_grace=1)) for seconds in (600, 5)]
    for handle in handles:
        until(client, handle.id, JobState.RUNNING)
    first.kill()
    written_anew(client, handles[0].id, JobSpec(image="jaas-test", command=["echo", "evil"]).to_json())
    jaas.worker(**settings).start()
    result = ended(client, handles[0].id)
    assert (result.state, result.cause) == (JobState.FAILED, Cause.REFUSED)
    assert "signature.required: " in result.reason
    assert ended(client, handles[1].id).stdout == "end\n"


@pytest.mark.usefixtures("worker")
def test_a_foreign_app_signs_with_pyjwt_alone(jaas: Installation, foreign: celery.Celery, client: Client) -> None:
    """As docs/signing.md says."""

    def send(kid: str, spec: str, key: str, **more: object) -> str:
        task_id, now = str(uuid.uuid4()), 1_700_000_000
        head = {"kid": kid, "typ": "jaas-description", "iss": "ops", "aud": jaas.prefix, "jti": task_id}
        token = jwt.PyJWS().encode(
            spec.encode(), key, "HS256", headers={**head, "iat": now, "exp": now + 10**9, **more}
        )
        foreign.send_task("jaas.run", kwargs={"spec": token}, task_id=task_id, queue=jaas.queue, kwargsrepr="(signed)")
        return task_id

    good = send("hs", shell("echo $A; exit 1", env={"A": "theirs"}, check=False).to_json(), SECRET)
    assert celery_result(good, foreign).get(timeout=LONG)["logs"]["stdout"] == "theirs\n"
    forged = send("hs", shell("echo no").to_json(), SECRET + "?")
    with pytest.raises(Exception, match=r"signature\.invalid"):
        celery_result(forged, foreign).get(timeout=LONG)
    check_refused(client, client.handle(forged), "invalid")
    nonsense = send("hs", json.dumps(["no description"]), SECRET)
    with pytest.raises(Exception, match="refused"):
        celery_result(nonsense, foreign).get(timeout=LONG)

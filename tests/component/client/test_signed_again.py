"""A client that signs gives its signature to no description that somebody else has put into a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from jaas_submit import Client, JobSpec, JobState, SpecError
from jaas_submit.ledger import Ledger
from jaas_submit.signing import Gate, Producer, Signer, SigningKey, VerifyKey
from tests.component.ledger.test_batches import HOLDER, end, queued, run_all

pytestmark = pytest.mark.redis

SECRET = b"a secret of the team, for tests only"
SPEC = JobSpec(image="a", command=["{item}"])
EVIL = JobSpec(image="evil").to_json()


def signer_of(prefix: str, kid: str = "k", secret: bytes = SECRET, ttl: float = 60) -> Signer:
    return Signer(SigningKey("HS256", secret), kid, prefix, "team", ttl)


@pytest.fixture
def client(redis_url: str, prefix: str, ledger: Ledger) -> Iterator[Client]:
    ledger.maintenance.renew_lease(HOLDER, 3600, {})
    with Client(redis_url, queue=prefix, prefix=prefix, signer=signer_of(prefix, ttl=-1)) as made:
        yield made


FORGED: dict[str, Callable[[str, str, str], str]] = {
    "in the clear": lambda *_: EVIL,
    "another key": lambda prefix, job_id, _: signer_of(prefix, "other").sign(EVIL, job_id),
    "another secret": lambda prefix, job_id, _: signer_of(prefix, "k", b"nobody knows this secret of mine!").sign(
        EVIL, job_id
    ),
    "another installation": lambda _, job_id, __: signer_of("elsewhere").sign(EVIL, job_id),
    "another job": lambda _, __, another: another,
}
"""Texts for a record, from prefix, job id, and a good token of another job."""


def write(ledger: Ledger, job_id: str, text: str) -> None:
    ledger.client.hset(f"{ledger.prefix}:job:{job_id}", "spec", text)


def test_what_the_client_has_signed_is_signed_again(client: Client, ledger: Ledger) -> None:
    """Also after the first signature has expired."""
    first = client.submit(JobSpec(image="a"))
    end(ledger, first.id, JobState.FAILED)
    again = client.replay(first.id, env={"X": "1"})
    gate = Gate(ledger.prefix, {"k": VerifyKey("HS256", SECRET, Producer("team"))}, required=True)
    token = ledger.queries.get(again.id).signed
    assert gate.check(again.id, token, time.time(), begun=True).spec == JobSpec(image="a", env={"X": "1"})


@pytest.mark.parametrize("name", FORGED)
def test_a_description_of_somebody_else_is_not_signed(client: Client, ledger: Ledger, prefix: str, name: str) -> None:
    good = client.submit(JobSpec(image="a"))
    batch = client.map(SPEC, ["a"])
    token = ledger.queries.get(good.id).signed
    bad = batch.job(0).id
    end(ledger, bad, JobState.FAILED)
    write(ledger, bad, FORGED[name](prefix, bad, token))
    waiting = queued(ledger)
    tries: list[Callable[[], object]] = [
        lambda: client.replay(bad),
        lambda: client.replay(bad, in_place=True),
        batch.retry_failed,
        lambda: batch.retry_failed(in_place=True),
    ]
    for attempt in tries:
        with pytest.raises(SpecError, match=f"job {bad}: its description cannot be signed again: "):
            attempt()
    assert queued(ledger) == waiting


@pytest.mark.parametrize("changed", ["the description", "what names the reduces"])
def test_a_reduce_of_somebody_else_is_not_signed(client: Client, ledger: Ledger, changed: str) -> None:
    made = client.map_reduce(SPEC, ["a", "b"], JobSpec(image="r", output="json"), min_success=0.5)
    other = client.map(SPEC, ["c"])
    bad = made.maps.job(1).id
    run_all(ledger, [bad])
    if changed == "the description":
        write(ledger, made.final.id, EVIL)
    else:
        ledger.batches.set_reduces(made.id, other.id, 100)
    named = ledger.batches.get(made.id).reduced_by
    with pytest.raises(SpecError, match=f"the reduces of batch {made.id} are not signed again; "):
        client.replay(bad, in_place=True)
    assert len(queued(ledger)) == 1, "the job in the map's place"
    run_all(ledger)
    with pytest.raises(SpecError, match=f"the reduces of batch {made.id} are not signed again; "):
        made.wait(10)
    assert ledger.batches.get(made.id).reduced_by == named


def test_own_reduces_are_signed_again(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, ["a", "b"], JobSpec(image="r", output="json"), min_success=0.5)
    bad = made.maps.job(1).id
    run_all(ledger, [bad])
    old = made.wait(10).job_id
    client.replay(bad, in_place=True)
    run_all(ledger)
    assert made.wait(10).job_id != old
    assert ledger.queries.get(made.final.id).signed

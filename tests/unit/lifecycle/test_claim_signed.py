"""What a claim does about signatures: before a launch, at an adoption, and for a copy of a slow job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jaas_submit.model.causes import Cause
from jaas_submit.model.ids import copy_id_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.states import JobState
from jaas_submit.signing import Gate, Producer, Signer, SigningKey, VerifyKey
from jaas_worker.lifecycle.claim import claim
from jaas_worker.lifecycle.next_step import Adopt, End, Launch, Report
from jaas_worker.lifecycle.tracked_job import TrackedJob
from tests.support.step_world import StubDelivery, World, record_of

SECRET = b"a secret of the team, for tests only"
TEAM = Producer("team", "blue")
SPEC = JobSpec(image="signed", idempotent=True, retry={"max_attempts": 3})


def token(job_id: str = "j") -> str:
    return Signer(SigningKey("HS256", SECRET), "k", "jaas", "team", ttl=1e9).sign(SPEC.to_json(), job_id)


def world(action: str = "launch", **fields: Any) -> World:
    """A worker that requires signatures, and whose clock is right, as that of the signer is."""
    made = World(record_of(**fields), action)
    made.ledger.age = 1e8
    made.context.signatures = Gate("jaas", {"k": VerifyKey("HS256", SECRET, TEAM)}, required=True)
    return made


def test_what_was_signed_is_launched_whatever_else_is_known() -> None:
    made = world(spec=JobSpec(image="evil"), signed=token())
    assert isinstance(claim(made.job, made.context), Launch)
    assert made.job.spec == SPEC
    assert made.job.facts.producer == TEAM


DIGEST = "@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("noted", "counts"),
    [
        (f"signed{DIGEST}", True),
        (f"docker.io/library/signed{DIGEST}", True),
        ("", False),
        ("signed", False),
        ("evil:latest", False),
        (f"evil{DIGEST}", False),
        (f"signed:old{DIGEST}", False),
        (f"evil.example/library/signed{DIGEST}", False),
        (f"docker.io/signed/signed{DIGEST}", False),
    ],
)
def test_a_record_can_pin_the_described_image_and_name_no_other(noted: str, counts: bool) -> None:
    """Also for a later attempt, which takes the digest of the first one from the record."""
    made = world(signed=token(), image=noted, platforms=("linux/amd64",), attempt=2)
    claim(made.job, made.context)
    assert (made.job.image, made.job.platforms) == ((noted, ("linux/amd64",)) if counts else ("", ()))


@pytest.mark.parametrize("signed", ["", "eyJ.e.x", token("other")])
def test_a_job_without_a_good_token_is_refused_before_it_is_launched(signed: str) -> None:
    made = world(signed=signed)
    step = claim(made.job, made.context)
    assert isinstance(step, End)
    assert step.outcome.cause is Cause.REFUSED
    assert step.outcome.reason.startswith("signature.")
    assert made.job.facts.producer is None


def test_a_running_job_without_a_good_token_is_adopted_to_be_stopped() -> None:
    made = world("adopt", state=JobState.RUNNING)
    assert isinstance(claim(made.job, made.context), Adopt)
    assert made.job.stop is not None
    assert made.job.stop.cause is Cause.REFUSED


def test_the_outcome_of_an_unsigned_job_is_reported_all_the_same() -> None:
    made = world("replay", state=JobState.FAILED)
    assert isinstance(claim(made.job, made.context), Report)


def test_a_copy_runs_once_what_was_signed_for_its_job() -> None:
    copy = copy_id_of("j")
    made = world(signed=token("j"))
    record = made.ledger.record.model_copy(update={"id": copy, "copy_of": "j"})
    made.ledger.claims = [replace(made.ledger.claims[0], record=record)]
    made.job = TrackedJob(copy, StubDelivery(copy))
    assert isinstance(claim(made.job, made.context), Launch)
    assert made.job.spec is not None
    assert (made.job.spec.image, made.job.spec.retry.max_attempts) == ("signed", 1)

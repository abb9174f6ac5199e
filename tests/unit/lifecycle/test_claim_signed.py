"""What a claim does about signatures: before a launch, at an adoption, and for a copy of a slow job."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jaas_submit.errors import EngineUnavailable
from jaas_submit.model.causes import Cause
from jaas_submit.model.ids import copy_id_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.states import JobState
from jaas_submit.signing import Gate, Producer, Signer, SigningKey, VerifyKey
from jaas_worker.lifecycle.claim import claim
from jaas_worker.lifecycle.launch import launch
from jaas_worker.lifecycle.next_step import Adopt, End, Launch, Report, Track
from jaas_worker.lifecycle.tracked_job import TrackedJob
from jaas_worker.swarm.engine import ResolvedImage
from tests.support.step_world import CREATED, StubDelivery, World, record_of

SECRET = b"a secret of the team, for tests only"
TEAM = Producer("team", "blue")
COPY = copy_id_of("j")
SPEC = JobSpec(image="signed", idempotent=True, retry={"max_attempts": 3})


def token(job_id: str = "j", ttl: float = 1e9, spec: JobSpec = SPEC) -> str:
    return Signer(SigningKey("HS256", SECRET), "k", "jaas", "team", ttl=ttl).sign(spec.to_json(), job_id)


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
def test_a_note_can_pin_the_described_image_and_name_no_other(noted: str, counts: bool) -> None:
    """Also for a later attempt, which takes the digest of the first one from the worker's note."""
    made = world(signed=token(), image="forged", platforms=("linux/amd64",), attempt=2)
    made.ledger.notes.pin_image("j", noted)
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


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_a_job_that_runs_goes_on_after_its_signature_has_expired(state: JobState) -> None:
    made = world("adopt", state=state, signed=token(ttl=-1))
    assert isinstance(claim(made.job, made.context), Adopt)
    assert made.job.stop is None
    assert made.job.facts.producer == TEAM


@pytest.mark.parametrize("action", ["launch", "adopt"])
def test_a_job_that_has_not_begun_is_refused_after_its_signature_has_expired(action: str) -> None:
    made = world(action, signed=token(ttl=-1))
    step = claim(made.job, made.context)
    assert isinstance(step, End)
    assert step.outcome.reason.startswith("signature.expired: ")


def test_the_outcome_of_an_unsigned_job_is_reported_all_the_same() -> None:
    made = world("replay", state=JobState.FAILED)
    assert isinstance(claim(made.job, made.context), Report)


def copied(ran: float = 60, lasts: float = 0, action: str = "launch", **fields: Any) -> World:
    """A worker with the copy of a job.

    Args:
        ran: age of the job when it was copied, in seconds.
        lasts: age of the copy now, in seconds.
        action: what the ledger answers to the claim.
        fields: of the copy's record.
    """
    made = World(record_of(node="node1", batch="b", index=0), action)
    made.ledger.age = ran + lasts
    made.context.signatures = Gate("jaas", {"k": VerifyKey("HS256", SECRET, TEAM)}, required=True)
    # The signer's clock is that of the machine.
    made.context.clock = made.context.clock._replace(time=time.time)
    created = CREATED + timedelta(seconds=ran)
    usual = {"id": COPY, "copy_of": "j", "created_at": created, "batch": "b", "index": 0, "signed": token("j")}
    record = made.ledger.record.model_copy(update={"node": None, **usual, **fields})
    made.ledger.claims = [replace(made.ledger.claims[0], record=record)]
    made.job = TrackedJob(COPY, StubDelivery(COPY))
    return made


def test_a_copy_runs_once_and_elsewhere_what_was_signed_for_its_job() -> None:
    made = copied()
    assert isinstance(claim(made.job, made.context), Launch)
    spec = made.job.spec
    assert spec is not None
    assert (spec.image, spec.retry.max_attempts, spec.constraints) == ("signed", 1, ("node.hostname!=node1",))


def test_a_copy_is_launched_also_while_the_nodes_are_unknown() -> None:
    made = copied()
    made.engine.fail("cluster", error=EngineUnavailable("?"))
    assert isinstance(claim(made.job, made.context), Launch)
    assert made.job.spec is not None
    assert made.job.spec.constraints == ()


def test_who_takes_a_copy_over_recognises_its_service_although_the_nodes_have_changed() -> None:
    first = copied()
    assert isinstance(claim(first.job, first.context), Launch)
    assert launch(first.job, first.context) == Track()
    second = copied(lasts=20, action="adopt", state=JobState.LAUNCHING)
    second.engine = second.context.engine = first.engine
    second.engine.fail("cluster", error=EngineUnavailable("?"))
    assert isinstance(claim(second.job, second.context), Launch)
    assert second.job.spec != first.job.spec
    assert launch(second.job, second.context) == Track()
    assert second.job.service is not None
    assert second.job.service == first.job.service


@pytest.mark.parametrize("state", [JobState.LAUNCHING, JobState.RUNNING])
def test_a_copy_has_the_time_that_its_job_had_left_whoever_runs_it(state: JobState) -> None:
    signed = token(spec=SPEC.model_copy(update={"deadline": 100.0}))
    made = copied(ran=60, lasts=30, action="adopt", state=state, signed=signed)
    assert isinstance(claim(made.job, made.context), Launch | Adopt)
    assert made.job.spec is not None
    assert made.job.spec.deadline == 40
    assert made.job.deadlines.job == made.now + 10
    assert made.job.stop is None


@pytest.mark.parametrize(("action", "state"), [("launch", JobState.LAUNCHING), ("adopt", JobState.RUNNING)])
def test_a_copy_of_a_job_that_had_no_time_left_ends(action: str, state: JobState) -> None:
    signed = token(spec=SPEC.model_copy(update={"deadline": 50.0}))
    made = copied(action=action, state=state, signed=signed)
    step = claim(made.job, made.context)
    stop = step.outcome if isinstance(step, End) else made.job.stop
    assert isinstance(step, End) is (action == "launch")
    assert stop is not None
    assert stop.cause is Cause.REFUSED
    assert "may not be started a second time" in stop.reason


@pytest.mark.parametrize("forged", [f"evil{DIGEST}", f"signed{DIGEST}", "signed", ""])
@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("noted", [True, False])
def test_each_attempt_of_a_signed_tag_runs_pinned_whatever_the_record_says(
    forged: str, attempt: int, noted: bool
) -> None:
    made = world(signed=token(), image=forged, attempt=attempt)
    made.context.settings = made.context.settings.model_copy(update={"resolve_images": True})
    made.engine.images["signed"] = ResolvedImage("signed@sha256:" + "c" * 64)
    if noted:
        made.ledger.notes.pin_image("j", "signed@sha256:" + "b" * 64)
    assert isinstance(claim(made.job, made.context), Launch)
    assert launch(made.job, made.context) == Track()
    (request,) = made.engine.requests
    ran = request["TaskTemplate"]["ContainerSpec"]["Image"]
    if not (noted or forged) and attempt == 2:  # no registry has told the first attempt
        assert ran == "signed"
    else:
        known = noted and (forged or attempt == 2)  # else the claim did not look: its first attempt asks the registry
        assert ran == "signed@sha256:" + ("b" if known else "c") * 64


def test_a_copy_runs_the_image_of_its_job() -> None:
    made = copied(image="signed@sha256:" + "d" * 64)
    made.ledger.notes.pin_image("j", "signed@sha256:" + "b" * 64)
    assert isinstance(claim(made.job, made.context), Launch)
    assert made.job.image == "signed@sha256:" + "b" * 64

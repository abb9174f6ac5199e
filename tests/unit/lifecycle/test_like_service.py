"""A job that is to be like a deployed service: looked up once, judged, and recorded before anything is created."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jaas_submit.ledger.encoding import parse_record
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_JOB
from jaas_submit.signing import Gate, Producer, Signer, SigningKey, VerifyKey
from jaas_worker.lifecycle import next_step as to
from jaas_worker.lifecycle.claim import claim
from jaas_worker.lifecycle.launch import launch
from tests.support.step_world import World, record_of

SECRET = b"a secret of the team, for tests only"
LIKE = JobSpec.like("shop_web", command=["migrate"], env={"MODE": "once"})
OPEN = {"jaas.jobs": "allow"}
MIGRATION = JobSpec(image="app:1", command=["migrate"], env={"LEVEL": "7", "MODE": "once"})


def deploy(world: World, name: str = "shop_web", labels: dict[str, str] | None = None, **container: Any) -> None:
    spec = {"Image": "app:1", "Args": ["serve"], "Env": ["LEVEL=7", "MODE=web"], **container}
    task = {
        "ContainerSpec": spec,
        "Resources": {"Limits": {}, "Reservations": {}},
        "Placement": {"Constraints": []},
        "Networks": [],
    }
    world.engine.create({"Name": name, "Labels": OPEN if labels is None else labels, "TaskTemplate": task})
    world.engine.requests.clear()


def claimed(**fields: Any) -> World:
    world = World(record_of(**{"spec": LIKE, **fields}), policy="baseline")
    assert isinstance(claim(world.job, world.context), to.Launch)
    world.ledger.writes.clear()
    return world


def test_it_is_launched_as_the_service_is_and_both_note_and_record_say_so_before() -> None:
    world = claimed()
    deploy(world)
    assert launch(world.job, world.context) == to.Track()
    assert world.job.spec == MIGRATION
    (request,) = world.engine.requests
    assert request["TaskTemplate"]["ContainerSpec"]["Args"] == ["migrate"]
    assert {"LEVEL=7", "MODE=once"} <= set(request["TaskTemplate"]["ContainerSpec"]["Env"])
    (written,) = [write[2]["like"] for write in world.ledger.writes if "like" in write[2]]
    assert json.loads(written) == {"image": "app:1", "command": ["serve"], "env": {"LEVEL": "7", "MODE": "web"}}
    assert world.ledger.notes.get("j").like == written


def test_the_record_gets_what_a_worker_noted_that_died_before_it_could_write_it() -> None:
    world = World(record_of(spec=LIKE), policy="baseline")
    noted = world.ledger.notes.note_like("j", json.dumps({"image": "app:0", "env": {"LEVEL": "7"}}))
    deploy(world)
    assert isinstance(claim(world.job, world.context), to.Launch)
    world.ledger.writes.clear()
    assert launch(world.job, world.context) == to.Track()
    assert world.job.spec == MIGRATION.changed({"image": "app:0"})
    assert [write[2]["like"] for write in world.ledger.writes if "like" in write[2]] == [noted]


def test_two_workers_take_what_the_quicker_one_noted() -> None:
    world = claimed()
    noted = world.ledger.notes.note_like("j", json.dumps({"image": "app:0", "env": {"LEVEL": "7"}}))
    deploy(world)
    assert launch(world.job, world.context) == to.Track()
    assert world.job.spec == MIGRATION.changed({"image": "app:0"})
    assert [write[2]["like"] for write in world.ledger.writes if "like" in write[2]] == [noted]


def test_a_record_tells_what_is_run_and_keeps_what_was_submitted() -> None:
    fields = json.dumps({"image": "app:1", "command": ["serve"], "env": {"LEVEL": "7", "MODE": "web"}})
    row = {"state": "RUNNING", "created_at": "1", "updated_at": "1", "spec": LIKE.to_json(), "like": fields}
    record = parse_record("j", {name.encode(): text.encode() for name, text in row.items()})
    assert (record.spec, record.submitted) == (MIGRATION, LIKE)
    assert "LEVEL" not in record.model_dump_json(exclude={"spec"}), "variables are shown by masking ``spec``"


def test_a_later_attempt_takes_what_the_first_one_took_also_of_a_signed_job() -> None:
    token = Signer(SigningKey("HS256", SECRET), "k", "jaas", "team", ttl=1e9).sign(LIKE.to_json(), "j")
    world = World(record_of(spec=LIKE, signed=token, attempt=2), policy="baseline")
    world.context.signatures = Gate("jaas", {"k": VerifyKey("HS256", SECRET, Producer("team", "blue"))}, required=True)
    world.ledger.age = 1e8
    world.ledger.notes.note_like("j", json.dumps({"image": "app:0", "env": {"LEVEL": "7"}}))
    deploy(world)
    assert isinstance(claim(world.job, world.context), to.Launch)
    assert world.job.spec == MIGRATION.changed({"image": "app:0"})


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (None, "like_service: the swarm has no service shop_web; "),
        ({"labels": {}}, "like_service: service shop_web is not open to jobs; give it the label jaas.jobs=allow ("),
        ({"labels": {LABEL_JOB: "k", **OPEN}}, "like_service: shop_web is the service of a job; "),
        (
            {"Mounts": [{"Type": "npipe", "Target": "/x"}]},
            "like_service: with what service shop_web has, mounts.0.type: ",
        ),
        ({"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/x"}]}, "mounts.0.source: the host's /etc may not"),
    ],
)
def test_what_it_cannot_or_may_not_be_like_ends_it_refused(service: dict[str, Any] | None, reason: str) -> None:
    world = claimed()
    if service is not None:
        deploy(world, **service)
    end = launch(world.job, world.context)
    assert isinstance(end, to.End)
    assert (end.outcome.state, end.outcome.cause) == (JobState.FAILED, Cause.REFUSED)
    assert end.outcome.reason.startswith(reason)
    assert not world.engine.requests


def test_a_worker_that_lost_the_job_creates_nothing() -> None:
    world = claimed()
    deploy(world)
    world.ledger.refuses = True
    assert launch(world.job, world.context) == to.LostOwnership()
    assert not world.engine.requests

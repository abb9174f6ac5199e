"""The policy in a job's life: before the service is created, and when one is taken over."""

from __future__ import annotations

from typing import Any

import pytest

from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_LEDGER, LABEL_PREFIX
from jaas_submit.policy.document import parse_policy
from jaas_worker.lifecycle import next_step as to
from jaas_worker.lifecycle.claim import claim
from jaas_worker.lifecycle.launch import adopt, launch
from jaas_worker.swarm.log_driver import LogDriver
from jaas_worker.swarm.service_spec import FilePlace, ServiceDefaults, service_request, with_files
from tests.support.step_world import World, record_of

BIND = JobSpec(image="a", mounts=[Mount(source="/etc", target="/x")])


def claimed(spec: JobSpec, **settings: Any) -> World:
    world = World(record_of(spec=spec), **{"policy": "baseline", **settings})
    assert isinstance(claim(world.job, world.context), to.Launch)
    world.ledger.writes.clear()
    return world


def adopted(request: dict[str, Any], spec: JobSpec, rules: str = "", **settings: Any) -> World:
    """Return a worker that has taken a job over whose service another worker made of this request."""
    world = World(record_of(state=JobState.RUNNING, spec=spec), "adopt", **{"policy": "baseline", **settings})
    if rules:
        world.context.gate.policy = parse_policy(rules, "p.toml")
    request["Labels"] |= {LABEL_PREFIX: "jaas", LABEL_LEDGER: "x"}
    world.engine.create(request)
    following = claim(world.job, world.context)
    assert isinstance(following, to.Adopt)
    assert adopt(world.job, following, world.context) == to.Track()
    return world


def test_a_job_that_is_not_allowed_ends_refused_and_nothing_is_created() -> None:
    world = claimed(BIND.changed({"input": {"a": 1}}))
    end = launch(world.job, world.context)
    assert isinstance(end, to.End)
    assert (end.outcome.state, end.outcome.cause) == (JobState.FAILED, Cause.REFUSED)
    assert end.outcome.reason.startswith("mounts.0.source: the host's /etc may not be mounted; ")
    assert end.outcome.reason.endswith("(policy rule mounts.binds)")
    assert not world.engine.requests
    assert not world.engine.config_files, "its input was handed to the swarm"


def test_an_image_that_is_not_allowed_is_not_looked_up() -> None:
    # Also where the worker asks registries: the request would carry its login.
    world = claimed(JobSpec(image="a"), policy="restricted", resolve_images=True)
    world.context.gate.policy = world.context.gate.policy.model_validate(
        {"rules": {"images": {"registries": ["registry.example"]}}}
    )
    end = launch(world.job, world.context)
    assert isinstance(end, to.End)
    assert end.outcome.cause is Cause.REFUSED
    assert not world.engine.calls["resolve"]


def test_what_jaas_adds_itself_is_not_judged() -> None:
    world = claimed(JobSpec(image="a", input={"a": 1}))
    assert launch(world.job, world.context) == to.Track()
    (request,) = world.engine.requests
    assert request["TaskTemplate"]["ContainerSpec"]["Configs"], "the input is missing"


def test_in_mode_warn_the_job_runs_and_the_record_says_what_would_be_refused() -> None:
    world = claimed(BIND)
    world.context.gate.policy = world.context.gate.policy.model_validate({"mode": "warn"})
    assert launch(world.job, world.context) == to.Track()
    (note,) = [write[2]["note"] for write in world.ledger.writes if "note" in write[2]]
    assert note.startswith("the policy would refuse it, if it were enforced: mounts.0.source: ")


def test_a_service_that_is_not_allowed_is_stopped_when_it_is_taken_over() -> None:
    world = adopted(service_request(BIND, "j", 1, {}, {}), BIND)
    assert world.job.stop is not None
    assert world.job.stop.cause is Cause.REFUSED
    assert "mounts.binds" in world.job.stop.reason


def test_what_counts_is_the_service_and_not_what_the_record_says() -> None:
    assert adopted(service_request(BIND, "j", 1, {}, {}), JobSpec(image="a")).job.stop is not None


def test_a_service_that_is_allowed_goes_on_with_its_input() -> None:
    spec = JobSpec(image="a", input={"a": 1})
    request = service_request(spec, "j", 1, {}, {})
    made = with_files(request, FilePlace("/run/jaas/input.json", "id", request["Name"]))
    assert adopted(made, spec).job.stop is None


def test_a_service_with_files_goes_on_where_jobs_may_set_no_variable() -> None:
    spec = JobSpec(image="a")
    made = with_files(service_request(spec, "j", 1, {}, {}), None, {"b": FilePlace("s3://bucket/b")})
    assert adopted(made, spec, "rules.env = []").job.stop is None
    changed = service_request(spec.changed({"env": {"LD_PRELOAD": "x"}}), "j", 1, {}, {})
    assert adopted(changed, spec, "rules.env = []").job.stop is not None


@pytest.mark.parametrize(
    ("spec", "stopped"),
    [
        (JobSpec(image="a"), False),
        (JobSpec(image="a", log_driver="gelf"), True),
        (JobSpec(image="a", log_options={"tag": "x"}), True),
    ],
)
def test_a_service_outlives_a_change_of_the_workers_log_driver(spec: JobSpec, stopped: bool) -> None:
    defaults = ServiceDefaults(log_driver=LogDriver("gelf", {"gelf-address": "udp://logs:1"}))
    request = service_request(spec, "j", 1, {}, {}, defaults)
    assert (adopted(request, spec).job.stop is not None) is stopped


def test_a_stopped_service_is_not_stopped_for_its_constraint() -> None:
    request = service_request(JobSpec(image="a@sha256:" + "a" * 64, user="1", limits={"memory": "9M"}), "j", 1, {}, {})
    request["TaskTemplate"]["Placement"] = {"Constraints": ["node.id==none"]}
    assert adopted(request, JobSpec(image="a"), policy="restricted").job.stop is None


QUEUES = """
queues.strict.rules.attempts = 1
queues.loose.rules.attempts = 9
queues.strict.rules.in_flight = 2
rules.in_flight = 7
"""
THREE = JobSpec(image="a", retry={"max_attempts": 3})


@pytest.mark.parametrize(
    ("worker", "came_by", "said", "noted", "refused"),
    [
        ("strict", "strict", "loose", "", True),  # the record lies
        ("loose", "loose", "strict", "", False),
        ("strict", "celery", "loose", "", True),  # by Celery's default queue
        ("loose", "", "strict", "loose", False),  # taken over, and noted
        ("loose", "", "loose", "strict", True),
        ("loose", "strict", "loose", "", True),
        ("loose", "", "strict", "", True),  # nobody knows: both count
        ("strict", "", "loose", "", True),
        ("loose", "", "loose", "", False),
    ],
)
def test_the_rules_are_those_of_the_queue_by_which_the_message_came(
    worker: str, came_by: str, said: str, noted: str, refused: bool
) -> None:
    world = World(record_of(spec=THREE, queue=said), policy="baseline", queue=worker)
    world.context.gate.policy = parse_policy(QUEUES, "p.toml")
    world.delivery.queue = came_by
    if noted:
        world.ledger.notes.note_queue("j", noted)
    assert isinstance(claim(world.job, world.context), to.Launch)
    end = launch(world.job, world.context)
    assert isinstance(end, to.End) is refused
    if came_by:
        assert world.ledger.notes.get("j").queue == (worker if came_by == "celery" else came_by)


def test_a_policy_without_queues_costs_no_note() -> None:
    world = World(record_of(), policy="baseline")
    world.delivery.queue = "jaas"
    claim(world.job, world.context)
    launch(world.job, world.context)
    assert not world.ledger.notes.notes
    assert not world.ledger.notes.asked


def waiting(**fields: Any) -> World:
    world = World(record_of(**fields), policy="baseline", queue="strict")
    world.context.gate.policy = parse_policy(QUEUES, "p.toml")
    world.ledger.notes.full = "queue:strict"
    assert isinstance(claim(world.job, world.context), to.Launch)
    return world


def test_a_job_beyond_the_limit_is_left_and_nothing_is_asked_for() -> None:
    world = waiting()
    assert launch(world.job, world.context) == to.Drop()
    assert world.ledger.notes.asked == [{"all": 7, "queue:strict": 2}]
    assert not world.engine.requests
    (moved,) = [write for write in world.ledger.writes if write[0] == "move"]
    detail = moved[2]["detail"]
    assert detail.startswith("waits: 2 jobs of queue strict are in flight, ")
    assert world.ledger.names()[-1] == "release"
    # Whoever takes it over knows that no request for its service is on its way.
    again = World(record_of(detail=detail), "adopt", queue="strict")
    assert isinstance(claim(again.job, again.context), to.Launch)
    assert not again.job.late
    # And once it is sent, whoever takes it over then knows that, too.
    again.context.gate.policy = parse_policy(QUEUES, "p.toml")
    assert launch(again.job, again.context) == to.Track()
    assert [write[1] for write in again.ledger.writes if write[0] == "move"] == [JobState.LAUNCHING, JobState.PENDING]
    other = World(record_of(detail="no suitable node"), "adopt")
    claim(other.job, other.context)
    assert other.job.late


def test_in_mode_warn_a_job_beyond_the_limit_runs() -> None:
    world = waiting()
    world.context.gate.policy = parse_policy(f'mode = "warn"\n{QUEUES}', "p.toml")
    assert launch(world.job, world.context) == to.Track()
    assert any("in_flight" in write[2].get("note", "") for write in world.ledger.writes if write[0] == "move")


def test_a_job_whose_request_may_be_on_its_way_keeps_its_place() -> None:
    world = waiting(late=True)
    assert launch(world.job, world.context) == to.Track()

"""Secret variables: named in a description, read by the worker, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jaas_submit.errors import SpecError
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import LogLine, Logs, LogStatus
from jaas_submit.model.wire_names import LABEL_SCRUB
from jaas_submit.policy.document import parse_policy
from jaas_submit.policy.facts import PolicyRefused
from jaas_worker.admission.env_secrets import MAX_VALUE_BYTES, read_env_secrets
from jaas_worker.lifecycle import next_step as to
from jaas_worker.lifecycle.claim import claim
from jaas_worker.lifecycle.ending.read_output import without_secrets
from jaas_worker.lifecycle.launch import launch
from jaas_worker.swarm.request.secret_env import values_in_request
from jaas_worker.swarm.service_spec import spec_of_service
from tests.support.step_world import World, record_of

VALUE = "hunter{{22}}"
SPEC = JobSpec(image="a", env={"PLAIN": "1"}, env_secrets={"TOKEN": "api-token"}, scrub=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "api-token").write_text(f"{VALUE}\n")
    return tmp_path


def claimed(folder: object, policy: str = 'rules.env_secrets = ["api-*"]', spec: JobSpec = SPEC) -> World:
    world = World(record_of(spec=spec), policy="baseline", env_secrets=str(folder))
    world.context.gate.policy = parse_policy(policy, "p.toml")
    assert isinstance(claim(world.job, world.context), to.Launch)
    return world


def test_the_value_is_in_the_request_and_nowhere_else(folder: Path) -> None:
    world = claimed(folder)
    assert launch(world.job, world.context) == to.Track()
    (request,) = world.engine.requests
    container = request["TaskTemplate"]["ContainerSpec"]
    assert container["Labels"][LABEL_SCRUB] == "TOKEN"
    shown = next(one for one in container["Env"] if one.startswith("TOKEN="))
    container["Env"].remove(shown)
    told = json.dumps(request) + repr(world.ledger.writes) + repr(world.job)
    assert "hunter" in shown
    assert "hunter" not in told
    assert "TOKEN" in SPEC.summary()
    container["Env"].append(shown)
    assert values_in_request(request) == {VALUE.encode()}
    # A record that Redis has lost is made again from the service.
    assert spec_of_service(request["Labels"], container["Env"]) == SPEC


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("", 'secret api-token is not open to jobs; rules.env_secrets = ["api-token"] allows it'),
        ('level = "restricted"', "is not open to jobs"),
        ('rules.env_secrets = ["other"]', "is not open to jobs"),
        ('rules.env_secrets = ["api-*"]\nrules.env = ["PLAIN"]', "may not be set; rules.env allows it"),
    ],
)
def test_no_job_has_a_secret_that_no_rule_allows(folder: Path, policy: str, why: str) -> None:
    spec = SPEC.changed({"user": "1", "limits": {"memory": "9M"}, "image": "a@sha256:" + "a" * 64})
    world = claimed(folder, policy, spec)
    end = launch(world.job, world.context)
    assert isinstance(end, to.End)
    assert end.outcome.cause is Cause.REFUSED
    assert end.outcome.reason.startswith("env_secrets.TOKEN: ")
    assert why in end.outcome.reason
    assert not world.engine.requests


def test_a_queue_s_rules_decide_too(folder: Path) -> None:
    world = claimed(folder, '[queues.jaas.rules]\nenv_secrets = ["api-token"]', SPEC)
    world.job.facts = world.job.facts._replace(origin=world.job.facts.origin._replace(queues=("jaas",)))
    assert launch(world.job, world.context) == to.Track()


def test_in_mode_warn_the_job_gets_it_and_the_record_says_so(folder: Path) -> None:
    world = claimed(folder, "mode = 'warn'")
    assert launch(world.job, world.context) == to.Track()
    assert any("env_secrets.TOKEN" in write[2].get("note", "") for write in world.ledger.writes if write[0] == "move")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "has no readable file s: No such file or directory"),
        (b"x" * (MAX_VALUE_BYTES + 1), "the file s has more than 65,536 bytes"),
        (b"\xff\xfe", "the file s is no UTF-8 text"),
        (b"a\0b", "the file s has a NUL character"),
    ],
)
def test_a_value_that_cannot_be_had_is_named_and_not_shown(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    with pytest.raises(PolicyRefused, match=f"env_secrets.T: .*{why}"):
        read_env_secrets(str(tmp_path), {"T": "s"})


def test_a_worker_without_a_folder_says_so() -> None:
    with pytest.raises(
        PolicyRefused, match=r"env_secrets\.T: this worker has no folder of secrets; set JAAS_ENV_SECRETS"
    ):
        read_env_secrets("", {"T": "s"})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"env_secrets": {"T": "../shadow"}}, r"env_secrets\.T"),
        ({"env_secrets": {"T": "a/b"}}, r"env_secrets\.T"),
        ({"env_secrets": {"T": ".hidden"}}, r"env_secrets\.T"),
        ({"env_secrets": {"A,B": "s"}}, "A,B.* is no variable name"),
        ({"env_secrets": {"A=B": "s"}}, "is no variable name"),
        ({"env_secrets": {"T": "s"}, "env": {"T": "1"}}, "env_secrets: T is in env, too"),
        ({"env_secrets": {"T": {"secret": "s"}}}, r"env_secrets\.T"),
    ],
)
def test_a_description_names_files_and_no_paths(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        JobSpec(image="a", **fields)


def test_output_that_the_worker_reads_is_scrubbed_with_the_values_of_the_service(folder: Path) -> None:
    world = claimed(folder)
    launch(world.job, world.context)
    (folder / "api-token").write_text("another one by now")
    logs = Logs((LogLine("t", "stdout", f"x {VALUE} y".encode()),))
    found = without_secrets(world.job, logs, world.context)
    assert (found.stdout, found.status) == ("x *** y", LogStatus.PARTIAL)
    assert world.job.service is not None
    world.engine.remove(world.job.service.id)
    lost = without_secrets(world.job, logs, world.context)
    assert (lost.stdout, lost.status) == ("", LogStatus.UNAVAILABLE)


def test_output_of_a_job_that_does_not_ask_is_left_alone(folder: Path) -> None:
    world = claimed(folder, spec=SPEC.changed({"scrub": False}))
    launch(world.job, world.context)
    (request,) = world.engine.requests
    assert LABEL_SCRUB not in request["TaskTemplate"]["ContainerSpec"]["Labels"]
    logs = Logs((LogLine("t", "stdout", VALUE.encode()),))
    assert without_secrets(world.job, logs, world.context) is logs

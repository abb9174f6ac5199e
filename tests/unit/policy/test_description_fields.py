"""What a description asks for goes through the policy, and a refusal names the description's own field."""

from __future__ import annotations

from typing import Any

import pytest

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.policy.decision import decide
from jaas_submit.policy.document import parse_policy
from jaas_submit.policy.facts import Context, EngineAge, Facts
from jaas_worker.admission.preview import preview_request
from tests.unit.model.test_job_spec import OPTIONS

BASELINE = ""
TMPFS = {"type": "tmpfs", "target": "/t"}
VOLUME = {"type": "volume", "source": "jobs-a", "target": "/t"}

# A policy; what the description asks for; the field that the refusal names; the rule.
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (BASELINE, {"cap_add": ["KILL", "NET_ADMIN"]}, "cap_add.1", "capabilities.add"),
    ('rules.capabilities.drop = ["KILL"]', {"cap_drop": ["CHOWN"]}, "cap_drop", "capabilities.drop"),
    (BASELINE, {"ulimits": {"memlock": -1}}, "ulimits.memlock", "ulimits"),
    (BASELINE, {"ulimits": {"nofile": -1}}, "ulimits.nofile", "ulimits"),
    (BASELINE, {"sysctls": {"net.core.somaxconn": 1}}, "sysctls.net.core.somaxconn", "sysctls"),
    (BASELINE, {"oom_score_adj": -1}, "oom_score_adj", "oom_score"),
    ("rules.read_only_root = true", {"read_only": False}, "read_only", "read_only_root"),
    ('level = "restricted"', {"pids_limit": 4097}, "pids_limit", "resources.pids"),
    (BASELINE, {"pids_limit": 32_769}, "pids_limit", "resources.pids"),
    ("rules.resources.pids.maximum = 50", {"pids_limit": 51}, "pids_limit", "resources.pids"),
    ('rules.users.groups = ["1000"]', {"groups": ["1000", "docker"]}, "groups.1", "users.groups"),
    ('rules.labels = ["team"]', {"container_labels": {"proxy.rule": "x"}}, "labels.proxy.rule", "labels"),
    ('rules.labels = ["team"]', {"labels": {"proxy.rule": "x"}}, "labels.proxy.rule", "labels"),
    (BASELINE, {"networks": ["a", {"name": "b", "aliases": ["web"]}]}, "networks.1.aliases", "networks.aliases"),
    (
        BASELINE,
        {"networks": [{"name": "b", "driver_opts": {"x": "y"}}]},
        "networks.0.driver_opts.x",
        "networks.driver_options",
    ),
    ("rules.configs.labelled = false", {"configs": ["shut"]}, "configs.0", "configs.allow"),
    (
        'rules.mounts.binds = [{path = "/srv"}]',
        {"mounts": [{"source": "/srv", "target": "/t", "read_only": True, "bind_propagation": "rshared"}]},
        "mounts.0.bind_propagation",
        "mounts.propagation",
    ),
    (BASELINE, {"mounts": [{**VOLUME, "volume_driver": "rexray"}]}, "mounts.0.volume_driver", "mounts.drivers"),
    (
        'rules.mounts.drivers = {local = ["type=nfs"]}',
        {"mounts": [{**VOLUME, "volume_options": {"type": "ext4"}}]},
        "mounts.0.volume_options.type",
        "mounts.drivers",
    ),
    (BASELINE, {"mounts": [{**VOLUME, "volume_subpath": "a/../.."}]}, "mounts.0.volume_subpath", "mounts.volumes"),
    ("rules.mounts.tmpfs = false", {"mounts": [TMPFS]}, "mounts.0", "mounts.tmpfs"),
    (BASELINE, {"log_driver": "syslog"}, "log_driver", "log_drivers"),
]


def refusals(policy: str, fields: dict[str, Any], *engines: EngineAge) -> dict[str, str]:
    """Return the rules by which a description is refused, by the field that each refusal names."""
    spec = JobSpec(**{"image": "a", **fields})
    context = Context(pids_limit=spec.pids_limit)
    decision = decide(preview_request(spec), Facts(engines=engines), parse_policy(policy, "p.toml"), context)
    return {one.field: one.rule for one in decision.refusals}


@pytest.mark.parametrize(("policy", "fields", "field", "rule"), REFUSED)
def test_a_refusal_names_the_field_of_the_description(
    policy: str, fields: dict[str, Any], field: str, rule: str
) -> None:
    assert refusals(policy, fields)[field] == rule


@pytest.mark.parametrize(
    ("fields", "field", "since"),
    [
        ({"oom_score_adj": 1}, "oom_score_adj", (1, 46)),
        ({"healthcheck": {"start_interval": 1}}, "healthcheck.start_interval", (1, 44)),
        ({"mounts": [TMPFS, {**VOLUME, "target": "/v", "volume_subpath": "a"}]}, "mounts.1.volume_subpath", (1, 45)),
        (
            {"mounts": [{"source": "/", "target": "/t", "read_only": True, "bind_recursive": "writable"}]},
            "mounts.0.bind_recursive",
            (1, 44),
        ),
    ],
)
def test_what_an_older_engine_would_drop_is_refused_by_its_field(
    fields: dict[str, Any], field: str, since: tuple[int, int]
) -> None:
    policy = 'level = "privileged"'
    older = (since[0], since[1] - 1)
    assert refusals(policy, fields, EngineAge("the manager", since), EngineAge("node a", since)) == {}
    assert refusals(policy, fields, EngineAge("the manager", since), EngineAge("node a", older)) == {
        field: "engine version"
    }


def test_the_policy_knows_all_that_a_description_may_ask_for() -> None:
    assert refusals('level = "privileged"', OPTIONS, EngineAge("the manager", (1, 48))) == {}


@pytest.mark.parametrize(
    ("policy", "own", "holds"),
    [
        (BASELINE, None, 4096),
        (BASELINE, 10_000, 10_000),
        ("rules.resources.pids = {default = 100}", 200, 200),
        ("rules.resources.pids = {default = 100, maximum = 200}", 200, 200),
        ("rules.resources.pids = {default = 100, maximum = 200}", None, 100),
    ],
)
def test_a_job_s_own_limit_of_processes_comes_before_the_worker_s(policy: str, own: int | None, holds: int) -> None:
    spec = JobSpec(image="a", pids_limit=own)
    decision = decide(preview_request(spec), Facts(), parse_policy(policy, "p.toml"), Context(pids_limit=own))
    assert decision.refusals == ()
    assert decision.request["TaskTemplate"]["Resources"]["Limits"]["Pids"] == holds

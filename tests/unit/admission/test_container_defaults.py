"""What each container gets by default, and who may change it."""

from __future__ import annotations

from typing import Any

import pytest

from jaas_submit.errors import SpecError
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.policy.containers import DEFAULT_CAPABILITIES
from jaas_submit.policy.document import parse_policy
from jaas_submit.policy.facts import PolicyRefused
from jaas_worker.admission.container_defaults import ContainerDefaults, with_defaults
from jaas_worker.admission.gate import PolicyGate
from jaas_worker.settings import Settings
from jaas_worker.swarm.service_spec import service_request
from tests.support.fake_swarm import FakeSwarm

PLAIN = Settings(redis_url="r").capabilities
DROPPED = ["AUDIT_WRITE", "MKNOD", "NET_RAW"]
NEW = {"NoNewPrivileges": True}


def container(of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = of["TaskTemplate"]["ContainerSpec"]
    return found


def request_of(**settings: Any) -> dict[str, Any]:
    made = service_request(JobSpec(image="a"), "j", 1, {}, {})
    container(made).update(settings)
    return made


@pytest.mark.parametrize(
    ("asked", "policy", "drops"),
    [
        ({}, "", DROPPED),
        ({"CapabilityAdd": ["NET_RAW"]}, "", ["AUDIT_WRITE", "MKNOD"]),
        ({"CapabilityAdd": ["cap_net_raw"]}, "", ["AUDIT_WRITE", "MKNOD"]),
        ({"CapabilityAdd": ["ALL"]}, "", None),
        ({"CapabilityDrop": ["ALL"]}, "", ["ALL"]),
        ({"CapabilityDrop": ["CHOWN", "MKNOD"]}, "", ["CHOWN", "MKNOD", "AUDIT_WRITE", "NET_RAW"]),
        ({}, 'rules.capabilities.keep = ["NET_RAW"]', ["AUDIT_WRITE", "MKNOD"]),
        ({}, 'rules.capabilities.keep = ["ALL"]', None),
    ],
)
def test_capabilities_that_plain_images_do_not_need_are_dropped(
    asked: dict[str, Any], policy: str, drops: list[str] | None
) -> None:
    rules = [parse_policy(policy, "p.toml").rules]
    made = with_defaults(request_of(**asked), ContainerDefaults(frozenset(PLAIN)), rules)
    assert container(made).get("CapabilityDrop") == drops


def test_a_default_is_loosened_only_where_each_set_of_rules_loosens_it() -> None:
    loose = parse_policy('rules.capabilities.keep = ["ALL"]\nrules.no_new_privileges = false', "p.toml").rules
    plain = parse_policy("", "p.toml").rules
    defaults = ContainerDefaults(frozenset(), init=False, no_new_privileges=True)
    for rules, expected in (((loose,), {}), ((loose, plain), NEW)):
        made = container(with_defaults(request_of(), defaults, rules, all_know_no_new_privileges=True))
        assert made.get("Privileges", {}) == expected
        assert len(made.get("CapabilityDrop", ())) == (14 if expected else 0)


@pytest.mark.parametrize(
    ("asked", "default", "expected"), [(None, True, True), (False, True, False), (None, False, None)]
)
def test_a_job_s_own_word_about_the_init_counts(asked: bool | None, default: bool, expected: bool | None) -> None:
    made = with_defaults(request_of(**{} if asked is None else {"Init": asked}), ContainerDefaults(init=default))
    assert container(made).get("Init") is expected


@pytest.mark.parametrize(
    ("manager", "node", "policy", "expected"),
    [
        ("1.44", "25.0.1", "", NEW),
        ("1.43", "28.5.2", "", None),
        ("1.48", "20.10.24", "", None),
        ("1.48", "?", "", None),
        ("1.48", "28.5.2", "rules.no_new_privileges = false", None),
        ("1.48", "28.5.2", "rules.no_new_privileges = true", NEW),
        ("1.41", "28.5.2", "rules.no_new_privileges = true", "the manager would leave it out"),
        ("1.48", "20.10.24", "rules.no_new_privileges = true", "node node1 would leave it out"),
    ],
)
def test_no_new_privileges_is_set_where_all_engines_know_it_and_required_only_by_a_policy(
    manager: str, node: str, policy: str, expected: object
) -> None:
    engine = FakeSwarm(("node1",))
    engine.api_version, engine.engine_version = manager, node
    gate = PolicyGate(parse_policy(policy, "p.toml"), engine, Settings(redis_url="r"))
    spec = JobSpec(image="a")
    if isinstance(expected, str):
        with pytest.raises(PolicyRefused, match=expected):
            gate.admit(request_of(), spec)
        return
    for _ in range(3):
        assert container(gate.admit(request_of(), spec).request).get("Privileges") == expected
    asked = engine.calls["info"]
    assert asked == (3 if policy.endswith("true") else 1), "the age of the engines is not remembered"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ()),
        ("all", tuple(sorted(DEFAULT_CAPABILITIES))),
        (" cap_setuid, SETGID,", ("SETGID", "SETUID")),
    ],
)
def test_the_setting_lists_what_is_kept(monkeypatch: pytest.MonkeyPatch, text: str, kept: tuple[str, ...]) -> None:
    monkeypatch.setenv("JAAS_CAPABILITIES", text)
    assert Settings(redis_url="r").capabilities == kept


def test_a_capability_that_no_container_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAAS_CAPABILITIES", "SYS_ADMIN")
    with pytest.raises(SpecError, match=r"JAAS_CAPABILITIES: SYS_ADMIN is none of .*SYS_CHROOT; or ALL"):
        Settings(redis_url="r")

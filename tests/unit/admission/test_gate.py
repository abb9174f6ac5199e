"""The gate: what it asks the engine, and what it takes out before a service is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jaas_submit.errors import SpecError
from jaas_submit.model.job_spec import INPUT_FILE, JobSpec
from jaas_submit.policy.decision import decide
from jaas_submit.policy.document import Policy, parse_policy
from jaas_submit.policy.facts import Context, Facts, PolicyRefused
from jaas_submit.signing import Producer
from jaas_worker.admission.gate import Origin, PolicyGate
from jaas_worker.admission.loading import load_policy
from jaas_worker.admission.own_parts import without_own_parts
from jaas_worker.admission.preview import preview_request
from jaas_worker.settings import Settings
from jaas_worker.swarm.service_spec import FilePlace, service_request, with_files
from tests.support.fake_swarm import FakeSwarm


def request_of(**fields: Any) -> tuple[dict[str, Any], JobSpec]:
    spec = JobSpec(**{"image": "a", **fields})
    return service_request(spec, "j", 1, {}, {"s": "id-of-s"}), spec


def gate_of(engine: FakeSwarm, text: str = "") -> PolicyGate:
    return PolicyGate(parse_policy(text, "p.toml"), engine, Settings(redis_url="redis://unused"))


def test_plain_jobs_cost_no_call_but_one_for_the_age_of_the_engine() -> None:
    engine = FakeSwarm()
    gate = gate_of(engine)
    for _ in range(3):
        assert gate.admit(*request_of()).request["TaskTemplate"]["ContainerSpec"]["Image"] == "a"
    assert engine.calls == {"info": 1}


def test_a_secret_is_judged_by_the_label_that_the_swarm_shows() -> None:
    engine = FakeSwarm()
    engine.secrets = {"s": "id-of-s"}
    with pytest.raises(PolicyRefused, match=r"--label jaas\.jobs=allow"):
        gate_of(engine).admit(*request_of(secrets=["s"]))
    engine.labels_of = {"s": {"jaas.jobs": "allow"}}
    gate_of(engine).admit(*request_of(secrets=["s"]))


def test_a_network_is_judged_by_its_labels_and_joined_by_its_id() -> None:
    engine = FakeSwarm()
    admitted = gate_of(engine).admit(*request_of(networks=["demo"]))
    assert admitted.request["TaskTemplate"]["Networks"] == [{"Target": "demo"}]
    engine.labels_of = {"demo": {"jaas.control": "true"}}
    with pytest.raises(PolicyRefused, match="belongs to jaas itself"):
        gate_of(engine).admit(*request_of(networks=["demo"]))


def test_an_old_manager_is_asked_only_where_it_matters() -> None:
    engine = FakeSwarm()
    request, spec = request_of()
    request["TaskTemplate"]["ContainerSpec"]["Privileges"] = {"NoNewPrivileges": True}
    with pytest.raises(PolicyRefused, match=r"needs API 1\.44, and the manager would leave it out"):
        gate_of(engine).admit(request, spec)
    assert engine.calls["info"] == 1


def test_in_mode_warn_the_request_passes_with_a_warning() -> None:
    gate = gate_of(FakeSwarm(), 'mode = "warn"\nlevel = "restricted"')
    assert gate.admit(*request_of()).warning.startswith("image: needs a digest")
    gate.check_image(JobSpec(image="a"))


def test_an_image_of_a_registry_that_is_not_allowed_is_refused_at_once() -> None:
    gate = gate_of(FakeSwarm(), 'rules.images.registries = ["docker.io"]')
    with pytest.raises(PolicyRefused, match=r"may not come from registry\.example"):
        gate.check_image(JobSpec(image="registry.example/a"))


def test_a_tenant_that_a_signature_names_counts_more_than_a_label() -> None:
    gate = gate_of(FakeSwarm())
    spec = JobSpec(image="a", labels={"jaas.tenant": "said"})
    assert gate.context(spec).tenant == "said"
    assert gate.context(spec, Origin(Producer("alice", "proven"))).tenant == "proven"
    assert gate.context(spec, Origin(Producer("alice"))).tenant is None


def own(source: str, target: str) -> bool:
    return (source, target) == ("/store/x", INPUT_FILE)


def no_own(_name: str, _target: str) -> bool:
    return False


def test_a_service_is_judged_without_the_input_that_jaas_gave_it() -> None:
    request, spec = request_of()
    for place in (FilePlace(INPUT_FILE, "id", request["Name"]), FilePlace(INPUT_FILE, source="/store/x")):
        bare = without_own_parts(with_files(request, place), own, no_own)
        container = bare["TaskTemplate"]["ContainerSpec"]
        assert (container["Configs"], container["Mounts"]) == ([], [])
    elsewhere = with_files(request, FilePlace(INPUT_FILE, source="/etc"))
    assert without_own_parts(elsewhere, own, no_own)["TaskTemplate"]["ContainerSpec"]["Mounts"]
    other = with_files(request, FilePlace(INPUT_FILE, "id", "somebody-else"))
    assert without_own_parts(other, no_own, no_own)["TaskTemplate"]["ContainerSpec"]["Configs"]
    assert spec.image == "a"


def test_a_preview_is_the_request_of_the_first_attempt() -> None:
    spec = JobSpec(image="a", secrets=["s"], mounts=[{"source": "/a", "target": "/b"}])
    made = preview_request(spec)["TaskTemplate"]["ContainerSpec"]
    assert made["Secrets"][0]["SecretID"] == "s"
    assert made["Mounts"] == [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": False}]


def test_a_preview_has_the_limit_of_processes_that_workers_set() -> None:
    request = preview_request(JobSpec(image="a"))
    policy = parse_policy("rules.resources.pids = {required = true, maximum = 100}", "p.toml")
    decision = decide(request, Facts(), policy, Context())
    assert (decision.refusals, decision.request["TaskTemplate"]["Resources"]["Limits"]) == ((), {"Pids": 100})
    assert request["TaskTemplate"]["Resources"]["Limits"] == {"Pids": 4096}


def test_a_policy_comes_from_a_file_or_is_a_level(tmp_path: Path) -> None:
    file = tmp_path / "policy"
    file.write_text('level = "restricted"')
    assert load_policy(Settings(redis_url="r")).level == "baseline"
    assert load_policy(Settings(redis_url="r", policy="privileged")) == Policy(level="privileged")
    assert load_policy(Settings(redis_url="r", policy_file=str(file))).level == "restricted"
    with pytest.raises(SpecError, match=r"^JAAS_POLICY: cannot go with JAAS_POLICY_FILE"):
        load_policy(Settings(redis_url="r", policy="baseline", policy_file=str(file)))
    with pytest.raises(SpecError, match=r"^JAAS_POLICY_FILE: /no/such: No such file"):
        load_policy(Settings(redis_url="r", policy_file="/no/such"))
    file.write_bytes(b"\xff")
    with pytest.raises(SpecError, match=r"^JAAS_POLICY_FILE: .*is no UTF-8"):
        load_policy(Settings(redis_url="r", policy_file=str(file)))
    file.write_text("levle: x")
    with pytest.raises(SpecError, match=r"^JAAS_POLICY_FILE: .*did you mean level"):
        load_policy(Settings(redis_url="r", policy_file=str(file)))

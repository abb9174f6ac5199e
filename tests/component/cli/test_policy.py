"""`jaas policy`, and what `jaas doctor` says of the workers' policies. Redis is real, the workers are played."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaas_submit import Client
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.doctor.policy_checks import policy_checks
from jaas_submit.ledger import Ledger
from jaas_submit.policy.document import Policy, parse_policy
from jaas_submit.policy.published import about_policy
from jaas_worker.admission.container_defaults import ContainerDefaults
from tests.support.stage import Stage

SPEC = {"image": "alpine", "mounts": [{"source": "/etc", "target": "/x"}]}


@pytest.fixture
def stage(ledger: Ledger, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(ledger, redis_url, monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "policy.toml"
    made.write_text('[tenants.web]\nlevel = "restricted"\n[queues.wide]\nlevel = "privileged"\n')
    return made


def report(ledger: Ledger, holder: str, policy: Policy | None) -> None:
    told = {"policy": about_policy(policy), "containers": ContainerDefaults().about()} if policy else {}
    ledger.maintenance.renew_lease(holder, 60, {"queue": ledger.prefix, **told})


def test_check_says_what_a_file_is_or_what_is_wrong_with_it(stage: Stage, file: Path) -> None:
    fine = stage.jaas("policy", "check", str(file))
    assert fine.exit_code == 0
    assert fine.stdout.startswith("valid: level baseline, mode enforce, digest ")
    assert stage.jaas("policy", "check", "-q", str(file)).stdout == ""
    told = json.loads(stage.jaas("policy", "check", "--json", str(file)).stdout)
    assert told["policy"]["tenants"] == {"web": {"level": "restricted"}}
    file.write_text("levle = 1")
    wrong = stage.jaas("policy", "check", str(file))
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "levle: there is no such key; did you mean level?" in wrong.stderr
    assert stage.jaas("policy", "check", "/no/such").exit_code == 2


def test_test_says_whether_a_job_is_allowed(stage: Stage, file: Path) -> None:
    spec = json.dumps(SPEC)
    refused = stage.jaas("policy", "test", str(file), "-", stdin=spec)
    assert refused.exit_code == 1
    assert refused.stdout.startswith("mounts.0.source: the host's /etc may not be mounted; ")
    assert len(refused.stdout.splitlines()) == 1
    tenant = stage.jaas("policy", "test", "--tenant", "web", "--json", str(file), "-", stdin=spec)
    assert {one["rule"] for one in json.loads(tenant.stdout)["refusals"]} == {
        "mounts.binds",
        "users.root",
        "resources.memory",
    }
    allowed = stage.jaas("policy", "test", "--queue", "wide", str(file), "-", stdin=spec)
    assert (allowed.exit_code, allowed.stdout) == (0, "allowed\n")
    assert stage.jaas("policy", "test", str(file), "-", stdin="{}").exit_code == 2


def test_show_prints_the_policies_of_the_workers(stage: Stage) -> None:
    none = stage.jaas("policy", "show")
    assert (none.exit_code, none.stdout) == (1, "")
    policy = parse_policy('mode = "warn"\nrules.env = ["A"]', "p.toml")
    for holder in ("w1", "w2"):
        report(stage.ledger, holder, policy)
    shown = stage.jaas("policy", "show")
    assert shown.exit_code == 0
    assert policy.digest() in shown.stdout
    assert '{"mode":"warn","rules":{"env":["A"]}}' in shown.stdout
    assert "SYS_CHROOT, no init" in " ".join(shown.stdout.split())
    assert stage.jaas("policy", "show", "-q").stdout == f"{policy.digest()}\n"
    told = json.loads(stage.jaas("policy", "show", "--json").stdout.splitlines()[0])
    assert told["policy"] == {"mode": "warn", "rules": {"env": ["A"]}}


def test_the_doctor_says_which_policy_holds(redis_url: str, prefix: str) -> None:
    def look() -> Check:
        (found,) = (check for check in policy_checks(client) if check.name == "policy")
        return found

    with Client(redis_url, queue=prefix, prefix=prefix) as client:
        assert policy_checks(client) == []
        report(client.ledger, "w1", Policy())
        assert (look().verdict, look().detail.partition(",")[0]) == (Verdict.OK, "1 worker: level baseline")
        report(client.ledger, "w1", Policy(mode="warn"))
        assert (look().verdict, look().detail.endswith("not enforced (mode warn)")) == (Verdict.WARN, True)
        report(client.ledger, "w2", Policy(level="privileged"))
        assert look().verdict is Verdict.WARN
        assert "same JAAS_POLICY_FILE" in look().fix
        report(client.ledger, "w3", None)
        assert "1 worker without a policy" in look().detail


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("", True),
        ('rules.resources.memory.default = "512M"', False),
        ('rules.resources.memory.maximum = "1G"', False),
        ("rules.resources.memory.required = true", False),
        ('level = "restricted"', False),
        ('queues.QUEUE.rules.resources.memory.default = "512M"', False),
        ('queues.other.rules.resources.memory.default = "512M"', True),
    ],
)
def test_the_doctor_warns_where_a_job_would_have_no_memory_limit(
    redis_url: str, prefix: str, text: str, warned: bool
) -> None:
    with Client(redis_url, queue=prefix, prefix=prefix) as client:
        report(client.ledger, "w1", parse_policy(text.replace("QUEUE", f'"{prefix}"'), "p.toml"))
        found = [check for check in policy_checks(client) if check.name == "memory limits"]
    assert [check.verdict for check in found] == ([Verdict.WARN] if warned else [])
    assert all("rules.resources.memory.default" in check.fix for check in found)

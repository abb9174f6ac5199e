"""A one-shot that has what a deployed service has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jaas_submit import JobSpec, SpecError
from jaas_submit.model.service_options.like import over
from jaas_worker.swarm.service_spec import service_request
from tests.unit.model.test_job_spec import OPTIONS

DIGEST = "app:2@sha256:" + "a" * 64


def inspected(container: dict[str, Any] | None = None, **task: Any) -> dict[str, Any]:
    return {"ID": "x", "Spec": {"TaskTemplate": {"ContainerSpec": {"Image": DIGEST, **(container or {})}, **task}}}


FILE = {"Name": "/etc/c", "UID": "1", "GID": "2", "Mode": 0o400}

TAKEN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (inspected(), {}),
    (inspected({"Command": ["run"], "Args": ["web", "-p"]}), {"entrypoint": ["run"], "command": ["web", "-p"]}),
    (inspected({"Env": ["A=b=c", "E=", "N={{.Node.ID}}"]}), {"env": {"A": "b=c", "E": ""}}),
    (
        inspected({"Secrets": [{"SecretID": "i", "SecretName": "s", "File": FILE}]}),
        {"secrets": [{"source": "s", "target": "/etc/c", "uid": "1", "gid": "2", "mode": 0o400}]},
    ),
    (
        inspected(
            {"Configs": [{"ConfigID": "i", "ConfigName": "c", "File": FILE}, {"ConfigName": "r", "Runtime": {}}]}
        ),
        {"configs": [{"source": "c", "target": "/etc/c", "uid": "1", "gid": "2", "mode": 0o400}]},
    ),
    (
        inspected({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"NoCopy": True}}]}),
        {"mounts": [{"type": "volume", "source": "v", "target": "/v", "volume_nocopy": True}]},
    ),
    (inspected(Networks=[{"Target": "abc", "Aliases": ["web"]}]), {"networks": ["abc"]}),
    (inspected(Placement={"Constraints": ["node.role==worker"]}), {"constraints": ["node.role==worker"]}),
    (
        inspected(Resources={"Limits": {"NanoCPUs": 5 * 10**8, "MemoryBytes": 2**24, "Pids": 9}, "Reservations": {}}),
        {"limits": {"cpus": 0.5, "memory": 2**24}, "pids_limit": 9},
    ),
    (inspected({"Init": False}), {"init": False}),
    (inspected({"Init": True, "Command": None, "Args": []}), {"init": True}),
    (
        inspected({"Hosts": ["10.0.0.1 db db.local", "::1 six", "10.0.0.2", ""]}),
        {"extra_hosts": ["db:10.0.0.1", "db.local:10.0.0.1", "six:::1"]},
    ),
    # what the workers decide, and what a job does not have
    (inspected({"Privileges": {"NoNewPrivileges": True, "Seccomp": {"Mode": "unconfined"}}}), {}),
    # what belongs to a server stays there
    (inspected({"Hostname": "{{.Node.Hostname}}", "Healthcheck": {"Test": ["CMD", "x"]}, "Labels": {"a": "b"}}), {}),
    (inspected(LogDriver={"Name": "gelf"}), {}),
]


@pytest.mark.parametrize(("service", "fields"), TAKEN)
def test_what_is_taken_over(service: dict[str, Any], fields: dict[str, Any]) -> None:
    expected = JobSpec(image=DIGEST, **fields)
    for given in (service, [service], json.dumps([service])):
        assert JobSpec.like(given) == expected


def test_fields_that_are_given_count() -> None:
    service = inspected({"Args": ["web"], "Env": ["A=1"]})
    assert JobSpec.like(service, command=["migrate"]) == JobSpec(image=DIGEST, command=["migrate"], env={"A": "1"})


def test_a_job_is_like_the_service_that_was_made_of_it() -> None:
    spec = JobSpec(**{**OPTIONS, "networks": ["a"], "command": ["x"], "stop_grace": 3})
    ids = {"plain": "1", "c": "2"}
    request = service_request(spec, "j", 1, {}, {}, config_ids=ids)
    made = JobSpec.like({"Spec": request})
    own = {"healthcheck", "hostname", "container_labels", "configs", "env", "mounts", "init"}
    assert made.model_dump(exclude=own) == spec.model_dump(exclude=own)
    assert [one.volume_options for one in made.mounts] == [one.volume_options for one in spec.mounts]
    assert [one.target for one in made.configs] == ["plain", "/etc/c"]


SERVICE: dict[str, Any] = {
    "image": "app:1",
    "entrypoint": ["run"],
    "command": ["web"],
    "env": {"A": "1", "B": "2"},
    "mounts": [{"type": "volume", "source": "jobs-v", "target": "/v"}],
    "secrets": [{"source": "key", "target": "k"}],
    "constraints": ["node.role==worker"],
    "limits": {"cpus": 2, "memory": 2**24},
}
OWN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"command": ["migrate"]}, {"command": ["migrate"]}),
    ({"image": "app:2"}, {"image": "app:2"}),
    ({"entrypoint": ["sh"]}, {"entrypoint": ["sh"], "command": None}),
    ({"entrypoint": ["sh"], "command": ["-c"]}, {"entrypoint": ["sh"], "command": ["-c"]}),
    ({"env": {"B": "3", "C": "4"}}, {"env": {"A": "1", "B": "3", "C": "4"}}),
    ({"env": ["B=3"]}, {"env": {"A": "1", "B": "3"}}),
    ({"env_secrets": {"A": "a"}}, {"env": {"B": "2"}, "env_secrets": {"A": "a"}}),
    ({"limits": {"cpus": 1}}, {"limits": {"cpus": 1, "memory": 2**24}}),
    (
        {"mounts": [{"type": "tmpfs", "target": "/v"}, {"type": "tmpfs", "target": "/w"}]},
        {"mounts": [{"type": "tmpfs", "target": "/v"}, {"type": "tmpfs", "target": "/w"}]},
    ),
    ({"secrets": ["key", "more"]}, {"secrets": ["key", "more"]}),
    ({"secrets": [{"source": "key"}]}, {"secrets": [{"source": "key"}]}),
    ({"constraints": ["node.id==x"]}, {"constraints": ["node.role==worker", "node.id==x"]}),
]


@pytest.mark.parametrize(("own", "made"), OWN)
def test_what_a_job_says_itself(own: dict[str, Any], made: dict[str, Any]) -> None:
    expected = JobSpec(**{**SERVICE, **made})
    named = JobSpec.like("shop_web", **own)
    assert (named.image, named.like_service) == (own.get("image", ""), "shop_web")
    assert named.with_service(SERVICE) == expected
    assert JobSpec(**over(SERVICE, own)) == expected
    assert JobSpec.parse(named.to_wire()) == named


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-a", "../x", "a" * 129, "é", "a\n"])
def test_what_is_no_name_of_a_service(name: str) -> None:
    with pytest.raises(SpecError, match=r"^like"):
        JobSpec.like(name)
    with pytest.raises(SpecError, match=r"^like_service: "):
        JobSpec(like_service=name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{web", "not valid JSON; give what `docker service inspect` prints"),
        ("[]", "has 0 services; give one"),
        ({}, "this is no service"),
        ({"Spec": {"TaskTemplate": {"ContainerSpec": []}}}, "this is no service"),
        (5, "this is no service"),
        (
            inspected(
                Resources={
                    "Reservations": {"GenericResources": [{"NamedResourceSpec": {"Kind": "gpu", "Value": "UUID-1"}}]}
                }
            ),
            r"reserves gpu by name \(UUID-1\), and a job can only ask for a number",
        ),
    ],
)
def test_what_is_refused(given: object, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        JobSpec.like(given)
    assert caught.value.field == "like"

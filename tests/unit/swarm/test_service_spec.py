"""From a job description to the body of ``POST /services/create``."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import (
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_LEDGER,
    LABEL_PREFIX,
    LABEL_SPEC,
    LABEL_SPEC_HASH,
    LABEL_WORKER,
)
from jaas_worker.settings import Settings
from jaas_worker.swarm.service_spec import ServiceDefaults, service_request, spec_of_service

MISSING = "(missing)"  # a text, as it is part of the names of tests, which must be the same in every process
MARKS = {LABEL_PREFIX: "pre", LABEL_SPEC_HASH: "hash"}


def request(**fields: Any) -> dict[str, Any]:
    spec = JobSpec(**{"image": "a", **fields})
    ids = {"token": "id-of-token", "key": "id-of-key"}
    return service_request(spec, "job-1", 2, MARKS, ids, config_ids={"c": "id-of-c"})


def at(made: dict[str, Any], path: str) -> Any:
    """Return what is at a dotted path; CS stands for TaskTemplate.ContainerSpec, T for TaskTemplate."""
    value: Any = made
    for part in path.replace("CS.", "T.ContainerSpec.").replace("T.", "TaskTemplate.", 1).split("."):
        value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
    return value


OURS = ["JAAS_JOB_ID=job-1", "JAAS_ATTEMPT=2", "JAAS_NODE={{.Node.Hostname}}"]

# Fields of the description; where they land; what is there.
FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({"image": "registry.example/a:1"}, "CS.Image", "registry.example/a:1"),
    ({}, "CS.Command", MISSING),
    ({}, "CS.Args", MISSING),
    ({"entrypoint": ["sh", "-c"]}, "CS.Command", ["sh", "-c"]),
    ({"command": ["echo 'a b'", ""]}, "CS.Args", ["echo 'a b'", ""]),
    ({"command": []}, "CS.Args", []),
    ({}, "CS.Env", OURS),
    ({"env": {"B": "2", "A": "x=y z"}}, "CS.Env", ["B=2", "A=x=y z", *OURS]),
    ({"env": {"JAAS_JOB_ID": "forged"}}, "CS.Env", ["JAAS_JOB_ID=forged", *OURS]),  # the last one counts
    ({"workdir": "/srv"}, "CS.Dir", "/srv"),
    ({}, "CS.Dir", MISSING),
    ({"user": "1000:1000"}, "CS.User", "1000:1000"),
    ({}, "CS.User", MISSING),
    ({"stop_signal": "SIGINT"}, "CS.StopSignal", "SIGINT"),
    ({}, "CS.StopSignal", MISSING),
    ({}, "CS.StopGracePeriod", 10_000_000_000),
    ({"stop_grace": "1.5s"}, "CS.StopGracePeriod", 1_500_000_000),
    ({"stop_grace": 0}, "CS.StopGracePeriod", 0),
    ({}, "T.LogDriver", MISSING),
    (
        {"log_driver": "json-file", "log_options": {"max-size": "1m"}},
        "T.LogDriver",
        {"Name": "json-file", "Options": {"max-size": "1m"}},
    ),
    ({}, "CS.Healthcheck", {"Test": ["NONE"]}),
    ({"healthcheck": True}, "CS.Healthcheck", MISSING),
    ({}, "CS.Mounts", MISSING),
    (
        {"mounts": [{"source": "/a", "target": "/b", "read_only": True}]},
        "CS.Mounts",
        [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}],
    ),
    (
        {"mounts": [{"type": "volume", "source": "v", "target": "/b"}]},
        "CS.Mounts",
        [{"Type": "volume", "Source": "v", "Target": "/b", "ReadOnly": False}],
    ),
    (
        {"mounts": [{"type": "tmpfs", "target": "/b"}]},
        "CS.Mounts",
        [{"Type": "tmpfs", "Target": "/b", "ReadOnly": False}],
    ),
    ({}, "CS.Secrets", MISSING),
    (
        {"secrets": ["token"]},
        "CS.Secrets",
        [
            {
                "SecretID": "id-of-token",
                "SecretName": "token",
                "File": {"Name": "token", "UID": "0", "GID": "0", "Mode": 0o444},
            }
        ],
    ),
    (
        {"secrets": [{"source": "key", "target": "k", "uid": "1", "gid": "2", "mode": 0o400}]},
        "CS.Secrets",
        [{"SecretID": "id-of-key", "SecretName": "key", "File": {"Name": "k", "UID": "1", "GID": "2", "Mode": 0o400}}],
    ),
    ({}, "T.Resources", {"Limits": {}, "Reservations": {}}),
    (
        {"limits": {"cpus": 1.5, "memory": "512M"}},
        "T.Resources.Limits",
        {"NanoCPUs": 1_500_000_000, "MemoryBytes": 512 * 1024**2},
    ),
    ({"reservations": {"cpus": 0.001}}, "T.Resources.Reservations", {"NanoCPUs": 1_000_000}),
    ({}, "T.Placement.Constraints", []),
    (
        {"constraints": [" node.role == worker", "node.labels.disk!=hdd "]},
        "T.Placement.Constraints",
        ["node.role == worker", "node.labels.disk!=hdd"],
    ),
    (
        {"mounts": [{"type": "tmpfs", "target": "/b", "tmpfs_size": "1M", "tmpfs_mode": 0o700}]},
        "CS.Mounts",
        [{"Type": "tmpfs", "Target": "/b", "ReadOnly": False, "TmpfsOptions": {"SizeBytes": 2**20, "Mode": 0o700}}],
    ),
    (
        {
            "mounts": [
                {
                    "type": "volume",
                    "source": "v",
                    "target": "/b",
                    "volume_options": {"o": "{{x"},
                    "volume_nocopy": True,
                    "volume_labels": {"a": "b"},
                    "volume_subpath": "c",
                }
            ]
        },
        "CS.Mounts",
        [
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/b",
                "ReadOnly": False,
                "VolumeOptions": {
                    "NoCopy": True,
                    "Labels": {"a": "b"},
                    "DriverConfig": {"Options": {"o": '{{"{{"}}x'}},
                    "Subpath": "c",
                },
            }
        ],
    ),
    (
        {"mounts": [{"source": "/a", "target": "/b", "bind_propagation": "shared", "bind_recursive": "disabled"}]},
        "CS.Mounts",
        [
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/b",
                "ReadOnly": False,
                "BindOptions": {"Propagation": "shared", "NonRecursive": True},
            }
        ],
    ),
    (
        {"configs": [{"source": "c", "target": "/c", "uid": "1", "gid": "2", "mode": 0o400}]},
        "CS.Configs",
        [{"ConfigID": "id-of-c", "ConfigName": "c", "File": {"Name": "/c", "UID": "1", "GID": "2", "Mode": 0o400}}],
    ),
    ({"cap_add": ["cap_kill"]}, "CS.CapabilityAdd", ["KILL"]),
    ({}, "CS.CapabilityAdd", MISSING),
    ({"cap_drop": ["ALL"]}, "CS.CapabilityDrop", ["ALL"]),
    ({"ulimits": {"nofile": "1:2"}}, "CS.Ulimits", [{"Name": "nofile", "Soft": 1, "Hard": 2}]),
    ({"sysctls": {"net.a": 1}}, "CS.Sysctls", {"net.a": "1"}),
    ({}, "CS.Init", MISSING),
    ({"init": False}, "CS.Init", False),
    ({"read_only": True}, "CS.ReadOnly", True),
    ({"pids_limit": 5}, "T.Resources.Limits.Pids", 5),
    ({"groups": ["1"]}, "CS.Groups", ["1"]),
    ({"hostname": "h"}, "CS.Hostname", "h"),
    ({"extra_hosts": ["a:10.0.0.1", "b:fd00::1"]}, "CS.Hosts", ["10.0.0.1 a", "fd00::1 b"]),
    (
        {"dns": ["10.0.0.1"], "dns_search": ["a"], "dns_opt": ["rotate"]},
        "CS.DNSConfig",
        {"Nameservers": ["10.0.0.1"], "Search": ["a"], "Options": ["rotate"]},
    ),
    ({"tty": True}, "CS.TTY", True),
    ({"oom_score_adj": 0}, "CS.OomScoreAdj", 0),
    ({"container_labels": {"a": "b"}}, "CS.Labels", {"a": "b", LABEL_JOB: "job-1", LABEL_ATTEMPT: "2"}),
    (
        {"labels": {"team": "web", "jaas.tenant": "web", "jaas.job": "another"}},
        "CS.Labels",
        {"team": "web", "jaas.tenant": "web", LABEL_JOB: "job-1", LABEL_ATTEMPT: "2"},
    ),
    (
        {"generic_resources": {"gpu": 2}},
        "T.Resources.Reservations.GenericResources",
        [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}],
    ),
    ({"healthcheck": {"test": "x", "retries": 2}}, "CS.Healthcheck", {"Test": ["CMD-SHELL", "x"], "Retries": 2}),
    (
        {"healthcheck": {"interval": 1, "timeout": "2s", "start_period": "1m", "start_interval": 0.5}},
        "CS.Healthcheck",
        {"Interval": 10**9, "Timeout": 2 * 10**9, "StartPeriod": 60 * 10**9, "StartInterval": 5 * 10**8},
    ),
    ({}, "T.Networks", []),
    (
        {"networks": ["a", {"name": "b", "aliases": ["c"], "driver_opts": {"d": "e"}}]},
        "T.Networks",
        [{"Target": "a"}, {"Target": "b", "Aliases": ["c"], "DriverOpts": {"d": "e"}}],
    ),
    ({"networks": ["demo", "back"]}, "T.Networks", [{"Target": "demo"}, {"Target": "back"}]),
    ({}, "T.RestartPolicy.Condition", "none"),
    ({}, "Mode", {"Replicated": {"Replicas": 1}}),
    ({}, "Name", "jaas-job-1-2"),
]


@pytest.mark.parametrize(("fields", "path", "expected"), FIELDS, ids=lambda value: str(value)[:40])
def test_where_a_field_lands(fields: dict[str, Any], path: str, expected: Any) -> None:
    assert at(request(**fields), path) == expected


def test_the_labels_say_whose_service_it_is() -> None:
    labels = request(env={"PASSWORD": "hunter2"})["Labels"]
    assert labels.keys() == {LABEL_JOB, LABEL_ATTEMPT, LABEL_SPEC_HASH, LABEL_PREFIX, LABEL_SPEC}
    assert {**MARKS, LABEL_JOB: "job-1", LABEL_ATTEMPT: "2"}.items() <= labels.items()
    assert "hunter2" not in str(labels)
    assert at(request(), "CS.Labels") == {LABEL_JOB: "job-1", LABEL_ATTEMPT: "2"}


def test_what_only_jaas_itself_looks_at_is_not_sent_to_the_engine() -> None:
    mine = {"name": "n", "registry": "r.example", "run_timeout": 5, "pending_timeout": 5}
    sent, plain = request(**mine, check=False), request()
    assert sent.pop("Labels").keys() == plain.pop("Labels").keys()
    assert sent == plain


def test_a_large_description_is_not_kept_in_a_label() -> None:
    assert LABEL_SPEC in request(command=["x" * 10_000])["Labels"]
    assert LABEL_SPEC not in request(command=["x" * 20_000])["Labels"]


# Descriptions that must come back out of the service that was made from them, so that a lost record can be made again.
SERVED: list[dict[str, Any]] = [
    {},
    {"env": {"A": "1", "empty": "", "EQUALS": "a=b=c", "MULTI": "a\nb"}},
    {"env": {"T": "{{.Node.Hostname}} }} {{{ {{{{ '{{\"{{\"}}'"}},
    {"command": ["a", ""], "entrypoint": ["sh"], "labels": {"a": "b"}, "run_timeout": 5, "check": False},
    {"mounts": [{"source": "/{{x}}", "target": "/b"}], "secrets": ["token"], "limits": {"memory": "64M"}},
]


@pytest.mark.parametrize("fields", SERVED, ids=str)
def test_a_description_comes_back_out_of_its_service(fields: dict[str, Any]) -> None:
    made = request(**fields)
    assert spec_of_service(made["Labels"], at(made, "CS.Env")) == JobSpec(**{"image": "a", **fields})


@given(st.dictionaries(st.from_regex(r"[A-Z]{1,3}", fullmatch=True), st.text('{}"a= ', max_size=12), max_size=3))
def test_any_environment_comes_back(env: dict[str, str]) -> None:
    made = request(env=env)
    again = spec_of_service(made["Labels"], at(made, "CS.Env"))
    assert again is not None
    assert again.env == env


def test_without_its_label_a_description_is_lost() -> None:
    assert spec_of_service({}, ["A=1"]) is None


BRACES = [("{{", '{{"{{"}}'), ("a{{.Node.ID}}b", 'a{{"{{"}}.Node.ID}}b'), ("}}", "}}"), ("{ {", "{ {")]


@pytest.mark.parametrize(("text", "sent"), BRACES)
def test_braces_are_text_and_no_templates_of_the_swarm(text: str, sent: str) -> None:
    made = request(env={"A": text}, mounts=[{"source": f"/{text}", "target": f"/{text}"}])
    assert at(made, "CS.Env")[0] == f"A={sent}"
    (mount,) = at(made, "CS.Mounts")
    assert (mount["Source"], mount["Target"]) == (f"/{sent}", f"/{sent}")


def test_the_same_description_always_makes_the_same_request() -> None:
    fields = {"env": {"B": "1", "A": "2"}, "secrets": ["token"], "networks": ["x"]}
    assert request(**fields) == request(**fields)


def test_a_secret_whose_id_is_not_known() -> None:
    with pytest.raises(KeyError, match="nobody"):
        request(secrets=["nobody"])


@pytest.mark.parametrize(
    ("settings", "driver"),
    [
        ({"log_options": {"max-size": "1m"}}, {"Name": "local", "Options": {"max-size": "1m"}}),
        ({"log_driver": "syslog"}, {"Name": "syslog", "Options": {}}),
        ({"log_driver": "json-file", "log_options": "max-file=3"}, {"Name": "json-file", "Options": {"max-file": "3"}}),
        ({"log_driver": ""}, MISSING),
    ],
)
def test_the_log_driver_is_the_workers(settings: dict[str, Any], driver: Any) -> None:
    defaults = ServiceDefaults.of(Settings(redis_url="redis://unused", **settings), "ledger-1", "worker-1")
    made = service_request(JobSpec(image="a"), "j", 1, {}, {}, defaults=defaults)["TaskTemplate"]
    assert made.get("LogDriver", MISSING) == driver


def test_a_worker_may_set_no_limit_of_processes() -> None:
    defaults = ServiceDefaults.of(Settings(redis_url="redis://unused", pids_limit=0), "ledger-1", "worker-1")
    made = service_request(JobSpec(image="a", limits={"cpus": 1}), "j", 1, {}, {}, defaults=defaults)
    assert made["TaskTemplate"]["Resources"]["Limits"] == {"NanoCPUs": 1_000_000_000}


def test_what_a_worker_s_settings_say_is_in_each_request() -> None:
    defaults = ServiceDefaults.of(Settings(redis_url="redis://unused", prefix="pre"), "ledger-1", "worker-1")
    made = service_request(JobSpec(image="a"), "j", 1, {LABEL_SPEC_HASH: "hash"}, {}, defaults=defaults)
    labels, driver = made["Labels"], made["TaskTemplate"]["LogDriver"]
    assert made["TaskTemplate"]["Resources"] == {"Limits": {"Pids": 4096}, "Reservations": {}}
    assert driver == {"Name": "local", "Options": {"max-size": "100m", "max-file": "2", "compress": "false"}}
    assert {name: labels[name] for name in (LABEL_PREFIX, LABEL_LEDGER, LABEL_WORKER, LABEL_SPEC_HASH)} == {
        LABEL_PREFIX: "pre",
        LABEL_LEDGER: "ledger-1",
        LABEL_WORKER: "worker-1",
        LABEL_SPEC_HASH: "hash",
    }

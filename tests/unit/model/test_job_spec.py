"""Job descriptions: which are refused, and with which words; which are accepted, and what becomes of them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit import job
from jaas_submit.errors import JaasError, SpecError
from jaas_submit.messaging.messages import task_options
from jaas_submit.model.fields import Resources, parse_duration, parse_size
from jaas_submit.model.job_spec import MAX_SPEC_BYTES, SPEC_VERSION, JobSpec
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.model.service_options.references import SecretMount

HUGE = 10**400
"""JSON allows such numbers; no float holds them."""

HALF_PAIR = "\ud800"
"""Half a surrogate pair: json.loads('"\\\\ud800"') makes such texts, which are no valid Unicode."""

MARKER = "hunter2-marker"
"""A secret that may turn up nowhere."""


def spec(**fields: Any) -> JobSpec:
    return JobSpec.parse({"image": "a", **fields})


def mount(**fields: Any) -> dict[str, Any]:
    return {"mounts": [{"source": "/a", "target": "/b", **fields}]}


def rule(**fields: Any) -> dict[str, Any]:
    return {"retry": {"rules": [{"action": "fail", **fields}]}}


# What is wrong; the field that the error must name; words of the fix that its text must have.
BAD: list[tuple[dict[str, Any], str, str]] = [
    # image
    ({"image": ""}, "image", "must not be empty"),
    ({"image": "a b"}, "image", r"write it as [registry/]name[:tag]"),
    ({"image": "Ubuntu"}, "image", "in lower case"),
    ({"image": "registry.example/Team/app"}, "image", "in lower case"),
    ({"image": "a:tag with blanks"}, "image", "no image reference"),
    ({"image": "a\n"}, "image", "no image reference"),
    ({"image": "https://registry.example/a"}, "image", "no image reference"),
    ({"image": "a" * 600}, "image", "at most 512 characters"),
    ({"image": None}, "image", "must be a text"),
    ({"image": 5}, "image", "must be a text"),
    ({"image": ["a"]}, "image", "must be a text"),
    # version
    ({"version": 2}, "version", "reads version 1 only"),
    ({"version": 0}, "version", "reads version 1 only"),
    ({"version": "1"}, "version", "reads version 1 only"),
    ({"version": None}, "version", "upgrade the workers"),
    # unknown fields, at each level
    ({"imag": "a"}, "imag", "no field of a job description"),
    ({"self": 1}, "self", "no field of a job description"),
    ({"": 1}, "''", "no field of a job description"),
    ({"env_secrets": {"T": "../key"}}, "env_secrets.T", "must match"),
    ({"env_secrets": {"A B": "s"}}, "env_secrets", "no variable name"),
    ({"env": {"T": "1"}, "env_secrets": {"T": "s"}}, "env_secrets", "keep one of them"),
    ({"scrub": "perhaps"}, "scrub", "true or false"),
    ({"limits": {"": 1}}, "limits.''", "no field"),
    ({"image": "a", "input": float("nan")}, "input", "JSON does not know"),
    ({"image": "a", "input": [{"b": float("-inf")}]}, "input", "JSON does not know"),
    ({"image": "a", "input": {"b": "\ud800"}}, "input", "no valid Unicode"),
    ({"image": "a", "input": {"b": {1: 2}}}, "input.b.1", "must be a text"),
    ({"image": "a", "input": 1, "gather": {"batch": "b", "count": 1}}, "input", "cannot go with gather"),
    ({"image": "a", "input": 1, "input_lines": True}, "input_lines", "needs a list as input"),
    ({"image": "a", "gather": {"batch": "b"}}, "gather.count", "is required"),
    ({"image": "a", "output": "yaml"}, "output", "json"),
    ({"image": "a", "outputs": ["out/*"]}, "outputs.0", "absolute path"),
    ({"image": "a", "outputs": "/out"}, "outputs", "give a list"),
    ({"cls": 1}, "cls", "no field of a job description"),
    ({"limits": {"cpu": 1}}, "limits.cpu", "no field"),
    ({"reservations": {"gpus": 1}}, "reservations.gpus", "no field"),
    (mount(bind={"propagation": "shared"}), "mounts.0.bind", "no field"),
    ({"secrets": [{"source": "a", "value": "x"}]}, "secrets.0.value", "no field"),
    # command and entrypoint
    ({"command": "echo hello"}, "command", 'give a list of words, such as ["sh", "-c", "echo hello"]'),
    ({"entrypoint": "sh"}, "entrypoint", "give a list of words"),
    ({"command": ["echo", 5]}, "command.1", "must be a text"),
    ({"command": {"echo": "hello"}}, "command", "must be a list"),
    ({"command": ["a\x00b"]}, "command", "NUL character"),
    ({"command": [HALF_PAIR]}, "command.0", "unicode"),
    ({"command": ["x" * 200_000]}, "command.0", "at most 131072 characters"),
    ({"command": ["x"] * 5000}, "command", "at most 4096 items"),
    ({"entrypoint": []}, "entrypoint", "must name a program"),
    ({"entrypoint": [""]}, "entrypoint", "must name a program"),
    # env
    ({"env": ["A"]}, "env", "needs a '=': write NAME=value"),
    ({"env": ["A=1", 5]}, "env", "needs a '='"),
    ({"env": "A=1"}, "env", "must be an object of names and values"),
    ({"env": 5}, "env", "must be an object of names and values"),
    ({"env": {"A B": "1"}}, "env", "no blanks"),
    ({"env": ["A B=1"]}, "env", "no blanks"),
    ({"env": {"": "1"}}, "env", "use NAME=value"),
    ({"env": ["=1"]}, "env", "use NAME=value"),
    ({"env": {"A=B": "1"}}, "env", "no blanks or '=' in NAME"),
    ({"env": {"A\x00": "1"}}, "env", "use NAME=value"),
    ({"env": {"A": "a\x00b"}}, "env", "value of A has a NUL character"),
    ({"env": {"A": HALF_PAIR}}, "env", "no valid Unicode"),
    ({"env": {HALF_PAIR: "1"}}, "env", "no valid Unicode"),
    ({"env": {"A": 5}}, "env.A", "must be a text"),
    ({"env": {"A": None}}, "env.A", "must be a text"),
    ({"env": {"A": "x" * 10_000_000}}, "env", "pass large data by a mount, a secret or a URL"),
    ({"env": {"A": "€" * 200_000}}, "env", "more than the 524,288 allowed"),
    ({"env": {f"A{i}": "" for i in range(5000)}}, "env", "at most 4096 items"),
    # what a container gets
    ({"cap_add": ["NET_ADMN"]}, "cap_add.0", "did you mean NET_ADMIN?"),
    ({"cap_add": "KILL"}, "cap_add", "give a list"),
    ({"cap_add": ["ALL"], "cap_drop": ["CHOWN", "ALL"]}, "cap_add", "ALL is in cap_drop, too; keep one"),
    ({"ulimits": {"files": 1}}, "ulimits.files", "did you mean nofile?"),
    ({"ulimits": {"nofile": "a:b"}}, "ulimits.nofile", "write SOFT or SOFT:HARD"),
    ({"ulimits": {"nofile": True}}, "ulimits.nofile", "give a number"),
    ({"ulimits": {"nofile": {"soft": 2, "hard": 1}}}, "ulimits.nofile.soft", "is more than hard"),
    ({"ulimits": {"nofile": "-1:5"}}, "ulimits.nofile.soft", "is more than hard"),
    ({"ulimits": {"nofile": -2}}, "ulimits.nofile.soft", "must be -1 at least"),
    ({"sysctls": {"vm.swappiness": 1}}, "sysctls.vm.swappiness", "those are net.*, fs.mqueue.*"),
    ({"sysctls": {"net.a": "1\n2"}}, "sysctls.net.a", "not allowed"),
    ({"init": "perhaps"}, "init", "must be true or false"),
    ({"read_only": 5}, "read_only", "must be true or false"),
    ({"pids_limit": 0}, "pids_limit", "must be 1 at least"),
    ({"pids_limit": "many"}, "pids_limit", "must be a whole number"),
    ({"groups": ["a:b"]}, "groups.0", "must match"),
    ({"hostname": "{{.Node.Hostname}}"}, "hostname", "must match"),
    ({"extra_hosts": ["db"]}, "extra_hosts", "write NAME:ADDRESS such as db:10.0.0.7"),
    ({"extra_hosts": ["db:host-gateway"]}, "extra_hosts", "is no address"),
    ({"extra_hosts": {"db": "10.0.0.256"}}, "extra_hosts", "is no address"),
    ({"dns": ["resolver.example"]}, "dns.0", "is no address; write one such as"),
    ({"dns_search": ["a b"]}, "dns_search.0", "must match"),
    ({"dns_opt": ["ndots=2"]}, "dns_opt.0", "must match"),
    ({"tty": "perhaps"}, "tty", "must be true or false"),
    ({"oom_score_adj": 1001}, "oom_score_adj", "must be 1000 at most"),
    (
        {"container_labels": {"jaas.job": "x"}},
        "container_labels.jaas.job",
        "those with jaas. and com.docker. are taken",
    ),
    ({"container_labels": {"a b": "x"}}, "container_labels.a b", "one without blanks"),
    ({"generic_resources": {"gpu": 0}}, "generic_resources.gpu", "must be 1 at least"),
    ({"generic_resources": {"gpu": "GPU-1"}}, "generic_resources.gpu", "must be a whole number"),
    ({"configs": "app"}, "configs", "give a list"),
    ({"configs": [{"target": "/a"}]}, "configs.0.source", "is required"),
    ({"networks": [{"name": "a", "alias": "b"}]}, "networks.0.alias", "no field"),
    ({"networks": [{"name": "a", "aliases": "b"}]}, "networks.0.aliases", "give a list"),
    ({"networks": ["a", "a"]}, "networks", "there twice; name it once"),
    ({"healthcheck": {"test": ["true"]}}, "healthcheck.test", 'or ["CMD", "program", "argument"]'),
    ({"healthcheck": {"disable": True, "retries": 1}}, "healthcheck.disable", "leave one out"),
    ({"healthcheck": {"interval": "soon"}}, "healthcheck.interval", "such as 60s"),
    ({"healthcheck": {"interval": 0}}, "healthcheck.interval", "must be 0.001 at least"),
    (mount(volume_nocopy=True), "mounts.0.volume_nocopy", "for mounts of type volume, and this is a bind"),
    (mount(tmpfs_size="1M"), "mounts.0.tmpfs_size", "for mounts of type tmpfs"),
    (mount(bind_propagation="both"), "mounts.0.bind_propagation", "rslave"),
    (mount(bind_recursive="writable"), "mounts.0.bind_recursive", "set read_only"),
    (mount(type="volume", source="v", bind_propagation="shared"), "mounts.0.bind_propagation", "of type bind"),
    (mount(type="volume", source="v", volume_subpath="/a"), "mounts.0.volume_subpath", "must match"),
    (mount(type="tmpfs", source="", tmpfs_mode=0o10000), "mounts.0.tmpfs_mode", "must be 4095 at most"),
    # networks and constraints
    ({"networks": "demo"}, "networks", 'give a list, such as ["name"]'),
    ({"networks": ["a/b"]}, "networks.0.name", "must match"),
    ({"networks": [""]}, "networks.0.name", "must match"),
    ({"networks": [None]}, "networks.0", "must be an object of names and values"),
    ({"constraints": "node.role==worker"}, "constraints", "give a list"),
    ({"constraints": ["disk==ssd"]}, "constraints", "such as node.role==worker"),
    ({"constraints": ["node.role=worker"]}, "constraints", "write KEY==VALUE or KEY!=VALUE"),
    ({"constraints": ["node.role=="]}, "constraints", "write KEY==VALUE"),
    ({"constraints": ["node.colour==red"]}, "constraints", "no placement constraint"),
    ({"constraints": [HALF_PAIR]}, "constraints.0", "unicode"),
    # mounts
    ({"mounts": "/a:/b"}, "mounts", "must be a list"),
    ({"mounts": ["/a:/b"]}, "mounts.0", "must be an object"),
    ({"mounts": [{"source": "/a"}]}, "mounts.0.target", "is required"),
    (mount(source="a"), "mounts.0", "must be an absolute path; for a volume say type=volume"),
    (mount(source=""), "mounts.0", "must be an absolute path"),
    (mount(target="b"), "mounts.0.target", "absolute path"),
    (mount(type="volume"), "mounts.0", "for a path say type=bind"),
    (mount(type="tmpfs"), "mounts.0", "a tmpfs mount has no source; leave it out"),
    (mount(type="npipe"), "mounts.0.type", "'bind', 'volume' or 'tmpfs'"),
    (mount(read_only="maybe"), "mounts.0.read_only", "must be true or false"),
    ({"mounts": mount()["mounts"] * 2}, "mounts", "two of them have the same target"),
    # secrets
    ({"secrets": "token"}, "secrets", "give a list"),
    ({"secrets": ["a/b"]}, "secrets.0.source", "must match"),
    ({"secrets": [{}]}, "secrets.0.source", "is required"),
    ({"secrets": [{"source": "a", "uid": "root"}]}, "secrets.0.uid", "must match"),
    ({"secrets": [{"source": "a", "mode": 0o10000}]}, "secrets.0.mode", "must be 4095 at most"),
    # resources
    ({"limits": {"memory": -1}}, "limits.memory", "must not be negative"),
    ({"limits": {"memory": "-1M"}}, "limits.memory", "never a negative one"),
    ({"limits": {"memory": "1M"}}, "limits.memory", "must be 6291456 bytes"),
    ({"limits": {"memory": "lots"}}, "limits.memory", "a size such as 512M"),
    ({"limits": {"memory": True}}, "limits.memory", "a size such as 512M"),
    ({"limits": {"memory": HUGE}}, "limits.memory", "beyond 64 bits"),
    ({"limits": {"cpus": 0}}, "limits.cpus", "must be 0.001 at least"),
    ({"limits": {"cpus": -1}}, "limits.cpus", "must be 0.001 at least"),
    ({"limits": {"cpus": "two"}}, "limits.cpus", "must be a number"),
    ({"limits": {"cpus": math.nan}}, "limits.cpus", "must be 4096 at most"),
    ({"limits": None}, "limits", "must be an object"),
    ({"limits": {"cpus": 1}, "reservations": {"cpus": 2}}, "reservations.cpus", "raise the limit or reserve less"),
    ({"limits": {"memory": "64M"}, "reservations": {"memory": "65M"}}, "reservations.memory", "raise the limit"),
    # names, labels, users
    ({"name": "a/b"}, "name", "must match"),
    ({"name": ""}, "name", "must match"),
    ({"name": "a b"}, "name", "must match"),
    ({"name": "x" * 65}, "name", "must match"),
    ({"labels": ["a"]}, "labels", "must be an object"),
    ({"labels": {"a b": "1"}}, "labels.a b", "must match"),
    ({"labels": {"a": 1}}, "labels.a", "must be a text"),
    ({"labels": {"a": "x" * 300}}, "labels.a", "at most 256 characters"),
    ({"labels": {f"a{i}": "" for i in range(33)}}, "labels", "at most 32 items"),
    ({"user": ""}, "user", "must not be empty"),
    ({"user": "a\x00b"}, "user", "must match"),
    ({"workdir": "tmp"}, "workdir", "absolute path"),
    ({"registry": ""}, "registry", "must not be empty"),
    # durations and switches
    ({"run_timeout": 0}, "run_timeout", "must be more than 0"),
    ({"run_timeout": "0s"}, "run_timeout", "must be more than 0"),
    ({"run_timeout": -5}, "run_timeout", "must not be negative"),
    ({"run_timeout": "-5s"}, "run_timeout", "a duration such as 60s or 1h30m"),
    ({"run_timeout": "soon"}, "run_timeout", "a duration such as 60s"),
    ({"run_timeout": ""}, "run_timeout", "a duration such as 60s"),
    ({"run_timeout": True}, "run_timeout", "a duration such as 60s"),
    ({"run_timeout": [60]}, "run_timeout", "a duration such as 60s"),
    ({"run_timeout": HUGE}, "run_timeout", "endless"),
    ({"run_timeout": math.inf}, "run_timeout", "endless"),
    ({"pending_timeout": math.nan}, "pending_timeout", "endless"),
    ({"stop_grace": "2d"}, "stop_grace", "must be 86400 at most"),
    ({"stop_signal": "TERM"}, "stop_signal", "must match ^SIG"),
    ({"deadline": 0}, "deadline", "must be more than 0"),
    ({"expires": "tomorrow"}, "expires", "a duration such as 60s"),
    ({"lost_after": -1}, "lost_after", "must not be negative"),
    ({"on_node_lost": "panic"}, "on_node_lost", "'wait', 'retry' or 'fail'"),
    # retry
    ({"retry": 5}, "retry", "must be an object"),
    ({"retry": {"attempts": 5}}, "retry.attempts", "no field"),
    ({"retry": {"max_attempts": 0}}, "retry.max_attempts", "must be 1 at least"),
    ({"retry": {"max_attempts": HUGE}}, "retry.max_attempts", ""),
    ({"retry": {"rules": "fail"}}, "retry.rules", "must be a list"),
    (rule(action="explode"), "retry.rules.0.action", "'retry', 'fail' or 'ignore'"),
    (rule(causes="bad luck"), "retry.rules.0.causes.0", "'exit', 'oom'"),
    (rule(exit_codes="64 to 78"), "retry.rules.0.exit_codes.0", "a range such as 64-78"),
    (rule(exit_codes=["78-64"]), "retry.rules.0.exit_codes", "write the smaller exit code first"),
    (rule(exit_codes=[256]), "retry.rules.0.exit_codes.0.0", "must be 255 at most"),
    (rule(reason=""), "retry.rules.0.reason", "must not be empty"),
    ({"retry": {"backoff": {"delay": "-1s"}}}, "retry.backoff.delay", "a duration such as 60s"),
    ({"retry": {"backoff": {"kind": "linear"}}}, "retry.backoff.kind", "'constant' or 'exponential'"),
    ({"retry": {"memory_factor": 1}}, "retry.memory_factor", "must be more than 1"),
    ({"retry": {"memory_cap": "1G"}}, "retry.memory_cap", "set that too"),
    ({"healthcheck": "perhaps"}, "healthcheck", "must be true or false"),
    ({"log_driver": ""}, "log_driver", ""),
    ({"log_driver": "a b"}, "log_driver", ""),
    ({"log_options": ["max-size=1m"]}, "log_options", ""),
    ({"check": None}, "check", "must be true or false"),
]


def _title(value: object) -> str:
    return str(value)[:40] if isinstance(value, dict) else ""


@pytest.mark.parametrize(("fields", "field", "words"), BAD, ids=_title)
def test_a_bad_field_is_named_with_its_fix(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(**fields)
    text = str(caught.value)
    assert text.startswith(f"{field}: ")
    assert words in text
    assert caught.value.field == field
    assert len(text) < 400
    assert "\n" not in text


def test_it_is_one_of_our_errors_and_a_value_error() -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec(image="")
    assert isinstance(caught.value, JaasError)
    assert isinstance(caught.value, ValueError)


def test_several_errors_are_counted() -> None:
    with pytest.raises(SpecError, match=r"^image: must not be empty \(and 2 more\)$"):
        JobSpec.parse({"image": "", "imag": 1, "name": "a/b"})


def test_an_image_is_required() -> None:
    with pytest.raises(SpecError, match=r"^image: is required$"):
        JobSpec.parse({})


def nested(text: str, depth: int) -> str:
    return '{"image":' * depth + text + "}" * depth


NO_DESCRIPTION: list[tuple[object, str]] = [
    ("", "not valid JSON"),
    ("nonsense", "not valid JSON.*for an image write JobSpec"),
    ("{nonsense", "not valid JSON"),
    ('{"image": "a"', "not valid JSON"),
    ('{"image": "a"} trailing', "not valid JSON"),
    (b"\xff\xfe", "not valid JSON"),
    ('{"image": "\\ud800"}', "not valid JSON"),
    ("[" * 100_000, "not valid JSON"),
    (nested("1", 5000), "not valid JSON"),
    ("[]", "must be a JSON object .* not a list"),
    ('["a"]', "must be a JSON object .* not a list"),
    ("5", "must be a JSON object .* not a number"),
    ("1.5", "must be a JSON object .* not a number"),
    ("true", "must be a JSON object .* not a truth value"),
    ("null", "must be a JSON object .* not nothing"),
    ('"a"', "must be a JSON object .* not a text"),
    (None, "must be a JSON object .* not nothing"),
    (5, "must be a JSON object .* not a number"),
    ([], "must be a JSON object .* not a list"),
    ({1: "a"}, "field names must be texts"),
    (" " * 3_000_000, "3,000,000 bytes, more than the 524,288 allowed"),
]


@pytest.mark.parametrize(("data", "words"), NO_DESCRIPTION, ids=lambda value: repr(value)[:30])
def test_what_is_no_description_at_all(data: object, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        JobSpec.parse(data)
    assert caught.value.field == ""
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("field", ["image", "env", "limits", "mounts", "labels", "deep"])
def test_a_deeply_nested_field_is_refused(field: str) -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(SpecError, match=f"^{field}"):
        spec(**{field: deep})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*JobSpec.model_fields, "self", "x"]), json_values, max_size=5))
def test_any_json_object_is_accepted_or_refused_with_a_sentence(data: dict[str, Any]) -> None:
    try:
        made = JobSpec.parse({"image": "a", **data})
    except SpecError:
        return  # any other exception would end a worker's task in a surprise
    assert JobSpec.parse(json.loads(json.dumps(made.to_wire()))) == made


# -- good ones -------------------------------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "version": 1,
    "image": "registry.example:5000/team/app:1.2-rc_3@sha256:" + "0" * 64,
    "entrypoint": ["/bin/sh", "-c"],
    "command": ["echo 'a b' \"c\"", "", "ä€😀", "line\nline"],
    "env": {"A": "1", "empty": "", "EQUALS": "a=b=c", "MULTI": "a\nb", "lower.case-1": "x"},
    "networks": ["demo", "back_end"],
    "mounts": [
        {"source": "/srv/data", "target": "/data", "read_only": True},
        {"type": "volume", "source": "cache", "target": "/cache"},
        {"type": "volume", "target": "/anonymous"},
        {"type": "tmpfs", "target": "/tmp"},
    ],
    "secrets": ["token", {"source": "key", "target": "/etc/key", "uid": "1000", "gid": "1000", "mode": 0o400}],
    "constraints": ["node.role == worker", "node.labels.disk!=hdd", "engine.labels.os==debian"],
    "limits": {"cpus": 1.5, "memory": "512M"},
    "reservations": {"cpus": 0.5, "memory": "64M"},
    "user": "1000:1000",
    "workdir": "/srv",
    "name": "nightly.report-1",
    "labels": {"team": "seo", "empty": ""},
    "healthcheck": True,
    "log_driver": "json-file",
    "log_options": {"max-size": "10m", "max-file": "3"},
    "registry": "registry.example:5000",
    "stop_signal": "SIGRTMIN+3",
    "stop_grace": "1m",
    "pending_timeout": "2h",
    "run_timeout": "1h30m",
    "deadline": "2d",
    "expires": "1d",
    "retry": {
        "max_attempts": 5,
        "max_cluster_retries": 2,
        "rules": [
            {"action": "fail", "causes": ["image", "refused"], "reason": "denied|unknown"},
            {"action": "ignore", "exit_codes": [75, "64-78", [100, 101]]},
        ],
        "backoff": {"kind": "constant", "delay": "10s", "factor": 3, "cap": "1m", "jitter": "none"},
        "avoid_failed_nodes": True,
        "memory_factor": 2,
        "memory_cap": "2G",
    },
    "on_node_lost": "retry",
    "lost_after": "2m",
    "check": False,
    "input": {"a": [1, 2.5, "ä€😀", None, True]},
    "output": "json",
    "files": {"data.csv": {"sha256": "0" * 64, "size": 5, "mode": 292}},
    "outputs": ["/out/*.pdf"],
    "require_outputs": True,
}
OTHER_INPUT: dict[str, Any] = {
    "like_service": "shop_web",
    "env_secrets": {"TOKEN": "token"},
    "scrub": True,
    "idempotent": True,
    "image": "a",
    "gather": {"batch": "b-1", "first": 256, "count": 44},
}
"""A job has one input, so that FULL cannot hold this one."""
LINES: dict[str, Any] = {"image": "a", "input": [{"index": 0}, None], "input_lines": True}
OPTIONS: dict[str, Any] = {
    "image": "a",
    "networks": ["plain", {"name": "db", "aliases": ["one", "two"], "driver_opts": {"a": "b"}}],
    "mounts": [
        {"source": "/a", "target": "/a", "read_only": True, "bind_propagation": "rslave", "bind_recursive": "disabled"},
        {
            "type": "volume",
            "source": "v",
            "target": "/v",
            "volume_driver": "local",
            "volume_options": {"type": "tmpfs", "device": "tmpfs"},
            "volume_labels": {"a": "b"},
            "volume_nocopy": True,
            "volume_subpath": "below/it",
        },
        {"type": "tmpfs", "target": "/dev/shm", "tmpfs_size": "64M", "tmpfs_mode": 0o1770},
    ],
    "configs": ["plain", {"source": "c", "target": "/etc/c", "uid": "1", "gid": "2", "mode": 0o400}],
    "healthcheck": {
        "test": "test -f /alive",
        "interval": "5s",
        "timeout": 1,
        "retries": 2,
        "start_period": "1m",
        "start_interval": 0.5,
    },
    "cap_add": ["NET_ADMIN", "cap_sys_ptrace"],
    "cap_drop": ["ALL"],
    "ulimits": {"nofile": "1024:2048", "core": 0, "nproc": {"soft": 64, "hard": -1}, "stack": -1},
    "sysctls": {"net.core.somaxconn": 1024, "kernel/msgmax": "65536"},
    "init": False,
    "read_only": True,
    "pids_limit": 100,
    "groups": ["1000", "video"],
    "hostname": "render-1.local",
    "extra_hosts": ["db:10.0.0.7", "six=fd00::7", "six:[fd00::8]"],
    "dns": ["10.0.0.1", "fd00::1"],
    "dns_search": ["example.org", "."],
    "dns_opt": ["ndots:2", "rotate"],
    "tty": True,
    "oom_score_adj": -500,
    "container_labels": {"com.example.team/one": "a=b"},
    "generic_resources": {"gpu": 2, "NVIDIA-GPU": 1},
}
"""What a container may be given beside FULL, whose hash may not change."""

GOOD: list[dict[str, Any]] = [
    {"image": "a"},
    FULL,
    OPTIONS,
    {"image": "a", "extra_hosts": {"db": "10.0.0.7"}, "healthcheck": False},
    {"image": "a", "healthcheck": {"interval": 1}},
    OTHER_INPUT,
    LINES,
    {"image": "a", "env": ["A=1", "B=", "C=x=y"]},
    {"image": "a", "command": []},
    {"image": "a", "stop_grace": 0},
    {"image": "a", "limits": {"cpus": 0.001, "memory": 6 * 1024**2}},
    {"image": "a", "limits": {"cpus": 2}, "reservations": {"cpus": 2}},
    *({"image": image} for image in ("localhost/a", "localhost:5000/a/b", "[::1]:5000/a", "a.b/c:d", "a__b/c-d.e")),
]


@pytest.mark.parametrize("fields", GOOD, ids=lambda value: str(value)[:40])
def test_a_good_description_survives_the_wire(fields: dict[str, Any]) -> None:
    made = JobSpec.parse(fields)
    wire = json.loads(json.dumps(made.to_wire()))
    assert wire["version"] == SPEC_VERSION
    for again in (
        JobSpec.parse(wire),
        JobSpec.parse(json.dumps(wire)),
        JobSpec.parse(json.dumps(wire).encode()),
        JobSpec.parse(made.to_json()),
        JobSpec.parse(made),
        JobSpec(**wire),
    ):
        assert again == made
        assert again.digest() == made.digest()


def test_a_huge_number_without_a_name_is_named() -> None:
    with pytest.raises(SpecError, match=r"^'': is no field of a job description$"):
        JobSpec(**{"image": "a", "": 10**5000})


def test_every_field_is_in_the_table_above() -> None:
    assert FULL.keys() | OPTIONS.keys() | OTHER_INPUT.keys() | LINES.keys() == JobSpec.model_fields.keys()
    assert JobSpec.parse(OPTIONS).to_wire().keys() == OPTIONS.keys() | {"version"}
    assert JobSpec.parse(FULL).to_wire().keys() == FULL.keys()
    assert JobSpec.parse(OTHER_INPUT).to_wire().keys() == OTHER_INPUT.keys() | {"version"}


def test_texts_become_numbers() -> None:
    made = JobSpec.parse(FULL)
    assert (made.run_timeout, made.pending_timeout, made.stop_grace) == (5400, 7200, 60)
    assert made.limits == Resources(cpus=1.5, memory=512 * 1024**2)
    assert made.secrets[0] == SecretMount(source="token")
    assert made.mounts[3] == Mount(type="tmpfs", target="/tmp")
    assert JobSpec(image="a", env=["A=1", "B=", "C=x=y"]).env == {"A": "1", "B": "", "C": "x=y"}


def test_only_what_differs_from_the_defaults_travels() -> None:
    assert JobSpec(image="a").to_wire() == {"version": 1, "image": "a"}
    assert JobSpec(image="a", limits={"cpus": 1}, check=True).to_wire() == {
        "version": 1,
        "image": "a",
        "limits": {"cpus": 1.0},
    }


def test_the_digest_is_the_same_in_every_version_of_jaas() -> None:
    # A worker of another version must recognise the services of this one: these values may never change.
    assert JobSpec(image="a").digest() == "a4db6e5b124155fd"
    without_files = {name: value for name, value in FULL.items() if name not in {"files", "outputs", "require_outputs"}}
    older = {name: value for name, value in without_files.items() if name not in {"log_driver", "log_options"}}
    oldest = {name: value for name, value in older.items() if name not in {"input", "output"}}
    assert JobSpec.parse(oldest).digest() == "46fa9f6466978ca6"
    assert JobSpec.parse(older).digest() == "d9bbacd8d9077696"
    assert JobSpec.parse(without_files).digest() == "774bf9fe122c9ecd"


@pytest.mark.parametrize("other", [{"image": "b"}, {"image": "a", "env": {"A": "1"}}, {"image": "a", "command": ["x"]}])
def test_the_digest_tells_descriptions_apart(other: dict[str, Any]) -> None:
    assert JobSpec(**other).digest() != JobSpec(image="a").digest()


def test_a_description_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        JobSpec(image="a").image = "b"  # type: ignore[misc] # what is tested


def test_the_largest_description_that_is_allowed() -> None:
    room = MAX_SPEC_BYTES - len(JobSpec(image="a", env={"A": "x"}).to_json()) + 1
    JobSpec(image="a", env={"A": "x" * room})
    with pytest.raises(SpecError, match=r"^env: the description has 524,289 bytes"):
        JobSpec(image="a", env={"A": "x" * (room + 1)})


@pytest.mark.parametrize(
    ("fields", "summary"),
    [
        ({}, "a"),
        ({"name": "n", "command": ["echo", "hello"]}, "n: a echo hello"),
        ({"entrypoint": ["sh", "-c"], "command": ["a\n  b\n"]}, "a sh -c 'a b '"),
        ({"command": ["echo", "a  b", "$X", ""]}, "a echo 'a b' '$X' ''"),
        ({"env": {"B": "1", "A": "2"}}, "a env[A, B]"),
        ({"command": ["x" * 500]}, "a " + "x" * 195 + "..."),
    ],
)
def test_the_summary_is_one_short_line(fields: dict[str, Any], summary: str) -> None:
    made = spec(**fields)
    assert made.summary() == summary
    assert len(summary) <= 200
    assert repr(made) == str(made) == f"JobSpec({summary!r})"


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_values_of_the_environment_are_shown_nowhere() -> None:
    made = spec(env={"PASSWORD": MARKER}, name="n", command=["c"])
    options = task_options(made)
    shown = [repr(made), str(made), f"{made}", made.summary(), str(options), repr(job(made).options)]
    assert all("PASSWORD" in text for text in shown)
    assert not [text for text in shown if MARKER in text]
    assert MARKER in made.to_json()


WRONG_WITH_A_SECRET: list[dict[str, Any]] = [
    {"env": [MARKER]},
    {"env": ["A=1", MARKER]},
    {"env": MARKER},
    {"env": [[MARKER]]},
    {"env": {"A": [MARKER]}},
    {"env": {"A": {"b": MARKER}}},
    {"env": {"A": MARKER.encode() + b"\xff"}},
    {"env": {"A": MARKER + "\x00"}},
    {"env": {"A": MARKER + HALF_PAIR}},
    {"env": {f"A={MARKER}": "1"}},
    {"env": {f"A={MARKER}": 1}},
    {"env": {f"A B={MARKER}": "1"}},
    {"env": [f"A B={MARKER}"]},
    {"env": [f"={MARKER}"]},
    {"env": {"A": MARKER * 100_000}},
    {"env": {"A": MARKER, "B": 5}},
    {"env": {"A": MARKER}, "image": ""},
    {"env": {"A": MARKER}, "unknown": MARKER},
    {"env": {"A": MARKER}, "limits": {"cpus": 1}, "reservations": {"cpus": 2}},
]


@pytest.mark.parametrize("fields", WRONG_WITH_A_SECRET, ids=lambda value: str(value)[:40])
def test_values_of_the_environment_are_in_no_error(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        spec(**fields)
    error: BaseException | None = caught.value
    while error is not None:  # what a log or a traceback shows
        assert MARKER not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_invalid_json_is_not_quoted() -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec.parse(f'{{"image": "a", "env": {{"A": "{MARKER}"}} oops')
    assert MARKER not in str(caught.value)


# -- durations and sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90),
        (1.5, 1.5),
        (0, 0),
        ("90", 90),
        ("1.5", 1.5),
        (" 60s ", 60),
        ("500ms", 0.5),
        ("1m", 60),
        ("1h30m", 5400),
        ("1d", 86400),
        ("1d2h3m4s5ms", 93784.005),
        ("1.5h", 5400),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [-1, "-1", "-1s", "", " ", "s", "1x", "1h 30m", "1:30", "nan", "inf", math.nan, math.inf, True, None, [], HUGE],
)
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match=r"such as 60s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (1024, 1024),
        ("1024", 1024),
        ("1b", 1),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("512M", 512 * 1024**2),
        ("1.5GiB", 3 * 512 * 1024**2),
        ("2 T", 2 * 1024**4),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [-1, "-1", "", "M", "1X", "1MM", "1,5M", "nan", math.nan, 2**63, HUGE, True, None, {}])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match=r"such as 512M"):
        parse_size(text)


@given(st.lists(st.integers(0, 10_000), min_size=5, max_size=5))
def test_a_written_duration_is_the_sum_of_its_parts(parts: list[int]) -> None:
    days, hours, minutes, seconds, millis = parts
    text = f"{days}d{hours}h{minutes}m{seconds}s{millis}ms"
    expected = days * 86400 + hours * 3600 + minutes * 60 + seconds + millis / 1000
    assert parse_duration(text) == pytest.approx(expected)


@given(st.floats(0, 1e15))
def test_a_number_of_seconds_is_itself(seconds: float) -> None:
    assert parse_duration(seconds) == parse_duration(repr(seconds)) == seconds


@given(st.integers(0, 2**53))
def test_a_number_of_bytes_is_itself(size: int) -> None:
    assert parse_size(size) == parse_size(str(size)) == size


@given(st.integers(0, 10**6), st.sampled_from(["k", "m", "g"]), st.sampled_from(["", "b", "ib"]), st.booleans())
def test_units_are_powers_of_1024(number: int, unit: str, suffix: str, upper: bool) -> None:
    text = f"{number}{unit}{suffix}"
    expected = number * 1024 ** (1 + "kmg".index(unit))
    assert parse_size(text.upper() if upper else text) == expected


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers(), max_size=2))
def test_anything_is_a_duration_and_a_size_or_refused(value: object) -> None:
    for parse in (parse_duration, parse_size):
        try:
            number = parse(value)
        except ValueError:
            continue
        assert 0 <= number < math.inf

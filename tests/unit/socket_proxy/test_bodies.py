"""What a request may carry: hostile services, updates and configs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jaas_submit.model.job_spec import INPUT_FILE, JobSpec
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.policy.document import Policy, parse_policy
from jaas_submit.policy.facts import Context, Facts, NetworkFacts, Reference
from jaas_worker.socket_proxy.bodies import admitted, config_body, may_be_like, proposal, stopped
from jaas_worker.socket_proxy.routes import Forbidden
from jaas_worker.socket_proxy.store_binds import StoreBinds
from jaas_worker.swarm.service_spec import FilePlace, service_request, with_files

JOB, NAME = "0b0e3f4e", "jaas-0b0e3f4e-1"
OF_WORKER = Context(queue="jaas", log_driver="local", log_options={"max-size": "10m"})
FACTS = Facts(
    secrets={"s1": Reference("open", {"jaas.jobs": "allow"}), "s2": Reference("theirs", {})},
    configs={
        "c1": Reference(NAME, {"jaas.job": JOB}),
        "c2": Reference("theirs", {}),
        "c3": Reference(NAME, {}),
        "c4": Reference("jaas-file-a-1", {"jaas.file": "a"}),
    },
    networks={
        "app": NetworkFacts("n1", "app", "overlay", "swarm", True, {}),
        "jaas-control": NetworkFacts("n2", "jaas-control", "overlay", "swarm", False, {"jaas.control": "true"}),
    },
)
STORE = StoreBinds("/srv/store", allowed=True)
INPUT = f"/srv/store/jaas/{JOB}/input.json"
SHARED = f"/srv/store/jaas/.files/{'a' * 64}-{'0' * 8}"


def request(**fields: Any) -> dict[str, Any]:
    return service_request(JobSpec(image="alpine", **fields), JOB, 1, {"jaas.spec-hash": "x"}, {"open": "s1"})


def judged(body: Any, policy: Policy | None = None, store: StoreBinds = STORE) -> dict[str, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return admitted(proposal(data, store), FACTS, policy or Policy(), OF_WORKER)[0]


def with_config(config: str, name: str = NAME) -> dict[str, Any]:
    return with_files(request(), FilePlace(INPUT_FILE, config, name))


def with_mount(source: str) -> dict[str, Any]:
    return with_files(request(), FilePlace(INPUT_FILE, source=source))


def with_file(place: FilePlace) -> dict[str, Any]:
    return with_files(request(), None, {"a": place})


GOOD = [
    request(),
    request(networks=["app"], env={"A": "{{1}}"}, limits={"memory": "64M"}, constraints=["node.labels.a==b"]),
    request(secrets=["open"], mounts=[Mount(type="volume", source="jobs-a", target="/a")]),
    with_config("c1"),
    with_mount(INPUT),
    with_file(FilePlace("/etc/app.conf", "c4", "jaas-file-a-1")),
    with_file(FilePlace("/data/large", source=SHARED)),
    with_files(request(), None, {"a": FilePlace("/a", "c4", "jaas-file-a-1"), "b": FilePlace("s3://bucket/b")}),
]


@pytest.mark.parametrize("body", GOOD, ids=range(len(GOOD)))
def test_a_job_of_jaas_goes_through_as_it_is(body: dict[str, Any]) -> None:
    made = judged(body)
    container, given = made["TaskTemplate"]["ContainerSpec"], body["TaskTemplate"]["ContainerSpec"]
    assert container["Configs"] == given.get("Configs", [])
    assert container["Mounts"] == given.get("Mounts", [])
    assert {**container, "Configs": 0, "Mounts": 0} == {**given, "Configs": 0, "Mounts": 0}
    assert made["Labels"] == body["Labels"]


Change = Callable[[dict[str, Any]], Any]


def container(**fields: Any) -> Change:
    return lambda body: body["TaskTemplate"]["ContainerSpec"].update(fields)


def task(**fields: Any) -> Change:
    return lambda body: body["TaskTemplate"].update(fields)


def top(**fields: Any) -> Change:
    return lambda body: body.update(fields)


def bind(source: Any, **more: Any) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": "/host", **more}


OPTIONS = {"type": "none", "o": "bind", "device": "/"}

HOSTILE: dict[str, Change] = {
    "root of the host": container(Mounts=[bind("/")]),
    "root of the host, read-only": container(Mounts=[bind("/", ReadOnly=True)]),
    "the engine's socket": container(Mounts=[bind("/var/run/docker.sock")]),
    "the socket, by ..": container(Mounts=[bind("/srv/store/../../var/run/docker.sock", ReadOnly=True)]),
    "a file of the host as an input": container(Mounts=[{**bind("/etc/shadow", ReadOnly=True), "Target": INPUT_FILE}]),
    "out of the store": container(Mounts=[{**bind("/srv/store/../shadow", ReadOnly=True), "Target": INPUT_FILE}]),
    "the whole store": container(Mounts=[{**bind("/srv/store", ReadOnly=True), "Target": INPUT_FILE}]),
    "beside the store": container(Mounts=[{**bind("/srv/store2/a", ReadOnly=True), "Target": INPUT_FILE}]),
    "the store to write": container(Mounts=[{**bind(INPUT, ReadOnly=False), "Target": INPUT_FILE}]),
    "another name in the store": container(Mounts=[bind("/srv/store/jaas/.files/link", ReadOnly=True)]),
    "an input elsewhere": container(Mounts=[bind(INPUT, ReadOnly=True)]),
    "the store, shared": container(
        Mounts=[{**bind(INPUT, ReadOnly=True), "Target": INPUT_FILE, "BindOptions": {"Propagation": "shared"}}]
    ),
    "a bind as a volume": container(
        Mounts=[
            {
                "Type": "volume",
                "Source": "jobs-x",
                "Target": "/h",
                "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": OPTIONS}},
            }
        ]
    ),
    "another's volume": container(Mounts=[{"Type": "volume", "Source": "postgres", "Target": "/h"}]),
    "a template in a mount": container(Mounts=[bind("{{.Node.Hostname}}")]),
    "a named pipe": container(Mounts=[{"Type": "npipe", "Source": "x", "Target": "/h"}]),
    "a cluster volume": container(Mounts=[{"Type": "cluster", "Source": "x", "Target": "/h"}]),
    "a mount in other letters": container(mounts=[bind("/")]),
    "a mount that is a text": container(Mounts="/:/host"),
    "a source that is a number": container(Mounts=[bind(1)]),
    "null in a list": container(Mounts=[None]),
    "another's secret": container(Secrets=[{"SecretID": "s2", "SecretName": "open", "File": {"Name": "x"}}]),
    "a secret that is not there": container(Secrets=[{"SecretID": "s9", "SecretName": "open", "File": {"Name": "x"}}]),
    "another's config": container(Configs=[{"ConfigID": "c2", "ConfigName": "open", "File": {"Name": "/x"}}]),
    "another's config as an input": container(
        Configs=[{"ConfigID": "c2", "ConfigName": NAME, "File": {"Name": INPUT_FILE}}]
    ),
    "an input that was made for nobody": container(
        Configs=[{"ConfigID": "c3", "ConfigName": NAME, "File": {"Name": INPUT_FILE}}]
    ),
    "the credentials of the node": container(Configs=[{"ConfigID": "c1", "ConfigName": NAME, "Runtime": {}}]),
    "a capability": container(CapabilityAdd=["CAP_SYS_ADMIN"]),
    "all capabilities": container(CapabilityAdd=["ALL"]),
    "no seccomp": container(Privileges={"Seccomp": {"Mode": "unconfined"}}),
    "privileged, as containers know it": container(Privileged=True),
    "a sysctl of the host": container(Sysctls={"kernel.core_pattern": "|/x"}),
    "a limit": container(Ulimits=[{"Name": "memlock", "Soft": -1, "Hard": -1}]),
    "a device": container(Devices=[{"PathOnHost": "/dev/sda"}]),
    "the network of jaas": task(Networks=[{"Target": "jaas-control"}]),
    "the host's network": task(Networks=[{"Target": "host"}]),
    "a name on a network": task(Networks=[{"Target": "app", "Aliases": ["redis"]}]),
    "options of a network": task(Networks=[{"Target": "app", "DriverOpts": {"x": "y"}}]),
    "a plugin": task(Runtime="plugin", PluginSpec={"Remote": "x"}),
    "a plugin, as an attachment": task(Runtime="attachment", NetworkAttachmentSpec={"ContainerID": "x"}),
    "a log driver that sends": task(LogDriver={"Name": "syslog", "Options": {"syslog-address": "tcp://x"}}),
    "started again and again": task(RestartPolicy={"Condition": "any"}),
    "a published port": top(EndpointSpec={"Ports": [{"TargetPort": 22, "PublishedPort": 22}]}),
    "a virtual address": top(EndpointSpec={"Mode": "vip"}),
    "a thousand containers": top(Mode={"Replicated": {"Replicas": 1000}}),
    "on every node": top(Mode={"Global": {}}),
    "a mode of jobs": top(Mode={"ReplicatedJob": {}}),
    "an update's order": top(UpdateConfig={"Order": "start-first"}),
    "a setting nobody knows": top(Surprise={"a": 1}),
    "another's service": top(Name="web"),
    "another attempt's name": top(Name="jaas-0b0e3f4e-2"),
    "another job's name": top(Name="jaas-other-1"),
    "no label of a job": top(Labels={"a": "b"}),
    "no labels": top(Labels=None),
    "an attempt that is none": top(Labels={"jaas.job": JOB, "jaas.attempt": ""}, Name="jaas-0b0e3f4e-"),
    "a container of another job": container(Labels={"jaas.job": "other"}),
    "a container of no job": container(Labels={}),
    "no container": task(ContainerSpec=None),
    "no task": top(TaskTemplate=[]),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_service_is_refused(change: Change) -> None:
    body = json.loads(json.dumps(request()))
    change(body)
    with pytest.raises(Forbidden):
        judged(body)


RAW = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "NaN": b'{"Name": NaN}',
    "no UTF-8": b'{"Name": "\xff"}',
    "deep": b"[" * 100_000,
    "huge numbers": b'{"a": ' + b"9" * 5000 + b"}",
    "many values": b"[" + b"1," * 300_000 + b"1]",
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW.keys())
@pytest.mark.parametrize("reads", [judged, config_body, lambda data: stopped(data, request())])
def test_what_is_no_object_is_refused(reads: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(Forbidden):
        reads(data)


def test_of_a_key_that_is_there_twice_the_engine_gets_the_one_that_was_judged() -> None:
    text = json.dumps(request())
    evil = text.replace(
        '"ContainerSpec": {', '"ContainerSpec": {"Mounts": [{"Type": "bind", "Source": "/"}], "Mounts": [], '
    )
    assert judged(evil.encode())["TaskTemplate"]["ContainerSpec"]["Mounts"] == []


def test_files_of_the_store_are_let_through_only_if_that_is_switched_on() -> None:
    off = StoreBinds("/srv/store")
    said = "; start the socket proxy with --store-binds to let files of the store through"
    for body in (with_mount(INPUT), with_file(FilePlace("/data/large", source=SHARED))):
        with pytest.raises(
            Forbidden, match=r"^mounts\.0\.source: the host's /srv/store/jaas/.* may not be mounted"
        ) as no:
            judged(body, store=off)
        assert str(no.value).endswith(said)
        assert judged(body, parse_policy('level = "privileged"', "p.toml"), off), "the policy may allow it"
    for source, store in (("/srv/other/a", off), ("/srv/other/a", StoreBinds()), ("/srv/store/a", STORE)):
        with pytest.raises(Forbidden) as no:
            judged(with_mount(source), store=store)
        assert said not in str(no.value), "it would not help"


def test_a_config_that_is_gone_is_told_in_the_engine_s_words() -> None:
    with pytest.raises(Forbidden, match=rf"^config not found: {NAME}$"):
        judged(with_config("c9"))


TENANTS = """
level = "restricted"
[tenants.research]
level = "baseline"
[tenants.ops.rules.mounts]
binds = [{path = "/srv/ops"}]
[tenants.ops]
level = "baseline"
[rules]
run_timeout = "1h"
attempts = 2
"""


@pytest.mark.parametrize(
    ("mounts", "through"),
    [
        ((), True),
        ((Mount(source="/srv/ops", target="/o", read_only=True),), True),
        ((Mount(source="/srv", target="/o"),), False),
    ],
)
def test_a_worker_may_do_what_any_tenant_may_and_no_more(mounts: tuple[Mount, ...], through: bool) -> None:
    policy = parse_policy(TENANTS, "p.toml")
    if through:
        assert judged(request(mounts=mounts), policy)["Name"] == NAME
    else:
        with pytest.raises(Forbidden):
            judged(request(mounts=mounts), policy)


def test_the_variables_of_a_job_with_files_are_no_job_s_wish() -> None:
    policy = parse_policy("rules.env = []", "p.toml")
    body = with_files(request(), None, {"a": FilePlace("/a", "c4", "jaas-file-a-1"), "b": FilePlace("s3://bucket/b")})
    assert judged(body, policy)["TaskTemplate"]["ContainerSpec"]["Env"] == body["TaskTemplate"]["ContainerSpec"]["Env"]
    body["TaskTemplate"]["ContainerSpec"]["Env"].append("LD_PRELOAD=x")
    with pytest.raises(Forbidden, match=r"^env\.LD_PRELOAD: "):
        judged(body, policy)


@pytest.mark.parametrize(
    ("rule", "asked", "holds"),
    [
        ("default = 100", 200, 200),
        ("default = 100", None, 100),
        ("maximum = 200", 200, 200),
        ("maximum = 200", 201, None),
        ("maximum = 200", None, 200),
    ],
)
def test_a_limit_of_processes_is_kept_or_refused_and_never_cut(rule: str, asked: int | None, holds: int | None) -> None:
    policy = parse_policy(f"rules.resources.pids = {{{rule}}}", "p.toml")
    body = request(pids_limit=asked)
    if holds is None:
        with pytest.raises(Forbidden, match=r"^pids_limit: may be 200 at most"):
            judged(body, policy)
    else:
        assert judged(body, policy)["TaskTemplate"]["Resources"]["Limits"]["Pids"] == holds


def test_what_the_policy_adds_is_added() -> None:
    policy = parse_policy('[rules.placement]\nadd = ["node.labels.batch==yes"]', "p.toml")
    assert judged(request(), policy)["TaskTemplate"]["Placement"]["Constraints"] == ["node.labels.batch==yes"]


# -- updates ---------------------------------------------------------------------------------------------------------


def stop(**changes: Any) -> dict[str, Any]:
    body = json.loads(json.dumps(request(constraints=["node.role==worker"])))
    body["TaskTemplate"]["Placement"] = {"Constraints": ["node.id==none"]}
    return {**body, **changes}


def test_a_stop_goes_through() -> None:
    present = request(constraints=["node.role==worker"])
    assert stopped(json.dumps(stop()).encode(), present) == stop()
    assert stopped(json.dumps(stop()).encode(), stop()) == stop(), "once more"


UPDATES: dict[str, Change] = {
    "another image": container(Image="evil"),
    "a mount": container(Mounts=[bind("/")]),
    "one variable": container(Env=[]),
    "a network": task(Networks=[{"Target": "app"}]),
    "started again": task(ForceUpdate=1),
    "the old constraints": task(Placement={"Constraints": ["node.role==worker"]}),
    "none": task(Placement={"Constraints": []}),
    "one more": task(Placement={"Constraints": ["node.id==none", "node.role==worker"]}),
    "platforms": task(Placement={"Constraints": ["node.id==none"], "Platforms": []}),
    "no placement": task(Placement=None),
    "more containers": top(Mode={"Replicated": {"Replicas": 2}}),
    "another name": top(Name="web"),
    "other labels": top(Labels={}),
    "one more key": top(UpdateConfig={}),
    "the same in other letters": lambda body: body.update(tasktemplate=body["TaskTemplate"]),
    "no task": lambda body: body.pop("TaskTemplate"),
}


@pytest.mark.parametrize("change", UPDATES.values(), ids=UPDATES.keys())
def test_an_update_changes_nothing_else(change: Change) -> None:
    body = stop()
    change(body)
    with pytest.raises(Forbidden):
        stopped(json.dumps(body).encode(), request(constraints=["node.role==worker"]))


@pytest.mark.parametrize("labels", [None, {}, {"jaas.jobs": "allow"}])
def test_a_service_that_jobs_may_be_like_is_not_stopped(labels: dict[str, str] | None) -> None:
    with pytest.raises(Forbidden, match="only a job's service"):
        stopped(json.dumps(stop(Labels=labels)).encode(), {**request(), "Labels": labels})


# -- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "through"),
    [
        ({"Name": NAME, "Labels": {"jaas.job": JOB}, "Data": "YQ=="}, True),
        ({"Name": NAME, "Labels": {"jaas.job": ""}, "Data": "YQ=="}, False),
        ({"Name": NAME, "Labels": {}, "Data": "YQ=="}, False),
        ({"Name": NAME, "Labels": None, "Data": "YQ=="}, False),
        ({"Name": NAME, "Labels": {"jaas.job": 1}, "Data": "YQ=="}, False),
        ({"Name": NAME, "Data": "YQ=="}, False),
        ({"Name": [NAME], "Labels": {"jaas.job": JOB}, "Data": "YQ=="}, False),
        ({"Name": NAME, "Labels": {"jaas.job": JOB}, "Data": {}}, False),
        ({"Name": NAME, "Labels": {"jaas.job": JOB}, "Data": "YQ==", "Templating": {"Name": "golang"}}, False),
    ],
)
def test_a_config_is_a_jobs_input(body: dict[str, Any], through: bool) -> None:
    data = json.dumps(body).encode()
    if through:
        assert config_body(data) == body
    else:
        with pytest.raises(Forbidden):
            config_body(data)


@pytest.mark.parametrize(
    ("labels", "through"), [({}, False), ({"jaas.jobs": "allow"}, True), ({"jaas.jobs": "deny"}, False)]
)
def test_a_worker_may_look_up_a_service_that_is_open_to_jobs(labels: dict[str, str], through: bool) -> None:
    service = {"Name": "shop_web", "Labels": labels, "TaskTemplate": {"ContainerSpec": {"Image": "a"}}}
    assert may_be_like(service, Policy(), Context()) is through

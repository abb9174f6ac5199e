"""What each level and each rule allows: tables over finished requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.model.job_spec import INPUT_FILE
from jaas_submit.policy.decision import decide, decide_image, decide_service, limits_in_flight, output_limit
from jaas_submit.policy.document import LEVELS, Policy, parse_policy
from jaas_submit.policy.facts import Context, EngineAge, Facts, Reference
from jaas_worker.swarm.service_spec import FilePlace, with_files
from tests.unit.policy.requests import DIGEST, FACTS, asked, decided, rules_of


def mount(**fields: Any) -> dict[str, Any]:
    return {"Mounts": [{"Target": "/x", **fields}]}


def volume(**options: Any) -> dict[str, Any]:
    return mount(Type="volume", Source="jobs-a", VolumeOptions={"DriverConfig": {"Name": "local", "Options": options}})


def ref(kind: str, name: str) -> dict[str, Any]:
    return {f"{kind}s": [{f"{kind}ID": f"id-{name}", f"{kind}Name": "open", "File": {"Name": "f"}}]}


def processes(number: int) -> dict[str, Any]:
    return {"Resources": {"Limits": {"MemoryBytes": 2**26, "Pids": number}, "Reservations": {}}}


NONE, R, B, P = "", "restricted", "baseline", "privileged"

# What is asked for; the least level that allows it (empty: none does); the rule that refuses it one level below.
CONTAINERS: list[tuple[dict[str, Any], str, str]] = [
    ({}, R, ""),
    ({"Image": "alpine:3.20"}, B, "images.digest"),
    ({"User": ""}, B, "users.root"),
    ({"User": "0:5"}, B, "users.root"),
    ({"User": "00"}, B, "users.root"),
    ({"User": "root"}, B, "users.root"),
    ({"User": "daemon"}, B, "users.root"),
    (mount(Type="bind", Source="/etc", ReadOnly=True), P, "mounts.binds"),
    (mount(Source="/etc", ReadOnly=True), P, "mounts.binds"),
    (mount(Type="bind", Source="/var/run/docker.sock"), P, "mounts.binds"),
    (mount(Type="bind", Source="/a/../etc"), NONE, "mounts.binds"),
    (mount(Type="bind", Source="etc"), NONE, "mounts.binds"),
    (mount(Type="bind", Source="{{.Node.Hostname}}"), NONE, "mounts"),
    (mount(Type="bind", Source="/{{.Task.Name}}"), NONE, "mounts"),
    (mount(Type="volume", Source="{{.Service.Name}}"), NONE, "mounts"),
    (mount(Type="volume", Source="jobs-a"), B, "mounts.volumes"),
    (mount(Type="volume", Source="data"), P, "mounts.volumes"),
    (mount(Type="volume", Source="JOBS-a"), P, "mounts.volumes"),
    (mount(Type="volume", Source="/etc"), P, "mounts.binds"),
    (mount(Type="volume"), R, ""),
    (mount(Type="tmpfs", TmpfsOptions={"SizeBytes": 1}), R, ""),
    (mount(Type="npipe", Source="x"), NONE, "mounts"),
    (mount(Type="cluster", Source="x"), NONE, "mounts"),
    (mount(Type="image", Source="alpine"), NONE, "mounts"),
    (mount(Type="BIND", Source="/etc"), NONE, "mounts"),
    (mount(Type="bind", Source="/", BindOptions={"Propagation": "rshared"}), P, "mounts.binds"),
    (mount(Type="bind", Source="/x", BindOptions={"CreateMountpoint": True}), NONE, "mounts.binds"),
    (volume(), B, "mounts.volumes"),
    (volume(type="none", o="bind", device="/etc"), P, "mounts.drivers"),
    (volume(type="nfs", o="addr=h", device=":/x"), P, "mounts.drivers"),
    (volume(type="overlay", o="lowerdir=/etc:/b,upperdir=/c", device="overlay"), NONE, "mounts.binds"),
    (mount(Type="volume", Source="jobs-a", VolumeOptions={"DriverConfig": {"Name": "ssh"}}), P, "mounts.drivers"),
    (mount(Type="volume", Source="jobs-a", VolumeOptions={"Subpath": "../../etc"}), NONE, "mounts.volumes"),
    (ref("Secret", "open"), B, "secrets.allow"),
    (ref("Secret", "shut"), P, "secrets.labelled"),
    (ref("Secret", "gone"), NONE, "secrets"),
    (ref("Config", "open"), B, "configs.allow"),
    (ref("Config", "shut"), P, "configs.labelled"),
    ({"CapabilityAdd": ["CAP_SYS_ADMIN"]}, P, "capabilities.add"),
    ({"CapabilityAdd": ["sys_admin"]}, P, "capabilities.add"),
    ({"CapabilityAdd": ["ALL"]}, P, "capabilities.add"),
    ({"CapabilityAdd": ["CHOWN"]}, R, ""),
    ({"CapabilityDrop": ["ALL"]}, R, ""),
    ({"Sysctls": {"net.ipv4.tcp_keepalive_time": "9"}}, B, "sysctls"),
    ({"Sysctls": {"net.core.somaxconn": "9"}}, P, "sysctls"),
    ({"Sysctls": {"kernel.shmmax": "9"}}, P, "sysctls"),
    ({"Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]}, B, "ulimits"),
    ({"Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2**30}]}, P, "ulimits"),
    ({"Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": -1}]}, P, "ulimits"),
    ({"Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}]}, P, "ulimits"),
    ({"OomScoreAdj": 5}, R, ""),
    ({"OomScoreAdj": -5}, P, "oom_score"),
    ({"ReadOnly": True, "Init": True, "TTY": True, "Groups": ["5"], "Hostname": "h", "Hosts": ["1.2.3.4 h"]}, R, ""),
    ({"Privileges": {"NoNewPrivileges": True}}, R, ""),
    ({"Privileges": {"Seccomp": {"Mode": "unconfined"}}}, P, "unconfined"),
    ({"Privileges": {"Seccomp": {"Mode": "custom", "Profile": "e30="}}}, P, "unconfined"),
    ({"Privileges": {"AppArmor": {"Mode": "disabled"}}}, P, "unconfined"),
    ({"Privileges": {"SELinuxContext": {"Disable": True}}}, P, "unconfined"),
    ({"Privileges": {"CredentialSpec": {"File": "x"}}}, NONE, "known settings"),
    ({"Privileged": True}, NONE, "known settings"),
    ({"mounts": [{"Type": "bind", "Source": "/", "Target": "/x"}]}, NONE, "known settings"),
    ({"Devices": [{"PathOnHost": "/dev/sda"}]}, NONE, "known settings"),
    ({"Isolation": "hyperv"}, NONE, "known settings"),
    ({"Isolation": "default", "DNSConfig": {}}, R, ""),
    ({"Mounts": {"Type": "bind"}}, NONE, "known settings"),
    ({"Mounts": [["bind"]]}, NONE, "known settings"),
    ({"ReadOnly": 1}, NONE, "known settings"),
    ({"Env": "A=b"}, NONE, "known settings"),
    ({"Sysctls": {"a": 1}}, NONE, "known settings"),
    ({"User": ["0"]}, NONE, "known settings"),
]

TASKS: list[tuple[dict[str, Any], str, str]] = [
    ({"Networks": [{"Target": "shared"}]}, B, "networks.allow"),
    ({"Networks": [{"Target": "closed"}]}, P, "networks.kinds"),
    ({"Networks": [{"Target": "control"}]}, P, "networks.own"),
    ({"Networks": [{"Target": "host"}]}, P, "networks.kinds"),
    ({"Networks": [{"Target": "lan"}]}, P, "networks.kinds"),
    ({"Networks": [{"Target": "shared", "Aliases": ["redis"]}]}, P, "networks.aliases"),
    ({"Networks": [{"Target": "shared", "DriverOpts": {"a": "b"}}]}, P, "networks.driver_options"),
    ({"Networks": [{"Target": "nobody-knows"}]}, B, "networks.allow"),  # the engine will say that there is none
    ({"Resources": {"Limits": {}, "Reservations": {}}}, B, "resources.memory"),
    ({"Resources": {"Limits": {"MemoryBytes": 5}, "Reservations": {}, "SwapBytes": 7}}, NONE, "known settings"),
    (processes(4096), R, ""),
    (processes(4097), B, "resources.pids"),
    (processes(32_768), B, "resources.pids"),
    (processes(32_769), P, "resources.pids"),
    (processes(4_194_304), P, "resources.pids"),
    ({"Placement": {"Constraints": ["node.role==manager"]}}, B, "placement.allow"),
    ({"Placement": {"Constraints": ["node.id != abc"]}}, R, ""),
    ({"Placement": {"MaxReplicas": 5}}, NONE, "known settings"),
    ({"LogDriver": {"Name": "local", "Options": {"max-size": "1m"}}}, R, ""),
    ({"LogDriver": {"Name": "journald"}}, B, "log_drivers"),
    ({"LogDriver": {"Name": "syslog", "Options": {"syslog-address": "udp://h:1"}}}, P, "log_drivers"),
    ({"LogDriver": {"Options": {"x": "y"}}}, P, "log_drivers"),
    ({"PluginSpec": {"Name": "x"}}, NONE, "known settings"),
    ({"NetworkAttachmentSpec": {"ContainerID": "x"}}, NONE, "known settings"),
    ({"Runtime": "plugin"}, NONE, "known settings"),
    ({"RestartPolicy": {"Condition": "any"}}, NONE, "known settings"),
    ({"ForceUpdate": 0, "Runtime": "container"}, R, ""),
]

SERVICES: list[tuple[dict[str, Any], str, str]] = [
    ({"Mode": {"Global": {"x": 1}}}, NONE, "known settings"),
    ({"Mode": {"Replicated": {"Replicas": 500}}}, NONE, "known settings"),
    ({"EndpointSpec": {"Mode": "dnsrr", "Ports": [{"PublishedPort": 22}]}}, NONE, "known settings"),
    ({"EndpointSpec": {"Mode": "vip"}}, NONE, "known settings"),
    ({"Networks": [{"Target": "host"}]}, NONE, "known settings"),
    ({"UpdateConfig": {"Parallelism": 1}}, NONE, "known settings"),
    ({"Unheard": False}, NONE, "known settings"),
    ({"Unheard": None, "Other": {}}, R, ""),
    ({"Labels": {"a": 1}}, NONE, "known settings"),
]


def own_processes(request: dict[str, Any]) -> int | None:
    """Return the limit of a request as the job's own."""
    resources = request["TaskTemplate"].get("Resources") or {}
    return resources["Limits"].get("Pids") if resources.keys() == {"Limits", "Reservations"} else None


CASES = [
    *((asked(container=changes), least, rule) for changes, least, rule in CONTAINERS),
    *((asked(task=changes), least, rule) for changes, least, rule in TASKS),
    *(({**asked(), **changes}, least, rule) for changes, least, rule in SERVICES),
]


@pytest.mark.parametrize(("request_", "least", "rule"), CASES)
def test_each_level_allows_what_it_should(request_: dict[str, Any], least: str, rule: str) -> None:
    order = [R, B, P]
    from_here = order.index(least) if least else len(order)
    for number, level in enumerate(LEVELS):
        decision = decided(request_, level, Context(pids_limit=own_processes(request_)))
        assert decision.refused == (number < from_here), (level, decision.reason)
        if number == from_here - 1:
            assert rule in {one.rule for one in decision.refusals}


def test_a_digit_of_another_alphabet_is_no_number() -> None:
    assert decided(asked(container={"User": "１"}), "restricted").refused  # noqa: RUF001


FILES = {
    "a": FilePlace("/run/jaas/files/a", "id-open", "open"),
    "b": FilePlace("s3://bucket/b"),  # in a variable
}

# A policy; what is asked for; by which rules it is refused.
RULES: list[tuple[str, dict[str, Any], set[str]]] = [
    ('rules.images.allow = ["alpine"]', asked(), set()),
    ('rules.images.allow = ["alpine:3.*"]', asked(image="alpine:3.20"), set()),
    ('rules.images.allow = ["alpine:3.*"]', asked(image="alpine"), {"images.allow"}),
    ('rules.images.allow = ["alpine"]', asked(image="evil.example/alpine"), {"images.allow"}),
    ('rules.images.allow = ["alpine*"]', asked(image="alpine.evil.example/x"), {"images.allow"}),
    ('rules.images.allow = ["ghcr.io/acme/*"]', asked(image="ghcr.io/acme/a/b"), {"images.allow"}),
    ('rules.images.allow = ["ghcr.io/acme/**"]', asked(image="ghcr.io/acme/a/b:1"), set()),
    ('rules.images.registries = ["docker.io"]', asked(image="index.docker.io/library/alpine"), set()),
    ('rules.images.registries = ["docker.io"]', asked(image="localhost/alpine"), {"images.registries"}),
    ('rules.networks.allow = ["sh*"]', asked(networks=["shared"]), set()),
    ('rules.networks.allow = ["x"]', asked(networks=["shared"]), {"networks.allow"}),
    ('rules.networks.kinds = "overlay"', asked(networks=["closed"]), set()),
    ('rules.secrets.allow = ["sh*"]', asked(container=ref("Secret", "shut")), set()),
    ('rules.mounts.binds = [{path = "/srv/"}]', asked(container=mount(Source="/srv", ReadOnly=True)), set()),
    ('rules.mounts.binds = [{path = "/srv"}]', asked(container=mount(Source="/srv")), {"mounts.binds"}),
    (
        'rules.mounts.binds = [{path = "/srv"}]',
        asked(container=mount(Source="/srv/a", ReadOnly=True)),
        {"mounts.binds"},
    ),
    (
        'rules.mounts.binds = [{path = "/srv", below = true}]',
        asked(container=mount(Source="/srv/a", ReadOnly=True)),
        set(),
    ),
    (
        'rules.mounts.binds = [{path = "/srv", below = true}]',
        asked(container=mount(Source="/srvx", ReadOnly=True)),
        {"mounts.binds"},
    ),
    ('rules.mounts.binds = [{path = "/srv", read_only = false}]', asked(container=mount(Source="//srv/.")), set()),
    (
        'rules.mounts.binds = [{path = "/"}, {path = "/s", read_only = false}]',
        asked(container=mount(Source="/")),
        {"mounts.binds"},
    ),
    (
        'rules.mounts.drivers = {local = ["type=none", "o=bind", "device=**"]}',
        asked(container=volume(type="none", o="bind", device="/etc")),
        {"mounts.binds"},
    ),
    ('rules.mounts.drivers = {local = ["**"]}', asked(container=volume(O="bind", Device="/etc")), {"mounts.binds"}),
    (
        'rules.mounts.drivers = {local = ["**"]}',
        asked(container=volume(type="ext4", device="/dev/sda")),
        {"mounts.binds"},
    ),
    (
        'rules.mounts.drivers = {local = ["type=nfs", "o=addr=10.*", "device=:/*"]}',
        asked(container=volume(type="nfs", o="addr=10.1", device=":/x")),
        set(),
    ),
    ('rules.mounts.drivers = {local = ["type=nfs"]}', asked(container=volume(type="nfs", o="x")), {"mounts.drivers"}),
    ("rules.mounts.anonymous = false", asked(container=mount(Type="volume")), {"mounts.anonymous"}),
    ("rules.mounts.tmpfs = false", asked(container=mount(Type="tmpfs")), {"mounts.tmpfs"}),
    ('rules.users.allow = ["100?"]', asked(user="1000"), set()),
    ('rules.users.allow = ["100?"]', asked(user="root"), {"users.allow"}),
    ('rules.users.groups = ["5"]', asked(container={"Groups": ["5", "6"]}), {"users.groups"}),
    ('rules.capabilities.add = ["net_admin"]', asked(container={"CapabilityAdd": ["NET_ADMIN"]}), set()),
    ('rules.capabilities.drop = ["ALL"]', asked(), {"capabilities.drop"}),
    ('rules.capabilities.drop = ["ALL"]', asked(container={"CapabilityDrop": ["cap_all"]}), set()),
    (
        'rules.capabilities.drop = ["ALL"]',
        asked(container={"CapabilityDrop": ["ALL"], "CapabilityAdd": ["CHOWN"]}),
        {"capabilities.add"},
    ),
    ("rules.read_only_root = true", asked(), {"read_only_root"}),
    ("rules.no_new_privileges = true", asked(), set()),  # it is added
    (
        "rules.no_new_privileges = true",
        asked(container={"Privileges": {"NoNewPrivileges": False}}),
        {"no_new_privileges"},
    ),
    ('rules.env = ["APP_*"]', asked(env={"APP_A": "1"}), set()),
    ('rules.env = ["APP_*"]', asked(env={"LD_PRELOAD": "x"}), {"env"}),
    ("rules.env = []", with_files(asked(), FilePlace(INPUT_FILE, "id-open", "open"), FILES), set()),
    ('rules.resources.memory.maximum = "32M"', asked(), {"resources.memory"}),
    ('rules.resources.memory.maximum = "64M"', asked(), set()),
    ("rules.resources.cpus.maximum = 2", asked(), {"resources.cpus"}),
    ("rules.resources.cpus.maximum = 2", asked(limits={"cpus": 2}), set()),
    ("rules.resources.cpus = {maximum = 2, default = 1}", asked(), set()),
    ("rules.resources.cpus = {maximum = 2, default = 1}", asked(reservations={"cpus": 3}), {"resources.cpus"}),
    ('level = "privileged"\nrules.resources.pids.required = true', asked(), {"resources.pids"}),
    ('rules.placement.allow = ["node.labels.zone==*"]', asked(constraints=["node.labels.zone == a"]), set()),
    (
        'rules.placement.allow = ["node.labels.zone==*"]',
        asked(constraints=["node.labels.zone!=a"]),
        {"placement.allow"},
    ),
    ('rules.placement.allow = ["node.role==worker"]', asked(constraints=["NODE.ROLE==worker"]), set()),
    ('rules.placement = {allow = [], add = ["node.role==worker"]}', asked(constraints=["node.role == worker"]), set()),
    ("rules.resources.pids.maximum = 50", asked(pids_limit=50), set()),
    ('rules.labels = ["team"]', asked(labels={"team": "a"}), set()),
    ('rules.labels = ["team"]', asked(container_labels={"proxy.rule": "a"}), {"labels"}),
    ('rules.log_drivers = ["syslog"]', asked(log_driver="syslog"), set()),
]


@pytest.mark.parametrize(("policy", "request_", "rules"), RULES)
def test_each_rule_allows_what_it_says(policy: str, request_: dict[str, Any], rules: set[str]) -> None:
    assert rules_of(policy, request_) == rules


# A policy; what is known of the job; by which rules it is refused.
CONTEXTS: list[tuple[str, Context, set[str]]] = [
    ('rules.run_timeout = "1h"', Context(run_timeout=3600), set()),
    ('rules.run_timeout = "1h"', Context(run_timeout=3601), {"run_timeout"}),
    ('rules.run_timeout = "1h"', Context(), {"run_timeout"}),
    ("rules.attempts = 2", Context(attempts=2), set()),
    ("rules.attempts = 2", Context(attempts=3), {"attempts"}),
    ("queues.q.rules.attempts = 1", Context(queue="p", attempts=2), set()),
    ("queues.q.rules.attempts = 1", Context(queue="q", attempts=2), {"attempts"}),
    ("rules.attempts = 1\nqueues.q.rules.attempts = 5", Context(queue="q", attempts=2), set()),
    ('rules.attempts = 1\nqueues.q.level = "baseline"', Context(queue="q", attempts=2), set()),
    ("tenants.t.rules.attempts = 1", Context(tenant="t", attempts=2), {"attempts"}),
    ("tenants.t.rules.attempts = 1", Context(tenant="u", attempts=2), set()),
    # A label alone gains nothing; a signature or an operator's word does.
    ("rules.attempts = 1\ntenants.t.rules.attempts = 5", Context(tenant="t", attempts=2), {"attempts"}),
    ("rules.attempts = 1\ntenants.t.rules.attempts = 5", Context(tenant="t", producer="p", attempts=2), set()),
    (
        "trust_tenant_label = true\nrules.attempts = 1\ntenants.t.rules.attempts = 5",
        Context(tenant="t", attempts=2),
        set(),
    ),
]


@pytest.mark.parametrize(("policy", "context", "rules"), CONTEXTS)
def test_queues_and_tenants_have_rules_of_their_own(policy: str, context: Context, rules: set[str]) -> None:
    assert rules_of(policy, asked(), context) == rules


def test_the_worker_s_own_log_driver_is_no_job_s_wish() -> None:
    driver = {"LogDriver": {"Name": "gelf", "Options": {"gelf-address": "udp://logs:1"}}}
    context = Context(log_driver="gelf", log_options={"gelf-address": "udp://logs:1"})
    assert not decided(asked(task=driver), context=context).refused
    changed = {"LogDriver": {"Name": "gelf", "Options": {"gelf-address": "udp://elsewhere:1"}}}
    assert decided(asked(task=changed), context=context).refused


def test_what_the_policy_adds_is_in_the_request() -> None:
    text = """
        rules.resources = {memory = {default = "1G"}, pids = {default = 9}}
        rules.placement.add = ["node.role==worker"]
    """
    request = asked(limits={}, constraints=["node.labels.a==b"])
    made = decide(request, FACTS, parse_policy(text, "p.toml"), Context()).request["TaskTemplate"]
    assert made["Resources"]["Limits"] == {"MemoryBytes": 2**30, "Pids": 9}
    assert made["Placement"]["Constraints"] == ["node.labels.a==b", "node.role==worker"]
    assert request["TaskTemplate"]["Resources"]["Limits"] == {}, "what was asked for has changed"


@pytest.mark.parametrize(
    ("setting", "rule", "holds"),
    [
        (4096, "{}", 4096),
        (4096, "{default = 100}", 100),
        (4096, "{maximum = 100, required = true}", 100),
        (4096, "{default = 100, maximum = 1000}", 100),
        (50, "{default = 100, maximum = 1000}", 50),
        (0, "{maximum = 1000}", 1000),
        (0, "{}", 32_768),
        (100_000, "{}", 32_768),
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_the_least_number_of_processes_holds(setting: int, rule: str, holds: int, trusted: bool) -> None:
    request = asked(limits={"memory": "64M"})
    if setting:
        request["TaskTemplate"]["Resources"]["Limits"]["Pids"] = setting
    text = f"trust_tenant_label = {str(trusted).lower()}\ntenants.a.rules.resources.pids = {rule}"
    decision = decide(request, FACTS, parse_policy(text, "p.toml"), Context(tenant="a"))
    assert decision.refusals == ()
    assert decision.request["TaskTemplate"]["Resources"]["Limits"].get("Pids") == holds


def test_only_privileged_leaves_the_number_of_processes_open() -> None:
    limits = {level: decided(asked(), level).request["TaskTemplate"]["Resources"]["Limits"] for level in LEVELS}
    assert {level: found.get("Pids") for level, found in limits.items()} == {R: 4096, B: 32_768, P: None}


def test_a_default_is_never_less_than_what_is_reserved() -> None:
    made = decide(
        asked(limits={}, reservations={"memory": "2G"}),
        FACTS,
        parse_policy('rules.resources.memory.default = "1G"', "p.toml"),
        Context(),
    ).request["TaskTemplate"]
    assert made["Resources"]["Limits"]["MemoryBytes"] == 2 * 2**30


def test_the_network_that_was_checked_is_the_one_that_is_joined() -> None:
    made = decided(asked(networks=["shared"])).request
    assert made["TaskTemplate"]["Networks"] == [{"Target": "n1"}]


def test_in_mode_warn_nothing_is_refused_and_all_is_told() -> None:
    policy = Policy(mode="warn")
    decision = decide(asked(container=mount(Source="/etc")), FACTS, policy, Context())
    assert not decision.refused
    assert decision.reason.startswith("mounts.0.source: the host's /etc may not be mounted; ")
    assert decide_image("alpine", Policy(mode="warn", level="restricted"), Context()).refused is False


def test_a_reason_names_field_and_rule_and_cannot_draw_on_a_terminal() -> None:
    decision = decided(asked(container=mount(Type="volume", Source="\x1b[2J" + "x" * 500)))
    assert decision.reason.isprintable()
    assert len(decision.reason) < 400
    assert decision.reason.endswith("(policy rule mounts.volumes)")


def test_an_image_is_judged_before_its_registry_hears_of_it() -> None:
    policy = parse_policy('level = "restricted"\nrules.images.registries = ["docker.io"]', "p.toml")
    assert not decide_image("alpine", policy, Context()).refused, "its digest is looked up later"
    assert decide_image("10.0.0.1:2375/x", policy, Context()).refused


@pytest.mark.parametrize(("given", "limit"), [("", 100), ("rules.output = 50", 50), ("rules.output = 500", 100)])
def test_what_a_job_may_return_is_the_least_of_all(given: str, limit: int) -> None:
    assert output_limit(parse_policy(given, "p.toml"), Context(), 100) == limit


@pytest.mark.parametrize(
    ("context", "trusted", "names"),
    [
        (Context(tenant="t", producer="p"), False, {"all": 9, "tenant:t": 2}),
        (Context(tenant="t"), True, {"all": 9, "tenant:t": 2}),
        # By its own label alone: such jobs take places of their own.
        (Context(tenant="t"), False, {"all": 9, "label:t": 2}),
        (Context(tenant="u"), False, {"all": 9}),
        (Context(tenant="t", producer="p", queue="q"), False, {"all": 9, "queue:q": 3, "tenant:t": 2}),
    ],
)
def test_a_forged_label_takes_no_place_of_the_tenant(context: Context, trusted: bool, names: dict[str, int]) -> None:
    text = "rules.in_flight = 9\ntenants.t.rules.in_flight = 2\nqueues.q.rules.in_flight = 3"
    policy = parse_policy(f"trust_tenant_label = {str(trusted).lower()}\n{text}", "p.toml")
    assert limits_in_flight(policy, context) == names


OLD, NEW = (1, 41), (1, 52)
NEEDED: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"Privileges": {"NoNewPrivileges": True}}, (1, 44)),
    ({"OomScoreAdj": 5}, (1, 46)),
    (mount(Type="volume", Source="jobs-a", VolumeOptions={"Subpath": "x"}), (1, 45)),
    (mount(Type="tmpfs", TmpfsOptions={"Options": [["noexec"]]}), (1, 46)),
]


@pytest.mark.parametrize(("changes", "needed"), NEEDED)
def test_what_an_engine_would_drop_is_refused(changes: dict[str, Any], needed: tuple[int, int]) -> None:
    before = (needed[0], needed[1] - 1)
    for apis, refused in (([needed, needed], False), ([before, NEW], True), ([NEW, before], True), ([NEW, None], True)):
        engines = [EngineAge("the manager", apis[0]), EngineAge("node a", apis[1])]
        facts = Facts({}, {}, {}, engines)
        decision = decided(asked(container=changes), "privileged", facts=facts)
        assert decision.refused == refused
        assert not refused or "would leave it out without a word" in decision.reason


def test_what_every_engine_knows_needs_no_version() -> None:
    facts = Facts({}, {}, {}, [EngineAge("the manager", OLD)])
    assert not decided(asked(container={"Privileges": {"NoNewPrivileges": False}, "Init": True}), facts=facts).refused


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CONTAINER_KEYS = sorted({key for changes, *_ in CONTAINERS for key in changes})
TASK_KEYS = sorted({key for changes, *_ in TASKS for key in changes} | {"ContainerSpec"})


@given(JSON, st.sampled_from(CONTAINER_KEYS), st.sampled_from(TASK_KEYS), st.sampled_from(list(LEVELS)))
def test_any_value_anywhere_is_decided_with_a_sentence(value: Any, inner: str, outer: str, level: Any) -> None:
    for request in (
        asked(container={inner: value}),
        asked(task={outer: value}),
        {**asked(), "TaskTemplate": value},
        {"Name": value},
    ):
        decision = decided(request, level)
        assert all(one.rule and one.sentence for one in decision.refusals)


def test_the_image_of_the_table_has_a_digest() -> None:
    assert "@sha256:" in DIGEST


@pytest.mark.parametrize(
    ("policy", "labels", "rule"),
    [
        ("", {}, "services.labelled"),
        ("", {"jaas.jobs": "allow"}, ""),
        ('level = "restricted"', {"jaas.jobs": "allow"}, "services.allow"),
        ('level = "privileged"', {}, ""),
        ('rules.services.allow = ["shop_*"]', {}, ""),
        ('rules.services.allow = ["web_*"]', {}, "services.labelled"),
    ],
)
def test_which_services_a_job_may_be_like(policy: str, labels: dict[str, str], rule: str) -> None:
    decision = decide_service(Reference("shop_web", labels), parse_policy(policy, "p.toml"), Context())
    assert [one.rule for one in decision.refusals] == ([rule] if rule else [])

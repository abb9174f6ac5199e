"""What the policy lets through, judged by a checker that knows nothing of it (tests/support/forbidden.py)."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any, Final

from jaas_submit import JobSpec
from jaas_submit.errors import SpecError
from jaas_submit.policy.decision import decide
from jaas_submit.policy.document import Policy
from jaas_submit.policy.facts import Context, Facts, NetworkFacts, Reference
from jaas_worker.swarm.service_spec import service_request
from tests.fuzz.cases import sentence_defect
from tests.fuzz.mutations import mutate
from tests.fuzz.odd import as_object
from tests.support.forbidden import forbidden

__all__ = ["POLICY", "policy_target"]

POLICY: Final = Policy()
"""What holds without a file."""

_OPEN = {"jaas.jobs": "allow"}
_FACTS: Final = Facts(
    secrets={"id-s": Reference("s", _OPEN), "id-t": Reference("t", {}), "id-u": Reference("s", {"jaas.jobs": "no"})},
    configs={"id-s": Reference("s", _OPEN), "id-t": Reference("t", {})},
    networks={
        "net": NetworkFacts("id-net", "net", "overlay", "swarm", True, {}),
        "control": NetworkFacts("id-control", "control", "overlay", "swarm", True, {"jaas.control": ""}),
        "closed": NetworkFacts("id-closed", "closed", "overlay", "swarm", False, {}),
        "host": NetworkFacts("id-host", "host", "host", "local", False, {}),
    },
)

_READ: Final = JobSpec.parse
"""Bound here, so that a test that replaces it breaks only the targets that look at what it raises."""

_PLAIN: Final = JobSpec(image="alpine:3.20", command=["true"])
"""Stands in for a description that is refused: other targets look at those."""

_PREDEFINED: Final = ("host", "none", "bridge", "ingress", "docker_gwbridge")

_PATHS = ("/", "/etc", "/jobs-a", "jobs-a/../..", "/var/run/docker.sock", "{{.Node.ID}}", '/{{"{{"}}', "\u2215etc")
_NAMES = ("", "jobs-a", "data", "Jobs-a", "jobs-../x", "jobs-{{.Node.ID}}", "{{`data`}}", "\uff4aobs-a", "/jobs-a", "/")
_TYPES = ("bind", "volume", "tmpfs", "", "npipe", "cluster", "image", "Bind", None)
_OPTIONS: tuple[dict[str, str], ...] = (
    {},
    {"type": "none", "o": "bind", "device": "/"},
    {"type": "tmpfs"},
    {"type": "nfs", "o": '{{"bind"}}', "device": "/"},
    {"o": "lowerdir=/etc"},
)


def _mount(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(_TYPES)
    source = rng.choice(_NAMES if kind == "volume" and rng.random() < 0.8 else (*_PATHS, *_NAMES))
    made: dict[str, Any] = {"Type": kind, "Source": source, "Target": "/x", "ReadOnly": rng.random() < 0.5}
    if rng.random() < 0.4:
        driver = {"Name": rng.choice(("", "local", "nfs", "LOCAL")), "Options": rng.choice(_OPTIONS)}
        given = {"DriverConfig": driver, "Subpath": rng.choice(("", "a", "../..", "a/../b"))}
        made["VolumeOptions"] = {name: value for name, value in given.items() if rng.random() < 0.6}
    return made


def _hostile(rng: random.Random, request: dict[str, Any]) -> str:
    """Put something into a request that a job may not have, or nearly so; return what."""
    task = request["TaskTemplate"]
    container = task["ContainerSpec"]
    place, name, value = rng.choice(
        [
            (container, "Mounts", [_mount(rng) for _ in range(rng.randrange(1, 3))]),
            (container, "Mounts", [_mount(rng)]),
            (container, "mounts", [_mount(rng)]),
            (container, "Secrets", [{"SecretID": rng.choice(("id-s", "id-t", "id-u", "s", "")), "SecretName": "s"}]),
            (container, "Configs", [{"ConfigID": rng.choice(("id-s", "id-t", "s")), "ConfigName": "s"}]),
            (container, "CapabilityAdd", [rng.choice(("ALL", "SYS_ADMIN", "cap_sys_admin", "CHOWN", "NET_ADMIN"))]),
            (container, "Privileges", {rng.choice(("Seccomp", "AppArmor")): {"Mode": "unconfined"}}),
            (container, rng.choice(("Privileged", "Devices", "HostConfig", "PidMode")), rng.choice((True, ["x"], {}))),
            (task, "Networks", [{"Target": rng.choice(("net", "control", "closed", "host", "none", "id-net"))}]),
            (
                task,
                "Networks",
                [{"Target": "net", rng.choice(("Aliases", "DriverOpts")): rng.choice((["a"], {"a": "b"}))}],
            ),
            (task, "LogDriver", {"Name": rng.choice(("syslog", "local", "", "Local")), "Options": {"a": "b"}}),
            (task, rng.choice(("PluginSpec", "NetworkAttachmentSpec", "Runtime")), rng.choice(({"a": 1}, "plugin"))),
            (request, "Mode", rng.choice(({"Global": {}}, {"Replicated": {"Replicas": 2}}, {"Replicated": {}}))),
            (request, "EndpointSpec", {"Mode": "dnsrr", "Ports": [{"TargetPort": 1}]}),
            (request, "Networks", [{"Target": "host"}]),
        ]
    )
    place[name] = value
    return f"{name} = {value!r}"[:200]


def policy_target(rng: random.Random, specs: dict[str, dict[str, Any]]) -> tuple[str, Callable[[], str]]:
    """Return a request and what looks at it: a description that was mutated, or something hostile put into it.

    Args:
        rng: decides.
        specs: descriptions of jobs.
    """
    name = rng.choice(list(specs))
    tree, done = mutate(rng, specs[name]) if rng.random() < 0.6 else (copy.deepcopy(specs[name]), "")
    try:
        spec = _READ(as_object(tree))
    except SpecError:
        spec, done = _PLAIN, "as it is"
    if rng.random() < 0.5:  # else its mounts alone refuse most of them
        spec = spec.model_copy(update={"mounts": (), "secrets": ()})
    wanted = {"T": "s"} if rng.random() < 0.1 else spec.env_secrets
    ids = {secret.source: f"id-{secret.source}" for secret in spec.secrets}
    request = copy.deepcopy(service_request(spec, "j", 1, {}, ids))
    for _ in range(rng.choice((0, 1, 1, 2))):
        done += f"; {_hostile(rng, request)}"
    if rng.random() < 0.15:
        changed, more = mutate(rng, request["TaskTemplate"])
        request, done = {**request, "TaskTemplate": as_object(changed)}, f"{done}; {more}"

    def look() -> str:
        asked = Context(queue="q", run_timeout=spec.run_timeout, env_secrets=wanted)
        decision = decide(request, _FACTS, POLICY, asked)
        for one in decision.refusals:
            if wrong := sentence_defect(str(one)):
                return wrong
        if decision.refused:
            return ""
        if wanted:
            return f"the policy lets through: env_secrets {wanted}"[:200]
        # What does not exist the engine refuses, unless it is one of its own.
        names = {one.get("Target") for one in request["TaskTemplate"].get("Networks") or ()}
        gone = names - {*(_FACTS.networks or {}), *_PREDEFINED}
        found = forbidden(decision.request, {"id-net", *gone}, {"id-s"})
        return f"the policy lets through: {found[0][:200]}" if found else ""

    return f"policy {name!r}: {done}"[:500], look

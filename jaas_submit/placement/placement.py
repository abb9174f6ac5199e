"""PURE: on which nodes a job would fit, and why not on the others."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from jaas_submit.model.cluster import Cluster, Node
from jaas_submit.model.fields import Constraint
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt
from jaas_submit.nodes.facts import NodeFacts

__all__ = ["Lack", "NodeFit", "as_the_swarm_says", "avoided_nodes", "fit", "placement", "size", "what_is_lacking"]

Lack = Literal["memory", "cpus", "generic", "constraint", "state", "availability", "avoided", "platform", "plugin"]
"""Why a node does not take a job: not enough free memory, cores or generic resources, a constraint that it does not
meet, it is down, drained or paused, an attempt failed there and the policy says ``avoid_failed_nodes``, the image is
for other platforms, or its engine does not have the log driver."""

_NO_FACTS: Final[Mapping[str, NodeFacts]] = MappingProxyType({})

_LACKS: Final[dict[Lack, str]] = {
    "memory": "insufficient memory",
    "cpus": "insufficient cores",
    "generic": "insufficient generic resources",
    "constraint": "constraint not met",
    "platform": "unsupported platform",
    "plugin": "missing plugin",
    "state": "not ready",
    "availability": "drained or paused",
    "avoided": "avoided after a failed attempt",
}


class NodeFit(BaseModel):
    """Whether a job fits on a node, and if not, why not."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hostname: str = Field(description="the node's host name")
    fits: bool = Field(description="whether the job could start there now")
    lacks: tuple[Lack, ...] = Field((), description="why it does not fit, each kind once")
    reasons: tuple[str, ...] = Field((), description="the same in words, with this node's values")
    free_cpus: float = Field(description="free cores")
    free_memory: int = Field(description="free bytes of memory")
    free_generic: dict[str, int] = Field(default_factory=dict, description="free generic resources, by kind")
    image_present: bool | None = Field(None, description="whether the image is there; null where no agent told")
    engine: str = Field("", description="version of the node's engine; empty where no agent told")
    free_disk: int | None = Field(None, description="free bytes where its engine keeps its data; null where not known")

    @property
    def told(self) -> str:
        """What the node's agent says of it, in words; empty where it has none."""
        image = {True: "image present", False: "image not present", None: ""}[self.image_present]
        disk = "" if self.free_disk is None else f"{size(self.free_disk)} of disk free"
        return ", ".join(filter(None, (image, self.engine and f"engine {self.engine}", disk)))


def _value(node: Node, key: str) -> str:
    """Return a node's value for a constraint's key; a label that is not set is empty, as in the swarm."""
    plain = {
        "node.id": node.id,
        "node.hostname": node.hostname,
        "node.role": node.role,
        "node.ip": node.address,
        "node.platform.os": node.os,
        "node.platform.arch": node.arch,
    }
    kind = key.lower()
    if kind in plain:
        return plain[kind]
    for prefix, labels in (("node.labels.", node.labels), ("engine.labels.", node.engine_labels)):
        if kind.startswith(prefix):
            return labels.get(key[len(prefix) :], "")
    return ""


def _unmet(node: Node, text: str) -> str:
    """Return why a node does not meet a constraint; empty where it does.

    Source: moby/swarmkit, manager/constraint; tested against a real swarm. Case does not count (but in the name of a
    label), and there are no wildcards; ``node.ip`` also takes a subnet.
    """
    wanted = Constraint.parse(text)
    value = _value(node, wanted.key)
    if wanted.key.lower() == "node.ip":
        try:
            equal = ipaddress.ip_address(value) in ipaddress.ip_network(wanted.value, strict=False)
        except ValueError:  # the swarm takes no malformed address for an answer, be it == or !=
            equal = not wanted.equal
    else:
        equal = value.lower() == wanted.value.lower()
    if equal == wanted.equal:
        return ""
    return f"constraint {text} is not met ({f'it has {value}' if value else 'it has none'})"


_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""Words of nodes, and images' words for the same. Source: moby/swarmkit, manager/scheduler/filter.go."""


def _runs(platform: str, node: Node) -> bool:
    """Return whether an image for this platform runs on a node; what is left open fits all."""
    os, _, arch = platform.partition("/")
    same = _ARCHITECTURES.get(arch, arch) == _ARCHITECTURES.get(node.arch, node.arch)
    return os in {"", node.os} and (not arch or same)


def _has_log_driver(node: Node, name: str) -> bool:
    """Return whether a node's engine has a log driver; where it names none, nothing is known, and the swarm tries.

    Every engine has ``none``, and does not list it. Source: moby/swarmkit, manager/scheduler/filter.go, PluginFilter.
    """
    return name == "none" or not node.log_drivers or not {name, f"{name}:latest"}.isdisjoint(node.log_drivers)


def placement(
    spec: JobSpec, cluster: Cluster, platforms: Sequence[str] = (), facts: Mapping[str, NodeFacts] = _NO_FACTS
) -> tuple[NodeFit, ...]:
    """Return for each node whether the job would fit there.

    Args:
        spec: the job's description.
        cluster: the nodes.
        platforms: what the image runs on; empty where that is not known.
        facts: node id -> what its agent says of it.
    """
    return tuple(fit(spec, node, platforms=platforms, facts=facts.get(node.id)) for node in cluster.nodes)


def avoided_nodes(
    spec: JobSpec, attempts: Sequence[Attempt], nodes: Sequence[Node], platforms: Sequence[str] = ()
) -> frozenset[str]:
    """Return the ids of the nodes that the next attempt avoids.

    Args:
        spec: the job's description; without ``avoid_failed_nodes`` there are none.
        attempts: the attempts so far.
        platforms: what the image runs on; empty where that is not known.
        nodes: the swarm's nodes: one at least that could take the job must remain, else none is avoided.
    """
    if not spec.retry.avoid_failed_nodes:
        return frozenset()
    failed = frozenset(attempt.node_id for attempt in attempts if attempt.node_id)
    # What runs on a node now will not run there for ever.
    whole = [{"free_cpus": node.cpus, "free_memory": node.memory, "free_generic": node.generic} for node in nodes]
    empty = [node.model_copy(update=all_of_it) for node, all_of_it in zip(nodes, whole, strict=True)]
    return (
        failed
        if any(node.id not in failed and fit(spec, node, platforms=platforms).fits for node in empty)
        else frozenset()
    )


def fit(
    spec: JobSpec,
    node: Node,
    avoided: frozenset[str] = frozenset(),
    platforms: Sequence[str] = (),
    facts: NodeFacts | None = None,
    image: str = "",
) -> NodeFit:
    """Return whether a job fits on a node.

    Args:
        spec: the job's description.
        node: the node.
        avoided: ids of the nodes that its next attempt avoids (see ``avoided_nodes``).
        platforms: what the image runs on, such as ``linux/amd64``; empty where that is not known.
        facts: what the node's agent says of it; None where there is none.
        image: the image with the digest that the job uses; empty where none is known.
    """
    facts = facts or NodeFacts()
    found: list[tuple[Lack, str]] = []
    if node.id in avoided:
        found.append(("avoided", "an attempt failed there, and avoid_failed_nodes is set"))
    if node.state != "ready":
        found.append(("state", f"it is {node.state}"))
    if node.availability != "active":
        found.append(("availability", f"its availability is {node.availability}"))
    found += [("constraint", unmet) for text in spec.constraints if (unmet := _unmet(node, text))]
    if platforms and not any(_runs(one, node) for one in platforms):
        found.append(("platform", f"the image runs on {', '.join(platforms)}, the node is {node.os}/{node.arch}"))
    if spec.log_driver and not _has_log_driver(node, spec.log_driver):
        found.append(("plugin", f"its engine has no log driver {spec.log_driver}"))
    need = spec.reservations
    if need.memory and need.memory > node.free_memory:
        found.append(("memory", f"{size(need.memory)} of memory wanted, {size(node.free_memory)} free"))
    if need.cpus and need.cpus > node.free_cpus + 1e-9:
        found.append(("cpus", f"{need.cpus:g} cores wanted, {node.free_cpus:g} free"))
    for kind, count in spec.generic_resources.items():
        free = node.free_generic.get(kind, 0)
        if count > free:
            of = f"{free} of {node.generic[kind]} free" if kind in node.generic else "it has none"
            found.append(("generic", f"{count} {kind} wanted, {of}"))
    return NodeFit(
        hostname=node.hostname,
        fits=not found,
        lacks=tuple(dict.fromkeys(kind for kind, _ in found)),
        reasons=tuple(text for _, text in found),
        free_cpus=node.free_cpus,
        free_memory=node.free_memory,
        free_generic=node.free_generic,
        image_present=facts.has(image or spec.image) if image or spec.image else None,
        engine=facts.engine,
        free_disk=facts.free_disk,
    )


_UNKNOWN_PLUGIN: Final = (
    "the swarm misses a plugin there that the job does not name: see the driver of its networks, and the worker's log "
    "driver"
)


def as_the_swarm_says(fits: Sequence[NodeFit], said: str) -> tuple[NodeFit, ...]:
    """Return how a waiting job fits, with a plugin that the swarm misses and that its description does not name.

    It may be that of a network, or of the worker's own log driver.

    Args:
        fits: by the nodes' facts.
        said: why the swarm places the job nowhere, such as ``no suitable node (missing plugin on 2 nodes)``.
    """
    if "missing plugin" not in said or any("plugin" in node.lacks for node in fits):
        return tuple(fits)
    missing = {"fits": False, "lacks": ("plugin",), "reasons": (_UNKNOWN_PLUGIN,)}
    return tuple(node.model_copy(update=missing) if node.fits else node for node in fits)


def what_is_lacking(fits: Sequence[NodeFit]) -> str:
    """Return on how many nodes what is lacking: ``insufficient memory on 2 nodes, constraint not met on 1 node``.

    Args:
        fits: the nodes; those that would take the job count for nothing.
    """
    counts = Counter(kind for node in fits for kind in node.lacks)
    return ", ".join(
        f"{_LACKS[kind]} on {count} node{'' if count == 1 else 's'}"
        for kind, count in sorted(counts.items(), key=lambda pair: (-pair[1], list(_LACKS).index(pair[0])))
    )


def size(count: float) -> str:
    """Return a number of bytes as people write it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"

"""PURE: which nodes may take a job at all, whatever runs there now.

Many jobs have the same constraints, so a snapshot holds each set of nodes once, under a name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from jaas_submit.model.cluster import Node
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.placement.placement import fit
from jaas_submit.queues.snapshot import Nodes

__all__ = ["members", "node_class", "nodes_of"]


def node_class(spec: JobSpec, platforms: Sequence[str] = (), avoided: Collection[str] = ()) -> str:
    """Return the name of a job's class of nodes.

    Args:
        spec: the description: constraints and log driver decide.
        platforms: what the image runs on; empty where that is not known.
        avoided: ids of the nodes that its next attempt avoids.
    """
    told = [sorted(spec.constraints), sorted(platforms), spec.log_driver, sorted(avoided)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def members(
    spec: JobSpec,
    nodes: Sequence[Node],
    platforms: Sequence[str] = (),
    avoided: Collection[str] = (),
    left_out: Collection[str] = (),
) -> tuple[int, ...]:
    """Return the places of the nodes that may take a job of a class.

    It takes some microseconds a node: keep the answer until the nodes change.

    Args:
        spec: any job of the class.
        nodes: the swarm's nodes.
        platforms: as for ``node_class``.
        avoided: as for ``node_class``.
        left_out: ids of nodes that take no job for now (see ``poison``).
    """
    plain = JobSpec(image=spec.image or "none", constraints=spec.constraints, log_driver=spec.log_driver)
    out = frozenset(avoided)
    return tuple(
        place
        for place, node in enumerate(nodes)
        if node.id not in left_out and fit(plain, node, out, platforms=platforms).fits
    )


def nodes_of(
    nodes: Sequence[Node],
    classes: Mapping[str, Sequence[int]],
    jobs: Mapping[str, int] | None = None,
    left_out: Iterable[str] = (),
) -> Nodes:
    """Return the nodes as a snapshot holds them.

    Args:
        nodes: the swarm's nodes, as a worker saw them last.
        classes: name -> ``members``.
        jobs: id of a node -> how many jobs of ours it runs.
        left_out: ids of nodes that take no job for now.
    """
    return Nodes(
        ids=[node.id for node in nodes],
        cpus=[node.cpus for node in nodes],
        memory=[node.memory for node in nodes],
        free_cpus=[node.free_cpus for node in nodes],
        free_memory=[node.free_memory for node in nodes],
        jobs=[(jobs or {}).get(node.id, 0) for node in nodes],
        classes=classes,
        left_out=tuple(left_out),
    )

"""One job on each node that is up now: the nodes are the inputs of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from jaas_submit.client.session import Session
from jaas_submit.errors import SpecError
from jaas_submit.model.cluster import Cluster
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.wire_names import LABEL_NODE

__all__ = ["node_inputs", "on_node", "results_by_node", "up_nodes"]

_LATER: Final = frozenset({"memory", "cpus", "generic"})
"""What a node may be short of now: the job waits until that is free."""


def node_inputs(session: Session, spec: JobSpec, inputs: Iterable[Any], speculate: object) -> list[dict[str, str]]:
    """Return an input for each node that is up and may run the job.

    Args:
        session: the connections.
        spec: the description, with its constraints.
        inputs: those that were given beside: there may be none.
        speculate: whether slow jobs are to be started a second time, which would have to be on another node.

    Raises:
        SpecError: there are inputs, no worker has told of the nodes, or none of them may run the job.
        LedgerUnavailable: Redis does not answer.
    """
    if any(True for _ in inputs):
        raise SpecError("per_node: the nodes are the inputs; leave the others out", field="per_node")
    if speculate:
        raise SpecError("speculate: a second start would be on another node; leave it out", field="speculate")
    queries = session.ledger.queries
    platforms = queries.platforms(spec.image) if spec.image else ()
    return up_nodes(spec, queries.cluster(), platforms)


def up_nodes(spec: JobSpec, cluster: Cluster | None, platforms: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Return the nodes that are up and may run a job: ``node`` is the host name, ``node_id`` the swarm's id.

    Args:
        spec: the description.
        cluster: the nodes, as a worker saw them last.
        platforms: what the image runs on; empty where that is not known.

    Raises:
        SpecError: there is none.
    """
    from jaas_submit.placement.placement import fit, what_is_lacking  # most producers never ask for nodes

    if cluster is None:
        raise SpecError("per_node: no worker has told of any node in the last hour; start one", field="per_node")
    fits = [(node, fit(spec, node, platforms=platforms)) for node in cluster.nodes]
    found = [{"node": node.hostname, "node_id": node.id} for node, told in fits if set(told.lacks) <= _LATER]
    if not found:
        lacking = what_is_lacking([told for _, told in fits]) or "there is none"
        raise SpecError(f"per_node: no node may run it now: {lacking}", field="per_node")
    names = Counter(one["node"] for one in found)  # the swarm does not mind two of one name
    named = [one if names[one["node"]] == 1 else {**one, "node": f"{one['node']} ({one['node_id']})"} for one in found]
    return sorted(named, key=lambda one: one["node"])


def on_node(spec: JobSpec, node: dict[str, str]) -> JobSpec:
    """Return the description for one node.

    Args:
        spec: the description for all.
        node: its input.
    """
    fields = spec.to_wire()
    constraints = [*spec.constraints, f"node.id=={node['node_id']}"]
    return JobSpec.parse({**fields, "constraints": constraints, "labels": {**spec.labels, LABEL_NODE: node["node"]}})


def results_by_node(records: Iterable[JobRecord], results: Mapping[str, JobResult]) -> dict[str, JobResult]:
    """Return results by the host names of the nodes that their jobs were for.

    Args:
        records: of the batch's jobs.
        results: by the jobs' ids.
    """
    named = {record.id: record.spec.labels.get(LABEL_NODE, "") for record in records if record.spec}
    return {name: results[job_id] for job_id, name in named.items() if name and job_id in results}

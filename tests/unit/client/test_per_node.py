"""One job on each node that is up: which nodes, and what a job for one of them asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jaas_submit.client.maps.per_node import on_node, up_nodes
from jaas_submit.errors import SpecError
from jaas_submit.model.cluster import Cluster, Node
from jaas_submit.model.job_spec import JobSpec


def cluster(**nodes: dict[str, Any]) -> Cluster:
    made = (
        Node(id=f"id-{name}", **{"hostname": name, "os": "linux", "arch": "x86_64", **of}) for name, of in nodes.items()
    )
    return Cluster(at=datetime.now(UTC), nodes=tuple(made))


BUSY = {"cpus": 1.0, "free_cpus": 0.0}
SOME = cluster(
    c={"role": "manager"}, b=BUSY, down={"state": "down"}, drained={"availability": "drain"}, arm={"arch": "aarch64"}
)


@pytest.mark.parametrize(
    ("spec", "platforms", "names"),
    [
        ({}, (), ["arm", "b", "c"]),
        ({"reservations": {"cpus": 1}}, (), ["arm", "b", "c"]),  # what is not free now will be
        ({"constraints": ["node.role==manager"]}, (), ["c"]),
        ({"constraints": ["node.role!=manager"]}, ("linux/amd64",), ["b"]),
    ],
)
def test_which_nodes_get_one(spec: dict[str, Any], platforms: tuple[str, ...], names: list[str]) -> None:
    assert [one["node"] for one in up_nodes(JobSpec(image="a", **spec), SOME, platforms)] == names


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (None, "no worker has told of any node in the last hour; start one"),
        (cluster(), "no node may run it now: there is none"),
        (cluster(down={"state": "down"}), "no node may run it now: "),
    ],
)
def test_none_is_an_error(nodes: Cluster | None, said: str) -> None:
    with pytest.raises(SpecError, match=f"^per_node: {said}"):
        up_nodes(JobSpec(image="a"), nodes)


def test_two_nodes_of_one_name_are_told_apart() -> None:
    nodes = up_nodes(JobSpec(image="a"), cluster(a={"hostname": "same"}, b={"hostname": "same"}))
    assert [one["node"] for one in nodes] == ["same (id-a)", "same (id-b)"]


def test_a_job_is_bound_to_its_node_and_says_to_which() -> None:
    spec = on_node(
        JobSpec(image="a", constraints=["node.role==worker"], labels={"t": "1"}), {"node": "n", "node_id": "i"}
    )
    assert spec.constraints == ("node.role==worker", "node.id==i")
    assert spec.labels == {"t": "1", "jaas.node": "n"}

"""What `jaas doctor` says about agents and disks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jaas_submit import Client
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.doctor.node_checks import node_checks
from jaas_submit.model.cluster import Cluster, Node
from jaas_submit.nodes.facts import pack
from jaas_submit.output import AgentLeases


@pytest.fixture
def client(redis_url: str, prefix: str) -> Client:
    return Client(redis_url, queue=prefix, prefix=prefix)


def know(client: Client, **states: str) -> None:
    nodes = tuple(Node(id=f"id-{name}", hostname=name, state=state) for name, state in states.items())
    client.ledger.maintenance.save_cluster(Cluster(at=datetime.now(UTC), nodes=nodes))


def lead(client: Client, name: str, engine: str, free: int | None) -> None:
    leases = AgentLeases(client.ledger.client, client.ledger.prefix)
    assert leases.take(f"id-{name}", "agent", engine=engine)
    assert leases.tell(f"id-{name}", "agent", pack(free, []))


def test_without_nodes_nothing_is_said(client: Client) -> None:
    assert node_checks(client) == []
    assert node_checks(Client("redis://127.0.0.1:1")) == []


def test_all_nodes_have_an_agent(client: Client) -> None:
    know(client, n1="ready", n2="ready", n3="down")
    lead(client, "n1", "20.10.24", 2**40)
    lead(client, "n2", "28.5", None)
    detail = "2 of 2 nodes; engine 20.10.24 on 1 node, engine 28.5 on 1 node"
    assert node_checks(client) == [Check("agents", Verdict.OK, detail)]


def test_nodes_without_an_agent_and_full_disks_are_named(client: Client) -> None:
    know(client, n1="ready", n2="ready")
    lead(client, "n1", "28.5", 2**30)
    agents, disks = node_checks(client)
    assert (agents.verdict, agents.detail) == (Verdict.WARN, "1 of 2 nodes; engine 28.5 on 1 node; none on n2")
    assert (disks.verdict, disks.detail) == (Verdict.WARN, "little room on n1 (1.0 GiB free)")
    assert "jaas agent" in agents.fix
    assert "docker system prune" in disks.fix

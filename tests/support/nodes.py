"""Nodes of a swarm, as the ledger keeps them for ``placement`` and ``explain``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from jaas_submit.model.cluster import Cluster, Node

__all__ = ["GIB", "NOW", "cluster", "node"]

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GIB = 2**30


def node(name: str = "n1", **fields: Any) -> Node:
    """Return a node with 4 cores and 8 GiB, all of them free."""
    usual = {"cpus": 4, "memory": 8 * GIB, "free_cpus": 4, "free_memory": 8 * GIB, "os": "linux", "arch": "x86_64"}
    return Node(id=f"id-{name}", hostname=name, **{**usual, **fields})


def cluster(*nodes: Node) -> Cluster:
    """Return what was known of these nodes 12 seconds before ``NOW``."""
    return Cluster(at=NOW - timedelta(seconds=12), nodes=nodes)

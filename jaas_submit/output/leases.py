"""Leases of nodes: which process follows the containers of a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from jaas_submit.connection.connection import as_text, redis_errors
from jaas_submit.output.scripts import Base

__all__ = ["AgentLease", "AgentLeases"]

LEASE_S: Final = 15
"""Seconds until a lease runs out that is not renewed."""

KNOWN_S: Final = 600
"""Seconds for which a node is known to have had an agent: one that is started again is away for a while."""


@dataclass(frozen=True, slots=True)
class AgentLease:
    """The process that follows the containers of a node.

    Args:
        holder: the process.
        version: of jaas.
        engine: version of the node's engine.
        log_driver: what keeps the output of its containers, unless they say otherwise.
        since: when it took the lease, in seconds since the epoch by Redis' clock.
    """

    holder: str
    version: str
    engine: str
    log_driver: str
    since: float


class AgentLeases(Base):
    """All leases of nodes. Every method raises LedgerUnavailable when Redis cannot be reached or refuses."""

    def take(self, node_id: str, holder: str, version: str = "", engine: str = "", log_driver: str = "") -> bool:
        """Take or renew the lease of a node; False when another process has it.

        Args:
            node_id: the swarm's id of the node.
            holder: this process.
            version: of jaas.
            engine: version of the node's engine.
            log_driver: its log driver.
        """
        named = {"node": node_id, "holder": holder, "version": version, "engine": engine, "driver": log_driver}
        return bool(self.run("take_lease", "agent", ttl=LEASE_S, known=KNOWN_S, **named))

    def release(self, node_id: str, holder: str) -> bool:
        """Give up the lease of a node; False when this process does not have it.

        Args:
            node_id: the swarm's id of the node.
            holder: this process.
        """
        return bool(self.run("release_lease", "agent", node=node_id, holder=holder))

    def nodes(self) -> int:
        """Return how many nodes have an agent, or had one in the last ten minutes."""
        with redis_errors("agents"):
            found: Any = self.client.zcard(self.key("agents"))
        return int(found)

    def get(self, node_id: str) -> AgentLease | None:
        """Return the lease of a node; None if no process follows its containers.

        Args:
            node_id: the swarm's id of the node.
        """
        with redis_errors("agent"):
            found = self.client.hmget(self.key("agent", node_id), "holder", "version", "engine", "driver", "since")
        if found[0] is None:
            return None
        holder, version, engine, driver, since = (as_text(value or "") for value in found)
        return AgentLease(holder, version, engine, driver, float(since or 0))

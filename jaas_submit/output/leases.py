"""Leases of nodes: which process follows the containers of a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jaas_submit.connection.connection import answers, as_text, redis_errors
from jaas_submit.nodes.facts import NodeFacts, unpack
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
        process: which process of its machine it is, for its successor; empty where that is not known.
        since: when it took the lease, in seconds since the epoch by Redis' clock.
    """

    holder: str
    version: str
    engine: str
    log_driver: str
    process: str
    since: float


class AgentLeases(Base):
    """All leases of nodes. Every method raises LedgerUnavailable when Redis cannot be reached or refuses."""

    def take(
        self,
        node_id: str,
        holder: str,
        version: str = "",
        engine: str = "",
        log_driver: str = "",
        *,
        process: str = "",
        instead: str = "",
    ) -> bool:
        """Take or renew the lease of a node; False when another process has it.

        Args:
            node_id: the swarm's id of the node.
            holder: this process.
            version: of jaas.
            engine: version of the node's engine.
            log_driver: its log driver.
            process: which process of its machine this is, for its successor.
            instead: a former holder of which it is known that it has ended; its lease is taken over.
        """
        named = {"node": node_id, "holder": holder, "version": version, "engine": engine, "driver": log_driver}
        return bool(
            self.run("take_lease", "agent", ttl=LEASE_S, known=KNOWN_S, process=process, instead=instead, **named)
        )

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

    def tell(self, node_id: str, holder: str, facts: str) -> bool:
        """Say what is known of a node; False when this process does not have its lease.

        Args:
            node_id: the swarm's id of the node.
            holder: this process.
            facts: see ``jaas_submit.nodes.facts.pack``.
        """
        return bool(self.run("tell_facts", "agent", node=node_id, holder=holder, facts=facts))

    def facts(self, node_ids: Sequence[str]) -> dict[str, NodeFacts]:
        """Return what agents say of their nodes; nodes without an agent are left out.

        Args:
            node_ids: the swarm's ids of nodes.
        """
        with redis_errors("agent"):
            pipe = self.client.pipeline(transaction=False)
            for node_id in node_ids:
                pipe.hmget(self.key("agent", node_id), "holder", "engine", "driver", "facts")
            found = answers(pipe)
        told = {node_id: row for node_id, row in zip(node_ids, found, strict=True) if row and row[0] is not None}
        return {node_id: unpack(*(as_text(value or "") for value in row[1:])) for node_id, row in told.items()}

    def get(self, node_id: str) -> AgentLease | None:
        """Return the lease of a node; None if no process follows its containers.

        Args:
            node_id: the swarm's id of the node.
        """
        with redis_errors("agent"):
            names = ("holder", "version", "engine", "driver", "process", "since")
            found = self.client.hmget(self.key("agent", node_id), *names)
        if found[0] is None:
            return None
        holder, version, engine, driver, process, since = (as_text(value or "") for value in found)
        return AgentLease(holder, version, engine, driver, process, float(since or 0))

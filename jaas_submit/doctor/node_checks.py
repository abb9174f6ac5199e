"""The checks of `jaas doctor` about what agents say of their nodes."""

from __future__ import annotations

from collections import Counter
from typing import Final

from jaas_submit.client.client import Client
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.model.bounds import counted
from jaas_submit.output.leases import AgentLeases
from jaas_submit.placement.placement import size

__all__ = ["node_checks"]

_LITTLE_DISK: Final = 2 * 2**30
"""Free bytes below which the next image may not fit."""


def node_checks(client: Client) -> list[Check]:
    """Return the checks of agents and disks; nothing if Redis does not answer, or no worker has reported nodes.

    Args:
        client: whose Redis and prefix are checked.
    """
    try:
        cluster = client.ledger.queries.cluster()
        ready = [node for node in cluster.nodes if node.state == "ready"] if cluster else []
        facts = AgentLeases(client.ledger.client, client.ledger.prefix).facts([node.id for node in ready])
    except LedgerUnavailable:  # which another check reports
        return []
    if not ready:
        return []
    engines = Counter(facts[node.id].engine or "unknown" for node in ready if node.id in facts)
    versions = ", ".join(f"engine {engine} on {counted(count, 'node')}" for engine, count in sorted(engines.items()))
    without = [node.hostname for node in ready if node.id not in facts]
    detail = f"{len(ready) - len(without)} of {counted(len(ready), 'node')}{versions and '; ' + versions}"
    checks = [Check("agents", Verdict.OK, detail)]
    if without:
        fix = "run `jaas agent` there (the service agent of stack.yml): live output, exact ends, what jobs use"
        checks = [Check("agents", Verdict.WARN, f"{detail}; none on {', '.join(without[:5])}", fix)]
    full = [
        f"{node.hostname} ({size(free)} free)"
        for node in ready
        if node.id in facts and (free := facts[node.id].free_disk) is not None and free < _LITTLE_DISK
    ]
    if full:
        fix = "delete images and containers that nobody needs: `docker system prune` on the node"
        checks.append(Check("disks", Verdict.WARN, f"little room on {', '.join(full[:5])}", fix))
    return checks

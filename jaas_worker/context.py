"""What every part of the job's life in this worker needs: the two sides that it talks to, and who it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaas_submit.ledger import Ledger
from jaas_submit.names import LABEL_LEDGER, LABEL_PREFIX
from jaas_submit.store import Store
from jaas_worker.engine import Engine
from jaas_worker.metrics import Metrics
from jaas_worker.settings import Settings
from jaas_worker.tracing import Tracer

__all__ = ["Context"]


@dataclass
class Context:
    """A worker process, as its parts know it.

    Args:
        settings: the worker's settings.
        ledger: the records.
        engine: the swarm.
        holder: name of this worker process in the ledger; no other process has ever had it.
        metrics: where this worker counts.
        tracer: where it traces.
        store: where large values go; None where there is no such place.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """

    settings: Settings
    ledger: Ledger
    engine: Engine
    holder: str
    metrics: Metrics
    tracer: Tracer
    store: Store | None = None
    marks: dict[str, str] = field(init=False)
    """Labels of every service of this installation."""
    label: str = field(init=False)
    """Selects them."""
    _nodes: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        identity = self.ledger.maintenance.identity()
        self.marks = {LABEL_PREFIX: self.settings.prefix, LABEL_LEDGER: identity}
        self.label = f"{LABEL_LEDGER}={identity}"

    def node_name(self, node_id: str) -> str | None:
        """Return a node's host name; None for a node that the swarm does not know.

        Args:
            node_id: the swarm's id of it.
        """
        if node_id and node_id not in self._nodes:
            self._nodes = self.engine.node_names()
        return self._nodes.get(node_id)

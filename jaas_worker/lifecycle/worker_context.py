"""What the steps need of the worker: ledger, engine, settings and name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.model.wire_names import LABEL_LEDGER, LABEL_PREFIX
from jaas_submit.storage.store import Store
from jaas_worker.lifecycle.ports import JobLedger
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine, ResolvedImage
from jaas_worker.telemetry.metrics import Metrics
from jaas_worker.telemetry.tracing import Tracer

__all__ = ["Clock", "ImageCache", "WorkerContext"]

_IMAGES_MOST = 1000
"""Number of cached answers of registries before expired ones are dropped."""

_IMAGE_KEPT_S = 10.0
_SILENCE_KEPT_S = 60.0
"""Seconds for which a registry's answer is cached, and a missing answer."""


class Clock(NamedTuple):
    """The clock of the steps."""

    monotonic: Callable[[], float] = time.monotonic
    time: Callable[[], float] = time.time
    """Seconds since the epoch."""


class ImageCache:
    """A cache of registries' answers about images. Threads may share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None], tuple[float, ResolvedImage | None]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(
        self, image: str, registry: str | None, now: float, ask: Callable[[str, str | None], ResolvedImage | None]
    ) -> ResolvedImage | None:
        """Return the image that a tag stands for; None if no registry answers.

        Args:
            image: a reference as in a job description.
            registry: registry whose credentials are sent.
            now: the present moment, by the monotonic clock.
            ask: asks the registry, if no answer is cached.
        """
        until, found = self._known.get((image, registry), (0.0, None))
        if now >= until:
            found = ask(image, registry)
            if len(self._known) >= _IMAGES_MOST:
                for key, (over, _) in list(self._known.items()):
                    if over <= now:
                        self._known.pop(key, None)
            self._known[image, registry] = (now + (_IMAGE_KEPT_S if found else _SILENCE_KEPT_S), found)
        return found


@dataclass
class WorkerContext:
    """A worker process, as the steps see it.

    Args:
        settings: the worker's settings.
        ledger: the records.
        engine: the swarm.
        holder: name of this worker process in the ledger; no other process has ever had it.
        metrics: of this worker.
        tracer: of this worker.
        store: for large values; None if there is none.
        clock: tells the time.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """

    settings: Settings
    ledger: JobLedger
    engine: Engine
    holder: str
    metrics: Metrics
    tracer: Tracer
    store: Store | None = None
    clock: Clock = field(default_factory=Clock)
    lease_until: float = 0.0
    """When this worker's lease runs out, by the monotonic clock."""
    images: ImageCache = field(default_factory=ImageCache, init=False)
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

    def superseded(self, job_id: str, labels: Mapping[str, str]) -> bool:
        """Return whether this worker holds a job and its copy has ended it (speculation).

        Args:
            job_id: the job's id.
            labels: its place in its batch; only jobs of batches have copies.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        held = [one for one in self.ledger.queries.find([job_id]) if one.holder == self.holder] if labels else []
        return bool(held) and held[0].terminal

    def require_lease(self) -> float:
        """Return the present moment, by the monotonic clock.

        Raises:
            LedgerUnavailable: this worker's lease has expired: it was suspended, or Redis was away. Another worker may
                hold its jobs now, so the ledger has to be asked first.
        """
        now = self.clock.monotonic()
        if now >= self.lease_until:
            raise LedgerUnavailable("the lease has expired")
        return now

"""What the steps of a job's life need of the worker: the sides that it talks to, and who it is."""

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
"""Answers of registries that are kept before those that hold no longer are dropped."""

_IMAGE_KEPT_S = 10.0
_LOG_DRIVERS_KEPT_S = 10.0
_SILENCE_KEPT_S = 60.0
"""For how long a registry's answer holds, and for how long one that does not answer is not asked again."""


class Clock(NamedTuple):
    """Where the steps take the time from."""

    monotonic: Callable[[], float] = time.monotonic
    time: Callable[[], float] = time.time
    """Seconds since the epoch."""


class ImageCache:
    """What registries have said of images, for as long as it holds. Several threads may use it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None], tuple[float, ResolvedImage | None]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(
        self, image: str, registry: str | None, now: float, ask: Callable[[str, str | None], ResolvedImage | None]
    ) -> ResolvedImage | None:
        """Return what an image's tag stands for; None where no registry answers.

        Args:
            image: a reference as in a job description.
            registry: registry whose credentials go along.
            now: the present moment, by the monotonic clock.
            ask: asks the registry, where no answer is kept.
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
    """A worker process, as the steps know it.

    Args:
        settings: the worker's settings.
        ledger: the records.
        engine: the swarm.
        holder: name of this worker process in the ledger; no other process has ever had it.
        metrics: where this worker counts.
        tracer: where it traces.
        store: where large values go; None where there is no such place.
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
    _log_drivers: tuple[float, dict[str, str]] = field(default=(0.0, {}), init=False)

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

    def log_drivers(self) -> dict[str, str]:
        """Return node id -> log driver of the engines whose workers have told it.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        until, known = self._log_drivers
        if self.clock.monotonic() >= until:
            told = self.ledger.queries.workers()
            known = {one["node_id"]: one["log_driver"] for one in told if one.get("node_id") and one.get("log_driver")}
            self._log_drivers = (self.clock.monotonic() + _LOG_DRIVERS_KEPT_S, known)
        return known

    def superseded(self, job_id: str, labels: Mapping[str, str]) -> bool:
        """Return whether this worker holds a job and its copy has ended it (speculation).

        Args:
            job_id: the job's id.
            labels: what it is in its batch; only jobs of batches have copies.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        held = [one for one in self.ledger.queries.find([job_id]) if one.holder == self.holder] if labels else []
        return bool(held) and held[0].terminal

    def require_lease(self) -> float:
        """Return the present moment, by the monotonic clock.

        Raises:
            LedgerUnavailable: this worker's lease has run out: it was suspended for long, or Redis was away. Somebody
                else may have its jobs by now, so the ledger has to be asked first.
        """
        now = self.clock.monotonic()
        if now >= self.lease_until:
            raise LedgerUnavailable("the lease has run out")
        return now

"""Schedules the duties that repair what crashes leave behind. Each duty is a module of its own, with ``run_once``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, TypeVar

from jaas_submit.errors import EngineRefused, StoreUnavailable, TemporaryError
from jaas_submit.ledger import Ledger
from jaas_submit.storage.store import Store
from jaas_worker.maintenance.cancelled_batches import CancelledBatches
from jaas_worker.maintenance.cluster_facts import ClusterFacts
from jaas_worker.maintenance.dependents import Dependents
from jaas_worker.maintenance.expired_records import ExpiredRecords
from jaas_worker.maintenance.lost_messages import LostMessages
from jaas_worker.maintenance.orphans.services import OrphanServices
from jaas_worker.maintenance.paused_queue import PausedQueue
from jaas_worker.maintenance.ports import Worker
from jaas_worker.maintenance.sent_files import SentFiles
from jaas_worker.maintenance.speculation import Speculator
from jaas_worker.maintenance.unowned_jobs import UnownedJobs
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine
from jaas_worker.swarm.files.shared_configs import UnusedConfigs
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.telemetry.metrics import Metrics
from jaas_worker.tracking.subscriber import listen

__all__ = ["Reconciler", "Repairs"]

S = TypeVar("S")

logger = logging.getLogger(__name__)

_SWEEP_INTERVAL_S: Final = 30.0
"""Seconds between two rounds of the cluster-wide duties."""

_FILES_INTERVAL_S: Final = 600.0
"""Seconds between two looks for files that nobody needs; a look that is not over goes on in the next round."""

_SLOW_JOBS_INTERVAL_S: Final = 5.0
"""Seconds between two looks at the batches with speculation."""


class Repairs(NamedTuple):
    """What one round did."""

    taken_over: list[str]
    """Jobs without a live holder, and ready jobs."""
    republished: list[str]
    """QUEUED jobs whose message was lost."""
    removed: list[str]
    """Services whose attempt had ended."""
    restored: list[str]
    """Jobs whose record was lost and rebuilt from their service."""
    expired: int
    """Expired records removed from the indexes."""
    copied: list[str]
    """Jobs of batches that run for long and were started a second time (speculation)."""


class Reconciler:
    """Does each duty when it is due, on one thread; a round comes every few seconds, or when a job is published.

    Args:
        settings: intervals.
        ledger: the records.
        engine: the swarm.
        holder: this worker.
        label: selects this installation's services.
        worker: this worker, as the duties see it.
        metrics: where repairs are counted.
        store: where large values are; None where there is no such place.
        clock: returns monotonic seconds; duties are due by it.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        engine: Engine,
        holder: str,
        label: str,
        worker: Worker,
        metrics: Metrics | None = None,
        store: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._holder = holder
        self._worker = worker
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._dependents = Dependents(ledger)
        self._unowned_jobs = UnownedJobs(settings, ledger, worker)
        self._paused_queue = PausedQueue(settings, ledger, worker)
        self._lost_messages = LostMessages(settings, ledger, worker)
        self._cancelled_batches = CancelledBatches(ledger)
        self._expired_records = ExpiredRecords(ledger, store)
        self._orphan_services = OrphanServices(settings, ledger, engine, label, worker)
        self._sent_files = SentFiles(ledger, store)
        self._unused_configs = UnusedConfigs(engine, label.partition("=")[2])
        self._cluster_facts = ClusterFacts(ledger, engine)
        self._speculator = Speculator(ledger, engine.cluster)
        self._next_rules = 0.0
        self._next_lost = 0.0
        self._next_sweep = 0.0
        self._next_slow = 0.0
        self._next_files = 0.0
        self._next_configs = 0.0
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._listen = threading.Thread(target=self._listen_for_available, name="jaas-available", daemon=True)
        self._thread = threading.Thread(target=self._loop, name="jaas-reconciler", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()
        self._listen.start()

    def close(self) -> None:
        """End the threads; returns when the round that is under way is over."""
        self._closed.set()
        self._dependents.close()
        self._wake.set()
        self._thread.join(self._settings.engine_timeout)

    def run_once(self) -> Repairs:
        """Do one round.

        Raises:
            TemporaryError: Redis or the engine did not answer; the next round continues.
        """
        due = self._ledger.maintenance.due()
        if due.release_dependents:
            if not self._dependents.run_once():
                self._wake.set()
            due = due._replace(unowned=True, ready=True)  # by this
        look = self._clock() >= self._next_rules
        if look:
            self._next_rules = self._clock() + self._settings.reconcile_interval
        self._step(partial(self._paused_queue.run_once, anyway=look), None)
        if due.opening:
            if self._step(self._paused_queue.open_places, False):
                self._wake.set()
            due = due._replace(unowned=True, ready=True)  # by this
        if due.cancelling and self._ledger.maintenance.take_duty("cancel", self._holder, 2 * _SWEEP_INTERVAL_S):
            self._step(self._cancelled_batches.run_once, None)
        taken_over: list[str] = self._step(partial(self._unowned_jobs.run_once, due), [])
        republished: list[str] = []
        if self._clock() >= self._next_lost:
            self._next_lost = self._clock() + self._settings.republish_after / 4
            republished = self._step(self._lost_messages.run_once, [])
        removed: list[str] = []
        restored: list[str] = []
        expired = 0
        if self._clock() >= self._next_sweep:
            self._next_sweep = self._clock() + _SWEEP_INTERVAL_S
            if self._has_duty("sweep", 2 * _SWEEP_INTERVAL_S):
                # Parts that need no engine come first, so that a slow engine cannot delay them.
                expired = self._step(self._expired_records.run_once, 0)
                removed, restored = self._step(self._orphan_services.run_once, (removed, restored))
                self._step(self._cluster_facts.run_once, None)
                self._forget_files()
        copied: list[str] = []
        if self._clock() >= self._next_slow:
            self._next_slow = self._clock() + _SLOW_JOBS_INTERVAL_S
            if self._has_duty("speculate", 2 * _SLOW_JOBS_INTERVAL_S):
                copied = self._step(self._speculator.run_once, [])
        return Repairs(taken_over, republished, removed, restored, expired, copied)

    def _forget_files(self) -> None:
        """Forget files that nobody needs. Each place has its own time: an error in one does not keep the other."""
        if self._clock() >= self._next_files:
            self._next_files = self._clock() + _FILES_INTERVAL_S
            if not self._step(self._sent_files.run_once, True):
                self._next_files = 0.0
        if self._clock() >= self._next_configs:
            self._next_configs = self._clock() + _FILES_INTERVAL_S
            if not self._step(partial(self._unused_configs.run_once, time.time()), True):
                self._next_configs = 0.0

    def _loop(self) -> None:
        while not self._closed.is_set():
            result = "failed"
            try:
                self._count(self.run_once())
                result = "ok"
            except (TemporaryError, EngineRefused) as error:
                logger.warning("reconciling failed temporarily: %s", error, extra=action(Action.RECONCILE_FAILED))
            except Exception:  # the next round may succeed, and must happen
                logger.exception("reconciling failed", extra=action(Action.RECONCILE_FAILED))
            self._metrics.rounds.labels(result).inc()
            self._wake.wait(self._settings.reconcile_interval)
            self._wake.clear()

    def _listen_for_available(self) -> None:
        """Start a round early when a job may be started or taken over at once."""
        missed = partial(self._noticed, "rules")
        listen("jobs to be taken up", self._ledger.maintenance.available, self._noticed, self._closed, missed)

    def _noticed(self, notice: str) -> None:
        self._paused_queue.note(notice)
        self._wake.set()

    def _count(self, repairs: Repairs) -> None:
        for kind, done in repairs._asdict().items():
            if done:
                self._metrics.repairs.labels(kind).inc(done if isinstance(done, int) else len(done))

    def _step(self, call: Callable[[], S], nothing: S) -> S:
        """Do a part of a round; neither a store that is away nor an unexpected error prevents the other parts."""
        try:
            return call()
        except StoreUnavailable as error:
            logger.warning("a part of reconciling waits: %s", error, extra=action(Action.RECONCILE_FAILED))
            return nothing
        except (TemporaryError, EngineRefused):
            raise
        except Exception:
            logger.exception("a part of reconciling failed", extra=action(Action.RECONCILE_FAILED))
            return nothing

    def _has_duty(self, name: str, ttl: float) -> bool:
        """Take or keep a cluster-wide duty that needs the engine; False when another worker has it.

        A worker whose engine is away takes none, and gives up the one that it has by not renewing it.

        Args:
            name: the duty.
            ttl: seconds after which another worker may take it, unless this one has renewed it.
        """
        return not self._worker.away() and self._ledger.maintenance.take_duty(name, self._holder, ttl)

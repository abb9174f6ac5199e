"""Repairs what crashes leave behind: jobs without a holder, lost messages, services nobody removed, old indexes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, TypeVar

from jaas_submit.errors import EngineRefused, TemporaryError, UnknownJob, UnreadableRecord
from jaas_submit.ledger import Due, Ledger
from jaas_submit.ledger.batch_cancellation import cancel_jobs
from jaas_submit.storage.store import Store
from jaas_worker.maintenance.orphan_services import OrphanServices
from jaas_worker.maintenance.speculation import Speculator
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine
from jaas_worker.telemetry.logging_setup import Action, action
from jaas_worker.telemetry.metrics import Metrics
from jaas_worker.tracking.subscriber import listen

__all__ = ["Reconciler", "Repairs"]

S = TypeVar("S")

logger = logging.getLogger(__name__)

_SWEEP_INTERVAL_S = 30.0
"""Seconds between two rounds of the duties that one worker does for all."""

_SLOW_JOBS_INTERVAL_S = 5.0
"""Seconds between two looks at the batches whose slowest jobs may be started a second time."""

_MAX_DEPENDENT_CHUNKS = 40
"""How many times in one round what comes after ended jobs is gone on with, by some 250 jobs each time."""

_SWEEP_TIME_S = 1.0
"""Seconds after which a round looks for no further expired records: it goes on there the next time."""

_EXPIRED_PER_CALL = 1000
"""Expired records that leave the indexes in one call; Redis serves nobody else for some 10 ms."""

_MAX_READY_PER_ROUND = 500
"""Jobs that nobody has begun with, and that come without a message, which a round takes at most."""

_SLOW_ENGINE_FACTOR = 50
"""What takes the engine long is done again only after so many times as long."""


class Repairs(NamedTuple):
    """What one round did."""

    taken_over: list[str]
    """Jobs whose holder was gone, and QUEUED ones that came after others."""
    republished: list[str]
    """QUEUED jobs whose message was lost."""
    removed: list[str]
    """Services whose attempt had ended."""
    restored: list[str]
    """Jobs whose record was lost and made again from their service."""
    expired: int
    """Expired records removed from the indexes."""
    copied: list[str]
    """Jobs of batches that run for long and were started a second time (speculation)."""


class Reconciler:
    """One duty of every worker, every few seconds.

    Args:
        settings: intervals.
        ledger: the records.
        engine: the swarm.
        holder: this worker.
        label: selects this installation's services.
        inject: hands a job to this worker's own pool, as if its message had arrived.
        let_go: gives up what this worker holds by the ledger and does not know.
        knows: tells whether this worker has a job in its hands already.
        follows: tells whether a service (by its name) is the one that this worker follows for a job (by its id).
        have_ended: is told of jobs whose end is written down, so that no place in the swarm is kept for them.
        room: how many more jobs this worker would take now.
        away: whether this worker's engine is of no use now, so that jobs which need it are left to others.
        queue_length: how many messages wait in a queue.
        metrics: where repairs are counted.
        store: where large values are, whose files go with the records; None where there is no such place.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        engine: Engine,
        holder: str,
        label: str,
        *,
        inject: Callable[[str], None],
        knows: Callable[[str], bool],
        follows: Callable[[str, str], bool],
        have_ended: Callable[[list[str]], None],
        let_go: Callable[[], list[str]],
        room: Callable[[], int],
        away: Callable[[], bool],
        queue_length: Callable[[str], int],
        metrics: Metrics | None = None,
        store: Store | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._ledger = ledger
        self._engine = engine
        self._holder = holder
        self._inject = inject
        self._knows = knows
        self._orphan_services = OrphanServices(settings, ledger, engine, label, follows)
        self._have_ended = have_ended
        self._let_go = let_go
        self._room = room
        self._away = away
        self._queue_length = queue_length
        self._metrics = metrics or Metrics()
        self._next_sweep = 0.0
        self._next_cluster = 0.0
        self._next_ring = 0.0
        self._next_own = 0.0
        self._next_slow = 0.0
        self._speculator = Speculator(ledger, engine.cluster)
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._listen = threading.Thread(target=self._listen_for_available, name="jaas-available", daemon=True)
        self._thread = threading.Thread(target=self._loop, name="jaas-reconciler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._listen.start()

    def close(self) -> None:
        """End the thread; returns when the round that is under way is over."""
        self._closed.set()
        self._wake.set()
        self._thread.join(self._settings.engine_timeout)

    def _loop(self) -> None:
        while not self._closed.is_set():
            result = "failed"
            try:
                self._count(self.run_once())
                result = "ok"
            except (TemporaryError, EngineRefused) as error:
                logger.warning("reconciling failed for now: %s", error, extra=action(Action.RECONCILE_FAILED))
            except Exception:  # the next round may work, and it must come
                logger.exception("reconciling failed", extra=action(Action.RECONCILE_FAILED))
            self._metrics.rounds.labels(result).inc()
            self._wake.wait(self._settings.reconcile_interval)
            self._wake.clear()

    def _listen_for_available(self) -> None:
        """Begin a round early when a job may be started or taken over at once."""
        listen("jobs to be taken up", self._ledger.maintenance.available, lambda _: self._wake.set(), self._closed)

    def _count(self, repairs: Repairs) -> None:
        for kind, done in repairs._asdict().items():
            if done:
                self._metrics.repairs.labels(kind).inc(done if isinstance(done, int) else len(done))

    def run_once(self) -> Repairs:
        """Do one round.

        Raises:
            TemporaryError: Redis or the engine did not answer; the next round goes on from there.
        """
        due = self._ledger.maintenance.due()
        if due.release_dependents:
            self._settle_rest()
            due = due._replace(unowned=True, ready=True)  # by this
        taken_over: list[str] = self._step(partial(self._take_over, due), [])
        republished: list[str] = []
        if time.monotonic() >= self._next_ring:
            self._next_ring = time.monotonic() + self._settings.republish_after / 4
            republished = self._step(self._republish_lost, [])
        removed: list[str] = []
        restored: list[str] = []
        expired = 0
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_INTERVAL_S
            if self._has_duty("sweep", 2 * _SWEEP_INTERVAL_S):
                # What needs no engine comes first: nothing that the engine does may keep it from being done.
                self._step(self._cancel_batches, None)
                expired = self._step(self._remove_expired, 0)
                removed, restored = self._step(self._orphan_services.settle, (removed, restored))
                self._step(self._tell_cluster, None)
        copied: list[str] = []
        if time.monotonic() >= self._next_slow:
            self._next_slow = time.monotonic() + _SLOW_JOBS_INTERVAL_S
            if self._has_duty("speculate", 2 * _SLOW_JOBS_INTERVAL_S):
                copied = self._step(self._speculator.run_once, [])
        return Repairs(taken_over, republished, removed, restored, expired, copied)

    def _step(self, call: Callable[[], S], nothing: S) -> S:
        """Do a part of a round; an error that nobody expected does not keep the other parts from their turn."""
        try:
            return call()
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
        return not self._away() and self._ledger.maintenance.take_duty(name, self._holder, ttl)

    def _settle_rest(self) -> None:
        """Start or skip what comes after jobs that have ended, where there was too much of it for one step."""
        for _ in range(_MAX_DEPENDENT_CHUNKS):
            if not self._ledger.maintenance.release_dependents() or self._closed.is_set():
                return
        self._wake.set()

    def _remove_expired(self) -> int:
        """Remove expired records from the indexes: as many as the time allows."""
        expired = 0
        until = time.monotonic() + _SWEEP_TIME_S
        while True:
            if self._store is not None:  # first its files: the index is what names them
                self._store.remove(self._ledger.maintenance.expired(_EXPIRED_PER_CALL))
            gone = self._ledger.maintenance.sweep(_EXPIRED_PER_CALL)
            expired += gone
            if gone < _EXPIRED_PER_CALL or time.monotonic() > until:
                return expired

    def _tell_cluster(self) -> None:
        """Tell the ledger what the nodes have to offer; with very many tasks less often, since all are asked for."""
        started = time.monotonic()
        if started >= self._next_cluster:
            self._ledger.maintenance.save_cluster(self._engine.cluster())
            self._next_cluster = time.monotonic() + _SLOW_ENGINE_FACTOR * (time.monotonic() - started)

    def _take_over(self, due: Due) -> list[str]:
        """Go on with jobs whose holder's lease has run out, or who were handed over, or that came after others."""
        if due.reap:
            self._ledger.maintenance.reap()
        if time.monotonic() >= self._next_own:
            self._next_own = time.monotonic() + self._settings.lease / 3
            if self._let_go():
                due = due._replace(unowned=True)
        for job_id in self._ledger.maintenance.end_overdue() if due.end_overdue else ():
            logger.info("job %s: not started in time", job_id, extra=action(Action.JOB_OVERDUE, job_id=job_id))
        # Without an engine this worker is of use only to jobs that have ended, of which Celery has to hear.
        away = self._away()
        found: list[str] = []
        if due.unowned or due.reap or due.end_overdue:
            found = self._ledger.maintenance.unowned(pause=0.0 if away else self._settings.lease)
        if found:
            records = self._ledger.queries.find(found)
            for job_id in set(found) - {record.id for record in records}:
                self._ledger.maintenance.set_aside(job_id)
            ended = [record.id for record in records if record.terminal]
            self._have_ended(ended)
            found = ended if away else [record.id for record in records]
        # Those that nobody has begun with wait in Redis while all workers are full; there may be any number of them.
        most = min(self._room(), _MAX_READY_PER_ROUND)
        if (due.ready or due.end_overdue or found) and most > 0 and not away:
            found += self._ledger.maintenance.ready(self._settings.lease, most)
        return self._take(found)

    def _cancel_batches(self) -> None:
        """Tell the jobs of cancelled batches of it, where the one who cancelled them died before that."""
        for batch_id in self._ledger.batches.cancelling():
            try:
                cancel_jobs(self._ledger, batch_id)
            except (UnknownJob, UnreadableRecord):  # expired, or named in the log: there is nothing to go by
                self._ledger.batches.cancellation_done(batch_id)

    def _republish_lost(self) -> list[str]:
        """Take QUEUED jobs whose message must have been lost."""
        most = self._room()
        if most <= 0:
            return []
        queue = self._settings.queue
        after = self._settings.republish_after
        return self._take(
            self._ledger.maintenance.lost_messages(queue, after, 3 * after, most, empty=not self._queue_length(queue))
        )

    def _injected(self, job_id: str) -> bool:
        """Take one job; False where that does not work: the others shall have their turn."""
        try:
            self._inject(job_id)
        except TemporaryError:
            raise
        except UnknownJob:  # expired just now
            return False
        except Exception as error:
            if not isinstance(error, UnreadableRecord):  # which the ledger has named
                logger.exception("job %s cannot be taken", job_id, extra=action(Action.STEP_FAILED, job_id=job_id))
            self._ledger.maintenance.set_aside(job_id)
            return False
        return True

    def _take(self, job_ids: Iterable[str]) -> list[str]:
        taken = [job_id for job_id in job_ids if not self._knows(job_id) and self._injected(job_id)]
        if taken:
            logger.info(
                "took %d jobs that nobody held: %s",
                len(taken),
                ", ".join(taken[:5]),
                extra=action(Action.RECONCILE_TOOK_OVER),
            )
        return taken

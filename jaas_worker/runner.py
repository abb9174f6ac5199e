"""The life of a job in this worker: claim, launch, track, finish, report. Knows the ledger and the engine, not Celery.

Each step is idempotent and is repeated after a TemporaryError; what happens when the worker dies between two lines is
told in docs/guarantees.md. The order within a step is what makes it safe:

* claim:   the ledger names this worker before the message is acknowledged.        launching.py
* launch:  the ledger says LAUNCHING before the service is created, and the
           service's name admits one only.                                         launching.py
* track:   what the swarm shows is brought into the ledger; what is overdue ends.  watching.py, stopping.py
* finish:  outcome and logs are in the ledger before the service is removed.       finishing.py
* report:  Celery has the result before the ledger forgets that somebody has to
           bring it there.                                                         finishing.py
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from jaas_submit.errors import LedgerUnavailable, TemporaryError
from jaas_submit.ledger import Ledger
from jaas_submit.store import Store
from jaas_worker.context import Context
from jaas_worker.engine import Engine
from jaas_worker.entry import Phase
from jaas_worker.failpoints import failpoint
from jaas_worker.finishing import Finishing
from jaas_worker.inflight import InFlight
from jaas_worker.launching import Launching
from jaas_worker.logsetup import Action, action
from jaas_worker.metrics import Metrics
from jaas_worker.neighbours import Neighbours
from jaas_worker.settings import Settings
from jaas_worker.stopping import Stopping
from jaas_worker.tracing import make_tracer
from jaas_worker.tracker import Tracker
from jaas_worker.watching import Watching

__all__ = ["Runner"]

logger = logging.getLogger(__name__)

_HAND_OVER_PATIENCE = 3.0
"""Seconds that a shutdown waits for calls to the engine that are under way."""


class Runner:
    """Runs jobs.

    Args:
        settings: the worker's settings.
        ledger: the records.
        engine: the swarm.
        holder: name of this worker process in the ledger; no other process has ever had it.
        metrics: where this worker counts.
        store: where large values go; None where there is no such place.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        engine: Engine,
        holder: str,
        metrics: Metrics | None = None,
        store: Store | None = None,
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.engine = engine
        self.holder = holder
        self.metrics = metrics or Metrics()
        self.store = store
        context = Context(settings, ledger, engine, holder, self.metrics, make_tracer(settings.traces), store)
        self.label = context.label
        self._tracer = context.tracer
        self._tracker = Tracker(engine, context.label, settings)
        self._flight = InFlight(context, self._tracker)
        finishing = Finishing(context, self._flight)
        self._stopping = Stopping(context, self._flight, finishing)
        self._launching = Launching(context, self._flight, finishing, self._stopping, self._tracker)
        self._neighbours = Neighbours(context, self._flight, self._tracker)
        self._watching = Watching(context, self._flight, finishing, self._stopping, self._neighbours)
        self._on_defect = finishing.defect
        self._on_superseded = finishing.superseded
        self.take = self._flight.take
        self.have_ended = self._flight.have_ended
        self.hold = self._flight.hold
        self.knows = self._flight.knows
        self.follows = self._flight.follows
        self.stats = self._flight.stats
        self.cancel = self._stopping.cancel

    def start(self) -> None:
        """Take the lease and start all threads. With Redis away they wait for it."""
        try:
            self.renew_lease({})
        except LedgerUnavailable as error:
            logger.warning("no lease yet: %s", error, extra=action(Action.LEASE_NOT_RENEWED))
        self._flight.start(self._launching.claim, self._on_defect, self._on_superseded)
        self._tracker.start(self._watching)
        self._stopping.start()
        self._neighbours.start()

    def let_go_of_unknown(self) -> list[str]:
        """Give up jobs that the ledger says this worker holds, and of which it knows nothing; return their ids.

        That happens when Redis comes back older than it was, or when a step was broken off for good.
        """
        unknown = [
            job_id for job_id in self.ledger.ownership.held_by(self.holder) if job_id not in self._flight.entries
        ]
        return [job_id for job_id in unknown if self.ledger.ownership.release(job_id, self.holder)]

    def background(self, call: Callable[[], None]) -> None:
        """Have a short call made on one of this worker's own threads; it is repeated while Redis does not answer."""

        def run() -> None:
            try:
                call()
            except TemporaryError as error:
                logger.warning("%s; trying again", error, extra=action(Action.STEP_REPEATED))
                self._flight.call_later(1.0, lambda: self.background(call))

        self._flight.submit(run)

    def renew_lease(self, info: dict[str, Any]) -> None:
        """Tell the ledger that this worker is alive.

        Args:
            info: what the worker says about itself.

        Raises:
            LedgerUnavailable: Redis does not answer; the lease runs out unless a later call gets through.
        """
        asked = time.monotonic()
        kept = self.ledger.maintenance.renew_lease(self.holder, self.settings.lease, info)
        self.metrics.lease_renewals.labels("ok" if kept else "lost").inc()
        if not kept:
            logger.warning(
                "the lease had run out; jobs of this worker may have been taken over by others",
                extra=action(Action.LEASE_LOST),
            )
        self._launching.lease_until = asked + self.settings.lease

    def look_around(self) -> None:
        """Learn how many nodes and workers there are.

        Raises:
            LedgerUnavailable: Redis does not answer; what was known before holds on.
        """
        cluster = self.ledger.queries.cluster()
        known = cluster.nodes if cluster else ()
        takers = [node for node in known if node.state == "ready" and node.availability == "active"]
        self._tracker.nodes_are(node.id for node in known)
        self._flight.share(len(takers), len(self.ledger.queries.workers()))

    def hand_over(self) -> None:
        """Let go of every job (shutdown): containers go on, and another worker follows them to their end."""
        self._flight.begin_to_close()
        self._stopping.close()
        self._neighbours.close()
        self._tracker.close()
        # What is being written down right now shall be done, but the next worker must not wait for a hanging call.
        self._flight.close(_HAND_OVER_PATIENCE)
        released = 0
        try:
            for entry in list(self._flight.entries.values()):
                if entry.accepted and entry.phase is not Phase.GONE:
                    failpoint("release.before")
                    released += self.ledger.ownership.release(entry.job_id, self.holder)
                    failpoint("release.after")
            self.ledger.maintenance.drop_lease(self.holder)
        except LedgerUnavailable as error:
            logger.warning(
                "not all jobs could be handed over; the lease will run out: %s",
                error,
                extra=action(Action.LEASE_NOT_RENEWED),
            )
        self._tracer.close()
        logger.info(
            "handed over %d jobs; their containers go on",
            released,
            extra=action(Action.WORKER_HANDED_OVER, jobs=released),
        )

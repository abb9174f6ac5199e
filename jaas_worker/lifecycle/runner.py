"""The life of a job in this worker: claim, launch, track, finish, report. Knows the ledger and the engine, not Celery.

Each step is idempotent and is repeated after a TemporaryError; what happens when the worker dies between two lines is
described in docs/guarantees.md. The order within a step is what makes it safe:

* claim:   the ledger names this worker before the message is acknowledged.        claim.py
* launch:  the ledger says LAUNCHING before the service is created, and the
           service's name admits one only.                                         launch.py
* track:   what the swarm shows is recorded; what is overdue is ended.  decisions/task_outcome.py, stop.py
* finish:  outcome and logs are in the ledger before the service is removed.       finish.py
* report:  Celery has the result before the ledger marks it as reported.
          finish.py
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from jaas_submit.errors import LedgerUnavailable, TemporaryError
from jaas_submit.ledger import Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.policy.document import Policy
from jaas_submit.signing import NO_GATE, Gate
from jaas_submit.storage.store import Store
from jaas_worker.decisions.task_outcome import StopRequest
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle.job_table import JobTable
from jaas_worker.lifecycle.notices import Cancellations, ExitNotices
from jaas_worker.lifecycle.step_executor import StepExecutor
from jaas_worker.lifecycle.tracked_job import Phase
from jaas_worker.lifecycle.worker_context import Clock, NoOutputs, Outputs, WorkerContext
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.telemetry.metrics import Metrics
from jaas_worker.telemetry.tracing import make_tracer
from jaas_worker.tracking.tracked_service import Seen, ServiceRef
from jaas_worker.tracking.tracker import Tracker

__all__ = ["Runner"]

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 3.0
"""How long a shutdown waits for running calls to the engine, in seconds."""


class Runner:
    """Runs jobs.

    Args:
        settings: the worker's settings.
        ledger: the records.
        engine: the swarm.
        holder: name of this worker process in the ledger; no other process has ever had it.
        metrics: of this worker.
        store: for large values; None if there is none.
        clock: tells the time.
        outputs: what agents found; None if there are no agents.
        policy: what jobs may ask for; None: what the settings say.
        signatures: asked of each job's signature.

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
        clock: Clock | None = None,
        outputs: Outputs | None = None,
        policy: Policy | None = None,
        signatures: Gate = NO_GATE,
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.engine = engine
        self.holder = holder
        self.metrics = metrics or Metrics()
        self.store = store
        tracer = make_tracer(settings.traces)
        sides = (store, clock or Clock(), outputs or NoOutputs(), policy, signatures)
        self._world = WorkerContext(settings, ledger, engine, holder, self.metrics, tracer, *sides)
        self.label = self._world.label
        self._table = JobTable(settings.max_in_flight, settings.max_starting)
        self._tracker = Tracker(engine, self.label, settings)
        self._executor = StepExecutor(self._world, self._table, self._tracker)
        self._cancellations = Cancellations(ledger, holder, self._table, self._executor)
        self._exits = ExitNotices(ledger, self._tracker)
        self.take = self._table.take
        self.have_ended = self._table.have_ended
        self.follows = self._table.follows
        self.stats = self._table.stats

    def start(self) -> None:
        """Take the lease and start all threads. If Redis does not answer, they start anyway and wait for it."""
        try:
            self.renew_lease({})
        except LedgerUnavailable as error:
            logger.warning("no lease yet: %s", error, extra=action(Action.LEASE_NOT_RENEWED))
        self._executor.start()
        self._tracker.start(_Listener(self._executor, self._cancellations))
        self._cancellations.start()
        self._exits.start()
        self._world.outputs.start()

    def knows(self, job_id: str) -> bool:
        """Return whether this worker has the job, in flight or in its launch queue."""
        return job_id in self._table

    def hold(self, yes: bool) -> None:
        """Stop or resume starting new jobs; when stopped, leave the waiting ones to other workers.

        Args:
            yes: whether to stop.
        """
        if returned := self._table.hold(yes):
            self.background(lambda: self.ledger.ownership.offer(returned))

    def running_service(self, job_id: str) -> tuple[str, int, str, bool] | None:
        """Return service id, attempt, node id, and whether output is scrubbed, of a job of this worker whose container
        runs; None of another."""
        job = self._table.get(job_id)
        if job is None or job.service is None or not job.running or job.node is None:
            return None
        scrubbed = job.spec is not None and job.spec.scrub and bool(job.spec.env_secrets)
        return job.service.id, job.attempt, self._world.node_id(job.node), scrubbed

    def cancel(self, job_id: str, why: str) -> None:
        """Have a job of this worker stopped; the ledger's record says so already.

        Args:
            job_id: the job's id; unknown ones are ignored.
            why: the reason.
        """
        self._executor.stop(job_id, StopRequest(Cause.CANCELLED, why))

    def let_go_of_unknown(self) -> list[str]:
        """Release jobs that this worker holds by the ledger but does not know; return their ids.

        That happens when Redis comes back with older data, or when a step was abandoned.
        """
        unknown = [job_id for job_id in self.ledger.ownership.held_by(self.holder) if job_id not in self._table]
        return [job_id for job_id in unknown if self.ledger.ownership.release(job_id, self.holder)]

    def background(self, call: Callable[[], None]) -> None:
        """Run a short call on a thread of this worker; it is repeated while Redis does not answer."""

        def run() -> None:
            try:
                call()
            except TemporaryError as error:
                logger.warning("%s; trying again", error, extra=action(Action.STEP_REPEATED))
                self._executor.call_later(1.0, lambda: self.background(call))

        self._executor.submit(run)

    def renew_lease(self, info: dict[str, Any]) -> None:
        """Tell the ledger that this worker is alive.

        Args:
            info: the worker's report about itself.

        Raises:
            LedgerUnavailable: Redis does not answer; the lease runs out unless a later call gets through.
        """
        asked = self._world.clock.monotonic()
        kept = self.ledger.maintenance.renew_lease(self.holder, self.settings.lease, info)
        self.metrics.lease_renewals.labels("ok" if kept else "lost").inc()
        if not kept:
            logger.warning(
                "the lease had expired; other workers may have taken over jobs of this worker",
                extra=action(Action.LEASE_LOST),
            )
        self._world.lease_until = asked + self.settings.lease

    def look_around(self) -> None:
        """Update the numbers of nodes and workers.

        Raises:
            LedgerUnavailable: Redis does not answer; the numbers stay unchanged.
        """
        cluster = self.ledger.queries.cluster()
        known = cluster.nodes if cluster else ()
        takers = [node for node in known if node.state == "ready" and node.availability == "active"]
        self._tracker.nodes_are(node.id for node in known)
        self._table.share(len(takers), len(self.ledger.queries.workers()))

    def hand_over(self) -> None:
        """Release every job (shutdown): containers go on, and other workers adopt the jobs."""
        self._table.close()
        self._cancellations.close()
        self._exits.close()
        self._tracker.close()
        self._world.outputs.close()
        # Writes in progress should finish, but the next worker must not wait for a hanging call.
        self._executor.close(_CLOSE_TIMEOUT_S)
        released = 0
        try:
            self.ledger.ownership.offer([job.job_id for job in self._table if not job.accepted])
            for job in self._table:
                if job.accepted and job.phase is not Phase.GONE:
                    failpoint("release.before")
                    released += self.ledger.ownership.release(job.job_id, self.holder)
                    failpoint("release.after")
            self.ledger.maintenance.drop_lease(self.holder)
        except LedgerUnavailable as error:
            logger.warning(
                "not all jobs could be released; the lease will expire: %s",
                error,
                extra=action(Action.LEASE_NOT_RENEWED),
            )
        self._world.tracer.close()
        logger.info(
            "released %d jobs; their containers go on",
            released,
            extra=action(Action.WORKER_HANDED_OVER, jobs=released),
        )


class _Listener:
    """Passes the tracker's observations of services to the executor."""

    def __init__(self, executor: StepExecutor, cancellations: Cancellations) -> None:
        self._executor = executor
        self._cancellations = cancellations

    def observed(self, service: ServiceRef, seen: Seen) -> None:
        self._executor.observed(service, seen)

    def overdue(self) -> None:
        self._cancellations.check()
        self._executor.check_overdue()

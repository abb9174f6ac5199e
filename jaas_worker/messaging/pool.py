"""The Celery pool whose processes are containers: `jaas.run` occupies no thread while its container runs.

Celery hands each request to ``on_apply`` with its callbacks and expects: the accept callback when the work begins, the
task body ("trace") to be run, and the callback with what the trace returned. Here the accept callback comes when the
ledger names this worker as the job's holder, and the trace runs when the container has ended. Everything else about
a task - STARTED, results, callbacks, chords, events, `inspect active`, revoke and terminate - stays Celery's own.

All callbacks of Celery are made on its event loop's thread: its bookkeeping is not thread-safe.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from celery.concurrency.base import BasePool, apply_target
from celery.worker import state as worker_state

from jaas_submit.errors import JaasError, LedgerUnavailable, UnknownJob, UnreadableRecord
from jaas_submit.ledger import ClaimAction
from jaas_submit.messaging.queues import lists_of
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import TASK_RUN, job_id_of
from jaas_worker.lifecycle.runner import Runner
from jaas_worker.maintenance.lease import Lease
from jaas_worker.maintenance.reconciler import Reconciler
from jaas_worker.messaging import kept_messages
from jaas_worker.messaging.delivery import CeleryDelivery
from jaas_worker.messaging.event_loop import LoopCalls
from jaas_worker.settings import Settings
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.tracking.engine_health import EngineHealth

__all__ = ["TaskPool"]

logger = logging.getLogger(__name__)

_WAITS = frozenset({JobState.WAITING, JobState.QUEUED, JobState.BACKOFF})
"""States of a job without a holder."""


class TaskPool(BasePool):
    """Runs `jaas.run` as swarm services, and any other task in a few threads.

    Needs ``app.jaas`` (``jaas_worker.app.Parts``), which ``create_app`` sets.
    """

    signal_safe = False
    body_can_be_buffer = True
    task_join_will_block = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parts = self.app.jaas
        self.settings: Settings = parts.settings
        self.runner: Runner = self._when_reachable(parts.make_runner)
        self.pids = itertools.count(1)
        self._threads = ThreadPoolExecutor(self.settings.task_threads, thread_name_prefix="jaas-task")
        self._stop_monitor: Callable[[], None] = lambda: None
        self._loop_calls = LoopCalls()
        self.on_loop = self._loop_calls.make
        self.wait_on_loop = self._loop_calls.make_and_wait
        self.watch = EngineHealth(self.runner.engine, self.settings.idle_interval, self._engine_changed)
        self._lease = Lease(self.settings, self.runner, partial(parts.about, self.runner), parts.metrics)
        self.knows = self.runner.knows
        self.follows = self.runner.follows
        self.have_ended = self.runner.have_ended
        self.let_go_of_unknown = self.runner.let_go_of_unknown
        self.reconciler = Reconciler(
            self.settings,
            self.runner.ledger,
            self.runner.engine,
            self.runner.holder,
            self.runner.label,
            self,
            parts.metrics,
            self.runner.store,
        )
        self.consumer: Any = None
        self._queue_paused = False
        self._holding = threading.Lock()

    @staticmethod
    def _when_reachable(make: Callable[[], Runner]) -> Runner:
        """Return a runner; wait while Redis does not answer, and refuse an unhealthy engine."""
        while True:
            try:
                return make()
            except LedgerUnavailable as error:
                # An outage, not a defect: one line is enough.
                logger.error("waiting: %s", error, extra=action(Action.REDIS_UNAVAILABLE))  # noqa: TRY400 (no traceback)
                worker_state.maybe_shutdown()
                time.sleep(2.0)
            except JaasError as error:
                raise SystemExit(f"jaas: {error}") from error

    # -- Celery's side ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        self.runner.start()
        self._lease.start()
        self._stop_monitor = self.app.jaas.monitor(self.runner, partial(self.queue_length, self.settings.queue))

    def attach(self, consumer: Any) -> None:
        """Keep the consumer, whose strategies turn a message into a request; called when it is ready."""
        first = self.consumer is None
        self.consumer = consumer
        if first:
            self.watch.start()
            self.reconciler.start()

    def on_apply(self, target: Any, args: Any = None, kwargs: Any = None, **callbacks: Any) -> None:
        if args[0] != TASK_RUN:
            self._apply_plain(target, args, kwargs, callbacks)
            return
        delivery = CeleryDelivery(self, next(self.pids), target, args, callbacks)
        earlier = self.runner.take(delivery)
        if isinstance(earlier, CeleryDelivery):
            delivery.replaces(earlier)

    def _apply_plain(self, target: Any, args: Any, kwargs: Any, callbacks: dict[str, Any]) -> None:
        def accept(pid: int, accepted: float) -> None:
            self.on_loop(partial(callbacks["accept_callback"], pid, accepted))

        def done(result: Any) -> None:
            self.on_loop(partial(callbacks["callback"], result))

        self._threads.submit(apply_target, target, args, kwargs, done, accept)

    def terminate_job(self, pid: int, signal: Any = None) -> None:  # noqa: ARG002 (Celery's signature)
        """Cancel the job of an accepted request: Celery's revoke(terminate=True), Flower's Terminate."""
        for request in list(worker_state.active_requests):
            if request.worker_pid == pid and request.name == TASK_RUN:
                self.cancel(job_id_of(request.id), "terminated through Celery")

    def cancel(self, job_id: str, why: str) -> None:
        """Cancel a job durably; the ledger's notice makes its holder stop the container."""

        def write() -> None:
            with contextlib.suppress(UnknownJob, UnreadableRecord):
                self.runner.ledger.submission.cancel(job_id, why)
            self.runner.cancel(job_id, why)

        self.runner.background(write)

    def withdraw(self, job_id: str, *, terminate: bool) -> None:
        """Cancel a job durably, if it waits.

        Args:
            job_id: the job's id.
            terminate: also one that is being launched or runs. Celery informs its holder; a worker that adopts the job
                reads it in the ledger.
        """

        def write() -> None:
            ledger = self.runner.ledger
            if ledger.submission.revoke(job_id):  # its message has not arrived
                return
            with contextlib.suppress(UnknownJob, UnreadableRecord):
                if ledger.queries.get(job_id).state in _WAITS:
                    ledger.submission.cancel(job_id, "revoked through Celery")
                elif terminate:
                    ledger.submission.cancel(job_id, "terminated through Celery")

        self.runner.background(write)

    def discarded(self, task_id: str, why: str, *, foreign: bool) -> None:
        """Cancel a job whose message Celery has discarded, with REVOKED in its result backend.

        Args:
            task_id: Celery's task id.
            why: it was discarded, for people.
            foreign: whether somebody else's app has sent the message, whose job may have no record yet.
        """
        job_id = job_id_of(task_id)

        def write() -> None:
            ledger = self.runner.ledger
            if foreign:  # without a description: should this process die right here, the job must not be run
                ledger.submission.create(job_id, None, self.settings.queue, task_id)
            with contextlib.suppress(UnknownJob, UnreadableRecord):
                if ledger.queries.get(job_id).state not in _WAITS:
                    return  # it was a duplicate; the job has been launched, and stopping it needs terminate
                state, done = ledger.submission.cancel(job_id, why)
                # Celery already has the outcome, so no report is needed.
                over = done or state is JobState.CANCELLED
                if over and ledger.ownership.claim(job_id, self.runner.holder).action is ClaimAction.REPLAY:
                    ledger.ownership.mark_reported(job_id, self.runner.holder)

        self.runner.background(write)

    def on_stop(self) -> None:
        """Release the jobs: containers go on, and other workers adopt them."""
        self._lease.close()
        self._stop_monitor()
        self.watch.close()
        if self.consumer is not None:
            self.reconciler.close()
        self._threads.shutdown(wait=True)
        self._loop_calls.run()  # the event loop has ended; what is still due is done here
        self.runner.hand_over()
        self._loop_calls.run()

    def on_terminate(self) -> None:
        self.on_stop()

    def register_with_event_loop(self, loop: Any) -> None:
        self._loop_calls.register(loop)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc] # not in the stubs
        return {**info, "jaas": {"holder": self.runner.holder, **self.runner.stats()}}

    # -- what maintenance sees of it (maintenance.ports.Worker) ------------------------------------------------------

    def inject(self, job_id: str) -> None:
        """Take a job as if its message had just arrived, without using the queue."""
        record = self.runner.ledger.queries.get(job_id)
        message = kept_messages.message_for(record, self.runner.ledger.ownership.foreign_message(job_id))
        self.on_loop(partial(self._inject_now, message))

    def _inject_now(self, message: Any) -> None:
        strategy = self.consumer.strategies[TASK_RUN]
        strategy(message, None, _nothing, _nothing, ())

    def _engine_changed(self, away: bool) -> None:
        """Take no messages while the engine is away, and return those that were not started."""
        self.runner.metrics.engine_up.set(not away)
        self._hold_or_take()
        self.runner.hold(away)

    def hold_messages(self, yes: bool) -> None:
        """Take no messages while the queue is paused."""
        self._queue_paused = yes
        self._hold_or_take()

    def _hold_or_take(self) -> None:
        # Both reasons are read here, whichever thread has changed one.
        with self._holding:
            self.consumer.hold(bool(self.watch.away) or self._queue_paused)
        self._loop_calls.wake()

    def away(self) -> bool:
        """Return whether this worker's engine is of no use now."""
        return bool(self.watch.away)

    def room(self) -> int:
        """Return how many further messages this worker has room for."""
        if self.watch.away:
            return 0
        return int(self.limit) - self.runner.stats()["waiting"]

    def queue_length(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        return self.runner.ledger.queries.queue_length(lists_of(queue))


def _nothing(*_: Any) -> None:
    """There is no broker message to acknowledge or reject."""

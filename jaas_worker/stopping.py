"""Ends attempts before their time: cancellations, time-outs, deadlines, nodes that stay away."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from functools import partial
from math import inf

from jaas_submit.errors import EngineRefused, LedgerUnavailable, TemporaryError
from jaas_submit.logs import Logs, LogStatus
from jaas_submit.states import Cause, JobState
from jaas_worker.context import Context
from jaas_worker.entry import Entry, Phase
from jaas_worker.failpoints import failpoint
from jaas_worker.finishing import Finishing
from jaas_worker.inflight import InFlight
from jaas_worker.listening import listen
from jaas_worker.logsetup import Action, about_job, action
from jaas_worker.observe import StopRequest, attempt_task, lost_outcome, waiting_reason

__all__ = ["Stopping"]

logger = logging.getLogger(__name__)

_LOST_AFTER = 60.0
"""Seconds a node must be down before on_node_lost retry or fail acts, unless the job says otherwise."""


_LOOK_AFTER = 5.0
"""Seconds after which the times of a job in flight are compared once more."""


def _due_at(entry: Entry, stop_timeout: float) -> float:
    """Return the moment, by the monotonic clock, before which there is nothing to check of an attempt in flight.

    Args:
        entry: the job; its phase is TRACKED.
        stop_timeout: seconds beyond its grace that a stop may take.
    """
    spec = entry.spec
    assert spec is not None
    if entry.stop_sent is not None:
        return entry.stop_sent + spec.stop_grace + stop_timeout
    if entry.lost is not None:
        return 0.0
    at = inf if entry.deadline is None else entry.deadline
    if entry.running_since is not None:
        if spec.run_timeout is not None:
            at = min(at, entry.running_since + spec.run_timeout - entry.ran_before)
    elif spec.pending_timeout is not None:
        at = min(at, entry.launched + spec.pending_timeout)
    return at


class Stopping:
    """Stops containers, and sees to it that they come to their end.

    Args:
        context: the worker.
        flight: its jobs.
        finishing: ends what does not end by itself.
    """

    def __init__(self, context: Context, flight: InFlight, finishing: Finishing) -> None:
        self._context = context
        self._flight = flight
        self._finishing = finishing
        self._listen = threading.Thread(target=self._listen_for_cancels, name="jaas-cancels", daemon=True)
        self._closed = threading.Event()
        self._next_cancel_check = 0.0

    def start(self) -> None:
        """Begin to listen for cancellations."""
        self._listen.start()

    def close(self) -> None:
        """Listen no longer; the thread ends within a second and is not waited for."""
        self._closed.set()

    def cancel(self, job_id: str, why: str) -> None:
        """Have a job of this worker stopped; the ledger's record says so already.

        Args:
            job_id: the job's id; unknown ones are ignored.
            why: the reason.
        """
        entry = self._flight.entries.get(job_id)
        if entry:
            self.stop(entry, StopRequest(Cause.CANCELLED, why))

    def stop(self, entry: Entry, request: StopRequest) -> None:
        """Have an attempt end before its time, once.

        Args:
            entry: the job.
            request: why; it becomes the attempt's cause and reason.
        """
        with self._flight.lock:
            if entry.stop is not None or entry.phase in {Phase.FINISHING, Phase.GONE}:
                return
            entry.stop = request
            tracked = entry.phase is Phase.TRACKED
        # An entry that is being launched is stopped by its launch step; a waiting one by its claim.
        if tracked:
            self._flight.submit(self.send_stop, entry)

    @about_job
    def send_stop(self, entry: Entry) -> None:
        """Ask the swarm to stop the container; asked again until the request arrives."""
        failpoint("stop.before")
        try:
            self._context.engine.stop(entry.service_id)
            failpoint("stop.after")
        except (TemporaryError, EngineRefused) as error:
            logger.warning(
                "job %s: its container could not be stopped yet: %s",
                entry.job_id,
                error,
                extra=action(Action.JOB_STOP_FAILED),
            )
            self._flight.call_later(1.0, lambda: self._resend_stop(entry))
            return
        entry.stop_sent = time.monotonic()
        entry.check_at = 0.0
        self._flight.look_soon()
        if entry.stop is not None:
            logger.info(
                "job %s: stopping its container: %s",
                entry.job_id,
                entry.stop.reason,
                extra=action(Action.JOB_STOPPING, cause=entry.stop.cause),
            )

    def _resend_stop(self, entry: Entry) -> None:
        if entry.phase is Phase.TRACKED:
            self._flight.submit(self.send_stop, entry)

    def tick(self) -> None:
        """Look for jobs that wait or run for too long, and for stops that do not come to their end."""
        now = time.monotonic()
        if now >= self._next_cancel_check:
            self._next_cancel_check = now + 10.0
            self._check_cancels()
        patience = self._context.settings.stop_timeout
        # All jobs in flight, once a second: most are passed over by one comparison.
        for entry in list(self._flight.entries.values()):
            if now > entry.check_at and entry.phase is Phase.TRACKED:
                due = _due_at(entry, patience)
                # Another thread may change its times right now, and this would undo its 0: hence the bound.
                entry.check_at = min(due, now + _LOOK_AFTER)
                if now > due:
                    self._check_times(entry, now)

    @about_job
    def _check_times(self, entry: Entry, now: float) -> None:
        spec = entry.spec
        assert spec is not None
        if entry.stop_sent is not None:
            if now - entry.stop_sent > spec.stop_grace + self._context.settings.stop_timeout:
                logger.warning(
                    "job %s: its container did not stop in time; removing the service",
                    entry.job_id,
                    extra=action(Action.JOB_STOP_FAILED),
                )
                entry.stop_sent = now
                self._flight.submit(self._remove_stuck, entry)
        elif entry.deadline is not None and now > entry.deadline:
            self.stop(entry, StopRequest(Cause.DEADLINE, f"not ended within deadline ({spec.deadline:g} s)"))
        elif spec.run_timeout is not None and self._ran_for(entry, now) > spec.run_timeout:
            self.stop(entry, StopRequest(Cause.RUN_TIMEOUT, f"ran longer than run_timeout ({spec.run_timeout:g} s)"))
        elif entry.lost is not None:
            self._check_lost(entry, now)
        elif (
            spec.pending_timeout is not None
            and entry.running_since is None
            and now - entry.launched > spec.pending_timeout
            and entry.stop is None
        ):
            self._flight.submit(self._stop_pending, entry)

    @about_job
    def _stop_pending(self, entry: Entry) -> None:
        """End an attempt that has waited for too long, with what the swarm says of it now, and not when last seen."""
        spec, detail = entry.spec, entry.detail
        assert spec is not None
        with contextlib.suppress(TemporaryError, EngineRefused):
            task = attempt_task(self._context.engine.tasks_of(entry.service_id))
            if task is not None and (task.ended or task.state == "running"):
                return  # just now: the tracker will see it
            detail = (waiting_reason(task) if task is not None else "") or detail
        reason = f"no running container within pending_timeout ({spec.pending_timeout:g} s){detail and ': ' + detail}"
        unplaced = detail.startswith("no suitable node")
        self.stop(entry, StopRequest(Cause.UNSCHEDULABLE if unplaced else Cause.PENDING_TIMEOUT, reason))

    def _check_lost(self, entry: Entry, now: float) -> None:
        """Act on a job whose node is down, as its policy says."""
        spec, task = entry.spec, entry.lost
        assert spec is not None
        assert task is not None
        assert entry.lost_since is not None
        lost_for = now - entry.lost_since
        patience = spec.lost_after or (None if spec.on_node_lost == "wait" else _LOST_AFTER)
        if patience is not None and lost_for > patience:
            outcome = lost_outcome(task, entry.node, entry.started_at, lost_for)
            logs = Logs(status=LogStatus.UNAVAILABLE, reason="the node is down")
            self._flight.finish_by(entry, partial(self._finishing.write_end, outcome=outcome, logs=logs))

    def _ran_for(self, entry: Entry, now: float) -> float:
        """Return for how many seconds the container has run, also when another worker saw it start; 0 before that."""
        if entry.running_since is not None:
            return now - entry.running_since + entry.ran_before
        if entry.lost is not None and entry.state is JobState.RUNNING:
            # Taken over while its node was down: the swarm shows a task that is to end, and none that runs.
            return now - entry.launched + entry.ran_before
        return 0.0

    @about_job
    def _remove_stuck(self, entry: Entry) -> None:
        try:
            self._context.engine.remove(entry.service_id)
        except (TemporaryError, EngineRefused) as error:
            logger.warning("job %s: %s", entry.job_id, error, extra=action(Action.SERVICE_LEFT))

    def _obey(self, job_id: str, why: str) -> None:
        """Do what the record of a job asks for: stop it, or leave what its copy was faster with."""
        entry = self._flight.entries.get(job_id)
        if entry and not (entry.phase is Phase.TRACKED and self._flight.superseded(entry)):
            self.stop(entry, StopRequest(Cause.CANCELLED, why))

    def _check_cancels(self) -> None:
        """Find cancellations whose notice did not get through."""
        ledger, holder = self._context.ledger, self._context.holder
        try:
            if ids := ledger.ownership.cancellations_for(holder):
                for job_id, why in ledger.ownership.cancel_reasons(ids).items():
                    self._obey(job_id, why)
                # Should this process die before that, whoever takes the jobs over reads it in their records.
                ledger.ownership.acknowledge_cancellations(holder, ids)
        except LedgerUnavailable as error:
            logger.debug("cancellations: %s", error)

    def _listen_for_cancels(self) -> None:
        ledger = self._context.ledger
        listen("cancellations", ledger.ownership.cancellations, self._cancelled, self._closed, self._look_soon)

    def _cancelled(self, job_id: str) -> None:
        if job_id in self._flight.entries:
            self._obey(job_id, self._context.ledger.ownership.cancel_reasons([job_id]).get(job_id, "cancelled"))

    def _look_soon(self) -> None:
        self._next_cancel_check = 0.0  # what was missed meanwhile is in the ledger

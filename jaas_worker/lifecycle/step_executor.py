"""Carries out what steps return. Only this module knows threads, phases and repetition.

A step is a short, idempotent part of a job's life. If it fails temporarily, it is repeated after a pause. Only one
thread at a time works on a job; the job's phase says which.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

from jaas_submit.errors import EngineUnavailable, LedgerUnavailable, TemporaryError, UnreadableRecord
from jaas_submit.model.causes import Cause
from jaas_submit.model.logs import Logs
from jaas_worker.decisions.task_outcome import StopRequest
from jaas_worker.decisions.unseen_ends import refused_outcome
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle import next_step as to
from jaas_worker.lifecycle.claim import claim
from jaas_worker.lifecycle.ending.collect_files import collect_files
from jaas_worker.lifecycle.finish import (
    finish,
    lost_ownership,
    remove_service,
    report,
    superseded,
    tell_retry,
    write_end,
)
from jaas_worker.lifecycle.job_table import JobTable
from jaas_worker.lifecycle.launch import adopt, launch, note_failure
from jaas_worker.lifecycle.next_step import Next
from jaas_worker.lifecycle.observe import ask_engine, observe, read_output
from jaas_worker.lifecycle.step_threads import StepThreads, retry_delay
from jaas_worker.lifecycle.stop import apply_cancellation, check_overdue, check_pending, remove_stuck, send_stop
from jaas_worker.lifecycle.tracked_job import Phase, TrackedJob
from jaas_worker.lifecycle.worker_context import ServiceTracker, WorkerContext
from jaas_worker.telemetry.log_actions import Action, about, action
from jaas_worker.tracking.tracked_service import NodeLost, Running, Seen, ServiceRef, Waiting

__all__ = ["MAX_UNEXPECTED_ERRORS", "StepExecutor"]

logger = logging.getLogger(__name__)

MAX_UNEXPECTED_ERRORS = 5
"""How often a step may fail with an unexpected error before the job fails with it."""


class StepExecutor:
    """The threads of a worker that take the steps of its jobs.

    Args:
        world: what the steps need.
        table: the jobs.
        tracker: follows the services of those that were launched.
        retry_pause: returns the seconds until a step is repeated, from how often it has failed in a row.
        unexpected_pause: seconds until a step is repeated that failed with an unexpected error.
    """

    def __init__(
        self,
        world: WorkerContext,
        table: JobTable,
        tracker: ServiceTracker,
        retry_pause: Callable[[int], float] = retry_delay,
        unexpected_pause: float = 1.0,
    ) -> None:
        self._world = world
        self._table = table
        self._tracker = tracker
        self._retry_pause = retry_pause
        self._unexpected_pause = unexpected_pause
        settings = world.settings
        self._threads = StepThreads(
            settings.launch_threads, settings.finish_threads, settings.file_threads, self._launch_loop
        )
        # A node that cannot be reached must not block all threads with its containers' output.
        self._reading = threading.Semaphore(settings.finish_threads // 4 or int(settings.finish_threads > 1))

    def start(self) -> None:
        """Start the threads."""
        self._threads.start()

    def close(self, patience: float) -> None:
        """Start no further step; the table is closed already.

        Args:
            patience: seconds to wait for running steps.
        """
        self._threads.close(patience)

    def submit(self, call: Callable[..., Any], *args: Any) -> None:
        """Run a call on a finishing thread, unless the worker shuts down."""
        if not self._table.closing:
            self._threads.submit(call, *args)

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        """Run a short call after a pause.

        Args:
            delay: seconds.
            call: must not raise.
        """
        self._threads.call_later(delay, call)

    # -- what starts a step ----------------------------------------------------------------------------------------

    def _launch_loop(self) -> None:
        while item := self._table.next():
            self.run(*item)

    def observed(self, service: ServiceRef, seen: Seen) -> None:
        """Handle what the tracker has seen of a job's service; on the tracker's thread.

        Args:
            service: the service.
            seen: what was seen.

        Raises:
            TemporaryError: it could not be recorded; the tracker has to repeat the call.
        """
        job = self._table.get(service.job_id)
        if job is None or job.service is not service:
            return
        now = self._world.clock.monotonic()
        if isinstance(seen, Running | NodeLost) or (isinstance(seen, Waiting) and not seen.starting):
            self._table.started(job, now, ran=isinstance(seen, Running))
        if job.phase is Phase.TRACKED:
            try:
                self._chain(job, observe(job, seen, self._world))
            except UnreadableRecord as error:  # the other jobs must still be followed
                self._abandon(job, error)

    def check_overdue(self) -> None:
        """Look for jobs whose time limit has passed, and for stops that take too long."""
        now = self._world.clock.monotonic()
        # All jobs in flight, once a second: one comparison is enough for most.
        for job in self._table:
            if now > job.deadlines.first and job.phase is Phase.TRACKED:
                with about(job):
                    self._chain(job, check_overdue(job, self._world))

    def stop(self, job_id: str, request: StopRequest) -> None:
        """Have a job stopped; the ledger's record says so already.

        Args:
            job_id: the job's id; unknown ones are ignored.
            request: why.
        """
        if job := self._table.get(job_id):
            self._chain(job, to.Stop(request))

    def cancelled(self, job_id: str, why: str) -> None:
        """Do what the job's record asks for: stop the job, or drop it because its copy was faster.

        Args:
            job_id: the job's id; unknown ones are ignored.
            why: the reason.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        if job := self._table.get(job_id):
            self._chain(job, apply_cancellation(job, why, self._world))

    # -- repetition -------------------------------------------------------------------------------------------------

    def run(self, job: TrackedJob, step: Next) -> None:
        """Take a step and those that follow at once; repeat later if one fails temporarily.

        Args:
            job: the job; only this thread works on it.
            step: the first step.
        """
        ending = job.phase is Phase.FINISHING
        with about(job):
            try:
                following = self._next(job, step, ending)
                while following is not None:
                    if isinstance(following, to.Collect):  # other jobs must not wait for large files
                        self._threads.submit_copy(self.run, job, following)
                        return
                    if isinstance(following, to.Report | to.TellRetry):  # the steps before are complete
                        step = to.Report(logs=following.logs) if isinstance(following, to.Report) else following
                        job.tries = 0
                    elif isinstance(step, to.Collect) and isinstance(following, to.End):  # its files are in the store
                        step = following
                        job.tries = 0
                    following = self._next(job, following, ending)
            except TemporaryError as error:
                self._failed_for_now(job, step, error)
            except UnreadableRecord as error:
                self._abandon(job, error)
            except Exception as error:  # a defect in the handling of one job must not end the worker
                logger.exception("job %s: unexpected error", job.job_id, extra=action(Action.STEP_FAILED))
                self._failed_unexpectedly(job, step, error)

    def _failed_for_now(self, job: TrackedJob, step: Next, error: TemporaryError) -> None:
        job.tries += 1
        self._world.metrics.step_repeated(error)
        self._table.repeats(job)
        note_failure(job, error, self._world)
        if self._table.held and job.phase is Phase.LAUNCHING and isinstance(error, EngineUnavailable):
            self._release(job)
            return
        # No later than at the next of its time limits, which the step looks at.
        left = job.deadlines.first - self._world.clock.monotonic()
        delay = min(self._retry_pause(job.tries), left) if left > 0 else self._retry_pause(job.tries)
        logger.warning(
            "job %s: %s; trying again in %.1f s", job.job_id, error, delay, extra=action(Action.STEP_REPEATED)
        )
        self.call_later(delay, partial(self._again, job, step))

    def _failed_unexpectedly(self, job: TrackedJob, step: Next, error: Exception) -> None:
        job.tries += 1
        self._world.metrics.step_repeated(error)
        if job.tries < MAX_UNEXPECTED_ERRORS:
            self.call_later(self._unexpected_pause, partial(self._again, job, step))
        elif job.phase in {Phase.LAUNCHING, Phase.TRACKED}:
            self._begin_finishing(job, to.End(refused_outcome(Cause.ENGINE, f"internal error: {error!r}"), Logs()))
        else:
            self._release(job)

    def _abandon(self, job: TrackedJob, error: UnreadableRecord) -> None:
        """Drop a job whose record no longer exists; its container runs on."""
        logger.error("%s; the job is dropped", error, extra=action(Action.RECORD_UNREADABLE))
        self._carry_out(job, to.Drop())

    def _again(self, job: TrackedJob, step: Next) -> None:
        if self._table.closing or job.phase is Phase.GONE:
            return
        if isinstance(step, to.Collect):
            self._threads.submit_copy(self.run, job, step)
        elif job.phase is Phase.FINISHING:
            self._threads.submit(self.run, job, step)
        else:
            self._table.put_first(job, step)

    def _release(self, job: TrackedJob) -> None:
        """Release a job to other workers (or to this one later), as at a shutdown."""
        self._forget(job)
        try:
            self._world.ledger.ownership.release(job.job_id, self._world.holder)
        except LedgerUnavailable as error:
            # The ledger names this worker, which does not know the job: the reconciler releases such jobs.
            logger.warning("job %s: %s", job.job_id, error, extra=action(Action.STEP_REPEATED))
        job.delivery.dropped()

    # -- what comes next --------------------------------------------------------------------------------------------

    def _chain(self, job: TrackedJob, following: Next | None) -> None:
        """Carry out the next steps on a thread other than the finishing ones."""
        while following is not None:
            following = self._next(job, following, ending=False)

    def _next(self, job: TrackedJob, step: Next, ending: bool) -> Next | None:
        if not ending and isinstance(step, to.Finish | to.End | to.Superseded | to.Report):
            self._begin_finishing(job, step)
            return None
        return self._carry_out(job, step)

    def _carry_out(  # noqa: PLR0911, PLR0912 (one case for each thing that can come next)
        self, job: TrackedJob, step: Next
    ) -> Next | None:
        """Take a step and return what follows from it at once on this thread."""
        world = self._world
        match step:
            case to.Claim():
                return claim(job, world)
            case to.Launch():
                return launch(job, world)
            case to.Adopt():
                return adopt(job, step, world)
            case to.Track():
                self._track(job)
            case to.Stop():
                self._stop(job, step.request)
            case to.Aside():
                return self._aside(job, step)
            case to.SwarmJudges():
                self._tracker.look_soon()
            case to.Drop():
                self._forget(job)
                (job.delivery.postponed if step.postponed else job.delivery.dropped)()
            case to.LostOwnership():
                return lost_ownership(job, world)
            case to.Finish():
                return finish(job, step, world)
            case to.Collect():
                return collect_files(job, step, world)
            case to.End():
                return write_end(job, step, world)
            case to.Superseded():
                return superseded(job)
            case to.Report():
                return report(job, step, world)
            case to.TellRetry():
                return tell_retry(job, step)
            case to.Reported():
                self._reported(job, step)
            case to.AskEngine():
                return ask_engine(job, step, world)
            case to.ReadOutput():
                return read_output(job, step, world)
            case to.CheckPending():
                return check_pending(job, world)
            case to.SendStop():
                return send_stop(job, world)
            case to.RemoveStuck():
                remove_stuck(job, world)
            case to.RemoveService():
                remove_service(job, world)
            case _:
                assert_never(step)
        return None

    def _track(self, job: TrackedJob) -> None:
        assert job.service is not None
        with self._table.lock:  # a stop comes before both, or after both
            job.phase = Phase.TRACKED
            self._table.starts(job)
            self._tracker.watch(job.service)
            stopped = job.stop is not None
        if stopped:
            self._send_stop(job)

    def _stop(self, job: TrackedJob, request: StopRequest) -> None:
        with self._table.lock:
            if job.stop is not None or job.phase in {Phase.FINISHING, Phase.GONE}:
                return
            job.stop = request
            tracked = job.phase is Phase.TRACKED
        # A job that is being launched is stopped by its launch; a waiting one by its claim.
        if tracked:
            self._send_stop(job)

    def _send_stop(self, job: TrackedJob) -> None:
        assert job.service is not None
        self._tracker.stopping(job.service)
        self.submit(self._take_aside, job, to.SendStop())

    def _aside(self, job: TrackedJob, aside: to.Aside) -> Next | None:
        step = aside.step
        if isinstance(step, to.ReadOutput):
            if self._reading.acquire(blocking=False):
                self.submit(self._read_output, job, step)
            else:
                self._tracker.look_soon()
        elif aside.after > 0:
            self.call_later(aside.after, partial(self.submit, self._take_aside, job, step))
        elif isinstance(step, to.RemoveService):
            self._take_aside(job, step)
        else:
            self.submit(self._take_aside, job, step)
        if isinstance(step, to.RemoveService):
            failpoint("remove.after")
        return aside.then

    def _read_output(self, job: TrackedJob, step: to.ReadOutput) -> None:
        try:
            self._take_aside(job, step)
        finally:
            self._reading.release()

    def _take_aside(self, job: TrackedJob, step: Next) -> None:
        """Take an optional step, unless it is no longer needed."""
        if job.phase is not Phase.TRACKED and not isinstance(step, to.RemoveService):
            return
        with about(job):
            try:
                self._chain(job, step)
            except Exception:  # another part does the same later
                logger.exception("job %s: unexpected error", job.job_id, extra=action(Action.STEP_FAILED))

    def _begin_finishing(self, job: TrackedJob, step: to.Finish | to.End | to.Superseded | to.Report) -> None:
        """Start the finish of a job, once, on a finishing thread."""
        with self._table.lock:
            if job.phase not in {Phase.TRACKED, Phase.LAUNCHING} or self._table.closing:
                return
            job.phase = Phase.FINISHING
            job.tries = 0
        if job.service is not None:
            self._tracker.forget(job.service)
        self._threads.submit(self.run, job, step)
        if isinstance(step, to.Finish):
            self._table.started(job, self._world.clock.monotonic(), ran=step.task.container_id is not None)

    def _reported(self, job: TrackedJob, step: to.Reported) -> None:
        self._forget(job)
        step.delivery.done()
        if job.delivery is not step.delivery:
            job.delivery.dropped()

    def _forget(self, job: TrackedJob) -> None:
        if job.service is not None:
            self._tracker.forget(job.service)
        self._table.forget(job)

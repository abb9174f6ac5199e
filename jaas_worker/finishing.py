"""The last steps of a job in this worker: write the end down, decide on another attempt, report, remove the service.

Outcome and output are in the ledger before the service is removed, and Celery has the result before the ledger forgets
that somebody has to bring it there.
"""

from __future__ import annotations

import json
import logging
import random
import time
from functools import partial

from jaas_submit.errors import EngineRefused, LedgerUnavailable, TemporaryError
from jaas_submit.logs import Logs, LogStatus
from jaas_submit.records import Attempt, JobRecord, Outcome
from jaas_submit.result import CapturedOutput, JobResult
from jaas_submit.states import Cause, JobState
from jaas_worker.context import Context
from jaas_worker.engine import ContainerTimes, TaskView
from jaas_worker.entry import Entry
from jaas_worker.failpoints import failpoint
from jaas_worker.inflight import InFlight
from jaas_worker.logs import marked, read_logs
from jaas_worker.logsetup import Action, about, action
from jaas_worker.observe import asks_for_engine, gone_outcome, outcome_of, refused_outcome, stop_mark
from jaas_worker.outputs import with_output
from jaas_worker.retry import decide
from jaas_worker.tracing import AttemptTimes

__all__ = ["Finishing"]

logger = logging.getLogger(__name__)


class Finishing:
    """Ends attempts and jobs.

    Args:
        context: the worker.
        flight: its jobs.
    """

    def __init__(self, context: Context, flight: InFlight) -> None:
        self._context = context
        self._flight = flight

    def finish(
        self, entry: Entry, task: TaskView, times: ContainerTimes | None = None, logs: Logs | None = None
    ) -> None:
        """End an attempt as its task did.

        Args:
            entry: the job.
            task: the attempt's task, which has ended.
            times: of its container; the engine is asked for them where they are not at hand.
            logs: its output; read where it is not at hand.
        """
        engine, spec = self._context.engine, entry.spec
        if times is None and task.container_id:
            times = engine.container_times(task.container_id)
        back = engine.node_back_at(task.node_id) if asks_for_engine(task) else ""
        node, limit = self._context.node_name(task.node_id), spec.limits.memory if spec else None
        outcome = outcome_of(task, node, entry.started_at, times, entry.stop, back, limit)
        settings = self._context.settings
        if logs is None:
            logs = read_logs(engine, entry.service_id, task.container_id, settings.log_limit, settings.log_timeout)
        if entry.stop and spec and task.container_id and outcome.state is not JobState.SUCCEEDED:
            logs = marked(logs, stop_mark(entry.stop, outcome, spec))
        self.write_end(entry, outcome, logs)

    def gone(self, entry: Entry) -> None:
        """Begin to end an attempt whose service does not exist any more."""
        self.end(entry, gone_outcome(entry.stop, entry.node, entry.started_at), None)

    def end(self, entry: Entry, outcome: Outcome, logs: Logs | None) -> None:
        """Begin to end an attempt that has no task to look at.

        Args:
            entry: the job.
            outcome: how it ended.
            logs: its output; None where there can be none.
        """
        self._flight.finish_by(entry, partial(self.write_end, outcome=outcome, logs=logs))

    def write_end(self, entry: Entry, outcome: Outcome, logs: Logs | None) -> None:
        """Write an attempt's end into the ledger, with the next attempt where the policy grants one, and report it.

        Args:
            entry: the job.
            outcome: how the attempt ended.
            logs: its output; None where there can be none.
        """
        launched = bool(entry.service_id)
        output: str | None = None
        if entry.spec is not None:
            keep = partial(self._keep_output, entry) if self._context.store else None
            outcome, output = with_output(entry.spec, outcome, logs, self._context.settings.output_limit, keep)
        attempt = Attempt(
            number=entry.attempt if entry.asked or launched else 0,
            service=entry.service if launched else None,
            image=entry.image or (entry.spec.image if entry.spec else None),
            log_status=logs.status if logs else LogStatus.COMPLETE,
            **outcome.model_dump(),
        )
        attempts = (*entry.attempts, attempt)
        if entry.spec is not None:
            left = None if entry.deadline is None else entry.deadline - time.monotonic()
            if entry.decision is None:
                entry.decision = decide(entry.spec, attempts, random.random(), left)  # noqa: S311 (jitter, no secret)
            decision = entry.decision
            attempts = (*entry.attempts, attempt.model_copy(update={"decision": decision.why}))
            if decision.retry and self._back_off(entry, attempts, logs, decision.delay):
                return
            # In a batch with speculation the first good result wins, not the first result.
            may_have_copy = entry.spec.idempotent and entry.labels and attempt.state is JobState.FAILED
            if may_have_copy and self._back_off(entry, attempts, logs, None):
                return
        failpoint("finish.before")
        ledger, holder = self._context.ledger, self._context.holder
        record = ledger.ownership.finish(entry.job_id, holder, attempts, logs, output, late=entry.late)
        if record is None:
            self._flight.taken_away(entry)
            return
        failpoint("finish.after")
        self._tell_end(entry, attempts[-1], retried=False)
        self._remove_service(entry)
        failpoint("remove.after")
        # From here on only the report is repeated: the service is gone in a moment, and with it what it could tell.
        at_hand = [record]  # good for one try: until the next one Redis may have come back older

        def report(entry: Entry) -> None:
            self.report(entry, at_hand.pop() if at_hand else None, logs)

        self._flight.run(report, entry)

    def _tell_end(self, entry: Entry, attempt: Attempt, *, retried: bool) -> None:
        """Count and trace an attempt whose end is in the ledger."""
        self._context.metrics.attempt_ended(attempt, entry.launched_at, retried=retried)
        times = AttemptTimes(entry.queued_at, entry.claimed_at, entry.launched_at, time.time())
        try:
            self._context.tracer.attempt_ended(entry.traceparent, entry.job_id, attempt, times)
        except Exception:  # what is shown of a job must never change what becomes of it
            logger.exception("job %s: its trace could not be made", entry.job_id, extra=action(Action.STEP_FAILED))

    def _keep_output(self, entry: Entry, text: str) -> str:
        assert self._context.store is not None
        return json.dumps(self._context.store.write(entry.job_id, f"output-{entry.attempt}.json", [text.encode()]))

    def _back_off(self, entry: Entry, attempts: tuple[Attempt, ...], logs: Logs | None, delay: float | None) -> bool:
        """Write down that another attempt follows; False when the job is to end all the same.

        Args:
            entry: the job.
            attempts: all attempts so far.
            logs: output of the last one; None where there can be none.
            delay: seconds until the next one; None when there is none, but the job's copy may still succeed.
        """
        last = attempts[-1]
        ended = f"exit code {last.exit_code}" if last.exit_code is not None else f"cause {last.cause}"
        what_next = "its copy may still succeed" if delay is None else f"the next one in {delay:.1f} s"
        why = f"attempt {last.number} ended ({ended}: {last.reason}); {what_next}: {last.decision}"
        failpoint("retry.before")
        done, cancel = self._context.ledger.ownership.back_off(
            entry.job_id, self._context.holder, attempts, logs, delay, why, late=entry.late
        )
        failpoint("retry.after")
        if not done and cancel:
            return False
        if not done:
            self._flight.taken_away(entry)
            return True
        self._tell_end(entry, last, retried=True)
        self._remove_service(entry)
        logger.info(
            "job %s: %s",
            entry.job_id,
            why,
            extra=action(Action.JOB_RETRYING, cause=last.cause, delay=round(delay or 0.0, 1)),
        )
        # Celery's RETRY is for those who look; the next attempt is in the ledger, whether Celery hears of this or not.
        delivery = entry.delivery
        delivery.retrying(why, delay or 0.0)
        self._flight.told(entry, delivery)
        return True

    def superseded(self, entry: Entry) -> None:
        """Remove what still runs for a job whose copy has ended well, and report: the outcome is in the ledger."""
        logger.info(
            "job %s: its copy succeeded first; removing service %s",
            entry.job_id,
            entry.service,
            extra=action(Action.JOB_SUPERSEDED, service=entry.service),
        )
        self._remove_service(entry, delay=0.0)
        self._flight.run(self.report, entry)

    def _remove_service(self, entry: Entry, delay: float | None = None) -> None:
        """Have the service of an attempt that has ended removed in a while; the reconciler removes it if we cannot."""
        if entry.late or not (entry.service_id or entry.has_config):
            return

        def remove() -> None:
            with about(entry):
                try:
                    # Redis may have come back older than it was, or may do so: then the service is needed once more.
                    if not self._context.ledger.replicated():
                        raise LedgerUnavailable("its outcome is not on the replicas yet")
                    for job in self._context.ledger.queries.outlines([entry.job_id]):
                        if not job.terminal and entry.attempt not in job.ended:
                            return
                    if entry.service_id:
                        self._context.engine.remove(entry.service_id)
                    if entry.has_config:
                        self._context.engine.remove_config(entry.service)
                except (TemporaryError, EngineRefused) as error:
                    logger.warning(
                        "job %s: service %s is left to the reconciler: %s",
                        entry.job_id,
                        entry.service,
                        error,
                        extra=action(Action.SERVICE_LEFT),
                    )

        delay = self._context.settings.remove_delay if delay is None else delay
        if delay > 0:
            self._flight.call_later(delay, lambda: self._flight.submit(remove))
        else:
            remove()

    def report(self, entry: Entry, record: JobRecord | None = None, logs: Logs | None = None) -> None:
        """Bring the result of a job that has ended to Celery.

        Args:
            entry: the job.
            record: its record after its end, where it is at hand.
            logs: the last attempt's output, where it is at hand.
        """
        record = record or self._context.ledger.queries.get(entry.job_id)
        last = record.last
        if logs is None and last is not None:
            logs = self._context.ledger.queries.logs(entry.job_id, last.number)
        result = JobResult.of(record, CapturedOutput.of(logs or Logs(), self._context.settings.result_log_limit))
        failpoint("report.before")
        delivery = entry.delivery
        if not delivery.report(result):
            raise TemporaryError("the result did not reach Celery")
        failpoint("report.after")
        self._context.ledger.ownership.mark_reported(entry.job_id, self._context.holder)
        failpoint("reported.after")
        logger.info(
            "%s",
            result.sentence(),
            extra=action(
                Action.JOB_ENDED,
                state=result.state,
                cause=result.cause,
                exit_code=result.exit_code,
                node=result.node,
                duration=result.duration,
            ),
        )
        self._flight.told(entry, delivery)

    def defect(self, entry: Entry, error: Exception) -> None:
        """End a job that meets a defect of jaas again and again."""
        self.end(entry, refused_outcome(Cause.ENGINE, f"internal error: {error!r}"), Logs())

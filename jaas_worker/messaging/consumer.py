"""Celery's consumer, which drops nothing: an invalid message is recorded as a failed job, with the reason."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.consumer.control import Control

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.errors import JobFailed, LedgerUnavailable
from jaas_submit.messaging.messages import WAKEUP, task_options
from jaas_submit.model.bounds import shown
from jaas_submit.model.causes import Cause
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import FOREIGN_QUEUE, TASK_RUN, job_id_of
from jaas_worker.decisions.unseen_ends import refused_outcome
from jaas_worker.failpoints import failpoint
from jaas_worker.messaging.kept_messages import foreign_job
from jaas_worker.messaging.message_checks import DEFECT, MAX_REASON, is_task_id, task_defect, task_name
from jaas_worker.messaging.unacknowledged import QoS
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["Consumer", "record_refusal"]

logger = logging.getLogger(__name__)

_CALLING: Final = frozenset({"celery.map", "celery.starmap", "celery.chunks"})


def record_refusal(app: Any, task_id: str, queue: str, reason: str, *, has_record: bool = False) -> bool:
    """Record a message that cannot become a job as a failed job.

    Args:
        app: the worker's app (``jaas_worker.app.WorkerApp``).
        task_id: Celery's task id; empty when the message has none.
        queue: where it came from.
        reason: why it is invalid.
        has_record: its record exists already, and nobody has claimed the job.

    Returns:
        Whether it is a job now; False if a job with that id exists, which goes on.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    runner = app.jaas.pool.runner
    job_id = job_id_of(task_id) if task_id else str(uuid.uuid4())
    attempt = Attempt(number=0, **refused_outcome(Cause.REFUSED, reason).model_dump())
    about = action(Action.JOB_REFUSED, job_id=job_id)
    if not has_record and not runner.ledger.submission.create(job_id, None, queue, task_id):
        logger.error("an invalid message has the id of job %s, which goes on: %s", job_id, reason, extra=about)
        return False
    runner.ledger.ownership.claim(job_id, runner.holder)
    runner.ledger.ownership.finish(job_id, runner.holder, [attempt])
    runner.ledger.ownership.mark_reported(job_id, runner.holder)
    logger.error("recorded an invalid message as failed job %s: %s", job_id, reason, extra=about)
    return True


def _decoded(message: Any) -> tuple[Any, str]:
    """Return a message's decoded body, and the reason if it is invalid; None if it cannot be decoded."""
    if wrong := message.headers.get(DEFECT):
        return None, str(wrong)
    try:
        return message.payload, ""
    except Exception as error:  # noqa: BLE001 (kombu maps most, and not all, of what a decoder may raise)
        return None, f"the message cannot be decoded: {_why(error)}"


def _why(error: Exception) -> str:
    # Decoders name the position only; the error of a look-up would show a part of the message.
    return "its encoding is unknown" if isinstance(error, LookupError) else str(error)[:200]


def _calls_jobs(name: object, payload: Any) -> bool:
    """Return whether a message is one of Celery's own tasks that would call `jaas.run` as a function."""
    if name not in _CALLING or not isinstance(payload, list | tuple):
        return False
    args, kwargs, *_ = payload
    called = kwargs.get("task", args[0] if args else None)
    return isinstance(called, dict) and called.get("task") == TASK_RUN


def _nothing() -> None:
    """There is nothing to restart."""


class Consumer(CeleryConsumer):
    """Consumes the jobs' queue, and the default one as long as no other application uses it."""

    app: Any
    pool: Any
    event_dispatcher: Any
    hub: Any
    _flush_events: Any
    steps: list[Any]
    connection_errors: Any

    event_batch = 0.5
    """Seconds for which events are collected: Flower shows them this much later. Each publication costs as much as a
    step of a job."""
    _next_flush = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Otherwise all workers would read each other's heartbeats, for elections that jaas does not use, and tell each
        # other at their start what was revoked, which is in the ledger.
        off = {"without_gossip": True, "without_mingle": True}
        kwargs["worker_options"] = {**(kwargs.get("worker_options") or {}), **off}
        super().__init__(*args, **kwargs)
        self.app.jaas.pool = self.pool
        QoS.worker = self.pool.runner.holder
        for step in self.steps:
            if isinstance(step, Control):
                # Celery would subscribe again after a failed command, and miss the commands after it.
                step.box.reset = _nothing  # type: ignore[attr-defined] # not in the stubs

    def on_ready(self) -> None:
        super().on_ready()
        self.pool.attach(self)

    def on_send_event_buffered(self) -> None:  # type: ignore[override] # celery-types is wrong about what it returns
        """Publish events in groups; Celery would publish those of each turn of its event loop, nearly one by one."""
        now = time.monotonic()
        if self.hub and now >= self._next_flush:
            self._next_flush = now + self.event_batch
            self.hub.call_later(self.event_batch, self._flush_events)

    def _flush_groups(self) -> None:
        if self.event_dispatcher:
            self.event_dispatcher.flush(errors=False)

    def stop(self) -> None:
        self._flush_groups()  # before the event that this worker is offline
        super().stop()

    def shutdown(self) -> None:
        self._flush_groups()  # the pool's last reports
        super().shutdown()

    @staticmethod
    def hold(yes: bool) -> None:
        """Stop or resume taking messages; may be called from any thread.

        Args:
            yes: whether to stop.
        """
        QoS.held = yes

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        # If one connection is dead, others may be too, and each would be detected only by a time-out.
        transport: Any = self.connection.transport if self.connection else None
        if transport is not None:
            transport.drop_connections()
        self._keep_events()
        for client in (self.app.backend.client, self.pool.runner.ledger.client):
            client.connection_pool.disconnect(inuse_connections=False)
        super().on_connection_error_after_connected(exc)

    def _keep_events(self) -> None:
        """Let the next dispatcher publish the remaining events: it takes over this one's list.

        They are in groups, which Celery does not hand over (celery/worker/consumer/events.py, 5.7).
        """
        dispatcher = self.event_dispatcher
        if dispatcher is None:
            return
        for group, events in dispatcher._group_buffer.items():
            if events:
                dispatcher._outbound_buffer.append((list(events), f"{group}.multi"))
                events.clear()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        handle = super().create_task_handler(*args, **kwargs)

        def receive(message: Any) -> None:
            try:
                self._receive(message, handle)
            except Exception as error:
                # A KeyError counts as a connection error with kombu's Redis transport; in here it is not.
                if isinstance(error, self.connection_errors) and not isinstance(error, KeyError):
                    raise
                logger.exception("a message could not be handled", extra=action(Action.JOB_REFUSED))
                self._refuse(message, f"the message could not be handled ({type(error).__name__})")

        return receive

    def _receive(self, message: Any, handle: Callable[[Any], None]) -> None:
        payload, wrong = _decoded(message)
        name = task_name(message.headers, payload)
        if name != TASK_RUN and self._queue_of(message) == FOREIGN_QUEUE:
            self._leave_to_others(message, name)
            return
        if not wrong and name is None:
            wrong = "the message has no task name: it was not sent by Celery"
        if not wrong and (defect := task_defect(message.headers, payload)):
            wrong = f"the message is not valid: {defect}"
        if not wrong and _calls_jobs(name, payload):
            wrong = f"{name} calls a task many times within one, which a job cannot be; send a group of {TASK_RUN}"
        if wrong:
            self._refuse(message, wrong)
        elif name != TASK_RUN or not self._waits(message, payload):
            handle(message)

    def _waits(self, message: Any, payload: Any) -> bool:
        """Write a foreign producer's job into the ledger, which acknowledges its message.

        Returns:
            Whether the job waits there for its time. If not, the message is to be handled now; Celery no longer sees
            its ``eta``, for which it would keep it in memory.
        """
        foreign = not message.headers.get(WAKEUP)
        job = foreign_job(message, payload, self.app.jaas.settings.queue) if foreign else None
        if message.headers.get("eta"):
            message.headers["eta"] = None
        if isinstance(payload, dict) and payload.get("eta"):
            payload["eta"] = None
        if job is None:
            return False
        failpoint("intake.before")
        try:
            made = self.pool.runner.ledger.submission.take_in(job, message.delivery_tag, self.app.jaas.settings.lease)
        except LedgerUnavailable as error:
            about = action(Action.REDIS_UNAVAILABLE, job_id=job.job_id)
            logger.warning("a message could not be recorded yet: %s", error, extra=about)
            if job.not_before is None:
                return False  # the claim writes the record, and is repeated
            message.channel.qos.leave(message.delivery_tag)  # so that it is delivered again
            return True
        failpoint("intake.after")
        if not made.new:
            return False  # a duplicate, or the id was used before
        message.channel.qos.replaced(message.delivery_tag)
        if made.state is not JobState.WAITING:
            return False
        message.ack_log_error(logger, self.connection_errors)
        self._show_waiting(job, message.headers)
        return True

    def _show_waiting(self, job: NewJob, headers: Mapping[str, Any]) -> None:
        """Tell Flower of a job that waits for its time, as Celery tells of a message with ``eta``."""
        times = {"eta": job.not_before, "expires": job.expires_at}
        shown_times = {name: at and datetime.fromtimestamp(at, UTC).isoformat() for name, at in times.items()}
        logger.info(
            "job %s waits until %s", job.job_id, shown_times["eta"], extra=action(Action.JOB_WAITS, job_id=job.job_id)
        )
        if self.event_dispatcher and job.spec:
            shown_job = {"args": "()", "kwargs": task_options(job.spec)["kwargsrepr"], "retries": 0}
            about = {name: headers.get(name) for name in ("root_id", "parent_id")}
            self.event_dispatcher.send(
                "task-received", uuid=job.task_id, name=TASK_RUN, **shown_job, **about, **shown_times
            )

    def _leave_to_others(self, message: Any, name: object) -> None:
        message.requeue()
        logger.warning(
            "queue %r has tasks of another application (%s): put back, this worker stops consuming it; "
            "send jaas.run with queue=%r",
            FOREIGN_QUEUE,
            shown(name, 200),
            self.app.jaas.settings.queue,
            extra=action(Action.QUEUE_FOREIGN),
        )
        self.cancel_task_queue(FOREIGN_QUEUE)

    def on_unknown_task(self, _body: Any, message: Any, _exc: Exception) -> None:
        name = task_name(message.headers, _decoded(message)[0])
        self._refuse(message, f"{name!r} is not a task of jaas; send jaas.run")

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        self._refuse(message, "the message has no task name: it was not sent by Celery")

    def on_invalid_task(self, _body: Any, message: Any, exc: Exception) -> None:
        self._refuse(message, f"the message is not valid: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._refuse(message, f"the message cannot be decoded: {_why(exc)}")

    @staticmethod
    def _queue_of(message: Any) -> str:
        return str((message.delivery_info or {}).get("routing_key", ""))

    def _refuse(self, message: Any, reason: str) -> None:
        """Record the message as a failed job, then take it off the queue; its content is never shown."""
        payload, _ = _decoded(message)
        fields = {**payload, **message.headers} if isinstance(payload, dict) else message.headers
        task_id = fields["id"] if is_task_id(fields.get("id")) else ""
        reason = shown(reason, MAX_REASON)
        try:
            has_record = message.delivery_tag in message.channel.qos.in_ledger
            recorded = self._record(task_id, self._queue_of(message), reason, has_record=has_record)
        except LedgerUnavailable as error:
            logger.warning("an invalid message could not be recorded yet: %s", error, extra=action(Action.JOB_REFUSED))
            message.channel.qos.leave(message.delivery_tag)  # so that it is delivered again
            return
        if task_id and recorded:
            self._tell_celery(task_id, reason)
        message.ack_log_error(logger, self.connection_errors)

    def _record(self, task_id: str, queue: str, reason: str, *, has_record: bool) -> bool:
        """Record a refusal, under a new id if the message's id fails; return whether it has the message's id.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        try:
            return record_refusal(self.app, task_id, queue, reason, has_record=has_record)
        except LedgerUnavailable:
            raise
        except Exception:  # no message may end the worker, even if it cannot be recorded
            logger.exception("an invalid message could not be recorded under its id", extra=action(Action.JOB_REFUSED))
        try:
            record_refusal(self.app, "", self.app.jaas.settings.queue, "a message could not be read")
        except LedgerUnavailable:
            raise
        except Exception:
            logger.exception("an invalid message is lost: it could not be recorded", extra=action(Action.JOB_REFUSED))
        return False

    def _tell_celery(self, task_id: str, reason: str) -> None:
        try:
            self.app.backend.mark_as_failure(task_id, JobFailed(reason))
        except Exception:  # the record exists
            about = action(Action.RESULT_NOT_STORED, job_id=job_id_of(task_id))
            logger.exception("an invalid message could not be reported to Celery", extra=about)
        if self.event_dispatcher:
            self.event_dispatcher.send("task-failed", uuid=task_id, exception=f"JobFailed({reason!r})")

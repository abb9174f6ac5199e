"""One received `jaas.run` message, in Celery's terms: accepted, running, reported, returned.

Calls into Celery's bookkeeping are made on the event loop's thread.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, Protocol

from billiard.einfo import ExceptionInfo
from celery.exceptions import Retry
from celery.worker import state as worker_state

from jaas_submit.errors import JobFailed
from jaas_submit.messaging import messages
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import TRACEPARENT, job_id_of
from jaas_worker.messaging import kept_messages
from jaas_worker.messaging.message_checks import DEFECT
from jaas_worker.messaging.result_backend import TEMPORARY_ERRORS
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["CeleryDelivery", "Loop", "RetryNotice", "current_result"]

logger = logging.getLogger(__name__)


class Loop(Protocol):
    """Celery's event loop, as the pool offers it."""

    def on_loop(self, call: Callable[[], None]) -> None:
        """Run a call on the event loop's thread."""

    def wait_on_loop(self, call: Callable[[], None]) -> bool:
        """Run a call there and wait for it; False if it failed or was not made."""


class RetryNotice(NamedTuple):
    """An attempt ended, and another follows."""

    why: str
    delay: float
    """Seconds until the next attempt."""


def _without(context: Any, *names: str) -> Any:
    """Return a copy of Celery's context of a task with nothing under some of its names."""
    made = copy.copy(context)
    for name in names:
        setattr(made, name, None)
    return made


_result: ContextVar[JobResult | RetryNotice | None] = ContextVar("jaas_result", default=None)


def current_result() -> JobResult | RetryNotice | None:
    """Return what the running task body has to report to Celery; None outside of one."""
    return _result.get()


def _exception(value: Any) -> BaseException | None:
    """Return the exception in what a trace returned."""
    found = getattr(value, "exception", None)
    return found if isinstance(found, Retry) else getattr(found, "exc", found)


class CeleryDelivery:
    """A received `jaas.run` message: the runner's operations on it, in Celery's terms."""

    def __init__(
        self, loop: Loop, pid: int, target: Callable[..., Any], args: tuple[Any, ...], callbacks: dict[str, Any]
    ) -> None:
        self.loop = loop
        self.request = callbacks["accept_callback"].__self__
        self.task_id: str = self.request.id
        self.job_id = job_id_of(self.task_id)
        headers = self.request.message.headers or {}
        self.traceparent = str(headers.get(TRACEPARENT) or "")
        found = self.request.message.delivery_info or {}
        self.queue = str(found.get("routing_key") or "")  # the transport writes it, whatever the message says
        self.wakeup = bool(headers.get(messages.WAKEUP))
        self.defect = str(headers.get(DEFECT) or "")
        self.pid = pid
        self._target = target
        self._args = args
        self._callback: Callable[..., None] = callbacks["callback"]
        self._accept: Callable[..., None] = callbacks["accept_callback"]
        self._outcome: Any = None
        self._was_accepted = False

    def revoked(self) -> bool:
        return self.task_id in worker_state.revoked

    def description(self) -> JobSpec:
        return kept_messages.described(self.request.args, self.request.kwargs)

    def signed(self) -> str:
        return kept_messages.signed_in(self.request.kwargs)

    def message(self) -> str:
        message = self.request.message
        return kept_messages.message_to_json(message.headers, message.body, message.properties)

    def follow_up(self) -> str:
        message = self.request.message
        return "" if self.wakeup else kept_messages.follow_up(message.headers, message.body)

    def adds_to(self, kept: str) -> bool:
        mine = self.follow_up()
        return bool(mine) and mine != kept_messages.follow_up_of(kept)

    def accepted(self, *, first: bool = True) -> None:
        if first:  # a duplicate may arrive while the outcome is being stored, which STARTED must not overwrite
            self._store_started({"hostname": self.request.hostname, "pid": self.pid})
        self.loop.on_loop(self._accept_now)

    def _accept_now(self) -> None:
        if not self._was_accepted:
            self._was_accepted = True
            self._accept(self.pid, time.monotonic())

    def running(self, node: str, attempt: int, service: str) -> None:
        where = {"node": node, "attempt": attempt, "service": service}
        self._store_started({"hostname": self.request.hostname, "pid": self.pid, **where})
        # Flower shows a started task's "result": the event may be repeated with a newer one.
        text = f"running on {node}, attempt {attempt}, service {service}"
        self.loop.on_loop(partial(self.request.send_event, "task-started", result=text))

    def _store_started(self, meta: dict[str, Any]) -> None:
        if self.request.ignore_result:
            return  # nothing would ever replace it
        # For display while the job runs; losing it does no harm, because the outcome is in the ledger. Writing it late
        # would do harm: a worker that was suspended here would overwrite the outcome that its successor has stored.
        with contextlib.suppress(Exception):
            self.request.task.backend.store_started(self.task_id, meta, self.request._context)

    def report(self, result: JobResult) -> bool:
        self.request.told = result.sentence(named=False)
        if result.state in {JobState.CANCELLED, JobState.SKIPPED}:
            return self.loop.wait_on_loop(self._revoke)
        try:
            failed, value = self._run_body(result)
            error = _exception(value)
        except Exception as raised:  # noqa: BLE001 (whatever Celery met when it called what follows the job)
            failed, value, error = 1, None, raised
        if failed and not isinstance(error, JobFailed):
            self._not_stored(error)
            if isinstance(error, TEMPORARY_ERRORS):
                return False
            try:
                # The next task after the job can never be called; the outcome must reach Celery anyway.
                failed, value = self._store_alone(result)
            except TEMPORARY_ERRORS as raised:
                self._not_stored(raised)
                return False
        self._outcome = (failed, value if failed else result.sentence(), result.duration or 0.0)
        return True

    def _not_stored(self, error: BaseException | None) -> None:
        what = "job %s: Celery could not store its result: %r"
        logger.warning(what, self.job_id, error, extra=action(Action.RESULT_NOT_STORED))

    def _store_alone(self, result: JobResult) -> tuple[int, Any]:
        """Store the outcome without callbacks, but count it if it is a part of a chord.

        What follows the job may be such nonsense that Celery cannot even tell it of a failure: then without that, too.
        """
        own = self.request._context
        for context in (own, _without(own, "chain")):
            try:
                return self._store(result, context)
            except TEMPORARY_ERRORS:
                raise
            except Exception as raised:  # noqa: BLE001 (whatever Celery met in a chain or a chord)
                self._not_stored(raised)
        return self._store(result, _without(own, "chain", "chord"))

    def _store(self, result: JobResult, context: Any) -> tuple[int, Any]:
        backend = self.request.task.backend
        if result.ok or not kept_messages.is_checked(self.request.kwargs):
            backend.mark_as_done(self.task_id, result.to_wire(), request=context)
            return 0, result.sentence()
        try:
            raise JobFailed(result.sentence())  # noqa: TRY301 (what Celery is told wants a traceback)
        except JobFailed as failure:
            backend.mark_as_failure(self.task_id, failure, request=context, call_errbacks=False)
            return 1, ExceptionInfo()

    def retrying(self, why: str, delay: float) -> bool:
        self.request.told = why
        try:
            failed, value = self._run_body(RetryNotice(why, delay))
            error = _exception(value)
        except TEMPORARY_ERRORS as raised:
            failed, value, error = 1, None, raised
        if not isinstance(error, Retry):
            # Not repeated: the next attempt is in the ledger, and its outcome is reported.
            self._not_stored(error)
            self.dropped()
            return False
        self._outcome = (failed, value, 0.0)
        return True

    def _run_body(self, what: JobResult | RetryNotice) -> tuple[int, Any]:
        """Let Celery trace the task body, which turns ``what`` into a result, a failure or a retry."""
        token = _result.set(what)
        try:
            failed, value, _ = self._target(*self._args)
        finally:
            _result.reset(token)
        return failed, value

    def _revoke(self) -> None:
        """End in REVOKED, as Celery's own terminate does (unless that has already done it)."""
        request = self.request
        self._accept_now()
        if request._already_revoked:
            # The event again, so that Flower shows reason, attempt and node.
            request.send_event("task-revoked", terminated=True, signum="SIGTERM", expired=False)
        else:
            request._announce_revoked("terminated", True, "SIGTERM", False)

    def done(self) -> None:
        if self._outcome is not None:
            self.loop.on_loop(partial(self._callback, self._outcome))

    def returned(self) -> None:
        self.loop.on_loop(self._give_back)

    def _give_back(self) -> None:
        request = self.request
        if not request.acknowledged:
            # Not `Request.reject`, whose event would have Flower show the job as rejected.
            request.acknowledged = True
            request.on_reject(logger, request.connection_errors, True)
        worker_state.task_ready(request)

    def postponed(self) -> None:
        self.loop.on_loop(self._postpone)

    def _postpone(self) -> None:
        request, message = self.request, self.request.message
        request.acknowledged = True  # for Celery; the transport keeps its note, and delivers it again
        message.channel.qos.leave(message.delivery_tag)
        worker_state.task_ready(request)

    def dropped(self) -> None:
        self.loop.on_loop(self.release)

    def release(self) -> None:
        """Acknowledge the message and forget the request, without using the result backend."""
        self.request.acknowledge()
        worker_state.task_ready(self.request)

    def replaces(self, earlier: CeleryDelivery) -> None:
        """Take the place of an earlier message of the same task; on the event loop's thread."""
        earlier.release()
        worker_state.task_reserved(self.request)

"""The Celery pool whose processes are containers: `jaas.run` occupies no thread while its container runs.

Celery hands each request to ``on_apply`` with its callbacks and expects: the accept callback when the work begins, the
task body ("trace") to be run, and the callback with what the trace returned. Here the accept callback comes when the
ledger names this worker as the job's holder, and the trace runs when the container has ended. Everything else about
a task - STARTED, results, callbacks, chords, events, `inspect active`, revoke and terminate - stays Celery's own.

All callbacks of Celery are made on its event loop's thread: its bookkeeping is not made for several.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool, apply_target
from celery.exceptions import Retry
from celery.states import READY_STATES
from celery.worker import state as worker_state

from jaas_submit import broker
from jaas_submit.errors import JaasError, JobFailed, LedgerUnavailable, SpecError, UnknownJob
from jaas_submit.ledger import ClaimAction
from jaas_submit.names import TASK_RUN, job_id_of
from jaas_submit.records import JobResult
from jaas_submit.spec import JobSpec
from jaas_submit.states import JobState
from jaas_submit.tracing import TRACEPARENT
from jaas_worker.logsetup import Action, action
from jaas_worker.reconciler import Reconciler
from jaas_worker.results import FOR_NOW
from jaas_worker.runner import Runner
from jaas_worker.settings import Settings
from jaas_worker.watch import EngineWatch

__all__ = ["CeleryDelivery", "RetryNotice", "TaskPool", "current_result"]

logger = logging.getLogger(__name__)

_WAITS = frozenset({JobState.WAITING, JobState.QUEUED, JobState.BACKOFF})
"""States of a job that nobody holds."""


class RetryNotice(NamedTuple):
    """An attempt ended, and another follows."""

    why: str
    delay: float
    """Seconds until the next attempt."""


_result: ContextVar[JobResult | RetryNotice | None] = ContextVar("jaas_result", default=None)


def current_result() -> JobResult | RetryNotice | None:
    """Return what the task body that runs now has to tell Celery; None outside of one."""
    return _result.get()


def _passed_on(value: Any) -> Any:
    """Return what a task gets from the one before it: of a job's result its output, of anything else the value."""
    if isinstance(value, list):
        return [_passed_on(one) for one in value]
    if isinstance(value, dict) and {"version", "job_id", "state", "exit_code"} <= value.keys():
        return value.get("output")
    return value


def _exception(value: Any) -> BaseException | None:
    """Return the exception in what a trace returned."""
    found = getattr(value, "exception", None)
    return found if isinstance(found, Retry) else getattr(found, "exc", found)


class CeleryDelivery:
    """A received `jaas.run` message: what the runner may do with it, in Celery's terms."""

    def __init__(self, pool: TaskPool, target: Callable[..., Any], args: tuple[Any, ...], callbacks: dict[str, Any]):
        self.pool = pool
        self.request = callbacks["accept_callback"].__self__
        self.task_id: str = self.request.id
        self.job_id = job_id_of(self.task_id)
        headers = self.request.message.headers or {}
        self.traceparent = str(headers.get(TRACEPARENT) or "")
        self.doorbell = bool(headers.get(broker.DOORBELL))
        self.pid = next(pool.pids)
        self._target = target
        self._args = args
        self._callback: Callable[..., None] = callbacks["callback"]
        self._accept: Callable[..., None] = callbacks["accept_callback"]
        self._outcome: Any = None
        self._was_accepted = False

    def revoked(self) -> bool:
        return self.task_id in worker_state.revoked

    def description(self) -> JobSpec:
        args, kwargs = self.request.args, self.request.kwargs
        if not isinstance(kwargs, dict) or "spec" not in kwargs:
            raise SpecError('spec: is required; send kwargs={"spec": {"image": ...}}')
        unknown = sorted(set(kwargs) - {"spec"})
        if unknown:
            raise SpecError(f"{unknown[0]}: is no argument of {TASK_RUN}; it takes spec and nothing else")
        if len(args) > 1:
            raise SpecError(f"{TASK_RUN} takes no positional arguments but the result of the task before it in a chain")
        spec = JobSpec.parse(kwargs["spec"])
        if args and args[0] is not None and spec.input is None and spec.gather is None:
            # In a chain or chord: what the task before returned; of a job, its output.
            spec = JobSpec.parse({**spec.to_wire(), "input": _passed_on(args[0])})
        return spec

    def message(self) -> str:
        message = self.request.message
        return broker.message_to_json(message.headers, message.body, message.properties)

    def accepted(self, *, first: bool = True) -> None:
        if first:  # a copy may come while the outcome is on its way, which STARTED must not overwrite
            self._store_started({"hostname": self.request.hostname, "pid": self.pid})
        self.pool.on_loop(self._accept_now)

    def _accept_now(self) -> None:
        if not self._was_accepted:
            self._was_accepted = True
            self._accept(self.pid, time.monotonic())

    def running(self, node: str, attempt: int, service: str) -> None:
        where = {"node": node, "attempt": attempt, "service": service}
        self._store_started({"hostname": self.request.hostname, "pid": self.pid, **where})
        # Flower shows a started task's "result": the event may be sent again with a newer one.
        text = f"running on {node}, attempt {attempt}, service {service}"
        self.pool.on_loop(partial(self.request.send_event, "task-started", result=text))

    def _store_started(self, meta: dict[str, Any]) -> None:
        # What people see while it runs; the outcome is in the ledger, so that losing this does no harm. Writing it late
        # does: a worker that was suspended right here would put it over the outcome that its successor has stored.
        with contextlib.suppress(Exception):
            backend: Any = self.request.task.backend
            key = backend.get_key_for_task(self.task_id)
            started = backend._get_result_meta(meta, "STARTED", None, self.request._context)
            started["task_id"] = self.task_id
            with backend.client.pipeline() as pipe:
                pipe.watch(key)
                known = pipe.get(key)
                if known and backend.decode(known)["status"] in READY_STATES:
                    return
                pipe.multi()
                pipe.set(key, backend.encode(started), ex=backend.expires)
                pipe.execute()  # WatchError where the outcome came in between

    def report(self, result: JobResult) -> bool:
        self.request.told = result.sentence(named=False)
        if result.state in {JobState.CANCELLED, JobState.SKIPPED}:
            return self.pool.wait_on_loop(self._revoke)
        try:
            failed, value = self._run_body(result)
            error = _exception(value)
        except Exception as raised:  # noqa: BLE001 (whatever Celery met when it called what follows the job)
            failed, value, error = 1, None, raised
        if failed and not isinstance(error, JobFailed):
            self._not_stored(error)
            if isinstance(error, FOR_NOW):
                return False
            try:
                # What is to follow the job cannot be called, now or ever; its outcome must reach Celery all the same.
                failed, value = self._store_alone(result)
            except FOR_NOW as raised:
                self._not_stored(raised)
                return False
        self._outcome = (failed, value if failed else result.sentence(), result.duration or 0.0)
        return True

    def _not_stored(self, error: BaseException | None) -> None:
        what = "job %s: Celery could not store its result: %r"
        logger.warning(what, self.job_id, error, extra=action(Action.RESULT_NOT_STORED))

    def _store_alone(self, result: JobResult) -> tuple[int, Any]:
        """Store the outcome and call nothing that follows it, but count it where it is a part of a chord."""
        backend, context = self.request.task.backend, self.request._context
        spec = self.request.kwargs.get("spec") if isinstance(self.request.kwargs, dict) else None
        check = spec.get("check", True) if isinstance(spec, dict) else True
        if result.ok or not check:
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
        except FOR_NOW as error:
            # Not repeated: the next attempt is in the ledger, and Celery hears of that one.
            self._not_stored(error)
            self.dropped()
            return False
        self._outcome = (failed, value, 0.0)
        return isinstance(_exception(value), Retry)

    def _run_body(self, what: JobResult | RetryNotice) -> tuple[int, Any]:
        """Have Celery trace the task body, which turns ``what`` into a result, a failure or a retry."""
        token = _result.set(what)
        try:
            failed, value, _ = self._target(*self._args)
        finally:
            _result.reset(token)
        return failed, value

    def _revoke(self) -> None:
        """End in REVOKED, as Celery's own terminate does (unless that is what brought us here)."""
        request = self.request
        self._accept_now()
        if request._already_revoked:
            # The event once more, for Flower to show why, which attempt and where.
            request.send_event("task-revoked", terminated=True, signum="SIGTERM", expired=False)
        else:
            request._announce_revoked("terminated", True, "SIGTERM", False)

    def done(self) -> None:
        if self._outcome is not None:
            self.pool.on_loop(partial(self._callback, self._outcome))

    def returned(self) -> None:
        self.pool.on_loop(self._give_back)

    def _give_back(self) -> None:
        request = self.request
        if not request.acknowledged:
            # Not `Request.reject`, whose event would have Flower show the job as rejected.
            request.acknowledged = True
            request.on_reject(logger, request.connection_errors, True)
        worker_state.task_ready(request)

    def dropped(self) -> None:
        self.pool.on_loop(self.release)

    def release(self) -> None:
        """Acknowledge the message and forget the request, without a word to the result backend."""
        self.request.acknowledge()
        worker_state.task_ready(self.request)

    def replaces(self, earlier: CeleryDelivery) -> None:
        """Take the place of an earlier message of the same task; on the event loop's thread."""
        tag = self.request.message.delivery_tag
        if tag is not None and tag == earlier.request.message.delivery_tag and not self._was_accepted:
            # The very same message: kombu puts it back with the tag that it had. To acknowledge the earlier one would
            # be to acknowledge this one, and a job that has no record yet would be lost with this worker.
            earlier.request.acknowledged = True
        earlier.release()
        worker_state.task_reserved(self.request)


class TaskPool(BasePool):
    """Runs `jaas.run` as swarm services and any other task in a few threads.

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
        self._due: deque[Callable[[], None]] = deque()
        self._stop_monitor: Callable[[], None] = lambda: None
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._has_loop = False
        self._stopped = threading.Event()
        self._lease = threading.Thread(target=self._keep_lease, name="jaas-lease", daemon=True)
        self.watch = EngineWatch(self.runner.engine, self.settings.idle_interval, self._engine_changed)
        self.reconciler = Reconciler(
            self.settings,
            self.runner.ledger,
            self.runner.engine,
            self.runner.holder,
            self.runner.label,
            inject=self.inject,
            knows=self.runner.knows,
            follows=self.runner.follows,
            have_ended=self.runner.have_ended,
            let_go=self.runner.let_go_of_unknown,
            room=self._room,
            away=lambda: bool(self.watch.away),
            queue_length=self._queue_length,
            metrics=parts.metrics,
            store=self.runner.store,
        )
        self.consumer: Any = None

    @staticmethod
    def _when_reachable(make: Callable[[], Runner]) -> Runner:
        """Return a runner; wait for Redis as long as it does not answer, and refuse an engine that is of no use."""
        while True:
            try:
                return make()
            except LedgerUnavailable as error:
                # An outage, not a defect: one line.
                logger.error("waiting: %s", error, extra=action(Action.REDIS_AWAY))  # noqa: TRY400 (no traceback)
                worker_state.maybe_shutdown()
                time.sleep(2.0)
            except JaasError as error:
                raise SystemExit(f"jaas: {error}") from error

    # -- Celery's side ----------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        self.runner.start()
        self._lease.start()
        self._stop_monitor = self.app.jaas.monitor(self.runner, partial(self._queue_length, self.settings.queue))

    def attach(self, consumer: Any) -> None:
        """Learn the consumer, whose strategies turn a message into a request; called when it is ready."""
        first = self.consumer is None
        self.consumer = consumer
        if first:
            self.watch.start()
            self.reconciler.start()

    def on_apply(self, target: Any, args: Any = None, kwargs: Any = None, **callbacks: Any) -> None:
        if args[0] != TASK_RUN:
            self._apply_plain(target, args, kwargs, callbacks)
            return
        delivery = CeleryDelivery(self, target, args, callbacks)
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
            with contextlib.suppress(UnknownJob):
                self.runner.ledger.cancel(job_id, why)
            self.runner.cancel(job_id, why)

        self.runner.background(write)

    def withdraw(self, job_id: str, *, terminate: bool) -> None:
        """Cancel a job durably, if it waits.

        Args:
            job_id: the job's id.
            terminate: also one that is being launched or runs. Celery tells its holder; who takes a job over from a
                holder that is gone learns of it from the ledger.
        """

        def write() -> None:
            ledger = self.runner.ledger
            with contextlib.suppress(UnknownJob):  # its message has not arrived: Celery remembers the id for that
                if ledger.get(job_id).state in _WAITS:
                    ledger.cancel(job_id, "revoked through Celery")
                elif terminate:
                    ledger.cancel(job_id, "terminated through Celery")

        self.runner.background(write)

    def discarded(self, job_id: str, why: str) -> None:
        """Cancel a job whose message Celery has discarded, with REVOKED in its result backend."""

        def write() -> None:
            ledger = self.runner.ledger
            with contextlib.suppress(UnknownJob):
                if ledger.get(job_id).state not in _WAITS:
                    return  # it was a copy; the job has long been launched, and terminate is another word
                state, done = ledger.cancel(job_id, why)
                # Celery has the outcome already, so that nobody has to bring it there.
                over = done or state is JobState.CANCELLED
                if over and ledger.claim(job_id, self.runner.holder).action is ClaimAction.REPLAY:
                    ledger.reported(job_id, self.runner.holder)

        self.runner.background(write)

    def on_stop(self) -> None:
        """Hand the jobs over: the containers go on, another worker follows them."""
        self._stopped.set()
        self._stop_monitor()
        self.watch.close()
        if self.consumer is not None:
            self.reconciler.close()
        self._threads.shutdown(wait=True)
        self._has_loop = False  # the event loop has ended; what is still due is done here
        self._drain()
        self.runner.hand_over()
        self._drain()

    def on_terminate(self) -> None:
        self.on_stop()

    def register_with_event_loop(self, loop: Any) -> None:
        loop.add_reader(self._wake_fd, self._on_wake)
        self._has_loop = True
        self._wake()

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc] # not in the stubs
        return {**info, "jaas": {"holder": self.runner.holder, **self.runner.stats()}}

    # -- the event loop's thread ------------------------------------------------------------------------------------

    def on_loop(self, call: Callable[[], None]) -> None:
        """Have a call made on the event loop's thread."""
        self._due.append(call)
        self._wake()

    def wait_on_loop(self, call: Callable[[], None], timeout: float = 30.0) -> bool:
        """Have a call made on the event loop's thread and wait for it; False when it failed or did not come about."""
        finished = threading.Event()
        worked = False

        def run() -> None:
            nonlocal worked
            try:
                call()
                worked = True
            except FOR_NOW as error:
                logger.warning("Celery could not be told: %r", error, extra=action(Action.RESULT_NOT_STORED))
            finally:
                finished.set()

        self.on_loop(run)
        finished.wait(timeout)
        return worked

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _on_wake(self, *_: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        self._drain()

    def _drain(self) -> None:
        while self._due:
            call = self._due.popleft()
            try:
                call()
            except Exception:  # one request's trouble must not end the worker
                logger.exception("a callback failed", extra=action(Action.STEP_FAILED))

    # -- the reconciler's side --------------------------------------------------------------------------------------

    def inject(self, job_id: str) -> None:
        """Take a job as if its message had just arrived, without the way through the queue."""
        record = self.runner.ledger.get(job_id)
        text = self.runner.ledger.message(job_id) or broker.message_of(record)
        self.on_loop(partial(self._inject_now, text))

    def _inject_now(self, text: str) -> None:
        message = broker.message_from_json(text)
        strategy = self.consumer.strategies[TASK_RUN]
        strategy(message, None, _nothing, _nothing, ())

    def _engine_changed(self, away: bool) -> None:
        """Take no messages while the engine is away, and leave to others what has come and was not begun with."""
        self.runner.metrics.engine_up.set(not away)
        self.consumer.hold(away)
        self.runner.hold(away)
        self._wake()

    def _room(self) -> int:
        """Return how many further messages this worker would like to have."""
        if self.watch.away:
            return 0
        return int(self.limit) - self.runner.stats()["waiting"]

    def _queue_length(self, queue: str) -> int:
        """Return how many messages wait in a queue; one in which none waits does not exist for kombu."""
        try:
            with self.app.connection_for_read() as connection, connection.channel() as channel:
                try:
                    return int(channel.queue_declare(queue, passive=True).message_count)
                except connection.channel_errors:
                    return 0
        except FOR_NOW as error:
            raise LedgerUnavailable(f"queue {queue}: Redis does not answer ({error})") from error

    def _keep_lease(self) -> None:
        settings = self.settings
        while not self._stopped.is_set():
            try:
                self.runner.renew_lease(self.app.jaas.about(self.runner))
                if settings.lease_file:
                    Path(settings.lease_file).touch()
                self.runner.look_around()
            except LedgerUnavailable as error:  # Redis may be away for long; the lease is taken anew when it is back
                self.runner.metrics.lease_renewals.labels("failed").inc()
                logger.warning("the lease could not be renewed: %s", error, extra=action(Action.LEASE_NOT_RENEWED))
            except Exception:  # without its lease this worker would launch nothing any more
                logger.exception("the lease could not be renewed", extra=action(Action.LEASE_NOT_RENEWED))
            self._stopped.wait(settings.lease / 3)


def _nothing(*_: Any) -> None:
    """There is no broker message to acknowledge or reject."""

"""The life of a job in this worker: claim, launch, track, finish, report. Knows the ledger and the engine, not Celery.

Each step is idempotent and is repeated after a TemporaryError; what happens when the worker dies between two lines is
told in docs/guarantees.md. The order within a step is what makes it safe:

* claim:   the ledger names this worker before the message is acknowledged.
* launch:  the ledger says LAUNCHING before the service is created, and the service's name admits one only.
* finish:  outcome and logs are in the ledger before the service is removed.
* report:  Celery has the result before the ledger forgets that somebody has to bring it there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from jaas_submit.errors import EngineRefused, EngineUnavailable, LedgerUnavailable, SpecError, TemporaryError
from jaas_submit.explain import Node
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.names import LABEL_LEDGER, LABEL_PREFIX, LABEL_SPEC_HASH, service_name
from jaas_submit.records import Attempt, CapturedOutput, JobRecord, JobResult, Logs, LogStatus, Outcome
from jaas_submit.spec import JobSpec
from jaas_submit.states import Cause, JobState
from jaas_submit.store import Store
from jaas_worker.engine import Engine, ResolvedImage, TaskView
from jaas_worker.entry import Delivery, Entry, Phase
from jaas_worker.failpoints import failpoint
from jaas_worker.inputs import input_file
from jaas_worker.later import Later
from jaas_worker.launcher import create_or_adopt
from jaas_worker.logs import read_logs
from jaas_worker.logsetup import Action, about, about_job, action
from jaas_worker.metrics import Metrics
from jaas_worker.observe import (
    StopRequest,
    attempt_task,
    gone_outcome,
    lost_outcome,
    outcome_of,
    parse_time,
    refused_outcome,
    waiting_reason,
)
from jaas_worker.outputs import with_output
from jaas_worker.retry import decide, spec_for_attempt
from jaas_worker.settings import Settings
from jaas_worker.tracing import ENV_TRACEPARENT, AttemptTimes, make_tracer
from jaas_worker.tracker import Tracker

__all__ = ["Runner"]

logger = logging.getLogger(__name__)

_MOST_SURPRISES = 5
"""How often a step may fail with an error that nobody expected before the job is failed with it."""

_LOST_AFTER = 60.0
"""Seconds a node must be down before on_node_lost retry or fail acts, unless the job says otherwise."""

_KILLED = 137
"""Exit code of a process that was killed with SIGKILL."""

_HAND_OVER_PATIENCE = 3.0
"""Seconds that a shutdown waits for calls to the engine that are under way."""

Step = Callable[[Entry], None]


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
        self.store = store
        self.metrics = metrics or Metrics()
        self.tracer = make_tracer(settings.traces)
        self.ledger = ledger
        self.engine = engine
        self.holder = holder
        identity = ledger.identity()
        self.label = f"{LABEL_LEDGER}={identity}"
        self._marks = {LABEL_PREFIX: settings.prefix, LABEL_LEDGER: identity}
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._entries: dict[str, Entry] = {}
        self._line: deque[tuple[Step, Entry]] = deque()
        self._starting: set[str] = set()
        self._ended: set[str] = set()
        self._in_flight = 0
        self._closing = False
        self._lease_until = 0.0
        self._nodes: dict[str, str] = {}
        self._images: dict[tuple[str, str | None], tuple[float, ResolvedImage | None]] = {}
        self._later = Later()
        self._finishers = ThreadPoolExecutor(settings.finish_threads, thread_name_prefix="jaas-finish")
        self._launchers = [
            threading.Thread(target=self._launch_loop, name=f"jaas-launch-{n}", daemon=True)
            for n in range(settings.launch_threads)
        ]
        self._listen = threading.Thread(target=self._listen_for_cancels, name="jaas-cancels", daemon=True)
        self._next_cancel_check = 0.0
        self.tracker = Tracker(engine, self.label, settings, self)

    # -- from outside -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the lease and start all threads. With Redis away they wait for it."""
        try:
            self.renew_lease({})
        except LedgerUnavailable as error:
            logger.warning("no lease yet: %s", error, extra=action(Action.LEASE_NOT_RENEWED))
        self._later.start()
        self.tracker.start()
        self._listen.start()
        for thread in self._launchers:
            thread.start()

    def take(self, delivery: Delivery) -> Delivery | None:
        """Take a message. Returns at once.

        Args:
            delivery: the message.

        Returns:
            The earlier message of the same job, when this one takes its place.
        """
        with self._room:
            known = self._entries.get(delivery.job_id)
            if known:
                earlier, known.delivery = known.delivery, delivery
                if known.accepted:
                    delivery.accepted(first=False)
                return earlier
            entry = Entry(delivery.job_id, delivery)
            self._entries[entry.job_id] = entry
            self._line.append((self._claim, entry))
            if entry.job_id in self._ended:
                self._ended.discard(entry.job_id)
                self._pass_the_line(entry)
            self._room.notify()
        return None

    def have_ended(self, job_ids: Iterable[str]) -> None:
        """Learn of jobs that need no place in the swarm: their end is written down, Celery only has to hear of it.

        Args:
            job_ids: those jobs; their messages may be here already, or come in a moment.
        """
        with self._room:
            for job_id in job_ids:
                entry = self._entries.get(job_id)
                if entry is None:
                    self._ended.add(job_id)
                elif entry.phase is Phase.WAITING:
                    self._pass_the_line(entry)
            self._room.notify_all()

    def _pass_the_line(self, entry: Entry) -> None:
        self._line.remove((self._claim, entry))
        entry.phase = Phase.LAUNCHING
        self._in_flight += 1
        self._line.appendleft((self._claim, entry))

    def let_go_of_unknown(self) -> list[str]:
        """Give up jobs that the ledger says this worker holds, and of which it knows nothing; return their ids.

        That happens when Redis comes back older than it was, or when a step was broken off for good.
        """
        unknown = [job_id for job_id in self.ledger.holds(self.holder) if job_id not in self._entries]
        return [job_id for job_id in unknown if self.ledger.release(job_id, self.holder)]

    def knows(self, job_id: str) -> bool:
        """Return whether this worker has the job in its hands, be it only waiting."""
        return job_id in self._entries

    def cancel(self, job_id: str, why: str) -> None:
        """Have a job of this worker stopped; the ledger's record says so already.

        Args:
            job_id: the job's id; unknown ones are ignored.
            why: the reason.
        """
        entry = self._entries.get(job_id)
        if entry:
            self._stop(entry, StopRequest(Cause.CANCELLED, why))

    def background(self, call: Callable[[], None]) -> None:
        """Have a short call made on one of this worker's own threads; it is repeated while Redis does not answer."""

        def run() -> None:
            try:
                call()
            except TemporaryError as error:
                logger.warning("%s; trying again", error, extra=action(Action.STEP_REPEATED))
                self._later.call(1.0, lambda: self.background(call))

        if not self._closing:
            self._finishers.submit(run)

    def renew_lease(self, info: dict[str, Any]) -> None:
        """Tell the ledger that this worker is alive.

        Args:
            info: what the worker says about itself.

        Raises:
            LedgerUnavailable: Redis does not answer; the lease runs out unless a later call gets through.
        """
        asked = time.monotonic()
        kept = self.ledger.renew(self.holder, self.settings.lease, info)
        self.metrics.lease_renewals.labels("ok" if kept else "lost").inc()
        if not kept:
            logger.warning(
                "the lease had run out; jobs of this worker may have been taken over by others",
                extra=action(Action.LEASE_LOST),
            )
        self._lease_until = asked + self.settings.lease

    def stats(self) -> dict[str, int]:
        """Return how many jobs wait in this worker, are starting, and are in flight."""
        with self._lock:
            return {
                "waiting": len(self._entries) - self._in_flight,
                "starting": len(self._starting),
                "in_flight": self._in_flight,
            }

    def hand_over(self) -> None:
        """Let go of every job (shutdown): containers go on, and another worker follows them to their end."""
        with self._room:
            self._closing = True
            self._room.notify_all()
        self.tracker.close()
        # What is being written down right now shall be done, but the next worker must not wait for a hanging call.
        deadline = time.monotonic() + _HAND_OVER_PATIENCE
        for thread in self._launchers:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self._later.close()
        self._finishers.shutdown(wait=False, cancel_futures=True)
        for thread in tuple(self._finishers._threads):
            thread.join(max(deadline - time.monotonic(), 0.0))
        released = 0
        try:
            for entry in list(self._entries.values()):
                if entry.accepted and entry.phase is not Phase.GONE:
                    failpoint("release.before")
                    released += self.ledger.release(entry.job_id, self.holder)
                    failpoint("release.after")
            self.ledger.drop_lease(self.holder)
        except LedgerUnavailable as error:
            logger.warning(
                "not all jobs could be handed over; the lease will run out: %s",
                error,
                extra=action(Action.LEASE_NOT_RENEWED),
            )
        self.tracer.close()
        logger.info(
            "handed over %d jobs; their containers go on",
            released,
            extra=action(Action.WORKER_HANDED_OVER, jobs=released),
        )

    # -- steps and their repetition ---------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        _, entry = self._line[0]
        # Only a new job takes a place; what is in flight already may always go on.
        if entry.phase is not Phase.WAITING:
            return True
        return self._in_flight < self.settings.max_in_flight and len(self._starting) < self.settings.max_starting

    def _launch_loop(self) -> None:
        while True:
            with self._room:
                while not self._closing and not (self._line and self._has_room()):
                    self._room.wait()
                if self._closing:
                    return
                step, entry = self._line.popleft()
                if entry.phase is Phase.WAITING:
                    entry.phase = Phase.LAUNCHING
                    self._in_flight += 1
                    self._starting.add(entry.job_id)
            self._try(step, entry)

    def _try(self, step: Step, entry: Entry) -> None:
        """Run one step; repeat it later when it failed for now."""
        with about(entry):
            self._try_now(step, entry)

    def _try_now(self, step: Step, entry: Entry) -> None:
        try:
            step(entry)
            entry.tries = 0
        except TemporaryError as error:
            entry.tries += 1
            self.metrics.step_repeated(error)
            delay = min(0.2 * 2 ** min(entry.tries, 10), 10.0)
            logger.warning(
                "job %s: %s; trying again in %.1f s", entry.job_id, error, delay, extra=action(Action.STEP_REPEATED)
            )
            self._later.call(delay, partial(self._again, step, entry))
        except Exception as error:  # a defect in one job's handling must not take the worker down
            entry.tries += 1
            self.metrics.step_repeated(error)
            logger.exception("job %s: unexpected error", entry.job_id, extra=action(Action.STEP_FAILED))
            if entry.tries < _MOST_SURPRISES:
                self._later.call(1.0, partial(self._again, step, entry))
            elif entry.phase in {Phase.LAUNCHING, Phase.TRACKED}:
                self._end(entry, refused_outcome(Cause.ENGINE, f"internal error: {error!r}"), Logs())
            else:
                self._give_up(entry)

    def _give_up(self, entry: Entry) -> None:
        """Let somebody else (or this worker, in a while) bring the result to Celery."""
        self._forget(entry)
        with contextlib.suppress(LedgerUnavailable):
            self.ledger.release(entry.job_id, self.holder)

    def _again(self, step: Step, entry: Entry) -> None:
        if self._closing or entry.phase is Phase.GONE:
            return
        if entry.phase is Phase.FINISHING:
            self._finishers.submit(self._try, step, entry)
        else:
            with self._room:
                self._line.appendleft((step, entry))
                self._room.notify()

    def _finish_by(self, entry: Entry, step: Step) -> bool:
        """Begin to finish an entry, once; True when this call was the one."""
        with self._lock:
            if entry.phase not in {Phase.TRACKED, Phase.LAUNCHING} or self._closing:
                return False
            entry.phase = Phase.FINISHING
            entry.tries = 0
        self._finishers.submit(self._try, step, entry)
        return True

    def _forget(self, entry: Entry) -> None:
        """The entry is no business of this worker any more."""
        self.tracker.forget(entry)
        with self._room:
            if entry.phase is Phase.GONE:
                return
            if entry.phase is not Phase.WAITING:
                self._in_flight -= 1
            entry.phase = Phase.GONE
            self._starting.discard(entry.job_id)
            if self._entries.get(entry.job_id) is entry:
                del self._entries[entry.job_id]
            self._room.notify()

    def _started(self, entry: Entry) -> None:
        """The entry does not count as starting any more."""
        with self._room:
            if entry.job_id in self._starting:
                self._starting.discard(entry.job_id)
                self._room.notify()

    def _drop(self, entry: Entry) -> None:
        """Another worker has the job, or it is over: nothing to do for this message."""
        delivery = entry.delivery
        self._forget(entry)
        delivery.dropped()

    # -- claim and launch -------------------------------------------------------------------------------------------

    def _claim(self, entry: Entry) -> None:
        ledger, delivery = self.ledger, entry.delivery
        refusal = ""
        failpoint("claim.before")
        claim = ledger.claim(entry.job_id, self.holder)
        failpoint("claim.after")
        if claim.action is ClaimAction.UNKNOWN:
            # A foreign producer's job: its record begins here, with the message for the case that we die.
            try:
                spec = delivery.description()
            except SpecError as error:
                spec, refusal = None, str(error)
            ledger.create(entry.job_id, spec, self.settings.queue, delivery.task_id, delivery.message())
            claim = ledger.claim(entry.job_id, self.holder)
        if claim.action in {ClaimAction.HELD, ClaimAction.DONE, ClaimAction.EARLY, ClaimAction.UNKNOWN}:
            self._drop(entry)
            return
        record = ledger.get(entry.job_id)
        entry.spec, entry.state, entry.attempt = record.spec, record.state, max(record.attempt, 1)
        entry.attempts, entry.detail, entry.node, entry.started_at = (
            record.attempts,
            record.detail,
            record.node,
            record.started_at,
        )
        entry.image = record.image
        entry.has_config = record.spec is not None and (record.spec.input is not None or record.spec.gather is not None)
        entry.service = service_name(entry.job_id, entry.attempt)
        taken_over = claim.action is ClaimAction.ADOPT and not entry.accepted
        entry.late = entry.late or record.late or (taken_over and record.state is JobState.LAUNCHING)
        if not entry.accepted:
            entry.accepted = True
            entry.delivery.accepted()
            failpoint("accept.after")
        entry.traceparent = record.traceparent or delivery.traceparent
        if claim.action is ClaimAction.LAUNCH and record.attempt <= 1:
            self.metrics.claimed(record.created_at)
            entry.queued_at, entry.claimed_at = record.created_at.timestamp(), time.time()
        if claim.action is ClaimAction.REPLAY:
            entry.phase = Phase.FINISHING
            self._finishers.submit(self._try, self._report, entry)
            return
        if record.cancel and entry.stop is None:
            entry.stop = StopRequest(Cause.CANCELLED, record.cancel)
        if claim.action is ClaimAction.LAUNCH and entry.stop is None and delivery.revoked():
            entry.stop = StopRequest(Cause.CANCELLED, "revoked through Celery")
            ledger.cancel(entry.job_id, entry.stop.reason)
        self._set_deadlines(entry, record)
        if entry.spec is None:
            refusal = refusal or self._refusal(entry.delivery)
            self._end(entry, refused_outcome(Cause.REFUSED, refusal), None)
            return
        if record.state in {JobState.PENDING, JobState.RUNNING}:
            self._adopt(entry, record)
        else:
            self._launch(entry)

    def _set_deadlines(self, entry: Entry, record: JobRecord) -> None:
        """Work the job's deadlines out; one that is over before the launch is dealt with like a cancellation."""
        spec = entry.spec
        if spec is None or (spec.deadline is None and spec.expires is None):
            return
        # Redis' clock wrote created_at, and Redis' clock says how long ago that was.
        age = self.ledger.now() - record.created_at.timestamp()
        if spec.deadline is not None:
            entry.deadline = time.monotonic() + spec.deadline - age
        if entry.stop is not None:
            return
        launching_first = record.attempt <= 1 and record.state is JobState.LAUNCHING and not entry.asked
        if over := spec.too_late(age, started=not launching_first):
            entry.stop = StopRequest(*over)

    @staticmethod
    def _refusal(delivery: Delivery) -> str:
        try:
            delivery.description()
        except SpecError as error:
            return str(error)
        return "the record holds a description that this version of jaas cannot read; upgrade the workers"

    def _adopt(self, entry: Entry, record: JobRecord) -> None:
        """Go on with an attempt whose service existed when its former holder went away."""
        service = self.engine.find(entry.service)
        if service is None:
            self._gone(entry)
            return
        logger.info(
            "job %s: took over service %s",
            entry.job_id,
            entry.service,
            extra=action(Action.JOB_ADOPTED, service=entry.service),
        )
        entry.service_id = service.id
        self._track(entry)
        # How long it has waited or run already is Redis' to say: the clocks of node and worker may differ.
        since = max(self.ledger.now() - record.updated_at.timestamp(), 0.0)
        if record.state is JobState.RUNNING:
            entry.ran_before = since
        else:
            entry.launched -= since

    def _launch(self, entry: Entry) -> None:
        spec = entry.spec
        assert spec is not None
        if time.monotonic() >= self._lease_until:
            # Suspended for long, or Redis was away: somebody else may be at this job by now. Ask the ledger first.
            raise LedgerUnavailable("the lease has run out")
        if entry.stop:
            # Is there anything to stop? Not unless somebody has sent the request.
            found = self.engine.find(entry.service) if entry.late or entry.asked else None
            if found is None:
                self._end(entry, refused_outcome(entry.stop.cause, entry.stop.reason), None)
                return
        entry.asked = True
        failpoint("create.before")
        try:
            now = spec_for_attempt(spec, entry.attempts, self._nodes_there_are(entry, spec))
            pinned = self._pin_image(entry, spec)
            if pinned:
                now = now.model_copy(update={"image": pinned})
            traceparent = self.tracer.for_container(entry.traceparent, entry.job_id, entry.attempt)
            if traceparent:
                now = now.model_copy(update={"env": {ENV_TRACEPARENT: traceparent, **now.env}})
            marks = {**self._marks, LABEL_SPEC_HASH: spec.digest()}
            file = input_file(spec, self.ledger, self.store, entry.job_id, entry.attempt)
            entry.has_config = file is not None and file.data != b""
            service = create_or_adopt(self.engine, now, entry.job_id, entry.attempt, marks, file)
        except EngineRefused as error:
            self._end(entry, refused_outcome(Cause.LAUNCH, str(error)), None)
            return
        except EngineUnavailable:
            # The engine may carry the request out at any later time, even after the attempt has come to its end.
            entry.late = True
            raise
        failpoint("create.after")
        entry.service_id = service.id
        entry.launched_at = time.time()
        self.metrics.launches.inc()
        fields: dict[str, Any] = {"service": entry.service}
        if entry.late:
            fields["late"] = 1
        if not self.ledger.move(entry.job_id, self.holder, JobState.PENDING, **fields):
            # Another worker took the job over while we were suspended; it has found the same service by its name.
            logger.warning(
                "job %s: another worker has taken it over", entry.job_id, extra=action(Action.JOB_TAKEN_AWAY)
            )
            self._drop(entry)
            return
        failpoint("pending.after")
        entry.state = JobState.PENDING
        logger.info(
            "job %s: launched as service %s",
            entry.job_id,
            entry.service,
            extra=action(Action.JOB_LAUNCHED, service=entry.service, image=now.image),
        )
        self._track(entry)

    def _pin_image(self, entry: Entry, spec: JobSpec) -> str:
        """Return the image with the digest that all attempts of this job use; empty where no registry tells one."""
        if entry.image or entry.attempt > 1 or not self.settings.resolve_images:
            return entry.image
        until, found = self._images.get((spec.image, spec.registry), (0.0, None))
        if time.monotonic() >= until:
            found = self.engine.resolve(spec.image, spec.registry)
            self._images[spec.image, spec.registry] = (time.monotonic() + (10.0 if found else 60.0), found)
        if found is None:
            return ""
        if found.note:
            logger.warning("job %s: %s", entry.job_id, found.note, extra=action(Action.IMAGE_DIFFERS))
        # In the ledger before the service exists: a second attempt, or another worker, must use the same one.
        self.ledger.move(entry.job_id, self.holder, JobState.LAUNCHING, note=found.note, image=found.pinned)
        entry.image = found.pinned
        return found.pinned

    def _track(self, entry: Entry) -> None:
        with self._lock:
            entry.phase = Phase.TRACKED
            entry.launched = time.monotonic()
        self.tracker.watch(entry)
        if entry.stop:
            self._send_stop(entry)

    # -- what the tracker sees --------------------------------------------------------------------------------------

    def task_waiting(self, entry: Entry, task: TaskView, *, starting: bool) -> None:
        """Note why the task waits; one that no node can take does not count as starting."""
        if not starting:
            self._started(entry)
        detail = waiting_reason(task)
        if detail and detail != entry.detail and entry.phase is Phase.TRACKED:
            self._note(entry, entry.state, detail=detail)
            entry.detail = detail

    def task_running(self, entry: Entry, task: TaskView) -> None:
        """Note that the container runs, and where."""
        self._started(entry)
        if entry.lost is not None:  # its node is back
            entry.lost = entry.lost_since = None
            self._note(entry, entry.state, detail="")
            entry.detail = ""
        if entry.running_since is not None or entry.phase is not Phase.TRACKED:
            return
        entry.started_at = parse_time(task.timestamp)
        entry.node = self._node_name(task.node_id)
        started = entry.started_at.timestamp() if entry.started_at else ""
        failpoint("running.before")
        self._note(entry, JobState.RUNNING, node=entry.node or "", started_at=started)
        failpoint("running.after")
        entry.running_since = time.monotonic()
        entry.state = JobState.RUNNING
        logger.info(
            "job %s: running on %s",
            entry.job_id,
            entry.node or "?",
            extra=action(Action.JOB_RUNNING, node=entry.node, service=entry.service),
        )
        entry.delivery.running(entry.node or "?", entry.service)

    def task_ended(self, entry: Entry, task: TaskView) -> None:
        """Begin to write the end down."""
        if self._finish_by(entry, partial(self._finish, task=task)):
            self._started(entry)
            self.tracker.forget(entry)

    @about_job
    def service_gone(self, entry: Entry) -> None:
        """Somebody removed the service, or a stop that took too long did."""
        if self._finish_by(entry, self._finish_gone):
            self.tracker.forget(entry)

    def _note(self, entry: Entry, state: JobState, **fields: Any) -> None:
        """Write an observation down; one that cannot be written now is seen again in the next round."""
        if not self.ledger.move(entry.job_id, self.holder, state, **fields):
            logger.warning(
                "job %s: another worker has taken it over", entry.job_id, extra=action(Action.JOB_TAKEN_AWAY)
            )
            self._drop(entry)

    def node_lost(self, entry: Entry, task: TaskView) -> None:
        """Note that nothing is known of the container until its node is back."""
        self._started(entry)
        if entry.lost is None and entry.phase is Phase.TRACKED:
            if task.node_id not in self.engine.down_nodes():
                return  # being stopped by the swarm: a drain, or somebody's update
            node = self._node_name(task.node_id) or task.node_id
            detail = f"node {node} is down: whether the container still runs is unknown"
            logger.warning("job %s: %s", entry.job_id, detail, extra=action(Action.JOB_NODE_LOST, node=node))
            self._note(entry, entry.state, detail=detail)
            entry.detail, entry.node, entry.lost_since = detail, node, time.monotonic()
            entry.lost = task

    def _nodes_there_are(self, entry: Entry, spec: JobSpec) -> tuple[Node, ...]:
        """Return the nodes where the next attempt may have to avoid some; empty where that does not matter."""
        return self.engine.cluster().nodes if spec.retry.avoid_failed_nodes and entry.attempts else ()

    def _node_name(self, node_id: str) -> str | None:
        if node_id and node_id not in self._nodes:
            self._nodes = self.engine.node_names()
        return self._nodes.get(node_id)

    # -- finish and report ------------------------------------------------------------------------------------------

    def _finish(self, entry: Entry, task: TaskView) -> None:
        times = self.engine.container_times(task.container_id) if task.container_id else None
        outcome = outcome_of(task, self._node_name(task.node_id), entry.started_at, times, entry.stop)
        if outcome.cause is Cause.EXIT and outcome.exit_code == _KILLED and entry.spec and entry.spec.limits.memory:
            # Docker 20.10 does not always say so, and never of other nodes: SIGKILL under a memory limit is the sign.
            outcome = outcome.model_copy(update={"cause": Cause.OOM})
        settings = self.settings
        logs = read_logs(self.engine, entry.service_id, task.container_id, settings.log_limit, settings.log_timeout)
        self._write_end(entry, outcome, logs)

    def _gone(self, entry: Entry) -> None:
        self._end(entry, gone_outcome(entry.stop, entry.node, entry.started_at), None)

    def _finish_gone(self, entry: Entry) -> None:
        self._write_end(entry, gone_outcome(entry.stop, entry.node, entry.started_at), None)

    def _end(self, entry: Entry, outcome: Outcome, logs: Logs | None) -> None:
        """Finish an entry that has no task to look at."""
        self._finish_by(entry, partial(self._write_end, outcome=outcome, logs=logs))

    def _write_end(self, entry: Entry, outcome: Outcome, logs: Logs | None) -> None:
        launched = bool(entry.service_id)
        output: str | None = None
        if entry.spec is not None:
            keep = partial(self._keep_output, entry) if self.store else None
            outcome, output = with_output(entry.spec, outcome, logs, self.settings.output_limit, keep)
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
        failpoint("finish.before")
        if not self.ledger.finish(entry.job_id, self.holder, attempts, logs, output):
            logger.warning(
                "job %s: another worker has taken it over", entry.job_id, extra=action(Action.JOB_TAKEN_AWAY)
            )
            self._drop(entry)
            return
        failpoint("finish.after")
        self._tell_end(entry, attempts[-1], retried=False)
        self._remove_service(entry)
        failpoint("remove.after")
        # From here on only the report is repeated: the service is gone in a moment, and with it what it could tell.
        self._try(partial(self._report, logs=logs), entry)

    def _tell_end(self, entry: Entry, attempt: Attempt, *, retried: bool) -> None:
        """Count and trace an attempt whose end is in the ledger."""
        self.metrics.attempt_ended(attempt, entry.launched_at, retried=retried)
        times = AttemptTimes(entry.queued_at, entry.claimed_at, entry.launched_at, time.time())
        try:
            self.tracer.attempt_ended(entry.traceparent, entry.job_id, attempt, times)
        except Exception:  # what is shown of a job must never change what becomes of it
            logger.exception("job %s: its trace could not be made", entry.job_id, extra=action(Action.STEP_FAILED))

    def _keep_output(self, entry: Entry, text: str) -> str:
        assert self.store is not None
        return json.dumps(self.store.write(entry.job_id, f"output-{entry.attempt}.json", [text.encode()]))

    def _back_off(self, entry: Entry, attempts: tuple[Attempt, ...], logs: Logs | None, delay: float) -> bool:
        """Write down that another attempt follows; False when the job is to end all the same."""
        last = attempts[-1]
        ended = f"exit code {last.exit_code}" if last.exit_code is not None else f"cause {last.cause}"
        why = f"attempt {last.number} ended ({ended}: {last.reason}); the next one in {delay:.1f} s: {last.decision}"
        failpoint("retry.before")
        done, cancel = self.ledger.back_off(entry.job_id, self.holder, attempts, logs, delay, why)
        failpoint("retry.after")
        if not done and cancel:
            return False
        if not done:
            logger.warning(
                "job %s: another worker has taken it over", entry.job_id, extra=action(Action.JOB_TAKEN_AWAY)
            )
            self._drop(entry)
            return True
        self._tell_end(entry, last, retried=True)
        self._remove_service(entry)
        logger.info(
            "job %s: %s", entry.job_id, why, extra=action(Action.JOB_RETRYING, cause=last.cause, delay=round(delay, 1))
        )
        # Celery's RETRY is for those who look; the next attempt is in the ledger, whether Celery hears of this or not.
        delivery = entry.delivery
        delivery.retrying(why, delay)
        self._forget(entry)
        delivery.done()
        return True

    def _remove_service(self, entry: Entry) -> None:
        """Have the service of an attempt that has ended removed in a while; the reconciler removes it if we cannot."""
        if entry.late or not (entry.service_id or entry.has_config):
            return

        def remove() -> None:
            with about(entry):
                try:
                    # Redis may have come back older than it was: then the service is needed once more.
                    for record in self.ledger.find([entry.job_id]):
                        if not record.terminal and not any(a.number == entry.attempt for a in record.attempts):
                            return
                    if entry.service_id:
                        self.engine.remove(entry.service_id)
                    if entry.has_config:
                        self.engine.remove_config(entry.service)
                except (TemporaryError, EngineRefused) as error:
                    logger.warning(
                        "job %s: service %s is left to the reconciler: %s",
                        entry.job_id,
                        entry.service,
                        error,
                        extra=action(Action.SERVICE_LEFT),
                    )

        def start() -> None:
            if not self._closing:
                self._finishers.submit(remove)

        if self.settings.remove_delay > 0:
            self._later.call(self.settings.remove_delay, start)
        else:
            remove()

    def _report(self, entry: Entry, logs: Logs | None = None) -> None:
        record = self.ledger.get(entry.job_id)
        last = record.last
        if logs is None and last is not None:
            logs = self.ledger.logs(entry.job_id, last.number)
        result = JobResult.of(record, CapturedOutput.of(logs or Logs(), self.settings.result_log_limit))
        failpoint("report.before")
        if not entry.delivery.report(result):
            raise TemporaryError("the result did not reach Celery")
        failpoint("report.after")
        self.ledger.reported(entry.job_id, self.holder)
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
        delivery = entry.delivery
        self._forget(entry)
        delivery.done()

    # -- stopping ---------------------------------------------------------------------------------------------------

    def _stop(self, entry: Entry, request: StopRequest) -> None:
        with self._lock:
            if entry.stop is not None or entry.phase in {Phase.FINISHING, Phase.GONE}:
                return
            entry.stop = request
            tracked = entry.phase is Phase.TRACKED
        # An entry that is being launched is stopped by its launch step; a waiting one by its claim.
        if tracked:
            self._finishers.submit(self._send_stop, entry)

    @about_job
    def _send_stop(self, entry: Entry) -> None:
        failpoint("stop.before")
        try:
            self.engine.stop(entry.service_id)
            failpoint("stop.after")
        except (TemporaryError, EngineRefused) as error:
            logger.warning(
                "job %s: its container could not be stopped yet: %s",
                entry.job_id,
                error,
                extra=action(Action.JOB_STOP_FAILED),
            )
            if not self._closing:
                self._later.call(1.0, lambda: self._resend_stop(entry))
            return
        entry.stop_sent = time.monotonic()

    def _resend_stop(self, entry: Entry) -> None:
        if entry.phase is Phase.TRACKED and not self._closing:
            self._finishers.submit(self._send_stop, entry)

    def tick(self) -> None:
        """Look for jobs that wait or run for too long, and for stops that do not come to their end."""
        now = time.monotonic()
        if now >= self._next_cancel_check:
            self._next_cancel_check = now + 10.0
            self._check_cancels()
        for entry in list(self._entries.values()):
            if entry.phase is Phase.TRACKED:
                self._check_times(entry, now)

    @about_job
    def _check_times(self, entry: Entry, now: float) -> None:
        spec = entry.spec
        assert spec is not None
        if entry.stop_sent is not None:
            if now - entry.stop_sent > spec.stop_grace + self.settings.stop_timeout:
                logger.warning(
                    "job %s: its container did not stop in time; removing the service",
                    entry.job_id,
                    extra=action(Action.JOB_STOP_FAILED),
                )
                entry.stop_sent = now
                self._finishers.submit(self._remove_stuck, entry)
        elif entry.deadline is not None and now > entry.deadline:
            self._stop(entry, StopRequest(Cause.DEADLINE, f"not ended within deadline ({spec.deadline:g} s)"))
        elif entry.lost is not None:
            self._check_lost(entry, now)
        elif entry.running_since is not None:
            if spec.run_timeout is not None and self._ran_for(entry, now) > spec.run_timeout:
                self._stop(
                    entry, StopRequest(Cause.RUN_TIMEOUT, f"ran longer than run_timeout ({spec.run_timeout:g} s)")
                )
        elif spec.pending_timeout is not None and now - entry.launched > spec.pending_timeout and entry.stop is None:
            self._finishers.submit(self._stop_pending, entry)

    @about_job
    def _stop_pending(self, entry: Entry) -> None:
        """End an attempt that has waited for too long, with what the swarm says of it now, and not when last seen."""
        spec, detail = entry.spec, entry.detail
        assert spec is not None
        with contextlib.suppress(TemporaryError, EngineRefused):
            task = attempt_task(self.engine.tasks_of(entry.service_id))
            if task is not None and (task.ended or task.state == "running"):
                return  # just now: the tracker will see it
            detail = (waiting_reason(task) if task is not None else "") or detail
        reason = f"no running container within pending_timeout ({spec.pending_timeout:g} s){detail and ': ' + detail}"
        unplaced = detail.startswith("no suitable node")
        self._stop(entry, StopRequest(Cause.UNSCHEDULABLE if unplaced else Cause.PENDING_TIMEOUT, reason))

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
            if self._finish_by(entry, partial(self._write_end, outcome=outcome, logs=logs)):
                self.tracker.forget(entry)

    def _ran_for(self, entry: Entry, now: float) -> float:
        """Return for how long the container has run, also when another worker saw it start."""
        assert entry.running_since is not None
        return now - entry.running_since + entry.ran_before

    @about_job
    def _remove_stuck(self, entry: Entry) -> None:
        try:
            self.engine.remove(entry.service_id)
        except (TemporaryError, EngineRefused) as error:
            logger.warning("job %s: %s", entry.job_id, error, extra=action(Action.SERVICE_LEFT))

    def _check_cancels(self) -> None:
        """Find cancellations whose notice did not get through."""
        ids = [entry.job_id for entry in list(self._entries.values()) if entry.phase is not Phase.WAITING]
        try:
            for job_id, why in self.ledger.cancels_among(ids).items() if ids else ():
                self.cancel(job_id, why)
        except LedgerUnavailable as error:
            logger.debug("cancellations: %s", error)

    def _listen_for_cancels(self) -> None:
        while not self._closing:
            try:
                with self.ledger.cancellations() as notices:
                    while not self._closing:
                        job_id = notices.next(1.0)
                        if job_id and job_id in self._entries:
                            why = self.ledger.cancels_among([job_id]).get(job_id, "cancelled")
                            self.cancel(job_id, why)
            except LedgerUnavailable as error:
                logger.debug("cancellations: %s", error)
                self._next_cancel_check = 0.0
                time.sleep(1.0)

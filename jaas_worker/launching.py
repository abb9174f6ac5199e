"""The first steps of a job in this worker: claim, then launch, or adopt what its former holder launched.

The ledger names this worker before the message is acknowledged, and says LAUNCHING before the service is created; the
service's name admits one only.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from jaas_submit.errors import EngineRefused, EngineUnavailable, LedgerUnavailable, SpecError
from jaas_submit.ledger import Claim, ClaimAction
from jaas_submit.names import LABEL_SPEC_HASH, LABEL_WORKER, service_name
from jaas_submit.placement import Node
from jaas_submit.records import JobRecord
from jaas_submit.spec import JobSpec
from jaas_submit.states import Cause, JobState
from jaas_worker.context import Context
from jaas_worker.engine import ResolvedImage, ServiceView
from jaas_worker.entry import Delivery, Entry, Phase
from jaas_worker.failpoints import failpoint
from jaas_worker.finishing import Finishing
from jaas_worker.inflight import InFlight
from jaas_worker.inputs import input_file
from jaas_worker.launcher import create_or_adopt
from jaas_worker.logsetup import Action, action
from jaas_worker.observe import StopRequest, refused_outcome
from jaas_worker.retry import spec_for_attempt
from jaas_worker.stopping import Stopping
from jaas_worker.tracing import ENV_TRACEPARENT
from jaas_worker.tracker import Tracker
from jaas_worker.translate import membership_labels

__all__ = ["Launching"]

logger = logging.getLogger(__name__)

_NOT_OURS = frozenset({ClaimAction.HELD, ClaimAction.DONE, ClaimAction.EARLY, ClaimAction.NEWER, ClaimAction.UNKNOWN})
"""Answers to a claim after which there is nothing to do for a message."""

_MOST_IMAGES = 1000
"""Answers of registries that are kept before those that hold no longer are dropped."""


class Launching:
    """Claims jobs and brings their services into being.

    Args:
        context: the worker.
        flight: its jobs.
        finishing: ends what cannot be launched.
        stopping: stops what was to be stopped before it was launched.
        tracker: follows what was launched.
    """

    def __init__(
        self, context: Context, flight: InFlight, finishing: Finishing, stopping: Stopping, tracker: Tracker
    ) -> None:
        self._context = context
        self._flight = flight
        self._finishing = finishing
        self._stopping = stopping
        self._tracker = tracker
        self.lease_until = 0.0
        """When this worker's lease runs out, by the monotonic clock."""
        self._images: dict[tuple[str, str | None], tuple[float, ResolvedImage | None]] = {}

    def claim(self, entry: Entry) -> None:
        """Claim a job whose message has arrived, and do what its record asks for."""
        ledger, delivery = self._context.ledger, entry.delivery
        refusal = ""
        failpoint("claim.before")
        claim = self._ask_for(entry)
        failpoint("claim.after")
        if claim.action is ClaimAction.UNKNOWN and not delivery.wakeup:
            # A foreign producer's job: its record begins here, with the message for the case that we die.
            try:
                spec = delivery.description()
            except SpecError as error:
                spec, refusal = None, str(error)
            ledger.submission.create(
                entry.job_id, spec, self._context.settings.queue, delivery.task_id, delivery.message()
            )
            claim = self._ask_for(entry)
        if claim.action in _NOT_OURS:
            self._flight.drop(entry)
            return
        record = claim.record or ledger.queries.get(entry.job_id)
        if record.newer and claim.action is not ClaimAction.REPLAY and claim.state != JobState.QUEUED:
            self._leave(entry)
            return
        entry.spec, entry.state, entry.attempt = record.spec, record.state, max(record.attempt, 1)
        entry.attempts, entry.detail, entry.node, entry.started_at = (
            record.attempts,
            record.detail,
            record.node,
            record.started_at,
        )
        entry.image = record.image
        entry.labels = membership_labels(record)
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
            self._context.metrics.claimed(record.created_at)
            entry.queued_at, entry.claimed_at = record.created_at.timestamp(), time.time()
        if claim.action is ClaimAction.REPLAY:
            entry.phase = Phase.FINISHING
            self._flight.finish(self._finishing.report, entry)
            return
        if record.cancel and entry.stop is None:
            entry.stop = StopRequest(Cause.CANCELLED, record.cancel)
        if claim.action is ClaimAction.LAUNCH and entry.stop is None and delivery.revoked():
            entry.stop = StopRequest(Cause.CANCELLED, "revoked through Celery")
            ledger.submission.cancel(entry.job_id, entry.stop.reason)
        self._set_deadlines(entry, record)
        if entry.spec is None:
            refusal = refusal or self._refusal(entry.delivery, record)
            self._finishing.end(entry, refused_outcome(Cause.REFUSED, refusal), None)
            return
        if record.state in {JobState.PENDING, JobState.RUNNING}:
            self._adopt(entry, record)
        else:
            self._launch(entry)

    def _ask_for(self, entry: Entry) -> Claim:
        entry.held_at = time.monotonic()  # before the question: the answer may be read after a long suspension
        return self._context.ledger.ownership.claim(entry.job_id, self._context.holder)

    def _leave(self, entry: Entry) -> None:
        """Leave a job under way to a worker of the newer version that described it: refusing it would end a container.

        Nobody looks for it until a lease is over, so that such a worker gets at it, and not this one again and again.
        """
        self._context.ledger.ownership.release(entry.job_id, self._context.holder, self._context.settings.lease)
        logger.warning(
            "job %s: left to a worker of the newer version that described it",
            entry.job_id,
            extra=action(Action.JOB_LEFT),
        )
        self._flight.drop(entry)

    def _set_deadlines(self, entry: Entry, record: JobRecord) -> None:
        """Work the job's deadlines out; one that is over before the launch is dealt with like a cancellation."""
        spec = entry.spec
        if spec is None or (spec.deadline is None and spec.expires is None):
            return
        # Redis' clock wrote created_at, and Redis' clock says how long ago that was.
        age = self._context.ledger.now() - record.created_at.timestamp()
        if spec.deadline is not None:
            entry.deadline = time.monotonic() + spec.deadline - age
        if entry.stop is not None:
            return
        launching_first = record.attempt <= 1 and record.state is JobState.LAUNCHING and not entry.asked
        if over := spec.too_late(age, started=not launching_first):
            entry.stop = StopRequest(*over)

    @staticmethod
    def _refusal(delivery: Delivery, record: JobRecord) -> str:
        if record.unreadable:
            return f"{record.unreadable} (or upgrade the workers, where a newer version of jaas described it)"
        try:
            delivery.description()
        except SpecError as error:
            return str(error)
        return "its description is missing; submit it once more"

    def _adopt(self, entry: Entry, record: JobRecord) -> None:
        """Go on with an attempt whose service existed when its former holder went away."""
        service = self._context.engine.find(entry.service)
        if service is None:
            self._finishing.gone(entry)
            return
        logger.info(
            "job %s: took over service %s",
            entry.job_id,
            entry.service,
            extra=action(Action.JOB_ADOPTED, service=entry.service),
        )
        self._note_service(entry, service)
        self._track(entry)
        # How long it has waited or run already is Redis' to say: the clocks of node and worker may differ.
        since = max(self._context.ledger.now() - record.updated_at.timestamp(), 0.0)
        if record.state is JobState.RUNNING:
            entry.ran_before = since
        else:
            entry.launched -= since
        entry.check_at = 0.0

    def _launch(self, entry: Entry) -> None:
        spec = entry.spec
        assert spec is not None
        if time.monotonic() >= self.lease_until:
            # Suspended for long, or Redis was away: somebody else may be at this job by now. Ask the ledger first.
            raise LedgerUnavailable("the lease has run out")
        if entry.stop:
            # Is there anything to stop? Not unless somebody has sent the request.
            found = self._context.engine.find(entry.service) if entry.late or entry.asked else None
            if found is None:
                self._finishing.end(entry, refused_outcome(entry.stop.cause, entry.stop.reason), None)
                return
        entry.asked = True
        failpoint("create.before")
        try:
            now = spec_for_attempt(spec, entry.attempts, self._nodes_there_are(entry, spec))
            pinned = self._pin_image(entry, spec)
            if pinned is None:
                self._flight.taken_away(entry)
                return
            if pinned:
                now = now.model_copy(update={"image": pinned})
            traceparent = self._context.tracer.for_container(entry.traceparent, entry.job_id, entry.attempt)
            if traceparent:
                now = now.model_copy(update={"env": {ENV_TRACEPARENT: traceparent, **now.env}})
            marks = {**self._context.marks, LABEL_SPEC_HASH: spec.digest(), **entry.labels}
            file = input_file(spec, self._context.ledger, self._context.store, entry.job_id, entry.attempt)
            entry.has_config = file is not None and file.data != b""
            if not self._still_ours(entry):
                self._flight.taken_away(entry)
                return
            service = create_or_adopt(
                self._context.engine, now, entry.job_id, entry.attempt, marks, file, self._context.holder
            )
        except EngineRefused as error:
            self._finishing.end(entry, refused_outcome(Cause.LAUNCH, str(error)), None)
            return
        except EngineUnavailable:
            # The engine may carry the request out at any later time, even after the attempt has come to its end.
            entry.late = True
            raise
        failpoint("create.after")
        self._note_service(entry, service)
        entry.launched_at = time.time()
        self._context.metrics.launches.inc()
        fields: dict[str, Any] = {"service": entry.service}
        if entry.late:
            fields["late"] = 1
        if not self._context.ledger.ownership.move(entry.job_id, self._context.holder, JobState.PENDING, **fields):
            # Another worker took the job over while we were suspended; it has found the same service by its name.
            self._flight.taken_away(entry)
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

    def _still_ours(self, entry: Entry) -> bool:
        """Return whether the ledger has named this worker as the job's holder less than a lease ago.

        Since the claim this worker may have been suspended for so long that its lease ran out and another worker took
        the job over; that the lease has been renewed after that says nothing of the job.

        Raises:
            LedgerUnavailable: the lease has run out, or Redis does not answer.
        """
        now = time.monotonic()
        if now >= self.lease_until:
            raise LedgerUnavailable("the lease has run out")
        if now - entry.held_at < self._context.settings.lease:
            return True
        entry.held_at = now
        return self._context.ledger.ownership.move(entry.job_id, self._context.holder, JobState.LAUNCHING)

    def _pin_image(self, entry: Entry, spec: JobSpec) -> str | None:
        """Return the image with the digest that all attempts of this job use.

        Returns:
            Empty where no registry tells one; None when the job is not this worker's any more.
        """
        if entry.image or entry.attempt > 1 or not self._context.settings.resolve_images:
            return entry.image
        until, found = self._images.get((spec.image, spec.registry), (0.0, None))
        if time.monotonic() >= until:
            found = self._context.engine.resolve(spec.image, spec.registry)
            self._keep_image(spec, found)
        if found is None:
            return ""
        if found.note:
            logger.warning("job %s: %s", entry.job_id, found.note, extra=action(Action.IMAGE_DIFFERS))
        # In the ledger before the service exists: a second attempt, or another worker, must use the same one.
        ledger, holder = self._context.ledger, self._context.holder
        if not ledger.ownership.move(entry.job_id, holder, JobState.LAUNCHING, note=found.note, image=found.pinned):
            return None
        entry.image = found.pinned
        return found.pinned

    def _keep_image(self, spec: JobSpec, found: ResolvedImage | None) -> None:
        now = time.monotonic()
        if len(self._images) >= _MOST_IMAGES:
            for key, (until, _) in list(self._images.items()):  # several threads launch
                if until <= now:
                    self._images.pop(key, None)
        self._images[spec.image, spec.registry] = (now + (10.0 if found else 60.0), found)

    @staticmethod
    def _note_service(entry: Entry, service: ServiceView) -> None:
        entry.service_id = service.id
        worker = service.labels.get(LABEL_WORKER)  # whichever launched it
        entry.label = f"{LABEL_WORKER}={worker}" if worker else ""

    def _track(self, entry: Entry) -> None:
        with self._flight.lock:
            entry.launched = time.monotonic()
            entry.phase = Phase.TRACKED
        self._tracker.watch(entry)
        if entry.stop:
            self._stopping.send_stop(entry)

    def _nodes_there_are(self, entry: Entry, spec: JobSpec) -> tuple[Node, ...]:
        """Return the nodes where the next attempt may have to avoid some; empty where that does not matter."""
        return self._context.engine.cluster().nodes if spec.retry.avoid_failed_nodes and entry.attempts else ()

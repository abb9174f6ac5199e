"""The first step of a job in this worker: the ledger names it as the holder before the message is acknowledged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace

from jaas_submit.errors import EngineUnavailable, SpecError
from jaas_submit.ledger import Claim, ClaimAction, Note
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import MESSAGE_EXPIRED, JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_SPEC_HASH
from jaas_submit.policy.names import is_pinned_form
from jaas_submit.signing import Producer
from jaas_worker.admission.gate import Origin
from jaas_worker.decisions.node_outage import down_since
from jaas_worker.decisions.place_wait import waits_for_place
from jaas_worker.decisions.speculation import copy_spec
from jaas_worker.decisions.task_outcome import StopRequest
from jaas_worker.decisions.unseen_ends import refused_outcome
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle.next_step import Adopt, Drop, End, Launch, Report
from jaas_worker.lifecycle.tracked_job import NO_LABELS, AttemptFacts, Delivery, TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext
from jaas_worker.swarm.membership import membership_labels
from jaas_worker.telemetry.audit_log import log_acts
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["claim"]

logger = logging.getLogger(__name__)

_NOT_OURS = frozenset(set(ClaimAction) - {ClaimAction.LAUNCH, ClaimAction.ADOPT, ClaimAction.REPLAY})
"""Answers to a claim that leave nothing to do for a message."""


_KNOWN = frozenset({ClaimAction.HELD, ClaimAction.DONE, ClaimAction.EARLY, ClaimAction.KEPT})
"""Those of them whose job another message has brought."""


def claim(job: TrackedJob, world: WorkerContext) -> Drop | Report | End | Adopt | Launch:
    """Claim a job whose message has arrived, and return the step that its record asks for.

    Args:
        job: the job.
        world: the worker.

    Raises:
        TemporaryError: Redis does not answer.
    """
    failpoint("claim.before")
    answer = _ask_for(job, world)
    failpoint("claim.after")
    refusal = ""
    if answer.action is ClaimAction.UNKNOWN and not job.delivery.wakeup:
        # A foreign producer's job whose record could not be written when its message arrived.
        refusal = _create_record(job, world)
        answer = _ask_for(job, world)
    if answer.action in _NOT_OURS:
        return _another_message(job, answer.action, world)
    record = answer.record or world.ledger.queries.get(job.job_id)
    if record.newer and answer.action is not ClaimAction.REPLAY and answer.state != JobState.QUEUED:
        return _leave(job, world)
    under_way = record.state in {JobState.PENDING, JobState.RUNNING}
    taken_over = answer.action is ClaimAction.ADOPT and not job.accepted
    producer, unsigned = None, ""
    if answer.action is not ClaimAction.REPLAY:
        record, producer, unsigned = _verified(record, world, under_way)
    new = answer.action is ClaimAction.LAUNCH and record.attempt <= 1
    replayed = answer.action is ClaimAction.REPLAY
    noted = Note() if replayed else _noted(job, record, world, new=new)
    _note_record(job, record, producer, noted, world)
    # Whoever waited for a place has sent no request for the service.
    begun = taken_over and record.state is JobState.LAUNCHING and not waits_for_place(record.detail)
    job.late = job.late or record.late or begun
    if not job.accepted:
        job.accepted = True
        job.delivery.accepted()
        failpoint("accept.after")
    if new:
        world.metrics.claimed(record.created_at)
        log_acts(record.id, record.model_copy(update={"producer": producer.name if producer else ""}).history)
        job.queued_at, job.claimed_at = record.created_at.timestamp(), world.clock.time()
    if answer.action is ClaimAction.REPLAY:
        log_acts(record.id, record.audit)
        return Report()
    _note_stop(job, world, record, new=answer.action is ClaimAction.LAUNCH)
    invalid = record.spec is None or (job.delivery.defect and not under_way)
    if invalid or (unsigned and not under_way):
        why = (refusal or _refusal(job.delivery, record)) if invalid else unsigned
        return End(refused_outcome(Cause.REFUSED, why))
    if unsigned:
        job.stop = StopRequest(Cause.REFUSED, unsigned)  # its container runs, and is stopped when it is adopted
    if under_way:
        claimed = record.claimed_at if record.state is JobState.PENDING else None
        return Adopt(record.state, (claimed or record.updated_at).timestamp())
    return Launch()


def _another_message(job: TrackedJob, answer: ClaimAction, world: WorkerContext) -> Drop | Report:
    """Return the step for a message of a job that another message has brought.

    A duplicate is dropped. If a client has used the task id again, the follow-up of this message (a chord, the next
    step of a chain, callbacks) gets the job's result after its end.
    """
    if answer not in _KNOWN or not job.delivery.follow_up():
        return Drop()
    if not job.delivery.adds_to(world.ledger.ownership.foreign_message(job.job_id)):
        return Drop()
    return Report(again=True) if answer is ClaimAction.DONE else Drop(postponed=True)


def _ask_for(job: TrackedJob, world: WorkerContext) -> Claim:
    job.held_at = world.clock.monotonic()  # before the request: the answer may be read after a long suspension
    return world.ledger.ownership.claim(job.job_id, world.holder)


def _create_record(job: TrackedJob, world: WorkerContext) -> str:
    """Write the record of a job that has none; return the reason if its description is refused."""
    delivery, refusal = job.delivery, ""
    try:
        spec, signed = delivery.description(), delivery.signed()
    except SpecError as error:
        spec, signed, refusal = None, "", str(error)
    world.ledger.submission.create(job.job_id, spec, world.settings.queue, delivery.task_id, delivery.message(), signed)
    return refusal


def _leave(job: TrackedJob, world: WorkerContext) -> Drop:
    """Leave a running job to a worker of the newer version that described it: a refusal would stop its container.

    No worker looks for it until a lease has passed, so that a newer worker can take it, and not this one again.
    """
    world.ledger.ownership.release(job.job_id, world.holder, world.settings.lease)
    logger.warning(
        "job %s: left to a worker of the newer version that described it",
        job.job_id,
        extra=action(Action.JOB_VERSION_TOO_NEW),
    )
    return Drop()


def _verified(record: JobRecord, world: WorkerContext, begun: bool) -> tuple[JobRecord, Producer | None, str]:
    """Return a record with the description that its producer has signed, the producer, and why the job is refused.

    Before a launch, at each attempt, and before an adoption: the record may have been changed in between. An attempt
    that has begun goes on after its signature's time: a restart of its worker must not stop it.
    """
    try:
        passed = world.signatures.check(record.id, record.signed, world.clock.time(), record.copy_of, begun=begun)
    except SpecError as error:
        logger.warning("job %s: refused: %s", record.id, error, extra=action(Action.SIGNATURE_REFUSED))
        return record, None, str(error)
    spec = passed.spec or record.spec
    if not record.signed or spec is None:
        return record, None, ""
    described = record.model_copy(update={"spec": spec})
    if not record.copy_of:
        return described, passed.producer, ""
    copy = _copy_of(described, world)
    if copy is None:
        return described, passed.producer, f"job {record.copy_of} may not be started a second time, or not any more"
    return record.model_copy(update={"spec": copy}), passed.producer, ""


def _copy_of(record: JobRecord, world: WorkerContext) -> JobSpec | None:
    """Return the description of a copy (speculation), whose token is that of the job that it is a copy of.

    Args:
        record: the copy's, with the description in the token.
        world: the worker.

    Returns:
        None where there was nothing to copy, or no time left for it.
    """
    # What decides about the copy is taken from the job; without that, the copy is on any node.
    found = world.ledger.queries.find([record.copy_of])
    slow = (found[0] if found else record).model_copy(update={"spec": record.spec})
    cluster = None
    with contextlib.suppress(EngineUnavailable):  # nor is it worth waiting for
        cluster = world.engine.cluster()
    # The job's age when the copy was made, not now: the rest of its time counts from there.
    return copy_spec(slow, cluster, (record.created_at - slow.created_at).total_seconds())


def _labels_of(record: JobRecord) -> Mapping[str, str]:
    """Return the labels of a job's services that its description does not have."""
    labels = membership_labels(record)
    if record.copy_of and record.signed:
        # Each worker makes the copy's description from the token, by the nodes of the moment. So the token is what
        # the next worker recognises the service by.
        labels[LABEL_SPEC_HASH] = hashlib.sha256(record.signed.encode()).hexdigest()[:16]
    return labels or NO_LABELS


def _noted(job: TrackedJob, record: JobRecord, world: WorkerContext, *, new: bool) -> Note:
    """Return what workers know of a job that no producer may write; take note of the queue of a new one's message.

    A copy (speculation) uses the image of its job, and what that took of a service.
    """
    queue = world.gate.queue_of(job.delivery.queue)
    if new and queue:
        world.ledger.notes.note_queue(record.id, queue)
        return Note(queue)
    like = record.spec is not None and record.spec.like_service is not None
    if not (world.gate.policy.queues or record.image or record.attempt > 1 or like):
        return Note()
    noted = world.ledger.notes.get(record.id)
    if record.copy_of and not (noted.image and noted.like):
        first = world.ledger.notes.get(record.copy_of)
        noted = noted._replace(image=noted.image or first.image, like=noted.like or first.like)
    return noted


def _note_record(
    job: TrackedJob, record: JobRecord, producer: Producer | None, noted: Note, world: WorkerContext
) -> None:
    spec, like = record.spec, ""
    # A signed description never has it by itself; another one's record has, unless its worker died before that.
    if spec is not None and spec.like_service and noted.like:
        with contextlib.suppress(SpecError):  # else it is looked up again, which says why
            spec, like = spec.with_service(json.loads(noted.like)), noted.like
    # Whoever may write to Redis may write any image into the record, such as an old one of the same name.
    pinned = noted.image if spec is not None and is_pinned_form(noted.image, spec.image) else ""
    queues = (noted.queue,) if noted.queue else world.gate.queues_without_note(record.queue)
    job.facts = AttemptFacts(
        spec,
        max(record.attempt, 1),
        record.attempts,
        _labels_of(record),
        record.traceparent or job.delivery.traceparent,
        Origin(producer, queues),
        record.signed,
        like=like,
        pin_again=bool(record.image) and not pinned,
    )
    job.state, job.detail, job.node, job.started_at = record.state, record.detail, record.node, record.started_at
    job.image, job.platforms = pinned, record.platforms if pinned else ()
    job.away_since = down_since(record.detail)
    job.has_config = spec is not None and (spec.input is not None or spec.gather is not None)


def _note_stop(job: TrackedJob, world: WorkerContext, record: JobRecord, *, new: bool) -> None:
    """Record why the job ends early: it was cancelled, or a time limit passed before the launch."""
    if record.cancel and job.stop is None:
        job.stop = StopRequest(Cause.CANCELLED, record.cancel)
    if new and job.stop is None and job.delivery.revoked():
        job.stop = StopRequest(Cause.CANCELLED, "revoked through Celery")
        world.ledger.submission.cancel(job.job_id, job.stop.reason)
    spec = record.spec
    limited = spec and not (spec.deadline is None and spec.expires is None and spec.pending_timeout is None)
    if spec is None or not (limited or record.expires_at):
        return
    # created_at is by Redis' clock, so its age is computed by Redis' clock too.
    now = world.ledger.now()
    age = now - record.created_at.timestamp()
    if spec.pending_timeout is not None and record.state is JobState.LAUNCHING:
        job.launching_since = record.updated_at.timestamp()
        start = world.clock.monotonic() + spec.pending_timeout - (now - job.launching_since)
        job.reschedule(lambda deadlines: replace(deadlines, start=start))
    if spec.deadline is not None:
        at = world.clock.monotonic() + spec.deadline - age
        job.reschedule(lambda deadlines: replace(deadlines, job=at))
    launching_first = record.attempt <= 1 and record.state is JobState.LAUNCHING and not job.asked
    if launching_first and job.stop is None and record.message_expired(now):
        job.stop = StopRequest(Cause.CANCELLED, MESSAGE_EXPIRED)
    if job.stop is None and (over := spec.too_late(age, started=not launching_first)):
        job.stop = StopRequest(*over)


def _refusal(delivery: Delivery, record: JobRecord) -> str:
    if record.unreadable:
        return f"{record.unreadable} (or upgrade the workers, where a newer version of jaas described it)"
    if delivery.defect:  # and with the message goes what was to follow the job
        return delivery.defect
    try:
        delivery.description()
    except SpecError as error:
        return str(error)
    return "its description is missing; submit it once more"

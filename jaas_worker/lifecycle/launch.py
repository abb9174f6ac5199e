"""The second step of a job: its service is created, or found, and its name admits one only.

The ledger says LAUNCHING before the service is created.
"""

from __future__ import annotations

import contextlib
import logging
import random
from functools import partial
from sys import intern
from typing import Any, Final

from jaas_submit.errors import (
    EngineRefused,
    EngineUnavailable,
    ImageRefused,
    LedgerUnavailable,
    SpecError,
    TemporaryError,
)
from jaas_submit.model.bounds import shown
from jaas_submit.model.causes import Cause
from jaas_submit.model.cluster import Node
from jaas_submit.model.job_spec import GATHER_FILE, INPUT_FILE, JobSpec
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_JOB, LABEL_SIGNED, LABEL_SPEC_HASH, LABEL_WORKER
from jaas_submit.policy.facts import PolicyRefused
from jaas_worker.decisions.end_belief import MISSING_FOR_S
from jaas_worker.decisions.engine_refusal import NO_ANSWER, may_refuse, refuses
from jaas_worker.decisions.place_wait import place_wait_detail, place_wait_pause, waits_for_place
from jaas_worker.decisions.retry import spec_for_attempt
from jaas_worker.decisions.task_outcome import StopRequest, pending_reason
from jaas_worker.decisions.unseen_ends import gone_outcome, refused_outcome
from jaas_worker.failpoints import failpoint
from jaas_worker.lifecycle.job_input import input_file, is_own_input
from jaas_worker.lifecycle.next_step import Adopt, Drop, End, LostOwnership, Track
from jaas_worker.lifecycle.starting.job_files import file_places, is_own_config, is_own_mount
from jaas_worker.lifecycle.starting.like_service import with_service
from jaas_worker.lifecycle.tracked_job import TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext
from jaas_worker.swarm.create_or_adopt import create_or_adopt
from jaas_worker.swarm.engine import ServiceView
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.telemetry.tracing import ENV_TRACEPARENT
from jaas_worker.tracking.tracked_service import ServiceRef

__all__ = ["adopt", "launch", "note_failure"]

logger = logging.getLogger(__name__)

_MAX_DETAIL: Final = 500
"""Characters of an answer that the record keeps."""

_MAX_TOKEN_LABEL: Final = 16 * 1024
"""Characters of a token in a label, which is written to the raft log of every manager."""


def launch(job: TrackedJob, world: WorkerContext) -> Track | End | LostOwnership | Drop:
    """Create the service of an attempt, or find it by its name, and record it in the ledger.

    Args:
        job: the job, claimed by this worker.
        world: the worker.

    Raises:
        TemporaryError: Redis or the engine does not answer; the request may have been carried out.
    """
    spec = job.spec
    assert spec is not None
    world.require_lease()
    if held_back := _held_back(job, spec, world):
        return held_back
    try:
        whole = with_service(job, spec, world, partial(_note_warning, job, world=world))
        job.asked = True
        failpoint("create.before")
        wanted = _wanted(job, whole, world) if whole is not None else None
        service = _create(job, whole, wanted, world) if whole is not None and wanted is not None else None
    except (EngineRefused, PolicyRefused, SpecError) as error:
        return End(refused_outcome(_cause_of(error, job), str(error)))
    except EngineUnavailable as error:
        # The engine may carry the request out later, even after the attempt has ended.
        job.late = job.late or job.asked
        if not (job.asked and _refuses(job, error, world)):
            raise
        return End(refused_outcome(Cause.LAUNCH, str(error)))
    if whole is None or wanted is None or service is None:
        return LostOwnership()
    failpoint("create.after")
    now = world.clock.monotonic()
    world.created_at = now
    job.detail, job.answer = "", NO_ANSWER
    _note_service(job, whole, service, now, now)
    job.launched_at = world.clock.time()
    world.metrics.launches.inc()
    fields = _fields_of_launch(job, spec)
    if not world.ledger.ownership.move(job.job_id, world.holder, JobState.PENDING, service=service.name, **fields):
        # Another worker took the job over while we were suspended; it adopts the same service by its name.
        return LostOwnership()
    failpoint("pending.after")
    job.state = JobState.PENDING
    logger.info(
        "job %s: launched as service %s",
        job.job_id,
        service.name,
        extra=action(Action.JOB_LAUNCHED, service=service.name, image=wanted.image),
    )
    return Track()


def _held_back(job: TrackedJob, spec: JobSpec, world: WorkerContext) -> End | Drop | LostOwnership | None:
    """Return what to do instead of the launch: end the attempt that is to be stopped, or wait; None to go on."""
    if job.stop is None and world.clock.monotonic() > job.deadlines.start:
        assert spec.pending_timeout is not None
        job.stop = StopRequest(Cause.PENDING_TIMEOUT, pending_reason(spec.pending_timeout, job.detail))
    # There is something to stop, or to be counted already, only if a request was sent.
    sent = job.late or job.asked
    if job.stop and (not sent or world.engine.find(job.service_name) is None):
        return End(refused_outcome(job.stop.cause, job.stop.reason))
    if not (sent or job.stop) and _must_wait(job, spec, world):
        return Drop()
    if waits_for_place(job.detail):
        # Gone before the request: who takes the job over must not believe that none was sent.
        if not world.ledger.ownership.move(job.job_id, world.holder, JobState.LAUNCHING):
            return LostOwnership()
        job.detail = ""
    return None


def _must_wait(job: TrackedJob, spec: JobSpec, world: WorkerContext) -> bool:
    """Leave a job for some seconds, if the policy does not want more of them in flight; return whether that is so.

    Whoever dies right before or after leaves the job without a holder, as here: a worker takes it up again.
    """
    limits = world.gate.places(spec, job.facts.origin)
    full = world.ledger.notes.take_places(job.job_id, limits) if limits else ""
    if not full:
        return False
    detail = place_wait_detail(full, limits[full])
    if world.gate.policy.mode == "warn":
        if job.attempt <= 1:
            _note_warning(job, detail, world)
        return False
    if world.ledger.ownership.move(job.job_id, world.holder, JobState.LAUNCHING, detail=detail):
        pause = place_wait_pause(random.random())  # noqa: S311 (no secret)
        world.ledger.ownership.release(job.job_id, world.holder, pause)
    logger.debug("job %s: %s", job.job_id, detail, extra=action(Action.JOB_WAITS))
    return True


def _fields_of_launch(job: TrackedJob, spec: JobSpec) -> dict[str, Any]:
    """Return what the record gets with the service."""
    fields: dict[str, Any] = {"late": 1} if job.late else {}
    if spec.pending_timeout is not None:
        fields["claimed_at"] = job.launching_since
    if job.facts.like:
        fields["like"] = job.facts.like
    if job.facts.producer is not None:
        fields["producer"] = job.facts.producer.name
    return fields


def adopt(job: TrackedJob, step: Adopt, world: WorkerContext) -> Track | End:
    """Continue an attempt whose service existed when its former holder died or stopped.

    Args:
        job: the job, claimed by this worker.
        step: the time of the last change.
        world: the worker.

    Raises:
        TemporaryError: Redis or the engine does not answer.
    """
    spec = job.spec
    assert spec is not None
    absent_since, job.absent_since = job.absent_since, None
    service = world.engine.find(job.service_name)
    own = {LABEL_JOB: job.job_id, **world.service_defaults.installation}
    if service is None:
        job.absent_since = absent_since
        _require_absence(job, world.clock.monotonic())
    if service is None or any(service.labels.get(key) != value for key, value in own.items()):
        return End(gone_outcome(job.stop, job.node, job.started_at))
    # Redis' clock decides how long it has waited or run: the clocks of node and worker may differ.
    before = max(world.ledger.now() - step.since, 0.0)
    waited, ran = (0.0, before) if step.state is JobState.RUNNING else (before, 0.0)
    now = world.clock.monotonic()
    _note_service(job, spec, service, now, now - waited, ran)
    _review(job, spec, service, world)
    logger.info(
        "job %s: took over service %s",
        job.job_id,
        service.name,
        extra=action(Action.JOB_ADOPTED, service=service.name),
    )
    return Track()


def _require_absence(job: TrackedJob, now: float) -> None:
    """Raise EngineUnavailable until a service has been absent for a while.

    A manager that has just become the leader answers before it has applied all of its log: it says that a service does
    not exist which another manager created seconds ago (seen after a leader's SIGKILL, Docker 20.10).
    """
    if job.absent_since is None:
        job.absent_since = now
    if now - job.absent_since <= MISSING_FOR_S:
        raise EngineUnavailable(
            f"the swarm does not know service {job.service_name}; it is asked again: a new leader may not know it yet"
        )


def _review(job: TrackedJob, spec: JobSpec, service: ServiceView, world: WorkerContext) -> None:
    """Have a service stopped that this worker's policy would not have let be created.

    Another worker created it, by another policy or an older one; or the record was restored from its labels.
    """
    if job.stop is not None:
        return

    def own_mount(source: str, target: str) -> bool:
        if target in {INPUT_FILE, GATHER_FILE}:
            return is_own_input(source, spec, world.store, job.job_id)
        return is_own_mount(source, target, spec, world.store)

    own_config = partial(is_own_config, spec=spec, installation=world.service_defaults.installation)
    decision = world.gate.review(service.id, spec, own_mount, own_config, job.facts.origin)
    if decision.refused:
        job.stop = StopRequest(Cause.REFUSED, decision.reason)
    if decision.refusals:
        what = "stops it" if decision.refused else "would stop it, if it were enforced"
        logger.warning(
            "job %s: service %s: the policy %s: %s",
            job.job_id,
            service.name,
            what,
            shown(decision.reason, _MAX_DETAIL),
            extra=action(Action.POLICY_REFUSED if decision.refused else Action.POLICY_WARNED, service=service.name),
        )


def _wanted(job: TrackedJob, spec: JobSpec, world: WorkerContext) -> JobSpec | None:
    """Return the description for this attempt; None if this worker no longer holds the job."""
    facts = job.facts
    # The nodes are needed only if the attempt may have to avoid some.
    nodes: tuple[Node, ...] = ()
    if spec.retry.avoid_failed_nodes and facts.attempts:
        nodes = world.engine.cluster().nodes
    world.gate.check_image(spec, facts.origin)
    if not _pin_image(job, spec, world):
        return None
    wanted = spec_for_attempt(spec, facts.attempts, nodes, job.platforms)
    if job.image:
        wanted = wanted.model_copy(update={"image": job.image})
    traceparent = world.tracer.for_container(facts.traceparent, job.job_id, facts.attempt)
    if traceparent:
        wanted = wanted.model_copy(update={"env": {ENV_TRACEPARENT: traceparent, **wanted.env}})
    return wanted


def _create(job: TrackedJob, spec: JobSpec, wanted: JobSpec, world: WorkerContext) -> ServiceView | None:
    """Return the attempt's service; None if this worker no longer holds the job."""
    marks = {LABEL_SPEC_HASH: spec.digest(), **job.facts.labels}
    if 0 < len(job.facts.signed) <= _MAX_TOKEN_LABEL:
        marks[LABEL_SIGNED] = job.facts.signed  # a record that Redis loses is rebuilt from it
    file = input_file(spec, world.ledger.queries, world.store, job.job_id, job.attempt)
    job.has_config = file is not None and file.data != b""
    if not _still_ours(job, world):
        return None

    def admit(request: dict[str, Any]) -> dict[str, Any]:
        admitted = world.gate.admit(request, wanted, job.facts.origin)
        if admitted.warning:
            _note_warning(job, admitted.warning, world)
        return admitted.request

    named = (wanted, job.job_id, job.attempt, marks, file, world.service_defaults, job.platforms)
    parts = (partial(file_places, wanted, world), lambda: world.gate.secret_env(wanted))
    try:
        return create_or_adopt(world.engine, *named, admit, *parts)
    except TemporaryError:
        world.file_configs.forget()
        raise


def _note_warning(job: TrackedJob, warning: str, world: WorkerContext) -> None:
    """Say in log and record what the policy would refuse, if it were enforced."""
    note = f"the policy would refuse it, if it were enforced: {shown(warning, _MAX_DETAIL)}"
    logger.warning("job %s: %s", job.job_id, note, extra=action(Action.POLICY_WARNED))
    with contextlib.suppress(TemporaryError):
        world.ledger.ownership.move(job.job_id, world.holder, JobState.LAUNCHING, note=note)


def _cause_of(error: EngineRefused | PolicyRefused | SpecError, job: TrackedJob) -> Cause:
    if isinstance(error, SpecError):
        return Cause.REFUSED
    if isinstance(error, PolicyRefused):
        said = shown(str(error), _MAX_DETAIL)
        logger.warning("job %s: refused: %s", job.job_id, said, extra=action(Action.POLICY_REFUSED))
        return Cause.REFUSED
    return Cause.IMAGE if isinstance(error, ImageRefused) else Cause.LAUNCH


def _refuses(job: TrackedJob, error: EngineUnavailable, world: WorkerContext) -> bool:
    """Return whether an engine's error is a refusal: it keeps to it while it creates others' services.

    Raises:
        EngineUnavailable: it does not say whether the service exists all the same.
    """
    if not may_refuse(error.status, str(error)):
        return False
    now = world.clock.monotonic()
    job.answer = job.answer.again(str(error), now)
    return refuses(job.answer, now, world.created_at) and world.engine.find(job.service_name) is None


def note_failure(job: TrackedJob, error: TemporaryError, world: WorkerContext) -> None:
    """Note in the record what was answered to a step that will be repeated, for `explain`; nothing depends on it.

    What Redis answers is for the log: whoever takes no write takes no note of it either.

    Args:
        job: the job.
        error: what engine, registry or store answered.
        world: the worker.
    """
    said = shown(str(error), _MAX_DETAIL)
    # While its node is away the detail says since when, which a worker that adopts the job has to know.
    if not job.accepted or said == job.detail or job.away_since or isinstance(error, LedgerUnavailable):
        return
    with contextlib.suppress(TemporaryError):
        if world.ledger.ownership.move(job.job_id, world.holder, job.state, detail=said):
            job.detail = said


def _still_ours(job: TrackedJob, world: WorkerContext) -> bool:
    """Return whether the ledger has named this worker as the job's holder less than a lease ago.

    Since the claim this worker may have been suspended until its lease expired and another worker took the job over. A
    lease that was renewed after that does not prove anything about the job.

    Raises:
        LedgerUnavailable: the lease has expired, or Redis does not answer.
    """
    now = world.require_lease()
    if now - job.held_at < world.settings.lease:
        return True
    job.held_at = now
    return world.ledger.ownership.move(job.job_id, world.holder, JobState.LAUNCHING)


def _pin_image(job: TrackedJob, spec: JobSpec, world: WorkerContext) -> bool:
    """Find out, once, which digest all attempts of this job use and what it runs on, where a registry tells.

    Returns:
        False if this worker no longer holds the job.
    """
    first = job.attempt == 1 or job.facts.pin_again
    if job.image or not first or not world.settings.resolve_images:
        return True
    found = world.images.get(spec.image, spec.registry, world.clock.monotonic(), world.engine.resolve)
    if not found.pinned:
        return True
    if found.note:
        logger.warning("job %s: %s", job.job_id, found.note, extra=action(Action.IMAGE_DIFFERS))
    # In the ledger before the service exists: a second attempt, or another worker, must use the same one.
    world.ledger.notes.pin_image(job.job_id, found.pinned)
    if not world.ledger.ownership.move(
        job.job_id,
        world.holder,
        JobState.LAUNCHING,
        note=found.note,
        image=found.pinned,
        platforms=" ".join(found.platforms),
    ):
        return False
    if found.platforms and found.platforms != job.platforms:
        world.ledger.maintenance.save_platforms(spec.image, found.platforms)
    job.image, job.platforms = found.pinned, found.platforms
    return True


def _note_service(
    job: TrackedJob, spec: JobSpec, service: ServiceView, now: float, launched: float, ran_before: float = 0.0
) -> None:
    worker = service.labels.get(LABEL_WORKER)  # whichever worker launched it
    label = intern(f"{LABEL_WORKER}={worker}") if worker else ""
    health_checked = not spec.healthcheck.disable
    job.service = ServiceRef(job.job_id, job.attempt, service.id, label, health_checked)
    job.followed_since = now
    job.reschedule(lambda deadlines: deadlines.launched(spec, launched, ran_before))

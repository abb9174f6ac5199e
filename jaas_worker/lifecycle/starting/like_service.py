"""What a job takes of a deployed service: looked up once, so that all of its attempts take the same."""

from __future__ import annotations

import json
from collections.abc import Callable

from jaas_submit.errors import SpecError
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.service_options.like import fields_of_service
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_JOB
from jaas_worker.lifecycle.tracked_job import TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext

__all__ = ["with_service"]


def with_service(job: TrackedJob, spec: JobSpec, world: WorkerContext, warn: Callable[[str], None]) -> JobSpec | None:
    """Return the description with what the service has that it is to be like, if it names one.

    A worker that dies right after the note leaves it to the next one; without the note the next one looks again, and
    nothing was created yet.

    Args:
        job: the job, claimed by this worker.
        spec: its description.
        world: the worker.
        warn: is told what the policy would refuse, if it were enforced.

    Returns:
        None if this worker no longer holds the job.

    Raises:
        SpecError: there is no such service, or the job cannot be like it.
        PolicyRefused: the job may not be like it.
        TemporaryError: Redis or the engine does not answer.
    """
    name = spec.like_service
    if name is None:
        return spec
    found = world.engine.request_of(name)
    if found is None:
        raise SpecError(
            f"like_service: the swarm has no service {name}; `docker service ls` lists those that there are"
        )
    labels = found.get("Labels") or {}
    if LABEL_JOB in labels:
        raise SpecError(f"like_service: {name} is the service of a job; `jaas replay ID` submits a job again")
    if warning := world.gate.check_service(str(found.get("Name")), labels, spec, job.facts.origin):
        warn(warning)
    try:
        fields = fields_of_service({"Spec": found})
        whole = spec.with_service(fields)
    except SpecError as error:
        raise SpecError(f"like_service: with what service {name} has, {error}", field="like_service") from None
    # In the ledger before the service exists, as with the image's digest. The note is what no producer can write. A
    # worker that was suspended here may come after the next one, whose note stays.
    asked = json.dumps(fields)
    text = world.ledger.notes.note_like(job.job_id, asked)
    if text != asked:
        whole = spec.with_service(json.loads(text))
    if not world.ledger.ownership.move(job.job_id, world.holder, JobState.LAUNCHING, like=text):
        return None
    job.facts = job.facts._replace(spec=whole)
    return whole

"""Create or adopt: afterwards there is exactly one service for the attempt, created by any worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_JOB, service_name
from jaas_worker.swarm.engine import Engine, ServiceView
from jaas_worker.swarm.request.secret_env import with_secret_env
from jaas_worker.swarm.service_spec import NO_DEFAULTS, FilePlace, ServiceDefaults, service_request, with_files

__all__ = ["InputFile", "create_or_adopt"]

logger = logging.getLogger(__name__)


class InputFile(NamedTuple):
    """Path or URL of a container's input, and the content to create there, if any."""

    path: str
    """A path, or the URL of a file in a store that is no file system."""
    data: bytes = b""
    """The contents, for a swarm config."""
    source: str = ""
    """A file on the host of every node, for a bind mount."""


def create_or_adopt(
    engine: Engine,
    spec: JobSpec,
    job_id: str,
    attempt: int,
    marks: Mapping[str, str],
    file: InputFile | None = None,
    defaults: ServiceDefaults = NO_DEFAULTS,
    platforms: Sequence[str] = (),
    admit: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    files: Callable[[], Mapping[str, FilePlace]] = dict,
    secret_env: Callable[[], Mapping[str, str]] = dict,
) -> ServiceView:
    """Return the attempt's service; create it if it does not exist. Idempotent.

    The name is unique in the swarm's raft store, so that only one of two requests can succeed (a retry after a lost
    reply, two workers); the other finds the existing service.

    Args:
        engine: the swarm.
        spec: the description for this attempt.
        job_id: the job's id.
        attempt: counted from 1.
        file: the job's input; None where it has none.
        marks: labels that tell of which description it is (see ``service_request``).
        defaults: what every service of this worker has.
        platforms: what the image runs on; empty where that is not known.
        admit: is handed the request, and returns it as it may be sent; what it raises ends the launch. jaas adds the
            job's input, files and ``secret_env`` afterwards.
        files: returns where the container finds its files, by name; is called after ``admit``.
        secret_env: returns the secret variables with their values; what it raises ends the launch.

    Raises:
        EngineRefused: the engine will never take this description.
        EngineUnavailable: it is not known whether the service exists; call again.
    """
    name = service_name(job_id, attempt)
    own = {LABEL_JOB: job_id, LABEL_ATTEMPT: str(attempt), **defaults.installation, **marks}
    secret_ids = _ids("secret", [secret.source for secret in spec.secrets], engine.secret_ids)
    config_ids = _ids("config", [config.source for config in spec.configs], engine.config_ids)
    request = admit(service_request(spec, job_id, attempt, marks, secret_ids, defaults, platforms, config_ids))
    hidden = secret_env()
    place = _place(engine, name, own, file)
    request = with_secret_env(with_files(request, place, files()), hidden, scrub=spec.scrub)
    try:
        created = engine.create(request, spec.registry)
    except EngineUnavailable:
        # The answer is unknown, not negative: the service may be there.
        found = engine.find(name)
        if found is None:
            raise
        created = _ours(found, own)
    if created is not None:
        return created
    existing = engine.find(name)
    if existing is None:
        raise EngineUnavailable(f"service {name} existed and was removed a moment later")
    return _ours(existing, own)


def _place(engine: Engine, name: str, own: dict[str, str], file: InputFile | None) -> FilePlace | None:
    """Return where the container finds its input; a config with its contents is there then."""
    if file is not None and file.data:
        return FilePlace(file.path, engine.create_config(name, own, file.data), name)
    return None if file is None else FilePlace(file.path, source=file.source)


def _ids(kind: str, wanted: list[str], find: Callable[[list[str]], dict[str, str]]) -> dict[str, str]:
    found = find(wanted) if wanted else {}
    for name in wanted:
        if name not in found:
            raise EngineRefused(f"{kind} {name} does not exist in the swarm; create it with `docker {kind} create`")
    return found


def _ours(service: ServiceView, own: Mapping[str, str]) -> ServiceView:
    if any(service.labels.get(key) != value for key, value in own.items()):
        raise EngineRefused(
            f"a service named {service.name} exists, but its labels are not those of this job; remove it, then submit "
            "the job again"
        )
    return service

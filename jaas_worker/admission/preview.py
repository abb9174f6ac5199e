"""PURE: the request that a worker would make of a description, for those who ask before they submit.

Found by an entry point (``jaas.requests``), as producers do not import the worker.
"""

from __future__ import annotations

from typing import Any

from jaas_submit.model.job_spec import JobSpec
from jaas_worker.admission.container_defaults import ContainerDefaults, with_defaults
from jaas_worker.settings import Settings
from jaas_worker.swarm.service_spec import ServiceDefaults, service_request

__all__ = ["preview_request"]


def preview_request(spec: JobSpec) -> dict[str, Any]:
    """Return the request for a job's first attempt, with names in the place of the ids of secrets and configs.

    Its limit of processes and its capabilities are those of a worker without these settings.

    Args:
        spec: the job's description.
    """
    names = {one.source: one.source for one in (*spec.secrets, *spec.configs)}
    defaults = ServiceDefaults(pids_limit=Settings.model_fields["pids_limit"].default)
    request = service_request(spec, "preview", 1, {}, names, defaults, config_ids=names)
    fields = Settings.model_fields
    kept = frozenset(fields["capabilities"].get_default(call_default_factory=True))
    return with_defaults(request, ContainerDefaults(kept, fields["init"].default))

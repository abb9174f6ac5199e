"""PURE: the health check, as a request has it."""

from __future__ import annotations

from typing import Any, Final

from jaas_submit.model.service_options.healthcheck import Healthcheck
from jaas_worker.swarm.request.literal import nanoseconds

__all__ = ["healthcheck_part"]

_TIMES: Final = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
}


def healthcheck_part(check: Healthcheck) -> dict[str, Any]:
    """Return ``ContainerSpec.Healthcheck``, empty where the image's own holds.

    A failing HEALTHCHECK of an image would make the swarm end the job, so none counts unless the job says so.

    Args:
        check: of a description.
    """
    if check.disable:
        return {"Test": ["NONE"]}
    made: dict[str, Any] = {} if check.test is None else {"Test": list(check.test)}
    for name, key in _TIMES.items():
        if (seconds := getattr(check, name)) is not None:
            made[key] = nanoseconds(seconds)
    if check.retries is not None:
        made["Retries"] = check.retries
    return made

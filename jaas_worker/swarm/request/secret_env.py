"""PURE: variables with secret values in a request, and how they are found again to be scrubbed from output."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jaas_submit.model.wire_names import LABEL_SCRUB
from jaas_worker.swarm.request.literal import literal, unescaped

__all__ = ["names_to_scrub", "secret_values", "values_in_request", "with_secret_env"]


def with_secret_env(request: Mapping[str, Any], values: Mapping[str, str], *, scrub: bool) -> dict[str, Any]:
    """Return a request with variables that nobody has seen before: they are added last.

    Args:
        request: body of ``POST /services/create``; it is not changed.
        values: variable -> its value.
        scrub: the values are to be replaced in the output. A label of the container names the variables, for the agent
            of its node.
    """
    if not values:
        return dict(request)
    task = request["TaskTemplate"]
    container = dict(task["ContainerSpec"])
    made = [literal(f"{name}={value}") for name, value in values.items()]
    container["Env"] = [*(container.get("Env") or ()), *made]
    if scrub:
        container["Labels"] = {**(container.get("Labels") or {}), LABEL_SCRUB: ",".join(values)}
    return {**request, "TaskTemplate": {**task, "ContainerSpec": container}}


def names_to_scrub(labels: Mapping[str, str]) -> frozenset[str]:
    """Return the variables whose values are to be replaced in the output.

    Args:
        labels: of the container.
    """
    return frozenset(filter(None, labels.get(LABEL_SCRUB, "").split(",")))


def secret_values(env: Sequence[str], names: Collection[str]) -> frozenset[bytes]:
    """Return the values of variables, as bytes; with line ends as a terminal writes them, too.

    Args:
        env: NAME=value, as the container has them.
        names: the variables.
    """
    found = {text for one in env for name, _, text in [one.partition("=")] if name in names}
    return frozenset(one.encode() for text in found for one in {text, text.replace("\n", "\r\n")})


def values_in_request(request: Mapping[str, Any]) -> frozenset[bytes]:
    """Return the values that are to be replaced in the output of a service's container.

    Args:
        request: the service's specification, as the swarm tells it.
    """
    container = (request.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    names = names_to_scrub(container.get("Labels") or {})
    return secret_values([unescaped(str(one)) for one in container.get("Env") or ()], names) if names else frozenset()

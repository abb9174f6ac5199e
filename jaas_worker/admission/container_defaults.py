"""PURE: what each job's container gets where neither its description nor the policy says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from jaas_submit.policy.containers import DEFAULT_CAPABILITIES, capability_names
from jaas_submit.policy.rules import Rules
from jaas_worker.settings import Settings

__all__ = ["NO_NEW_PRIVILEGES_SINCE", "ContainerDefaults", "with_defaults"]

NO_NEW_PRIVILEGES_SINCE: Final = (1, 44)
"""Version of the engine's API from which on services have the setting. Older engines drop it without a word. Source:
moby, daemon/server/router/swarm/helpers.go."""

_ALL: Final = "ALL"


class ContainerDefaults(NamedTuple):
    """A worker's defaults."""

    kept: frozenset[str] = DEFAULT_CAPABILITIES
    """Those of the engine's default capabilities that a container keeps."""
    init: bool = False
    no_new_privileges: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return those that a worker's settings say."""
        return cls(frozenset(settings.capabilities), settings.init, settings.no_new_privileges)

    def about(self) -> dict[str, Any]:
        """Return what a worker reports of them."""
        return {"capabilities": sorted(self.kept), "init": self.init, "no_new_privileges": self.no_new_privileges}


def with_defaults(
    request: Mapping[str, Any],
    defaults: ContainerDefaults,
    rules: Sequence[Rules] = (),
    *,
    all_know_no_new_privileges: bool = False,
) -> dict[str, Any]:
    """Return a request with the defaults, where it does not say anything else.

    Args:
        request: body of ``POST /services/create``; it is not changed.
        defaults: the worker's.
        rules: all sets that hold for the job. A default is loosened where each of them loosens it.
        all_know_no_new_privileges: manager and nodes are new enough for that setting.
    """
    task = request["TaskTemplate"]
    container = dict(task["ContainerSpec"])
    if defaults.init and container.get("Init") is None:
        container["Init"] = True
    added = set(capability_names(container.get("CapabilityAdd")))
    dropped = capability_names(container.get("CapabilityDrop"))
    loosened = _common(set(capability_names(one.capabilities.keep)) for one in rules)
    if not {_ALL} & (added | set(dropped) | loosened):
        more = DEFAULT_CAPABILITIES - defaults.kept - added - loosened - set(dropped)
        if more:
            container["CapabilityDrop"] = [*(container.get("CapabilityDrop") or ()), *sorted(more)]
    privileges = container.get("Privileges") or {}
    loose = bool(rules) and all(one.no_new_privileges is False for one in rules)
    wanted = defaults.no_new_privileges and all_know_no_new_privileges and not loose
    if wanted and "NoNewPrivileges" not in privileges:
        container["Privileges"] = {**privileges, "NoNewPrivileges": True}
    return {**request, "TaskTemplate": {**task, "ContainerSpec": container}}


def _common(sets: Iterable[set[str]]) -> set[str]:
    every = list(sets)
    return set.intersection(*every) if every else set()

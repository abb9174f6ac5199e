"""PURE: settings that an older engine drops without a word, and which version of the API is the first to know them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from jaas_submit.policy.facts import EngineAge, Refusal

__all__ = ["API_OF_ENGINE", "api_of_engine", "newest_setting", "too_new_settings"]

_SINCE: Final[Mapping[str, tuple[int, int]]] = {
    "TaskTemplate.ContainerSpec.Privileges.NoNewPrivileges": (1, 44),
    "TaskTemplate.ContainerSpec.Privileges.Seccomp": (1, 44),
    "TaskTemplate.ContainerSpec.Privileges.AppArmor": (1, 44),
    "TaskTemplate.ContainerSpec.Healthcheck.StartInterval": (1, 44),
    "TaskTemplate.ContainerSpec.OomScoreAdj": (1, 46),
    "TaskTemplate.ContainerSpec.Mounts.*.BindOptions.CreateMountpoint": (1, 42),
    "TaskTemplate.ContainerSpec.Mounts.*.BindOptions.ReadOnlyNonRecursive": (1, 44),
    "TaskTemplate.ContainerSpec.Mounts.*.BindOptions.ReadOnlyForceRecursive": (1, 44),
    "TaskTemplate.ContainerSpec.Mounts.*.VolumeOptions.Subpath": (1, 45),
    "TaskTemplate.ContainerSpec.Mounts.*.TmpfsOptions.Options": (1, 46),
}
"""Source: moby, daemon/server/router/swarm/helpers.go (``adjustForAPIVersion``) and api/docs/CHANGELOG.md. What every
engine from API 1.41 on knows has no line."""

API_OF_ENGINE: Final = ((29, (1, 52)), (28, (1, 48)), (27, (1, 46)), (26, (1, 45)), (25, (1, 44)), (24, (1, 43)),
                        (23, (1, 42)), (20, (1, 41)))  # fmt: skip
"""First number of an engine's version -> the API that its oldest release has. Source: moby, api/docs/CHANGELOG.md."""


def api_of_engine(version: str) -> tuple[int, int] | None:
    """Return the API version that an engine knows; None if its version is not understood.

    Args:
        version: such as ``28.5.1`` or ``20.10.24+dfsg1``.
    """
    first = version.partition(".")[0]
    if not (first.isascii() and first.isdecimal()):
        return None
    return next((api for major, api in API_OF_ENGINE if int(first) >= major), (1, 40))


def _given(value: Any, path: list[str]) -> bool:
    """Return whether a request has a setting, with a value other than the default."""
    if not path:
        return bool(value)
    if path[0] == "*":
        return any(_given(item, path[1:]) for item in value or ())
    return isinstance(value, Mapping) and _given(value.get(path[0]), path[1:])


def newest_setting(request: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the API version that the newest of a request's settings needs; None where every engine knows all.

    Args:
        request: body of ``POST /services/create``.
    """
    needed = [since for path, since in _SINCE.items() if _given(request, path.split("."))]
    return max(needed, default=None)


def too_new_settings(request: Mapping[str, Any], engines: tuple[EngineAge, ...]) -> Iterator[Refusal]:
    """Yield the settings that an engine would drop.

    Args:
        request: body of ``POST /services/create``.
        engines: the manager that is asked, and the nodes that may get the job.
    """
    for path, since in _SINCE.items():
        if not engines or not _given(request, path.split(".")):
            continue
        old = [one for one in engines if one.api is None or one.api < since]
        if old:
            number = ".".join(map(str, since))
            said = (
                f"needs API {number}, and {old[0].where} would leave it out without a word; upgrade its engine, keep "
                "the job off that node with a constraint, or leave the setting out; no rule allows it"
            )
            yield Refusal("engine version", path, said)

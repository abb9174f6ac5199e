"""PURE: settings that an older engine drops without a word, and which version of the API is the first to know them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from jaas_submit.policy.facts import EngineAge, Refusal

__all__ = ["API_OF_ENGINE", "api_of_engine", "newest_setting", "too_new_settings"]


class _Since(NamedTuple):
    place: str
    """In a request; ``*`` stands for the number of an entry."""
    api: tuple[int, int]
    field: str
    """Of a description; of a policy, where a description has none."""


_SINCE: Final = (
    _Since("ContainerSpec.Privileges.NoNewPrivileges", (1, 44), "no_new_privileges"),
    _Since("ContainerSpec.Privileges.Seccomp", (1, 44), "seccomp"),
    _Since("ContainerSpec.Privileges.AppArmor", (1, 44), "apparmor"),
    _Since("ContainerSpec.Healthcheck.StartInterval", (1, 44), "healthcheck.start_interval"),
    _Since("ContainerSpec.OomScoreAdj", (1, 46), "oom_score_adj"),
    _Since("ContainerSpec.Mounts.*.BindOptions.CreateMountpoint", (1, 42), "mounts.*.create_host_path"),
    _Since("ContainerSpec.Mounts.*.BindOptions.ReadOnlyNonRecursive", (1, 44), "mounts.*.bind_recursive"),
    _Since("ContainerSpec.Mounts.*.BindOptions.ReadOnlyForceRecursive", (1, 44), "mounts.*.bind_recursive"),
    _Since("ContainerSpec.Mounts.*.VolumeOptions.Subpath", (1, 45), "mounts.*.volume_subpath"),
    _Since("ContainerSpec.Mounts.*.TmpfsOptions.Options", (1, 46), "mounts.*.tmpfs_options"),
)
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


def _numbers(value: Any, path: Sequence[str]) -> Iterator[str]:
    """Yield where a request has a setting with a value other than the default: the number of the entry, if it is in a
    list."""
    for at, name in enumerate(path):
        if name == "*":
            yield from (str(n) for n, one in enumerate(value or ()) if any(True for _ in _numbers(one, path[at + 1 :])))
            return
        value = value.get(name) if isinstance(value, Mapping) else None
    if value:
        yield ""


def _found(request: Mapping[str, Any]) -> Iterator[tuple[_Since, str]]:
    """Yield the settings of a request that not every engine knows, each with the field that asks for it."""
    task = request.get("TaskTemplate")
    for one in _SINCE:
        yield from ((one, one.field.replace("*", number)) for number in _numbers(task, one.place.split(".")))


def newest_setting(request: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the API version that the newest of a request's settings needs; None where every engine knows all.

    Args:
        request: body of ``POST /services/create``.
    """
    return max((one.api for one, _ in _found(request)), default=None)


def too_new_settings(request: Mapping[str, Any], engines: tuple[EngineAge, ...]) -> Iterator[Refusal]:
    """Yield the settings that an engine would drop.

    Args:
        request: body of ``POST /services/create``.
        engines: the manager that is asked, and the nodes that may get the job.
    """
    for one, field in _found(request) if engines else ():
        old = [engine for engine in engines if engine.api is None or engine.api < one.api]
        if old:
            number = ".".join(map(str, one.api))
            said = (
                f"needs API {number}, and {old[0].where} would leave it out without a word; upgrade its engine, keep "
                "the job off that node with a constraint, or leave the setting out; no rule allows it"
            )
            yield Refusal("engine version", field, said)

"""PURE: which settings of a request the policy knows. What it does not know, it refuses.

Source of the names: moby, api/types/swarm. The engine reads names in any case; here only the exact ones count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from jaas_submit.model.bounds import shown
from jaas_submit.policy.facts import Refusal

__all__ = ["unknown_settings"]

_TEXTS: Final = "texts"
_MAP: Final = "map"
_FILE: Final = {"Name": str, "UID": str, "GID": str, "Mode": int}
_DRIVER: Final = {"Name": str, "Options": _MAP}
_GENERIC: Final = {
    "NamedResourceSpec": {"Kind": str, "Value": str},
    "DiscreteResourceSpec": {"Kind": str, "Value": int},
}

_MOUNT: Final = {
    "Type": str,
    "Source": str,
    "Target": str,
    "ReadOnly": bool,
    "Consistency": str,
    "BindOptions": {
        "Propagation": str,
        "NonRecursive": bool,
        "CreateMountpoint": bool,
        "ReadOnlyNonRecursive": bool,
        "ReadOnlyForceRecursive": bool,
    },
    "VolumeOptions": {"NoCopy": bool, "Labels": _MAP, "Subpath": str, "DriverConfig": _DRIVER},
    "TmpfsOptions": {"SizeBytes": int, "Mode": int, "Options": [_TEXTS]},
}

_CONTAINER: Final = {
    **dict.fromkeys(("Image", "Hostname", "Dir", "User", "StopSignal", "Isolation"), str),
    **dict.fromkeys(("Init", "TTY", "OpenStdin", "ReadOnly"), bool),
    **dict.fromkeys(("Command", "Args", "Env", "Groups", "Hosts", "CapabilityAdd", "CapabilityDrop"), _TEXTS),
    **dict.fromkeys(("Labels", "Sysctls"), _MAP),
    **dict.fromkeys(("StopGracePeriod", "OomScoreAdj"), int),
    "Privileges": {
        "CredentialSpec": {},
        "SELinuxContext": {"Disable": bool, **dict.fromkeys(("User", "Role", "Type", "Level"), str)},
        "Seccomp": {"Mode": str, "Profile": str},
        "AppArmor": {"Mode": str},
        "NoNewPrivileges": bool,
    },
    "Mounts": [_MOUNT],
    "Healthcheck": {
        "Test": _TEXTS,
        **dict.fromkeys(("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"), int),
    },
    "DNSConfig": {"Nameservers": _TEXTS, "Search": _TEXTS, "Options": _TEXTS},
    "Secrets": [{"SecretID": str, "SecretName": str, "File": _FILE}],
    "Configs": [{"ConfigID": str, "ConfigName": str, "File": _FILE}],
    "Ulimits": [{"Name": str, "Soft": int, "Hard": int}],
}

_REQUEST: Final = {
    "Name": str,
    "Labels": _MAP,
    "TaskTemplate": {
        "ContainerSpec": _CONTAINER,
        "Resources": {
            "Limits": {"NanoCPUs": int, "MemoryBytes": int, "Pids": int},
            "Reservations": {"NanoCPUs": int, "MemoryBytes": int, "GenericResources": [_GENERIC]},
        },
        "RestartPolicy": {"Condition": str, "Delay": int, "MaxAttempts": int, "Window": int},
        "Placement": {
            "Constraints": _TEXTS,
            "Preferences": [{"Spread": {"SpreadDescriptor": str}}],
            "Platforms": [{"OS": str, "Architecture": str}],
        },
        "Networks": [{"Target": str, "Aliases": _TEXTS, "DriverOpts": _MAP}],
        "LogDriver": _DRIVER,
        "ForceUpdate": int,
        "Runtime": str,
    },
    "Mode": {"Replicated": {"Replicas": int}},
    "EndpointSpec": {"Mode": str},
}

_EXACT: Final[Mapping[str, frozenset[Any]]] = {
    "Mode.Replicated.Replicas": frozenset({1}),
    "TaskTemplate.Runtime": frozenset({"", "container"}),
    "TaskTemplate.RestartPolicy.Condition": frozenset({"none"}),
    "TaskTemplate.ContainerSpec.Isolation": frozenset({"", "default"}),
    "EndpointSpec.Mode": frozenset({"", "dnsrr"}),
}
"""Settings that are the same for all jobs."""

_RULE: Final = "known settings"
_MAX_FOUND: Final = 20


def unknown_settings(request: Mapping[str, Any]) -> list[Refusal]:
    """Return the settings of a request that the policy does not know, or that no job may have.

    Args:
        request: body of ``POST /services/create``.
    """
    found: list[Refusal] = []
    for refusal in _walk(request, _REQUEST, ""):
        found.append(refusal)
        if len(found) >= _MAX_FOUND:
            break
    return found


def _walk(value: Any, known: Any, path: str) -> Iterator[Refusal]:
    if value is None:
        return
    if isinstance(known, type | str):
        yield from _leaf(value, known, path)
    elif isinstance(known, list):
        if not isinstance(value, list | tuple):
            yield Refusal(_RULE, path, "must be a list")
            return
        for number, item in enumerate(value):
            here = f"{path}.{number}"
            if item is None:
                yield Refusal(_RULE, here, "must not be null")
            yield from _walk(item, known[0], here)
    elif not isinstance(value, Mapping):
        yield Refusal(_RULE, path or "request", "must be an object of names and values")
    else:
        for name, inner in value.items():
            if name in known:
                yield from _walk(inner, known[name], f"{path}.{name}" if path else name)
            elif inner is not None and (path == "Mode" or inner not in ({}, [], "")):  # what the engine adds by itself
                here = f"{path}.{shown(name)}" if path else shown(name)
                yield Refusal(_RULE, here, "is no setting that the policy knows; no rule allows it, leave it out")


def _leaf(value: Any, kind: Any, path: str) -> Iterator[Refusal]:
    if kind == _TEXTS:
        right = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    elif kind == _MAP:
        right = isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)
    else:
        right = type(value) is kind
    if not right:
        words = {str: "a text", int: "a whole number", bool: "true or false", _TEXTS: "a list of texts"}
        yield Refusal(_RULE, path, f"must be {words.get(kind, 'an object of names and texts')}")
    elif path in _EXACT and value not in _EXACT[path]:
        meant = " or ".join(repr(one) for one in sorted(_EXACT[path], key=str) if one != "")
        yield Refusal(_RULE, path, f"must be {meant} for a job; no setting allows another value")

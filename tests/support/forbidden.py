"""What no service may have at level ``baseline``, said once more in other words than the policy's.

It knows nothing of ``jaas_submit.policy``: a test that uses both sees where they differ.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["forbidden"]

_LOG_DRIVERS = {"", "local", "json-file", "journald", "none"}
# Written out again on purpose: this judge must not share the lists of the policy that it judges.
_USUAL_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
_TASK = {"ContainerSpec", "Resources", "RestartPolicy", "Placement", "Networks", "LogDriver"}
_ESCAPED = '{{"{{"}}'


def forbidden(
    request: Mapping[str, Any], networks: Collection[str] = (), secrets: Collection[str] = (), own: Collection[str] = ()
) -> list[str]:
    """Return what a request has that a job may not have; nothing for a good one.

    Args:
        request: body of ``POST /services/create``.
        networks: ids of the networks that are open to jobs.
        secrets: ids of the secrets and configs that are open to jobs.
        own: ids of the configs that jaas has made for inputs.
    """
    return list(_found(request, networks, secrets, own))


def _found(
    request: Mapping[str, Any], networks: Collection[str], secrets: Collection[str], own: Collection[str]
) -> Iterator[str]:
    task = request["TaskTemplate"]
    container = task["ContainerSpec"]
    if more := _given(request) - {"Name", "Labels", "TaskTemplate", "Mode", "EndpointSpec"} or _given(task) - _TASK:
        yield f"unknown parts: {more}"
    mode = request["Mode"]
    if _given(mode) - {"Replicated"} or (mode.get("Replicated") or {}).get("Replicas", 1) != 1:
        yield "more than one task"
    if _given(request["EndpointSpec"]) - {"Mode"}:
        yield "ports"
    for mount in container.get("Mounts") or ():
        yield from _mount(mount)
    yield from (f"network {one}" for one in task.get("Networks") or () if one["Target"] not in networks or len(one) > 1)
    yield from (f"secret {one}" for one in container.get("Secrets") or () if one["SecretID"] not in secrets)
    configs = {*secrets, *own}
    yield from (f"config {one}" for one in container.get("Configs") or () if one["ConfigID"] not in configs)
    if (task.get("LogDriver") or {}).get("Name", "") not in _LOG_DRIVERS:
        yield f"log driver {task['LogDriver']}"
    if more := set(container.get("CapabilityAdd") or ()) - _USUAL_CAPABILITIES:
        yield f"capabilities {more}"
    if any((container.get("Privileges") or {}).get(name) for name in ("Seccomp", "AppArmor", "SELinuxContext")):
        yield "security is switched off"


def _given(part: Mapping[str, Any]) -> set[str]:
    return {name for name, value in part.items() if value not in (None, "", [], {})}


def _mount(mount: Mapping[str, Any]) -> Iterator[str]:
    shown = json.dumps(mount)
    source = mount.get("Source", "")
    if "{{" in shown.replace(json.dumps(_ESCAPED)[1:-1], ""):
        yield f"a template: {shown}"
    if mount.get("Type") not in {"volume", "tmpfs"} or "/" in source or (source and mount["Type"] == "tmpfs"):
        yield f"a path of the host: {shown}"
    elif mount["Type"] == "volume":
        if source and not source.startswith("jobs-"):
            yield f"another's volume: {shown}"
        options = mount.get("VolumeOptions") or {}
        driver = options.get("DriverConfig") or {}
        if driver.get("Options") or driver.get("Name", "local") not in {"", "local"}:
            yield f"options of a volume's driver: {shown}"
        if ".." in (options.get("Subpath") or ""):
            yield f"out of the volume: {shown}"

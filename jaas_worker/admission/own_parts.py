"""PURE: a service's request without what jaas itself has added to it: a job's input and files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaas_submit.model.job_spec import GATHER_FILE, INPUT_FILE

IsOwn = Callable[[str, str], bool]

__all__ = ["IsOwn", "without_own_parts"]


def without_own_parts(request: Mapping[str, Any], is_own_mount: IsOwn, is_own_config: IsOwn) -> dict[str, Any]:
    """Return a request without its input and files: the config of the service's own name, and those of files.

    Args:
        request: body of ``POST /services/create``, as the engine tells it; it is not changed.
        is_own_mount: says whether jaas itself mounts this path of the host there.
        is_own_config: says whether jaas itself puts a config of this name there, beside that of the service's name.
    """
    task = request.get("TaskTemplate") or {}
    container = dict(task.get("ContainerSpec") or {})
    configs = container.get("Configs") or ()
    mounts = container.get("Mounts") or ()
    service = str(request.get("Name"))
    container["Configs"] = [one for one in configs if not _is_own_config(one, service, is_own_config)]
    container["Mounts"] = [one for one in mounts if not _is_own_file(one, is_own_mount)]
    return {**request, "TaskTemplate": {**task, "ContainerSpec": container}}


def _is_own_config(config: Mapping[str, Any], service: str, is_own: IsOwn) -> bool:
    target, name = str((config.get("File") or {}).get("Name")), str(config.get("ConfigName"))
    return (name == service and target in {INPUT_FILE, GATHER_FILE}) or is_own(name, target)


def _is_own_file(mount: Mapping[str, Any], is_own: IsOwn) -> bool:
    plain = set(mount) <= {"Type", "Source", "Target", "ReadOnly"} and mount.get("ReadOnly") is True
    return plain and mount.get("Type") == "bind" and is_own(str(mount.get("Source")), str(mount.get("Target")))

"""PURE: a service's request without what jaas itself has added to it: a job's input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaas_submit.model.job_spec import GATHER_FILE, INPUT_FILE

__all__ = ["without_own_parts"]


def without_own_parts(request: Mapping[str, Any], is_own_mount: Callable[[str], bool]) -> dict[str, Any]:
    """Return a request without its input: the config of the service's own name, or a file of the store.

    Args:
        request: body of ``POST /services/create``, as the engine tells it; it is not changed.
        is_own_mount: says whether a path of the host is one that jaas itself mounts.
    """
    task = request.get("TaskTemplate") or {}
    container = dict(task.get("ContainerSpec") or {})
    configs = container.get("Configs") or ()
    mounts = container.get("Mounts") or ()
    container["Configs"] = [one for one in configs if not _is_own_config(one, str(request.get("Name")))]
    container["Mounts"] = [one for one in mounts if not _is_own_file(one, is_own_mount)]
    return {**request, "TaskTemplate": {**task, "ContainerSpec": container}}


def _is_own_config(config: Mapping[str, Any], service: str) -> bool:
    target = (config.get("File") or {}).get("Name")
    return config.get("ConfigName") == service and target in {INPUT_FILE, GATHER_FILE}


def _is_own_file(mount: Mapping[str, Any], is_own_mount: Callable[[str], bool]) -> bool:
    plain = set(mount) <= {"Type", "Source", "Target", "ReadOnly"} and mount.get("ReadOnly") is True
    at_place = mount.get("Type") == "bind" and mount.get("Target") in {INPUT_FILE, GATHER_FILE}
    return plain and at_place and is_own_mount(str(mount.get("Source")))

"""PURE: a mount, as a request has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jaas_submit.model.service_options.mounts import Mount
from jaas_worker.swarm.request.literal import literal

__all__ = ["mount_part"]

_RECURSIVE: Final[Mapping[str, str]] = {
    "disabled": "NonRecursive",
    "writable": "ReadOnlyNonRecursive",
    "readonly": "ReadOnlyForceRecursive",
}
"""Source: docker/cli, opts/mount.go, ``bind-recursive``."""


def mount_part(mount: Mount) -> dict[str, Any]:
    """Return an entry of ``ContainerSpec.Mounts``.

    Args:
        mount: of a description.
    """
    made: dict[str, Any] = {"Type": mount.type, "Target": literal(mount.target), "ReadOnly": mount.read_only}
    if mount.source:
        made["Source"] = literal(mount.source)
    options = {"BindOptions": _bind(mount), "VolumeOptions": _volume(mount), "TmpfsOptions": _tmpfs(mount)}
    return {**made, **{name: given for name, given in options.items() if given}}


def _bind(mount: Mount) -> dict[str, Any]:
    made: dict[str, Any] = {"Propagation": mount.bind_propagation} if mount.bind_propagation else {}
    if key := _RECURSIVE.get(mount.bind_recursive or ""):
        made[key] = True
    return made


def _volume(mount: Mount) -> dict[str, Any]:
    made: dict[str, Any] = {"NoCopy": True} if mount.volume_nocopy else {}
    if mount.volume_labels:
        made["Labels"] = _literals(mount.volume_labels)
    if mount.volume_driver or mount.volume_options:
        driver = {"Name": mount.volume_driver} if mount.volume_driver else {}
        made["DriverConfig"] = {**driver, "Options": _literals(mount.volume_options)}
    if mount.volume_subpath:
        made["Subpath"] = mount.volume_subpath
    return made


def _tmpfs(mount: Mount) -> dict[str, Any]:
    made = {"SizeBytes": mount.tmpfs_size, "Mode": mount.tmpfs_mode}
    return {name: value for name, value in made.items() if value is not None}


def _literals(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: literal(text) for name, text in texts.items()}

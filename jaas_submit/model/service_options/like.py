"""PURE: what a job has in common with a deployed service, from what `docker service inspect` prints of that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown

__all__ = ["SERVICE_NAME", "fields_of_service", "is_service_name", "over"]

SERVICE_NAME: Final = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$"
"""Name or id of a service. Its letters leave a path of the engine's API as it is."""
_SERVICE_NAME: Final = re.compile(rf"{SERVICE_NAME[:-1]}\Z")

_TEMPLATE: Final = "{{"

_SAME: Final = {
    "Image": "image",
    "Command": "entrypoint",
    "Args": "command",
    "Dir": "workdir",
    "User": "user",
    "Groups": "groups",
    "StopSignal": "stop_signal",
    "Init": "init",
    "ReadOnly": "read_only",
    "TTY": "tty",
    "CapabilityAdd": "cap_add",
    "CapabilityDrop": "cap_drop",
    "Sysctls": "sysctls",
    "OomScoreAdj": "oom_score_adj",
}
_UNSET: Final[tuple[object, ...]] = (None, "", [], {})
"""Not ``False``: a service without an init process has said so."""

_DNS: Final = {"Nameservers": "dns", "Search": "dns_search", "Options": "dns_opt"}
_FILE: Final = {"Name": "target", "UID": "uid", "GID": "gid", "Mode": "mode"}

_ADDED: Final[Mapping[str, str]] = {
    "mounts": "target",
    "networks": "name",
    "secrets": "source",
    "configs": "source",
    **dict.fromkeys(
        ("constraints", "groups", "extra_hosts", "dns", "dns_search", "dns_opt", "cap_add", "cap_drop"), ""
    ),
}
"""Lists to which a description adds; and by what an entry is known that it replaces, where that is an object."""


def is_service_name(text: str) -> bool:
    """Return whether a text may be the name of a service."""
    return _SERVICE_NAME.match(text) is not None


def over(fields: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a service with those that a job has itself.

    In objects (``env``, ``limits``, ...) the job's entries replace those of the same name. Lists of things (networks,
    mounts, secrets, configs, constraints, ...) are added to. Any other field replaces the service's; an entry point
    its arguments, too, as everywhere.

    Args:
        fields: of the service.
        own: of the job.
    """
    made = dict(fields)
    if own.get("entrypoint") is not None:
        made.pop("command", None)
    if secret := own.get("env_secrets"):
        made["env"] = {name: text for name, text in made.get("env", {}).items() if name not in secret}
    for name, value in own.items():
        old = made.get(name)
        if name == "env" and isinstance(old, dict) and isinstance(value, list | tuple):  # NAME=value, as in compose
            made[name] = [*(f"{key}={text}" for key, text in old.items()), *value]
        elif isinstance(old, dict) and isinstance(value, Mapping):
            made[name] = {**old, **value}
        elif name in _ADDED and isinstance(old, list) and isinstance(value, list | tuple):
            key = _key(_ADDED[name])
            mine = [key(one) for one in value]
            made[name] = [*(one for one in old if key(one) not in mine), *value]
        else:
            made[name] = value
    return made


def _key(name: str) -> Callable[[Any], Any]:
    def key(entry: Any) -> Any:
        if isinstance(entry, Mapping):
            return entry.get(name)
        return getattr(entry, name, entry) if name else entry

    return key


def fields_of_service(service: object) -> dict[str, Any]:
    """Return the fields of a description that a one-shot takes over from a deployed service.

    Not taken over is what belongs to a server: labels, names and options on networks, host name, published ports,
    health check, replicas, preferences of placement, rules for restarts and updates. Nor is what the workers decide or
    a job cannot ask for: the log driver, privileges (seccomp, AppArmor, SELinux, credentials, no-new-privileges),
    isolation, swap, options of mounts that ``Mount`` does not have. Variables with a template of the swarm are left
    out: their values are not known.

    Args:
        service: the object, or the list of one, that `docker service inspect` prints, or its text.

    Raises:
        SpecError: it is none, or it reserves generic resources by their names.
    """
    found = _one(service)
    try:
        task = found["Spec"]["TaskTemplate"]
        container = task["ContainerSpec"]
        fields = {field: container[name] for name, field in _SAME.items() if container.get(name) not in _UNSET}
        fields |= {field: values for name, field in _DNS.items() if (values := _of(container, "DNSConfig").get(name))}
        pairs = [text.partition("=") for text in container.get("Env") or ()]
        fields["env"] = {name: value for name, _, value in pairs if _TEMPLATE not in value}
        fields["mounts"] = [_mount(one) for one in container.get("Mounts") or ()]
        for kind in ("Secret", "Config"):
            files = [one for one in container.get(f"{kind}s") or () if one.get("File")]
            fields[f"{kind.lower()}s"] = [{"source": one[f"{kind}Name"], **_file(one["File"])} for one in files]
        fields["extra_hosts"] = [entry for line in container.get("Hosts") or () for entry in _hosts(line)]
        ulimits = container.get("Ulimits") or ()
        fields["ulimits"] = {one["Name"]: {"soft": one["Soft"], "hard": one["Hard"]} for one in ulimits}
        if container.get("StopGracePeriod") is not None:
            fields["stop_grace"] = container["StopGracePeriod"] / 1e9
        fields["networks"] = [one["Target"] for one in task.get("Networks") or ()]
        fields["constraints"] = list(_of(task, "Placement").get("Constraints") or ())
        fields |= _resources(_of(task, "Resources"))
    except SpecError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        said = (
            f"like: this is no service of a swarm ({type(error).__name__}); give what `docker service inspect` prints"
        )
        raise SpecError(said, field="like") from None
    return {name: value for name, value in fields.items() if value not in ({}, [])}


def _one(service: object) -> Any:
    if isinstance(service, str | bytes):
        try:
            service = json.loads(service)
        except (ValueError, RecursionError):
            raise SpecError(
                "like: is not valid JSON; give what `docker service inspect` prints", field="like"
            ) from None
    if isinstance(service, list):
        if len(service) != 1:
            raise SpecError(f"like: has {len(service)} services; give one", field="like")
        return service[0]
    return service


def _of(part: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = part.get(name) or {}
    return found


def _hosts(line: str) -> list[str]:
    """Return an entry for each name on a line of a hosts file: an address, and its names."""
    address, *names = line.split() or [""]
    return [f"{name}:{address}" for name in names]


def _file(file: Mapping[str, Any]) -> dict[str, Any]:
    return {field: file[name] for name, field in _FILE.items() if name in file}


def _mount(mount: Mapping[str, Any]) -> dict[str, Any]:
    volume, tmpfs = _of(mount, "VolumeOptions"), _of(mount, "TmpfsOptions")
    driver = _of(volume, "DriverConfig")
    made = {
        "type": mount["Type"],
        "source": mount.get("Source", ""),
        "target": mount["Target"],
        "read_only": mount.get("ReadOnly", False),
        "bind_propagation": _of(mount, "BindOptions").get("Propagation") or None,
        "volume_driver": driver.get("Name") or None,
        "volume_options": driver.get("Options") or {},
        "volume_labels": volume.get("Labels") or {},
        "volume_nocopy": volume.get("NoCopy", False),
        "volume_subpath": volume.get("Subpath") or None,
        "tmpfs_size": tmpfs.get("SizeBytes") or None,
        "tmpfs_mode": tmpfs.get("Mode") or None,
    }
    return {name: value for name, value in made.items() if value not in (None, {}, False, "")}


def _resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    limits, reserved = _of(resources, "Limits"), _of(resources, "Reservations")
    made: dict[str, Any] = {}
    for field, part in (("limits", limits), ("reservations", reserved)):
        cpus, memory = part.get("NanoCPUs"), part.get("MemoryBytes")
        made[field] = {**({"cpus": cpus / 1e9} if cpus else {}), **({"memory": memory} if memory else {})}
    if limits.get("Pids"):
        made["pids_limit"] = limits["Pids"]
    generic = reserved.get("GenericResources") or ()
    if named := [one["NamedResourceSpec"] for one in generic if one.get("NamedResourceSpec")]:
        raise SpecError(
            f"like: the service reserves {shown(named[0].get('Kind'))} by name ({shown(named[0].get('Value'))}), and a "
            "job can only ask for a number; take it out of what is given, and set generic_resources",
            field="like",
        )
    counted = [one["DiscreteResourceSpec"] for one in generic]
    return {**made, "generic_resources": {one["Kind"]: one["Value"] for one in counted}}

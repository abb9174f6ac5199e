"""PURE: what may be mounted, and from where."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jaas_submit.model.bounds import shown
from jaas_submit.policy.facts import Refusal
from jaas_submit.policy.names import matches
from jaas_submit.policy.rules import Bind, Rules

__all__ = ["check_mounts"]

_LOCAL: Final = "local"
_NO_DEVICE: Final = frozenset({"tmpfs", "nfs", "nfs4", "cifs"})
"""Types of file system for which ``device`` is no path of the host."""

_LITERAL: Final = '{{"{{"}}'
"""How jaas writes two braces that are meant as such: the swarm reads mounts as Go templates."""


def check_mounts(container: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    """Yield what may not be mounted.

    Args:
        container: the request's ``ContainerSpec``.
        rules: those that hold.
    """
    for number, mount in enumerate(container.get("Mounts") or ()):
        where = f"mounts.{number}"
        source, kind = _plain(mount.get("Source")), str(mount.get("Type") or "bind")
        if source is None or _plain(mount.get("Target")) is None:
            said = "has a template, which the swarm would fill in after this check; no rule allows that"
            yield Refusal("mounts", where, said)
        elif kind == "bind":
            yield from _bind(f"{where}.source", source, mount.get("ReadOnly") is True, rules)
            yield from _propagation(where, mount.get("BindOptions") or {}, rules)
        elif kind == "volume":
            yield from _volume(where, source, mount, rules)
        elif kind == "tmpfs":
            if not rules.mounts.tmpfs:
                yield Refusal("mounts.tmpfs", where, "may be no tmpfs; rules.mounts.tmpfs = true allows it")
            if source or mount.get("VolumeOptions") or mount.get("BindOptions"):
                said = "a tmpfs has neither a source nor options of a volume or bind; no rule allows them"
                yield Refusal("mounts.tmpfs", where, said)
        else:
            said = f"{shown(kind)} is no type of mount that the policy knows; no rule allows it"
            yield Refusal("mounts", f"{where}.type", said)


def _plain(text: Any) -> str | None:
    """Return a mount's text as the swarm will read it; None where it has a template."""
    left = str(text or "").replace(_LITERAL, "\0")
    return None if "{{" in left else left.replace("\0", "{{")


def _bind(where: str, source: str, read_only: bool, rules: Rules) -> Iterator[Refusal]:
    if not source.startswith("/") or ".." in source.split("/") or "\0" in source:
        yield Refusal("mounts.binds", where, "must be an absolute path without '..'; no rule allows another one")
        return
    path = posixpath.normpath(source.replace("//", "/"))
    covering = [bind for bind in rules.mounts.binds if _covers(bind, path)]
    if any(read_only or not bind.read_only for bind in covering):
        return
    host = shown(path, 200)
    if covering:
        said = (
            f"{host} may be mounted for reading only; read_only = false in its line of rules.mounts.binds allows more"
        )
    else:
        said = f'the host\'s {host} may not be mounted; {{path = "{host}"}} in rules.mounts.binds allows it'
    yield Refusal("mounts.binds", where, said)


def _covers(bind: Bind, path: str) -> bool:
    root = posixpath.normpath(bind.path.replace("//", "/"))
    return path == root or (bind.below and path.startswith(root.rstrip("/") + "/"))


def _propagation(where: str, options: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    wanted = str(options.get("Propagation") or "rprivate")
    if not matches(wanted, rules.mounts.propagation):
        said = f'{shown(wanted)} is not allowed; rules.mounts.propagation = ["{shown(wanted)}"] allows it'
        yield Refusal("mounts.propagation", f"{where}.bind_propagation", said)
    if options.get("CreateMountpoint"):
        said = "may not create the host's folder; no rule allows it, create it on the nodes"
        yield Refusal("mounts.binds", f"{where}.create_host_path", said)


def _volume(where: str, name: str, mount: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    if name.startswith("/"):  # the engine would take it for a path of the host
        yield from _bind(f"{where}.source", name, mount.get("ReadOnly") is True, rules)
    elif name and not matches(name, rules.mounts.volumes):
        allowed = ", ".join(rules.mounts.volumes) or "none"
        said = f"volume {shown(name)} is not allowed; rules.mounts.volumes lists names, and has {allowed}"
        yield Refusal("mounts.volumes", f"{where}.source", said)
    elif not name and not rules.mounts.anonymous:
        said = "a volume needs a name here; rules.mounts.anonymous = true allows one without"
        yield Refusal("mounts.anonymous", f"{where}.source", said)
    options = mount.get("VolumeOptions") or {}
    if ".." in str(options.get("Subpath") or "").split("/"):
        yield Refusal("mounts.volumes", f"{where}.volume_subpath", "may have no '..'; no rule allows it")
    driver = options.get("DriverConfig") or {}
    if driver:
        yield from _driver(where, str(driver.get("Name") or _LOCAL), driver.get("Options") or {}, mount, rules)


def _driver(
    where: str, name: str, options: Mapping[str, Any], mount: Mapping[str, Any], rules: Rules
) -> Iterator[Refusal]:
    lists = [options_of for driver, options_of in rules.mounts.drivers.items() if matches(name, [driver])]
    allowed = [pattern for patterns in lists for pattern in patterns]
    if not lists and (name != _LOCAL or options):
        what = f"options of driver {_LOCAL}" if name == _LOCAL else f"volume driver {shown(name)}"
        said = f"{what} may not be given; rules.mounts.drivers lists drivers and their options"
        yield Refusal("mounts.drivers", f"{where}.volume_driver", said)
        return
    for option, value in options.items():
        if _plain(value) != value:  # the swarm reads values of options as templates, too
            said = "has a template, which the swarm would fill in after this check; no rule allows that"
            yield Refusal("mounts.drivers", f"{where}.volume_options.{shown(option)}", said)
        elif not matches(f"{option}={value}", allowed):
            said = f"is not allowed; rules.mounts.drivers.{shown(name)} lists options"
            yield Refusal("mounts.drivers", f"{where}.volume_options.{shown(option)}", said)
    if name == _LOCAL:
        yield from _devices(where, options, mount, rules)


def _devices(where: str, options: Mapping[str, Any], mount: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    """Yield which of the host's paths a volume of the driver ``local`` would mount: ``type=none,o=bind`` is a bind."""
    given = {str(name).lower(): str(value) for name, value in options.items()}
    flags = given.get("o", "").split(",")
    bound = bool({"bind", "rbind"} & set(flags)) or given.get("type", "").lower() not in _NO_DEVICE
    paths = [given["device"]] if bound and given.get("device") else []
    paths += [path for flag in flags if "dir=" in flag for path in flag.partition("=")[2].split(":")]  # overlay's
    for path in paths:
        yield from _bind(f"{where}.volume_options.device", path, mount.get("ReadOnly") is True, rules)

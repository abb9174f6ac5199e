"""PURE: values of flags that have parts: mounts, tmpfs, networks, secrets and configs, generic resources, GPUs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

__all__ = [
    "DEFAULT_GPU_KIND",
    "config_of",
    "counts_of",
    "gpus_of",
    "host_of",
    "mount_of",
    "network_of",
    "pairs_of",
    "secret_of",
    "tmpfs_of",
    "ulimits_of",
]

DEFAULT_GPU_KIND: Final = "gpu"
"""What ``--gpus`` asks for, unless JAAS_GPU_KIND names another kind."""

_TRUTH: Final = {"": True, "1": True, "true": True, "0": False, "false": False}

_MOUNT_KEYS: Final = {
    "type": "type",
    "source": "source",
    "src": "source",
    "target": "target",
    "destination": "target",
    "dst": "target",
    "readonly": "read_only",
    "ro": "read_only",
    "bind-propagation": "bind_propagation",
    "bind-recursive": "bind_recursive",
    "bind-nonrecursive": "bind_nonrecursive",
    "volume-driver": "volume_driver",
    "volume-opt": "volume_options",
    "volume-label": "volume_labels",
    "volume-nocopy": "volume_nocopy",
    "volume-subpath": "volume_subpath",
    "tmpfs-size": "tmpfs_size",
    "tmpfs-mode": "tmpfs_mode",
}
_TMPFS_KEYS: Final = {"size": "tmpfs_size", "mode": "tmpfs_mode"}
_FILE_KEYS: Final = {key: key for key in ("source", "target", "uid", "gid", "mode")} | {"src": "source"}
_NETWORK_KEYS: Final = {"name": "name", "alias": "aliases", "driver-opt": "driver_opts"}

_TRUTHS: Final = frozenset({"read_only", "volume_nocopy", "bind_nonrecursive"})
_OCTALS: Final = frozenset({"mode", "tmpfs_mode"})
_MAPS: Final = frozenset({"volume_options", "volume_labels", "driver_opts"})
_LISTS: Final = frozenset({"aliases"})


def pairs_of(option: str, text: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of ``key=value,key=value`` (with CSV's quotes, as docker has it).

    Args:
        option: for the error.
        text: the flag's value.
        keys: known keys, and the field that each stands for.

    Raises:
        click.UsageError: a key is not known.
    """
    return dict(_items(option, text, keys))


def _items(option: str, text: str, keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    try:
        parts = next(csv.reader([text]))
    except csv.Error as error:
        raise click.UsageError(f"{option}: {text[:40]!r} cannot be read: {error}") from None
    for item in parts:
        key, _, value = item.partition("=")
        if key not in keys:
            raise click.UsageError(f"{option}: {key[:40]!r} is not known; there are {', '.join(keys)}")
        yield keys[key], value


def _fields(option: str, text: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the same with values of their types; keys that may be repeated make lists and objects."""
    names = {field: key for key, field in keys.items()}
    found: dict[str, Any] = {}
    for field, value in _items(option, text, keys):
        if field in _MAPS:
            name, _, of_name = value.partition("=")
            found.setdefault(field, {})[name] = of_name
        elif field in _LISTS:
            found.setdefault(field, []).append(value)
        elif field in _TRUTHS:
            if value.lower() not in _TRUTH:
                what = "readonly" if field == "read_only" else names[field]
                raise click.UsageError(f"{option}: {what} takes true or false, not {value!r}")
            found[field] = _TRUTH[value.lower()]
        elif field in _OCTALS:
            try:
                found[field] = int(value, 8)
            except ValueError:
                raise click.UsageError(f"{option}: {names[field]} is octal, such as 0440, not {value!r}") from None
        else:
            found[field] = value
    return found


def mount_of(text: str) -> dict[str, Any]:
    """Return the mount of ``SRC=DEST``, or of docker's ``type=...,source=...,target=...``.

    Args:
        text: the flag's value.

    Raises:
        click.UsageError: it has another form.
    """
    first, *more = text.split(",")
    if more and first.partition("=")[0] in _MOUNT_KEYS:
        fields = _fields("--mount", text, _MOUNT_KEYS)
        if fields.pop("bind_nonrecursive", False):
            fields["bind_recursive"] = "disabled"
        return fields
    source, equals, target = text.partition("=")
    if not equals or "=" in target:
        raise click.UsageError(
            f"--mount: write SRC=DEST such as /data=/data, or type=bind,source=SRC,target=DEST, not {text[:80]!r}"
        )
    return {"source": source, "target": target}


def tmpfs_of(text: str) -> dict[str, Any]:
    """Return the mount of docker's ``PATH[:size=64m,mode=1770]``.

    Args:
        text: the flag's value.

    Raises:
        click.UsageError: it has another option.
    """
    path, colon, options = text.partition(":")
    return {"type": "tmpfs", "target": path, **(_fields("--tmpfs", options, _TMPFS_KEYS) if colon else {})}


def network_of(text: str) -> str | dict[str, Any]:
    """Return the network of ``NAME``, or of docker's ``name=...,alias=...,driver-opt=...``.

    Args:
        text: the flag's value.

    Raises:
        click.UsageError: it has another form.
    """
    return _fields("--network", text, _NETWORK_KEYS) if "=" in text else text


def secret_of(text: str) -> dict[str, Any]:
    """Return the secret of ``NAME``, or of docker's ``source=...,target=...,mode=...``.

    Args:
        text: the flag's value.

    Raises:
        click.UsageError: it has another form.
    """
    return _fields("--secret", text, _FILE_KEYS) if "=" in text else {"source": text}


def config_of(text: str) -> dict[str, Any]:
    """Return the config of ``NAME``, or of docker's ``source=...,target=...,mode=...``.

    Args:
        text: the flag's value.

    Raises:
        click.UsageError: it has another form.
    """
    return _fields("--config", text, _FILE_KEYS) if "=" in text else {"source": text}


def host_of(text: str) -> str:
    """Return a line for /etc/hosts, for the description's check.

    Args:
        text: the flag's value. docker itself takes an engine's URL by the same name.

    Raises:
        click.UsageError: it is an engine's URL.
    """
    if "://" in text:
        raise click.UsageError("--host: the workers' engines run the job; --redis URL names the Redis that it goes to")
    return text


def ulimits_of(texts: Sequence[str]) -> dict[str, str]:
    """Return the limits of ``NAME=SOFT[:HARD]``.

    Args:
        texts: the flag's values.

    Raises:
        click.UsageError: one has another form.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--ulimit: write NAME=SOFT[:HARD] such as nofile=1024:2048, not {text[:40]!r}")
        found[name] = value
    return found


def counts_of(texts: Sequence[str]) -> dict[str, Any]:
    """Return the counts of ``KIND=N``; several stand in one text with commas between them.

    Args:
        texts: the flag's values.

    Raises:
        click.UsageError: one has another form.
    """
    found = {}
    for item in (item for text in texts for item in text.split(",")):
        kind, equals, count = item.partition("=")
        if not (equals and count.isascii() and count.isdecimal()):
            raise click.UsageError(
                f"--generic-resource: write KIND=N such as gpu=2, not {item[:40]!r}; a service may ask for a count only"
            )
        found[kind] = int(count[:18])
    return found


def gpus_of(text: str, kind: str) -> dict[str, int]:
    """Return the count of docker's ``--gpus N``.

    Args:
        text: the flag's value.
        kind: how the nodes' engines call their GPUs.

    Raises:
        click.UsageError: it is no count.
    """
    count = text.removeprefix("count=")
    if not (count.isascii() and count.isdecimal()):
        raise click.UsageError(
            f"--gpus: {text[:40]!r} is no count; write --gpus 2. A service may ask for a number of GPUs, not for all "
            "or for single ones; DOCKER_RESOURCE_* in the container's environment names those that it got"
        )
    return {kind: int(count[:18])}

"""PURE: paths in a container that a description uses twice."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from jaas_submit.model.bounds import shown

__all__ = ["clash"]

_FOLDERS: Final = "mounts"
"""Of this field are folders: what a job writes there may be an output of it. All else are files."""


def clash(given: Mapping[str, Iterable[str]], outputs: Iterable[str]) -> str:
    """Return what is wrong with the paths of a description, beginning with the field; empty if nothing is.

    Args:
        given: field -> paths of what the container is given.
        outputs: patterns of the files that are taken out of it.
    """
    fields: dict[str, str] = {}
    for field, paths in given.items():
        for path in paths:
            other = fields.get(_plain(path))
            if other == field:
                return f"{field}: two of them have the same target, {shown(path)}; give each its own"
            if other:
                return f"{field}: {shown(path)} is a target of {other}, too; give each its own"
            fields[_plain(path)] = field
    for path, field in fields.items():
        above = next((one for one in _folders(path) if fields.get(one, _FOLDERS) != _FOLDERS), "")
        if above:
            return f"{fields[above]}: {shown(above)} is a file, and {field} puts {shown(path)} below it; choose others"
    for pattern in outputs:
        field = fields.get(_plain(pattern), _FOLDERS)
        if field != _FOLDERS:
            return f"outputs: {shown(pattern)} is what {field} puts there; name a path that the job itself writes"
    return ""


def _plain(path: str) -> str:
    return posixpath.normpath(f"/{path.lstrip('/')}")


def _folders(path: str) -> Iterator[str]:
    """Yield the folders that a path is in."""
    while (path := posixpath.dirname(path)) != "/":
        yield path

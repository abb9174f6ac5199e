"""PURE: files that a job's container gets: what they are called, and how each of them reaches it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from jaas_submit.model.bounds import shown
from jaas_submit.model.fields import Model

__all__ = ["FILES_FOLDER", "MOST_IN_CONFIGS", "FileIn", "FilesIn", "in_configs", "target_of", "unsent"]

FILES_FOLDER: Final = "/run/jaas/files"
"""Folder of a container with its files; JAAS_FILES names it."""

MOST_IN_CONFIGS: Final = 1000 * 1024 - 1
"""Bytes of a job's files that travel as swarm configs, together; one config may have as many. Source: moby/swarmkit,
manager/controlapi/config.go (less than 1,000 KiB)."""

_MOST_FILES: Final = 64
_MOST_NAME: Final = 255
_RESERVED: Final = ("/run/jaas/input.json", "/run/jaas/input.jsonl")


class FileIn(Model):
    """A file for the container: a path at the producer, until it is sent; from then on, what its content is."""

    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="of the producer's own file, which is sent with the job",
    )
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="of the content that was sent")
    size: int | None = Field(default=None, ge=0, lt=2**53, description="bytes that were sent")
    mode: int | None = Field(
        default=None, ge=0, le=0o777, description="permissions in the container; null: 0555 for a program, else 0444"
    )

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> FileIn:
        sent = (self.sha256 is not None, self.size is not None)
        if sent not in {(True, True), (False, False)} or (self.path is None) is not sent[0]:
            raise ValueError("name the file's path; sha256 and size are written by the client that sends it")
        return self


def _entries(value: object) -> object:
    """Accept a path as well as an object for each file."""
    if not isinstance(value, Mapping):
        raise ValueError('give an object of names and paths, such as {"data.csv": "out/data.csv"}')
    made: dict[Any, Any] = {}
    for name, file in value.items():
        made[name] = {"path": os.fspath(file)} if isinstance(file, str | os.PathLike) else file
    return made


def _check_names(value: dict[str, FileIn]) -> dict[str, FileIn]:
    for name in value:
        parts = name.removeprefix("/").split("/")
        if len(name) > _MOST_NAME or not name.isprintable() or {"", ".", ".."} & set(parts):
            raise ValueError(
                f"{shown(name)!r} is no name of a file; write a name, which is put into {FILES_FOLDER}, or an absolute "
                f"path, in at most {_MOST_NAME} characters"
            )
    targets = [target_of(name) for name in value]
    for target in targets:
        if target in _RESERVED or targets.count(target) > 1:
            raise ValueError(f"{shown(target)} is taken already; give each file a path of its own")
        if any(other.startswith(f"{target}/") for other in targets):
            raise ValueError(f"{shown(target)} is a file, and another one is below it; give each a path of its own")
    return value


FilesIn = Annotated[
    dict[str, FileIn],
    BeforeValidator(_entries),
    AfterValidator(_check_names),
    Field(max_length=_MOST_FILES),
]
"""Files by name; a name alone is below ``FILES_FOLDER``, an absolute path is itself."""


def target_of(name: str) -> str:
    """Return a file's path in the container.

    Args:
        name: as the description has it.
    """
    return name if name.startswith("/") else f"{FILES_FOLDER}/{name}"


def unsent(files: Mapping[str, FileIn]) -> list[str]:
    """Return the names of those that are only paths at the producer."""
    return [name for name, file in files.items() if file.sha256 is None]


def in_configs(sizes: Mapping[str, int]) -> frozenset[str]:
    """Return which files travel as swarm configs, by name: the smallest first, as many as fit. The store has the rest.

    An empty file is none of them: the swarm takes no empty config.

    Args:
        sizes: bytes of each file, by name.
    """
    left = MOST_IN_CONFIGS
    chosen: set[str] = set()
    for size, name in sorted((size, name) for name, size in sizes.items() if size):
        left -= size
        if left < 0:
            break
        chosen.add(name)
    return frozenset(chosen)

"""PURE: which entries of a container's archive are handed out, and what is said of the others."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Mapping
from typing import Final

from jaas_submit.model.bounds import counted, shown
from jaas_submit.model.files.patterns import MAX_LIST_BYTES, Pattern, list_bytes, name_problem

__all__ = ["Selection", "folders"]

_KINDS: Final[Mapping[bytes, str]] = {
    tarfile.SYMTYPE: "a symbolic link, which is not followed",
    tarfile.LNKTYPE: "a hard link to another file",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}

_MOST_SHOWN: Final = 3


class Selection:
    """What is taken of the entries that are offered.

    Args:
        patterns: of paths.
        limit: bytes of all files together, at most.
        most: how many files, at most.
    """

    def __init__(self, patterns: Iterable[str], limit: int, most: int) -> None:
        self._patterns = [Pattern(text) for text in patterns]
        self._limit = limit
        self._most = most
        self._unmet = dict.fromkeys(pattern.text for pattern in self._patterns)
        self._names: set[str] = set()
        self._bytes = 0
        self._list_bytes = 0
        self._left_out: list[str] = []
        self._count_left_out = 0

    def takes(self, name: str, kind: bytes, size: int) -> bool:
        """Return whether an entry is handed out; if it should be and cannot, keep why.

        Args:
            name: its path in the container, without the first slash.
            kind: its type in the archive, such as ``tarfile.REGTYPE``.
            size: its bytes.
        """
        met = [pattern.text for pattern in self._patterns if pattern.matches(name)]
        if not met:
            return False
        for text in met:
            self._unmet.pop(text, None)
        if kind == tarfile.DIRTYPE or name in self._names:
            return False
        if problem := self._problem(name, kind, size):
            self._count_left_out += 1
            if len(self._left_out) < _MOST_SHOWN:
                self._left_out.append(problem)
            return False
        self._names.add(name)
        self._bytes += size
        self._list_bytes += list_bytes([name])
        return True

    def _problem(self, name: str, kind: bytes, size: int) -> str:
        if why := name_problem(name):
            return why
        if kind not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            return f"{shown(name)} is {_KINDS.get(kind, 'no plain file')}"
        if len(self._names) >= self._most or self._list_bytes + list_bytes([name]) > MAX_LIST_BYTES:
            return f"{shown(name)} is one file too many (at most {self._most:,}; an archive of them is one file)"
        if self._bytes + size > self._limit:
            return f"{shown(name)} has {size:,} bytes, more than is left of the {self._limit:,} allowed"
        return ""

    @property
    def reason(self) -> str:
        """Why not all that was asked for is handed out; empty if all is."""
        parts = [f"nothing matches {shown(text, 100)}" for text in self._unmet]
        del parts[_MOST_SHOWN:]
        parts += self._left_out
        if more := self._count_left_out - len(self._left_out):
            parts.append(f"{counted(more, 'other file')} left out")
        return "; ".join(parts)


def folders(patterns: Iterable[str]) -> list[str]:
    """Return the paths whose archives hold all that patterns match, each once.

    Args:
        patterns: of paths.
    """
    found: list[str] = []
    for path in sorted({Pattern(text).folder for text in patterns}):
        if not any(path == other or path.startswith(f"{other}/") for other in found):
            found.append(path)
    return found

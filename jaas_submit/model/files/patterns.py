"""PURE: patterns of paths in a container, and names that a file may have outside of it."""

from __future__ import annotations

import fnmatch
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from jaas_submit.model.bounds import shown

__all__ = ["MAX_LIST_BYTES", "MAX_NAME", "Pattern", "list_bytes", "name_problem"]

MAX_LIST_BYTES: Final = 256 * 1024
"""Bytes that their list may have in the record, as JSON."""

_ENTRY_BYTES: Final = 128
"""Bytes that a file takes in the list besides its name, at most."""

MAX_NAME: Final = 1024
"""Characters of a pattern, and of a file's name with its folders."""

_MAX_PART_BYTES: Final = 255
"""Bytes of one part of a name: what the usual file systems take."""

_WILD: Final = frozenset("*?[")
_MANY: Final = "**"


class Pattern:
    """A pattern of absolute paths: ``*``, ``?`` and ``[...]`` match within a part, ``**`` matches any folders.

    A pattern that matches a folder means everything below it. The time of a match is linear in its length.

    Args:
        text: such as ``/out/*.pdf``.

    Raises:
        ValueError: it is not valid.
    """

    __slots__ = ("_parts", "folder", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        parts = text.rstrip("/").split("/")[1:]
        if not text.startswith("/") or not parts:
            raise ValueError("must be an absolute path below /, such as /out/*.pdf")
        if any(part in {"", ".", ".."} for part in parts):
            raise ValueError("must have no empty part, no . and no .., such as /out/*.pdf")
        if len(text) > MAX_NAME or not text.isprintable():
            raise ValueError(f"must have at most {MAX_NAME:,} characters, all of which can be printed")
        fixed = next((at for at, part in enumerate(parts) if _WILD & set(part)), len(parts))
        if not fixed:
            raise ValueError("must begin with a folder that has no *, ? or [, such as /out/*.pdf")
        self.folder = "/" + "/".join(parts[:fixed])
        """The longest beginning that is the same for all that it matches."""
        self._parts = [part if part == _MANY else re.compile(fnmatch.translate(part)) for part in parts]

    def matches(self, name: str) -> bool:
        """Return whether it matches a path, or one of the folders that the path is in.

        Args:
            name: a path, without its first slash.
        """
        reached = self._with_none({0})
        for part in name.split("/"):
            following: set[int] = set()
            for at in reached:
                if (wanted := self._parts[at]) == _MANY:
                    following.add(at)
                elif not isinstance(wanted, str) and wanted.match(part):
                    following.add(at + 1)
            reached = self._with_none(following)
            if len(self._parts) in reached:
                return True
        return False

    def _with_none(self, reached: set[int]) -> set[int]:
        """Add what is reached where ``**`` matches no folder."""
        for at, part in enumerate(self._parts):
            if at in reached and part == _MANY:
                reached.add(at + 1)
        return reached


def name_problem(name: str) -> str:
    """Return why a file of a container may not be handed out under its name; empty if it may.

    Args:
        name: its path, without the first slash.
    """
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:
        return "its name is no valid UTF-8"
    if len(name) > MAX_NAME or any(len(part) > _MAX_PART_BYTES for part in parts):
        return f"its name {shown(name, 30)} is too long"
    if any(part in {b"", b".", b".."} for part in parts):
        return f"its name {shown(name)} would lead elsewhere"
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        return f"its name {shown(name)} has a control character"
    return ""


def list_bytes(names: Sequence[str]) -> int:
    """Return how many bytes a list of files takes in the record, at most.

    Args:
        names: of the files. A character beyond ASCII takes 6 bytes or 12.
    """
    return sum(len(json.dumps(name)) + _ENTRY_BYTES for name in names)

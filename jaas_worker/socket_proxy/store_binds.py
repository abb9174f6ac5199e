"""PURE: the binds by which jaas mounts files of its local store into jobs' containers; off unless it is switched on.

The engine follows symbolic links on the node, and no check of a text sees them. Whoever can write to the store can put
one there, such as to ``/``, and have it mounted. Exact names and targets leave only links that stand where jaas writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from jaas_submit.model.job_spec import GATHER_FILE, INPUT_FILE
from jaas_submit.model.wire_names import job_id_of

__all__ = ["StoreBinds"]

_PREFIX: Final = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9_.-]{1,32}\Z")
_SHARED: Final = re.compile(r"[0-9a-f]{64}-[0-9a-f]{8}\Z")
_INPUT: Final = re.compile(r"(?:input|output-[0-9]{1,9})\.json\Z|input-[0-9]{1,9}\.jsonl\Z")
"""What a job is handed: its input, what a reduce job reads, and what another job returned."""


class StoreBinds(NamedTuple):
    """Which binds are those of files in the local store."""

    folder: str = ""
    """Of the store, an absolute path; empty: it is none."""
    allowed: bool = False
    """Whether they are let through."""

    def is_own(self, source: str, target: str) -> bool:
        """Return whether a bind is let through as one that jaas makes, whatever the policy says.

        Args:
            source: a path of the host.
            target: its place in the container.
        """
        found = self._below(source)
        if not self.allowed or len(found) != 3:
            return False
        prefix, folder, name = found
        if source != str(PurePosixPath(self.folder, *found)) or not _PREFIX.match(prefix):
            return False
        if folder == ".files":
            return bool(_SHARED.match(name))
        return job_id_of(folder) == folder and bool(_INPUT.match(name)) and target in {INPUT_FILE, GATHER_FILE}

    def remark(self, mounts: Iterable[Mapping[str, Any]]) -> str:
        """Return what to add to a refusal: the switch that lets files of the store through; empty if that is not it.

        Args:
            mounts: those that the policy judges.
        """
        if self.allowed or not any(self._below(str(one.get("Source"))) for one in mounts):
            return ""
        return "; start the socket proxy with --store-binds to let files of the store through"

    def _below(self, source: str) -> tuple[str, ...]:
        path = PurePosixPath(source)
        return path.relative_to(self.folder).parts if self.folder and path.is_relative_to(self.folder) else ()

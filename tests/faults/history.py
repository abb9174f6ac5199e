"""The history of a campaign: one JSON object a line, written as things happen, from which the checker works alone."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["Event", "History", "now", "read"]

Event = dict[str, Any]
"""Has ``e`` (what) and ``t`` (seconds since the machine's start); the other fields depend on ``e``."""


def now() -> float:
    """Return the seconds since the machine's start: the clock that containers read from /proc/uptime, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class History:
    """Appends events to a file.

    Args:
        path: the file, which must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("x", encoding="utf-8")
        self._lock = threading.Lock()

    def add(self, event: str, /, *, t: float | None = None, **fields: Any) -> None:
        """Write an event down.

        Args:
            event: its kind.
            t: when; None means now.
            fields: what else is known of it.
        """
        line = json.dumps({"e": event, "t": round(now() if t is None else t, 3), **fields}, default=str)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> list[Event]:
    """Return all events of a history file, in the order in which they were written."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]

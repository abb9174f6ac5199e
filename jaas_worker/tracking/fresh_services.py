"""The services to which something happened a moment ago: their next change is near, and they are watched closely."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

from jaas_worker.tracking.tracked_service import TrackedService

__all__ = ["CLOSE_MOST_WHILE_DEAR", "FreshServices"]

_FRESH_FOR_S: Final = 10.0
"""How long a service is looked at closely after something has happened to it."""

_CLOSE_MOST: Final = 4
"""Services that a close look takes. Where more change at once the cluster is busy, and the other looks will do: a look
at single services costs the engine the more of them there are."""

CLOSE_MOST_WHILE_DEAR: Final = 25
"""Services that a close look takes while lists are dear: those that may be starting, or else no other could start. Also
those whose containers' exits are looked into at once."""


class FreshServices:
    """Service ids, each with the moment at which something happened to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}

    def add(self, service_id: str) -> None:
        """Note that something has happened to a service just now."""
        with self._lock:
            self._since[service_id] = time.monotonic()

    def drop(self, service_id: str) -> None:
        """Note that nothing will happen to a service soon."""
        with self._lock:
            self._since.pop(service_id, None)

    def busy(self) -> bool:
        """Return whether there are more than a close look takes."""
        return len(self._since) > _CLOSE_MOST

    def choose(self, now: float, dear: bool, followed: Mapping[str, TrackedService]) -> tuple[list[str], float]:
        """Return the services to look at closely, and the seconds since anything happened to any.

        Args:
            now: the present moment, by the monotonic clock.
            dear: lists of all tasks are dear: some are looked at even if there are many.
            followed: the services that are followed, by their ids.
        """
        with self._lock:
            known = self._since.items()
            self._since = {one: at for one, at in known if now - at < _FRESH_FOR_S and one in followed}
            fresh, youngest = list(self._since), now - max(self._since.values(), default=0.0)
            if self.busy():
                fresh = [one for one in fresh if dear and not _has_run(followed.get(one))][:CLOSE_MOST_WHILE_DEAR]
                self._since.update({one: self._since.pop(one) for one in fresh})  # the others come first the next time
        return fresh, youngest


def _has_run(tracked: TrackedService | None) -> bool:
    return tracked is None or tracked.has_run

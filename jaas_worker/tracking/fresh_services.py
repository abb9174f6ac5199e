"""Services that changed recently: their next change is near, so they are polled often."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

from jaas_worker.tracking.tracked_service import TrackedService

__all__ = ["MAX_CLOSE_WHILE_SLOW", "FreshServices"]

_FRESH_FOR_S: Final = 10.0
"""Seconds for which a service is polled often after a change."""

_CLOSE_MOST: Final = 4
"""Maximal number of services in a frequent poll. If more change at once, the other polls are enough: a poll of single
services costs the engine more with each service."""

MAX_CLOSE_WHILE_SLOW: Final = 25
"""Maximal number of services in a frequent poll while lists are slow: those that may be starting, or no other could
start. Also the limit of exits that are examined at once."""


class FreshServices:
    """Service ids, each with the time of its last change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}

    def add(self, service_id: str) -> None:
        """Register a change of a service."""
        with self._lock:
            self._since[service_id] = time.monotonic()

    def drop(self, service_id: str) -> None:
        """Register that a service will not change soon."""
        with self._lock:
            self._since.pop(service_id, None)

    def busy(self) -> bool:
        """Return whether there are more than a frequent poll allows."""
        return len(self._since) > _CLOSE_MOST

    def choose(self, now: float, dear: bool, followed: Mapping[str, TrackedService]) -> tuple[list[str], float]:
        """Return the services to poll often, and the seconds since the last change of any.

        Args:
            now: the present moment, by the monotonic clock.
            dear: lists of all tasks are slow: some services are polled even if there are many.
            followed: the services that are followed, by their ids.
        """
        with self._lock:
            known = self._since.items()
            self._since = {one: at for one, at in known if now - at < _FRESH_FOR_S and one in followed}
            fresh, youngest = list(self._since), now - max(self._since.values(), default=0.0)
            if self.busy():
                fresh = [one for one in fresh if dear and not _has_run(followed.get(one))][:MAX_CLOSE_WHILE_SLOW]
                self._since.update({one: self._since.pop(one) for one in fresh})  # the others come first the next time
        return fresh, youngest


def _has_run(tracked: TrackedService | None) -> bool:
    return tracked is None or tracked.has_run

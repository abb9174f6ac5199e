"""Calls that are due at a later time, on one thread for all of them; and when a step that failed is."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from jaas_worker.telemetry.logging_setup import Action, action

__all__ = ["Timer", "retry_delay"]

logger = logging.getLogger(__name__)


def retry_delay(tries: int) -> float:
    """Return the seconds until a step is taken again.

    Args:
        tries: how often it has failed in a row.
    """
    return min(0.2 * 2.0 ** min(tries, 10), 10.0)


class Timer:
    """Runs callables after a delay. They must be short: they share one thread."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="jaas-timer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Forget what is due and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def call(self, delay: float, what: Callable[[], None]) -> None:
        """Call ``what`` in ``delay`` seconds."""
        with self._changed:
            item = (time.monotonic() + delay, next(self._numbers), what)
            heapq.heappush(self._heap, item)
            if self._heap[0] is item:  # else the thread wakes up early enough
                self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if self._closed:
                    return
                _, _, what = heapq.heappop(self._heap)
            try:
                what()
            except Exception:  # one bad call must not end all that come after it
                logger.exception("a delayed call failed", extra=action(Action.STEP_FAILED))

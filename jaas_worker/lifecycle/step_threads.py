"""The threads that take steps: launching ones, finishing ones, and one for what is due at a later time."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["StepThreads", "Timer", "retry_delay"]

logger = logging.getLogger(__name__)

_THREADS_START_S: Final = 10.0
"""Seconds for which the finishing threads wait for each other, if one of them does not start."""


def retry_delay(tries: int) -> float:
    """Return the seconds until a step is repeated.

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
            if self._heap[0] is item:  # otherwise the thread wakes up early enough by itself
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
            except Exception:  # one failing call must not prevent the later ones
                logger.exception("a delayed call failed", extra=action(Action.STEP_FAILED))


class StepThreads:
    """The threads of a worker that take the steps of its jobs.

    Args:
        launching: how many threads launch.
        finishing: how many finish.
        copying: how many copy files, which takes long.
        launch: what a launching thread does until the worker shuts down.
    """

    def __init__(self, launching: int, finishing: int, copying: int, launch: Callable[[], None]) -> None:
        self._timer = Timer()
        self._finishing = finishing
        self._finishing_threads: list[threading.Thread] = []
        self._finishers = ThreadPoolExecutor(
            finishing,
            thread_name_prefix="jaas-finish",
            initializer=lambda: self._finishing_threads.append(threading.current_thread()),
        )
        self._copiers = ThreadPoolExecutor(copying, thread_name_prefix="jaas-files")
        self._launchers = [
            threading.Thread(target=launch, name=f"jaas-launch-{n}", daemon=True) for n in range(launching)
        ]

    def start(self) -> None:
        """Start them."""
        self._timer.start()
        for thread in self._launchers:
            thread.start()
        # All at once and not on demand, so that the number of threads is constant.
        together = threading.Barrier(self._finishing)
        for _ in range(self._finishing):
            self._finishers.submit(together.wait, _THREADS_START_S)

    def close(self, patience: float) -> None:
        """End them; the launching ones have been told to end.

        Args:
            patience: seconds to wait for what is under way.
        """
        deadline = time.monotonic() + patience
        for thread in self._launchers:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self._timer.close()
        for pool in (self._finishers, self._copiers):
            pool.shutdown(wait=False, cancel_futures=True)
        for thread in tuple(self._finishing_threads):
            thread.join(max(deadline - time.monotonic(), 0.0))

    def submit(self, call: Callable[..., Any], *args: Any) -> None:
        """Have a call made on a finishing thread."""
        self._finishers.submit(call, *args)

    def submit_copy(self, call: Callable[..., Any], *args: Any) -> None:
        """Have a call made on a thread that copies files."""
        self._copiers.submit(call, *args)

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        """Run a short call after a pause.

        Args:
            delay: seconds.
            call: must not raise.
        """
        self._timer.call(delay, call)

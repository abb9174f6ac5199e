"""Calls that other threads have made on the thread of Celery's event loop."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from jaas_worker.messaging.result_backend import TEMPORARY_ERRORS
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["LoopCalls"]

logger = logging.getLogger(__name__)


class LoopCalls:
    """The calls that are to be made on the event loop's thread. Any thread may add some."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def register(self, loop: Any) -> None:
        """Have the calls made by an event loop of kombu.

        Args:
            loop: the event loop.
        """
        loop.add_reader(self._wake_fd, self._on_wake)
        self.wake()

    def make(self, call: Callable[[], None]) -> None:
        """Have a call made on the event loop's thread; returns at once."""
        self._due.append(call)
        self.wake()

    def make_and_wait(self, call: Callable[[], None], timeout: float = 30.0) -> bool:
        """Run a call on the event loop's thread and wait for it; False if it failed or was not made."""
        finished = threading.Event()
        worked = False

        def run() -> None:
            nonlocal worked
            try:
                call()
                worked = True
            except TEMPORARY_ERRORS as error:
                logger.warning("reporting to Celery failed: %r", error, extra=action(Action.RESULT_NOT_STORED))
            finally:
                finished.set()

        self.make(run)
        finished.wait(timeout)
        return worked

    def wake(self) -> None:
        """Wake the event loop up."""
        os.eventfd_write(self._wake_fd, 1)

    def run(self) -> None:
        """Make all calls that are due; on the event loop's thread, or after it has ended."""
        while self._due:
            call = self._due.popleft()
            try:
                call()
            except Exception:  # an error of one request must not end the worker
                logger.exception("a callback failed", extra=action(Action.STEP_FAILED))

    def _on_wake(self, *_: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        self.run()

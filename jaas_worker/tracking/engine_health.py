"""Whether this worker's engine is healthy. If not, the worker takes no new jobs: others run them, or this one later."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_worker.swarm.engine import Engine
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["EngineHealth"]

logger = logging.getLogger(__name__)


class EngineHealth:
    """Asks the engine, every few seconds, what only a manager with a leader can answer.

    Args:
        engine: the swarm.
        interval: seconds between two questions.
        changed: called on each change, on this thread, with whether the engine is away.
    """

    def __init__(self, engine: Engine, interval: float, changed: Callable[[bool], None]) -> None:
        self._engine = engine
        self._interval = interval
        self._changed = changed
        self._since = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="jaas-engine-health", daemon=True)
        self.away = ""
        """Why the engine is unhealthy; empty while it is healthy."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread without waiting for a running request."""
        self._closed.set()

    def look(self) -> None:
        """Ask once."""
        try:
            # A short list, which needs the leader.
            self._engine.down_nodes()
        except (EngineUnavailable, EngineRefused) as error:
            if not self.away:
                self._since = time.monotonic()
                logger.warning("taking no new jobs: %s", error, extra=action(Action.ENGINE_UNAVAILABLE))
            before, self.away = self.away, str(error)
        else:
            before, self.away = self.away, ""
            if before:
                lasted = time.monotonic() - self._since
                logger.info(
                    "the engine answers again, after %.0f s: taking jobs", lasted, extra=action(Action.ENGINE_AVAILABLE)
                )
        if bool(before) != bool(self.away):
            self._changed(bool(self.away))

    def _loop(self) -> None:
        while not self._closed.is_set():
            try:
                self.look()
            except Exception:  # the thread that lets a worker take jobs again must not end
                logger.exception("checking the engine failed", extra=action(Action.STEP_FAILED))
            self._closed.wait(self._interval)

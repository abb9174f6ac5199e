"""The events of this worker's engine, followed on a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_worker.swarm.engine import Engine, EngineEvent
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["EngineEvents"]

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
"""Until the events are asked for once more."""


class EngineEvents:
    """Follows the events of an engine, and begins anew when they break off.

    Args:
        engine: the swarm.
        hear: is called with each event, on the thread that follows them.
    """

    def __init__(self, engine: Engine, hear: Callable[[EngineEvent], None]) -> None:
        self._engine = engine
        self._hear = hear
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="jaas-events", daemon=True)
        self.node_id = ""
        """The engine's node; empty until it is known."""
        self.followed_node = ""
        """The same while the events are followed, else empty."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Follow them no longer; the thread ends with the next event, and is not waited for."""
        self._closed.set()

    def _loop(self) -> None:
        while not self._closed.is_set():
            try:
                self.node_id = self._engine.info().node_id
                for event in self._engine.events():
                    self.followed_node = self.node_id
                    if self._closed.is_set():
                        return
                    self._hear(event)
            except (EngineUnavailable, EngineRefused) as error:
                logger.debug("no events from the engine: %s", error)
            except Exception:  # polling goes on without events, but they must come back
                logger.exception("following the engine's events failed", extra=action(Action.STEP_FAILED))
            self.followed_node = ""
            self._closed.wait(_RETRY_S)

"""`jaas listen`: on a node without a worker, tells the workers of its containers' ends sooner than the swarm does.

A worker hears its own engine and tells others of what concerns them (``neighbours.py``). This is that part alone: it
needs no manager, and starts nothing. Nothing depends on it; what it does not tell, the swarm does.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.ledger import Ledger, connect
from jaas_worker import logsetup
from jaas_worker.engine import Engine, EngineEvent
from jaas_worker.logsetup import Action, action
from jaas_worker.neighbours import pass_on
from jaas_worker.observe import parse_time
from jaas_worker.settings import Settings
from jaas_worker.swarm import Swarm

__all__ = ["Listener", "listener_main"]

logger = logging.getLogger(__name__)

_AGAIN: Final = 1.0
"""Seconds until an engine that does not answer is asked again."""

_STALE: Final = 2.0
"""Seconds after an end when there is no use in telling: the swarm has."""


class Listener:
    """Passes on what one engine tells.

    Args:
        ledger: knows who holds a job, and reaches them.
        engine: the node's.
    """

    def __init__(self, ledger: Ledger, engine: Engine) -> None:
        self._ledger = ledger
        self._engine = engine
        self._closed = threading.Event()
        self._away = False

    def run(self) -> None:
        """Listen until ``close``; outages of engine and Redis are waited for."""
        while not self._closed.is_set():
            try:
                node = self._engine.info().node_name
                logger.info("passing on containers' ends on %s", node, extra=action(Action.LISTENER_ON, node=node))
                self._away = False
                for event in self._engine.events():
                    if self._closed.is_set():
                        return
                    self._hear(event)
            except (EngineUnavailable, EngineRefused) as error:
                if not self._away:
                    logger.warning("waiting for the engine: %s", error, extra=action(Action.ENGINE_AWAY))
                self._away = True
            self._closed.wait(_AGAIN)

    def close(self) -> None:
        """Have ``run`` return at the next event."""
        self._closed.set()

    def _hear(self, event: EngineEvent) -> None:
        at = parse_time(event.at)
        if event.kind != "die" or not event.job_id or event.exit_code is None or at is None:
            return
        if time.time() - at.timestamp() < _STALE:  # while Redis did not answer, events have piled up
            pass_on(self._ledger, event)


def listener_main(level: str) -> None:
    """Run a listener in this process, with the settings of a worker, until it is killed.

    Args:
        level: of the log, such as ``INFO``.

    Raises:
        SpecError: a setting is not valid.
        TemporaryError: Redis does not answer.
    """
    settings = Settings()
    logsetup.set_up(settings.log_format, level)
    ledger = Ledger(connect(settings.redis_url), settings.prefix)
    ledger.now()
    Listener(ledger, Swarm(settings.docker_host, settings.engine_timeout)).run()

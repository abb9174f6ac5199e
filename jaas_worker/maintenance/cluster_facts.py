"""Tells the ledger what the nodes have to offer: producers read it to explain why a job waits."""

from __future__ import annotations

import time
from typing import Final

from jaas_submit.ledger import Ledger
from jaas_worker.swarm.engine import Engine

__all__ = ["ClusterFacts"]

_SLOW_ENGINE_FACTOR: Final = 50
"""What takes the engine long is done again only after so many times as long: all tasks are asked for."""


class ClusterFacts:
    """A duty of one worker for all.

    Args:
        ledger: where the facts go.
        engine: the swarm.
    """

    def __init__(self, ledger: Ledger, engine: Engine) -> None:
        self._ledger = ledger
        self._engine = engine
        self._next = 0.0

    def run_once(self) -> None:
        """Save the facts, unless that took so long the last time that they are not due yet.

        Raises:
            TemporaryError: Redis or the engine does not answer.
            EngineRefused: the engine says no.
        """
        started = time.monotonic()
        if started >= self._next:
            self._ledger.maintenance.save_cluster(self._engine.cluster())
            self._next = time.monotonic() + _SLOW_ENGINE_FACTOR * (time.monotonic() - started)

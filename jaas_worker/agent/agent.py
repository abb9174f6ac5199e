"""`jaas agent`: on a node without a worker, forwards container exits to the workers sooner than the swarm does.

A worker receives its own engine's events and forwards exits to other workers (``tracking/exit_notice.py``). The agent
does only that: it needs no manager, and starts nothing. Nothing depends on it: the swarm reports the exits that it
misses.
"""

from __future__ import annotations

import logging
import time

from jaas_submit.connection import connect
from jaas_submit.errors import EngineRefused, EngineUnavailable, TemporaryError
from jaas_submit.ledger import Ledger
from jaas_worker.decisions.times import parse_time
from jaas_worker.settings import Settings
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.engine import Engine, EngineEvent
from jaas_worker.telemetry import logging_setup
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.tracking.exit_notice import forward_exit

__all__ = ["Agent", "agent_main"]

logger = logging.getLogger(__name__)


class Agent:
    """Forwards container exits of one engine.

    Args:
        ledger: knows the holder of each job, and sends notices to it.
        engine: the node's.
        retry_pause: seconds until an engine that does not answer is asked again.
        stale_after: seconds after an exit when forwarding it is useless, since the swarm has reported it.
    """

    def __init__(self, ledger: Ledger, engine: Engine, retry_pause: float = 1.0, stale_after: float = 2.0) -> None:
        self._ledger = ledger
        self._engine = engine
        self._retry_pause = retry_pause
        self._stale_after = stale_after
        self._away: set[Action] = set()
        """The parts whose outage has been logged."""

    def run(self) -> None:
        """Forward exits for ever; wait during outages of engine and Redis."""
        node = ""
        while True:
            try:
                info = self._engine.info()
                if info.node_name != node:
                    node = info.node_name
                    logger.info(
                        "forwarding container exits on %s", node, extra=action(Action.AGENT_FORWARDING, node=node)
                    )
                for event in self._engine.events():
                    self._back(Action.ENGINE_UNAVAILABLE)
                    self._hear(event)
            except (EngineUnavailable, EngineRefused) as error:
                self._warn(Action.ENGINE_UNAVAILABLE, error)
            time.sleep(self._retry_pause)

    def _hear(self, event: EngineEvent) -> None:
        at = parse_time(event.at)
        if event.kind != "die" or not event.job_id or event.exit_code is None or at is None:
            return
        if time.time() - at.timestamp() > self._stale_after:  # while Redis did not answer, events have piled up
            return
        try:
            forward_exit(self._ledger, event)
            self._back(Action.REDIS_UNAVAILABLE)
        except TemporaryError as error:
            self._warn(Action.REDIS_UNAVAILABLE, error)

    def _warn(self, what: Action, error: Exception) -> None:
        """Log each outage once."""
        if what not in self._away:
            logger.warning("container exits are not forwarded for now: %s", error, extra=action(what))
        self._away.add(what)

    def _back(self, what: Action) -> None:
        if what in self._away:
            logger.info("container exits are forwarded again", extra=action(Action.AGENT_FORWARDING))
        self._away.discard(what)


def agent_main(level: str) -> None:
    """Run an agent in this process, with the settings of a worker, until it is killed.

    Args:
        level: of the log, such as ``INFO``.

    Raises:
        SpecError: a setting is not valid.
        TemporaryError: Redis does not answer.
    """
    settings = Settings()
    logging_setup.set_up(settings.log_format, level)
    ledger = Ledger(connect(settings.redis_url), settings.prefix)
    ledger.now()
    Agent(ledger, Swarm(settings.docker_host, settings.engine_timeout)).run()

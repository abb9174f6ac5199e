"""Swarm configs with the inputs of jobs that have ended: they are removed where no service has them any more."""

from __future__ import annotations

import logging
import string
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from jaas_submit.errors import AnswerTooLong, EngineRefused
from jaas_submit.ledger import Ledger
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_JOB, service_name
from jaas_worker.swarm.engine import Engine
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["OrphanInputs", "unless_refused"]

logger = logging.getLogger(__name__)

_MIN_AGE_S: Final = 30.0
"""Seconds after a job's end after which its input counts as left behind."""

_CHARACTERS: Final = f"-{string.digits}{string.ascii_lowercase}"
"""Of job ids and attempts, by which the names of configs are divided into parts."""

_MOST_LISTED: Final = 16 * 2**20
"""Bytes of the list of a part: a dozen of the largest inputs."""

_LONGEST: Final = 64
"""Characters of a config's name. Source: moby/swarmkit, manager/controlapi/common.go."""

_ROUND_TIME_S: Final = 1.0
"""Seconds after which a round starts no further part: the next round continues there."""

_PAUSE_FACTOR: Final = 20
"""After all parts there is a pause of so many times as long as they took: a list has the inputs of all jobs in it."""


class OrphanInputs:
    """Removes inputs whose service is gone, or was never created. One worker at a time does so.

    An engine lists configs with their contents, of 1 MB each. So they are listed by parts of their names, and by finer
    parts where one is too long.

    Args:
        ledger: the records.
        engine: the swarm.
        label: selects this installation's inputs.
    """

    def __init__(self, ledger: Ledger, engine: Engine, label: str) -> None:
        self._ledger = ledger
        self._engine = engine
        self._label = label
        self._parts: list[str] = []
        self._took = 0.0
        """Seconds that the parts have taken until now."""
        self._next = 0.0

    def run_once(self) -> None:
        """Remove them, as many as the time allows.

        Raises:
            TemporaryError: Redis or the engine does not answer.
        """
        began = time.monotonic()
        if began < self._next:
            return
        self._parts = self._parts or [service_name("", 1).removesuffix("-1")]
        try:
            while self._parts and time.monotonic() - began < _ROUND_TIME_S:
                self._settle(self._parts.pop())  # first, so that one that fails does not keep the others
        finally:
            self._took += time.monotonic() - began
        if not self._parts:
            self._next, self._took = time.monotonic() + _PAUSE_FACTOR * self._took, 0.0

    def _settle(self, part: str) -> None:
        try:
            found = self._engine.configs(self._label, part, _MOST_LISTED)
        except AnswerTooLong:
            if len(part) >= _LONGEST:
                raise
            self._parts += [f"{part}{character}" for character in _CHARACTERS]
        else:
            self._remove(found)

    def _remove(self, found: Mapping[str, Mapping[str, str]]) -> None:
        now = self._ledger.now()
        jobs = {labels.get(LABEL_JOB, "") for labels in found.values()}
        records = {one.id: one for one in self._ledger.queries.outlines(sorted(jobs))}
        for name, labels in found.items():
            job_id = labels.get(LABEL_JOB, "")
            if f"job {job_id}" in self._ledger.unreadable:  # there is a record, even if unreadable
                continue
            record = records.get(job_id)
            if record is not None:
                over = record.terminal or labels.get(LABEL_ATTEMPT) in {str(number) for number in record.ended}
                if not over or now - record.updated_at <= _MIN_AGE_S:
                    continue
            if self._engine.find(name) is None:
                unless_refused(job_id, name, partial(self._engine.remove_config, name, labels))


def unless_refused(job_id: str, service: str, call: Callable[[], bool]) -> bool:
    """Handle one service or config; a refusal of the engine must not prevent the handling of the others.

    Args:
        job_id: the job it belongs to.
        service: the name of the service, which is also its config's.
        call: does it; returns whether something was done.

    Returns:
        What the call returned; False when the engine refused.

    Raises:
        EngineUnavailable: the engine does not answer, and would not for the others either.
    """
    try:
        return call()
    except EngineRefused as error:
        logger.warning(
            "service %s is left to the next round: %s",
            service,
            error,
            extra=action(Action.SERVICE_REMOVAL_FAILED, job_id=job_id, service=service),
        )
        return False

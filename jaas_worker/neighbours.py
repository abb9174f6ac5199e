"""Ends of containers, passed on to the workers that hold the jobs: engines know of them before the swarm does.

The swarm hands what its nodes report to the managers in batches, ten a second (moby/swarmkit, manager/dispatcher,
``maxBatchInterval``). So a worker that hears of the end of a container whose job another worker holds passes the event
on to that one. Nothing depends on it: what gets lost here, the other worker learns from the swarm.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Final

from pydantic import TypeAdapter

from jaas_submit.errors import TemporaryError
from jaas_submit.ledger import Ledger
from jaas_worker.bounds import read_json
from jaas_worker.context import Context
from jaas_worker.engine import EngineEvent
from jaas_worker.inflight import InFlight
from jaas_worker.listening import listen
from jaas_worker.logsetup import Action, action
from jaas_worker.observe import parse_time
from jaas_worker.tracker import Tracker

__all__ = ["Neighbours", "pass_on"]

logger = logging.getLogger(__name__)

_EVENT = TypeAdapter(EngineEvent)

_LARGEST_NOTICE: Final = 64 * 1024
"""Bytes of what is told of an end."""


def pass_on(ledger: Ledger, event: EngineEvent) -> None:
    """Tell the worker that holds a job of its container's end, if there is one.

    Args:
        ledger: knows who holds the job.
        event: the end.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    ledger.ownership.forward_exit(event.job_id, json.dumps(event._asdict()))


class Neighbours:
    """This worker's part in it: it tells, and it is told.

    Args:
        context: the worker.
        flight: its threads.
        tracker: learns what this worker is told.
    """

    def __init__(self, context: Context, flight: InFlight, tracker: Tracker) -> None:
        self._context = context
        self._flight = flight
        self._tracker = tracker
        # One at a time: where there are more the cluster is busy, and the swarm's word will do. Redis may let this one
        # wait, and a worker with a single thread needs that for its own jobs.
        self._telling = threading.Semaphore(1 if context.settings.finish_threads > 1 else 0)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="jaas-neighbours", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Listen no longer; the thread ends within a second and is not waited for."""
        self._closed.set()

    def died_here(self, event: EngineEvent) -> None:
        """Have the worker that holds the job told, if there is one; returns at once.

        Args:
            event: the end of a container of which this worker does not know.
        """
        if event.job_id and event.exit_code is not None and self._telling.acquire(blocking=False):
            self._flight.submit(self._tell, event)

    def _tell(self, event: EngineEvent) -> None:
        try:
            pass_on(self._context.ledger, event)
        except TemporaryError as error:
            logger.debug("job %s: its end could not be passed on: %s", event.job_id, error)
        except Exception:  # nobody waits for it
            logger.exception("job %s: its end could not be passed on", event.job_id, extra=action(Action.STEP_FAILED))
        finally:
            self._telling.release()

    def _listen(self) -> None:
        ledger, holder = self._context.ledger, self._context.holder
        listen("ends", lambda: ledger.ownership.exits_for(holder), self._told, self._closed)

    def _told(self, text: str) -> None:
        try:
            found = read_json(text.encode(), _LARGEST_NOTICE)
            event = _EVENT.validate_python({name: found[name] for name in EngineEvent._fields})
            understood = event.kind == "die" and parse_time(event.at) is not None
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            understood = False
        if understood:
            self._tracker.died_elsewhere(event)
        else:
            logger.debug("what was told of an end cannot be read: another version has told it")

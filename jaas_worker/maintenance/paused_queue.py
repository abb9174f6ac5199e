"""Takes no messages while the worker's queue is paused, and goes on with the jobs that the ledger kept meanwhile."""

from __future__ import annotations

import logging
import threading

from jaas_submit.ledger import Ledger
from jaas_worker.maintenance.ports import Worker
from jaas_worker.settings import Settings
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["PausedQueue"]

logger = logging.getLogger(__name__)


class PausedQueue:
    """A duty of every worker.

    That nothing of a paused queue is started is the ledger's condition for each claim. This saves the claims: the
    messages stay in their queue.

    Args:
        settings: the queue.
        ledger: says whether it is paused.
        worker: takes messages, or not.
    """

    def __init__(self, settings: Settings, ledger: Ledger, worker: Worker) -> None:
        self._queue = settings.queue
        self._ledger = ledger
        self._worker = worker
        self._held = False
        self._changed = threading.Event()
        self._changed.set()

    def note(self, notice: str) -> None:
        """Learn of a notice; those about rules make the next run look at them.

        Args:
            notice: what came on the channel of available jobs.
        """
        if notice == "rules":
            self._changed.set()

    def run_once(self, *, anyway: bool) -> bool:
        """Look whether the queue is paused.

        Args:
            anyway: also if no notice says that something has changed.

        Returns:
            Whether the worker takes no messages.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        if not anyway and not self._changed.is_set():
            return self._held
        self._changed.clear()
        try:
            self._ledger.queues.ensure(self._queue)
            found = self._ledger.queues.find([self._queue])
            paused = any(one.rules.paused for one in found)
            # Its rules may have been lost or damaged while it was paused: nobody has resumed it then.
            if not paused and any(one.kept for one in found):
                self._ledger.queues.open_kept(self._queue)
        except BaseException:
            self._changed.set()
            raise
        if paused != self._held:
            how = "paused: this worker takes no messages of it" if paused else "not paused any more"
            logger.info("queue %s is %s", self._queue, how, extra=action(Action.QUEUE_PAUSED))
            self._worker.hold_messages(paused)
            self._held = paused  # after it, so that the next run tries again where it fails
        return paused

    def open_places(self) -> bool:
        """Go on with the jobs that were kept; return whether there is more to do.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        return self._ledger.queues.open_more()

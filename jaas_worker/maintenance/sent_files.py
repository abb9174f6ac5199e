"""Forgets files that producers sent with jobs and that nobody needs any more, in the ledger and store."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Final

from jaas_submit.errors import SpecError, StoreUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.storage.store import Store
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["SentFiles"]

logger = logging.getLogger(__name__)

_ROUND_TIME_S: Final = 2.0
"""Seconds after which each part of a round ends: the next round continues there."""


class SentFiles:
    """Forgets files. One worker does it for all.

    Args:
        ledger: knows who needs them.
        store: for large ones; None if there is none.
        round_time: seconds after which each part of a round ends.
    """

    def __init__(self, ledger: Ledger, store: Store | None, round_time: float = _ROUND_TIME_S) -> None:
        self._ledger = ledger
        self._store = store
        self._round_time = round_time

    def run_once(self) -> bool:
        """Forget what nobody needs, as much of it as the time allows.

        Returns:
            False if the next round should come soon, as there is more to do.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        forgotten = self._forget()
        return self._remove() and forgotten

    def _forget(self) -> bool:
        until = time.monotonic() + self._round_time
        while self._ledger.sent_files.forget_unused():
            if time.monotonic() >= until:
                return False
        return True

    def _remove(self) -> bool:
        """Remove files from the store; one that it does not remove now must not keep the others."""
        if self._store is None:
            return True
        files = self._ledger.sent_files
        started, until = self._ledger.now(), time.monotonic() + self._round_time
        removed, failed, said, over = 0, 0, "", False
        while not over and (names := files.left(started)):
            for name in names:
                try:
                    with contextlib.suppress(SpecError):  # no name that jaas made
                        self._store.remove_shared(name)
                except StoreUnavailable as error:
                    files.put_back(name)
                    failed, said = failed + 1, said or str(error)
                else:
                    files.removed(name)
                    removed += 1
                if over := time.monotonic() >= until:
                    break
        if failed:
            logger.warning(
                "%d files stay in the store until a later round: %s",
                failed,
                said,
                extra=action(Action.RECONCILE_FAILED),
            )
        return not over or not removed  # a store that removes nothing is asked again in its own time

"""Removes expired records from the ledger's indexes, and their files from the store."""

from __future__ import annotations

import time
from typing import Final

from jaas_submit.ledger import Ledger
from jaas_submit.storage.store import Store

__all__ = ["ExpiredRecords"]

_ROUND_TIME_S: Final = 1.0
"""Seconds after which a round looks for no further expired records: the next round continues there."""

_RECORDS_PER_CALL: Final = 1000
"""Expired records that one call removes from the indexes; it blocks Redis for some 10 ms."""


class ExpiredRecords:
    """Removes expired records from the indexes, and deletes their files. One worker does it for all.

    Args:
        ledger: the records.
        store: for large values, whose files are deleted with the records; None if there is none.
    """

    def __init__(self, ledger: Ledger, store: Store | None) -> None:
        self._ledger = ledger
        self._store = store

    def run_once(self) -> int:
        """Remove as many as the time allows; return how many.

        Raises:
            TemporaryError: Redis or the store does not answer.
        """
        expired = 0
        until = time.monotonic() + _ROUND_TIME_S
        while True:
            if self._store is not None:  # first its files, because the index names them
                self._store.remove(self._ledger.maintenance.expired(_RECORDS_PER_CALL))
            gone = self._ledger.maintenance.sweep(_RECORDS_PER_CALL)
            expired += gone
            if gone < _RECORDS_PER_CALL or time.monotonic() > until:
                return expired

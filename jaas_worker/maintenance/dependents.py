"""Starts or skips what comes after jobs that have ended, where there was too much of it for one step of the ledger."""

from __future__ import annotations

from typing import Final

from jaas_submit.ledger import Ledger

__all__ = ["Dependents"]

_MAX_CHUNKS: Final = 40
"""How many steps of 250 dependents one round takes."""


class Dependents:
    """A duty of every worker.

    Args:
        ledger: the records.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._closed = False

    def close(self) -> None:
        """End a round that is under way."""
        self._closed = True

    def run_once(self) -> bool:
        """Go on with what comes after ended jobs; return whether nothing is left, or the worker shuts down.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        for _ in range(_MAX_CHUNKS):
            more = self._ledger.maintenance.release_dependents()
            if not more or self._closed:
                return True
        return False

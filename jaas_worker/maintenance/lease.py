"""Renews the worker's lease: as long as it holds, no other worker takes its jobs over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from jaas_submit.errors import LedgerUnavailable
from jaas_worker.settings import Settings
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.telemetry.metrics import Metrics

__all__ = ["Lease", "LeaseHolder"]

logger = logging.getLogger(__name__)


class LeaseHolder(Protocol):
    """Whose lease it is."""

    def renew_lease(self, info: dict[str, Any]) -> None:
        """Tell the ledger that this worker is alive; raises LedgerUnavailable."""

    def look_around(self) -> None:
        """Learn how many nodes and workers there are; raises LedgerUnavailable."""


class Lease:
    """Renews the lease three times as often as it would run out, on a thread of its own.

    Args:
        settings: how long a lease is, and the file that is touched with each renewal.
        holder: whose lease it is.
        about: returns what the worker says about itself.
        metrics: where failed renewals are counted.
    """

    def __init__(
        self, settings: Settings, holder: LeaseHolder, about: Callable[[], dict[str, Any]], metrics: Metrics
    ) -> None:
        self._settings = settings
        self._holder = holder
        self._about = about
        self._metrics = metrics
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="jaas-lease", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Renew the lease no more; a renewal that is under way is not waited for."""
        self._closed.set()

    def run_once(self) -> None:
        """Renew the lease, and learn what else has changed in the cluster. Never raises."""
        try:
            self._holder.renew_lease(self._about())
            if self._settings.lease_file:
                Path(self._settings.lease_file).touch()
            self._holder.look_around()
        except LedgerUnavailable as error:  # Redis may be away for long; the lease is taken again when it is back
            self._metrics.lease_renewals.labels("failed").inc()
            logger.warning("the lease could not be renewed: %s", error, extra=action(Action.LEASE_NOT_RENEWED))
        except Exception:  # without its lease this worker could launch nothing
            logger.exception("the lease could not be renewed", extra=action(Action.LEASE_NOT_RENEWED))

    def _loop(self) -> None:
        while not self._closed.is_set():
            self.run_once()
            self._closed.wait(self._settings.lease / 3)

"""Forgets files that producers sent with jobs and that nobody needs any more: in the ledger, store and swarm."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from jaas_submit.errors import SpecError
from jaas_submit.ledger import Ledger
from jaas_submit.storage.store import Store
from jaas_worker.swarm.engine import Engine
from jaas_worker.swarm.files.shared_configs import remove_unused

__all__ = ["SentFiles"]


class SentFiles:
    """Forgets files. One worker does it for all.

    Args:
        ledger: knows who needs them.
        store: for large ones; None if there is none.
        engine: the swarm, with their configs.
        ledger_id: of this installation.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store | None,
        engine: Engine,
        ledger_id: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._engine = engine
        self._ledger_id = ledger_id
        self._clock = clock

    def run_once(self) -> None:
        """Forget what nobody needs, or a part of it.

        Raises:
            TemporaryError: Redis, store or engine do not answer.
        """
        self._ledger.sent_files.forget_unused()
        if self._store is not None:
            for name in self._ledger.sent_files.left():
                with contextlib.suppress(SpecError):  # no name that jaas made
                    self._store.remove_shared(name)
                self._ledger.sent_files.removed(name)
        remove_unused(self._engine, self._ledger_id, self._clock())

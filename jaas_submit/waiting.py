"""Waiting for a job: what is looked at, for how long, and what a Redis that is away means. Does no I/O itself."""

from __future__ import annotations

import time
from typing import Final

from jaas_submit.errors import LedgerUnavailable, WaitTimeout
from jaas_submit.ledger import Change
from jaas_submit.records import JobRecord

__all__ = ["Watch"]

_PATIENCE: Final = 60.0
"""Seconds that ``wait`` and ``follow`` bear a Redis that does not answer, once it has answered them."""

_LOOK_AGAIN: Final = 2.0
"""Seconds after which a waiting client reads the record even if no notice came: pub/sub may lose one."""


class Watch:
    """What ``follow`` has seen of a job, and how long it still waits; the same for threads and for asyncio.

    Args:
        timeout: seconds to wait in all, from now on; None waits for ever.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._seen: Change | None = None
        self._answered: float | None = None

    def news(self, record: JobRecord) -> Change | None:
        """Return what is new in a record that has just been read; None when nothing is."""
        self._answered = time.monotonic()
        change = Change(record.state, record.detail, record.reported)
        if self._seen is not None and (change.state, change.detail) == (self._seen.state, self._seen.detail):
            return None
        self._seen = change
        return change

    def pause(self, record: JobRecord) -> float:
        """Return for how many seconds to wait for a notice before the record is read again.

        Raises:
            WaitTimeout: the time is over.
        """
        if self._timeout is None or self._deadline is None:
            return _LOOK_AGAIN
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(f"job {record.id} is {record.state} after {self._timeout:g} s; it goes on")
        return min(_LOOK_AGAIN, left)

    def bear(self, error: LedgerUnavailable) -> float:
        """Return the seconds to wait before the next try, when Redis did not answer.

        Raises:
            LedgerUnavailable: it never answered, has not for too long, or the time is over.
        """
        now = time.monotonic()
        over = self._deadline is not None and now >= self._deadline
        if self._answered is None or now - self._answered > _PATIENCE or over:
            raise error
        return 1.0

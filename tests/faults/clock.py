"""A clock that is off: shifts the time of day that Python code sees, in this process alone.

Not libfaketime: with Debian 12's (0.9.10) Python's ``time.sleep`` fails with "Invalid argument", or never returns.
Not a time namespace either: Linux has none for the time of day.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import time_machine

__all__ = ["shift"]


def shift(seconds: float) -> None:
    """Set this process' clock forward, or back, for the rest of its life; monotonic clocks are left alone.

    Args:
        seconds: by how much.
    """
    time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True).start()

"""PURE: rate limits by key, by the generic cell rate algorithm (GCRA).

A key has one number, the time at which its next start is due if the starts come evenly. A start is allowed up to
``tolerance`` seconds before that. So a burst is bounded, and no timer or window has to be kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown

__all__ = ["Rate"]

_UNIT: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)/(s|min|h|d)(?:,([0-9]{1,6}))?\Z")

_LATE_S: Final = 0.1
"""How late a start may be without the rate suffering: what is due in this time may start at once."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often jobs with one key may be started."""

    interval: float
    """Seconds between two starts."""
    burst: int = 1
    """How many may start at once after a pause."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rate that a text says: ``10/s``, ``100/min``, ``1000/h`` or, with a burst of 5, ``10/s,5``.

        Without a burst it is what is due in a tenth of a second, and at least 1.

        Raises:
            SpecError: the text says none.
        """
        match = _RATE.match(text)
        count = float(match[1]) if match else 0.0
        if not match or not count:
            raise SpecError(
                f"rate: {shown(text)} is no rate; write 10/s, 100/min, 1000/h or 10000/d, with a burst as in 10/s,5",
                field="rate",
            )
        interval = _UNIT[match[2]] / count
        burst = int(match[3]) if match[3] else 1 + int(_LATE_S / interval)
        if burst < 1:
            raise SpecError("rate: the burst must be 1 or more", field="rate")
        return cls(interval, burst)

    def allowed_at(self, due: float) -> float:
        """Return from when the next start is allowed.

        Args:
            due: the key's number; 0 where it has none.
        """
        return due - (self.burst - 1) * self.interval

    def after_start(self, due: float, now: float) -> float:
        """Return the key's number after a start.

        Args:
            due: the number before.
            now: when it starts.
        """
        return max(due, now) + self.interval

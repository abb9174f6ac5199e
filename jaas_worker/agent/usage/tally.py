"""PURE: what is kept of a container's samples, and when the next one is due."""

from __future__ import annotations

from typing import Any, Final

from jaas_submit.model.usage import MOST_POINTS
from jaas_worker.agent.usage.counters import Counters

__all__ = ["UsageTally", "pause"]

_SHORTEST, _LONGEST = 0.1, 5.0
_PART: Final = 0.04
"""Part of its time for which a container goes on unseen: so much is missing if no sample can be taken at its end."""

_FIRST_STEP: Final = 1.0
"""Seconds between two points of a series at first; twice as long each time when it is full."""


def pause(age: float) -> float:
    """Return how many seconds after a sample the next one is due.

    Args:
        age: seconds since the first one.
    """
    return min(max(age * _PART, _SHORTEST), _LONGEST)


class UsageTally:
    """Takes a container's samples in their order."""

    def __init__(self) -> None:
        self._first = 0.0
        self._last = 0.0
        self._newest: Counters | None = None
        self._peak = 0
        self._step = _FIRST_STEP
        self._series: list[tuple[float, float, int]] = []

    @property
    def age(self) -> float:
        """Seconds between the first sample and the last one."""
        return self._last - self._first

    def add(self, at: float, counters: Counters) -> None:
        """Take a sample.

        Args:
            at: when it was taken, in seconds since the epoch.
            counters: what the container had used until then.
        """
        if counters.cpu_seconds is None and counters.memory is None:
            return
        if self._newest is None:
            self._first = at
        self._last, self._newest = at, _filled(counters, self._newest)
        self._peak = max(self._peak, counters.memory or 0, counters.peak_memory or 0)
        if not self._series or self.age - self._series[-1][0] >= self._step:
            self._series.append(self._point())
            if len(self._series) == MOST_POINTS:  # room for the last one
                self._series, self._step = self._series[::2], 2 * self._step

    def used(self, ended: float | None) -> dict[str, Any] | None:
        """Return what was used, as ``Used`` takes it; None without a sample.

        Args:
            ended: when the container ended, in seconds since the epoch; None where that is not known.
        """
        newest = self._newest
        if newest is None:
            return None
        series = [*self._series]
        if self._point()[0] > series[-1][0]:
            series.append(self._point())
        return {
            **{name: value for name, value in newest._asdict().items() if name != "memory"},
            "peak_memory": self._peak or None,
            "sample_age": None if ended is None else round(max(ended - self._last, 0.0), 3),
            "series": series if len(series) > 2 else [],
        }

    def _point(self) -> tuple[float, float, int]:
        newest = self._newest or Counters()
        return round(self.age, 3), round(newest.cpu_seconds or 0.0, 3), newest.memory or 0


def _filled(counters: Counters, former: Counters | None) -> Counters:
    """Return counters with the former ones where these are not known: a container's end takes its network away."""
    if former is None:
        return counters
    return former._replace(**{name: value for name, value in counters._asdict().items() if value is not None})

"""PURE: how many services may be starting at once, learnt from how long starts take.

A node that starts many containers at once starts all of them slower: the window is the number beyond which one more
adds nothing.
The idea is TCP Vegas' (Brakmo, O'Malley, Peterson: "TCP Vegas: New Techniques for Congestion Detection and Avoidance",
SIGCOMM 1994), as Netflix' concurrency-limits (VegasLimit) applies it to requests: of ``n`` starts under way that take
``t`` seconds each, where one alone takes ``base``, about ``n * (1 - base / t)`` only wait for the others. With fewer
than a few of those for each node the window grows, with more it shrinks. The rule does not depend on the cost of a
start or the size of the nodes. Workers that share nodes see each other's starts in the duration of their own.
"""

from __future__ import annotations

import statistics

__all__ = ["LaunchWindow"]

FIRST = 8
"""Starts at once for each node, before any measurement, if nobody says otherwise."""

_LEAST = 2
"""Lower limit of starts at once for each node: with fewer a node idles between two of them."""

_FEW_WAIT = 7.0
"""Waiting starts for each node below which the window grows. Measured on 2 cores: with 10 starting about 7 waited and
4.8 a second started, the most there was; with 4 starting about 2 waited (3.7/s), with 40 about 38 (3.4/s)."""

_MANY_WAIT = 10.0
"""Waiting starts for each node above which it shrinks."""

_SHARE = 8
"""A step is so many-th a part of the window, and one at least."""

_ROUND = 5
"""Starts after which the window is looked at again, at least; else as many as it holds."""


class LaunchWindow:
    """Learns how many services should be starting at once. Not safe to share between threads.

    Args:
        most: upper limit; 0 for none.
        first: starts at once for each node, before any measurement.
    """

    def __init__(self, most: int = 0, first: int = FIRST) -> None:
        self._most = most
        self._nodes = 1.0
        self._size = float(first)
        self._base: float | None = None
        self._round: list[float] = []
        self._held_back = False

    @property
    def size(self) -> int:
        """How many may be starting at once; 1 at least."""
        bounded = max(self._size, _LEAST * self._nodes, 1.0)
        return int(min(bounded, self._most) if self._most else bounded)

    def share(self, nodes: int, workers: int) -> None:
        """Learn the size of the cluster: each worker uses its share of it.

        Args:
            nodes: number of ready nodes that take tasks; 0 changes nothing.
            workers: number of live workers, including this one.
        """
        part = nodes / max(workers, 1)
        if nodes > 0 and part != self._nodes:
            self._size *= part / self._nodes
            self._nodes = part

    def started(self, seconds: float, starting: int) -> None:
        """Learn the duration of a start.

        Args:
            seconds: from the service's creation until its container ran.
            starting: how many were starting just before its end, it included.
        """
        if seconds <= 0:
            return
        if self._base is None or seconds < self._base:
            self._base = seconds
        elif starting <= self._nodes:
            # It did not wait for others: the starts themselves have become slower, for example with another image.
            self._base += (seconds - self._base) / 8
        self._held_back = self._held_back or starting >= self.size
        self._round.append(seconds)
        if len(self._round) >= max(self.size, _ROUND):
            self._adjust(statistics.median(self._round))
            self._round.clear()
            self._held_back = False

    def _adjust(self, seconds: float) -> None:
        assert self._base is not None
        self._size = float(self.size)
        waiting = self._size * max(1.0 - self._base / seconds, 0.0)
        step = max(self._size / _SHARE, 1.0)
        if waiting < _FEW_WAIT * self._nodes and self._held_back:  # a window that was never full proves nothing
            self._size += 2 * step if waiting < _FEW_WAIT * self._nodes / 2 else step
        elif waiting > 2 * _MANY_WAIT * self._nodes:
            self._size -= 2 * step
        elif waiting > _MANY_WAIT * self._nodes:
            self._size -= step

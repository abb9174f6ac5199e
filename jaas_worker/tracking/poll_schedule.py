"""PURE: which look at the swarm is due. Knows no engine and no clock: the present moment is an argument.

A list costs the engine a look at every task there is, and this worker the reading of every task of its own: the pauses
between lists grow with what the last one took.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

__all__ = ["DEAR_LIST_S", "Look", "PollSchedule"]

DEAR_LIST_S: Final = 0.05
"""From so many seconds on a list of all tasks counts as dear, and comes ever more rarely."""

_LIST_SHARE: Final = 40
"""A list of all tasks comes after so many times as long as the last one took: ten thousand tasks take half a second, of
the engine's time and of this worker's."""

_ENDED_SHARE: Final = 10
"""A look at ended tasks comes after so many times as long as the last one took: an engine that is busy with starting
containers is not asked so often."""

_ENDED_PAUSE_S: Final = 10.0
"""After so long it comes at the latest: an engine that was slow once may not be any more."""

_BY_EVENTS_S: Final = 1.0
"""Between looks at ended tasks where the engine's events tell of the ends, for those that have none: tasks that the
swarm gave up before they had a container."""

_UNSETTLED_S: Final = 2.0
"""For so long ended tasks are looked at all the same, after something that only the swarm can tell the end of."""

_RETRY_S: Final = 1.0
"""Until the next round after one that failed."""

_OVERDUE_S: Final = 1.0
"""Between two looks at what is overdue."""


class Look(Enum):
    """What the tracker can look at."""

    CLOSE = auto()  # the tasks of a few services to which something has just happened
    ALL = auto()  # every task
    ENDED = auto()  # the tasks that have ended


class PollSchedule:
    """When each look is due. Not safe to share between threads, but for ``unsettled``.

    Args:
        poll_interval: seconds between looks at ended tasks, at least.
        state_interval: seconds between lists of all tasks, at least.
        idle_interval: seconds between rounds while there is no service to follow.
    """

    def __init__(self, poll_interval: float, state_interval: float, idle_interval: float) -> None:
        self._poll_interval = poll_interval
        self._state_interval = state_interval
        self._idle_interval = idle_interval
        self.list_took = 0.0
        """Seconds that the last list of all tasks took."""
        self._next_close = self._next_list = self._next_overdue = 0.0
        self._looked_at_ended = self._ended_took = 0.0
        self._list_failed = False
        self._unsettled_until = 0.0
        self._next_round = 0.0

    def unsettled(self, now: float) -> None:
        """Learn that an end is near of which only the swarm will tell."""
        self._unsettled_until = now + _UNSETTLED_S

    def due(self, now: float, *, by_events: bool) -> list[Look]:
        """Return the looks at the swarm that are due, in their order.

        Args:
            now: the present moment, by the monotonic clock.
            by_events: every container's end is among the events that are followed.
        """
        looks = [Look.CLOSE] if now >= self._next_close else []
        if now >= self._next_list and not self._list_failed:
            looks.append(Look.ALL)
        elif self._list_failed or now >= self._next_ended(now, by_events):
            looks.append(Look.ENDED)
        return looks

    def overdue_due(self, now: float) -> bool:
        """Return whether to look at what is overdue, and take it as done."""
        if now < self._next_overdue:
            return False
        self._next_overdue = now + _OVERDUE_S
        return True

    def begins(self, look: Look) -> None:
        """Note that a look begins. After a list that fails ended tasks come first: it must keep no end back."""
        if look is not Look.CLOSE:
            self._list_failed = look is Look.ALL

    def done(self, look: Look, began: float, now: float, pause: float = 0.0) -> None:
        """Note that a look has been taken.

        Args:
            look: which.
            began: when it began.
            now: the present moment.
            pause: seconds until the next close look.
        """
        if look is Look.CLOSE:
            self._next_close = now + pause
        elif look is Look.ENDED:
            self._ended_took, self._looked_at_ended = now - began, now
        elif look is Look.ALL:
            self._list_failed = False
            self.list_took = now - began
            self._looked_at_ended = now  # the ended ones are in that list
            self._ended_took = min(self._ended_took, self.list_took)
            self._next_list = now + max(self._state_interval, _LIST_SHARE * self.list_took)

    def round_over(self, began: float, now: float, *, followed: bool, by_events: bool) -> None:
        """Note that a round has come to its end, and work out when the next one is due.

        Args:
            began: when it began.
            now: the present moment.
            followed: there are services to follow.
            by_events: as for ``due``.
        """
        if followed:
            self._next_round = min(self._next_close, self._next_ended(now, by_events), self._next_list)
        else:
            self._next_round = began + self._idle_interval

    def round_failed(self, began: float) -> None:
        """Note that a round was broken off."""
        self._next_round = began + _RETRY_S

    def pause(self, now: float) -> float:
        """Return the seconds until the next round."""
        return max(self._next_round - now, 0.0)

    def _next_ended(self, now: float, by_events: bool) -> float:
        least = max(self._poll_interval, _BY_EVENTS_S if by_events and now >= self._unsettled_until else 0.0)
        return self._looked_at_ended + max(least, min(_ENDED_SHARE * self._ended_took, _ENDED_PAUSE_S))

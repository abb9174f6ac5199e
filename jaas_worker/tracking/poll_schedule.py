"""PURE: which poll of the swarm is due. Knows no engine and no clock: the present moment is an argument.

For a list the engine reads every task, and this worker decodes every task of its own: the pauses between lists grow
with the duration of the last one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

__all__ = ["SLOW_LIST_S", "Look", "PollSchedule"]

SLOW_LIST_S: Final = 0.05
"""From this duration in seconds on, a list of all tasks counts as slow, and is made more rarely."""

_LIST_SHARE: Final = 40
"""Pause between lists of all tasks, as a multiple of the last one's duration: ten thousand tasks take half a second of
the engine's and this worker's time."""

_ENDED_SHARE: Final = 10
"""Pause between polls of ended tasks, as a multiple of the last one's duration: an engine that is busy with starting
containers is asked less often."""

_ENDED_PAUSE_S: Final = 10.0
"""Maximal pause in seconds: an engine that was slow may have recovered."""

_OVERDUE_S: Final = 1.0
"""Seconds between two checks of time limits."""


class Look(Enum):
    """What the tracker can poll."""

    CLOSE = auto()  # the tasks of a few services that have just changed
    ALL = auto()  # every task
    ENDED = auto()  # the tasks that have ended


class PollSchedule:
    """When each poll is due. Not thread-safe, except ``unsettled``.

    Args:
        poll_interval: least seconds between polls of ended tasks.
        state_interval: least seconds between lists of all tasks.
        idle_interval: seconds between rounds while there is no service to follow.
        by_events_interval: seconds between polls of ended tasks if the engine's events report exits: for tasks without
            events, which the swarm gave up before they had a container.
        unsettled_for: seconds for which ended tasks are polled anyway, after something whose end only the swarm
            reports.
        retry_pause: seconds until the next round after a failed one.
    """

    def __init__(
        self,
        poll_interval: float,
        state_interval: float,
        idle_interval: float,
        *,
        by_events_interval: float = 1.0,
        unsettled_for: float = 2.0,
        retry_pause: float = 1.0,
    ) -> None:
        self._poll_interval = poll_interval
        self._state_interval = state_interval
        self._idle_interval = idle_interval
        self._by_events_interval = by_events_interval
        self._unsettled_for = unsettled_for
        self._retry_pause = retry_pause
        self.list_took = 0.0
        """Seconds that the last list of all tasks took."""
        self._next_close = self._next_list = self._next_overdue = 0.0
        self._looked_at_ended = self._ended_took = 0.0
        self._list_failed = False
        self._unsettled_until = 0.0
        self._next_round = 0.0

    def unsettled(self, now: float) -> None:
        """Register that a container will exit soon, and that only the swarm reports it."""
        self._unsettled_until = now + self._unsettled_for

    def due(self, now: float, *, by_events: bool) -> list[Look]:
        """Return the polls that are due, in their order.

        Args:
            now: the present moment, by the monotonic clock.
            by_events: the followed events contain every container's exit.
        """
        looks = [Look.CLOSE] if now >= self._next_close else []
        if now >= self._next_list and not self._list_failed:
            looks.append(Look.ALL)
        elif self._list_failed or now >= self._next_ended(now, by_events):
            looks.append(Look.ENDED)
        return looks

    def overdue_due(self, now: float) -> bool:
        """Return whether to check time limits, and count it as done."""
        if now < self._next_overdue:
            return False
        self._next_overdue = now + _OVERDUE_S
        return True

    def begins(self, look: Look) -> None:
        """Register the start of a poll. After a failed list, ended tasks come first, so that no exit is delayed."""
        if look is not Look.CLOSE:
            self._list_failed = look is Look.ALL

    def done(self, look: Look, began: float, now: float, pause: float = 0.0) -> None:
        """Register a finished poll.

        Args:
            look: which.
            began: when it began.
            now: the present moment.
            pause: seconds until the next frequent poll.
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
        """Register the end of a round, and compute when the next one is due.

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
        """Register a failed round."""
        self._next_round = began + self._retry_pause

    def pause(self, now: float) -> float:
        """Return the seconds until the next round."""
        return max(self._next_round - now, 0.0)

    def _next_ended(self, now: float, by_events: bool) -> float:
        quiet = by_events and now >= self._unsettled_until
        least = max(self._poll_interval, self._by_events_interval if quiet else 0.0)
        return self._looked_at_ended + max(least, min(_ENDED_SHARE * self._ended_took, _ENDED_PAUSE_S))

"""PURE: how much output is read while its container runs, so that the reading does not slow the container down.

An engine needs more processor time to hand out a line than to write it down: Docker 20.10 three times as much. After
the exit the rest is read, as fast as the engine hands it out.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ReadingPace"]

_MESSAGE: Final = 1024
"""What a message costs, however short it is, in bytes of a long one."""

_BURST_S: Final = 2.0
"""So many seconds' worth may come at once."""


class ReadingPace:
    """Says when a container prints too fast to be read while it runs.

    Args:
        rate: what may be read in a second: bytes, and 1 KiB more for each message.
        now: the time, in seconds.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._room = rate * _BURST_S
        self._at = now

    def exceeded(self, messages: int, size: int, now: float) -> bool:
        """Take note of what has been read; return whether that was too much.

        Args:
            messages: how many.
            size: bytes of all of them.
            now: the time, in seconds.
        """
        self._room = min(self._room + (now - self._at) * self._rate, self._rate * _BURST_S)
        self._room -= size + messages * _MESSAGE
        self._at = now
        return self._room < 0

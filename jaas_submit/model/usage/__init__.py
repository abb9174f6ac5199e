"""PURE: what jobs used: processor time, memory, bytes."""

from typing import Final

MOST_POINTS: Final = 60
"""Points of a series, at most."""

"""How much of Redis' memory all live output may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.model.wire_names import DEFAULT_PREFIX
from jaas_submit.output.scripts import Base

if TYPE_CHECKING:
    import redis

__all__ = ["DEFAULT_SHARE", "Budgeted", "is_full", "release_memory"]

DEFAULT_SHARE: Final = 0.2
"""Part of Redis' ``maxmemory`` that all live output may use."""

_RESERVE: Final = 0.1
"""Part of Redis' ``maxmemory`` that output leaves free for jobs."""

_UNLIMITED_BYTES: Final = 256 * 1024 * 1024
"""Bytes that all live output may use if Redis has no ``maxmemory``."""


class Budgeted(Base):
    """A writer of output, within the budget.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: first part of every key.
        share: part of Redis' ``maxmemory`` that all live output may use.
    """

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX, share: float = DEFAULT_SHARE) -> None:
        super().__init__(client, prefix)
        self._budget: dict[str, Any] = {"share": share, "reserve": _RESERVE, "unlimited": _UNLIMITED_BYTES}


def release_memory(client: redis.Redis, prefix: str = DEFAULT_PREFIX) -> bool:
    """Delete all live output, because Redis is full and refuses a job; return whether there was any.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: first part of every key.

    Raises:
        LedgerUnavailable: Redis cannot be reached, or refuses.
    """
    return bool(Base(client, prefix).run("release_memory", "output"))


def is_full(error: LedgerUnavailable) -> bool:
    """Return whether Redis refuses because it has no memory left.

    Args:
        error: what it was refused with.
    """
    return "when used memory > 'maxmemory'" in str(error)

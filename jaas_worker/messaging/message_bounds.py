"""PURE: how large a queue entry may be, and how much is quoted of what is wrong with it."""

from __future__ import annotations

from typing import Final

from jaas_submit.model.bounds import MAX_JSON_BYTES

__all__ = ["MAX_ENTRY_BYTES", "MAX_REASON"]

MAX_ENTRY_BYTES: Final = MAX_JSON_BYTES
"""Size of a queue entry or a broadcast."""

MAX_REASON: Final = 400
"""Characters that are quoted of why something cannot be taken."""

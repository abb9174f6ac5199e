"""PURE: how large a queue entry may be, and how what is wrong with it is quoted."""

from __future__ import annotations

from typing import Final

from jaas_submit.model.bounds import MAX_JSON_BYTES

__all__ = ["MAX_ENTRY_BYTES", "plain_text"]

MAX_ENTRY_BYTES: Final = MAX_JSON_BYTES
"""Size of a queue entry or a broadcast."""


def plain_text(text: object, longest: int = 400) -> str:
    """Return a text of at most so many characters, without the unpaired surrogates that Redis cannot hold.

    Args:
        text: from anywhere.
        longest: in characters.
    """
    return str(text)[:longest].encode(errors="backslashreplace").decode()

"""PURE: texts and numbers as the swarm takes them."""

from __future__ import annotations

from typing import Final

__all__ = ["literal", "nanoseconds", "unescaped"]

_BRACES: Final = '{{"{{"}}'


def literal(text: str) -> str:
    """Return a text escaped for the swarm, which treats environment, host name and mounts as Go templates.

    Args:
        text: what the container is to see.
    """
    return text.replace("{{", _BRACES)


def unescaped(text: str) -> str:
    """Return the text that ``literal`` escaped.

    Args:
        text: as a request has it.
    """
    return text.replace(_BRACES, "{{")


def nanoseconds(seconds: float) -> int:
    """Return seconds (or cores) in the engine's unit.

    Args:
        seconds: of a description.
    """
    return int(seconds * 1_000_000_000)

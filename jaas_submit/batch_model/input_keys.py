"""PURE: keys of a batch's inputs, by which a later call with the batch's key finds the jobs that are there already."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.model.validation import plain_input

__all__ = ["InputKey", "InputKeys", "KeyOf"]

KeyOf = Callable[[Any], str | int]
"""Returns what an input is known by, such as its id; 7 is the same as ``"7"``."""

_DIGITS: Final = 24
"""Of a digest: 96 bits."""


class InputKey(NamedTuple):
    """What an input is known by in its batch."""

    key: str
    digest: str
    """Of the input's content, if the key does not tell it."""


class InputKeys:
    """Makes the keys of one call's inputs, one after the other.

    Equal inputs are different jobs: the second one has a key of its own, and so on.

    Args:
        key_of: returns what an input is known by; None takes a digest of its canonical JSON.
    """

    def __init__(self, key_of: KeyOf | None = None) -> None:
        self._key_of = key_of
        self._seen: Counter[str] = Counter()

    def next(self, item: Any, number: int) -> InputKey:
        """Return the key of the next input.

        Args:
            item: the input, as the producer's program has it: `key_of` gets it so.
            number: its position, counted from 0, for errors.

        Raises:
            SpecError: it is no JSON value, or ``key_of`` returned neither text nor whole number.
        """
        digest = _digest(_canonical(item, number))
        if self._key_of is None:
            return InputKey(self._once(digest), "")
        name = self._key_of(item)
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str) or not name:
            raise SpecError(
                f"key_of: must return a text or a whole number for each input, not {shown(repr(name))} as for input "
                f"{number}",
                field="key_of",
            )
        return InputKey(self._once(_digest(name)), digest)

    def _once(self, key: str) -> str:
        self._seen[key] += 1
        return key if self._seen[key] == 1 else f"{key}#{self._seen[key]}"


def _canonical(item: Any, number: int) -> str:
    item = plain_input(item, f"inputs.{number}")
    try:
        return json.dumps(item, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"inputs.{number}: is no JSON value: {shown(str(error))}", field="inputs") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]

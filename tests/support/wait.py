"""Waiting for conditions, with a deadline. The only place in the tests that sleeps."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["await_end", "eventually", "until"]

T = TypeVar("T")

_PAUSE = 0.02


def eventually(predicate: Callable[[], T | None], timeout: float = 10.0, what: str | Callable[[], object] = "") -> T:
    """Return the predicate's first true value.

    Args:
        predicate: asked again and again.
        timeout: seconds after which the test fails; generous, as it only matters when something is wrong.
        what: what is waited for, for the failure's text; a function is called at that moment, to show how it stands.

    Raises:
        AssertionError: the predicate stayed false.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {timeout:g} s: {said or predicate}; it was {value!r} at the end")
        time.sleep(_PAUSE)
    return value


def await_end(*names: str) -> None:
    """Return when no thread of this process has one of these names any more; after 30 seconds in any case.

    Args:
        names: such as ``jaas-cancels``; docs/architecture.md lists them.
    """
    for thread in threading.enumerate():
        if thread.name in names:
            thread.join(30.0)


async def until(predicate: Callable[[], T | None], timeout: float = 10.0, what: str = "") -> T:
    """Return the predicate's first true value, while the loop goes on; see ``eventually``.

    Raises:
        AssertionError: the predicate stayed false.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() <= deadline, what
        await asyncio.sleep(_PAUSE)
    return value

"""A part of the ledger whose subscription fails once, in a way that nobody expects."""

from __future__ import annotations

import threading

import pytest

from jaas_submit.connection import Subscription
from jaas_submit.ledger.base import Part

__all__ = ["stumbling"]


def stumbling(patch: pytest.MonkeyPatch, part: Part, name: str) -> threading.Event:
    """Have the next call of a method of the ledger fail, and the ones after it work.

    Args:
        patch: undoes it.
        part: of the ledger, whose method.
        name: of the method, which subscribes to something.

    Returns:
        Set when the method has been called again.
    """
    listen, stumbled, again = getattr(part, name), threading.Event(), threading.Event()

    def stumble() -> Subscription:
        if not stumbled.is_set():
            stumbled.set()
            raise ValueError("stumbled (test)")
        again.set()
        subscription: Subscription = listen()
        return subscription

    patch.setattr(part, name, stumble)
    return again

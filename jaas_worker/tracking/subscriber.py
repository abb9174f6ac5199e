"""A thread's way of hearing what other processes publish in the ledger, across outages of Redis."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from jaas_submit.connection import Subscription
from jaas_submit.errors import TemporaryError
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["listen"]

logger = logging.getLogger(__name__)

_RETRY_PAUSE_S = 1.0
"""Seconds between two attempts to subscribe, and until a closed listener ends at the latest."""


def listen(
    what: str,
    subscribe: Callable[[], Subscription],
    hear: Callable[[str], None],
    closed: threading.Event,
    missed: Callable[[], None] = lambda: None,
) -> None:
    """Hand on what is published, until told to stop; what makes things quick must not end because of one error.

    Args:
        what: what is listened for, for the log.
        subscribe: makes the subscription, anew after each outage.
        hear: is called with each message.
        closed: set when there is nothing more to hear.
        missed: is called when the subscription stands, also after one that broke: there may have been messages before.
    """
    while not closed.is_set():
        try:
            with subscribe() as notices:
                missed()
                while not closed.is_set():
                    if notice := notices.next(_RETRY_PAUSE_S):
                        hear(notice)
        except TemporaryError as error:
            logger.debug("listening for %s: %s", what, error)
        except Exception:  # whatever it was, the next one may be heard
            logger.exception("listening for %s failed", what, extra=action(Action.STEP_FAILED))
        closed.wait(_RETRY_PAUSE_S)

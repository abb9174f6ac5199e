"""A thread that receives what other processes publish in the ledger, across outages of Redis."""

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
"""Seconds between two attempts to subscribe, and until a closed subscriber ends at the latest."""


def listen(
    what: str,
    subscribe: Callable[[], Subscription],
    hear: Callable[[str], None],
    closed: threading.Event,
    missed: Callable[[], None] = lambda: None,
) -> None:
    """Call ``hear`` with each published message until ``closed`` is set; no error ends the loop.

    Args:
        what: the subject, for the log.
        subscribe: creates the subscription, again after each outage.
        hear: is called with each message.
        closed: set to stop.
        missed: called when a subscription starts, also after an outage: messages may have been missed before.
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
        except Exception:  # the next message may be received
            logger.exception("listening for %s failed", what, extra=action(Action.STEP_FAILED))
        closed.wait(_RETRY_PAUSE_S)

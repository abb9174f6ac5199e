"""Which installation is meant: queue and prefix, by one rule: the argument, the environment, the default."""

from __future__ import annotations

import os
import re

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.model.validation import kind_of
from jaas_submit.model.wire_names import DEFAULT_PREFIX, DEFAULT_QUEUE, PREFIX_PATTERN, QUEUE_PATTERN

__all__ = ["chosen_prefix", "chosen_queue", "named_queue"]

_PREFIX = re.compile(PREFIX_PATTERN)
_QUEUE = re.compile(QUEUE_PATTERN)


def chosen_queue(given: str | None = None) -> str:
    """Return the Celery queue that is meant.

    Args:
        given: the argument; None takes JAAS_QUEUE, or the default ``jaas``.

    Raises:
        SpecError: it is no name of a queue.
    """
    name = given if given is not None else os.environ.get("JAAS_QUEUE") or DEFAULT_QUEUE
    return named_queue(name)


def named_queue(given: str) -> str:
    """Return the name of a queue that a caller names.

    Raises:
        SpecError: it is no name of a queue.
    """
    return _checked("queue", given, _QUEUE, "1 to 128 characters without blanks and commas")


def chosen_prefix(given: str | None = None) -> str:
    """Return the prefix of the ledger's keys that is meant.

    Args:
        given: the argument; None takes JAAS_PREFIX, or the default ``jaas``.

    Raises:
        SpecError: it is no prefix.
    """
    name = given if given is not None else os.environ.get("JAAS_PREFIX") or DEFAULT_PREFIX
    return _checked("prefix", name, _PREFIX, "1 to 32 ASCII letters, digits, '_', '.' and '-'")


def _checked(what: str, name: object, pattern: re.Pattern[str], allowed: str) -> str:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        found = repr(shown(name)) if isinstance(name, str) else kind_of(name)
        raise SpecError(
            f"{what}: {found} is no name of a {what}; it has {allowed} (argument, or JAAS_{what.upper()})", field=what
        )
    return name

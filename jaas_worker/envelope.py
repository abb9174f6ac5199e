"""PURE: whether a queue entry is a message that Celery can take at all.

Celery trusts what is on a queue: a list for a task id, a body of two parts or a time limit that is a text raise in the
middle of its event loop and end the worker (measured with Celery 5.7.0; the shapes are those of
tests/integration/test_worker_bad_messages.py). The texts here say what is wrong and show nothing of the content.
Source of the shapes: Celery's "Message Protocol" (version 2, and 1 with all in the body), kombu's virtual transport.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["DEFECT", "entry_defect", "is_task_id", "task_defect", "task_name"]

DEFECT: Final = "jaas-defect"
"""Header of what the transport hands on instead of an entry that is no message: what is wrong with the entry."""

_LONGEST_ID: Final = 1024

Check = Callable[[Any], bool]


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry and Redis cannot
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_task_id(value: object) -> bool:
    """Return whether a value can be a task's id."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and _is_text(value)


def _is_time(value: object) -> bool:
    """Return whether a value is a time that the calendar has in every time zone."""
    if not isinstance(value, str):
        return False
    try:
        moment = datetime.fromisoformat(value)
        moment.astimezone(UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        return False
    return 1 < moment.year < 9999


def _is_signature(value: object) -> bool:
    return isinstance(value, dict) and _is_text(value.get("task"))


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list | tuple) and all(map(check, value))


def _or_nothing(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_pair_of_limits(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_or_nothing(_is_number), value))


# What is read of a task's fields: name, what it must be, in words and as a check.
_FIELDS: Final[tuple[tuple[str, str, Check], ...]] = (
    ("task", "a text", _is_text),
    ("id", f"a text of 1 to {_LONGEST_ID:,} characters", is_task_id),
    *((name, "a text", _or_nothing(_is_text)) for name in ("root_id", "parent_id", "group", "shadow", "origin")),
    ("eta", "a time such as 2030-01-31T12:00:00+00:00", _or_nothing(_is_time)),
    ("expires", "a time such as 2030-01-31T12:00:00+00:00", _or_nothing(_is_time)),
    ("timelimit", "a pair of seconds", _or_nothing(_is_pair_of_limits)),
    ("retries", "a number", _or_nothing(_is_number)),
    ("stamped_headers", "a list of texts", _or_nothing(_list_of(_is_text))),
    ("stamps", "an object", _or_nothing(lambda value: isinstance(value, dict))),
)

_AFTERWARDS: Final[tuple[tuple[str, str, Check], ...]] = (
    ("callbacks", "a list of signatures", _or_nothing(_list_of(_is_signature))),
    ("errbacks", "a list of signatures", _or_nothing(_list_of(_is_signature))),
    ("chain", "a list of signatures", _or_nothing(_list_of(_is_signature))),
    ("chord", "a signature", _or_nothing(_is_signature)),
)


def entry_defect(entry: object) -> str:
    """Return what is wrong with a queue entry that was JSON; empty when kombu can make a message of it.

    Args:
        entry: the decoded entry.
    """
    return next(_entry_defects(entry), "")


def _entry_defects(entry: Any) -> Iterator[str]:
    """Yield what is wrong; only the first is meant to be asked for, because each check relies on those before it."""
    if not isinstance(entry, dict):
        yield "it is no object"
    properties = entry.get("properties")
    if not isinstance(properties, dict):
        yield "its properties are no object"
    if not is_task_id(properties.get("delivery_tag")):
        yield "its delivery tag is no text"
    if not isinstance(properties.get("delivery_info") or {}, dict):
        yield "its delivery info is no object"
    if not isinstance(entry.get("headers") or {}, dict):
        yield "its headers are no object"
    for name in ("content-type", "content-encoding"):
        if not isinstance(entry.get(name) or "", str):
            yield f"its {name} is no text"
    body, encoding = entry.get("body"), properties.get("body_encoding")
    if not isinstance(body, str):
        yield "its body is no text"
    if encoding not in (None, "base64", "utf-8"):
        yield "its body is encoded in a way that is not known here"
    if encoding == "base64" and not _is_base64(body):
        yield "its body is no base64"


def _is_base64(body: str) -> bool:
    try:
        base64.b64decode(body.encode())
    except ValueError:  # binascii's error is one
        return False
    return True


def task_name(headers: Mapping[str, Any], payload: object) -> object:
    """Return which task a message is meant for; None when it does not say.

    Args:
        headers: the message's.
        payload: its decoded body.
    """
    if "task" in headers:
        return headers["task"]
    return payload.get("task") if isinstance(payload, dict) else None


def task_defect(headers: Mapping[str, Any], payload: object) -> str:
    """Return what is wrong with a message that names a task; empty when Celery can make a request of it.

    Args:
        headers: the message's.
        payload: its decoded body.
    """
    return next(_task_defects(headers, payload), "")


def _task_defects(headers: Mapping[str, Any], payload: Any) -> Iterator[str]:
    """Yield what is wrong; as in ``_entry_defects`` only the first counts."""
    fields = {**payload, **headers} if isinstance(payload, dict) else headers
    for name, kind, check in _FIELDS:
        if not check(fields.get(name)):
            yield f"its {name} is not {kind}"
    if isinstance(payload, dict) and "args" in payload:  # as in version 1, or half of it
        args, kwargs, afterwards = payload["args"], payload.get("kwargs", {}), payload
    elif isinstance(payload, list | tuple) and len(payload) == 3:
        args, kwargs, afterwards = payload
    else:
        yield "its body is no list of arguments, keyword arguments, and what is to happen afterwards"
    if not isinstance(args, list | tuple):
        yield "its arguments are no list"
    if not isinstance(kwargs, dict):
        yield "its keyword arguments are no object"
    if not isinstance(afterwards or {}, dict):
        yield "what is to happen afterwards is no object"
    for name, kind, check in _AFTERWARDS:
        if not check((afterwards or {}).get(name)):
            yield f"its {name} is not {kind}"

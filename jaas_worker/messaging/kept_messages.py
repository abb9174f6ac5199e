"""Celery messages that the ledger keeps: how a received one is stored, and how Celery gets it again.

The producer never does this. It uses kombu's ``Message`` and its decoding of queue entries.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from kombu import Message
from kombu.serialization import prepare_accept_content

from jaas_submit.messaging.messages import message_parts
from jaas_submit.model.records import JobRecord
from jaas_submit.model.wire_names import TASK_RUN
from jaas_worker.messaging.message_checks import DEFECT, task_defect

__all__ = [
    "TAKEN_OVER",
    "follow_up",
    "follow_up_of",
    "message_for",
    "message_from_json",
    "message_of",
    "message_to_json",
]

TAKEN_OVER: Final = "jaas_taken_over"
"""Header of a message that a worker makes for itself, for a job that the ledger gave it: the ledger has decided that
the job runs, so Celery's list of revoked tasks and expiry times do not apply."""


def message_to_json(headers: dict[str, Any], body: bytes | str, properties: dict[str, Any]) -> str:
    """Return a received Celery message as JSON, so that ``message_from_json`` can rebuild the same message.

    Args:
        headers: the task headers (id, group, root_id, ...).
        body: the encoded body, with the callbacks, chord and chain.
        properties: those that Celery's results need are kept.
    """
    raw = body if isinstance(body, bytes) else body.encode()
    kept = {
        key: properties[key]
        for key in ("correlation_id", "reply_to", "priority", "content_type", "content_encoding")
        if properties.get(key) is not None
    }
    plain = {key: value for key, value in headers.items() if _is_plain(value)}
    return json.dumps({"headers": plain, "body": base64.b64encode(raw).decode(), "properties": kept})


def follow_up(headers: Mapping[str, Any], body: bytes | str) -> str:
    """Return what Celery calls after the end of a message's job, in a form that can be compared; empty for nothing.

    Args:
        headers: the message's.
        body: its encoded body, of Celery's protocol 2.
    """
    try:
        options = json.loads(body)[2]
        called = {name: options[name] for name in ("callbacks", "errbacks", "chain", "chord") if options.get(name)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return json.dumps([headers.get("group"), called], sort_keys=True) if called else ""


def follow_up_of(text: str) -> str:
    """Return ``follow_up`` of a kept message.

    Args:
        text: what ``message_to_json`` returned; empty if no message is kept.
    """
    try:
        kept = json.loads(text) if text else {}
        return follow_up(kept["headers"], base64.b64decode(kept["body"])) if kept else ""
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def message_of(record: JobRecord) -> str:
    """Return, in ``message_to_json``'s form, the message that a producer sends for a job.

    Args:
        record: the job's; its description may be None, where this version cannot read what it holds.
    """
    headers, body = message_parts(record.task_id, record.spec, record.batch, record.index)
    return message_to_json(headers, body, {"correlation_id": record.task_id})


def message_for(record: JobRecord, kept: str) -> Message:
    """Return the message of a job that the ledger gave to this worker; it says so where the kept one is damaged.

    Args:
        record: the job's.
        kept: a foreign producer's message, in ``message_to_json``'s form; empty where it is made from the record.
    """
    if not kept:
        return message_from_json(message_of(record))
    try:
        message = message_from_json(kept)
        wrong = _damage(message, record)
    except Exception as error:  # noqa: BLE001 (what Redis holds may be anything, and kombu maps not all of its errors)
        wrong = f"{type(error).__name__} while it was read"
    if not wrong:
        return message
    made = message_from_json(message_of(record))
    made.headers[DEFECT] = f"the message in its record is damaged: {wrong}"
    return made


def _damage(message: Message, record: JobRecord) -> str:
    if message.headers.get("id") != record.task_id or message.headers.get("task") != TASK_RUN:
        return "it is another task's"
    return task_defect(message.headers, message.payload)


def message_from_json(text: str) -> Message:
    """Return the message that ``message_to_json`` kept: same id, same callbacks, same chord; nothing to acknowledge."""
    data = json.loads(text)
    properties = data["properties"]
    # Its start and expiry times were checked when it was first received.
    headers: dict[str, Any] = {**data["headers"], "expires": None, "eta": None, TAKEN_OVER: True}
    return Message(
        body=base64.b64decode(data["body"]).decode(),
        headers=headers,
        properties=properties,
        content_type=properties.get("content_type", "application/json"),
        content_encoding=properties.get("content_encoding", "utf-8"),
        delivery_info={},
        accept=prepare_accept_content(["json"]),
    )

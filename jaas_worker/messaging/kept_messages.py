"""Celery messages that the ledger keeps: the job of a foreign producer's message, how the message is stored, and how
Celery gets it again.

The producer never does this. It uses kombu's ``Message`` and its decoding of queue entries.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from kombu import Message
from kombu.serialization import prepare_accept_content
from kombu.utils.json import dumps as typed_json

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.errors import SpecError
from jaas_submit.messaging.messages import message_parts
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import TASK_RUN, job_id_of
from jaas_submit.signing import description_in, is_token
from jaas_worker.messaging.message_checks import DEFECT, task_defect

__all__ = [
    "TAKEN_OVER",
    "described",
    "follow_up",
    "follow_up_of",
    "foreign_job",
    "is_checked",
    "message_for",
    "message_from_json",
    "message_of",
    "message_to_json",
    "signed_in",
    "spec_in",
]

TAKEN_OVER: Final = "jaas_taken_over"
"""Header of a message that a worker makes for itself, for a job that the ledger gave it: the ledger has decided that
the job runs, so Celery's list of revoked tasks and expiry times do not apply."""


_HIGHEST_PRIORITY: Final = 255
"""The highest number of AMQP."""

_OF_THE_BODY: Final = ("callbacks", "errbacks", "chord")
"""Fields of version 1 that are in the body's third part in version 2; its chains are callbacks."""


def spec_in(value: Any) -> JobSpec:
    """Return the description in a message's argument ``spec``, which may be a signed token. Nothing is verified.

    Raises:
        SpecError: it is not valid.
    """
    return JobSpec.parse(description_in(value) if is_token(value) else value)


def signed_in(kwargs: Any) -> str:
    """Return the signed token in a message's keyword arguments; empty if there is none."""
    value = kwargs.get("spec") if isinstance(kwargs, dict) else None
    return value if isinstance(value, str) and is_token(value) else ""


def is_checked(kwargs: Any) -> bool:
    """Return whether a job that ends badly is a failure in Celery, by the message's keyword arguments."""
    value = kwargs.get("spec") if isinstance(kwargs, dict) else None
    if isinstance(value, dict):  # a wake-up message has no image
        return bool(value.get("check", True))
    try:
        return spec_in(value).check
    except SpecError:
        return True


def described(args: Any, kwargs: Any) -> JobSpec:
    """Return the job description in a message of `jaas.run`.

    Args:
        args: its positional arguments.
        kwargs: its keyword arguments.

    Raises:
        SpecError: it has none, or not a valid one.
    """
    if not isinstance(kwargs, dict) or "spec" not in kwargs:
        raise SpecError('spec: is required; send kwargs={"spec": {"image": ...}}')
    unknown = sorted(set(kwargs) - {"spec"})
    if unknown:
        raise SpecError(f"{unknown[0]}: is no argument of {TASK_RUN}; it takes spec and nothing else")
    if len(args) > 1:
        raise SpecError(f"{TASK_RUN} takes no positional arguments but the result of the task before it in a chain")
    spec = spec_in(kwargs["spec"])
    if args and args[0] is not None and spec.input is None and spec.gather is None:
        if is_token(kwargs["spec"]):
            raise SpecError(
                "spec: is signed, and nobody has signed the result of the task before it; take an immutable signature "
                "(`si`), or do not sign"
            )
        # In a chain or chord: what the task before returned; of a job, its output.
        spec = JobSpec.parse({**spec.to_wire(), **_input_from(args[0])})
    return spec


def _input_from(value: Any) -> dict[str, Any]:
    """Return the fields of a description for what a task gets from those before it.

    After a chord with jobs that is the form in which a reduce of ``map_reduce`` reads outputs: a line for each.
    """
    if isinstance(value, list) and any(_is_result(one) for one in value):
        return {"input": [_row(*pair) for pair in enumerate(value)], "input_lines": True}
    return {"input": _passed_on(value)}


def _row(index: int, value: Any) -> dict[str, Any]:
    state = value["state"] if _is_result(value) else JobState.SUCCEEDED
    return {"index": index, "state": state, "output": _passed_on(value)}


def _passed_on(value: Any) -> Any:
    """Return the output of a job's result, or the value of another task."""
    if isinstance(value, list):
        return [_passed_on(one) for one in value]
    return value.get("output") if _is_result(value) else value


def _is_result(value: Any) -> bool:
    return isinstance(value, dict) and {"version", "job_id", "state", "exit_code"} <= value.keys()


def foreign_job(message: Any, payload: Any, queue: str) -> NewJob:
    """Return the job of a foreign producer's message, as the ledger keeps it.

    Args:
        message: kombu's, in which ``message_checks.task_defect`` has found nothing wrong.
        payload: its decoded body.
        queue: this worker's.
    """
    headers, body = message.headers, message.body
    if isinstance(payload, dict):  # version 1
        args, kwargs = payload["args"], payload.get("kwargs", {})
        embed = {**{name: payload.get(name) for name in _OF_THE_BODY}, "chain": None}
        group = {"group": payload["taskset"]} if "taskset" in payload else {}
        headers = {**{name: payload[name] for name in payload.keys() - {"args", "kwargs", *_OF_THE_BODY}}, **group}
        headers, body = {**headers, **message.headers}, typed_json([args, kwargs, embed])
    else:
        args, kwargs, _ = payload
    try:
        spec = described(args, kwargs)
    except SpecError:  # whoever claims the job says so
        spec = None
    task_id, priority = headers["id"], message.properties.get("priority")
    is_priority = isinstance(priority, int) and 0 <= priority <= _HIGHEST_PRIORITY
    return NewJob(
        job_id_of(task_id),
        spec,
        queue,
        task_id,
        message_to_json(headers, body, message.properties),
        not_before=_moment(headers.get("eta")) if spec else None,
        expires_at=_moment(headers.get("expires")) if spec else None,
        celery_priority=int(priority) if is_priority else None,
        signed=signed_in(kwargs) if spec else "",
    )


def _moment(text: str | None) -> float | None:
    """Return a time of Celery, in seconds since the epoch; without a time zone it is UTC."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


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
    if job_id_of(record.task_id) != record.id:
        own = record.model_copy(update={"task_id": record.id})  # otherwise Celery would be given another job's task
        return _damaged(own, "its record has the task id of another job")
    if not kept:
        return message_from_json(message_of(record))
    try:
        message = message_from_json(kept)
        wrong = _damage(message, record)
    except Exception as error:  # noqa: BLE001 (what Redis holds may be anything, and kombu maps not all of its errors)
        wrong = f"{type(error).__name__} while it was read"
    if not wrong:
        return message
    return _damaged(record, f"the message in its record is damaged: {wrong}")


def _damaged(record: JobRecord, why: str) -> Message:
    made = message_from_json(message_of(record))
    made.headers[DEFECT] = why
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

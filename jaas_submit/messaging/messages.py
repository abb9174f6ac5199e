"""PURE: a job's Celery message, which wakes a worker: what is in it. Needs no Celery, so that clients start fast."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any, Final

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import TASK_RUN

__all__ = ["BATCH", "INDEX", "WAKEUP", "message_parts", "packed", "task_options"]

WAKEUP: Final = "jaas_wakeup"
"""Header of a wake-up message: the description is only in the record. Without the record (expired, or lost) there is
nothing to run."""

BATCH: Final = "jaas_batch"
"""Header of the message of a batch's job: the batch's id. For display in Flower; the record counts."""

INDEX: Final = "jaas_index"
"""Header of the message of a batch's job: the input's number, counted from 0."""


def task_options(spec: JobSpec, batch: str = "", index: int | None = None) -> dict[str, Any]:
    """Return the message options for display of a job, without values of its environment.

    Args:
        spec: the description.
        batch: id of the batch it belongs to.
        index: the input's number in the batch.
    """
    of_batch = f", index {index} of batch {batch}" if batch else ""
    return {"argsrepr": "()", "kwargsrepr": f"({spec.summary()}{of_batch})"}


def _wakeup_kwargs(spec: JobSpec | None) -> dict[str, Any]:
    # The task's body has to know whether a failed job is a FAILURE in Celery.
    return {} if spec is None or spec.check else {"spec": {"check": False}}


def message_parts(task_id: str, spec: JobSpec | None, batch: str, index: int | None) -> tuple[dict[str, Any], str]:
    """Return headers and body of a message, without Celery's defaults.

    A million of them may wait in Redis, and a full Celery message with the description has twice the size of the
    record. Source of the fields: Celery's "Message Protocol", version 2.

    Args:
        task_id: Celery's task id.
        spec: the description; None if this version cannot read it.
        batch: id of the batch it belongs to.
        index: the input's number in the batch.
    """
    shown = {**task_options(spec, batch, index), **_batch_headers(batch, index)} if spec else {}
    headers = {"lang": "py", "task": TASK_RUN, "id": task_id, WAKEUP: True, **shown}
    return headers, json.dumps([[], _wakeup_kwargs(spec), {}])


def packed(task_id: str, spec: JobSpec, queue: str, batch: str = "", index: int | None = None) -> str:
    """Return the message of a job whose record is in the ledger, in the form of kombu's Redis lists.

    Source of the form: ``kombu.transport.virtual.base.Channel``, whose own steps take a connected channel.

    Args:
        task_id: Celery's task id.
        spec: the description.
        queue: Celery queue.
        batch: id of the batch it belongs to.
        index: the input's number in the batch.
    """
    headers, body = message_parts(task_id, spec, batch, index)
    properties = {
        "correlation_id": task_id,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    message = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(message, separators=(",", ":"))


def _batch_headers(batch: str, index: int | None) -> dict[str, Any]:
    return {BATCH: batch, INDEX: index} if batch else {}

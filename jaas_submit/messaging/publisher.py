"""What is sent through a Celery app: the messages of jobs, and that a job was cancelled."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

import celery
import kombu.exceptions
import redis

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.messaging.messages import message_parts

__all__ = ["mark_revoked", "publish_many"]

_PUBLISH_ERRORS: Final = (kombu.exceptions.KombuError, redis.RedisError, OSError)

_BATCH_BROKEN: Final[Any] = getattr(kombu.exceptions, "BatchPublishError", ())
"""kombu's errors for a batch over a broken connection; before kombu 5.7 there are no batches."""


def publish_many(app: celery.Celery, jobs: Sequence[NewJob]) -> None:
    """Publish the messages of many jobs over one connection.

    Args:
        app: as ``celery_app`` makes it, or the user's own.
        jobs: whose records are in the ledger; those without a description are skipped.

    Raises:
        LedgerUnavailable: the broker did not accept them all. The records stay; workers republish them later.
    """
    described = [(job, job.spec) for job in jobs if job.spec is not None]
    if not described:
        return

    def send(producer: Any) -> None:
        policy = app.conf.task_publish_retry_policy
        kinds = {"content_type": "application/json", "content_encoding": "utf-8", "retry": True, "retry_policy": policy}
        for job, spec in described:
            headers, body = message_parts(job.job_id, spec, job.batch, job.index)
            producer.publish(body, routing_key=job.queue, headers=headers, correlation_id=job.job_id, **kinds)

    try:
        with app.producer_or_acquire() as producer:
            # One round trip, if the broker is Redis; before kombu 5.7 there is one for each message.
            batch: Any = getattr(producer, "batch", contextlib.nullcontext)
            try:
                with batch():
                    send(producer)
            except _BATCH_BROKEN:
                # A duplicate message finds its record and does no harm.
                send(producer)
    except _PUBLISH_ERRORS as error:
        raise LedgerUnavailable(f"{len(described)} messages could not be published ({error})") from error


def mark_revoked(app: celery.Celery, task_id: str, why: str) -> None:
    """Store REVOKED as Celery's result of a cancelled job; the worker does it if Redis is away."""
    with contextlib.suppress(redis.RedisError, OSError):
        app.backend.mark_as_revoked(task_id, reason=why, store_result=True)

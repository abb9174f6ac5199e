"""A job's Celery message, which wakes a worker: where it goes, what is in it, and how it is published."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import celery
import kombu.exceptions
import redis

from jaas_submit.connection.sentinel import sentinel_options
from jaas_submit.connection.url import SentinelAddress, sentinel_address
from jaas_submit.errors import LedgerUnavailable, SpecError
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import DEFAULT_QUEUE, TASK_RUN

if TYPE_CHECKING:
    from jaas_submit.ledger import NewJob

__all__ = [
    "BATCH",
    "INDEX",
    "WAKEUP",
    "celery_app",
    "default_url",
    "job",
    "mark_revoked",
    "message_parts",
    "packed",
    "publish_many",
    "task_options",
]

WAKEUP: Final = "jaas_wakeup"
"""Header of a message that says only that there is a job: what it is to do is in its record, and nowhere else. Without
the record (expired, or lost) there is nothing to run."""

BATCH: Final = "jaas_batch"
"""Header of the message of a batch's job: the batch's id. For people who look at Flower; the record is what counts."""

INDEX: Final = "jaas_index"
"""Header beside it: which of its batch's inputs the job is for, counted from 0."""

App = TypeVar("App", bound=celery.Celery)


def default_url() -> str:
    """Return the Redis URL that is used when none is given.

    That is the one in the file that JAAS_REDIS_URL_FILE names (a swarm secret, say), else JAAS_REDIS_URL, else
    CELERY_BROKER_URL, else Redis on this host.

    Raises:
        SpecError: the file cannot be read.
    """
    if path := os.environ.get("JAAS_REDIS_URL_FILE"):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            raise SpecError(f"JAAS_REDIS_URL_FILE: {error}") from error
    given = os.environ.get("JAAS_REDIS_URL") or os.environ.get("CELERY_BROKER_URL") or "redis://127.0.0.1:6379/0"
    return given.strip()


def celery_app(broker: str, backend: str | None = None, *, kind: type[App] = celery.Celery) -> App:  # type: ignore[assignment] # mypy has no defaults for bound type variables
    """Return a Celery app that is good for publishing `jaas.run` and reading its results.

    Args:
        broker: Redis URL of the queues (``jaas_submit.connection.url`` tells its forms).
        backend: Redis URL of the results; None means the same as the broker.
        kind: class of the app.

    Raises:
        SpecError: a URL is not valid.
    """
    where = _settings(broker, backend or broker)
    app = kind("jaas", broker=where["broker_url"], backend=where["result_backend"], set_as_current=False)
    app.loader.override_backends = {"sentinel": "jaas_submit.messaging.sentinel_results:SentinelBackend"}
    app.conf.update(
        # The variable CELERY_BROKER_URL goes before broker_url, but not before these.
        broker_read_url=where["broker_url"],
        broker_write_url=where["broker_url"],
        result_backend_transport_options=where["result_backend_transport_options"],
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        # A producer wants to be told within seconds that Redis is away, not to hang.
        broker_transport_options={
            "socket_connect_timeout": 5,
            "socket_timeout": 10,
            "socket_keepalive": True,
            **where["broker_transport_options"],
        },
        task_publish_retry_policy={"max_retries": 3, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1},
        redis_socket_timeout=30,
        redis_socket_connect_timeout=5,
        redis_socket_keepalive=True,
        redis_retry_on_timeout=True,
    )
    return app


def _settings(broker: str, backend: str) -> dict[str, Any]:
    queues, results = sentinel_address(broker), sentinel_address(backend)
    if results:
        first = results.celery_urls()[0]
        # Celery takes the password from the first, and `celery inspect conf` would show those of the others.
        _, *others = replace(results, username="", password="").celery_urls()
        backend = ";".join([first, *others])
    return {
        "broker_url": ";".join(queues.celery_urls()) if queues else broker,
        "broker_transport_options": _transport_options(queues),
        "result_backend": backend,
        "result_backend_transport_options": _transport_options(results),
    }


def _transport_options(address: SentinelAddress | None) -> dict[str, Any]:
    # The names are Celery's: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
    return {"master_name": address.master, "sentinel_kwargs": sentinel_options(address)} if address else {}


def task_options(spec: JobSpec, batch: str = "", index: int | None = None) -> dict[str, Any]:
    """Return the message options that say what operators see of a job, with no value of its environment in it.

    Args:
        spec: the description.
        batch: id of the batch it belongs to.
        index: which of the batch's inputs it is for.
    """
    of_batch = f"index {index} of batch {batch}" if batch else ""
    return {"argsrepr": f"({of_batch})", "kwargsrepr": f"({spec.summary()})"}


def job(spec: JobSpec, *, queue: str = DEFAULT_QUEUE) -> celery.Signature[Any]:
    """Return the Celery signature of a job, for chain, group and chord of your own app.

    The job's record is written by the worker that receives the message. Within a chain or chord it gets
    what the task before it returned as its input (of a job, the ``output``), unless it has an input of its own.

    Args:
        spec: the job's description.
        queue: Celery queue of the jaas workers.
    """
    return celery.Signature(
        TASK_RUN,
        kwargs={"spec": spec.to_wire()},
        options={"queue": queue, **task_options(spec)},
    )


def _wakeup_kwargs(spec: JobSpec | None) -> dict[str, Any]:
    # The task's body has to know whether a bad end is a failure in Celery's eyes.
    return {} if spec is None or spec.check else {"spec": {"check": False}}


def message_parts(task_id: str, spec: JobSpec | None, batch: str, index: int | None) -> tuple[dict[str, Any], str]:
    """Return headers and body of a message; what Celery has a default for is left out.

    A million of them wait in Redis at times, and a message in Celery's own way, with the description, has twice the
    size of the record. Source of the fields: Celery's "Message Protocol", version 2.

    Args:
        task_id: Celery's task id.
        spec: the description; None where this version cannot read what the record holds.
        batch: id of the batch it belongs to.
        index: which of the batch's inputs it is for.
    """
    shown = {**task_options(spec, batch, index), **_batch_headers(batch, index)} if spec else {}
    headers = {"lang": "py", "task": TASK_RUN, "id": task_id, WAKEUP: True, **shown}
    return headers, json.dumps([[], _wakeup_kwargs(spec), {}])


def packed(task_id: str, spec: JobSpec, queue: str, batch: str = "", index: int | None = None) -> str:
    """Return the message of a job whose record is in the ledger, as kombu's Redis transport has it in its lists.

    Source of the form: ``kombu.transport.virtual.base.Channel``, whose own steps take a connected channel.

    Args:
        task_id: Celery's task id.
        spec: the description.
        queue: Celery queue.
        batch: id of the batch it belongs to.
        index: which of the batch's inputs it is for.
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


_PUBLISH_ERRORS: Final = (kombu.exceptions.KombuError, redis.RedisError, OSError)

_BATCH_BROKEN: Final[Any] = getattr(kombu.exceptions, "BatchPublishError", ())
"""What kombu raises for a batch over a connection that broke; before kombu 5.7 there are no batches."""


def publish_many(app: celery.Celery, jobs: Sequence[NewJob]) -> None:
    """Publish the messages of many jobs over one connection.

    Args:
        app: as ``celery_app`` makes it, or the user's own.
        jobs: whose records are in the ledger; those without a description are passed over.

    Raises:
        LedgerUnavailable: the broker did not take them all. The records stay; workers take them up later.
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
            # One round trip, where the broker is Redis; before kombu 5.7 there is one for each message.
            batch: Any = getattr(producer, "batch", contextlib.nullcontext)
            try:
                with batch():
                    send(producer)
            except _BATCH_BROKEN:
                # A message that comes twice finds its record and does no harm.
                send(producer)
    except _PUBLISH_ERRORS as error:
        raise LedgerUnavailable(f"{len(described)} messages could not be published ({error})") from error


def _batch_headers(batch: str, index: int | None) -> dict[str, Any]:
    return {BATCH: batch, INDEX: index} if batch else {}


def mark_revoked(app: celery.Celery, task_id: str, why: str) -> None:
    """Tell those who wait for Celery's result of a job that it was cancelled; left to the worker when Redis is away."""
    with contextlib.suppress(redis.RedisError, OSError):
        app.backend.mark_as_revoked(task_id, reason=why, store_result=True)

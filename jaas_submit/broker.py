"""A job's Celery message, which wakes a worker: where it goes, how it is published, kept and made again."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import celery
import kombu.exceptions
import redis
from celery.canvas import Signature
from kombu.message import Message
from kombu.serialization import prepare_accept_content

from jaas_submit.connection.sentinel import sentinel_options
from jaas_submit.connection.url import SentinelAddress, sentinel_address
from jaas_submit.errors import LedgerUnavailable, SpecError
from jaas_submit.ledger import NewJob
from jaas_submit.names import DEFAULT_QUEUE, TASK_RUN
from jaas_submit.records import JobRecord
from jaas_submit.spec import JobSpec

__all__ = [
    "BATCH",
    "INDEX",
    "TAKEN_OVER",
    "WAKEUP",
    "celery_app",
    "default_url",
    "job",
    "mark_revoked",
    "message_from_json",
    "message_of",
    "message_to_json",
    "packed",
    "publish_many",
    "task_options",
]

TAKEN_OVER: Final = "jaas_taken_over"
"""Header of a message that a worker makes for itself, for a job that the ledger gave it: whether the job is to run was
decided there, and neither Celery's list of revoked tasks nor an expiry time has a say any more."""

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
    app.loader.override_backends = {"sentinel": "jaas_submit.celery_sentinel:SentinelBackend"}
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


def job(spec: JobSpec, *, queue: str = DEFAULT_QUEUE) -> Signature[Any]:
    """Return the Celery signature of a job, for chain, group and chord of your own app.

    The job's record is written by the worker that receives the message. Within a chain or chord it gets
    what the task before it returned as its input (of a job, the ``output``), unless it has an input of its own.

    Args:
        spec: the job's description.
        queue: Celery queue of the jaas workers.
    """
    return Signature(
        TASK_RUN,
        kwargs={"spec": spec.to_wire()},
        options={"queue": queue, **task_options(spec)},
    )


def _wakeup_kwargs(spec: JobSpec | None) -> dict[str, Any]:
    # The task's body has to know whether a bad end is a failure in Celery's eyes.
    return {} if spec is None or spec.check else {"spec": {"check": False}}


def _wakeup(task_id: str, spec: JobSpec | None, batch: str, index: int | None) -> tuple[dict[str, Any], str]:
    """Return headers and body of a message; what Celery has a default for is left out.

    A million of them wait in Redis at times, and a message in Celery's own way, with the description, has twice the
    size of the record. Source of the fields: Celery's "Message Protocol", version 2.
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
    headers, body = _wakeup(task_id, spec, batch, index)
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


_NOT_TAKEN: Final = (kombu.exceptions.KombuError, redis.RedisError, OSError)


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
            headers, body = _wakeup(job.job_id, spec, job.batch, job.index)
            producer.publish(body, routing_key=job.queue, headers=headers, correlation_id=job.job_id, **kinds)

    try:
        with app.producer_or_acquire() as producer:
            try:
                with producer.batch():  # one round trip, where the broker is Redis
                    send(producer)
            except kombu.exceptions.BatchPublishError:  # type: ignore[attr-defined] # not in the stubs
                # Over a connection that had broken, say. A message that comes twice finds its record and does no harm.
                send(producer)
    except _NOT_TAKEN as error:
        raise LedgerUnavailable(f"{len(described)} messages could not be published ({error})") from error


def _batch_headers(batch: str, index: int | None) -> dict[str, Any]:
    return {BATCH: batch, INDEX: index} if batch else {}


def mark_revoked(app: celery.Celery, task_id: str, why: str) -> None:
    """Tell those who wait for Celery's result of a job that it was cancelled; left to the worker when Redis is away."""
    with contextlib.suppress(redis.RedisError, OSError):
        app.backend.mark_as_revoked(task_id, reason=why, store_result=True)


def message_to_json(headers: dict[str, Any], body: bytes | str, properties: dict[str, Any]) -> str:
    """Return a received Celery message as JSON, so that ``message_from_json`` can make the very same one again.

    Args:
        headers: the task headers (id, group, root_id, ...).
        body: the encoded body, with the callbacks, chord and chain.
        properties: of these, what Celery's results need is kept.
    """
    raw = body if isinstance(body, bytes) else body.encode()
    kept = {
        key: properties[key]
        for key in ("correlation_id", "reply_to", "priority", "content_type", "content_encoding")
        if properties.get(key) is not None
    }
    plain = {key: value for key, value in headers.items() if _is_plain(value)}
    return json.dumps({"headers": plain, "body": base64.b64encode(raw).decode(), "properties": kept})


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
    headers, body = _wakeup(record.task_id, record.spec, record.batch, record.index)
    return message_to_json(headers, body, {"correlation_id": record.task_id})


def message_from_json(text: str) -> Message:
    """Return the message that ``message_to_json`` kept: same id, same callbacks, same chord; nothing to acknowledge."""
    data = json.loads(text)
    properties = data["properties"]
    # Its start and expiry times were looked at when it was received first.
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

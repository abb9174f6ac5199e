"""The Celery app that publishes `jaas.run` and reads its results, and the signature for apps of your own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import celery

from jaas_submit.connection.names import chosen_queue
from jaas_submit.connection.sentinel import sentinel_options, tls_options
from jaas_submit.connection.url import SentinelAddress, sentinel_address, server_url
from jaas_submit.messaging.messages import task_options
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import TASK_RUN

__all__ = ["celery_app", "job", "memory_app"]

App = TypeVar("App", bound=celery.Celery)


def celery_app(broker: str, backend: str | None = None, *, kind: type[App] = celery.Celery) -> App:  # type: ignore[assignment] # mypy has no defaults for bound type variables
    """Return a Celery app for publishing `jaas.run` and reading its results.

    Args:
        broker: Redis URL of the queues (``jaas_submit.connection.url`` describes the forms).
        backend: Redis URL of the results; None means the same as the broker.
        kind: class of the app.

    Raises:
        SpecError: a URL is not valid.
    """
    where = _settings(broker, backend or broker)
    app = kind("jaas", broker=where["broker_url"], backend=where["result_backend"], set_as_current=False)
    app.loader.override_backends = {"sentinel": "jaas_submit.messaging.sentinel_results:SentinelBackend"}
    app.conf.update(
        # The variable CELERY_BROKER_URL overrides broker_url, but not these.
        broker_read_url=where["broker_url"],
        broker_write_url=where["broker_url"],
        result_backend_transport_options=where["result_backend_transport_options"],
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        # A producer should get an error within seconds if Redis is away, and not hang.
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
        **where["tls"],
    )
    return app


def memory_app() -> celery.Celery:
    """Return a Celery app whose queues and results are in this process' memory, for tests."""
    return celery.Celery("jaas", broker="memory://", backend="cache+memory://", set_as_current=False)


def _settings(broker: str, backend: str) -> dict[str, Any]:
    queues, results = sentinel_address(broker), sentinel_address(backend)
    if results:
        first = results.celery_urls()[0]
        # Celery takes the password from the first, and `celery inspect conf` would show those of the others.
        _, *others = replace(results, username="", password="").celery_urls()
        backend = ";".join([first, *others])
    return {
        "broker_url": ";".join(queues.celery_urls()) if queues else server_url(broker),
        "broker_transport_options": _transport_options(queues),
        "result_backend": backend if results else server_url(backend),
        "result_backend_transport_options": _transport_options(results),
        "tls": {
            **({"broker_use_ssl": tls_options(queues)} if queues and queues.tls is not None else {}),
            **({"redis_backend_use_ssl": tls_options(results)} if results and results.tls is not None else {}),
        },
    }


def _transport_options(address: SentinelAddress | None) -> dict[str, Any]:
    # The names are Celery's: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
    return {"master_name": address.master, "sentinel_kwargs": sentinel_options(address)} if address else {}


def job(spec: JobSpec | Mapping[str, Any], *, queue: str | None = None) -> celery.Signature[Any]:
    """Return the Celery signature of a job, for chain, group and chord of your own app.

    The job's record is written by the worker that receives the message. Within a chain or chord its input is the result
    of the task before it (of a job, the ``output``), unless its description has an input.

    Args:
        spec: the job's description.
        queue: Celery queue of the jaas workers; None takes JAAS_QUEUE, or ``jaas``.

    Raises:
        SpecError: it is no name of a queue.
    """
    spec = JobSpec.parse(spec)
    return celery.Signature(
        TASK_RUN,
        kwargs={"spec": spec.to_wire()},
        options={"queue": chosen_queue(queue), **task_options(spec)},
    )

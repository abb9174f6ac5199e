"""The worker's Celery app: ``create_app(settings)`` for code, ``jaas_worker.app.app`` for ``celery -A``."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import warnings
from functools import partial
from typing import Any

import celery
from celery import signals
from celery.exceptions import SecurityWarning

import jaas_worker.messaging.remote_control  # noqa: F401 (registers its commands)
from jaas_submit.connection import connect
from jaas_submit.errors import EngineUnavailable, JaasError
from jaas_submit.ledger import Ledger
from jaas_submit.messaging import messages
from jaas_submit.messaging.app import celery_app
from jaas_submit.model.wire_names import FOREIGN_QUEUE, TASK_RUN
from jaas_worker.admission.loading import load_policy
from jaas_worker.components import REDIS_TIMEOUT_S, Parts, require_permissions
from jaas_worker.messaging import task, transport_settings
from jaas_worker.messaging.celery_arguments import check_arguments
from jaas_worker.settings import Settings
from jaas_worker.swarm.docker_engine import Swarm, require_manager
from jaas_worker.swarm.engine import Engine
from jaas_worker.telemetry import logging_setup
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["WorkerApp", "create_app", "worker_main"]

logger = logging.getLogger(__name__)

_PREFETCH = 32
"""Messages that a worker may have received and not claimed yet."""


class WorkerApp(celery.Celery):
    """A Celery app with the parts of its pool."""

    jaas: Parts


def create_app(settings: Settings | None = None, engine: Engine | None = None) -> WorkerApp:
    """Return the worker's Celery app.

    Nothing is connected yet: the worker checks engine and Redis when it starts.

    Args:
        settings: None reads the environment.
        engine: None means the real one at ``settings.docker_host``.

    Raises:
        SpecError: a setting or the policy is not valid.
    """
    settings = settings or Settings()
    app = celery_app(settings.redis_url, kind=WorkerApp)
    results = "jaas_worker.messaging.result_backend:Results"
    app.loader.override_backends = {
        "redis": results,
        "rediss": results,
        "sentinel": "jaas_worker.messaging.result_backend:SentinelResults",
    }
    app.jaas = _parts(settings, engine)
    app.conf.update(
        worker_pool="jaas_worker.messaging.pool:TaskPool",
        worker_consumer="jaas_worker.messaging.consumer:Consumer",
        worker_concurrency=_PREFETCH,
        worker_prefetch_multiplier=1,
        worker_send_task_events=settings.remote_control,
        task_send_sent_event=settings.remote_control,
        # The next task after a job in another app's canvas goes to the queue that that app's own worker would use.
        task_default_queue=FOREIGN_QUEUE,
        task_create_missing_queues=True,
        task_acks_late=False,
        task_track_started=False,  # the pool reports STARTED when the container runs
        task_routes=(partial(_route, settings.queue),),
        result_expires=int(settings.record_ttl),
        result_compression=None,  # a script checks the stored result
        # Each thread has its own connection to the results; a dead one must not block the thread for long.
        redis_socket_timeout=REDIS_TIMEOUT_S,
        # The worker publishes the next task of a chain or a chord's body. If Redis is away for longer than this (80
        # seconds), Celery gives up, and the rest of the workflow is lost.
        task_publish_retry_policy={"max_retries": 30, "interval_start": 0.1, "interval_step": 0.5, "interval_max": 3},
        broker_connection_retry=True,
        broker_connection_max_retries=None,
        **transport_settings.settings(
            settings.redis_url, app.conf.broker_transport_options, settings.prefix, settings.queue
        ),
        # A Redis that is full, read-only or loading refuses commands; that is temporary, and must not end the worker.
        broker_channel_error_retry=True,
        worker_enable_prefetch_count_reduction=False,  # it would count jobs that no longer need their message
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=True,
        worker_enable_remote_control=settings.remote_control,
    )
    app.amqp.queues.select(settings.queues)
    task.register(app)
    # Celery's log line about the end of a task has the container's output; the runner writes one without it.
    logging.getLogger("celery.app.trace").addFilter(_not_about_jobs)
    logging_setup.install(settings.log_format)
    _connect_signals(app)
    return app


def _parts(settings: Settings, engine: Engine | None) -> Parts:
    swarm = engine or Swarm(settings.docker_host, settings.engine_timeout)
    return Parts(settings, swarm, load_policy(settings))


def _route(queue: str, name: str, *_: Any, task: Any = None, **__: Any) -> dict[str, str] | None:
    """Route jobs, and tasks that the user's own code has added to this worker, to this worker's queue.

    Args:
        queue: this worker's.
        name: of the published task.
        task: the task itself, if this worker has it.
    """
    ours = name == TASK_RUN or (task is not None and not name.startswith("celery."))
    return {"queue": queue} if ours else None


def _connect_signals(app: WorkerApp) -> None:
    signals.worker_shutting_down.connect(partial(_watch_shutdown, app.jaas.settings.shutdown_timeout), weak=False)
    signals.worker_ready.connect(_freeze_startup_objects)
    signals.task_revoked.connect(_on_revoked, sender=app.tasks[TASK_RUN], weak=False)


def _freeze_startup_objects(**_: Any) -> None:
    """Exclude the objects of the start (modules, classes, the app) from later garbage collections: they stay for
    ever."""
    gc.collect()
    gc.freeze()


def _watch_shutdown(patience: float, **_: Any) -> None:
    """End the process if its shutdown hangs.

    Measured with Celery 5.7.0: with a Redis that does not answer (half-open connection, removed network), the event
    loop publishes its heartbeat again and again and never looks at the signal. Ending here has the effect of SIGKILL:
    containers go on, and the jobs are taken over when the lease has expired.
    """

    def end() -> None:
        logger.error(
            "the shutdown did not finish within %g s; exiting without releasing jobs, the lease will expire",
            patience,
            extra=action(Action.WORKER_SHUTDOWN_TIMEOUT),
        )
        logging.shutdown()
        os._exit(1)

    timer = threading.Timer(patience, end)
    timer.daemon = True
    timer.start()


def _not_about_jobs(record: logging.LogRecord) -> bool:
    data = getattr(record, "data", None)
    return not (isinstance(data, dict) and data.get("name") == TASK_RUN and record.levelno <= logging.INFO)


def _on_revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    """A request was revoked or expired before its launch: record that, so that it is not launched later."""
    if not terminated:
        why = "its message had expired when it arrived" if expired else "revoked through Celery"
        foreign = sender.name == TASK_RUN and not request.get(messages.WAKEUP)
        sender.app.jaas.pool.discarded(request.id, why, foreign=foreign)


def worker_main(arguments: list[str]) -> None:
    """Run a worker in this process until it is told to stop.

    Args:
        arguments: options of ``celery worker``, such as ``--loglevel=INFO``.

    Raises:
        SpecError: a setting or an option is not valid.
        NotAManager: the engine is no swarm manager.
        PermanentError: Redis' user lacks ACL rules.
        TemporaryError: engine or Redis do not answer.
    """
    check_arguments(arguments)
    app = create_app()
    parts: Parts = app.jaas
    # Checked here too, so that the message appears before Celery's banner.
    try:
        info = parts.engine.info()
    except EngineUnavailable as error:
        if "Permission denied" in str(error):
            remedy = "run the worker as root, or with the group that this socket has (`stat -c %g`)"
        else:
            remedy = "start Docker there, or name a swarm manager's engine with DOCKER_HOST; `jaas doctor` says more"
        raise EngineUnavailable(f"{parts.settings.docker_host}: {error}; {remedy}") from error
    require_manager(info, parts.settings.docker_host)
    ledger = Ledger(connect(parts.settings.redis_url), parts.settings.prefix)
    ledger.now()
    require_permissions(ledger.client, parts.settings)
    # Celery warns of running as root because of pickle, which is not accepted here; the engine's socket needs root.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    workers: list[Any] = []
    signals.worker_init.connect(lambda sender, **_: workers.append(sender), weak=False)
    app.worker_main(["worker", *arguments])
    # Celery hides the error here: a worker that an error ended would look like one that was stopped.
    code = next((worker.exitcode for worker in workers), None)
    if isinstance(code, int) and code:
        sys.exit(code)


def __getattr__(name: str) -> Any:
    """Make ``app`` on first use, for ``celery -A jaas_worker.app``: importing the module must not need a setting."""
    if name in {"app", "celery"}:
        try:
            app = create_app()
        except JaasError as error:
            sys.exit(f"jaas: {error}")
        globals()["app"] = globals()["celery_app"] = app
        return app
    raise AttributeError(name)

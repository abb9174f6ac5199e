"""The baseline: a plain Celery task that does the naive thing. It creates a service, polls it to its end, and returns.

It is set up as well as Celery's documentation advises for tasks that must not get lost: ``acks_late``,
``reject_on_worker_lost``, a prefetch of one, and a ``visibility_timeout`` that is well above the longest job, but short
enough for a lost worker's messages to come back within the campaign.
"""

from __future__ import annotations

import os
import time
from typing import Any

import celery
import docker
import docker.types
import redis
from celery import states

__all__ = ["LABEL", "TASK", "NaiveChannel", "create_app", "worker_main"]

TASK = "naive.run"
LABEL = "jaas.prefix"
VISIBILITY = 120.0


class ContainerFailed(Exception):
    """The container's exit code was not 0."""


def create_app(url: str, queue: str) -> celery.Celery:
    """Return the Celery app of producers and workers.

    Args:
        url: of Redis.
        queue: of the workers.
    """
    app = celery.Celery("naive", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=6,
        broker_transport_options={"visibility_timeout": VISIBILITY},
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_track_started=True,
    )

    @app.task(name=TASK, bind=True)
    def run(task: Any, image: str, command: list[str], mount: list[str], prefix: str) -> int:
        client = docker.from_env(version="auto", timeout=15)
        service = client.services.create(
            image,
            command,
            env=[f"JAAS_JOB_ID={task.request.id}", "JAAS_ATTEMPT=1"],
            mounts=[docker.types.Mount(mount[1], mount[0], type="bind")],
            labels={LABEL: prefix},
            restart_policy=docker.types.RestartPolicy(condition="none"),
        )
        while True:
            tasks = service.tasks()
            if tasks and tasks[0]["Status"]["State"] in {"complete", "failed", "rejected", "shutdown", "orphaned"}:
                break
            time.sleep(0.5)
        code = int(tasks[0]["Status"].get("ContainerStatus", {}).get("ExitCode", -1))
        service.remove()
        if code:
            raise ContainerFailed(f"exit code {code}")
        return code

    return app


def worker_main(arguments: list[str]) -> None:
    """Run a worker; JAAS_REDIS_URL and JAAS_QUEUE say where."""
    create_app(os.environ["JAAS_REDIS_URL"], os.environ["JAAS_QUEUE"]).worker_main(["worker", *arguments])


class NaiveChannel:
    """Submits orders to the baseline's workers; ``traffic.Channel``.

    Args:
        url: of Redis.
        queue: of the workers.
        prefix: goes into the services' label.
        recorder: mounted by the jobs.
    """

    def __init__(self, url: str, queue: str, prefix: str, recorder: Any) -> None:
        self.app = create_app(url, queue)
        self._redis = redis.Redis.from_url(url, socket_timeout=5)
        self._queue = queue
        self.app.conf.broker_transport_options |= {"socket_connect_timeout": 5, "socket_timeout": 10}
        self._prefix = prefix
        self._recorder = recorder

    def _arguments(self, order: Any) -> dict[str, Any]:
        from tests.faults.recorder import INSIDE
        from tests.faults.traffic import spec_of

        spec = spec_of(order, self._recorder)
        return {
            "image": spec.image,
            "command": list(spec.command or ()),
            "mount": [str(self._recorder.folder), INSIDE],
            "prefix": self._prefix,
        }

    def submit(self, order: Any) -> dict[int, str]:
        """Submit an order."""
        if order.kind == "chord":
            ids = {member.n: celery.uuid() for member in order.members}
            *header, body = [
                self.app.signature(TASK, kwargs=self._arguments(member), immutable=True).set(task_id=ids[member.n])
                for member in order.members
            ]
            celery.chord(header, body, app=self.app).apply_async()
            return ids
        return {order.n: self.app.send_task(TASK, kwargs=self._arguments(order)).id}

    def cancel(self, job_id: str) -> str:
        """Revoke a task."""
        self.app.control.revoke(job_id, terminate=True)
        return "asked"

    def waiting(self) -> int:
        """Return how many messages wait in the queue; 0 while nobody can tell."""
        try:
            return int(self._redis.llen(self._queue))
        except redis.RedisError:
            return 0

    def result(self, job_id: str) -> dict[str, Any]:
        """Return a task's state in the result backend, and its exit code."""
        found = self.app.backend.get_task_meta(job_id)
        status, value = found["status"], found["result"]
        code = None
        if status == states.SUCCESS:
            code = value
        elif isinstance(value, Exception) and "exit code " in str(value):
            code = int(str(value).rpartition("exit code ")[2].rstrip("')"))
        error = repr(value)[:200] if isinstance(value, Exception) else ""
        return {"status": status, "code": code, "state": status, "error": error}

"""The Celery task that people write first: it creates a service, polls it each half second, and returns."""

from __future__ import annotations

import os
import time
from typing import Any

import celery
import docker
import docker.types

__all__ = ["TASK", "create_app", "worker_main"]

TASK = "bench.run"
_ENDED = {"complete", "failed", "rejected", "shutdown", "orphaned"}


def create_app(url: str) -> celery.Celery:
    """Return the Celery app of producers and workers.

    Args:
        url: of Redis.
    """
    app = celery.Celery("naive", broker=url, backend=url, set_as_current=False)
    app.conf.update(task_default_queue="naive", worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

    @app.task(name=TASK)
    def run(engine: str, image: str, command: list[str]) -> str:
        client: Any = docker.DockerClient(base_url=engine, version="auto")
        try:
            policy = docker.types.RestartPolicy(condition="none")
            service = client.services.create(image, command, restart_policy=policy)
            while True:
                tasks = service.tasks()
                if tasks and tasks[0]["Status"]["State"] in _ENDED:
                    break
                time.sleep(0.5)
            b"".join(service.logs(stdout=True, stderr=True))
            service.remove()
            return str(service.id)
        finally:
            client.close()

    return app


def worker_main(arguments: list[str]) -> None:
    """Run a worker; JAAS_REDIS_URL says where."""
    create_app(os.environ["JAAS_REDIS_URL"]).worker_main(["worker", *arguments])

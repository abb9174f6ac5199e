"""The options of `celery worker` that a jaas worker accepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click
from celery.bin.worker import worker as celery_worker

from jaas_submit.errors import SpecError

__all__ = ["check_arguments"]

_QUEUES: Final = "JAAS_QUEUE (or --queue) and JAAS_TAKE_DEFAULT_QUEUE say which queues it takes"
_NO_PROCESSES: Final = "a worker of jaas has no processes of its own for tasks; JAAS_MAX_IN_FLIGHT bounds its jobs"
_NO_LIMIT: Final = "it would not reach the container; a job's run_timeout does"
_NO_BEAT: Final = "run `celery beat` as a process of its own, with an app of yours that sends the jobs"
_PREFETCH: Final = "a worker of jaas takes as many messages as it has room for (JAAS_MAX_IN_FLIGHT)"

_REFUSED: Final = {
    "detach": "run the worker under a supervisor: stack.yml, systemd, or `&`",
    "beat": _NO_BEAT,
    "schedule_filename": _NO_BEAT,
    "scheduler": _NO_BEAT,
    "pool": "the pool of a jaas worker is the swarm",
    "queues": _QUEUES,
    "exclude_queues": _QUEUES,
    "concurrency": _NO_PROCESSES,
    "autoscale": _NO_PROCESSES,
    "max_tasks_per_child": _NO_PROCESSES,
    "max_memory_per_child": _NO_PROCESSES,
    "pool_start_method": _NO_PROCESSES,
    "optimization": _NO_PROCESSES,
    "prefetch_multiplier": _PREFETCH,
    "disable_prefetch": _PREFETCH,
    "time_limit": _NO_LIMIT,
    "soft_time_limit": _NO_LIMIT,
    "executable": "it has a meaning with --detach only",
}
"""Options of `celery worker`, by Celery's names, that have no effect or another one here; and why."""


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse options of `celery worker` that have no effect or another one here.

    Args:
        arguments: those of the worker.

    Raises:
        SpecError: there is such an option, or one that Celery does not know.
    """
    try:
        given, _, _ = celery_worker.make_parser(click.Context(celery_worker)).parse_args(list(arguments))
    except click.UsageError as error:
        raise SpecError(error.format_message()) from None
    for parameter in celery_worker.params:
        if parameter.name in given and (why := _REFUSED.get(parameter.name)):
            raise SpecError(f"{max(parameter.opts, key=len)} is not for workers of jaas: {why}")

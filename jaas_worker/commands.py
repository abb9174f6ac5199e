"""The commands that the worker's package adds to `jaas`: worker, listen. Found by the entry points in pyproject.toml.

Imports wait for the functions that need them: `jaas --help` loads this module.
"""

from __future__ import annotations

import os

import click

from jaas_submit.cli_frame import Where, missing_packages, where_options

__all__ = ["listen", "worker"]

_log_level = click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False), default="info"
)


@click.command()
@_log_level
@click.option("--name", help="Node name for Celery, such as jaas@%h.")
@click.option(
    "--max-in-flight", type=click.IntRange(1, 100_000), help="Jobs in the swarm at once (JAAS_MAX_IN_FLIGHT)."
)
@where_options()
@click.argument("celery_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- CELERY ARGUMENTS]")
@click.pass_obj
def worker(
    where: Where, log_level: str, name: str | None, max_in_flight: int | None, celery_arguments: tuple[str, ...]
) -> None:
    """Start a worker: on a swarm manager, with the packages of jaas[worker].

    Everything else is set by JAAS_... variables; what follows -- goes to `celery worker`.
    """
    _set(where, JAAS_MAX_IN_FLIGHT=max_in_flight)
    try:
        from jaas_worker.app import worker_main
    except ImportError as error:
        raise missing_packages(error) from error
    _refuse_arguments(celery_arguments)
    worker_main([f"--loglevel={log_level.upper()}", *([f"--hostname={name}"] if name else []), *celery_arguments])


@click.command()
@_log_level
@where_options()
@click.pass_obj
def listen(where: Where, log_level: str) -> None:
    """Tell workers of containers' ends: on nodes without a worker, with the packages of jaas[worker].

    Jobs on such a node end without it too, and some 70 ms later.
    """
    _set(where)
    try:
        from jaas_worker.listener import listener_main
    except ImportError as error:
        raise missing_packages(error) from error
    listener_main(log_level.upper())


_QUEUES = "JAAS_QUEUE (or --queue) and JAAS_TAKE_DEFAULT_QUEUE say which queues it takes"
_NO_PROCESSES = "a worker of jaas has no processes of its own for tasks; JAAS_MAX_IN_FLIGHT bounds its jobs"
_NO_LIMIT = "it would not reach the container; a job's run_timeout does"
_NO_BEAT = "run `celery beat` as a process of its own, with an app of yours that sends the jobs"
_PREFETCH = "a worker of jaas takes as many messages as it has room for (JAAS_MAX_IN_FLIGHT)"

_REFUSED = {
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
"""Options of `celery worker`, by Celery's names of them, that cannot do here what they do there."""


def _refuse_arguments(arguments: tuple[str, ...]) -> None:
    """Refuse options of `celery worker` that have no effect here, or another one than is expected of them.

    Raises:
        click.UsageError: there is one; or Celery does not know one.
    """
    from celery.bin.worker import worker as theirs

    context = click.Context(theirs)
    given, _, _ = theirs.make_parser(context).parse_args(list(arguments))
    for parameter in theirs.params:
        if parameter.name in given and (why := _REFUSED.get(parameter.name)):
            raise click.UsageError(f"{max(parameter.opts, key=len)} is not for workers of jaas: {why}")


def _set(where: Where, **more: object) -> None:
    # Settings are read from the environment, also by whatever the worker starts.
    if where.redis:
        os.environ.pop("JAAS_REDIS_URL_FILE", None)
    given = {"JAAS_REDIS_URL": where.redis, "JAAS_QUEUE": where.queue, "JAAS_PREFIX": where.prefix, **more}
    os.environ.update({variable: str(value) for variable, value in given.items() if value})

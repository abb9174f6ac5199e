"""The commands that the worker's package adds to `jaas`: worker, agent, socket-proxy. Found by the entry points.

Imports wait for the functions that need them: `jaas --help` loads this module.
"""

from __future__ import annotations

import os
import re

import click

from jaas_submit.cli.common import Target, missing_packages, target_options

__all__ = ["agent", "socket_proxy", "worker"]

_log_level = click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False), default="info"
)


@click.command()
@_log_level
@click.option("--name", help="Node name for Celery, such as jaas@%h.")
@click.option(
    "--max-in-flight", type=click.IntRange(1, 100_000), help="Jobs in the swarm at once (JAAS_MAX_IN_FLIGHT)."
)
@target_options()
@click.argument("celery_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- CELERY ARGUMENTS]")
@click.pass_obj
def worker(
    target: Target, log_level: str, name: str | None, max_in_flight: int | None, celery_arguments: tuple[str, ...]
) -> None:
    """Start a worker: on a swarm manager, with the packages of jaas[worker].

    All other settings are JAAS_... variables; words after -- go to `celery worker`.
    """
    _set(target, JAAS_MAX_IN_FLIGHT=max_in_flight)
    try:
        from jaas_worker.app import worker_main
    except ImportError as error:
        raise missing_packages(error) from error
    worker_main([f"--loglevel={log_level.upper()}", *([f"--hostname={name}"] if name else []), *celery_arguments])


@click.command()
@_log_level
@target_options()
@click.pass_obj
def agent(target: Target, log_level: str) -> None:
    """Follow the containers of this node: on nodes without a worker, with the packages of jaas[worker].

    Lines are shown while jobs run, output is exact to the byte, and outcomes arrive some 70 ms sooner.
    """
    _set(target)
    try:
        from jaas_worker.agent.process import agent_main
    except ImportError as error:
        raise missing_packages(error) from error
    agent_main(log_level.upper())


@click.command("socket-proxy")
@_log_level
@click.option("--engine", default="unix:///var/run/docker.sock", show_default=True, help="The engine's socket.")
@click.option(
    "--listen",
    default="unix:///run/jaas/engine.sock",
    show_default=True,
    help="unix:// and a path, or tcp://HOST:PORT.",
)
@click.option("--mode", default="660", show_default=True, metavar="OCTAL", help="Who may use the socket at a path.")
@click.option(
    "--store-binds",
    is_flag=True,
    help="Let jobs mount their files from the folder JAAS_STORE_URL, whatever the policy.",
)
def socket_proxy(log_level: str, engine: str, listen: str, mode: str, store_binds: bool) -> None:
    """Let a worker or an agent do with the engine what it needs, and nothing else.

    Services are judged by JAAS_POLICY or JAAS_POLICY_FILE. JAAS_QUEUE, JAAS_LOG_DRIVER, JAAS_LOG_OPTIONS and
    JAAS_STORE_URL have to be those of the workers. It needs no Redis.
    """
    try:
        from jaas_worker.socket_proxy.process import socket_proxy_main
    except ImportError as error:
        raise missing_packages(error) from error
    if not re.fullmatch("0?[0-7]{3}", mode):
        raise click.BadParameter("write three octal digits, such as 660", param_hint="--mode")
    socket_proxy_main(engine, listen, int(mode, 8), log_level.upper(), store_binds=store_binds)


def _set(target: Target, **more: object) -> None:
    # Settings are read from the environment, also by programs that the worker starts.
    if target.redis:
        os.environ.pop("JAAS_REDIS_URL_FILE", None)
    given = {"JAAS_REDIS_URL": target.redis, "JAAS_QUEUE": target.queue, "JAAS_PREFIX": target.prefix, **more}
    os.environ.update({variable: str(value) for variable, value in given.items() if value})

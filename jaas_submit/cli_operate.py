"""The operator's commands of `jaas`: worker, listen, doctor, completion."""

from __future__ import annotations

import os
from typing import Final

import click

from jaas_submit import cli_render as render
from jaas_submit.cli_frame import Where, output_options, where_options
from jaas_submit.errors import JaasError

__all__ = ["completion", "doctor", "listen", "worker"]

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
        raise _missing_packages(error) from error
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
        raise _missing_packages(error) from error
    listener_main(log_level.upper())


def _set(where: Where, **more: object) -> None:
    # Settings are read from the environment, also by whatever the worker starts.
    if where.redis:
        os.environ.pop("JAAS_REDIS_URL_FILE", None)
    given = {"JAAS_REDIS_URL": where.redis, "JAAS_QUEUE": where.queue, "JAAS_PREFIX": where.prefix, **more}
    os.environ.update({variable: str(value) for variable, value in given.items() if value})


@click.command()
@click.option("--no-engine", is_flag=True, help="Do not look at the engine: no worker shall run on this machine.")
@output_options
@click.pass_obj
def doctor(where: Where, no_engine: bool, as_json: bool, quiet: bool) -> int:
    """Check Redis, clock, workers, engine and swarm, and say what to do. Exit code 1 when a check fails.

    Quiet: only what is not well.
    """
    from jaas_submit.checks import Check, Verdict, flower_checks, redis_checks
    from jaas_submit.ledger_checks import ledger_checks
    from jaas_submit.sentinel_checks import sentinel_checks

    with where.client() as client:
        checks = [
            *sentinel_checks(client.url),
            *redis_checks(client),
            *ledger_checks(client),
            *flower_checks(os.environ.get("JAAS_FLOWER_URL")),
        ]
        if no_engine:
            checks.append(Check("engine", Verdict.SKIP, "not looked at (--no-engine)"))
        else:
            try:
                from jaas_worker.doctor import engine_checks

                checks += engine_checks(ledger=client.ledger)
            except ImportError as error:
                checks.append(Check("engine", Verdict.SKIP, f"{_missing_packages(error)}; producers need neither"))
    failed = any(check.verdict is Verdict.FAIL for check in checks)
    if as_json:
        render.print_json({"ok": not failed, "checks": [check._asdict() for check in checks]})
    else:
        shown = [check for check in checks if not quiet or check.verdict in {Verdict.WARN, Verdict.FAIL}]
        if shown:
            rows = [(c.name, str(c.verdict), c.detail, c.fix) for c in shown]
            render.print_table(("CHECK", "RESULT", "FOUND", "WHAT TO DO"), rows)
    return int(failed)


def _missing_packages(error: ImportError) -> JaasError:
    return JaasError(f"the worker's packages are not installed ({error}): pip install 'jaas[worker]'")


_INSTALL: Final = {
    "bash": 'eval "$(jaas completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(jaas completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "jaas completion fish > ~/.config/fish/completions/jaas.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell; its first line says how to install it."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, f"click knows no {shell}"
    script = kind(ctx.find_root().command, {}, "jaas", "_JAAS_COMPLETE").source()
    click.echo(f"# To install: {_INSTALL[shell]}\n{script.strip()}")

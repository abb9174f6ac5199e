"""Shared code of all commands of `jaas`: options, exit codes, errors in one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from jaas_submit.errors import JaasError, LedgerUnavailable, SpecError, UnknownJob, UnreadableRecord, WaitTimeout

if TYPE_CHECKING:
    from jaas_submit.client.client import Client

__all__ = [
    "EXIT_CODES",
    "EXIT_INTERRUPTED",
    "EXIT_JAAS",
    "EXIT_NO",
    "EXIT_TIMEOUT",
    "EXIT_USAGE",
    "JaasGroup",
    "Target",
    "complete_ids",
    "for_each",
    "job_ids_argument",
    "missing_packages",
    "name_unreadable",
    "output_options",
    "target_options",
    "version_option",
]

F = TypeVar("F", bound=Callable[..., Any])

COMMANDS: Final = "jaas.commands"
"""Group of entry points. Each is a click command under its own name; the worker's package adds its commands by it."""

EXIT_NO: Final = 1
"""The answer to what was asked is no."""

EXIT_USAGE: Final = 2
EXIT_TIMEOUT: Final = 124
EXIT_JAAS: Final = 125
EXIT_INTERRUPTED: Final = 130

_NAMED: Final = 5
"""Unreadable records that a command names; it only counts the others."""

EXIT_CODES: Final = """\b
Exit codes: the container's own; else
  2    the command line or the job description is wrong; nothing was enqueued
  124  a time-out: of the job, or of waiting for it
  125  no exit code of the container's own: cancelled, image missing, node lost,
       Redis or engine away, ...
  126, 127  the program cannot be executed, cannot be found (as docker has it)
  130  interrupted with Ctrl-C; the job goes on"""


@dataclass
class Target:
    """The installation to use: the options that every command has."""

    redis: str | None = None
    queue: str | None = None
    prefix: str | None = None
    named: set[str] = field(default_factory=set)
    """Those of them that the command line names; the environment may name them, too."""

    def client(self) -> Client:
        """Return a client; nothing is connected yet."""
        from jaas_submit.client.client import Client

        return Client(self.redis, queue=self.queue, prefix=self.prefix)


class JaasGroup(click.Group):
    """The top of all commands: a command's number is the exit code, and an error is one sentence.

    Other packages add commands by entry points (``COMMANDS``). They are looked up only if a name is not known here,
    because the search reads the metadata of every installed package.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *metadata.entry_points(group=COMMANDS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name; None if there is none."""
        command = super().get_command(ctx, cmd_name)
        if command is None and (found := metadata.entry_points(group=COMMANDS, name=cmd_name)):
            command = next(iter(found)).load()
        return command

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the command and end the process."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except (click.Abort, KeyboardInterrupt):
            code = _fail("interrupted", EXIT_INTERRUPTED)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = EXIT_USAGE
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f" (see `{context.command_path} --help`)" if context else ""
            code = _fail(error.format_message().rstrip(".") + hint, EXIT_USAGE)
        except SpecError as error:
            code = _fail(str(error), EXIT_USAGE)
        except WaitTimeout as error:
            code = _fail(str(error), EXIT_TIMEOUT)
        except LedgerUnavailable as error:
            code = _fail(f"{error}; check --redis or JAAS_REDIS_URL, `jaas doctor` says more", EXIT_JAAS)
        except JaasError as error:
            code = _fail(str(error), EXIT_JAAS)
        except Exception as error:  # the last resort: a defect of jaas; users get no traceback by default
            if os.environ.get("JAAS_DEBUG"):
                raise
            text = f"internal error: {type(error).__name__}: {error}; JAAS_DEBUG=1 shows where, please report it"
            code = _fail(text, EXIT_JAAS)
        sys.exit(code)


def missing_packages(error: ImportError) -> JaasError:
    """Return the error that says how to install the worker's packages.

    Args:
        error: what their import raised.
    """
    return JaasError(f"the worker's packages are not installed ({error}): pip install 'jaas[worker]'")


def _fail(text: str, code: int) -> int:
    click.echo(f"jaas: {' '.join(text.split())}", err=True)
    return code


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    target = ctx.ensure_object(Target)
    if value is not None and param.name:
        setattr(target, param.name, value)
        if ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            target.named.add(param.name)


def target_options(*, environment: bool = False) -> Callable[[F], F]:
    """Add --redis, --queue and --prefix, usable before and after the command's name."""

    def add(command: F) -> F:
        for name, text in (
            ("prefix", "First part of the keys in Redis (env JAAS_PREFIX; default jaas)."),
            ("queue", "Celery queue of the workers (env JAAS_QUEUE; default jaas)."),
            ("redis", "Redis URL (env JAAS_REDIS_URL_FILE, JAAS_REDIS_URL, CELERY_BROKER_URL; default this host)."),
        ):
            # The environment is read once, before the command's name, so that it never overrides an option.
            variable = f"JAAS_{name.upper()}" if environment and name != "redis" else None
            command = click.option(
                f"--{name}",
                metavar="URL" if name == "redis" else "NAME",
                envvar=variable,
                help=text,
                expose_value=False,
                callback=_remember,
            )(command)
        return command

    return add


def output_options(command: F) -> F:
    """Add --json and --quiet, and the options of the installation."""
    command = target_options()(command)
    command = click.option("-q", "--quiet", is_flag=True, help="No progress; only what a script needs.")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")(command)


def complete_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Return the youngest jobs' ids for the TAB key; nothing when Redis is slow or away."""
    from jaas_submit.connection import connect
    from jaas_submit.connection.names import chosen_prefix
    from jaas_submit.connection.url import default_url
    from jaas_submit.ledger import Ledger

    target = ctx.find_object(Target) or Target()
    try:
        quick = connect(target.redis or default_url(), socket_timeout=0.5, socket_connect_timeout=0.5, retry=None)
        ledger = Ledger(quick, chosen_prefix(target.prefix))
        records = ledger.queries.find(ledger.queries.ids(limit=50))
    except JaasError:
        return []
    return [
        CompletionItem(record.id, help=f"{record.state} {record.label}")
        for record in records
        if record.id.startswith(incomplete)
    ]


def job_ids_argument(command: F) -> F:
    """Add one or more job ids as arguments."""
    return click.argument("job_ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_ids)(command)


def for_each(job_ids: tuple[str, ...], verb: Callable[[str], None]) -> int:
    """Process each job; an unknown one does not prevent the others.

    Args:
        job_ids: the jobs.
        verb: what to do.

    Returns:
        The exit code.
    """
    code = 0
    for job_id in job_ids:
        try:
            verb(job_id)
        except (UnknownJob, UnreadableRecord) as error:
            code = _fail(str(error), EXIT_JAAS)
    return code


def name_unreadable(found: Mapping[str, str]) -> None:
    """Name on standard error the records that a list had to skip.

    Args:
        found: ``Ledger.unreadable``.
    """
    for name, why in list(found.items())[:_NAMED]:
        click.echo(f"jaas: {name} cannot be read: {why}", err=True)
    if len(found) > _NAMED:
        click.echo(f"jaas: {len(found) - _NAMED} more cannot be read", err=True)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    try:
        text = metadata.version("jaas")
    except metadata.PackageNotFoundError:
        text = "(not installed)"
    click.echo(f"jaas {text}")
    ctx.exit()


version_option = click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)

"""Shared code of all commands of `jaas`: options, exit codes, errors in one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from jaas_submit.cli.option_values import usage_sentence
from jaas_submit.errors import (
    JaasError,
    JobNotEnded,
    LedgerUnavailable,
    SpecError,
    UnknownJob,
    UnreadableRecord,
    WaitTimeout,
    how_to_install,
)
from jaas_submit.model.states import JobState

if TYPE_CHECKING:
    from jaas_submit.cli.output import Progress
    from jaas_submit.client.client import Client
    from jaas_submit.model.records import JobRecord

__all__ = [
    "ALIASES",
    "EXIT_CODES",
    "EXIT_INTERRUPTED",
    "EXIT_JAAS",
    "EXIT_NO",
    "EXIT_TIMEOUT",
    "EXIT_USAGE",
    "JaasGroup",
    "PlainGroup",
    "Target",
    "complete_ids",
    "for_each",
    "job_ids_argument",
    "missing_packages",
    "name_unreadable",
    "not_taken",
    "output_options",
    "say_why_not_taken",
    "summary",
    "target_options",
    "version_option",
    "version_text",
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


ALIASES: Final = {"ps": "list", "ls": "list", "inspect": "status", "kill": "cancel", "describe": "explain"}
"""Other names of commands, as docker, kubectl and others have them."""

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "Run jobs": ("run", "submit", "map", "wait"),
    "See jobs": ("list", "status", "logs", "download", "explain", "batch"),
    "Change jobs": ("cancel", "replay", "rm"),
    "Operate": ("doctor", "worker", "agent", "redis-acl"),
    "Other": ("schema", "completion", "help", "version", "man", "go-run"),
}
"""The commands of `jaas --help`; what none of the groups names is under the last one."""


def summary(command: click.Command) -> str:
    """Return the first sentence of a command's help, all of it.

    Args:
        command: the command.
    """
    text = " ".join((command.help or command.short_help or "").partition("\n\n")[0].split())
    return text if (end := text.find(". ")) < 0 else text[: end + 1]


class PlainGroup(click.Group):
    """A group whose help shows each command's whole first sentence, where click cuts it off."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their summaries."""
        with formatter.section("Commands"):
            names = self.list_commands(ctx)
            formatter.write_dl([(name, summary(self.commands[name])) for name in names])


class JaasGroup(click.Group):
    """The top of all commands: a command's number is the exit code, and an error is one sentence.

    Other packages add commands by entry points (``COMMANDS``). They are looked up only if a name is not known here,
    because the search reads the metadata of every installed package.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *metadata.entry_points(group=COMMANDS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name, or of another name that people type for it; None if there is none."""
        name = ALIASES.get(cmd_name, cmd_name)
        command = super().get_command(ctx, name)
        if command is None and (found := metadata.entry_points(group=COMMANDS, name=name)):
            command = next(iter(found)).load()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in groups, each with its other names and its first sentence."""
        left = {name: command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))}
        others = {name: [alias for alias, of in ALIASES.items() if of == name] for name in left}
        groups = [(title, [name for name in names if name in left]) for title, names in GROUPS.items()]
        known = {name for _, names in groups for name in names}
        groups[-1][1].extend(name for name in left if name not in known)
        for title, names in groups:
            if not names:
                continue
            with formatter.section(title):
                rows = [(", ".join([name, *others[name]]), summary(left[name])) for name in names]
                formatter.write_dl(rows)

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
            code = _fail(usage_sentence(error.format_message()) + hint, EXIT_USAGE)
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
    return JaasError(f"the worker's packages are not installed ({error}); {how_to_install('worker')}")


def _fail(text: str, code: int) -> int:
    from jaas_submit.cli import output

    click.echo(f"jaas: {output.one_line(' '.join(text.split()))}", err=True)
    return code


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    target = ctx.ensure_object(Target)
    if value is not None and param.name:
        setattr(target, param.name, value)
        if ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            target.named.add(param.name)


def target_options(*, environment: bool = False, url: bool = True) -> Callable[[F], F]:
    """Add --redis, --queue and --prefix, usable before and after the command's name.

    Args:
        environment: whether they have the environment's values, too.
        url: whether --redis is among them; a command without it connects nowhere.
    """

    def add(command: F) -> F:
        for name, text in (
            ("prefix", "First part of the keys in Redis (env JAAS_PREFIX; default jaas)."),
            ("queue", "Celery queue of the workers (env JAAS_QUEUE; default jaas)."),
            ("redis", "Redis URL (env JAAS_REDIS_URL_FILE, JAAS_REDIS_URL, CELERY_BROKER_URL; default this host)."),
        ):
            if name == "redis" and not url:
                continue
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


def for_each(client: Client, ids: tuple[str, ...], verb: Callable[[str], None], kind: str = "job") -> int:
    """Process each job; an unknown one does not prevent the others.

    Args:
        client: where they are.
        ids: the jobs, or the beginnings of their ids.
        verb: what to do with each, by its whole id.
        kind: ``job`` or ``batch``.

    Returns:
        The exit code.
    """
    code = 0
    for short in ids:
        try:
            verb(client.ledger.queries.full_id(short, kind))
        except (UnknownJob, UnreadableRecord, JobNotEnded) as error:
            code = _fail(str(error), EXIT_JAAS)
    return code


def name_unreadable(found: Mapping[str, str]) -> None:
    """Name on standard error the records that a list had to skip.

    Args:
        found: ``Ledger.unreadable``.
    """
    from jaas_submit.cli import output

    for name, why in list(found.items())[:_NAMED]:
        click.echo(f"jaas: {output.one_line(f'{name} cannot be read: {why}')}", err=True)
    if len(found) > _NAMED:
        click.echo(f"jaas: {len(found) - _NAMED} more cannot be read", err=True)


def say_why_not_taken(client: Client, queue: str, progress: Progress) -> None:
    """Say why no worker takes a queue's next job, if none does; the same sentence once.

    Args:
        client: which Redis and prefix.
        queue: the Celery queue.
        progress: where it is said.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    from jaas_submit.explain.context import why_queue_waits

    if why := why_queue_waits(client.ledger, queue):
        progress.say_once(f"queued, but {why}")


def not_taken(client: Client, records: Iterable[JobRecord]) -> list[str]:
    """Return for each queue in a list of jobs why nobody takes what is QUEUED there, in a sentence; none if one does.

    Args:
        client: which Redis and prefix.
        records: the jobs of the list.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    from jaas_submit.explain.context import why_queue_waits

    queues = sorted({record.queue for record in records if record.state is JobState.QUEUED})
    return [f"queued, but {why}" for queue in queues if (why := why_queue_waits(client.ledger, queue))]


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    click.echo(version_text())
    ctx.exit()


def version_text() -> str:
    """Return the version in a line."""
    try:
        return f"jaas {metadata.version('jaas')}"
    except metadata.PackageNotFoundError:
        return "jaas (not installed)"


version_option = click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)

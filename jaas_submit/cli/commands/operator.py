"""The commands of `jaas` about itself and its installation: doctor, completion, help, version."""

from __future__ import annotations

import inspect
import os
from importlib import metadata
from typing import Final

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import EXIT_NO, Target, missing_packages, output_options, version_text

__all__ = ["completion", "doctor", "help_", "version"]

EXIT_WARNING: Final = 3
"""The doctor's answer if nothing failed, but something should be changed."""

CHECKS: Final = "jaas.checks"
"""Group of entry points that add checks to `jaas doctor`. Each is called with ``ledger=`` and returns checks. If it
cannot be imported, the check of its name is skipped."""


@click.command()
@click.option("--no-engine", is_flag=True, help="Do not check the engine: this machine runs no worker.")
@output_options
@click.pass_obj
def doctor(target: Target, no_engine: bool, as_json: bool, quiet: bool) -> int:
    """Check Redis, clock, workers, nodes, engine and swarm, and say what to do.

    Exit code 1: a check failed; 3: none did, but there are warnings. Quiet: only the problems.
    """
    from jaas_submit.doctor.check import Check, Verdict
    from jaas_submit.doctor.flower_checks import flower_checks
    from jaas_submit.doctor.ledger_checks import ledger_checks
    from jaas_submit.doctor.node_checks import node_checks
    from jaas_submit.doctor.policy_checks import policy_checks
    from jaas_submit.doctor.redis_checks import redis_checks
    from jaas_submit.doctor.sentinel_checks import sentinel_checks
    from jaas_submit.doctor.waiting_checks import waiting_checks

    with target.client() as client:
        checks = [
            *sentinel_checks(client.url),
            *redis_checks(client),
            *policy_checks(client),
            *waiting_checks(client),
            *node_checks(client),
            *ledger_checks(client),
            *flower_checks(os.environ.get("JAAS_FLOWER_URL")),
        ]
        for more in metadata.entry_points(group=CHECKS):
            if no_engine:
                checks.append(Check(more.name, Verdict.SKIP, "not looked at (--no-engine)"))
                continue
            try:
                checks += more.load()(ledger=client.ledger)
            except ImportError as error:
                checks.append(Check(more.name, Verdict.SKIP, f"{missing_packages(error)}; producers need neither"))
    failed = any(check.verdict is Verdict.FAIL for check in checks)
    warned = any(check.verdict is Verdict.WARN for check in checks)
    if as_json:
        told = [check._asdict() for check in checks]
        output.print_json({"ok": not failed, "warnings": warned, "checks": told})
    else:
        shown = [check for check in checks if not quiet or check.verdict in {Verdict.WARN, Verdict.FAIL}]
        if shown:
            rows = [(c.name, str(c.verdict), c.detail, c.fix) for c in shown]
            output.print_table(("CHECK", "RESULT", "FOUND", "WHAT TO DO"), rows)
    return EXIT_NO if failed else EXIT_WARNING if warned else 0


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


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: command, help, options, commands.")
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...], as_json: bool) -> None:
    """Show the help of `jaas`, or of one of its commands."""
    shown = ctx.find_root()
    for word in words:
        group = shown.command
        command = group.get_command(shown, word) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"there is no command {' '.join(words)!r}; `jaas --help` lists them")
        shown = click.Context(command, info_name=word, parent=shown)
    if as_json:
        output.print_json(_help_of(shown))
        return
    click.echo(shown.get_help(), color=ctx.color)


def _help_of(shown: click.Context) -> dict[str, object]:
    command = shown.command
    options = [param for param in command.get_params(shown) if isinstance(param, click.Option) and not param.hidden]
    return {
        "command": shown.command_path,
        "help": inspect.cleandoc(command.help or "").replace("\b\n", ""),
        "options": [{"names": [*one.opts, *one.secondary_opts], "help": one.help or ""} for one in options],
        "commands": command.list_commands(shown) if isinstance(command, click.Group) else [],
    }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: name and version.")
def version(as_json: bool) -> None:
    """Show the version."""
    if as_json:
        name, _, number = version_text().partition(" ")
        output.print_json({"name": name, "version": number})
    else:
        click.echo(version_text())

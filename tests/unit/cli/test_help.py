"""The help of `jaas`: complete sentences, groups, aliases, and the manual page."""

from __future__ import annotations

from collections.abc import Iterator

import click
import click.testing
import pytest

from jaas_submit.cli.common import ALIASES, summary
from jaas_submit.cli.main import cli


def jaas(*words: str) -> str:
    done = click.testing.CliRunner().invoke(cli, list(words), prog_name="jaas", catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def commands(group: click.Group = cli, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield all commands with their whole names."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_a_summary_is_a_sentence(name: str, command: click.Command) -> None:
    assert summary(command).endswith(".")
    assert not summary(command).endswith("..")


def test_the_help_names_each_command_in_a_group() -> None:
    text = jaas("--help")
    heads = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["Options:", "Run jobs:", "See jobs:", "Change jobs:", "Operate:", "Other:"]
    for name, command in commands():
        if " " not in name:
            assert f"\n  {name}" in text
            assert summary(command)[-30:].split()[-1] in text
    assert "..." not in text.partition("Exit codes")[0].replace("COMMAND [ARGS]...", "")
    assert "list, ps, ls" in text


def test_a_group_within_cuts_nothing_off() -> None:
    text = " ".join(jaas("batch", "--help").split())
    assert all(summary(command) in text for name, command in commands() if name.startswith("batch "))


@pytest.mark.parametrize(("alias", "name"), list(ALIASES.items()))
def test_aliases_are_the_same_command(alias: str, name: str) -> None:
    context = click.Context(cli)
    assert cli.get_command(context, alias) is cli.get_command(context, name)
    assert jaas(alias, "--help").partition("\n")[2] == jaas(name, "--help").partition("\n")[2]


def test_help_and_version() -> None:
    assert jaas("help") == jaas("--help")
    assert jaas("help", "run") == jaas("run", "--help")
    assert jaas("help", "batch", "retry") == jaas("batch", "retry", "--help")
    assert jaas("version") == jaas("--version")


def test_help_for_an_unknown_command() -> None:
    done = click.testing.CliRunner().invoke(cli, ["help", "frob"], prog_name="jaas")
    assert done.exit_code == 2
    assert "there is no command 'frob'; `jaas --help` lists them" in done.stderr


def test_the_manual_page_has_every_command_and_option() -> None:
    page = jaas("man").replace("\\-", "-")
    for name, command in commands():
        assert f".SS jaas {name} " in page
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[-1] in page, (name, option.opts)


def test_no_line_of_the_manual_page_is_a_command_of_troff_by_accident() -> None:
    macros = {".TH", ".SH", ".SS", ".B", ".PP", ".TP", ".nf", ".fi"}
    for line in jaas("man").splitlines():
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split()[0] in macros

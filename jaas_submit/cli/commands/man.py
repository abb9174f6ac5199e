"""`jaas man`: the manual page, in troff, made from the commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from jaas_submit.cli import output

__all__ = ["man"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the page's name, section and text.")
@click.pass_context
def man(ctx: click.Context, as_json: bool) -> None:
    """Print the manual page, made from the commands themselves.

    \b
      jaas man | man -l -
      jaas man > /usr/local/share/man/man1/jaas.1
    """
    page = _page(ctx.find_root())
    if as_json:
        output.print_json({"name": "jaas", "section": 1, "page": page})
    else:
        click.echo(page, nl=False)


def _page(root: click.Context) -> str:
    """Return the manual page of a group of commands.

    Args:
        root: of the group.
    """
    lines = [
        '.TH JAAS 1 "" "jaas" "User commands"',
        ".SH NAME",
        "jaas \\- run containers as jobs on a Docker swarm",
        ".SH SYNOPSIS",
        ".B jaas",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        *_paragraphs(root.command.help),
        ".SH OPTIONS",
        *_options(root),
        ".SH COMMANDS",
        *_commands(root, "jaas"),
        ".SH EXIT STATUS",
        *_paragraphs(root.command.epilog),
    ]
    return "\n".join(lines) + "\n"


def _commands(parent: click.Context, before: str) -> Iterator[str]:
    group = parent.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=parent)
        usage = " ".join(piece for piece in command.collect_usage_pieces(context))
        yield f".SS {_text(f'{before} {name} {usage}')}"
        yield from _paragraphs(command.help)
        yield from _options(context)
        yield from _commands(context, f"{before} {name}")


def _options(context: click.Context) -> Iterator[str]:
    for param in context.command.get_params(context):
        record = param.get_help_record(context)
        if record is not None and isinstance(param, click.Option):
            yield ".TP"
            yield f"\\fB{_text(record[0])}\\fR"
            yield _text(record[1])


def _paragraphs(text: str | None) -> Iterator[str]:
    """Yield a help text's paragraphs; those that click does not wrap stay as they are."""
    for number, paragraph in enumerate(inspect.cleandoc(text or "").split("\n\n")):
        lines = paragraph.splitlines()
        if lines[:1] == ["\b"]:
            yield from (".nf", *map(_text, lines[1:]), ".fi")
        elif lines:
            yield from ([".PP"] if number else [])
            yield _text(" ".join(lines))


def _text(text: str) -> str:
    """Return a text in which troff sees no commands."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped

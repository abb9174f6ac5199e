"""PURE: converts command lines of the archived Go tool (pflag) into click's form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

__all__ = ["TRUTH", "GoCommand", "to_click"]

TRUTH: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
"""What Go's strconv.ParseBool accepts."""


class GoCommand(click.Command):
    """A command that takes ``--flag=false``, ``-l=false`` and ``-i=IMAGE`` in addition to click's forms."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Convert the arguments to click's form, then parse them."""
        return super().parse_args(ctx, to_click(args, self.options_by_name(ctx)))

    def options_by_name(self, ctx: click.Context) -> dict[str, click.Option]:
        """Return the command's options by each of their names.

        Args:
            ctx: of the call.
        """
        return {
            name: option
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
            for name in (*option.opts, *option.secondary_opts)
        }


def to_click(args: Sequence[str], options: Mapping[str, click.Option]) -> list[str]:
    """Return the arguments in click's form.

    Args:
        args: the command's arguments. Everything from ``--`` or the first word that is no option on stays as it is.
        options: the command's options, by each of their names. Unknown ones are left for click to refuse.

    Raises:
        click.UsageError: a flag has a value that is neither true nor false.
    """
    done: list[str] = []
    rest = list(args)
    while rest and rest[0].startswith("-") and rest[0] not in {"-", "--"}:
        word = rest.pop(0)
        done += _long(word, options, rest) if word.startswith("--") else _short(word, options, rest)
    return done + rest


def _long(word: str, options: Mapping[str, click.Option], rest: list[str]) -> list[str]:
    name, equals, value = word.partition("=")
    option = options.get(name)
    if option is not None and option.is_flag and equals:
        return _flag(option, name, value)
    if option is None or option.is_flag or equals:
        return [word]
    return [word, *_next(rest)]


def _short(word: str, options: Mapping[str, click.Option], rest: list[str]) -> Iterator[str]:
    """Yield the options of one word: ``-rb``, ``-rialpine``, ``-ri=alpine`` and ``-br=false`` are all possible."""
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        option = options.get(name)
        if option is None:
            yield name + letters
            return
        if option.is_flag:
            if letters.startswith("="):
                yield from _flag(option, name, letters[1:])
                return
            yield name
        else:
            yield name
            yield from [letters.removeprefix("=")] if letters else _next(rest)
            return


def _next(rest: list[str]) -> list[str]:
    """Take the option's value, so that one that starts with a dash is not read as an option."""
    return [rest.pop(0)] if rest else []


def _flag(option: click.Option, name: str, value: str) -> list[str]:
    """Return the flag's own word for true or false; nothing if omitting it means false."""
    if value not in TRUTH:
        raise click.UsageError(f"{name}: takes true or false, not {value!r}")
    if TRUTH[value] == (name in option.opts):
        return option.opts[-1:]
    return option.secondary_opts[:1]
